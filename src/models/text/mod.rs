//! The language models behind one face: embed, prefill, step. The only `match` on `model_type` is here.

mod opt;

pub use opt::{Decoding, LanguageOutput, OPTForCausalLM};

use burn_tensor::{Int, Tensor};

use crate::device::Device;
use crate::error::{Error, Result};
use crate::models::config::{TextConfig, TokenIds};
use crate::weights::Weights;

pub enum LanguageModel {
    Opt(OPTForCausalLM),
}

impl LanguageModel {
    /// `weights` at "language_model". Errors: model-unsupported, weight-missing, weight-shape.
    pub fn load(config: &TextConfig, weights: &Weights) -> Result<Self> {
        match config {
            TextConfig::Opt(config) => OPTForCausalLM::load(config, weights).map(Self::Opt),
            TextConfig::Other(name) => {
                Err(Error::ModelUnsupported { what: format!("language model {name:?}"), reason: "OPT is implemented so far".into() })
            }
        }
    }

    /// ids [n] → [n, width of the embeddings]
    pub fn embed(&self, ids: &Tensor<1, Int>) -> Result<Tensor<2>> {
        let Self::Opt(model) = self;
        model.embed(ids)
    }

    /// Width of what `embed` gives.
    pub fn embed_dim(&self) -> usize {
        let Self::Opt(model) = self;
        model.config.embed_dim()
    }

    /// Width that `language_projection` projects to.
    pub fn hidden_size(&self) -> usize {
        let Self::Opt(model) = self;
        model.config.hidden_size
    }

    pub fn vocab_size(&self) -> usize {
        let Self::Opt(model) = self;
        model.config.vocab_size
    }

    /// The most positions that one row can have.
    pub fn max_position_embeddings(&self) -> usize {
        let Self::Opt(model) = self;
        model.config.max_position_embeddings
    }

    /// bos, eos and pad of the language model's config.
    pub fn special_token_ids(&self) -> (Option<u32>, Vec<u32>, Option<u32>) {
        let Self::Opt(model) = self;
        let eos = model.config.eos_token_id.as_ref().map(TokenIds::to_vec).unwrap_or_default();
        (model.config.bos_token_id, eos, model.config.pad_token_id)
    }

    /// Caches and state for rows with this attention mask, up to `capacity` positions.
    pub fn start(&self, device: &Device, attention_mask: &[Vec<u32>], capacity: usize) -> Result<Decoding> {
        let Self::Opt(model) = self;
        model.start(device, attention_mask, capacity)
    }

    /// The prompt: inputs_embeds [rows·n, width] → logits of its last position [rows, vocabulary].
    pub async fn prefill(&self, inputs_embeds: &Tensor<2>, decoding: &mut Decoding) -> Result<Tensor<2>> {
        let Self::Opt(model) = self;
        model.prefill(inputs_embeds, decoding).await
    }

    /// The current token of each row, from the device's state → logits [rows, vocabulary].
    pub async fn step(&self, decoding: &mut Decoding) -> Result<Tensor<2>> {
        let Self::Opt(model) = self;
        model.step(decoding).await
    }

    /// Every position at once: inputs_embeds [rows·n, width] → logits [rows·n, vocabulary].
    pub async fn forward(&self, device: &Device, inputs_embeds: &Tensor<2>, attention_mask: &[Vec<u32>]) -> Result<LanguageOutput> {
        let Self::Opt(model) = self;
        model.forward(device, inputs_embeds, attention_mask).await
    }
}
