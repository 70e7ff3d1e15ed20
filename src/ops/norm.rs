//! Norms over the last dimension, statistics in f32, one launch, a workgroup a row. x [rows, h], gamma and beta [h] → [rows, h].
//! LayerNorm: (x − mean)/√(variance + eps)·gamma + beta, biased variance. RMSNorm, which T5 calls its LayerNorm:
//! x/√(mean of x² + eps)·gamma.

use burn_tensor::Tensor;

use crate::device::DeviceKind;
use crate::error::{Error, Result};
use crate::ops::device_kind;

/// A norm and its weights, [width] each.
#[derive(Clone, Copy)]
pub struct Norm<'a> {
    pub gamma: &'a Tensor<1>,
    /// Of a LayerNorm; without it, it is an RMSNorm.
    pub beta: Option<&'a Tensor<1>>,
    pub eps: f64,
}

impl Norm<'_> {
    pub(super) fn fits(&self, width: usize) -> bool {
        self.gamma.dims() == [width] && self.beta.is_none_or(|beta| beta.dims() == [width])
    }

    /// See the module. Errors: kernel when shapes disagree.
    pub fn of(self, x: &Tensor<2>) -> Result<Tensor<2>> {
        let shape @ [_, width] = x.dims();
        if !self.fits(width) || width == 0 {
            let (gamma, beta) = (self.gamma.dims(), self.beta.map(|beta| beta.dims()));
            return Err(Error::kernel("norm", format!("x {shape:?}, gamma {gamma:?}, beta {beta:?}")));
        }
        match device_kind(x) {
            #[cfg(feature = "cpu")]
            DeviceKind::Cpu => {
                use crate::ops::cpu::norm::normalize;
                use crate::ops::cpu::{filled, floats};
                let (x, gamma, beta) = (floats(x)?, floats(self.gamma)?, self.beta.map(floats).transpose()?);
                let beta = beta.as_ref().map(|beta| beta.floats());
                filled(shape, |y| {
                    for (x, y) in x.floats().chunks_exact(width).zip(y.chunks_exact_mut(width)) {
                        normalize(x, gamma.floats(), beta, self.eps as f32, y);
                    }
                    Ok(())
                })
            }
            #[cfg(feature = "webgpu")]
            DeviceKind::Webgpu => gpu::norm(x, self, crate::device::tuning().subgroups),
            #[allow(unreachable_patterns)]
            kind => Err(Error::kernel("norm", format!("no {kind:?} in this build"))),
        }
    }
}

#[cfg(feature = "webgpu")]
pub(crate) mod gpu {
    use super::*;
    use crate::ops::launch::{Kernel, Type, empty, floats, tensor};

    pub(crate) fn norm(x: &Tensor<2>, Norm { gamma, beta, eps }: Norm, subgroups: bool) -> Result<Tensor<2>> {
        let [rows, width] = x.dims();
        let (x, gamma) = (floats(x)?, floats(gamma)?);
        let y = empty(&x, [rows, width], burn_tensor::DType::F32);
        let kernel = Kernel::new("norm", include_str!("norm.wgsl"))
            .together(subgroups)
            .constant("CENTRED", beta.is_some().into())
            .buffer("x", Type::F32, &x)
            .buffer("gamma", Type::F32, &gamma)
            .buffer("y", Type::F32, &y);
        let kernel = match beta {
            Some(beta) => kernel.buffer("beta", Type::F32, &floats(beta)?),
            None => kernel.absent("beta"),
        };
        kernel.info([width, (eps as f32).to_bits() as usize]).launch(rows)?;
        Ok(tensor(y))
    }
}
