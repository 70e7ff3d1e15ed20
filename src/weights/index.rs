//! `model.safetensors.index.json`: HF's `weight_map`, and beside it what a host, a cache and a loader need to know. It comes
//! from a stranger, so nothing is used before `validate` has seen it.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::weights::load::rows_and_columns;
use crate::weights::quant::{Quant, words_per_row};
use crate::weights::shard::scales_key;

pub const INDEX_FILE: &str = "model.safetensors.index.json";
/// Version of the folder's format.
pub const FORMAT: u32 = 1;
/// A shard is at most 16 MiB as `convert` writes it; one row of a huge table may be more.
const MAX_SHARD_BYTES: u64 = 64 << 20;
const MAX_ELEMENTS: u64 = 1 << 36;
const MAX_ENTRIES: usize = 1 << 16;

/// What becomes usable in this order; a shard belongs to one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    Vision,
    Qformer,
    Projection,
    Language,
}

impl Stage {
    pub const ALL: [Self; 4] = [Self::Vision, Self::Qformer, Self::Projection, Self::Language];

    /// Of a tensor by its HF key. What only texts need goes with the heads, so that an image is encoded before it is there.
    /// A vision tower or a Q-Former that was saved alone has no prefix; the names below it tell them apart.
    pub fn of(key: &str) -> Self {
        let mut names = key.split('.');
        let (first, second) = (names.next().unwrap_or_default(), names.next().unwrap_or_default());
        match (first, second) {
            ("vision_model" | "post_layernorm", _) | ("encoder", "layers") => Self::Vision,
            ("embeddings", "class_embedding" | "position_embedding" | "patch_embedding") => Self::Vision,
            ("language_model", _) => Self::Language,
            ("language_projection" | "vision_projection" | "text_projection" | "itm_head" | "embeddings", _) => Self::Projection,
            _ => Self::Qformer,
        }
    }
}

