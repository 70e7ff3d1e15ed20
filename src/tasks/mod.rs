//! The classes that a user names.

mod any_model;
mod attention;
mod captioner;
mod conditional_generation;
mod hidden_states;
mod image_text_retrieval;

pub use any_model::{AnyModel, Arguments, Output, Plain, Task};
pub use attention::AttentionMap;
pub use captioner::{Answer, Blip2, Candidate, ImageFeatures, Timings};
pub use conditional_generation::{Blip2ForConditionalGeneration, ConditionalOutput, ForwardInputs, GenerateInputs, cross_entropy};
pub use image_text_retrieval::{ImageTextRetrieval, Ranked, RetrievalImage, match_probability};
