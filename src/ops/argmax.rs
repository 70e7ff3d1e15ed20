//! The greedy choice, where the logits are.

use burn_tensor::{Int, Tensor};

use crate::device::DeviceKind;
use crate::error::{Error, Result};
use crate::ops::device_kind;

/// The place of the largest of each row of logits [rows, n]; the lowest on ties.
pub fn argmax(logits: &Tensor<2>) -> Result<Tensor<1, Int>> {
    let width = logits.dims()[1];
    match device_kind(logits) {
        #[cfg(feature = "cpu")]
        DeviceKind::Cpu => {
            let values = crate::ops::cpu::floats(logits)?;
            let best: Vec<i32> = values.floats().chunks_exact(width).map(|row| highest(row) as i32).collect();
            Ok(Tensor::from_data(burn_tensor::TensorData::from(best.as_slice()), &logits.device()))
        }
        #[cfg(feature = "webgpu")]
        DeviceKind::Webgpu => gpu::argmax(logits, gpu::pieces(width, crate::device::tuning())),
        #[allow(unreachable_patterns)]
        kind => Err(Error::kernel("argmax", format!("no {kind:?} in this build"))),
    }
}

/// The lowest place of the highest value.
pub(crate) fn highest(values: &[f32]) -> usize {
    let mut best = 0;
    for (place, value) in values.iter().enumerate() {
        if *value > values[best] {
            best = place;
        }
    }
    best
}

#[cfg(feature = "webgpu")]
pub(crate) mod gpu {
    use super::*;
    use crate::device::Tuning;
    use crate::ops::launch::{Kernel, Type, empty, floats};

    /// Logits that are worth a workgroup of their own.
    const PIECE: usize = 4096;

    /// Workgroups that share a row.
    pub(crate) fn pieces(width: usize, tuning: Tuning) -> usize {
        if tuning.split { width.div_ceil(PIECE).max(1) } else { 1 }
    }

    pub(crate) fn argmax(logits: &Tensor<2>, pieces: usize) -> Result<Tensor<1, Int>> {
        let [rows, width] = logits.dims();
        let logits = floats(logits)?;
        let places = |count: usize| empty(&logits, [count], burn_tensor::DType::I32);
        let values = |count: usize| empty(&logits, [count], burn_tensor::DType::F32);
        let kernel = |last: bool| Kernel::new("argmax", include_str!("argmax.wgsl")).workgroup(256).constant("LAST", last.into());
        let (found, best) = (values(rows * pieces), places(rows * pieces));
        let of_pieces =
            kernel(false).buffer("logits", Type::F32, &logits).buffer("best", Type::I32, &best).buffer("found", Type::F32, &found);
        of_pieces.absent("places_found").info([width, pieces]).launch(rows * pieces)?;
        if pieces == 1 {
            return Ok(Tensor::from_primitive::<burn_wgpu::Wgpu>(best));
        }
        let chosen = places(rows);
        kernel(true)
            .buffer("logits", Type::F32, &found)
            .buffer("best", Type::I32, &chosen)
            .buffer("found", Type::F32, &values(rows))
            .buffer("places_found", Type::I32, &best)
            .info([pieces, 1])
            .launch(rows)?;
        Ok(Tensor::from_primitive::<burn_wgpu::Wgpu>(chosen))
    }
}
