//! The classes that a user names.

mod captioner;
mod conditional_generation;

pub use captioner::{Answer, Blip2, ImageFeatures, Timings};
pub use conditional_generation::{Blip2ForConditionalGeneration, GenerateInputs, cross_entropy};
