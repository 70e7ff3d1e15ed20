//! Attention on the CPU. Many queries: keys and values of a head are packed into panels, and tiles of queries go through the
//! products of `gemm`, so that no more than a tile's scores are in memory. Few queries (a decode step): keys and values are read
//! where they lie, once and in order, all heads of a position together.

use crate::ops::attention::Heads;
use crate::ops::cpu::gemm::{self, ROWS};
use crate::ops::cpu::math::softmax;
use crate::ops::cpu::scratch::{Scratch, room};
use crate::ops::cpu::simd::F32x4;
use crate::weights::panels::OUTPUTS;

/// From this many queries on, packing the keys and values pays.
const MANY: usize = 4;

/// Positions of one row of a batch: `at(j)` is where the heads of position j begin in `values`.
#[derive(Clone, Copy)]
pub(crate) struct Positions<'a, At: Fn(usize) -> usize> {
    pub values: &'a [f32],
    pub at: At,
}

impl<At: Fn(usize) -> usize> Positions<'_, At> {
    #[inline(always)]
    fn head(&self, position: usize, head: usize, dim: usize) -> &[f32] {
        &self.values[(self.at)(position) + head * dim..][..dim]
    }
}

/// What queries attend to.
pub(crate) struct Memory<'a, K: Fn(usize) -> usize, V: Fn(usize) -> usize> {
    pub count: usize,
    pub keys: Positions<'a, K>,
    pub values: Positions<'a, V>,
}

/// out [queries, heads·dim] = softmax(scores)·values; `adjust(scores, query, head)` adds what is to be added to scaled scores.
pub(crate) fn attend<Q, K, V>(
    queries: &Positions<Q>,
    memory: &Memory<K, V>,
    heads: Heads,
    adjust: impl Fn(&mut [f32], usize, usize),
    scratch: &mut Scratch,
    out: &mut [f32],
) where
    Q: Fn(usize) -> usize,
    K: Fn(usize) -> usize,
    V: Fn(usize) -> usize,
{
    let width = heads.count * heads.head_dim;
    let count = out.len().checked_div(width).unwrap_or(0);
    if count == 0 || memory.count == 0 {
        return;
    }
    if count < MANY {
        for (query, out) in out.chunks_exact_mut(width).enumerate() {
            let at = (queries.at)(query);
            stream(&queries.values[at..at + width], memory, heads, |scores, head| adjust(scores, query, head), scratch, out);
        }
        return;
    }
    for head in 0..heads.count {
        let Scratch { packed, panels, values, scores, .. } = &mut *scratch;
        let (key_panels, value_panels) =
            (pack_keys(memory, head, heads.head_dim, panels), pack_values(memory, head, heads.head_dim, values));
        let mut tile = Tile { queries, head, heads, keys: memory.count, key_panels, value_panels, adjust: &adjust, packed, scores };
        for first in (0..count).step_by(ROWS) {
            let out = &mut out[first * width..];
            match count - first {
                1 => tile.attend::<1>(first, out),
                2 => tile.attend::<2>(first, out),
                3 => tile.attend::<3>(first, out),
                _ => tile.attend::<ROWS>(first, out),
            }
        }
    }
}

/// Panels of 8 keys, [dim][8] each; the last is filled with zeros.
fn pack_keys<'a, K: Fn(usize) -> usize, V: Fn(usize) -> usize>(
    memory: &Memory<K, V>,
    head: usize,
    dim: usize,
    panels: &'a mut Vec<[f32; OUTPUTS]>,
) -> &'a [[f32; OUTPUTS]] {
    let panels = room(panels, memory.count.div_ceil(OUTPUTS) * dim, [0.0; OUTPUTS]);
    for (place, panel) in panels.chunks_exact_mut(dim).enumerate() {
        for lane in 0..OUTPUTS {
            let position = place * OUTPUTS + lane;
            if position < memory.count {
                let key = memory.keys.head(position, head, dim);
                panel.iter_mut().zip(key).for_each(|(keys, value)| keys[lane] = *value);
            } else {
                panel.iter_mut().for_each(|keys| keys[lane] = 0.0);
            }
        }
    }
    panels
}

