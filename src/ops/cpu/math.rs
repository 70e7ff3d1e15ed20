//! e^x and the activations that the models use, four at a time.

use crate::ops::Activation;
use crate::ops::cpu::simd::{F32x4, I32x4};

/// Constants of the polynomials. Read from memory on purpose: V8 builds a SIMD constant anew wherever it does not fit the
/// registers, while a load that fills all lanes is one instruction.
struct Table {
    highest: f32,
    lowest: f32,
    log2_e: f32,
    /// Added and taken away again, it rounds to an integer, whose bits are then the lowest.
    rounding: f32,
    /// ln 2 in two parts, the first exact when multiplied.
    ln_2: [f32; 2],
    exp: [f32; 6],
    one: f32,
    half: f32,
    frac_1_sqrt_2: f32,
    erf_t: f32,
    erf: [f32; 5],
}

static TABLE: Table = Table {
    highest: 87.0,
    lowest: -87.0,
    log2_e: std::f32::consts::LOG2_E,
    rounding: 12_582_912.0,
    ln_2: [0.693_359_4, -2.121_944_4e-4],
    exp: [1.987_569_1e-4, 1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5],
    one: 1.0,
    half: 0.5,
    frac_1_sqrt_2: std::f32::consts::FRAC_1_SQRT_2,
    erf_t: 0.327_591_1,
    erf: [1.061_405_4, -1.453_152, 1.421_413_7, -0.284_496_74, 0.254_829_6],
};

#[inline(always)]
fn table() -> &'static Table {
    std::hint::black_box(&TABLE)
}

/// e^x, off by at most 2e-7 of itself; 0 from −87 down, and e^87 from 87 up. Cephes' polynomial.
#[inline(always)]
pub(crate) fn exp(x: F32x4) -> F32x4 {
    exp_by(table(), x)
}

#[inline(always)]
fn exp_by(table: &Table, x: F32x4) -> F32x4 {
    let constant = |value: &f32| F32x4::splat(*value);
    let lowest = constant(&table.lowest);
    let cut = x.max(lowest).min(constant(&table.highest));
    let big = constant(&table.rounding);
    let shifted = cut * constant(&table.log2_e) + big;
    let whole = shifted - big;
    let rest = cut - whole * constant(&table.ln_2[0]) - whole * constant(&table.ln_2[1]);
    let mut poly = constant(&table.exp[0]);
    for value in &table.exp[1..] {
        poly = poly * rest + constant(value);
    }
    let poly = poly * (rest * rest) + rest + constant(&table.one);
    (poly.bits() + shifted.bits().shift_left::<23>()).float_bits().unless_low(x, lowest)
}

/// Abramowitz and Stegun 7.1.26, as in `ops::activation`.
#[inline(always)]
fn gelu(x: F32x4) -> F32x4 {
    let table = table();
    let constant = |value: &f32| F32x4::splat(*value);
    let one = constant(&table.one);
    let z = x * constant(&table.frac_1_sqrt_2);
    let size = z.abs();
    let t = one / (one + size * constant(&table.erf_t));
    let mut poly = constant(&table.erf[0]);
    for value in &table.erf[1..] {
        poly = poly * t + constant(value);
    }
    let erf = (one - poly * t * exp_by(table, F32x4::zero() - size * size)).signed_as(z);
    x * constant(&table.half) * (one + erf)
}

/// x·σ(by)
#[inline(always)]
fn gated(x: F32x4, by: F32x4) -> F32x4 {
    let table = table();
    x / (F32x4::splat(table.one) + exp_by(table, F32x4::zero() - by))
}

/// `Activation::apply`, four at a time.
#[inline(always)]
pub(crate) fn activate(activation: Activation, x: F32x4) -> F32x4 {
    match activation {
        Activation::Identity => x,
        Activation::Relu => x.max(F32x4::zero()),
        Activation::Gelu => gelu(x),
        Activation::GeluNew => {
            // ½(1 + tanh u) is σ(2u).
            let cubic = F32x4::splat(0.044_715) * x * x * x;
            gated(x, F32x4::splat(2.0 * 0.797_884_6) * (x + cubic))
        }
        Activation::QuickGelu => gated(x, F32x4::splat(1.702) * x),
        Activation::Silu => gated(x, x),
        Activation::Sigmoid => gated(F32x4::splat(1.0), x),
        // No model of this family has them in a place that counts.
        Activation::Tanh | Activation::Selu => F32x4::load(&x.to_array().map(|x| activation.apply(x))),
    }
}

