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

    /// x [rows, width] → the same shape. Errors: kernel when shapes disagree.
    pub fn of(&self, x: &Tensor<2>) -> Result<Tensor<2>> {
        norm(x, self.gamma, self.beta, self.eps)
    }
}

/// See the module. Errors: kernel when shapes disagree.
pub fn layer_norm(x: &Tensor<2>, gamma: &Tensor<1>, beta: &Tensor<1>, eps: f64) -> Result<Tensor<2>> {
    norm(x, gamma, Some(beta), eps)
}

/// See the module. Errors: kernel when shapes disagree.
pub fn rms_norm(x: &Tensor<2>, gamma: &Tensor<1>, eps: f64) -> Result<Tensor<2>> {
    norm(x, gamma, None, eps)
}

/// With `beta` around the mean, without it around zero.
fn norm(x: &Tensor<2>, gamma: &Tensor<1>, beta: Option<&Tensor<1>>, eps: f64) -> Result<Tensor<2>> {
    let [rows, width] = x.dims();
    if gamma.dims() != [width] || beta.is_some_and(|beta| beta.dims() != [width]) || width == 0 {
        let beta = beta.map(|beta| beta.dims());
        return Err(Error::kernel("norm", format!("x {:?}, gamma {:?}, beta {beta:?}", x.dims(), gamma.dims())));
    }
    match device_kind(x) {
        #[cfg(feature = "cpu")]
        DeviceKind::Cpu => {
            use crate::ops::cpu::norm::normalize;
            use crate::ops::cpu::{filled, floats};
            let (x, gamma, beta) = (floats(x)?, floats(gamma)?, beta.map(floats).transpose()?);
            let beta = beta.as_ref().map(|beta| beta.floats());
            filled([rows, width], |y| {
                for (x, y) in x.floats().chunks_exact(width).zip(y.chunks_exact_mut(width)) {
                    normalize(x, gamma.floats(), beta, eps as f32, y);
                }
                Ok(())
            })
        }
        #[cfg(feature = "webgpu")]
        DeviceKind::Webgpu => {
            use crate::ops::launch::{Kernel, Type, empty, floats, tensor};
            let (x, gamma) = (floats(x)?, floats(gamma)?);
            let y = empty(&x, [rows, width], burn_tensor::DType::F32);
            let kernel = Kernel::new("norm", include_str!("norm.wgsl"))
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
        #[allow(unreachable_patterns)]
        kind => Err(Error::kernel("norm", format!("no {kind:?} in this build"))),
    }
}
