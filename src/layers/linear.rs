//! A linear layer and an embedding over a weight in any `Quant`: models never ask which.

use burn_tensor::{Int, Tensor};

use crate::error::Result;
use crate::ops::embedding::Lookup;
use crate::ops::{Activation, Epilogue, embedding, linear};
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

    /// x [rows, in] → [rows, out]
    pub fn forward(&self, x: &Tensor<2>) -> Result<Tensor<2>> {
        linear(x, &self.weight, Epilogue { bias: self.bias.as_ref(), ..Epilogue::default() })
    }

    /// activation(x·Wᵀ + b)
    pub fn activated(&self, x: &Tensor<2>, activation: Activation) -> Result<Tensor<2>> {
        linear(x, &self.weight, Epilogue { bias: self.bias.as_ref(), activation, ..Epilogue::default() })
    }

    /// activation(x·Wᵀ + b)·gate
    pub fn gated(&self, x: &Tensor<2>, activation: Activation, gate: &Tensor<2>) -> Result<Tensor<2>> {
        linear(x, &self.weight, Epilogue { bias: self.bias.as_ref(), activation, gate: Some(gate), ..Epilogue::default() })
    }

    /// x·Wᵀ + b + residual
    pub fn plus(&self, x: &Tensor<2>, residual: &Tensor<2>) -> Result<Tensor<2>> {
        linear(x, &self.weight, Epilogue { bias: self.bias.as_ref(), residual: Some(residual), ..Epilogue::default() })
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

    /// The tied head: x [rows, width] → logits [rows, vocabulary].
    pub fn as_head(&self, x: &Tensor<2>) -> Result<Tensor<2>> {
        linear(x, &self.weight, Epilogue::default())
    }
}
