//! `attention` and `cached_attention` on the CPU: where queries, keys and values lie, and what is added to their scores.

use burn_tensor::Tensor;

use crate::error::Result;
use crate::ops::attention::{Bias, DistanceBias, Heads, Rows};
use crate::ops::cpu::attend::{Memory, Positions, attend};
use crate::ops::cpu::{Slice, change, filled, floats, ints, scratch};
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
    let width = heads.count * heads.head_dim;
    filled([rows, width], |y| {
        scratch::with(|scratch| {
            for (b, out) in y.chunks_exact_mut((queries * width).max(1)).enumerate() {
                let q = Positions { values: q_values.floats(), at: |s| (b * queries + s) * q_width + q.offset };
                let memory = Memory {
                    count: keys,
                    keys: Positions { values: k_values.floats(), at: |j| (b * keys + j) * k_width + k.offset },
                    values: Positions { values: v_values.floats(), at: |j| (b * keys + j) * v_width + v.offset },
                };
                let adjust = |scores: &mut [f32], s: usize, head: usize| {
                    if let Some(dense) = &dense {
                        let row = if bias_rows > 1 { s } else { 0 };
                        let dense = &dense.floats()[(b * bias_rows + row) * keys..][..keys];
                        scores.iter_mut().zip(dense).for_each(|(score, bias)| *score += bias);
                    }
                    if let Some(distances) = &distances {
                        scores.iter_mut().enumerate().for_each(|(j, score)| *score += distances.of(j, s, head));
                    }
                };
                attend(&q, &memory, heads, adjust, scratch, out);
            }
        });
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
    let (before, keys) = (state.length(), state.length() + queries);
    let (q_values, k_values, v_values, words) = (floats(q.tensor)?, floats(k_cache)?, floats(v_cache)?, ints(&state.buffer)?);
    let words = words.ints();
    let mask_at = 4 + 3 * state.rows;
    let rows_at = mask_at + state.rows * state.capacity;
    filled([rows, width], |y| {
        scratch::with(|scratch| {
            for (active, out) in y.chunks_exact_mut((queries * width).max(1)).enumerate() {
                let b = active * stride;
                let mask = &words[mask_at + b * state.capacity..][..keys];
                let cache_row = &words[rows_at + b * state.capacity..][..keys];
                let q = Positions { values: q_values.floats(), at: |s| (active * queries + s) * row_width + q.offset };
                let at = |j: usize| (cache_row[j] as usize * state.capacity + j) * width;
                let memory = Memory {
                    count: keys,
                    keys: Positions { values: k_values.floats(), at },
                    values: Positions { values: v_values.floats(), at },
                };
                let adjust = |scores: &mut [f32], s: usize, head: usize| {
                    if let Some(distances) = &distances {
                        scores.iter_mut().enumerate().for_each(|(j, score)| *score += distances.of(j, before + s, head));
                    }
                    scores.iter_mut().zip(mask).for_each(|(score, attended)| *score = if *attended != 0 { *score } else { f32::MIN });
                    scores[before + s + 1..].fill(f32::MIN);
                };
                attend(&q, &memory, heads, adjust, scratch, out);
            }
        });
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
