//! fc2(activation(fc1(x))).

use burn_tensor::Tensor;

use crate::error::Result;
use crate::layers::Linear;
use crate::ops::Activation;

#[derive(Debug, Clone)]
pub struct Mlp {
    pub fc1: Linear,
    pub fc2: Linear,
    pub activation: Activation,
}

impl Mlp {
    /// x [rows, width] → fc2(activation(fc1(x))) + residual
    pub fn plus(&self, x: &Tensor<2>, residual: &Tensor<2>) -> Result<Tensor<2>> {
        self.fc2.plus(&self.fc1.activated(x, self.activation)?, residual)
    }
}
