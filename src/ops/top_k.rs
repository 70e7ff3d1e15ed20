//! The likeliest few, where the logits are: what sampling with `top_k` reads instead of a whole row of the vocabulary.

use burn_tensor::{Int, Tensor};

use crate::device::DeviceKind;
use crate::error::{Error, Result};
use crate::ops::device_kind;

/// The largest k: the kernel finds one after the other.
pub const MAX_TOP_K: usize = 128;

/// logits [rows, n] → the k highest of each row and their places, [rows, k] each, the highest first, of equal ones the one with the
/// lowest place. Errors: kernel unless 1 ≤ k ≤ n and k ≤ `MAX_TOP_K`.
pub fn top_k(logits: &Tensor<2>, k: usize) -> Result<(Tensor<2>, Tensor<2, Int>)> {
    let [rows, width] = logits.dims();
    if k == 0 || k > width.min(MAX_TOP_K) {
        return Err(Error::kernel("top_k", format!("{k} of {width}")));
    }
    match device_kind(logits) {
        #[cfg(feature = "cpu")]
        DeviceKind::Cpu => {
            let logits = crate::ops::cpu::floats(logits)?;
            let (mut values, mut places) = (vec![], vec![]);
            for row in logits.floats().chunks_exact(width) {
                for place in reference(row, k) {
                    values.push(row[place]);
                    places.push(place as i32);
                }
            }
            let device = burn_tensor::Device::flex();
            let places = Tensor::from_data(burn_tensor::TensorData::new(places, [rows, k]), &device);
            Ok((Tensor::from_data(burn_tensor::TensorData::new(values, [rows, k]), &device), places))
        }
        #[cfg(feature = "webgpu")]
        DeviceKind::Webgpu => gpu::top_k(logits, k),
        #[allow(unreachable_patterns)]
        kind => Err(Error::kernel("top_k", format!("{rows} rows: no {kind:?} in this build"))),
    }
}

/// The places of the k highest, the highest first.
pub(super) fn reference(row: &[f32], k: usize) -> Vec<usize> {
    let mut places: Vec<usize> = (0..row.len()).collect();
    places.sort_by(|a, b| row[*b].total_cmp(&row[*a]).then(a.cmp(b)));
    places.truncate(k);
    places
}

#[cfg(feature = "webgpu")]
mod gpu {
    use super::*;
    use crate::ops::launch::{Kernel, Type, empty, floats, tensor};

    const THREADS: u32 = 256;
    /// Values of a workgroup: eight a thread.
    const PIECE: usize = 8 * THREADS as usize;

    pub(super) fn top_k(logits: &Tensor<2>, k: usize) -> Result<(Tensor<2>, Tensor<2, Int>)> {
        let [rows, mut width] = logits.dims();
        let mut values = floats(logits)?;
        let mut places = None;
        loop {
            let pieces = width.div_ceil(PIECE);
            let found = empty(&values, [rows, pieces * k], burn_tensor::DType::F32);
            let best = empty(&values, [rows, pieces * k], burn_tensor::DType::I32);
            let kernel = Kernel::new("top_k", include_str!("top_k.wgsl"))
                .workgroup(THREADS)
                .constant("K", k as u32)
                .constant("LAST", places.is_some().into())
                .buffer("logits", Type::F32, &values)
                .buffer("found", Type::F32, &found)
                .buffer("best", Type::I32, &best);
            let kernel = match &places {
                Some(places) => kernel.buffer("places_found", Type::I32, places),
                None => kernel.absent("places_found"),
            };
            kernel.info([width, pieces]).launch(rows * pieces)?;
            if pieces == 1 {
                return Ok((tensor(found), Tensor::from_primitive::<burn_wgpu::Wgpu>(best)));
            }
            (values, places, width) = (found, Some(best), pieces * k);
        }
    }
}
