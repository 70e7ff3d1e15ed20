//! The source: one safetensors file, or several with HF's index.

use std::collections::BTreeMap;
use std::ops::Range;

use serde_json::Value;

use crate::convert::{Source, Tensors, read_small};
use crate::error::{Error, Result};
use crate::models::{Blip2Config, Class, plan_class};
use crate::weights::index::{INDEX_FILE, is_plain_name};
use crate::weights::safetensors::FileReader;
use crate::weights::{Plan, Request};

pub(super) struct Checkpoint {
    files: Vec<FileReader>,
    names: Vec<String>,
    /// Which file holds a tensor.
    places: BTreeMap<String, usize>,
}

impl Checkpoint {
    /// Errors: file, weight-invalid, config-invalid.
    pub fn open(source: &dyn Source) -> Result<Self> {
        let mut files = vec![];
        let mut places = BTreeMap::new();
        let names = file_names(source)?;
        for name in &names {
            let file = source.open(name)?.ok_or_else(|| missing(source, format!("{name} is not there")))?;
            let file = FileReader::open(name, file)?;
            for key in file.tensors().keys() {
                if places.insert(key.clone(), files.len()).is_some() {
                    return Err(Error::WeightInvalid { file: name.clone(), key: key.clone(), reason: "is in another file too".into() });
                }
            }
            files.push(file);
        }
        Ok(Self { files, names, places })
    }

    /// Everything that the model needs is there in its shape; what it does not need is returned if it is known to be spare,
    /// and refused by name if not. Errors: weight-missing, weight-shape, model-unsupported.
    pub fn check(&self, plan: &Plan, spare: &Spare) -> Result<Vec<String>> {
        for (key, Request { shape, .. }) in plan {
            let found = self.shape(key).ok_or_else(|| Error::WeightMissing { key: key.clone() })?;
            if found != shape {
                return Err(Error::WeightShape { key: key.clone(), expected: shape.clone(), found: found.to_vec() });
            }
        }
        let (ignored, unknown): (Vec<_>, Vec<_>) =
            self.places.keys().filter(|key| !plan.contains_key(*key)).cloned().partition(|key| spare.holds(key));
        match unknown.first() {
            None => Ok(ignored),
            Some(key) => Err(Error::ModelUnsupported {
                what: format!("tensor {key}"),
                reason: format!("nothing in this model asks for it ({} such tensors)", unknown.len()),
            }),
        }
    }

    fn shape(&self, key: &str) -> Option<&[usize]> {
        let file = self.places.get(key)?;
        self.files[*file].tensors().get(key).map(|info| &info.shape[..])
    }
}

impl Tensors for Checkpoint {
    fn bytes(&self, key: &str) -> u64 {
        let info = self.places.get(key).and_then(|file| self.files[*file].tensors().get(key));
        info.map_or(0, |info| info.bytes.end - info.bytes.start)
    }

    fn file(&self, key: &str) -> &str {
        self.places.get(key).map_or("", |file| &self.names[*file])
    }

    fn read(&mut self, key: &str, elements: Range<usize>) -> Result<Vec<f32>> {
        let file = self.places.get(key).ok_or_else(|| Error::WeightMissing { key: key.into() })?;
        self.files[*file].read_f32(key, elements)
    }
}

/// What a checkpoint may hold beside what a model asks for.
pub(super) struct Spare {
    saved: Class,
    /// What the class that was saved asks for: another class may need less of it.
    plan: Plan,
    tied_head: bool,
}

impl Spare {
    /// Errors: config-invalid, model-unsupported.
    pub fn of(config_json: &[u8]) -> Result<Self> {
        let saved = Class::of(config_json)?;
        let tied_head = match saved {
            Class::Blip2ForConditionalGeneration | Class::Blip2Model => {
                Blip2Config::from_json(config_json)?.text_config.tie_word_embeddings()
            }
            _ => false,
        };
        Ok(Self { saved, plan: plan_class(saved, config_json)?, tied_head })
    }

    fn holds(&self, key: &str) -> bool {
        /// T5's copies of `shared`, which old versions saved.
        const COPIES: [&str; 2] = ["language_model.encoder.embed_tokens.weight", "language_model.decoder.embed_tokens.weight"];
        self.plan.contains_key(key)
            // Buffers that old versions saved.
            || key.ends_with(".position_ids")
            || key.ends_with(".inv_freq")
            || COPIES.contains(&key)
            // Old T5 files have one; cross-attention has no bias.
            || key.ends_with(".EncDecAttention.relative_attention_bias.weight")
            || (key == "language_model.lm_head.weight" && self.tied_head)
            // HF makes them in this class, saves them, and never reads them.
            || (key == "query_tokens" && self.saved == Class::Blip2TextModelWithProjection)
    }
}

fn missing(source: &dyn Source, reason: String) -> Error {
    Error::File { path: source.name(), reason }
}

fn file_names(source: &dyn Source) -> Result<Vec<String>> {
    const SINGLE: &str = "model.safetensors";
    if source.open(SINGLE)?.is_some() {
        return Ok(vec![SINGLE.into()]);
    }
    let bytes = read_small(source, INDEX_FILE)?.ok_or_else(|| missing(source, format!("holds neither {SINGLE} nor {INDEX_FILE}")))?;
    let index: Value = serde_json::from_slice(&bytes).map_err(|error| Error::config(INDEX_FILE, error))?;
    let map = index["weight_map"].as_object().ok_or_else(|| Error::config(INDEX_FILE, "has no weight_map"))?;
    let name_of = |(key, name): (&String, &Value)| {
        name.as_str().map(str::to_string).ok_or_else(|| Error::config(INDEX_FILE, format!("the file of {key} is no name")))
    };
    let mut names = map.iter().map(name_of).collect::<Result<Vec<_>>>()?;
    names.sort();
    names.dedup();
    match names.iter().find(|name| !is_plain_name(name)) {
        Some(name) => Err(Error::config(INDEX_FILE, format!("{name:?} is not a plain file name"))),
        None => Ok(names),
    }
}
