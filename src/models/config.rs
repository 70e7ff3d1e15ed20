//! `config.json`, field by field with HF's class defaults for absent keys: `save_pretrained` drops every value that equals
//! its class default, so each absent key means something.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::{Error, Result};
use crate::ops::Activation;

const FILE: &str = "config.json";

/// HF `Blip2Config`.
#[derive(Debug, Clone, PartialEq)]
pub struct Blip2Config {
    /// The class that was saved.
    pub architectures: Vec<String>,
    pub vision_config: Blip2VisionConfig,
    pub qformer_config: Blip2QFormerConfig,
    pub text_config: TextConfig,
    pub num_query_tokens: usize,
    pub image_text_hidden_size: usize,
    /// Where image features go in the text; `None` in retrieval checkpoints and old files.
    pub image_token_index: Option<u32>,
}

/// The language model, by its `model_type`.
#[derive(Debug, Clone, PartialEq)]
pub enum TextConfig {
    Opt(OPTConfig),
    /// A language model that is not implemented; refused when it is loaded.
    Other(String),
}

/// HF `Blip2VisionConfig`.
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
            qkv_bias: true,
        }
    }
}

/// HF `Blip2QFormerConfig`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Blip2QFormerConfig {
    pub vocab_size: usize,
    pub hidden_size: usize,
    pub num_hidden_layers: usize,
    pub num_attention_heads: usize,
    pub intermediate_size: usize,
    pub hidden_act: Activation,
    pub max_position_embeddings: usize,
    pub layer_norm_eps: f64,
    pub cross_attention_frequency: usize,
    /// Always the vision tower's hidden_size, whatever the file says.
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
            max_position_embeddings: 512,
            layer_norm_eps: 1e-12,
            cross_attention_frequency: 2,
            encoder_hidden_size: 1408,
            use_qformer_text_input: false,
        }
    }
}

/// One id or several: `eos_token_id` may be a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum TokenIds {
    One(u32),
    Many(Vec<u32>),
}

impl TokenIds {
    pub fn to_vec(&self) -> Vec<u32> {
        match self {
            Self::One(id) => vec![*id],
            Self::Many(ids) => ids.clone(),
        }
    }
}

/// HF `OPTConfig`, with the fields of generation that old files keep in it (SPEC: the language model's generation config is
/// made from here).
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
    pub num_attention_heads: usize,
    pub activation_function: Activation,
    pub enable_bias: bool,
    pub layer_norm_elementwise_affine: bool,
    pub pad_token_id: Option<u32>,
    pub bos_token_id: Option<u32>,
    pub eos_token_id: Option<TokenIds>,
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
            num_attention_heads: 12,
            activation_function: Activation::Relu,
            enable_bias: true,
            layer_norm_elementwise_affine: true,
            pad_token_id: Some(1),
            bos_token_id: Some(2),
            eos_token_id: Some(TokenIds::One(2)),
        }
    }
}

impl OPTConfig {
    pub fn embed_dim(&self) -> usize {
        self.word_embed_proj_dim.unwrap_or(self.hidden_size)
    }
}

impl Blip2Config {
    /// Errors: config-invalid.
    pub fn from_json(bytes: &[u8]) -> Result<Self> {
        let file: Value = serde_json::from_slice(bytes).map_err(|error| Error::config(FILE, error))?;
        let part =
            |name: &str| file.get(name).filter(|value| !value.is_null()).cloned().unwrap_or_else(|| Value::Object(Default::default()));
        fn parse<T: for<'a> Deserialize<'a>>(name: &str, value: Value) -> Result<T> {
            serde_json::from_value(value).map_err(|error| Error::config(FILE, format!("{name}: {error}")))
        }
        let number = |name: &str, default: usize| match file.get(name) {
            None | Some(Value::Null) => Ok(default),
            Some(value) => value
                .as_u64()
                .and_then(|value| usize::try_from(value).ok())
                .ok_or_else(|| Error::config(FILE, format!("{name}: not a whole number"))),
        };
        let vision_config: Blip2VisionConfig = parse("vision_config", part("vision_config"))?;
        let mut qformer_config: Blip2QFormerConfig = parse("qformer_config", part("qformer_config"))?;
        qformer_config.encoder_hidden_size = vision_config.hidden_size;
        let text = part("text_config");
        let text_config = match text.get("model_type").and_then(Value::as_str).unwrap_or("opt") {
            "opt" => TextConfig::Opt(parse("text_config", text)?),
            other => TextConfig::Other(other.into()),
        };
        let image_token = if file.get("image_token_index").is_some() { "image_token_index" } else { "image_token_id" };
        let image_token_index = match number(image_token, usize::MAX)? {
            usize::MAX => None,
            id => Some(u32::try_from(id).map_err(|_| Error::config(FILE, "image_token_index: too large"))?),
        };
        let architectures = match file.get("architectures") {
            None | Some(Value::Null) => vec![],
            Some(names) => parse("architectures", names.clone())?,
        };
        let config = Self {
            architectures,
            vision_config,
            qformer_config,
            text_config,
            num_query_tokens: number("num_query_tokens", 32)?,
            image_text_hidden_size: number("image_text_hidden_size", 256)?,
            image_token_index,
        };
        config.validate()?;
        Ok(config)
    }

