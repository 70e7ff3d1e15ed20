//! Products of f32 with panels [k][8]: the inner loops of `linear` in `Exact` arithmetic and of `attention`. Every output is one
//! sum in the order of k, so that it does not depend on how many rows it is computed with.

use crate::ops::cpu::simd::F32x4;
use crate::weights::panels::OUTPUTS;

/// Rows of a full tile: 4 x 8 sums, in eight of the sixteen SIMD registers that browsers have. With more rows compilers keep a
/// register a row beside them, and run out.
pub(crate) const ROWS: usize = 4;
/// Panels that one row of x meets at once: as many sums as hide the latency of an addition.
pub(crate) const WIDE: usize = 4;

/// Sums of 8 outputs.
pub(crate) type Sums = [F32x4; 2];

#[inline(always)]
fn load(outputs: &[f32; OUTPUTS]) -> Sums {
    let halves: &[[f32; 4]; 2] = bytemuck::cast_ref(outputs);
    [F32x4::load(&halves[0]), F32x4::load(&halves[1])]
}

pub(crate) fn zero<const ROWS: usize>() -> [Sums; ROWS] {
    [[F32x4::zero(); 2]; ROWS]
}

/// sums += rows · panel; `rows` packed as [k][ROWS].
#[inline(never)]
pub(crate) fn tile<const ROWS: usize>(rows: &[f32], panel: &[[f32; OUTPUTS]], mut sums: [Sums; ROWS]) -> [Sums; ROWS] {
    for (x, weights) in rows.as_chunks::<ROWS>().0.iter().zip(panel) {
        let [low, high] = load(weights);
        for (sums, x) in sums.iter_mut().zip(x) {
            let x = F32x4::splat(*x);
            *sums = [sums[0] + x * low, sums[1] + x * high];
        }
    }
    sums
}

/// The same for one row and `WIDE` panels.
#[inline(never)]
pub(crate) fn wide(row: &[f32], panels: [&[[f32; OUTPUTS]]; WIDE], mut sums: [Sums; WIDE]) -> [Sums; WIDE] {
    let [first, second, third, fourth] = panels;
    for ((((x, first), second), third), fourth) in row.iter().zip(first).zip(second).zip(third).zip(fourth) {
        let x = F32x4::splat(*x);
        for (sums, weights) in sums.iter_mut().zip([first, second, third, fourth]) {
            let [low, high] = load(weights);
            *sums = [sums[0] + x * low, sums[1] + x * high];
        }
    }
    sums
}

/// Rows of x, `k` floats each → groups of up to `ROWS` of them, each group [k][its rows].
pub(crate) fn pack(x: &[f32], k: usize, packed: &mut [f32]) {
    for (rows, packed) in x.chunks(ROWS * k).zip(packed.chunks_mut(ROWS * k)) {
        let count = rows.len() / k;
        for (row, values) in rows.chunks_exact(k).enumerate() {
            packed[row..].iter_mut().step_by(count).zip(values).for_each(|(packed, value)| *packed = *value);
        }
    }
}

/// Up to 8 floats; zeros behind them.
#[inline(always)]
pub(crate) fn read(values: &[f32]) -> Sums {
    let outputs: [f32; OUTPUTS] = values.try_into().unwrap_or_else(|_| {
        let mut padded = [0.0; OUTPUTS];
        padded[..values.len()].copy_from_slice(values);
        padded
    });
    load(&outputs)
}

/// As many floats as `out` takes.
#[inline(always)]
pub(crate) fn write(values: Sums, out: &mut [f32]) {
    match out.as_chunks_mut::<4>().0 {
        [low, high] => {
            values[0].store(low);
            values[1].store(high);
        }
        _ => {
            let values = values.map(F32x4::to_array);
            out.iter_mut().zip(values.as_flattened()).for_each(|(out, value)| *out = *value);
        }
    }
}
