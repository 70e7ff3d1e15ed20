//! Options as JavaScript gives them: plain objects, under HF's names. An unknown one is an error, never silence.

use js_sys::JSON;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use wasm_bindgen::JsValue;

use crate::delivery::LoadOptions;
use crate::error::{Error, Result};
use crate::generation::GenerationConfig;

/// Where models are kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum StorageKind {
    #[default]
    IndexedDb,
    Memory,
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

/// Errors: option-unsupported, input-invalid.
pub(super) fn load(options: &JsValue) -> Result<LoadOptions> {
    read("options", options)
}

/// Errors: option-unsupported, input-invalid.
pub(super) fn generation(options: &JsValue) -> Result<GenerationConfig> {
    read("options", options)
}

/// `undefined` and `null` are the defaults; fields that are `undefined` are not there.
fn read<T: DeserializeOwned + Default>(argument: &str, options: &JsValue) -> Result<T> {
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

/// serde says "unknown field `temprature`, expected …".
fn unknown_field(message: &str) -> Option<String> {
    let rest = message.strip_prefix("unknown field `")?;
    rest.split('`').next().map(str::to_string)
}
