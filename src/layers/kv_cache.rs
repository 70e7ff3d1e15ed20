//! `past_key_values` of one self-attention.

use burn_tensor::Tensor;

use crate::device::Device;
use crate::error::Result;
use crate::ops::{Cache, DistanceBias, Heads, Rows, StepState, cached_attention};

/// Keys and values; positions from the state's length on are never read.
#[derive(Debug)]
pub struct KvCache {
    k: Cache,
    v: Cache,
}

impl KvCache {
    pub fn new(device: &Device, state: &StepState, heads: Heads) -> Self {
        Self { k: Cache::new(device, state, heads), v: Cache::new(device, state, heads) }
    }

    pub fn bytes(&self) -> usize {
        self.k.bytes() + self.v.bytes()
    }

    /// The same positions of `rows` rows with room for more, [before, after] of them.
    pub fn grow(&mut self, rows: usize, capacities: [usize; 2]) {
        self.k.grow(rows, capacities);
        self.v.grow(rows, capacities);
    }

    /// Takes the keys and values of the newest positions in, and attends to all: q, k, v of rows·n rows → [rows·n, width].
    pub fn attend(&mut self, state: &StepState, qkv: [Rows; 3], heads: Heads, by_distance: Option<&DistanceBias>) -> Result<Tensor<2>> {
        cached_attention(state, qkv, &mut self.k, &mut self.v, heads, by_distance)
    }
}