    /// Sizes that would make a kernel divide by zero or an allocation overflow.
    fn validate(&self) -> Result<()> {
        let heads = |name: &str, width: usize, heads: usize| match heads {
            0 => Err(Error::config(FILE, format!("{name}: no attention heads"))),
            heads if !width.is_multiple_of(heads) => {
                Err(Error::config(FILE, format!("{name}: {width} is not a multiple of {heads} heads")))
            }
            _ => Ok(()),
        };
        let bounded = |name: &str, sizes: &[usize]| match sizes.iter().find(|size| !(1..=1 << 24).contains(*size)) {
            Some(size) => Err(Error::config(FILE, format!("{name}: {size} is out of range"))),
            None => Ok(()),
        };
        let vision = &self.vision_config;
        bounded("vision_config", &[vision.hidden_size, vision.intermediate_size, vision.image_size, vision.patch_size])?;
        heads("vision_config", vision.hidden_size, vision.num_attention_heads)?;
        let qformer = &self.qformer_config;
        bounded("qformer_config", &[qformer.hidden_size, qformer.intermediate_size, qformer.cross_attention_frequency])?;
        heads("qformer_config", qformer.hidden_size, qformer.num_attention_heads)?;
        bounded("config", &[self.num_query_tokens, self.image_text_hidden_size])?;
        bounded("layers", &[vision.num_hidden_layers.max(1), qformer.num_hidden_layers.max(1)])?;
        if let TextConfig::Opt(text) = &self.text_config {
            bounded("text_config", &[text.hidden_size, text.ffn_dim, text.vocab_size, text.max_position_embeddings, text.embed_dim()])?;
            heads("text_config", text.hidden_size, text.num_attention_heads)?;
            if text.embed_dim() > text.hidden_size {
                return Err(Error::config(FILE, "text_config: word_embed_proj_dim is larger than hidden_size"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_file_has_the_defaults_of_the_classes() {
        let config = Blip2Config::from_json(b"{}").unwrap();
        assert_eq!(config.num_query_tokens, 32);
        assert_eq!(config.vision_config.num_hidden_layers, 39);
        assert_eq!(config.qformer_config.layer_norm_eps, 1e-12);
        let TextConfig::Opt(text) = config.text_config else { panic!("the default language model is OPT") };
        assert_eq!((text.pad_token_id, text.embed_dim()), (Some(1), 768));
    }

    #[test]
    fn encoder_hidden_size_is_the_vision_towers() {
        let json = br#"{"vision_config": {"hidden_size": 32, "num_attention_heads": 4}, "qformer_config": {"encoder_hidden_size": 7}}"#;
        assert_eq!(Blip2Config::from_json(json).unwrap().qformer_config.encoder_hidden_size, 32);
    }

    #[test]
    fn sizes_that_cannot_be_are_refused() {
        for json in [
            r#"{"vision_config": {"num_attention_heads": 0}}"#,
            r#"{"vision_config": {"hidden_size": 30, "num_attention_heads": 4}}"#,
            r#"{"vision_config": {"patch_size": 0}}"#,
            r#"{"num_query_tokens": -1}"#,
            "[",
        ] {
            assert_eq!(Blip2Config::from_json(json.as_bytes()).unwrap_err().code(), "config-invalid", "{json}");
        }
    }
}
