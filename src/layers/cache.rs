//! `past_key_values` of one self-attention.

use burn_tensor::Tensor;

use crate::error::Result;
use crate::ops::{DistanceBias, Heads, StepState, append, cached_attention};

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

    /// Takes the keys and values of the newest positions in, and attends to all: q, k, v [rows·n, width] → the same shape.
    pub fn attend(
        &mut self,
        state: &StepState,
        [q, k, v]: [&Tensor<2>; 3],
        heads: Heads,
        by_distance: Option<&DistanceBias>,
    ) -> Result<Tensor<2>> {
        append(state, k, v, &mut self.k, &mut self.v)?;
        cached_attention(state, q, &self.k, &self.v, heads, by_distance)
    }
}
