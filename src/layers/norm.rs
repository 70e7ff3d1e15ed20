//! The norms as modules: HF `nn.LayerNorm` and `T5LayerNorm`.

use burn_tensor::Tensor;

use crate::error::Result;
use crate::ops::{layer_norm, rms_norm};
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
        layer_norm(x, &self.weight, &self.bias, self.eps)
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
        rms_norm(x, &self.weight, self.eps)
    }
}