/// Scores → e^(score − highest), and the factor that makes them softmax's weights.
pub(crate) fn softmax(scores: &mut [f32]) -> f32 {
    let (fours, tail) = scores.as_chunks_mut::<4>();
    let highest = fours.iter().fold(F32x4::splat(f32::MIN), |most, four| most.max(F32x4::load(four))).highest();
    let highest = tail.iter().copied().fold(highest, f32::max);
    let highest_four = F32x4::splat(highest);
    let mut sum = F32x4::zero();
    for four in fours {
        let weights = exp(F32x4::load(four) - highest_four);
        weights.store(four);
        sum = sum + weights;
    }
    let mut total = sum.sum();
    for score in tail {
        *score = exp(F32x4::splat(*score - highest)).to_array()[0];
        total += *score;
    }
    1.0 / total
}

/// Four f16 → floats. Infinities and NaN, which scales never are, become large numbers.
pub(crate) struct Halves {
    /// Sign, exponent and fraction, moved to where an f32 has them.
    mask: I32x4,
    /// 2^112, between the exponents' biases.
    factor: F32x4,
}

impl Halves {
    /// Make it before a loop: it keeps its constants in registers.
    #[inline(always)]
    pub fn new() -> Self {
        let (mask, factor) = std::hint::black_box((0x8fff_e000_u32 as i32, f32::from_bits((127 + 112) << 23)));
        Self { mask: I32x4::splat(mask), factor: F32x4::splat(factor) }
    }

    #[inline(always)]
    pub fn widen(&self, halves: &[i16; 4]) -> F32x4 {
        (I32x4::widen(halves).shift_left::<13>() & self.mask).float_bits() * self.factor
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_follows_the_standard_library_and_ends_where_f32_does() {
        for step in -8_699..8_700 {
            let x = step as f32 * 0.01;
            let (found, expected) = (exp(F32x4::splat(x)).to_array()[0], x.exp());
            assert!((found - expected).abs() <= 4e-7 * expected, "exp({x}) = {found}, expected {expected}");
        }
        let ends = exp(F32x4::load(&[f32::NEG_INFINITY, f32::MIN, -88.0, f32::NAN])).to_array();
        assert_eq!(ends[..3], [0.0; 3]);
        assert!(ends[3].is_nan());
        assert!(exp(F32x4::splat(f32::INFINITY)).to_array()[0] > 1e37);
    }

    #[test]
    fn activations_are_those_that_are_applied_one_by_one() {
        use Activation::*;
        for activation in [Identity, Relu, Gelu, GeluNew, QuickGelu, Silu, Tanh, Sigmoid, Selu] {
            for step in -400..400 {
                let x = step as f32 * 0.1;
                let (found, expected) = (activate(activation, F32x4::splat(x)).to_array()[2], activation.apply(x));
                assert!((found - expected).abs() <= 1e-6 * expected.abs().max(1.0), "{activation:?}({x}) = {found}, expected {expected}");
            }
        }
    }

    #[test]
    fn halves_are_widened_exactly() {
        for bits in (0..=u16::MAX).filter(|bits| half::f16::from_bits(*bits).is_finite()) {
            assert_eq!(Halves::new().widen(&[bits as i16; 4]).to_array(), [half::f16::from_bits(bits).to_f32(); 4], "{bits:#x}");
        }
    }

    #[test]
    fn softmax_of_the_lowest_scores_is_an_even_mean() {
        let mut scores = [f32::MIN; 7];
        let factor = softmax(&mut scores);
        assert!(scores.iter().all(|score| (score * factor - 1.0 / 7.0).abs() < 1e-7));
    }
}
