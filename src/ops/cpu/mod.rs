//! Kernels of the CPU build over flex's memory, SIMD128 in wasm. `linear` and `attention` know tensors; what they call knows slices.

mod attend;
pub(crate) mod attention;
mod gemm;
mod int8;
pub(crate) mod linear;
mod math;
pub(crate) mod norm;
mod product;
mod scratch;
mod simd;

use burn_flex::{Flex, FlexTensor};
use burn_tensor::{DType, Int, Shape, Tensor};

use crate::error::{Error, Result};

/// A tensor's elements in order; copied only if they are not so in memory.
pub(crate) struct Slice(FlexTensor);

impl Slice {
    pub fn floats(&self) -> &[f32] {
        self.0.as_slice().unwrap_or_default()
    }

    pub fn ints(&self) -> &[i32] {
        self.0.as_slice().unwrap_or_default()
    }
}

fn contiguous(tensor: FlexTensor) -> Slice {
    Slice(if tensor.is_contiguous() { tensor } else { tensor.to_contiguous() })
}

pub(crate) fn floats<const D: usize>(tensor: &Tensor<D>) -> Result<Slice> {
    tensor.clone().try_into_primitive::<Flex>().map(contiguous).map_err(|error| Error::kernel("memory", format!("{error:?}")))
}

pub(crate) fn ints<const D: usize>(tensor: &Tensor<D, Int>) -> Result<Slice> {
    tensor.clone().try_into_primitive::<Flex>().map(contiguous).map_err(|error| Error::kernel("memory", format!("{error:?}")))
}

/// A new tensor whose elements `fill` writes, all of them.
pub(crate) fn filled<const D: usize>(shape: [usize; D], fill: impl FnOnce(&mut [f32]) -> Result<()>) -> Result<Tensor<D>> {
    let mut tensor = FlexTensor::empty(Shape::from(shape), DType::F32);
    fill(tensor.storage_mut::<f32>())?;
    Ok(Tensor::from_primitive::<Flex>(tensor))
}

/// Changes a float tensor where it lies; copies it first only if somebody else holds it too.
pub(crate) fn change<const D: usize>(tensor: &mut Tensor<D>, change: impl FnOnce(&mut [f32])) -> Result<()> {
    let taken = std::mem::replace(tensor, Tensor::empty([0; D], &burn_tensor::Device::flex()));
    let mut taken = taken.try_into_primitive::<Flex>().map_err(|error| Error::kernel("memory", format!("{error:?}")))?;
    change(taken.storage_mut::<f32>());
    *tensor = Tensor::from_primitive::<Flex>(taken);
    Ok(())
}

/// The same for integers.
pub(crate) fn change_ints<const D: usize>(tensor: &mut Tensor<D, Int>, change: impl FnOnce(&mut [i32])) -> Result<()> {
    let taken = std::mem::replace(tensor, Tensor::empty([0; D], &burn_tensor::Device::flex()));
    let mut taken = taken.try_into_primitive::<Flex>().map_err(|error| Error::kernel("memory", format!("{error:?}")))?;
    change(taken.storage_mut::<i32>());
    *tensor = Tensor::from_primitive::<Flex>(taken);
    Ok(())
}
