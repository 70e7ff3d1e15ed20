//! `config.json`, field by field with HF's class defaults for absent keys: `save_pretrained` drops values that equal their
//! class's default, so each absent key means something. What is read here is written back as `save_pretrained` does; fields
//! that do nothing outside of training are kept for that alone, and keys that HF's classes do not have are dropped.
//! transformers 4.57, `configuration_blip_2.py`, `configuration_opt.py`, `configuration_t5.py`.

mod blip2;
mod opt;
mod qformer;
mod t5;
mod text;
mod vision;

pub use blip2::Blip2Config;
pub use opt::OPTConfig;
pub use qformer::Blip2QFormerConfig;
pub use t5::{FeedForwardProj, T5Config};
pub use text::TextConfig;
pub use vision::Blip2VisionConfig;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::error::{Error, Result};

const FILE: &str = "config.json";

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

/// Whether this `config.json` is that of a whole model, with its parts nested, and not that of a vision tower or a Q-Former
/// alone. Errors: config-invalid.
pub(crate) fn is_of_whole_model(config_json: &[u8]) -> Result<bool> {
    Ok(nests_parts(&parse_object(config_json)?))
}

fn nests_parts(file: &Map<String, Value>) -> bool {
    file.get("model_type").is_some_and(|name| name == Blip2Config::MODEL_TYPE)
        || ["vision_config", "qformer_config", "text_config"].iter().any(|part| file.contains_key(*part))
}

/// Errors: config-invalid.
fn parse_object(bytes: &[u8]) -> Result<Map<String, Value>> {
    serde_json::from_slice(bytes).map_err(|error| Error::config(FILE, error))
}

/// Errors: config-invalid, naming the part.
fn parse<T: DeserializeOwned>(name: &str, value: Value) -> Result<T> {
    serde_json::from_value(value).map_err(|error| Error::config(FILE, format!("{name}: {error}")))
}

/// A nested config; empty where it is absent.
fn part(file: &Map<String, Value>, name: &str) -> Value {
    file.get(name).filter(|value| !value.is_null()).cloned().unwrap_or_else(|| Value::Object(Map::new()))
}

/// A file that says it is something else would be read as nothing but defaults. Errors: model-unsupported.
fn expect_model_type(file: &Map<String, Value>, expected: &str) -> Result<()> {
    match file.get("model_type") {
        Some(Value::String(found)) if found != expected => Err(Error::ModelUnsupported {
            what: format!("model_type {found:?}"),
            reason: format!("{expected:?} is expected in this {FILE}"),
        }),
        _ => Ok(()),
    }
}

/// Fields of HF's base class: `save_pretrained` leaves them out of a nested config where they have the default of its class.
/// Fields that a class adds are always written.
const BASE_FIELDS: [&str; 6] =
    ["pad_token_id", "bos_token_id", "eos_token_id", "decoder_start_token_id", "tie_word_embeddings", "is_encoder_decoder"];

/// A nested config as `save_pretrained` writes it. Errors: config-invalid.
fn nested<T: Serialize + Default>(config: &T, model_type: &str) -> Result<Value> {
    let (mut fields, defaults) = (fields(config)?, fields(&T::default())?);
    fields.retain(|name, value| !BASE_FIELDS.contains(&name.as_str()) || defaults.get(name) != Some(&*value));
    fields.insert("model_type".into(), model_type.into());
    Ok(Value::Object(fields))
}

/// JSON as `save_pretrained` sets it. Errors: config-invalid.
fn pretty(value: &Value) -> Result<Vec<u8>> {
    let mut json = serde_json::to_vec_pretty(value).map_err(|error| Error::config(FILE, error))?;
    json.push(b'\n');
    Ok(json)
}

fn fields<T: Serialize>(config: &T) -> Result<Map<String, Value>> {
    let fields = serde_json::to_value(config).and_then(serde_json::from_value);
    fields.map_err(|error| Error::config(FILE, error))
}

/// Sizes by which a kernel can divide and which an allocation can hold. Errors: config-invalid.
fn bounded(name: &str, sizes: &[usize]) -> Result<()> {
    match sizes.iter().find(|size| !(1..=1 << 24).contains(*size)) {
        Some(size) => Err(Error::config(FILE, format!("{name}: {size} is out of range"))),
        None => Ok(()),
    }
}

/// A tower without layers is odd and harmless; one with millions would be asked for tensor by tensor. Errors: config-invalid.
fn layers(name: &str, count: usize) -> Result<()> {
    if count > 1 << 10 { Err(Error::config(FILE, format!("{name}: {count} layers are out of range"))) } else { Ok(()) }
}

/// Errors: config-invalid unless the heads share the width evenly.
fn heads(name: &str, width: usize, heads: usize) -> Result<()> {
    match heads {
        0 => Err(Error::config(FILE, format!("{name}: no attention heads"))),
        heads if !width.is_multiple_of(heads) => Err(Error::config(FILE, format!("{name}: {width} is not a multiple of {heads} heads"))),
        _ => Ok(()),
    }
}
