//! A linear layer and an embedding over a weight in any `Quant`: models never ask which.

use burn_tensor::{Int, Tensor};

use crate::error::Result;
use crate::ops::embedding::Lookup;
use crate::ops::{Fused, Norm, embedding, linear};
use crate::weights::{Matrix, Weights};

/// y = x·Wᵀ + b. HF `nn.Linear`: `weight` [out, in], `bias` [out].
#[derive(Debug, Clone)]
pub struct Linear {
    weight: Matrix,
    bias: Option<Tensor<1>>,
}

impl Linear {
    /// Errors: weight-missing, weight-shape.
    pub fn load(weights: &Weights, [inputs, outputs]: [usize; 2], bias: bool) -> Result<Self> {
        let weight = weights.matrix("weight", &[outputs, inputs])?;
        let bias = bias.then(|| weights.tensor("bias", [outputs])).transpose()?;
        Ok(Self { weight, bias })
    }

    /// A convolution whose kernel is its stride, as a linear layer over patches: `weight` [out, channels, p, p].
    pub fn load_patches(weights: &Weights, [outputs, channels, height, width]: [usize; 4]) -> Result<Self> {
        let weight = weights.matrix("weight", &[outputs, channels, height, width])?;
        let bias = Some(weights.tensor("bias", [outputs])?);
        Ok(Self { weight, bias })
    }

    /// Layers over one input as one layer, their outputs side by side: `names` below `weights`, each [outputs, inputs].
    pub fn load_joined(weights: &Weights, names: &[&str], [inputs, outputs]: [usize; 2], bias: bool) -> Result<Self> {
        let keys: Vec<String> = names.iter().map(|name| format!("{name}.weight")).collect();
        let weight = weights.joined(&keys.iter().map(String::as_str).collect::<Vec<_>>(), &[outputs, inputs])?;
        let biases = |names: &[&str]| names.iter().map(|name| weights.at(name).tensor("bias", [outputs])).collect::<Result<Vec<_>>>();
        let bias = if bias { Some(Tensor::cat(biases(names)?, 0)) } else { None };
        Ok(Self { weight, bias })
    }

    /// x [rows, in] → [rows, out]
    pub fn forward(&self, x: &Tensor<2>) -> Result<Tensor<2>> {
        self.fused(x, Fused::default())
    }

    /// norm(x)·Wᵀ + b
    pub fn behind(&self, norm: Norm, x: &Tensor<2>) -> Result<Tensor<2>> {
        self.fused(x, Fused { norm: Some(norm), ..Fused::default() })
    }

    /// x·Wᵀ + b + residual
    pub fn plus(&self, x: &Tensor<2>, residual: &Tensor<2>) -> Result<Tensor<2>> {
        self.fused(x, Fused { residual: Some(residual), ..Fused::default() })
    }

    /// Multiplications for a row of x.
    pub fn work(&self) -> usize {
        self.weight.rows * self.weight.columns
    }

    /// What rides along besides the layer's own bias.
    pub fn fused(&self, x: &Tensor<2>, fused: Fused) -> Result<Tensor<2>> {
        linear(x, &self.weight, Fused { bias: self.bias.as_ref(), ..fused })
    }
}

/// Rows by id. HF `nn.Embedding`: `weight` [vocabulary, width].
#[derive(Debug, Clone)]
pub struct Embedding {
    weight: Matrix,
}

impl Embedding {
    pub fn load(weights: &Weights, shape: [usize; 2]) -> Result<Self> {
        Ok(Self { weight: weights.matrix("weight", &shape)? })
    }

    /// Positions: never quantized.
    pub fn load_table(weights: &Weights, shape: [usize; 2]) -> Result<Self> {
        Ok(Self { weight: weights.table("weight", shape)? })
    }

    /// ids [n] → [n, width]
    pub fn forward(&self, ids: &Tensor<1, Int>) -> Result<Tensor<2>> {
        let lookup = Lookup { ids, offset: 0, count: ids.dims()[0], shift: 0, add: None };
        embedding(&self.weight, lookup)
    }

    pub fn lookup(&self, lookup: Lookup) -> Result<Tensor<2>> {
        embedding(&self.weight, lookup)
    }

    /// The tied head, behind a norm where there is one: x [rows, width] → logits [rows, vocabulary].
    pub fn as_head(&self, norm: Option<Norm>, x: &Tensor<2>) -> Result<Tensor<2>> {
        linear(x, &self.weight, Fused { norm, ..Fused::default() })
    }
}
