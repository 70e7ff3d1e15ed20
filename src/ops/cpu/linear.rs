//! `linear` on the CPU: tensors to slices, and x to what the products read.

use burn_tensor::Tensor;

use crate::device::Arithmetic;
use crate::error::{Error, Result};
use crate::ops::cpu::norm::normalize;
use crate::ops::cpu::product::{Outputs, input, product};
use crate::ops::cpu::scratch::{self, Scratch, room};
use crate::ops::cpu::{filled, floats, ints};
use crate::ops::linear::Fused;
use crate::weights::quant::Quant;
use crate::weights::{Layout, Matrix};

pub(crate) fn linear(x: &Tensor<2>, weight: &Matrix, fused: Fused) -> Result<Tensor<2>> {
    if weight.layout != Layout::Panels {
        return Err(Error::kernel("linear", "a table of rows, which are only looked up"));
    }
    let [m, k] = x.dims();
    let n = weight.rows;
    let x = floats(x)?;
    let norm = match fused.norm {
        Some(norm) => Some((floats(norm.gamma)?, norm.beta.map(floats).transpose()?, norm.eps as f32)),
        None => None,
    };
    let bias = fused.bias.map(floats).transpose()?;
    let other = fused.residual.or(fused.gate).map(floats).transpose()?;
    let outputs = Outputs {
        n,
        bias: bias.as_ref().map(|bias| bias.floats()),
        activation: fused.activation,
        other: other.as_ref().map(|other| other.floats()),
        gates: fused.gate.is_some(),
    };
    let integers = weight.arithmetic == Arithmetic::Int8Activations && matches!(weight.quant, Quant::Q8 | Quant::Q4);
    filled([m, n], |y| {
        scratch::with(|scratch| {
            let Scratch { normed, packed, blocks, panels, .. } = scratch;
            let mut rows = x.floats();
            if let Some((gamma, beta, eps)) = &norm {
                let normed = room(normed, m * k, 0.0);
                for (x, y) in rows.chunks_exact(k.max(1)).zip(normed.chunks_exact_mut(k.max(1))) {
                    normalize(x, gamma.floats(), beta.as_ref().map(|beta| beta.floats()), *eps, y);
                }
                rows = normed;
            }
            let input = input(rows, [m, k], integers, packed, blocks);
            for chunk in &weight.chunks {
                let words = ints(&chunk.words)?;
                let words = (weight.quant, bytemuck::cast_slice(words.ints()));
                product(&input, [m, k], words, chunk.rows.clone(), &outputs, panels, y);
            }
            Ok(())
        })
    })
}
