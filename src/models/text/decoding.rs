//! Rows in the middle of an answer.

use burn_tensor::{Int, Tensor};

use crate::device::Device;
use crate::error::Result;
use crate::layers::KvCache;
use crate::models::text::EncoderOutput;
use crate::ops::{StepState, advance, reorder};

/// State and caches on the device: `state.rows` rows, a prompt's beams side by side.
pub struct Decoding {
    pub state: StepState,
    /// `past_key_values` of each layer's self-attention.
    pub(super) caches: Vec<KvCache>,
    /// What T5's cross-attention looks at.
    pub(super) encoder: Option<EncoderOutput>,
    /// Positions that the last forward computed and `advance` counts.
    pub(super) fed: usize,
}

impl Decoding {
    pub(super) fn new(state: StepState, layers: usize, width: usize, encoder: Option<EncoderOutput>) -> Self {
        let caches = (0..layers).map(|_| KvCache::new(&state, width)).collect();
        Self { state, caches, encoder, fed: 0 }
    }

    /// The end of a step: each row takes its next token, `next` [rows]; finished rows take `pad`, an id of `eos` finishes one.
    pub fn advance(&mut self, next: &Tensor<1, Int>, eos: &Tensor<1, Int>, pad: i32) -> Result<()> {
        advance(&mut self.state, next, self.fed, eos, pad)?;
        self.fed = 1;
        Ok(())
    }

    /// After `advance`: row r goes on from what row `order[r]` has in its caches. Nothing is copied but `cache_row`.
    pub fn reorder(&mut self, device: &Device, order: &[usize]) -> Result<()> {
        reorder(device, &mut self.state, order)
    }
}
