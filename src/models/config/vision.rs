//! HF `Blip2VisionConfig`.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::{Error, Result};
use crate::models::config::{
    Blip2Config, FILE, bounded, expect_model_type, heads, layers, nested, nests_parts, parse, parse_object, part, pretty,
};
use crate::ops::Activation;

/// HF `Blip2VisionConfig`; sizes of pictures and patches in pixels.
///
/// ```
/// use blip2_web::models::Blip2VisionConfig;
///
/// // The nested part of a whole model's file, or a file of its own.
/// for json in [&br#"{"vision_config": {"image_size": 364}}"#[..], br#"{"image_size": 364}"#] {
///     assert_eq!(Blip2VisionConfig::from_json(json)?, Blip2VisionConfig { image_size: 364, ..Blip2VisionConfig::default() });
/// }
/// # Ok::<(), blip2_web::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Blip2VisionConfig {
    pub hidden_size: usize,
    pub intermediate_size: usize,
    pub num_hidden_layers: usize,
    pub num_attention_heads: usize,
    pub image_size: usize,
    pub patch_size: usize,
    pub hidden_act: Activation,
    pub layer_norm_eps: f64,
    /// Training only.
    pub attention_dropout: f64,
    /// Training only.
    pub initializer_range: f64,
    pub qkv_bias: bool,
}

impl Default for Blip2VisionConfig {
    fn default() -> Self {
        Self {
            hidden_size: 1408,
            intermediate_size: 6144,
            num_hidden_layers: 39,
            num_attention_heads: 16,
            image_size: 224,
            patch_size: 14,
            hidden_act: Activation::Gelu,
            layer_norm_eps: 1e-6,
            attention_dropout: 0.0,
            initializer_range: 1e-10,
            qkv_bias: true,
        }
    }
}

impl Blip2VisionConfig {
    pub const MODEL_TYPE: &'static str = "blip_2_vision_model";

    /// From the file of a vision tower alone, or from that of a whole model, as HF's `from_pretrained` does.
    /// Errors: config-invalid, model-unsupported.
    pub fn from_json(bytes: &[u8]) -> Result<Self> {
        let file = parse_object(bytes)?;
        let config: Self = if nests_parts(&file) {
            expect_model_type(&file, Blip2Config::MODEL_TYPE)?;
            parse("vision_config", part(&file, "vision_config"))?
        } else {
            expect_model_type(&file, Self::MODEL_TYPE)?;
            parse("vision_config", Value::Object(file))?
        };
        config.validate()?;
        Ok(config)
    }

    /// As `save_pretrained` writes it for this part alone, less what it says of itself. Errors: config-invalid.
    pub fn to_json(&self) -> Result<Vec<u8>> {
        pretty(&nested(self, Self::MODEL_TYPE)?)
    }

    pub(super) fn validate(&self) -> Result<()> {
        const NAME: &str = "vision_config";
        bounded(NAME, &[self.hidden_size, self.intermediate_size, self.image_size, self.patch_size])?;
        layers(NAME, self.num_hidden_layers)?;
        heads(NAME, self.hidden_size, self.num_attention_heads)?;
        let across = self.image_size / self.patch_size;
        if across > 1 << 12 {
            return Err(Error::config(FILE, format!("{NAME}: {across} x {across} patches are out of range")));
        }
        Ok(())
    }
}
