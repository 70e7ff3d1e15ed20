//! The activations of HF's ACT2FN that BLIP-2's configs name. They ride along in `linear`.

use serde::{Deserialize, Serialize};

/// `hidden_act`, `activation_function`, `dense_act_fn`. The order is the one that `activation.wgsl` counts by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Activation {
    #[default]
    #[serde(rename = "linear")]
    Identity,
    #[serde(rename = "relu")]
    Relu,
    /// x·½(1 + erf(x/√2))
    #[serde(rename = "gelu", alias = "gelu_python")]
    Gelu,
    /// ½x(1 + tanh(√(2/π)(x + 0.044715x³)))
    #[serde(rename = "gelu_new", alias = "gelu_pytorch_tanh", alias = "gelu_fast", alias = "gelu_accurate")]
    GeluNew,
    /// x·σ(1.702x)
    #[serde(rename = "quick_gelu")]
    QuickGelu,
    /// x·σ(x)
    #[serde(rename = "silu", alias = "swish")]
    Silu,
    #[serde(rename = "tanh")]
    Tanh,
    #[serde(rename = "sigmoid")]
    Sigmoid,
    #[serde(rename = "selu")]
    Selu,
}

impl Activation {
    /// One value; the definition that kernels are held to.
    pub fn apply(self, x: f32) -> f32 {
        match self {
            Self::Identity => x,
            Self::Relu => x.max(0.0),
            Self::Gelu => 0.5 * x * (1.0 + erf(x * std::f32::consts::FRAC_1_SQRT_2)),
            Self::GeluNew => 0.5 * x * (1.0 + (0.797_884_6 * (x + 0.044_715 * x * x * x)).tanh()),
            Self::QuickGelu => x / (1.0 + (-1.702 * x).exp()),
            Self::Silu => x / (1.0 + (-x).exp()),
            Self::Tanh => x.tanh(),
            Self::Sigmoid => 1.0 / (1.0 + (-x).exp()),
            Self::Selu => 1.050_701 * if x > 0.0 { x } else { 1.673_263_2 * (x.exp() - 1.0) },
        }
    }
}

/// Abramowitz and Stegun 7.1.26: at most 1.5e-7 off; without branches, so that loops over it become SIMD.
pub(crate) fn erf(x: f32) -> f32 {
    let t = 1.0 / (1.0 + 0.327_591_1 * x.abs());
    let poly = ((((1.061_405_4 * t - 1.453_152) * t + 1.421_413_7) * t - 0.284_496_74) * t + 0.254_829_6) * t;
    (1.0 - poly * exp_negative(-x * x)).copysign(x)
}

/// e^x for x ≤ 0, off by at most 2e-7 · (1 + |x|) of itself: 2^n from the exponent's bits, the rest by a polynomial; without branches.
pub(crate) fn exp_negative(x: f32) -> f32 {
    let scaled = (x * std::f32::consts::LOG2_E).max(-126.0);
    let whole = (scaled - 0.5).trunc_toward_zero();
    let rest = (scaled - whole) * std::f32::consts::LN_2;
    let poly =
        1.0 + rest * (1.0 + rest * (0.5 + rest * (1.666_666_7e-1 + rest * (4.166_667e-2 + rest * (8.333_334e-3 + rest * 1.388_889e-3)))));
    poly * f32::from_bits((((whole as i32) + 127) << 23) as u32)
}

trait TruncTowardZero {
    fn trunc_toward_zero(self) -> f32;
}

impl TruncTowardZero for f32 {
    /// By way of i32, which is one SIMD instruction on every target; `trunc` is a call on some.
    fn trunc_toward_zero(self) -> f32 {
        self as i32 as f32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn erf_is_right_to_the_last_digits_of_f32() {
        for (x, expected) in [(0.0, 0.0), (0.1, 0.112_462_92), (0.5, 0.520_499_9), (1.0, 0.842_700_8), (2.0, 0.995_322_3), (4.0, 1.0)] {
            assert!((erf(x) - expected).abs() < 5e-7, "erf({x}) = {}, expected {expected}", erf(x));
            assert!((erf(-x) + expected).abs() < 5e-7);
        }
    }

    #[test]
    fn exp_of_negative_numbers_follows_the_standard_library() {
        for step in 0..2000 {
            let x = -(step as f32) * 0.05;
            let expected = x.exp();
            assert!((exp_negative(x) - expected).abs() <= 2e-7 * (1.0 - x) * expected.max(1e-30), "exp({x})");
        }
    }

    #[test]
    fn names_are_those_of_hf() {
        let parse = |name: &str| serde_json::from_value::<Activation>(name.into());
        assert_eq!(parse("gelu").ok(), Some(Activation::Gelu));
        assert_eq!(parse("gelu_pytorch_tanh").ok(), Some(Activation::GeluNew));
        assert_eq!(parse("swish").ok(), Some(Activation::Silu));
        assert!(parse("hardtanh").is_err());
    }
}
