//! `linear` on the CPU: four rows of W are dequantized at a time and met with four rows of x, both run along in memory.

use burn_tensor::Tensor;

use crate::error::Result;
use crate::ops::cpu::{filled, floats, ints};
use crate::ops::linear::Fused;
use crate::weights::Matrix;
use crate::weights::quant::{Quant, unpack_row, words_per_row};

/// Outputs and rows that one tile makes.
const TILE: usize = 4;
/// Lanes of one accumulator: a SIMD128 register.
const LANES: usize = 4;

pub(crate) fn linear(x: &Tensor<2>, weight: &Matrix, fused: Fused) -> Result<Tensor<2>> {
    let [m, k] = x.dims();
    let n = weight.rows;
    let x = floats(x)?;
    let bias = fused.bias.map(floats).transpose()?;
    let other = fused.residual.or(fused.gate).map(floats).transpose()?;
    let row_words = words_per_row(weight.quant, k);
    let mut scratch = vec![0.0; if weight.quant == Quant::F32 { 0 } else { TILE * k }];
    filled([m, n], |y| {
        for chunk in &weight.chunks {
            let words = ints(&chunk.words)?;
            let words: &[u32] = bytemuck::cast_slice(words.ints());
            for first in chunk.rows.clone().step_by(TILE) {
                let outputs = TILE.min(chunk.rows.end - first);
                let at = (first - chunk.rows.start) * row_words;
                let packed = &words[at..at + outputs * row_words];
                let rows: &[f32] = if weight.quant == Quant::F32 {
                    bytemuck::cast_slice(packed)
                } else {
                    for (packed, row) in packed.chunks_exact(row_words).zip(scratch.chunks_exact_mut(k)) {
                        unpack_row(weight.quant, k, packed, row);
                    }
                    &scratch[..outputs * k]
                };
                products(x.floats(), rows, [m, k, n], first, outputs, y);
            }
        }
        finish(y, n, bias.as_ref().map(|bias| bias.floats()), other.as_ref().map(|other| other.floats()), &fused);
        Ok(())
    })
}

/// y[.., first..first + outputs] = x · rowsᵀ
fn products(x: &[f32], rows: &[f32], [m, k, n]: [usize; 3], first: usize, outputs: usize, y: &mut [f32]) {
    let row = |j: usize| &rows[j * k..(j + 1) * k];
    let mut i = 0;
    while i < m {
        if outputs == TILE && i + TILE <= m {
            let x = std::array::from_fn(|a| &x[(i + a) * k..(i + a + 1) * k]);
            store(dots::<TILE, TILE>(x, std::array::from_fn(row)), i, first, n, y);
            i += TILE;
        } else if outputs == TILE {
            store(dots::<1, TILE>([&x[i * k..(i + 1) * k]], std::array::from_fn(row)), i, first, n, y);
            i += 1;
        } else {
            for j in 0..outputs {
                store(dots::<1, 1>([&x[i * k..(i + 1) * k]], [row(j)]), i, first + j, n, y);
            }
            i += 1;
        }
    }
}

fn store<const A: usize, const B: usize>(values: [[f32; B]; A], i: usize, first: usize, n: usize, y: &mut [f32]) {
    for (a, values) in values.iter().enumerate() {
        y[(i + a) * n + first..][..B].copy_from_slice(values);
    }
}

/// All products of A rows with B rows of one length.
fn dots<const A: usize, const B: usize>(x: [&[f32]; A], w: [&[f32]; B]) -> [[f32; B]; A] {
    let k = x[0].len();
    let whole = k / LANES * LANES;
    let mut sums = [[[0.0f32; LANES]; B]; A];
    let mut at = 0;
    while at < whole {
        let xs: [[f32; LANES]; A] = std::array::from_fn(|a| lanes(x[a], at));
        let ws: [[f32; LANES]; B] = std::array::from_fn(|b| lanes(w[b], at));
        for a in 0..A {
            for b in 0..B {
                for lane in 0..LANES {
                    sums[a][b][lane] += xs[a][lane] * ws[b][lane];
                }
            }
        }
        at += LANES;
    }
    std::array::from_fn(|a| {
        std::array::from_fn(|b| {
            let tail: f32 = (whole..k).map(|c| x[a][c] * w[b][c]).sum();
            let [p, q, r, s] = sums[a][b];
            (p + q) + (r + s) + tail
        })
    })
}

fn lanes(row: &[f32], at: usize) -> [f32; LANES] {
    match row.get(at..at + LANES) {
        Some(&[a, b, c, d]) => [a, b, c, d],
        _ => [0.0; LANES],
    }
}

fn finish(y: &mut [f32], n: usize, bias: Option<&[f32]>, other: Option<&[f32]>, fused: &Fused) {
    if let Some(bias) = bias {
        for row in y.chunks_exact_mut(n) {
            row.iter_mut().zip(bias).for_each(|(y, b)| *y += b);
        }
    }
    // One loop a kind of activation, so that each becomes SIMD.
    use crate::ops::Activation::*;
    match fused.activation {
        Identity => {}
        Relu => y.iter_mut().for_each(|y| *y = y.max(0.0)),
        Gelu => y.iter_mut().for_each(|y| *y = Gelu.apply(*y)),
        other => y.iter_mut().for_each(|y| *y = other.apply(*y)),
    }
    match other {
        Some(gate) if fused.gate.is_some() => y.iter_mut().zip(gate).for_each(|(y, g)| *y *= g),
        Some(residual) => y.iter_mut().zip(residual).for_each(|(y, r)| *y += r),
        None => {}
    }
}
