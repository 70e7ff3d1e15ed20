//! The networks, named as in HF transformers. One implementation each, blind to how a weight is stored and to the device.

mod blip2;
pub mod config;
mod image_encoder;
pub mod qformer;
pub mod retrieval;
pub mod text;
pub mod text_embeddings;
pub mod vision;

pub(crate) use blip2::ids_tensor;
pub use blip2::{Blip2Model, ForwardOutput, TextInputs};
pub use config::{Blip2Config, Blip2QFormerConfig, Blip2VisionConfig, FeedForwardProj, OPTConfig, T5Config, TextConfig, TokenIds};
pub use image_encoder::{ImageEncoder, ImageOptions, ImageOutput};
pub use qformer::{AttentionMask, Blip2QFormerModel, QFormerInputs, QFormerOutput};
pub use retrieval::{
    Blip2ForImageTextRetrieval, Blip2TextModelWithProjection, Blip2VisionModelWithProjection, ImageTextMatchingOutput, Images,
    TextModelOutput, VisionModelOutput,
};
pub use text::{Decoding, LanguageModel, LanguageOptions, LanguageOutput, PositionKey, Prompt, SpecialTokens};
pub use text_embeddings::Blip2TextEmbeddings;
pub use vision::{Blip2VisionModel, VisionOptions, VisionOutput};

use std::collections::BTreeMap;

use serde_json::Value;

use crate::error::{Error, Result};
use crate::weights::{Plan, Weights};

/// The classes of HF whose checkpoints are read, as `architectures` names them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    Blip2ForConditionalGeneration,
    /// The same weights and the same forward as the first.
    Blip2Model,
    Blip2ForImageTextRetrieval,
    Blip2TextModelWithProjection,
    Blip2VisionModelWithProjection,
    Blip2VisionModel,
    Blip2QFormerModel,
}

impl Class {
    pub const ALL: [Self; 7] = [
        Self::Blip2ForConditionalGeneration,
        Self::Blip2Model,
        Self::Blip2ForImageTextRetrieval,
        Self::Blip2TextModelWithProjection,
        Self::Blip2VisionModelWithProjection,
        Self::Blip2VisionModel,
        Self::Blip2QFormerModel,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Blip2ForConditionalGeneration => "Blip2ForConditionalGeneration",
            Self::Blip2Model => "Blip2Model",
            Self::Blip2ForImageTextRetrieval => "Blip2ForImageTextRetrieval",
            Self::Blip2TextModelWithProjection => "Blip2TextModelWithProjection",
            Self::Blip2VisionModelWithProjection => "Blip2VisionModelWithProjection",
            Self::Blip2VisionModel => "Blip2VisionModel",
            Self::Blip2QFormerModel => "Blip2QFormerModel",
        }
    }

    /// Errors: model-unsupported.
    pub fn from_name(name: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|class| class.name() == name).ok_or_else(|| Error::ModelUnsupported {
            what: name.into(),
            reason: format!("of BLIP-2's classes there are {}", Self::ALL.map(Self::name).join(", ")),
        })
    }

    /// The class that was saved with this `config.json`: the first of `architectures`, or else what `model_type` belongs to.
    /// Errors: config-invalid, model-unsupported.
    pub fn of(config_json: &[u8]) -> Result<Self> {
        const FILE: &str = "config.json";
        let file: Value = serde_json::from_slice(config_json).map_err(|error| Error::config(FILE, error))?;
        match file.get("architectures") {
            Some(Value::Array(names)) if !names.is_empty() => match &names[0] {
                Value::String(name) => Self::from_name(name),
                name => Err(Error::config(FILE, format!("architectures: {name} is no name"))),
            },
            None | Some(Value::Null | Value::Array(_)) => Ok(match file.get("model_type").and_then(Value::as_str) {
                Some(Blip2VisionConfig::MODEL_TYPE) => Self::Blip2VisionModel,
                Some(Blip2QFormerConfig::MODEL_TYPE) => Self::Blip2QFormerModel,
                _ => Self::Blip2ForConditionalGeneration,
            }),
            Some(_) => Err(Error::config(FILE, "architectures: is no list")),
        }
    }

    /// Where this class's weights are in a checkpoint with this `config.json`. A vision tower or a Q-Former that was saved alone
    /// has no prefix; taken from a whole model, whose config says so, it keeps the one it had there, and so its bytes.
    /// Errors: config-invalid.
    pub fn prefix(self, config_json: &[u8]) -> Result<&'static str> {
        let part = match self {
            Self::Blip2VisionModel => "vision_model",
            Self::Blip2QFormerModel => "qformer",
            _ => return Ok(""),
        };
        Ok(if config::is_of_whole_model(config_json)? { part } else { "" })
    }
}

