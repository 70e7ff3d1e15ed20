//! The few fused operations that the models need. Each chooses by the device its tensors are on: a WGSL kernel, or loops
//! over flex's memory that become SIMD. `checks` holds each to plain loops, natively and in the browser.
//!
//! | operation | launches | what it does |
//! |---|---|---|
//! | `linear` | 1 a chunk | activation(norm(x)·Wᵀ + b)·gate + residual, W packed in any `Quant` |
//! | `embedding` | 1 a chunk | rows of a packed matrix by id, plus a tensor |
//! | `layer_norm`, `rms_norm` | 1 | statistics in f32 |
//! | `attention` | 1 | softmax(q·kᵀ·scale + bias)·v without a score matrix in memory |
//! | `attention_weights` | T/head_dim | that score matrix, where a caller asks for it |
//! | `cached_attention` | 2 | takes the newest keys and values into a decoder's cache and attends to all, through its `state` |
//! | `argmax`, `advance` | 1, 1 | the greedy choice, and the state's step |
//! | `reorder` | 1 | beams go on from each other's caches |

pub mod activation;
pub mod attention;
pub mod attention_weights;
pub mod cached_attention;
pub mod capture;
pub mod checks;
#[cfg(feature = "cpu")]
pub(crate) mod cpu;
pub mod embedding;
pub mod launch;
pub mod linear;
pub mod norm;
pub mod state;

pub use activation::Activation;
pub use attention::{Bias, DistanceBias, Heads, Rows, attention};
pub use attention_weights::attention_weights;
pub use cached_attention::cached_attention;
pub use capture::Recorder;
pub use embedding::embedding;
pub use linear::{Fused, linear};
pub use norm::{Norm, layer_norm, rms_norm};
pub use state::{StepState, advance, argmax, reorder};

use std::pin::Pin;

use burn_tensor::{Int, Tensor};

use crate::device::DeviceKind;
use crate::error::{Error, Result};
#[cfg(feature = "webgpu")]
use crate::pace::at_once;

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

/// Reads a tensor back, without blocking the browser. Errors: device-lost, kernel.
pub async fn read_floats<const D: usize>(tensor: Tensor<D>) -> Result<Vec<f32>> {
    let data = tensor.into_data_async().await;
    read(data, |data| data.try_to_vec::<f32>().map_err(|error| format!("{error:?}")))
}

/// Reads integers back, without blocking the browser. Errors: device-lost, kernel.
pub async fn read_ints<const D: usize>(tensor: Tensor<D, Int>) -> Result<Vec<i32>> {
    start_reading(tensor)?.await
}

/// Values on their way.
pub type Reading = Pin<Box<dyn Future<Output = Result<Vec<i32>>>>>;

/// The same as two steps: what is queued after this call does not change what is read.
pub fn start_reading<const D: usize>(tensor: Tensor<D, Int>) -> Result<Reading> {
    #[cfg(feature = "webgpu")]
    if device_kind(&tensor) == DeviceKind::Webgpu {
        let tensor = launch::ints(&tensor)?;
        launch::count_readback();
        let mut reading: Reading = Box::pin(async move {
            let bytes = tensor.client.read_async(vec![tensor.handle.clone()]);
            let bytes = bytes.await.map_err(|error| failed_read(format!("{error:?}")))?;
            if let Some(message) = crate::device::take_gpu_error() {
                return Err(Error::kernel("gpu", message));
            }
            let bytes = bytes.first().map_or(&[][..], |bytes| &bytes[..]);
            Ok(bytes.as_chunks().0.iter().map(|word| i32::from_le_bytes(*word)).collect())
        });
        // Polled once, it is queued; whoever waits for it polls again.
        return Ok(match at_once(&mut reading) {
            Some(values) => Box::pin(std::future::ready(values)),
            None => reading,
        });
    }
    let data = tensor.into_data();
    let values = read(Ok::<_, ()>(data), |data| data.try_to_vec::<i32>().map_err(|error| format!("{error:?}")));
    Ok(Box::pin(std::future::ready(values)))
}

/// The runtime poisons its reads when the device is gone, which is how a loss is noticed, and also when a kernel before
/// them was refused.
fn failed_read(reason: String) -> Error {
    let refused = ["compilation", "Validation", "launch error"].iter().any(|word| reason.contains(word));
    if refused { Error::kernel("gpu", reason) } else { Error::DeviceLost { reason } }
}

fn read<T, E: std::fmt::Debug>(
    data: Result<burn_tensor::TensorData, E>,
    values: impl FnOnce(burn_tensor::TensorData) -> Result<T, String>,
) -> Result<T> {
    launch::count_readback();
    let data = data.map_err(|error| failed_read(format!("{error:?}")))?;
    if let Some(message) = crate::device::take_gpu_error() {
        return Err(Error::kernel("gpu", message));
    }
    values(data).map_err(|reason| Error::kernel("read", reason))
}
