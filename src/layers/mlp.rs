//! fc2(activation(fc1(x))).

use burn_tensor::Tensor;

use crate::error::Result;
use crate::layers::Linear;
use crate::ops::{Activation, Fused, Norm};

#[derive(Debug, Clone)]
pub struct Mlp {
    pub fc1: Linear,
    pub fc2: Linear,
    pub activation: Activation,
}

impl Mlp {
    /// x [rows, width] → fc2(activation(fc1(norm(x)))) + residual
    pub fn plus(&self, norm: Option<Norm>, x: &Tensor<2>, residual: &Tensor<2>) -> Result<Tensor<2>> {
        let inner = self.fc1.fused(x, Fused { norm, activation: self.activation, ..Fused::default() })?;
        self.fc2.plus(&inner, residual)
    }
}
