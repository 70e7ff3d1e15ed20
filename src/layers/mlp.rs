//! fc2(activation(fc1(x))).

use burn_tensor::Tensor;

use crate::error::Result;
use crate::layers::{Linear, in_pieces};
use crate::ops::{Activation, Fused, Norm};
use crate::pace::Pace;

#[derive(Debug, Clone)]
pub struct Mlp {
    pub fc1: Linear,
    pub fc2: Linear,
    pub activation: Activation,
}

impl Mlp {
    /// x [rows, width] → fc2(activation(fc1(norm(x)))) + x
    pub async fn plus(&self, norm: Option<Norm<'_>>, x: &Tensor<2>, pace: &mut Pace) -> Result<Tensor<2>> {
        in_pieces([x], self.fc1.work() + self.fc2.work(), pace, |[x]| {
            let inner = self.fc1.fused(x, Fused { norm, activation: self.activation, ..Fused::default() })?;
            self.fc2.plus(&inner, x)
        })
        .await
    }
}
