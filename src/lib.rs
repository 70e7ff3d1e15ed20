//! BLIP-2 on Burn: captions, questions about an image, chat and image-text retrieval, in a browser tab (WebAssembly, WebGPU)
//! and natively. It follows the BLIP-2 of Hugging Face transformers to the token; names here are the names there.
//!
//! The layers import downwards only (`tests/imports.rs` holds them to it; an arrow reads "is used by"):
//! `error, device ← weights ← ops ← layers ← models ← generation ← tasks ← api`. `processor` stands on `error` alone,
//! `delivery` (network and cache) on `error` and `weights`, `convert` and `bench` on `models` and below, `batch` on `tasks` and below.

// [rows, n] in the docs is a shape, not a link.
#![allow(rustdoc::broken_intra_doc_links)]

#[cfg(not(any(feature = "cpu", feature = "webgpu")))]
compile_error!("choose a device: feature `cpu`, feature `webgpu`, or both");

#[cfg(all(target_family = "wasm", not(feature = "convert")))]
pub mod api;
#[cfg(not(target_family = "wasm"))]
pub mod batch;
#[cfg(not(all(target_family = "wasm", feature = "convert")))]
pub mod bench;
#[cfg(any(not(target_family = "wasm"), feature = "convert"))]
pub mod convert;
#[cfg(not(all(target_family = "wasm", feature = "convert")))]
pub mod delivery;
pub mod device;
pub mod error;
#[cfg(not(all(target_family = "wasm", feature = "convert")))]
pub mod generation;
pub mod layers;
pub mod models;
pub mod ops;
pub mod pace;
#[cfg(not(all(target_family = "wasm", feature = "convert")))]
pub mod parity;
#[cfg(not(all(target_family = "wasm", feature = "convert")))]
pub mod processor;
#[cfg(not(all(target_family = "wasm", feature = "convert")))]
pub mod tasks;
pub mod weights;

pub use error::{Error, Result};
