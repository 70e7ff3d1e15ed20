//! The few fused operations that the models need. Each chooses by the device its tensors are on: a WGSL kernel, or loops
//! over flex's memory that become SIMD. `checks` holds each to plain loops, natively and in the browser.
//!
//! | operation | launches | what it does |
//! |---|---|---|
//! | `linear` | 1 a chunk | activation(norm(x)·Wᵀ + b)·gate + residual, W packed in any `Quant` |
//! | `embedding` | 1 a chunk | rows of a packed matrix by id, plus a tensor |
//! | `Norm::of` | 1 | a LayerNorm or an RMSNorm, statistics in f32 |
//! | `attention` | 1 | softmax(q·kᵀ·scale + bias)·v without a score matrix in memory |
//! | `attention_weights` | T/head_dim | that score matrix, where a caller asks for it |
//! | `cached_attention` | 1, 2 of a prompt or where workgroups share a long cache | takes the newest keys and values into a decoder's cache and attends to all, through its `state` |
//! | `argmax`, `advance` | 1 (2 of many logits on a GPU), 1 | the greedy choice, and the state's step |
//! | `top_k` | 2 of a vocabulary | the likeliest few, for sampling |
//! | `reorder` | 1 | beams go on from each other's caches |

pub mod activation;
pub mod argmax;
pub mod attention;
pub mod attention_weights;
pub mod cache;
pub mod cached_attention;
pub mod capture;
pub mod checks;
#[cfg(feature = "cpu")]
pub(crate) mod cpu;
pub mod embedding;
pub mod launch;
pub mod linear;
pub mod norm;
pub mod reading;
pub mod state;
pub mod top_k;
#[cfg(feature = "webgpu")]
pub mod tune;

pub use activation::Activation;
pub use argmax::argmax;
pub use attention::{Bias, DistanceBias, Heads, Rows, attention};
pub use attention_weights::attention_weights;
pub use cache::Cache;
pub use cached_attention::cached_attention;
pub use capture::Recorder;
pub use embedding::embedding;
pub use linear::{Fused, linear};
pub use norm::Norm;
pub use reading::{Reading, read_floats, read_ints, start_reading};

pub use state::{StepState, advance, reorder};
pub use top_k::{MAX_TOP_K, top_k};

use burn_tensor::Tensor;

use crate::device::DeviceKind;

/// Where a tensor lives. With one backend built in, the answer is a constant.
pub(crate) fn device_kind<const D: usize, K: burn_tensor::kind::Basic>(tensor: &Tensor<D, K>) -> DeviceKind {
    #[cfg(all(feature = "cpu", feature = "webgpu"))]
    return if tensor.device() == burn_tensor::Device::flex() { DeviceKind::Cpu } else { DeviceKind::Webgpu };
    #[cfg(not(all(feature = "cpu", feature = "webgpu")))]
    {
        let _ = tensor;
        if cfg!(feature = "cpu") { DeviceKind::Cpu } else { DeviceKind::Webgpu }
    }
}
