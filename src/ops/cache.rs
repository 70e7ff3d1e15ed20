//! Keys or values of the positions that a decoder has seen.

use burn_tensor::kind::Numeric;
use burn_tensor::{Int, Tensor};

use crate::device::{Arithmetic, Device};
use crate::ops::{Heads, StepState};

/// [rows·capacity, heads·head_dim], position by position.
#[derive(Debug, Clone)]
pub enum Cache {
    Floats(Tensor<2>),
    /// Two f16 a word, [rows·capacity, heads·head_dim / 2]: half the memory, and half of what a token reads of it. On a GPU alone.
    Halves(Tensor<2, Int>),
}

impl Cache {
    /// Room for the state's rows, in the way that the device's arithmetic asks for.
    pub fn new(device: &Device, state: &StepState, heads: Heads) -> Self {
        // A word belongs to one head, which one workgroup writes.
        let halves = device.arithmetic == Arithmetic::Half && heads.head_dim.is_multiple_of(2);
        let (positions, width) = (state.rows * state.capacity, heads.count * heads.head_dim);
        match halves {
            true => Self::Halves(Tensor::zeros([positions, width / 2], &device.burn)),
            false => Self::Floats(Tensor::zeros([positions, width], &device.burn)),
        }
    }

    /// Positions and numbers of each.
    pub fn dims(&self) -> [usize; 2] {
        match self {
            Self::Floats(floats) => floats.dims(),
            Self::Halves(words) => {
                let [positions, words] = words.dims();
                [positions, 2 * words]
            }
        }
    }

    pub fn bytes(&self) -> usize {
        let [positions, width] = self.dims();
        positions * width * if matches!(self, Self::Halves(_)) { 2 } else { 4 }
    }

    /// The same positions of `rows` rows with room for more, [before, after] of them.
    pub fn grow(&mut self, rows: usize, [before, after]: [usize; 2]) {
        fn grown<K: Numeric>(cache: &Tensor<2, K>, rows: usize, [before, after]: [usize; 2]) -> Tensor<2, K> {
            let [_, width] = cache.dims();
            let room = Tensor::zeros([rows, after - before, width], &cache.device());
            Tensor::cat(vec![cache.clone().reshape([rows, before, width]), room], 1).reshape([rows * after, width])
        }
        match self {
            Self::Floats(floats) => *floats = grown(floats, rows, [before, after]),
            Self::Halves(words) => *words = grown(words, rows, [before, after]),
        }
    }

    /// Errors: kernel where they are kept as halves.
    #[cfg(feature = "cpu")]
    pub(crate) fn floats(&mut self) -> crate::error::Result<&mut Tensor<2>> {
        match self {
            Self::Floats(floats) => Ok(floats),
            Self::Halves(_) => Err(crate::error::Error::kernel("cache", "no halves on this device")),
        }
    }
}
