//! Model folders from the network or the cache to `weights`.
//!
//! `load` is the way of a whole model; it asks `cache` first, then `fetch`. Everything of a browser is behind two small
//! traits, `fetch::Network` and `storage::Storage`, so all that is decided here is decided natively too.

pub mod address;
#[cfg(target_family = "wasm")]
pub mod browser;
pub mod cache;
mod concurrency;
#[cfg(target_family = "wasm")]
pub mod custom_storage;
pub mod fetch;
#[cfg(target_family = "wasm")]
pub mod indexed_db;
mod integrity;
mod lanes;
mod load;
#[cfg(target_family = "wasm")]
mod locks;
pub mod progress;
pub mod storage;
#[cfg(test)]
mod testing;

pub use cache::Hold;
pub use lanes::{First, race};
pub use load::{Inspection, LoadOptions, Loaded, Receiver, Source, inspect, load_files, load_model};
