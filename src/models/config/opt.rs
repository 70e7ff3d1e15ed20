//! HF `OPTConfig`.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::error::{Error, Result};
use crate::models::config::{FILE, TokenIds, bounded, heads, layers, text};
use crate::ops::Activation;

/// HF `OPTConfig`, with the fields of generation that old files keep in it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct OPTConfig {
    pub vocab_size: usize,
    pub hidden_size: usize,
    pub num_hidden_layers: usize,
    pub ffn_dim: usize,
    pub max_position_embeddings: usize,
    pub do_layer_norm_before: bool,
    #[serde(rename = "_remove_final_layer_norm")]
    pub remove_final_layer_norm: bool,
    /// Width of the embeddings; `hidden_size` where absent.
    pub word_embed_proj_dim: Option<usize>,
    /// Training only.
    pub dropout: f64,
    /// Training only.
    pub attention_dropout: f64,
    pub num_attention_heads: usize,
    pub activation_function: Activation,
    /// Training only.
    pub layerdrop: f64,
    /// Training only.
    pub init_std: f64,
    /// Always used, whatever the file says.
    pub use_cache: bool,
    pub enable_bias: bool,
    pub layer_norm_elementwise_affine: bool,
    pub tie_word_embeddings: bool,
    pub pad_token_id: Option<u32>,
    pub bos_token_id: Option<u32>,
    pub eos_token_id: Option<TokenIds>,
    /// See `TextConfig::generation_fields`.
    #[serde(flatten, deserialize_with = "text::legacy_generation")]
    pub legacy_generation: Map<String, Value>,
}

impl Default for OPTConfig {
    fn default() -> Self {
        Self {
            vocab_size: 50272,
            hidden_size: 768,
            num_hidden_layers: 12,
            ffn_dim: 3072,
            max_position_embeddings: 2048,
            do_layer_norm_before: true,
            remove_final_layer_norm: false,
            word_embed_proj_dim: None,
            dropout: 0.1,
            attention_dropout: 0.0,
            num_attention_heads: 12,
            activation_function: Activation::Relu,
            layerdrop: 0.0,
            init_std: 0.02,
            use_cache: true,
            enable_bias: true,
            layer_norm_elementwise_affine: true,
            tie_word_embeddings: true,
            pad_token_id: Some(1),
            bos_token_id: Some(2),
            eos_token_id: Some(TokenIds::One(2)),
            legacy_generation: Map::new(),
        }
    }
}

impl OPTConfig {
    pub const MODEL_TYPE: &'static str = "opt";

    /// Width of the embeddings.
    pub fn embed_dim(&self) -> usize {
        self.word_embed_proj_dim.unwrap_or(self.hidden_size)
    }

    /// Derived fields filled in, as HF's constructor does.
    pub(super) fn resolved(self) -> Self {
        Self { word_embed_proj_dim: Some(self.embed_dim()), ..self }
    }

    pub(super) fn validate(&self) -> Result<()> {
        const NAME: &str = "text_config";
        bounded(NAME, &[self.hidden_size, self.ffn_dim, self.vocab_size, self.max_position_embeddings, self.embed_dim()])?;
        layers(NAME, self.num_hidden_layers)?;
        heads(NAME, self.hidden_size, self.num_attention_heads)?;
        if self.embed_dim() > self.hidden_size {
            return Err(Error::config(FILE, format!("{NAME}: word_embed_proj_dim is larger than hidden_size")));
        }
        Ok(())
    }
}
