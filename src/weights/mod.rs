//! What a converted model is and how its weights get to the device.

pub mod fit;
#[cfg(not(target_family = "wasm"))]
mod folder;
pub mod index;
mod load;
pub mod panels;
pub mod quant;
#[cfg(any(not(target_family = "wasm"), feature = "convert"))]
pub mod safetensors;
pub mod shard;

#[cfg(not(target_family = "wasm"))]
pub use folder::ModelFolder;
#[cfg(any(not(target_family = "wasm"), feature = "convert"))]
pub(crate) use load::rows_and_columns;
pub use load::{Chunk, Joined, Layout, Matrix, Part, Plan, Request, Role, Weights};