impl std::fmt::Display for Stage {
    fn fmt(&self, formatter: &mut std::fmt::Formatter) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::Vision => "vision",
            Self::Qformer => "qformer",
            Self::Projection => "projection",
            Self::Language => "language",
        })
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Index {
    pub format: u32,
    pub metadata: Metadata,
    /// Every key of every shard → its file.
    pub weight_map: BTreeMap<String, String>,
    /// Every tensor of the checkpoint → where its rows are.
    pub tensors: BTreeMap<String, TensorEntry>,
    /// Every file of the folder but this one.
    pub files: BTreeMap<String, FileEntry>,
    #[serde(default)]
    pub ui: Ui,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub licence: Option<String>,
    pub quantization: BTreeMap<Stage, Quant>,
    pub parameters: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Metadata {
    /// Bytes of all shards.
    pub total_size: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TensorEntry {
    /// As in the checkpoint.
    pub shape: Vec<usize>,
    pub quant: Quant,
    pub parts: Vec<PartEntry>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PartEntry {
    pub file: String,
    pub key: String,
    /// First row and the one behind the last, along the first dimension.
    pub rows: [usize; 2],
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FileEntry {
    /// 64 lowercase hexadecimal digits.
    pub sha256: String,
    pub bytes: u64,
    /// Of a shard; configs and tokenizer have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stage: Option<Stage>,
}

/// How a page talks to the model: what nobody can see from its weights.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Ui {
    pub caption_prompt: String,
    /// `{question}` is replaced.
    pub question_template: String,
    pub suggestions: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub licence_url: Option<String>,
    /// One honest line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub about: Option<String>,
}

impl Default for Ui {
    fn default() -> Self {
        Self {
            caption_prompt: String::new(),
            question_template: "Question: {question} Answer:".into(),
            suggestions: vec![],
            licence_url: None,
            about: None,
        }
    }
}

fn invalid(reason: impl ToString) -> Error {
    Error::config(INDEX_FILE, reason)
}

impl Index {
    /// Errors: config-invalid.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let index: Self = serde_json::from_slice(bytes).map_err(invalid)?;
        index.validate()?;
        Ok(index)
    }

    pub fn to_json(&self) -> Result<Vec<u8>> {
        let mut json = serde_json::to_vec_pretty(self).map_err(invalid)?;
        json.push(b'\n');
        Ok(json)
    }

    /// Shards in the order they are wanted: by stage.
    pub fn shards(&self) -> Vec<(&str, &FileEntry)> {
        let mut shards: Vec<_> =
            self.files.iter().filter(|(_, file)| file.stage.is_some()).map(|(name, file)| (name.as_str(), file)).collect();
        shards.sort_by_key(|(name, file)| (file.stage, *name));
        shards
    }

    /// Bytes of all files.
    pub fn bytes(&self) -> u64 {
        self.files.values().map(|file| file.bytes).sum()
    }

    pub fn stage_bytes(&self, stage: Stage) -> u64 {
        self.files.values().filter(|file| file.stage == Some(stage)).map(|file| file.bytes).sum()
    }

    /// What the weights take on a device, without caches and intermediate results.
    pub fn device_bytes(&self) -> u64 {
        let bytes = |tensor: &TensorEntry| {
            let (rows, columns) = rows_and_columns(&tensor.shape);
            rows as u64 * words_per_row(tensor.quant, columns) as u64 * 4
        };
        self.tensors.values().map(bytes).sum()
    }

    /// Errors: config-invalid, naming the file or tensor.
    pub fn validate(&self) -> Result<()> {
        if self.format != FORMAT {
            return Err(invalid(format!("format {} is not the {FORMAT} that this version reads", self.format)));
        }
        if self.files.len() > MAX_ENTRIES || self.tensors.len() > MAX_ENTRIES || self.weight_map.len() > 4 * MAX_ENTRIES {
            return Err(invalid("more entries than any model has"));
        }
        let mut total = 0u64;
        for (name, file) in &self.files {
            validate_file(name, file)?;
            total += if file.stage.is_some() { file.bytes } else { 0 };
        }
        if total != self.metadata.total_size {
            return Err(invalid(format!("total_size is {}, but the shards have {total} bytes", self.metadata.total_size)));
        }
        let mut keys = BTreeSet::new();
        for (name, tensor) in &self.tensors {
            self.validate_tensor(name, tensor)?;
            for part in &tensor.parts {
                if !keys.insert(part.key.as_str()) {
                    return Err(invalid(format!("{name}: key {} is used twice", part.key)));
                }
            }
        }
        Ok(())
    }

    fn validate_tensor(&self, name: &str, tensor: &TensorEntry) -> Result<()> {
        let elements =
            tensor.shape.iter().try_fold(1u64, |product, size| product.checked_mul(*size as u64)).filter(|count| *count < MAX_ELEMENTS);
        if elements.is_none() || tensor.shape.contains(&0) || tensor.shape.len() > 8 {
            return Err(invalid(format!("{name}: shape {:?}", tensor.shape)));
        }
        // A row that a shard cannot hold; behind this, columns and their words are far from where 32 bits end.
        let columns = tensor.shape.iter().skip(1).map(|size| *size as u64).product::<u64>();
        if columns > 2 * MAX_SHARD_BYTES || words_per_row(tensor.quant, columns as usize) as u64 * 4 > MAX_SHARD_BYTES {
            return Err(invalid(format!("{name}: a row of shape {:?} is larger than a shard", tensor.shape)));
        }
        let (rows, _) = rows_and_columns(&tensor.shape);
        let quantized = matches!(tensor.quant, Quant::Q8 | Quant::Q4);
        let mut next = 0;
        for part in &tensor.parts {
            let [first, end] = part.rows;
            if first != next || end <= first || end > rows {
                return Err(invalid(format!("{name}: rows {first}..{end} do not follow {next} of {rows}")));
            }
            next = end;
            match self.files.get(&part.file) {
                None => return Err(invalid(format!("{name}: file {} is not in files", part.file))),
                Some(file) if file.stage.is_none() => return Err(invalid(format!("{name}: file {} is no shard", part.file))),
                Some(_) => {}
            }
            if self.weight_map.get(&part.key) != Some(&part.file) {
                return Err(invalid(format!("{name}: weight_map does not have {} in {}", part.key, part.file)));
            }
            let scales = scales_key(&part.key);
            if quantized && self.weight_map.get(&scales) != Some(&part.file) {
                return Err(invalid(format!("{name}: weight_map does not have {scales} in {}", part.file)));
            }
        }
        if next == rows { Ok(()) } else { Err(invalid(format!("{name}: {next} of {rows} rows"))) }
    }
}

fn validate_file(name: &str, file: &FileEntry) -> Result<()> {
    if !is_plain_name(name) {
        return Err(invalid(format!("{name:?} is not a plain file name")));
    }
    if file.sha256.len() != 64 || !file.sha256.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte)) {
        return Err(invalid(format!("{name}: sha256 is not 64 lowercase hexadecimal digits")));
    }
    if file.bytes > MAX_SHARD_BYTES && file.stage.is_some() {
        return Err(invalid(format!("{name}: {} bytes are more than a shard may have", file.bytes)));
    }
    if file.bytes > 4 * MAX_SHARD_BYTES {
        return Err(invalid(format!("{name}: {} bytes", file.bytes)));
    }
    Ok(())
}

