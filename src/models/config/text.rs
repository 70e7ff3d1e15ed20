//! The language model's config, by its `model_type`.

use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use crate::error::{Error, Result};
use crate::models::config::{OPTConfig, T5Config, nested, parse, parse_object};

/// The language model, by its `model_type`.
#[derive(Debug, Clone, PartialEq)]
pub enum TextConfig {
    Opt(OPTConfig),
    T5(T5Config),
    /// A language model that is not implemented; refused when it is loaded.
    Other(String),
}

impl Default for TextConfig {
    fn default() -> Self {
        Self::Opt(OPTConfig::default())
    }
}

impl TextConfig {
    pub fn model_type(&self) -> &str {
        match self {
            Self::Opt(_) => OPTConfig::MODEL_TYPE,
            Self::T5(_) => T5Config::MODEL_TYPE,
            Self::Other(name) => name,
        }
    }

    /// The width that image features are projected to. Errors: model-unsupported.
    pub fn hidden_size(&self) -> Result<usize> {
        match self {
            Self::Opt(config) => Ok(config.hidden_size),
            Self::T5(config) => Ok(config.d_model),
            Self::Other(name) => Err(Self::unsupported(name)),
        }
    }

    pub(crate) fn unsupported(name: &str) -> Error {
        Error::ModelUnsupported { what: format!("language model {name:?}"), reason: "there are OPT and T5".into() }
    }

    /// Whether an encoder reads the image and the prompt, and a decoder answers.
    pub fn is_encoder_decoder(&self) -> bool {
        match self {
            Self::T5(config) => config.is_encoder_decoder,
            Self::Opt(_) | Self::Other(_) => false,
        }
    }

    /// Whether the head is the embedding.
    pub fn tie_word_embeddings(&self) -> bool {
        match self {
            Self::Opt(config) => config.tie_word_embeddings,
            Self::T5(config) => config.tie_word_embeddings,
            Self::Other(_) => true,
        }
    }

    /// What the file says of generation, under HF's names: HF makes the language model's generation config from here, and
    /// ignores generation_config.json. Values that are HF's defaults are as good as absent, there as here: an old file's
    /// `max_length` 20 does not count the prompt, as any other does.
    pub fn generation_fields(&self) -> Map<String, Value> {
        match self {
            Self::Opt(config) => config.legacy_generation.clone(),
            Self::T5(config) => config.legacy_generation.clone(),
            Self::Other(_) => Map::new(),
        }
    }

    /// Of a language model alone. Errors: config-invalid.
    pub fn from_json(bytes: &[u8]) -> Result<Self> {
        Self::from_value(Value::Object(parse_object(bytes)?))
    }

    pub(super) fn from_value(value: Value) -> Result<Self> {
        const NAME: &str = "text_config";
        Ok(match value.get("model_type").and_then(Value::as_str).unwrap_or(OPTConfig::MODEL_TYPE) {
            OPTConfig::MODEL_TYPE => Self::Opt(parse(NAME, value)?),
            T5Config::MODEL_TYPE => Self::T5(parse(NAME, value)?),
            other => Self::Other(other.into()),
        })
    }

    pub(super) fn to_value(&self) -> Result<Value> {
        match self.clone().resolved() {
            Self::Opt(config) => nested(&config, OPTConfig::MODEL_TYPE),
            Self::T5(config) => nested(&config, T5Config::MODEL_TYPE),
            Self::Other(name) => Ok(serde_json::json!({"model_type": name})),
        }
    }

    pub(super) fn resolved(self) -> Self {
        match self {
            Self::Opt(config) => Self::Opt(config.resolved()),
            Self::T5(config) => Self::T5(config.resolved()),
            Self::Other(name) => Self::Other(name),
        }
    }

    pub(super) fn validate(&self) -> Result<()> {
        match self {
            Self::Opt(config) => config.validate(),
            Self::T5(config) => config.validate(),
            Self::Other(_) => Ok(()),
        }
    }
}

/// Fields of generation that HF's base class once had, each with its default (false is 0).
const GENERATION_FIELDS: [(&str, Option<f64>); 18] = [
    ("max_length", Some(20.0)),
    ("min_length", Some(0.0)),
    ("num_beams", Some(1.0)),
    ("do_sample", Some(0.0)),
    ("temperature", Some(1.0)),
    ("top_k", Some(50.0)),
    ("top_p", Some(1.0)),
    ("typical_p", Some(1.0)),
    ("repetition_penalty", Some(1.0)),
    ("length_penalty", Some(1.0)),
    ("no_repeat_ngram_size", Some(0.0)),
    ("early_stopping", Some(0.0)),
    ("num_return_sequences", Some(1.0)),
    ("bad_words_ids", None),
    ("suppress_tokens", None),
    ("begin_suppress_tokens", None),
    ("forced_bos_token_id", None),
    ("forced_eos_token_id", None),
];

/// Of the keys that a config does not have itself, those of generation that say something.
pub(super) fn legacy_generation<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Map<String, Value>, D::Error> {
    let mut fields = Map::deserialize(deserializer)?;
    fields.retain(|name, value| {
        let known = GENERATION_FIELDS.iter().find(|(field, _)| field == name);
        !value.is_null() && known.is_some_and(|(_, default)| default.is_none() || number(value) != *default)
    });
    Ok(fields)
}

/// As Python compares: 1 is 1.0, and false is 0.
fn number(value: &Value) -> Option<f64> {
    value.as_f64().or_else(|| value.as_bool().map(|value| if value { 1.0 } else { 0.0 }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_old_file_says_of_generation_is_kept_under_its_names() {
        let says = serde_json::json!({"max_length": 30, "early_stopping": "never", "length_penalty": -1.0, "bad_words_ids": [[3], [4, 5]],
            "do_sample": true});
        let nothing = serde_json::json!({"num_beams": 1, "top_p": 1, "temperature": 1.0, "min_length": 0, "early_stopping": false,
            "forced_eos_token_id": null, "top_k": 50, "output_scores": true, "task_specific_params": {"max_length": 7}});
        for model_type in ["opt", "t5"] {
            let mut file = nothing.as_object().unwrap().clone();
            file.extend(says.as_object().unwrap().clone());
            file.insert("model_type".into(), model_type.into());
            let config = TextConfig::from_value(Value::Object(file)).unwrap();
            assert_eq!(Value::Object(config.generation_fields()), says, "{model_type}");
            let back = TextConfig::from_value(config.to_value().unwrap()).unwrap();
            assert_eq!(back, config.resolved(), "{model_type}");
        }
    }

    #[test]
    fn hfs_default_of_max_length_is_as_good_as_absent() {
        let config = TextConfig::from_value(serde_json::json!({"max_length": 20})).unwrap();
        assert_eq!(config, TextConfig::default());
        assert!(config.generation_fields().is_empty());
    }
}
