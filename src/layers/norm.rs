//! The norms as modules: HF `nn.LayerNorm` and `T5LayerNorm`.

use burn_tensor::Tensor;

use crate::error::Result;
use crate::ops::Norm;
use crate::weights::Weights;

#[derive(Debug, Clone)]
pub struct LayerNorm {
    weight: Tensor<1>,
    bias: Tensor<1>,
    eps: f64,
}

impl LayerNorm {
    pub fn load(weights: &Weights, width: usize, eps: f64) -> Result<Self> {
        Ok(Self { weight: weights.tensor("weight", [width])?, bias: weights.tensor("bias", [width])?, eps })
    }

    /// HF `elementwise_affine=False`: nothing to load.
    pub fn plain(weights: &Weights, width: usize, eps: f64) -> Self {
        let device = weights.device();
        Self { weight: Tensor::ones([width], &device), bias: Tensor::zeros([width], &device), eps }
    }

    /// x [rows, width] → the same shape
    pub fn forward(&self, x: &Tensor<2>) -> Result<Tensor<2>> {
        self.as_norm().of(x)
    }

    /// For the product behind it.
    pub fn as_norm(&self) -> Norm<'_> {
        Norm { gamma: &self.weight, beta: Some(&self.bias), eps: self.eps }
    }
}

/// HF `T5LayerNorm`: a scale, no shift, no mean.
#[derive(Debug, Clone)]
pub struct RmsNorm {
    weight: Tensor<1>,
    eps: f64,
}

impl RmsNorm {
    pub fn load(weights: &Weights, width: usize, eps: f64) -> Result<Self> {
        Ok(Self { weight: weights.tensor("weight", [width])?, eps })
    }

    /// x [rows, width] → the same shape
    pub fn forward(&self, x: &Tensor<2>) -> Result<Tensor<2>> {
        self.as_norm().of(x)
    }

    /// For the product behind it.
    pub fn as_norm(&self) -> Norm<'_> {
        Norm { gamma: &self.weight, beta: None, eps: self.eps }
    }
}
