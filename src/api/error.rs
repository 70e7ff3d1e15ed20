//! `Error` → the plain object that TypeScript turns into a `Blip2Error`.

use js_sys::JSON;
use serde::Serialize;
use serde_json::{Value, json};
use wasm_bindgen::JsValue;

use crate::error::Error;

/// A plain JavaScript value. Numbers stay numbers (bytes of a model are far below 2⁵³), NaN becomes null.
pub(super) fn to_js(value: &impl Serialize) -> JsValue {
    let text = serde_json::to_string(value).unwrap_or_else(|error| json!({ "unserializable": error.to_string() }).to_string());
    JSON::parse(&text).unwrap_or(JsValue::NULL)
}

/// `{code, message, hint, retryable, facts}`
pub(super) fn error_to_js(error: &Error) -> JsValue {
    to_js(&error_to_json(error))
}

pub(super) fn error_to_json(error: &Error) -> Value {
    let mut facts = serde_json::to_value(error).unwrap_or_default();
    if let Some(facts) = facts.as_object_mut() {
        facts.remove("code");
    }
    json!({
        "code": error.code(),
        "message": error.to_string(),
        "hint": error.hint(),
        "retryable": error.retryable(),
        "facts": facts,
    })
}
