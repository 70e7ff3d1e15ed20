//! The models of a fixture folder: its checkpoint's, those of its folders, and the same weights under other configs.

use std::collections::BTreeMap;

use crate::device::Device;
use crate::error::{Error, Result};
use crate::models::{Blip2Config, Blip2TextModelWithProjection, Blip2VisionModelWithProjection, Class, plan};
use crate::parity::{Files, RetrievalModels};
use crate::tasks::{Blip2, ImageTextRetrieval};
use crate::weights::index::{INDEX_FILE, Index};
use crate::weights::quant::Quant;
use crate::weights::{Plan, Weights, shard};

/// What the cases of one folder run on.
pub enum Models {
    /// Pictures alone.
    None,
    Generation(Box<GenerationModels>),
    Retrieval(Box<RetrievalModels>),
}

pub struct GenerationModels {
    pub model: Blip2,
    /// The same weights under the configs of the folders `alt_*`, by the folder's name.
    pub alternatives: BTreeMap<String, Blip2>,
}

impl Models {
    /// `weights` fills what a plan asks for from the checkpoint in the folder of this name; the fixture's own is "".
    /// Errors: model-unsupported, config-invalid, tokenizer-invalid, and those of `weights`.
    pub fn load(device: &Device, fixture: &Files, weights: &dyn Fn(&str, Plan) -> Result<Weights>) -> Result<Self> {
        let Some(config) = fixture.get("config.json") else { return Ok(Self::None) };
        let loaded = |folder: &str, config: &[u8]| weights(folder, plan(config)?);
        match Class::of(config)? {
            Class::Blip2ForConditionalGeneration | Class::Blip2Model => {
                let model = Blip2::load(device, fixture, &loaded("", config)?)?;
                let mut alternatives = BTreeMap::new();
                for (folder, config) in configs(fixture).filter(|(folder, _)| folder.starts_with("alt_")) {
                    let mut files = fixture.clone();
                    files.insert("config.json".into(), config.clone());
                    alternatives.insert(folder.into(), Blip2::load(device, &files, &loaded("", config)?)?);
                }
                Ok(Self::Generation(Box::new(GenerationModels { model, alternatives })))
            }
            Class::Blip2ForImageTextRetrieval => {
                let retrieval = ImageTextRetrieval::load(device, fixture, &loaded("", config)?)?;
                let mut models = RetrievalModels::new(retrieval, fixture)?;
                for (folder, config) in configs(fixture).filter(|(folder, _)| !folder.starts_with("alt_")) {
                    let weights = loaded(folder, config)?;
                    let parsed = Blip2Config::from_json(config)?;
                    match Class::of(config)? {
                        Class::Blip2TextModelWithProjection => {
                            models.text = Some(Blip2TextModelWithProjection::load(&parsed, &weights)?);
                        }
                        Class::Blip2VisionModelWithProjection => {
                            models.vision = Some(Blip2VisionModelWithProjection::load(&parsed, &weights)?);
                        }
                        class => return Err(Error::input(folder, format!("no case runs on a {class}"))),
                    }
                }
                Ok(Self::Retrieval(Box::new(models)))
            }
            class => Err(Error::ModelUnsupported { what: class.name().into(), reason: "no fixture folder is of this class alone".into() }),
        }
    }

    pub(super) fn generation(&self) -> Result<&GenerationModels> {
        match self {
            Self::Generation(models) => Ok(models),
            _ => Err(Error::input("reference", "is another kind of model")),
        }
    }

    pub(super) fn retrieval(&self) -> Result<&RetrievalModels> {
        match self {
            Self::Retrieval(models) => Ok(models),
            _ => Err(Error::input("reference", "is another kind of model")),
        }
    }
}

/// The configs of a folder's folders.
fn configs(files: &Files) -> impl Iterator<Item = (&str, &Vec<u8>)> {
    files.iter().filter_map(|(name, bytes)| Some((name.strip_suffix("/config.json")?, bytes)))
}

/// Weights from the files of a model folder as `convert` writes it, or of a folder in it. `dequantized` puts every matrix into
/// f32 first, by the plain unpacking that defines the layouts. Errors: config-invalid, and those of shards.
pub fn converted(device: &Device, model: &Files, folder: &str, plan: Plan, dequantized: bool) -> Result<Weights> {
    let file = |name: &str| {
        let path = if folder.is_empty() { name.to_string() } else { format!("{folder}/{name}") };
        model.get(&path).ok_or_else(|| Error::config(path, "is missing"))
    };
    let index = Index::parse(file(INDEX_FILE)?)?;
    let weights = Weights::new(device, plan);
    for (name, _) in index.shards() {
        match dequantized {
            false => shard::push(&weights, &index, name, file(name)?)?,
            true => shard::push_in(&weights, &index, name, file(name)?, Quant::F32)?,
        }
    }
    Ok(weights)
}
