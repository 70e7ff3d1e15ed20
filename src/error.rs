//! Everything that can go wrong, with its facts. The code of an error is an API: it never changes once released, and
//! `www/error.ts` holds the same list (a test compares the two).

use serde::Serialize;
use serde_json::{Value, json};

pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Facts are fields; prose is made from them. Serialized as `{"code": "weight-shape", "key": …, "expected": …, "found": …}`.
#[derive(Debug, Clone, PartialEq, thiserror::Error, Serialize)]
#[serde(tag = "code", rename_all = "kebab-case", rename_all_fields = "camelCase")]
pub enum Error {
    #[error("WebGPU is not available: {reason}")]
    WebgpuUnavailable { reason: String },
    #[error("the GPU device was lost: {reason}")]
    DeviceLost { reason: String },
    #[error("out of memory: {what} needs {needed} bytes")]
    OutOfMemory { what: String, needed: u64 },
    #[error("{file}: {reason}")]
    ConfigInvalid { file: String, reason: String },
    #[error("{argument}: {reason}")]
    InputInvalid { argument: String, reason: String },
    #[error("generation option {option}: {reason}")]
    OptionUnsupported { option: String, reason: String },
    #[error("this is not an image that can be read: {reason}")]
    ImageUndecodable { reason: String },
    #[error("the image is too large: {width} x {height} is more than {limit} pixels")]
    ImageTooLarge { width: u64, height: u64, limit: u64 },
    #[error("the text cannot be tokenized: {reason}")]
    TokenizerInvalid { reason: String },
    #[error("{what} is not supported: {reason}")]
    ModelUnsupported { what: String, reason: String },
    #[error("the model has no weight {key}")]
    WeightMissing { key: String },
    #[error("weight {key} has shape {found:?}, expected {expected:?}")]
    WeightShape { key: String, expected: Vec<usize>, found: Vec<usize> },
    #[error("{file}: {}{reason}", if key.is_empty() { String::new() } else { format!("{key}: ") })]
    WeightInvalid { file: String, key: String, reason: String },
    #[error("{file}: expected SHA-256 {expected}, found {found}")]
    ChecksumMismatch { file: String, expected: String, found: String },
    #[error("{file}: expected {expected} bytes, found {found}")]
    SizeMismatch { file: String, expected: u64, found: u64 },
    #[error("{url}: {reason}")]
    Network { url: String, status: Option<u16>, reason: String },
    #[error("there is no room to keep {what}")]
    StorageQuota { what: String },
    #[error("storage is not available: {reason}")]
    StorageUnavailable { reason: String },
    #[error("{path}: {reason}")]
    File { path: String, reason: String },
    #[error("stopped by the caller")]
    Aborted {},
    #[error("kernel {kernel}: {reason}")]
    Kernel { kernel: String, reason: String },
}

/// Every code, in the order of the enum.
pub const CODES: &[&str] = &[
    "webgpu-unavailable",
    "device-lost",
    "out-of-memory",
    "config-invalid",
    "input-invalid",
    "option-unsupported",
    "image-undecodable",
    "image-too-large",
    "tokenizer-invalid",
    "model-unsupported",
    "weight-missing",
    "weight-shape",
    "weight-invalid",
    "checksum-mismatch",
    "size-mismatch",
    "network",
    "storage-quota",
    "storage-unavailable",
    "file",
    "aborted",
    "kernel",
];

