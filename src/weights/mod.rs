//! What a converted model is and how its weights get to the device.

pub mod index;
mod load;
pub mod quant;
pub mod safetensors;
pub mod shard;

pub use load::{Chunk, Matrix, Part, Plan, Request, Role, Weights};
