//! The classes that a user names.

mod conditional_generation;

pub use conditional_generation::{Blip2ForConditionalGeneration, GenerateInputs, cross_entropy};
