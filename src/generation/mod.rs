//! From logits to ids: one loop for every target. HF `generate`, transformers 4.57.
//!
//! | file | what it does |
//! |---|---|
//! | `config` | the options of a caller, under HF's names |
//! | `settings` | the same, complete and checked against a model and a prompt |
//! | `generate` | the loop |
//! | `logits_process`, `logits_warpers` | what is done to scores before one is chosen, always and where ids are drawn |
//! | `sampler` | draws that a seed decides |
//! | `beam_search` | several sequences side by side, on the host |
//! | `stopping_criteria` | when a row is finished |

mod beam_search;
mod config;
mod generate;
mod logits_process;
mod logits_warpers;
mod sampler;
mod settings;
mod stopping_criteria;

pub use config::{EarlyStopping, GenerationConfig, Never, StopStrings};
pub use generate::{Generated, Inputs, generate};
pub use settings::{Limits, Settings};
pub use stopping_criteria::{Finish, StopRule, ends_in_stop_string};