/// Panels of 8 columns of the values, [positions][8] each; the last is filled with zeros.
fn pack_values<'a, K: Fn(usize) -> usize, V: Fn(usize) -> usize>(
    memory: &Memory<K, V>,
    head: usize,
    dim: usize,
    panels: &'a mut Vec<[f32; OUTPUTS]>,
) -> &'a [[f32; OUTPUTS]] {
    let panels = room(panels, dim.div_ceil(OUTPUTS) * memory.count, [0.0; OUTPUTS]);
    for position in 0..memory.count {
        let (whole, tail) = memory.values.head(position, head, dim).as_chunks::<OUTPUTS>();
        whole.iter().enumerate().for_each(|(place, columns)| panels[place * memory.count + position] = *columns);
        if !tail.is_empty() {
            let last = &mut panels[whole.len() * memory.count + position];
            last[..tail.len()].copy_from_slice(tail);
            last[tail.len()..].fill(0.0);
        }
    }
    panels
}

/// Queries of one head, a few at a time.
struct Tile<'a, Q: Fn(usize) -> usize, A: Fn(&mut [f32], usize, usize)> {
    queries: &'a Positions<'a, Q>,
    head: usize,
    heads: Heads,
    keys: usize,
    key_panels: &'a [[f32; OUTPUTS]],
    value_panels: &'a [[f32; OUTPUTS]],
    adjust: &'a A,
    packed: &'a mut Vec<f32>,
    scores: &'a mut Vec<f32>,
}

impl<Q: Fn(usize) -> usize, A: Fn(&mut [f32], usize, usize)> Tile<'_, Q, A> {
    fn attend<const COUNT: usize>(&mut self, first: usize, out: &mut [f32]) {
        let dim = self.heads.head_dim;
        let padded = self.keys.next_multiple_of(OUTPUTS);
        let scores = room(self.scores, COUNT * padded, 0.0);
        let packed = room(self.packed, COUNT * dim.max(self.keys), 0.0);
        for row in 0..COUNT {
            let query = self.queries.head(first + row, self.head, dim);
            packed[row..].iter_mut().step_by(COUNT).zip(query).for_each(|(packed, value)| *packed = *value);
        }
        let scale = F32x4::splat(self.heads.scale);
        for (place, panel) in self.key_panels.chunks_exact(dim).enumerate() {
            let sums = gemm::tile::<COUNT>(&packed[..COUNT * dim], panel, gemm::zero());
            for (row, sums) in sums.into_iter().enumerate() {
                let at = row * padded + place * OUTPUTS;
                gemm::write(sums.map(|sums| sums * scale), &mut scores[at..at + OUTPUTS]);
            }
        }
        for (row, scores) in scores.chunks_exact_mut(padded).enumerate() {
            let scores = &mut scores[..self.keys];
            (self.adjust)(scores, first + row, self.head);
            let factor = softmax(scores);
            packed[row..].iter_mut().step_by(COUNT).zip(scores).for_each(|(packed, weight)| *packed = *weight * factor);
        }
        let width = self.heads.count * dim;
        for (place, panel) in self.value_panels.chunks_exact(self.keys).enumerate() {
            let sums = gemm::tile::<COUNT>(&packed[..COUNT * self.keys], panel, gemm::zero());
            let columns = place * OUTPUTS..dim.min((place + 1) * OUTPUTS);
            for (row, sums) in sums.into_iter().enumerate() {
                let at = row * width + self.head * dim;
                gemm::write(sums, &mut out[at + columns.start..at + columns.end]);
            }
        }
    }
}

/// Positions that are met at once: a query is then read once for all of them.
const AT_ONCE: usize = 4;

