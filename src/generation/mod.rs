//! From logits to ids: one loop for every target. HF `generate`, transformers 4.57.

mod config;
mod generate;
mod logits_process;

pub use config::{GenerationConfig, Prompt, Settings};
pub use generate::{Finish, Generated, Inputs, generate};