impl std::fmt::Display for Class {
    fn fmt(&self, formatter: &mut std::fmt::Formatter) -> std::fmt::Result {
        formatter.write_str(self.name())
    }
}

impl std::str::FromStr for Class {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Self::from_name(name)
    }
}

/// The `config.json` among the files of a model folder. Errors: config-invalid where it is missing.
pub fn config_json(files: &BTreeMap<String, Vec<u8>>) -> Result<&[u8]> {
    const FILE: &str = "config.json";
    files.get(FILE).map(Vec::as_slice).ok_or_else(|| Error::config(FILE, "is not in the model folder"))
}

/// Every tensor that the model of this `config.json` asks for, with its shape. Errors: config-invalid, model-unsupported.
pub fn plan(config_json: &[u8]) -> Result<Plan> {
    plan_class(Class::of(config_json)?, config_json)
}

/// The same for a class of the caller's choice, whatever `architectures` says. Errors: config-invalid, model-unsupported.
pub fn plan_class(class: Class, config_json: &[u8]) -> Result<Plan> {
    let whole = || Blip2Config::from_json(config_json);
    match class {
        Class::Blip2ForConditionalGeneration | Class::Blip2Model => {
            let config = whole()?;
            Weights::plan(|weights| Blip2Model::load(&config, weights))
        }
        Class::Blip2ForImageTextRetrieval => {
            let config = whole()?;
            Weights::plan(|weights| Blip2ForImageTextRetrieval::load(&config, weights))
        }
        Class::Blip2TextModelWithProjection => {
            let config = whole()?;
            Weights::plan(|weights| Blip2TextModelWithProjection::load(&config, weights))
        }
        Class::Blip2VisionModelWithProjection => {
            let config = whole()?;
            Weights::plan(|weights| Blip2VisionModelWithProjection::load(&config, weights))
        }
        Class::Blip2VisionModel => {
            let (config, prefix) = (Blip2VisionConfig::from_json(config_json)?, class.prefix(config_json)?);
            Weights::plan(|weights| Blip2VisionModel::load(&config, &weights.at(prefix)))
        }
        Class::Blip2QFormerModel => {
            let (config, prefix) = (Blip2QFormerConfig::from_json(config_json)?, class.prefix(config_json)?);
            Weights::plan(|weights| Blip2QFormerModel::load(&config, &weights.at(prefix)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_is_known_by_its_name_and_else_by_its_model_type() {
        for class in Class::ALL {
            assert_eq!(Class::from_name(class.name()), Ok(class));
            assert_eq!(Class::of(format!(r#"{{"architectures": ["{class}", "Other"]}}"#).as_bytes()), Ok(class));
        }
        for (json, class) in [
            ("{}", Class::Blip2ForConditionalGeneration),
            (r#"{"architectures": [], "model_type": "blip-2"}"#, Class::Blip2ForConditionalGeneration),
            (r#"{"architectures": null, "model_type": "blip_2_vision_model"}"#, Class::Blip2VisionModel),
            (r#"{"model_type": "blip_2_qformer"}"#, Class::Blip2QFormerModel),
        ] {
            assert_eq!(Class::of(json.as_bytes()), Ok(class), "{json}");
        }
    }

    #[test]
    fn other_classes_are_refused_by_name() {
        let error = Class::of(br#"{"architectures": ["LlavaForConditionalGeneration"]}"#).unwrap_err();
        assert!(matches!(&error, Error::ModelUnsupported { what, .. } if what == "LlavaForConditionalGeneration"), "{error}");
        for json in [r#"{"architectures": [7]}"#, r#"{"architectures": "Blip2Model"}"#, "["] {
            assert_eq!(Class::of(json.as_bytes()).unwrap_err().code(), "config-invalid", "{json}");
        }
    }

    #[test]
    fn a_part_saved_alone_has_no_prefix_and_one_of_a_whole_model_has() {
        const VISION: &str = r#"{"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}"#;
        let first_key = |class, json: String| plan_class(class, json.as_bytes()).unwrap().into_keys().next().unwrap();
        let whole = format!(r#"{{"model_type": "blip-2", "vision_config": {VISION}}}"#);
        assert_eq!(first_key(Class::Blip2VisionModel, VISION.into()), "embeddings.class_embedding");
        assert_eq!(first_key(Class::Blip2VisionModel, whole.clone()), "vision_model.embeddings.class_embedding");
        assert!(first_key(Class::Blip2QFormerModel, whole).starts_with("qformer.encoder.layer.0."));
        assert!(first_key(Class::Blip2QFormerModel, r#"{"num_hidden_layers": 1}"#.into()).starts_with("encoder.layer.0."));
    }
}
