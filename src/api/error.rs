//! `Error` → the plain object that TypeScript turns into a `Blip2Error`.

use js_sys::JSON;
use serde::Serialize;
use serde_json::json;
use wasm_bindgen::JsValue;

use crate::error::Error;

/// A plain JavaScript value. Numbers stay numbers (bytes of a model are far below 2⁵³), NaN becomes null.
pub(super) fn to_js(value: &impl Serialize) -> JsValue {
    let text = serde_json::to_string(value).unwrap_or_else(|error| json!({ "unserializable": error.to_string() }).to_string());
    JSON::parse(&text).unwrap_or(JsValue::NULL)
}

/// `{code, message, hint, retryable, facts}`
pub(super) fn error_to_js(error: &Error) -> JsValue {
    to_js(&error.report())
}