/// A file's hash, as the index and the names of shards have it: lower-case hex.
pub fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

pub(crate) fn hex(digest: &[u8]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A name that cannot leave the folder, natively or as a part of an address.
pub fn is_plain_name(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    !name.is_empty() && name.len() <= 255 && !name.starts_with('.') && !name.contains("..") && name.chars().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index() -> Index {
        let part = |first, end, key: &str| PartEntry { file: "model-a.safetensors".into(), key: key.into(), rows: [first, end] };
        let parts = vec![part(0, 2, "x.weight.rows.0"), part(2, 3, "x.weight.rows.1")];
        let file = |stage| FileEntry { sha256: "0".repeat(64), bytes: 100, stage };
        Index {
            format: FORMAT,
            metadata: Metadata { total_size: 100 },
            weight_map: parts
                .iter()
                .flat_map(|part| [part.key.clone(), scales_key(&part.key)].map(|key| (key, part.file.clone())))
                .collect(),
            tensors: [("x.weight".into(), TensorEntry { shape: vec![3, 40], quant: Quant::Q8, parts })].into(),
            files: [("model-a.safetensors".into(), file(Some(Stage::Vision))), ("config.json".into(), file(None))].into(),
            ui: Ui::default(),
            source: None,
            licence: None,
            quantization: [(Stage::Vision, Quant::Q8)].into(),
            parameters: 120,
        }
    }

    #[test]
    fn what_is_written_is_what_is_read() {
        assert_eq!(Index::parse(&index().to_json().unwrap()), Ok(index()));
    }

    #[test]
    fn a_name_cannot_leave_the_folder() {
        for name in ["", "..", "../x", "a/b", "a\\b", "c:d", ".hidden", "a..b", "a b", "é"] {
            assert!(!is_plain_name(name), "{name:?}");
        }
        assert!(is_plain_name("model-0123abcd.safetensors"));
    }

    #[test]
    fn a_stage_is_known_by_its_tensors() {
        for (key, stage) in [
            ("vision_model.embeddings.position_embedding", Stage::Vision),
            ("vision_model.post_layernorm.weight", Stage::Vision),
            ("query_tokens", Stage::Qformer),
            ("qformer.layernorm.weight", Stage::Qformer),
            ("embeddings.word_embeddings.weight", Stage::Projection),
            ("embeddings.position_embeddings.weight", Stage::Projection),
            ("vision_projection.weight", Stage::Projection),
            ("text_projection.bias", Stage::Projection),
            ("itm_head.weight", Stage::Projection),
            ("language_projection.weight", Stage::Projection),
            ("language_model.shared.weight", Stage::Language),
            // Parts that were saved alone.
            ("embeddings.patch_embedding.weight", Stage::Vision),
            ("embeddings.class_embedding", Stage::Vision),
            ("encoder.layers.0.mlp.fc1.weight", Stage::Vision),
            ("post_layernorm.bias", Stage::Vision),
            ("encoder.layer.0.output.dense.weight", Stage::Qformer),
            ("layernorm.weight", Stage::Qformer),
        ] {
            assert_eq!(Stage::of(key), stage, "{key}");
        }
    }

    #[test]
    fn lies_are_named() {
        let lie = |change: &dyn Fn(&mut Index)| {
            let mut index = index();
            change(&mut index);
            index.validate().unwrap_err().to_string()
        };
        assert!(lie(&|index| index.format = 9).contains("format"));
        assert!(lie(&|index| index.metadata.total_size = 7).contains("total_size"));
        assert!(lie(&|index| index.tensors.get_mut("x.weight").unwrap().parts[1].rows = [1, 3]).contains("x.weight"));
        assert!(lie(&|index| index.tensors.get_mut("x.weight").unwrap().shape = vec![4, 40]).contains("3 of 4 rows"));
        assert!(lie(&|index| index.tensors.get_mut("x.weight").unwrap().shape = vec![usize::MAX, 40]).contains("shape"));
        assert!(lie(&|index| index.tensors.get_mut("x.weight").unwrap().shape = vec![3, 1 << 15, 1 << 16]).contains("row of shape"));
        assert!(lie(&|index| index.weight_map.clear()).contains("weight_map"));
        assert!(lie(&|index| drop(index.weight_map.remove("x.scales.rows.1"))).contains("x.scales.rows.1"));
        assert!(lie(&|index| index.files.get_mut("config.json").unwrap().sha256 = "xyz".into()).contains("config.json"));
        assert!(lie(&|index| index.files.get_mut("model-a.safetensors").unwrap().bytes = 1 << 40).contains("model-a"));
    }
}
