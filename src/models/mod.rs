//! The networks, named as in HF transformers. One implementation each, blind to how a weight is stored and to the device.

mod blip2;
pub mod config;
pub mod qformer;
pub mod text;
pub mod vision;

pub(crate) use blip2::ids_tensor;
pub use blip2::{Blip2Model, ForwardOutput, ImageOutput};
pub use config::{Blip2Config, Blip2QFormerConfig, Blip2VisionConfig, OPTConfig, TextConfig, TokenIds};
pub use qformer::{Blip2QFormerModel, QFormerOutput};
pub use text::LanguageModel;
pub use vision::{Blip2VisionModel, VisionOutput};

use crate::error::{Error, Result};
use crate::weights::{Plan, Weights};

/// The classes of HF whose checkpoints are read, as `architectures` names them. A file without any is taken as the first.
const CLASSES: [&str; 2] = ["Blip2ForConditionalGeneration", "Blip2Model"];

/// Every tensor that the model of this `config.json` asks for, with its shape. Errors: config-invalid, model-unsupported.
pub fn plan(config_json: &[u8]) -> Result<Plan> {
    let config = Blip2Config::from_json(config_json)?;
    if let Some(class) = config.architectures.iter().find(|class| !CLASSES.contains(&class.as_str())) {
        return Err(Error::ModelUnsupported {
            what: class.clone(),
            reason: format!("of BLIP-2's classes there are {}", CLASSES.join(", ")),
        });
    }
    Weights::plan(|weights| Blip2Model::load(&config, weights))
}
