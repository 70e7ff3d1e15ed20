//! y = activation(norm(x)·Wᵀ + b)·gate + residual, with W packed in any `Quant` and dequantized inside the kernel (`Exact`
//! arithmetic: dequantized weights times f32 activations; on the CPU a `Matrix` may ask for integers instead). x [m, in],
//! W [out, in], b [out], gate or residual [m, out] → y [m, out]. One launch a chunk of W.
//!
//! On the GPU there are three ways (`Tuning` says which): with few rows (a decode step, its beams) a workgroup shares the columns of some outputs and
//! reads each weight once, a norm before it riding along; with many rows (an encoding, a prompt) it makes a tile from slices in
//! its memory; or a thread makes 4 outputs of some rows by itself, for software adapters, whom a barrier costs microseconds.

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
        DeviceKind::Webgpu => gpu::linear(x, weight, fused, gpu::Variant::choose(rows, weight.arithmetic, crate::device::tuning())),
        #[allow(unreachable_patterns)]
        kind => Err(Error::kernel("linear", format!("no {kind:?} in this build"))),
    }
}

#[cfg(feature = "webgpu")]
pub(crate) mod gpu {
    use super::*;
    use crate::device::{Adapter, Arithmetic, Tuning};
    use crate::ops::launch::{Kernel, Type, empty, floats, ints, tensor};
    use crate::weights::quant::words_per_row;

    /// How the work is shared out; every one is checked on every device.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub(crate) enum Variant {
        /// A thread, `rows` rows x 4 outputs.
        Threads { rows: usize },
        /// A workgroup, `rows` rows x 16 outputs.
        Few { rows: usize, subgroups: bool },
        /// A workgroup, 64 rows x 64 outputs.
        Tiles { half: bool },
    }

    /// Rows and outputs of a workgroup's tile.
    const TILE: usize = 64;
    /// Threads and outputs of a workgroup of `Few`.
    const FEW_THREADS: u32 = 128;
    const FEW_OUTPUTS: usize = 16;

    impl Variant {
        /// All that compute exactly and that the adapter has what is needed for.
        pub(crate) fn exact(adapter: &Adapter) -> Vec<Self> {
            let mut all = vec![Self::Tiles { half: false }];
            for rows in [1, 4, 8] {
                all.extend([Self::Threads { rows }, Self::Few { rows, subgroups: false }]);
                if adapter.subgroups {
                    all.push(Self::Few { rows, subgroups: true });
                }
            }
            all
        }

        pub(crate) fn choose(rows: usize, arithmetic: Arithmetic, tuning: Tuning) -> Self {
            let at_once = match rows {
                1 => 1,
                // Beams, several to a prompt: in a multiple of 8 they read weights least.
                5..=64 => 8,
                _ => 4,
            };
            match rows {
                // A tile of a few rows would be mostly empty.
                1..=16 if tuning.shared_columns => Self::Few { rows: at_once, subgroups: tuning.subgroups },
                17.. if tuning.product_tiles => Self::Tiles { half: arithmetic == Arithmetic::Half },
                _ => Self::Threads { rows: at_once },
            }
        }

        fn rows(self) -> usize {
            match self {
                Self::Threads { rows } | Self::Few { rows, .. } => rows,
                Self::Tiles { .. } => TILE,
            }
        }

        fn outputs(self) -> usize {
            match self {
                Self::Few { .. } => FEW_OUTPUTS,
                Self::Threads { .. } => 4,
                Self::Tiles { .. } => TILE,
            }
        }

        fn groups(self, m: usize, outputs: usize) -> usize {
            let tiles = m.div_ceil(self.rows()) * outputs.div_ceil(self.outputs());
            if let Self::Threads { .. } = self { tiles.div_ceil(64) } else { tiles }
        }

        /// Its WGSL for weights that are read in fours, or not.
        fn kernel(self, wide: bool) -> Kernel {
            match self {
                Self::Threads { .. } => Kernel::new("linear_threads", source!("words.wgsl", "linear_threads.wgsl")),
                Self::Few { subgroups, .. } => {
                    let wgsl = if wide { source!("words4.wgsl", "linear_few.wgsl") } else { source!("words.wgsl", "linear_few.wgsl") };
                    Kernel::new("linear_few", wgsl).together(subgroups).workgroup(FEW_THREADS)
                }
                Self::Tiles { half } => Kernel::new("linear_tiles", source!("words.wgsl", "linear_tiles.wgsl")).workgroup(256).half(half),
            }
        }
    }

    /// The WGSL of one way, with what all of them need.
    macro_rules! source {
        ($words:literal, $own:literal) => {
            concat!(include_str!("activation.wgsl"), include_str!($words), include_str!("linear.wgsl"), include_str!($own))
        };
    }
    use source;

    pub(crate) fn linear(x: &Tensor<2>, weight: &Matrix, fused: Fused, variant: Variant) -> Result<Tensor<2>> {
        let m = x.dims()[0];
        // Only where few rows are shared out does a norm ride along.
        let (norm, before) = match (fused.norm, variant) {
            (Some(norm), Variant::Few { .. }) => (Some(norm), None),
            (norm, _) => (None, norm.map(|norm| norm.of(x)).transpose()?),
        };
        let x = floats(before.as_ref().unwrap_or(x))?;
        let bias = fused.bias.map(floats).transpose()?;
        let other = fused.residual.or(fused.gate).map(floats).transpose()?;
        let y = empty(&x, [m, weight.rows], burn_tensor::DType::F32);
        let row_words = words_per_row(weight.quant, weight.columns);
        let wide = matches!(variant, Variant::Few { .. }) && row_words.is_multiple_of(4);
        for chunk in &weight.chunks {
            let outputs = chunk.rows.len();
            let mut kernel = variant
                .kernel(wide)
                .constant("ROWS", variant.rows() as u32)
                .constant("QUANT", weight.quant as u32)
                .constant("ACTIVATION", fused.activation as u32)
                .constant("BIAS", bias.is_some().into())
                .constant("RESIDUAL", fused.residual.is_some().into())
                .constant("GATE", fused.gate.is_some().into())
                .constant("NORM", norm.map_or(0, |norm| if norm.beta.is_some() { 1 } else { 2 }))
                .buffer("x", Type::F32, &x)
                .weights("words", if wide { Type::U32x4 } else { Type::U32 }, &ints(&chunk.words)?, m.div_ceil(variant.rows()))
                .buffer("y", Type::F32, &y)
                .work([m, outputs, weight.columns].iter().map(|size| *size as u64).product());
            let beta = norm.and_then(|norm| norm.beta).map(floats).transpose()?;
            let gamma = norm.map(|norm| floats(norm.gamma)).transpose()?;
            for (name, tensor) in [("bias", &bias), ("other", &other), ("gamma", &gamma), ("beta", &beta)] {
                kernel = match tensor {
                    Some(tensor) => kernel.buffer(name, Type::F32, tensor),
                    None => kernel.absent(name),
                };
            }
            let eps = norm.map_or(0.0, |norm| norm.eps as f32);
            kernel
                .info([m, weight.columns, weight.rows, chunk.rows.start, outputs, row_words])
                .info([eps.to_bits() as usize])
                .launch(variant.groups(m, outputs))?;
        }
        Ok(tensor(y))
    }
}
