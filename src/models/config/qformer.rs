//! HF `Blip2QFormerConfig`.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::{Error, Result};
use crate::models::config::{
    Blip2Config, Blip2VisionConfig, bounded, expect_model_type, heads, layers, nested, nests_parts, parse, parse_object, part, pretty,
};
use crate::ops::Activation;

/// HF `Blip2QFormerConfig`.
///
/// ```
/// use blip2_web::models::Blip2QFormerConfig;
///
/// let config = Blip2QFormerConfig::from_json(br#"{"qformer_config": {"vocab_size": 30523}}"#)?;
/// assert_eq!((config.vocab_size, config.cross_attention_frequency), (30523, 2));
/// # Ok::<(), blip2_web::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Blip2QFormerConfig {
    pub vocab_size: usize,
    pub hidden_size: usize,
    pub num_hidden_layers: usize,
    pub num_attention_heads: usize,
    pub intermediate_size: usize,
    pub hidden_act: Activation,
    /// Training only.
    pub hidden_dropout_prob: f64,
    /// Training only.
    pub attention_probs_dropout_prob: f64,
    pub max_position_embeddings: usize,
    /// Training only.
    pub initializer_range: f64,
    pub layer_norm_eps: f64,
    pub pad_token_id: Option<u32>,
    /// "absolute": the others are in no checkpoint, and HF has dropped them.
    pub position_embedding_type: String,
    pub cross_attention_frequency: usize,
    /// In a whole model always the vision tower's hidden_size, whatever the file says.
    pub encoder_hidden_size: usize,
    pub use_qformer_text_input: bool,
}

impl Default for Blip2QFormerConfig {
    fn default() -> Self {
        Self {
            vocab_size: 30522,
            hidden_size: 768,
            num_hidden_layers: 12,
            num_attention_heads: 12,
            intermediate_size: 3072,
            hidden_act: Activation::Gelu,
            hidden_dropout_prob: 0.1,
            attention_probs_dropout_prob: 0.1,
            max_position_embeddings: 512,
            initializer_range: 0.02,
            layer_norm_eps: 1e-12,
            pad_token_id: Some(0),
            position_embedding_type: "absolute".into(),
            cross_attention_frequency: 2,
            encoder_hidden_size: 1408,
            use_qformer_text_input: false,
        }
    }
}

impl Blip2QFormerConfig {
    pub const MODEL_TYPE: &'static str = "blip_2_qformer";

    /// From the file of a Q-Former alone, or from that of a whole model, as HF's `from_pretrained` does; there
    /// `encoder_hidden_size` is the width of the vision tower beside it. Errors: config-invalid, model-unsupported.
    pub fn from_json(bytes: &[u8]) -> Result<Self> {
        let file = parse_object(bytes)?;
        let config = if nests_parts(&file) {
            expect_model_type(&file, Blip2Config::MODEL_TYPE)?;
            let vision: Blip2VisionConfig = parse("vision_config", part(&file, "vision_config"))?;
            let config: Self = parse("qformer_config", part(&file, "qformer_config"))?;
            Self { encoder_hidden_size: vision.hidden_size, ..config }
        } else {
            expect_model_type(&file, Self::MODEL_TYPE)?;
            parse("qformer_config", Value::Object(file))?
        };
        config.validate()?;
        Ok(config)
    }

    /// As `save_pretrained` writes it for this part alone, less what it says of itself. Errors: config-invalid.
    pub fn to_json(&self) -> Result<Vec<u8>> {
        pretty(&nested(self, Self::MODEL_TYPE)?)
    }

    pub(super) fn validate(&self) -> Result<()> {
        const NAME: &str = "qformer_config";
        bounded(NAME, &[self.hidden_size, self.intermediate_size, self.cross_attention_frequency, self.encoder_hidden_size])?;
        bounded(NAME, &[self.vocab_size, self.max_position_embeddings])?;
        layers(NAME, self.num_hidden_layers)?;
        heads(NAME, self.hidden_size, self.num_attention_heads)?;
        if self.position_embedding_type != "absolute" {
            return Err(Error::ModelUnsupported {
                what: format!("position_embedding_type {:?}", self.position_embedding_type),
                reason: "\"absolute\" is the only one that checkpoints have".into(),
            });
        }
        Ok(())
    }
}
