//! Options as JavaScript gives them: plain objects, under HF's names. An unknown one is an error, never silence.

use js_sys::{Function, JSON, Reflect};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use wasm_bindgen::{JsCast, JsValue};

use super::Shared;
use crate::delivery::address::Address;
use crate::delivery::browser::Browser;
use crate::delivery::fetch::Access;
use crate::delivery::storage::AnyStorage;
use crate::delivery::{LoadOptions, Source};
use crate::device::Arithmetic;
use crate::error::{Error, Result};
use crate::generation::GenerationConfig;
use crate::models::Class;
use crate::processor::{Padding, PaddingSide, TextOptions};

/// Where models are kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum StorageKind {
    #[default]
    IndexedDb,
    Memory,
    /// The caller's own.
    Custom,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RuntimeOptions {
    pub storage: StorageKind,
}

/// Errors: option-unsupported, input-invalid.
pub(super) fn runtime(options: &JsValue) -> Result<RuntimeOptions> {
    read("options", options)
}

#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Load {
    integrity: Option<String>,
    request: Access,
    keep: bool,
    /// Another class than the one that was saved.
    #[serde(rename = "as")]
    class: Option<String>,
    arithmetic: Option<Arithmetic>,
}

impl Default for Load {
    fn default() -> Self {
        let LoadOptions { integrity, request, keep } = LoadOptions::default();
        Self { integrity, request, keep, class: None, arithmetic: None }
    }
}

/// What is asked of a model folder.
pub(super) struct Wish {
    pub address: Address,
    pub network: Browser,
    pub options: LoadOptions,
    pub class: As,
    pub arithmetic: Arithmetic,
}

impl Wish {
    pub fn source<'a>(&'a self, shared: &'a Shared) -> Source<'a, Browser, AnyStorage> {
        Source { address: &self.address, network: &self.network, cache: &shared.cache }
    }
}

/// What a folder is loaded as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum As {
    /// The class that was saved.
    Saved,
    Class(Class),
    /// HF `Blip2Processor`: no weights.
    Processor,
}

pub(super) const PROCESSOR: &str = "Blip2Processor";

/// Where nothing is said, a CPU takes the arithmetic that it is fast with. Errors: option-unsupported, input-invalid, model-unsupported.
pub(super) fn load(url: &str, options: &JsValue) -> Result<Wish> {
    let Load { integrity, request, keep, class, arithmetic } = read("options", options)?;
    let class = match class.as_deref() {
        None => As::Saved,
        Some(PROCESSOR) => As::Processor,
        Some(name) => As::Class(Class::from_name(name)?),
    };
    Ok(Wish {
        address: Address::parse(url)?,
        network: Browser { resolve: function(options, "resolve")? },
        options: LoadOptions { integrity, request, keep },
        class,
        arithmetic: arithmetic.unwrap_or(Arithmetic::Int8Activations),
    })
}

/// The option of this name, which is no plain value. Errors: input-invalid.
fn function(options: &JsValue, name: &str) -> Result<Option<Function>> {
    let value = if options.is_object() { Reflect::get(options, &name.into()).unwrap_or_default() } else { JsValue::UNDEFINED };
    if value.is_undefined() {
        return Ok(None);
    }
    value.dyn_into().map(Some).map_err(|_| Error::input(name, "a function is expected"))
}

/// How images are ranked.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RankOptions {
    /// How many of the best are matched with the text once more; none by itself.
    pub rerank: usize,
}

/// Errors: option-unsupported, input-invalid.
pub(super) fn rank(options: &JsValue) -> Result<RankOptions> {
    read("options", options)
}

/// Arguments of HF's `Blip2Processor.__call__`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct ProcessOptions {
    padding: Option<Value>,
    padding_side: Option<String>,
    truncation: bool,
    max_length: Option<usize>,
}

/// Errors: option-unsupported, input-invalid.
pub(super) fn process(options: &JsValue) -> Result<TextOptions> {
    let ProcessOptions { padding, padding_side, truncation, max_length } = read("options", options)?;
    let padding = match padding {
        None | Some(Value::Null | Value::Bool(false)) => Padding::None,
        Some(Value::Bool(true)) => Padding::Longest,
        Some(Value::String(name)) if name == "longest" => Padding::Longest,
        Some(Value::String(name)) if name == "max_length" => Padding::MaxLength,
        Some(Value::String(name)) if name == "do_not_pad" => Padding::None,
        Some(other) => return Err(Error::input("padding", format!("{other}: true, \"longest\", \"max_length\" or \"do_not_pad\""))),
    };
    let padding_side = match padding_side.as_deref() {
        None => None,
        Some("left") => Some(PaddingSide::Left),
        Some("right") => Some(PaddingSide::Right),
        Some(other) => return Err(Error::input("padding_side", format!("{other}: left or right"))),
    };
    Ok(TextOptions { padding, padding_side, truncation, max_length })
}

/// Errors: option-unsupported, input-invalid.
pub(super) fn generation(options: &JsValue) -> Result<GenerationConfig> {
    read("options", options)
}

/// `undefined` and `null` are the defaults; fields that are `undefined` are not there.
pub(super) fn read<T: DeserializeOwned + Default>(argument: &str, options: &JsValue) -> Result<T> {
    if options.is_undefined() || options.is_null() {
        return Ok(T::default());
    }
    if !options.is_object() {
        return Err(Error::input(argument, "an object is expected"));
    }
    let text = JSON::stringify(options).map_err(|_| Error::input(argument, "not a plain object"))?;
    serde_json::from_str(&String::from(text)).map_err(|error| match unknown_field(&error.to_string()) {
        Some(option) => Error::OptionUnsupported { option, reason: "no such option".into() },
        None => Error::input(argument, error),
    })
}

/// A plain value under this name. Errors: input-invalid.
pub(super) fn read_value<T: DeserializeOwned>(name: &str, value: &JsValue) -> Result<T> {
    let text = JSON::stringify(value).map_err(|_| Error::input(name, "not a plain value"))?;
    serde_json::from_str(&String::from(text)).map_err(|error| Error::input(name, error))
}

/// serde says "unknown field `temprature`, expected …".
fn unknown_field(message: &str) -> Option<String> {
    let rest = message.strip_prefix("unknown field `")?;
    rest.split('`').next().map(str::to_string)
}