impl Error {
    /// The stable name of the kind of error, as JavaScript sees it.
    pub fn code(&self) -> &'static str {
        match self {
            Self::WebgpuUnavailable { .. } => "webgpu-unavailable",
            Self::DeviceLost { .. } => "device-lost",
            Self::OutOfMemory { .. } => "out-of-memory",
            Self::ConfigInvalid { .. } => "config-invalid",
            Self::InputInvalid { .. } => "input-invalid",
            Self::OptionUnsupported { .. } => "option-unsupported",
            Self::ImageUndecodable { .. } => "image-undecodable",
            Self::ImageTooLarge { .. } => "image-too-large",
            Self::TokenizerInvalid { .. } => "tokenizer-invalid",
            Self::ModelUnsupported { .. } => "model-unsupported",
            Self::WeightMissing { .. } => "weight-missing",
            Self::WeightShape { .. } => "weight-shape",
            Self::WeightInvalid { .. } => "weight-invalid",
            Self::ChecksumMismatch { .. } => "checksum-mismatch",
            Self::SizeMismatch { .. } => "size-mismatch",
            Self::Network { .. } => "network",
            Self::StorageQuota { .. } => "storage-quota",
            Self::StorageUnavailable { .. } => "storage-unavailable",
            Self::File { .. } => "file",
            Self::Aborted {} => "aborted",
            Self::Kernel { .. } => "kernel",
        }
    }

    /// What the reader can do about it, in one sentence.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::WebgpuUnavailable { .. } => "Use the CPU (device \"cpu\"), or a browser and a driver with WebGPU.",
            Self::DeviceLost { .. } => "Load the model again; the files are still in the cache.",
            Self::OutOfMemory { .. } => "Close other tabs, or choose a smaller model or a stronger quantization.",
            Self::ConfigInvalid { .. } => "Convert the checkpoint again with `npm run convert`.",
            Self::InputInvalid { .. } | Self::OptionUnsupported { .. } => "See the documentation of this option.",
            Self::ImageUndecodable { .. } => "PNG, JPEG, WebP, GIF and BMP can be read.",
            Self::ImageTooLarge { .. } => "Make the picture smaller first.",
            Self::TokenizerInvalid { .. } => "The model folder needs a tokenizer.json of the tokenizers library.",
            Self::ModelUnsupported { .. } => "See the README for what can be converted and run.",
            Self::WeightMissing { .. } | Self::WeightShape { .. } | Self::WeightInvalid { .. } => {
                "The checkpoint does not fit its config.json: fetch it again, or convert it again."
            }
            Self::ChecksumMismatch { .. } | Self::SizeMismatch { .. } => {
                "The file was damaged on its way or on its host: load again, or upload the model folder again."
            }
            Self::Network { .. } => "Check the connection and the address, then load again; what has arrived is kept.",
            Self::StorageQuota { .. } => "Delete other models from the cache; this one works without being kept.",
            Self::StorageUnavailable { .. } => "The model works, but is downloaded again next time.",
            Self::File { .. } => "Check the path and its permissions.",
            Self::Aborted {} => "",
            Self::Kernel { .. } => "Please report this with the name of your GPU; device \"cpu\" works meanwhile.",
        }
    }

    /// Whether the same call may succeed when it is made again.
    pub fn retryable(&self) -> bool {
        match self {
            Self::Network { status, .. } => status.is_none_or(|status| status == 429 || status >= 500),
            Self::DeviceLost { .. } | Self::ChecksumMismatch { .. } | Self::SizeMismatch { .. } => true,
            _ => false,
        }
    }

    /// As JavaScript gets it: `{code, message, hint, retryable, facts}`.
    pub fn report(&self) -> Value {
        let mut facts = serde_json::to_value(self).unwrap_or_default();
        if let Some(facts) = facts.as_object_mut() {
            facts.remove("code");
        }
        json!({ "code": self.code(), "message": self.to_string(), "hint": self.hint(), "retryable": self.retryable(), "facts": facts })
    }

    pub fn config(file: impl Into<String>, reason: impl ToString) -> Self {
        Self::ConfigInvalid { file: file.into(), reason: reason.to_string() }
    }

    pub fn input(argument: impl Into<String>, reason: impl ToString) -> Self {
        Self::InputInvalid { argument: argument.into(), reason: reason.to_string() }
    }

    pub fn kernel(kernel: impl Into<String>, reason: impl ToString) -> Self {
        Self::Kernel { kernel: kernel.into(), reason: reason.to_string() }
    }

    pub fn file(path: &std::path::Path, reason: impl ToString) -> Self {
        Self::File { path: path.display().to_string(), reason: reason.to_string() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_serialized_is_the_code_and_the_facts() {
        let error = Error::WeightShape { key: "a.weight".into(), expected: vec![2, 3], found: vec![3, 2] };
        let json = serde_json::to_value(&error).unwrap();
        assert_eq!(json, serde_json::json!({"code": "weight-shape", "key": "a.weight", "expected": [2, 3], "found": [3, 2]}));
        assert_eq!(json["code"], error.code());
    }
}
