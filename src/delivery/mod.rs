//! Model folders from the network or the cache to `weights`.

pub mod address;
#[cfg(target_family = "wasm")]
pub mod browser;
pub mod cache;
pub mod fetch;
#[cfg(target_family = "wasm")]
pub mod indexed_db;
mod lanes;
pub mod progress;
pub mod storage;
#[cfg(test)]
mod testing;
