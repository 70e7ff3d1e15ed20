//! y = activation(norm(x)·Wᵀ + b)·gate + residual, with W packed in any `Quant` and dequantized inside the kernel (`Exact`
//! arithmetic: dequantized weights times f32 activations; on the CPU a `Matrix` may ask for integers instead). x [m, in], W [out, in], b [out], gate or residual [m, out] → y [m, out].
//! One launch a chunk of W.
//!
//! On the GPU a thread makes 4 x 4 outputs where there are many rows; with few rows (a decode step) a workgroup shares the
//! columns of one output. Up to 8 rows (beams) read each weight once. Software adapters take threads always: a barrier costs
//! them microseconds.

use burn_tensor::Tensor;

use crate::device::DeviceKind;
use crate::error::{Error, Result};
use crate::ops::norm::Norm;
use crate::ops::{Activation, device_kind};
use crate::weights::Matrix;

/// What rides along with a product.
#[derive(Clone, Copy, Default)]
pub struct Fused<'a> {
    /// Comes before it.
    pub norm: Option<Norm<'a>>,
    pub bias: Option<&'a Tensor<1>>,
    pub activation: Activation,
    pub residual: Option<&'a Tensor<2>>,
    /// Multiplies what the activation gave; not together with a residual.
    pub gate: Option<&'a Tensor<2>>,
}

/// See the module. Errors: input-invalid when shapes disagree.
pub fn linear(x: &Tensor<2>, weight: &Matrix, fused: Fused) -> Result<Tensor<2>> {
    let [rows, columns] = x.dims();
    let shape = [rows, weight.rows];
    let bias_fits = fused.bias.is_none_or(|bias| bias.dims() == [weight.rows]);
    let other_fits = match (fused.residual, fused.gate) {
        (Some(other), None) | (None, Some(other)) => other.dims() == shape,
        (None, None) => true,
        (Some(_), Some(_)) => false,
    };
    if columns != weight.columns || !bias_fits || !other_fits || fused.norm.is_some_and(|norm| !norm.fits(columns)) {
        return Err(Error::kernel(
            "linear",
            format!("x {:?}, weight {:?}, bias {:?}", x.dims(), [weight.rows, weight.columns], fused.bias.map(|bias| bias.dims())),
        ));
    }
    match device_kind(x) {
        #[cfg(feature = "cpu")]
        DeviceKind::Cpu => crate::ops::cpu::linear::linear(x, weight, fused),
        #[cfg(feature = "webgpu")]
        DeviceKind::Webgpu => {
            let normed = fused.norm.map(|norm| norm.of(x)).transpose()?;
            gpu::linear(normed.as_ref().unwrap_or(x), weight, fused, gpu::Variant::choose(rows))
        }
        #[allow(unreachable_patterns)]
        kind => Err(Error::kernel("linear", format!("no {kind:?} in this build"))),
    }
}

#[cfg(feature = "webgpu")]
pub(crate) mod gpu {
    use super::*;
    use crate::device::software_adapter;
    use crate::ops::launch::{Kernel, Type, empty, floats, ints, tensor};
    use crate::weights::quant::words_per_row;

    /// How the work is shared out; every one is checked on every device.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub(crate) enum Variant {
        /// A thread, `rows` rows x 4 outputs.
        Tile { rows: usize },
        /// A workgroup, `rows` rows x 1 output.
        Workgroup { rows: usize },
    }

    impl Variant {
        pub(crate) const ALL: [Self; 6] = [
            Self::Tile { rows: 1 },
            Self::Tile { rows: 4 },
            Self::Tile { rows: 8 },
            Self::Workgroup { rows: 1 },
            Self::Workgroup { rows: 4 },
            Self::Workgroup { rows: 8 },
        ];

        pub(crate) fn choose(rows: usize) -> Self {
            let tile = match rows {
                1 => 1,
                // Beams, several to a prompt: in a multiple of 8 they read weights least.
                5..=64 => 8,
                _ => 4,
            };
            match rows {
                1..=8 if !software_adapter() => Self::Workgroup { rows: tile },
                _ => Self::Tile { rows: tile },
            }
        }
    }

    pub(crate) fn linear(x: &Tensor<2>, weight: &Matrix, fused: Fused, variant: Variant) -> Result<Tensor<2>> {
        let m = x.dims()[0];
        let x = floats(x)?;
        let bias = fused.bias.map(floats).transpose()?;
        let other = fused.residual.or(fused.gate).map(floats).transpose()?;
        let y = empty(&x, [m, weight.rows], burn_tensor::DType::F32);
        let (kind, rows) = match variant {
            Variant::Tile { rows } => (0, rows),
            Variant::Workgroup { rows } => (1, rows),
        };
        for chunk in &weight.chunks {
            let outputs = chunk.rows.len();
            let groups = match variant {
                Variant::Tile { .. } => (m.div_ceil(rows) * outputs.div_ceil(4)).div_ceil(64),
                Variant::Workgroup { .. } => m.div_ceil(rows) * outputs,
            };
            let mut kernel = Kernel::new("linear", concat!(include_str!("activation.wgsl"), include_str!("linear.wgsl")))
                .constant("VARIANT", kind)
                .constant("ROWS", rows as u32)
                .constant("QUANT", weight.quant as u32)
                .constant("ACTIVATION", fused.activation as u32)
                .constant("BIAS", bias.is_some().into())
                .constant("RESIDUAL", fused.residual.is_some().into())
                .constant("GATE", fused.gate.is_some().into())
                .buffer("x", Type::F32, &x)
                .weights("words", &ints(&chunk.words)?, m.div_ceil(rows))
                .buffer("y", Type::F32, &y);
            kernel = match &bias {
                Some(bias) => kernel.buffer("bias", Type::F32, bias),
                None => kernel.absent("bias"),
            };
            kernel = match &other {
                Some(other) => kernel.buffer("other", Type::F32, other),
                None => kernel.absent("other"),
            };
            kernel
                .info([m, weight.columns, weight.rows, chunk.rows.start, outputs, words_per_row(weight.quant, weight.columns)])
                .launch(groups)?;
        }
        Ok(tensor(y))
    }
}
