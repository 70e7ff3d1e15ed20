//! LayerNorm over the last dimension: (x − mean)/√(variance + eps)·gamma + beta, biased variance, statistics in f32.
//! x [rows, h], gamma and beta [h] → y [rows, h]. One launch, a workgroup a row.

use burn_tensor::Tensor;

use crate::device::DeviceKind;
use crate::error::{Error, Result};
use crate::ops::device_kind;

/// See the module. Errors: kernel when shapes disagree.
pub fn layer_norm(x: &Tensor<2>, gamma: &Tensor<1>, beta: &Tensor<1>, eps: f64) -> Result<Tensor<2>> {
    let [rows, width] = x.dims();
    if gamma.dims() != [width] || beta.dims() != [width] || width == 0 {
        return Err(Error::kernel("layer_norm", format!("x {:?}, gamma {:?}, beta {:?}", x.dims(), gamma.dims(), beta.dims())));
    }
    match device_kind(x) {
        #[cfg(feature = "cpu")]
        DeviceKind::Cpu => {
            use crate::ops::cpu::{filled, floats};
            let (x, gamma, beta) = (floats(x)?, floats(gamma)?, floats(beta)?);
            filled([rows, width], |y| {
                for (x, y) in x.floats().chunks_exact(width).zip(y.chunks_exact_mut(width)) {
                    normalize(x, gamma.floats(), beta.floats(), eps as f32, y);
                }
                Ok(())
            })
        }
        #[cfg(feature = "webgpu")]
        DeviceKind::Webgpu => {
            use crate::ops::launch::{Kernel, Type, empty, floats, tensor};
            let (x, gamma, beta) = (floats(x)?, floats(gamma)?, floats(beta)?);
            let y = empty(&x, [rows, width], burn_tensor::DType::F32);
            Kernel::new("layer_norm", include_str!("norm.wgsl"))
                .buffer("x", Type::F32, &x)
                .buffer("gamma", Type::F32, &gamma)
                .buffer("beta", Type::F32, &beta)
                .buffer("y", Type::F32, &y)
                .info([width, (eps as f32).to_bits() as usize])
                .launch(rows)?;
            Ok(tensor(y))
        }
        #[allow(unreachable_patterns)]
        kind => Err(Error::kernel("layer_norm", format!("no {kind:?} in this build"))),
    }
}

#[cfg(feature = "cpu")]
fn normalize(x: &[f32], gamma: &[f32], beta: &[f32], eps: f32, y: &mut [f32]) {
    let count = x.len() as f32;
    let mean = lanes_sum(x, |x| x) / count;
    let variance = lanes_sum(x, |x| (x - mean) * (x - mean)) / count;
    let scale = 1.0 / (variance + eps).sqrt();
    for (((y, x), gamma), beta) in y.iter_mut().zip(x).zip(gamma).zip(beta) {
        *y = (x - mean) * scale * gamma + beta;
    }
}

/// A sum in eight lanes: SIMD, and more exact than one long chain.
#[cfg(feature = "cpu")]
fn lanes_sum(x: &[f32], f: impl Fn(f32) -> f32) -> f32 {
    let mut lanes = [0.0f32; 8];
    let chunks = x.chunks_exact(8);
    let tail: f32 = chunks.remainder().iter().map(|x| f(*x)).sum();
    for chunk in chunks {
        lanes.iter_mut().zip(chunk).for_each(|(lane, x)| *lane += f(*x));
    }
    lanes.iter().sum::<f32>() + tail
}
