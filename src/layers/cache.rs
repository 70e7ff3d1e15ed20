//! `past_key_values` of one self-attention.

use burn_tensor::Tensor;

use crate::error::Result;
use crate::ops::{DistanceBias, Heads, Rows, StepState, cached_attention};

/// Keys and values [rows·capacity, heads·head_dim]; positions from the state's length on are never read.
#[derive(Debug)]
pub struct KvCache {
    k: Tensor<2>,
    v: Tensor<2>,
}

impl KvCache {
    pub fn new(state: &StepState, width: usize) -> Self {
        Self { k: state.cache(width), v: state.cache(width) }
    }

    /// The same positions of `rows` rows with room for more, [before, after] of them.
    pub fn grow(&mut self, rows: usize, [before, after]: [usize; 2]) {
        for cache in [&mut self.k, &mut self.v] {
            let [_, width] = cache.dims();
            let room = Tensor::zeros([rows, after - before, width], &cache.device());
            *cache = Tensor::cat(vec![cache.clone().reshape([rows, before, width]), room], 1).reshape([rows * after, width]);
        }
    }

    /// Takes the keys and values of the newest positions in, and attends to all: q, k, v of rows·n rows → [rows·n, width].
    pub fn attend(&mut self, state: &StepState, qkv: [Rows; 3], heads: Heads, by_distance: Option<&DistanceBias>) -> Result<Tensor<2>> {
        cached_attention(state, qkv, &mut self.k, &mut self.v, heads, by_distance)
    }
}
