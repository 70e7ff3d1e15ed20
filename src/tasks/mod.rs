//! The classes that a user names.

mod any_model;
mod attention;
mod captioner;
mod conditional_generation;
mod hidden_states;
mod image_features;
mod image_text_retrieval;

#[cfg(not(target_family = "wasm"))]
use crate::{
    device::Device,
    error::Result,
    models::{Class, config_json, plan_class},
    weights::{ModelFolder, Weights},
};

pub use any_model::{AnyModel, Arguments, Output, Plain, Task, There};
pub use attention::AttentionMap;
pub use captioner::{Answer, Blip2, Candidate, Timings};
pub(crate) use conditional_generation::ones;
pub use conditional_generation::{Blip2ForConditionalGeneration, ConditionalOutput, ForwardInputs, GenerateInputs, cross_entropy};
pub use image_features::{ImageFeatures, PictureEncoder};
pub use image_text_retrieval::{ImageTextRetrieval, Ranked, RetrievalImage, match_probability};

/// A model folder on disk: its small files by name, and the weights that this class needs of it.
#[cfg(not(target_family = "wasm"))]
fn open(
    device: &Device,
    folder: impl AsRef<std::path::Path>,
    class: Class,
) -> Result<(std::collections::BTreeMap<String, Vec<u8>>, Weights)> {
    let folder = ModelFolder::open(folder)?;
    let weights = folder.weights(device, plan_class(class, config_json(&folder.files)?)?)?;
    Ok((folder.files, weights))
}
