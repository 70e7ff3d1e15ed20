//! `attention` and `cached_attention` on the CPU: a query and head at a time, scores in a scratch row.

use burn_tensor::Tensor;

use crate::error::Result;
use crate::ops::attention::{Bias, DistanceBias, Heads, Rows};
use crate::ops::cpu::{Slice, change, filled, floats, ints};
use crate::ops::state::StepState;

pub(crate) fn attention(batch: usize, q: Rows, k: Rows, v: Rows, heads: Heads, bias: Bias) -> Result<Tensor<2>> {
    let [rows, q_width] = q.tensor.dims();
    let [key_rows, k_width] = k.tensor.dims();
    let v_width = v.tensor.dims()[1];
    let (queries, keys) = (rows / batch, key_rows / batch);
    let (q_values, k_values, v_values) = (floats(q.tensor)?, floats(k.tensor)?, floats(v.tensor)?);
    let bias_rows = bias.dense.map_or(1, |bias| bias.dims()[1]);
    let dense = bias.dense.map(floats).transpose()?;
    let distances = Distances::new(bias.by_distance, heads.count)?;
    let dim = heads.head_dim;
    let mut scores = vec![0.0f32; keys];
    filled([rows, heads.count * dim], |y| {
        for (place, out) in y.chunks_exact_mut(dim).enumerate() {
            let (row, head) = (place / heads.count, place % heads.count);
            let (b, s) = (row / queries, row % queries);
            let at = row * q_width + q.offset + head * dim;
            let query = &q_values.floats()[at..at + dim];
            let key = |j: usize| &k_values.floats()[(b * keys + j) * k_width + k.offset + head * dim..][..dim];
            let value = |j: usize| &v_values.floats()[(b * keys + j) * v_width + v.offset + head * dim..][..dim];
            for (j, score) in scores.iter_mut().enumerate() {
                *score = dot(query, key(j)) * heads.scale;
            }
            if let Some(bias) = &dense {
                let row = if bias_rows > 1 { s } else { 0 };
                let bias = &bias.floats()[(b * bias_rows + row) * keys..][..keys];
                scores.iter_mut().zip(bias).for_each(|(score, bias)| *score += bias);
            }
            if let Some(distances) = &distances {
                scores.iter_mut().enumerate().for_each(|(j, score)| *score += distances.of(j, s, head));
            }
            gather(&mut scores, value, out);
        }
        Ok(())
    })
}

/// Copies the newest keys or values behind the positions that are filled.
pub(crate) fn append(state: &StepState, new: Rows, cache: &mut Tensor<2>, width: usize) -> Result<()> {
    let [count, row_width] = new.tensor.dims();
    let (positions, stride) = (count / state.active_rows(), state.stride());
    let values = floats(new.tensor)?;
    change(cache, |cache| {
        for (row, new_row) in values.floats().chunks_exact(row_width).enumerate() {
            let at = row / positions * stride * state.capacity + state.length() + row % positions;
            cache[at * width..(at + 1) * width].copy_from_slice(&new_row[new.offset..new.offset + width]);
        }
    })
}

pub(crate) fn cached_attention(
    state: &StepState,
    q: Rows,
    k_cache: &Tensor<2>,
    v_cache: &Tensor<2>,
    heads: Heads,
    by_distance: Option<&DistanceBias>,
) -> Result<Tensor<2>> {
    let ([rows, row_width], width) = (q.tensor.dims(), heads.count * heads.head_dim);
    let (queries, stride) = (rows / state.active_rows(), state.stride());
    let distances = Distances::new(by_distance, heads.count)?;
    let keys = state.length() + queries;
    let (q_values, k_values, v_values, words) = (floats(q.tensor)?, floats(k_cache)?, floats(v_cache)?, ints(&state.buffer)?);
    let words = words.ints();
    let mask_at = 4 + 3 * state.rows;
    let rows_at = mask_at + state.rows * state.capacity;
    let dim = heads.head_dim;
    let mut scores = vec![0.0f32; keys];
    filled([rows, width], |y| {
        for (place, out) in y.chunks_exact_mut(dim).enumerate() {
            let (row, head) = (place / heads.count, place % heads.count);
            let (b, s) = (row / queries * stride, row % queries);
            let query = &q_values.floats()[row * row_width + q.offset + head * dim..][..dim];
            let mask = &words[mask_at + b * state.capacity..][..keys];
            let cache_row = &words[rows_at + b * state.capacity..][..keys];
            let at = |j: usize| (cache_row[j] as usize * state.capacity + j) * width + head * dim;
            for (j, score) in scores.iter_mut().enumerate() {
                let attended = mask[j] != 0 && j <= state.length() + s;
                let bias = distances.as_ref().map_or(0.0, |distances| distances.of(j, state.length() + s, head));
                *score = if attended { dot(query, &k_values.floats()[at(j)..][..dim]) * heads.scale + bias } else { f32::MIN };
            }
            gather(&mut scores, |j| &v_values.floats()[at(j)..][..dim], out);
        }
        Ok(())
    })
}

/// A `DistanceBias` in memory.
struct Distances {
    values: Slice,
    reach: isize,
    heads: usize,
}

impl Distances {
    fn new(bias: Option<&DistanceBias>, heads: usize) -> Result<Option<Self>> {
        bias.map(|bias| Ok(Self { values: floats(&bias.values)?, reach: bias.reach as isize, heads })).transpose()
    }

    fn of(&self, key_position: usize, query_position: usize, head: usize) -> f32 {
        let distance = (key_position as isize - query_position as isize).clamp(-self.reach, self.reach) + self.reach;
        self.values.floats()[distance as usize * self.heads + head]
    }
}

/// out = softmax(scores)·values; `scores` become the weights on the way.
fn gather<'a>(scores: &mut [f32], value: impl Fn(usize) -> &'a [f32], out: &mut [f32]) {
    let highest = scores.iter().copied().fold(f32::MIN, f32::max);
    let mut total = 0.0;
    for score in scores.iter_mut() {
        *score = (*score - highest).exp();
        total += *score;
    }
    out.fill(0.0);
    for (j, weight) in scores.iter().enumerate() {
        let weight = weight / total;
        if weight > 0.0 {
            out.iter_mut().zip(value(j)).for_each(|(out, value)| *out += weight * value);
        }
    }
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0.0f32; 8];
    let (a_chunks, b_chunks) = (a.chunks_exact(8), b.chunks_exact(8));
    let tail: f32 = a_chunks.remainder().iter().zip(b_chunks.remainder()).map(|(a, b)| a * b).sum();
    for (a, b) in a_chunks.zip(b_chunks) {
        for lane in 0..8 {
            lanes[lane] += a[lane] * b[lane];
        }
    }
    lanes.iter().sum::<f32>() + tail
}