/// One query [heads·dim], all heads.
fn stream<K: Fn(usize) -> usize, V: Fn(usize) -> usize>(
    query: &[f32],
    memory: &Memory<K, V>,
    heads: Heads,
    adjust: impl Fn(&mut [f32], usize),
    scratch: &mut Scratch,
    out: &mut [f32],
) {
    let (dim, count) = (heads.head_dim, memory.count);
    // Room for whole groups of positions: the last one repeats the last position.
    let padded = count.next_multiple_of(AT_ONCE);
    let group = |first: usize| std::array::from_fn::<usize, AT_ONCE, _>(|place| (first + place).min(count - 1));
    let scores = room(&mut scratch.scores, heads.count * padded, 0.0);
    let width = heads.count * dim;
    for first in (0..count).step_by(AT_ONCE) {
        let keys = group(first).map(|position| &memory.keys.values[(memory.keys.at)(position)..][..width]);
        for (head, query) in query.chunks_exact(dim).enumerate() {
            let products = dots(query, keys.map(|keys| &keys[head * dim..(head + 1) * dim]));
            let products = products * F32x4::splat(heads.scale);
            scores[head * padded + first..][..AT_ONCE].copy_from_slice(&products.to_array());
        }
    }
    for (head, scores) in scores.chunks_exact_mut(padded).enumerate() {
        adjust(&mut scores[..count], head);
        let factor = softmax(&mut scores[..count]);
        scores[..count].iter_mut().for_each(|score| *score *= factor);
        scores[count..].fill(0.0);
    }
    out.fill(0.0);
    for first in (0..count).step_by(AT_ONCE) {
        let values = group(first).map(|position| &memory.values.values[(memory.values.at)(position)..][..width]);
        for (head, out) in out.chunks_exact_mut(dim).enumerate() {
            let weights: [f32; AT_ONCE] = std::array::from_fn(|place| scores[head * padded + first + place]);
            gather(weights, values.map(|values| &values[head * dim..(head + 1) * dim]), out);
        }
    }
}

/// The products of one row with four.
#[inline(always)]
fn dots(query: &[f32], keys: [&[f32]; AT_ONCE]) -> F32x4 {
    let (fours, tail) = query.as_chunks::<4>();
    let [a, b, c, d] = keys.map(|key| key.as_chunks::<4>().0);
    let mut sums = [F32x4::zero(); AT_ONCE];
    for ((((query, a), b), c), d) in fours.iter().zip(a).zip(b).zip(c).zip(d) {
        let query = F32x4::load(query);
        for (sum, key) in sums.iter_mut().zip([a, b, c, d]) {
            *sum = *sum + query * F32x4::load(key);
        }
    }
    let sums = F32x4::sums(sums);
    if tail.is_empty() {
        return sums;
    }
    let whole = fours.len() * 4;
    let rest = keys.map(|key| tail.iter().zip(&key[whole..]).map(|(a, b)| a * b).sum());
    sums + F32x4::load(&rest)
}

/// out += weights · values
#[inline(always)]
fn gather(weights: [f32; AT_ONCE], values: [&[f32]; AT_ONCE], out: &mut [f32]) {
    let (fours, tail) = out.as_chunks_mut::<4>();
    let whole = fours.len() * 4;
    let [a, b, c, d] = values.map(|value| value.as_chunks::<4>().0);
    let weight_fours = weights.map(F32x4::splat);
    for ((((out, a), b), c), d) in fours.iter_mut().zip(a).zip(b).zip(c).zip(d) {
        let mut sum = F32x4::load(out);
        for (weight, value) in weight_fours.iter().zip([a, b, c, d]) {
            sum = sum + *weight * F32x4::load(value);
        }
        sum.store(out);
    }
    for (place, out) in tail.iter_mut().enumerate() {
        *out += values.iter().zip(weights).map(|(value, weight)| weight * value[whole + place]).sum::<f32>();
    }
}
