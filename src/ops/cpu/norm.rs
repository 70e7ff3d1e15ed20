//! LayerNorm and RMSNorm of a row, four values at a time.

use crate::ops::cpu::simd::F32x4;

/// (x − mean)/√(variance + eps)·gamma + beta; without `beta` around zero instead of the mean.
pub(crate) fn normalize(x: &[f32], gamma: &[f32], beta: Option<&[f32]>, eps: f32, y: &mut [f32]) {
    let count = x.len() as f32;
    let mean = if beta.is_some() { sum(x, |x| x, |x| x) / count } else { 0.0 };
    let mean_four = F32x4::splat(mean);
    let variance = sum(x, |x| (x - mean_four) * (x - mean_four), |x| (x - mean) * (x - mean)) / count;
    let scale = 1.0 / (variance + eps).sqrt();
    for ((y, x), gamma) in y.iter_mut().zip(x).zip(gamma) {
        *y = (x - mean) * scale * gamma;
    }
    if let Some(beta) = beta {
        y.iter_mut().zip(beta).for_each(|(y, beta)| *y += beta);
    }
}

/// A sum in eight lanes: fast, and more exact than one long chain.
#[inline(always)]
fn sum(x: &[f32], four: impl Fn(F32x4) -> F32x4, one: impl Fn(f32) -> f32) -> f32 {
    let (fours, tail) = x.as_chunks::<4>();
    let (pairs, last) = fours.as_chunks::<2>();
    let mut sums = [F32x4::zero(); 2];
    for pair in pairs {
        sums = [sums[0] + four(F32x4::load(&pair[0])), sums[1] + four(F32x4::load(&pair[1]))];
    }
    for last in last {
        sums[0] = sums[0] + four(F32x4::load(last));
    }
    (sums[0] + sums[1]).sum() + tail.iter().map(|x| one(*x)).sum::<f32>()
}
