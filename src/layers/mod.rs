//! The parts that every model is made of. Inside, activations are [rows, width]: batch and positions are one dimension.

mod kv_cache;
mod linear;
mod mlp;
mod norm;
mod pieces;

pub use kv_cache::KvCache;
pub use linear::{Embedding, Linear};
pub use mlp::Mlp;
pub use norm::{LayerNorm, RmsNorm};
pub use pieces::in_pieces;
