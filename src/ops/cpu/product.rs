//! The products of `linear`: a panel of 8 outputs at a time meets all rows of x, so that weights are read once and in order;
//! what rides along is done while a tile of outputs is in registers.

use std::ops::Range;

use crate::ops::Activation;
use crate::ops::cpu::gemm::{self, Sums, read, write};
use crate::ops::cpu::int8::{self, Block};
use crate::ops::cpu::math::activate;
use crate::ops::cpu::scratch::room;
use crate::ops::cpu::simd::F32x4;
use crate::weights::panels::{OUTPUTS, panel_words, unpack_columns};
use crate::weights::quant::{BLOCK, Quant};

/// Inputs of a slice of a panel: with the rows of a tile it stays in the first cache. A multiple of `BLOCK`.
const SLICE: usize = 512;
/// The same where one row meets four panels.
const WIDE_SLICE: usize = 128;

/// x [m, k], ready for the kernels.
pub(crate) enum Input<'a> {
    /// In groups, as `gemm::pack` leaves them.
    Floats(&'a [f32]),
    /// For q8 and q4 alone.
    Integers(&'a [Block]),
}

/// y[.., rows] = x · panelsᵀ, finished: the outputs of one chunk of a matrix. `panels` is as in `weights::panels`.
pub(crate) fn product(
    x: &Input,
    [m, k]: [usize; 2],
    (quant, words): (Quant, &[u32]),
    rows: Range<usize>,
    outputs: &Outputs,
    panels: &mut Vec<[f32; OUTPUTS]>,
    y: &mut [f32],
) {
    let strips = Strips { outputs, rows };
    match (x, quant) {
        (Input::Integers(x), Quant::Q8) => by_integers::<int8::Q8>(x, k, words.as_chunks().0, strips, y),
        (Input::Integers(x), _) => by_integers::<int8::Q4>(x, k, words.as_chunks().0, strips, y),
        (Input::Floats(x), _) => by_floats(x, [m, k], Words { quant, words, panel: panel_words(quant, k) }, strips, panels, y),
    }
}

/// Rows of x [m, k] → what `product` reads, with `integers` where the arithmetic is that of integers.
pub(crate) fn input<'a>(
    x: &'a [f32],
    [m, k]: [usize; 2],
    integers: bool,
    packed: &'a mut Vec<f32>,
    blocks: &'a mut Vec<Block>,
) -> Input<'a> {
    if integers {
        return Input::Integers(quantized(x, k, blocks));
    }
    if m == 1 || k == 0 {
        return Input::Floats(x);
    }
    let packed = room(packed, m * k, 0.0);
    gemm::pack(x, k, packed);
    Input::Floats(packed)
}

fn quantized<'a>(x: &[f32], k: usize, blocks: &'a mut Vec<Block>) -> &'a [Block] {
    let per_row = k.div_ceil(BLOCK);
    let blocks = room(blocks, x.len() / k.max(1) * per_row, Block::ZERO);
    if k > 0 {
        int8::quantize(x, k, blocks);
    }
    blocks
}

fn by_integers<W: int8::Weights>(x: &[Block], k: usize, panels: &[W], strips: Strips, y: &mut [f32]) {
    let per_row = k.div_ceil(BLOCK).max(1);
    for (place, panel) in panels.chunks_exact(per_row).enumerate() {
        let strip = strips.strip(place);
        for (group, rows) in x.chunks(int8::ROWS * per_row).enumerate() {
            let first = group * int8::ROWS;
            match rows.len() / per_row {
                1 => strip.finish(first, &int8::tile::<W, 1>(rows, panel), y),
                2 => strip.finish(first, &int8::tile::<W, 2>(rows, panel), y),
                3 => strip.finish(first, &int8::tile::<W, 3>(rows, panel), y),
                _ => strip.finish(first, &int8::tile::<W, { int8::ROWS }>(rows, panel), y),
            }
        }
    }
}

/// `packed` is x as `gemm::pack` leaves it.
fn by_floats(packed: &[f32], [m, k]: [usize; 2], matrix: Words, strips: Strips, scratch: &mut Vec<[f32; OUTPUTS]>, y: &mut [f32]) {
    let mut first = 0;
    while m == 1 && first + gemm::WIDE <= matrix.panels() {
        let mut sums = gemm::zero();
        for from in (0..k).step_by(WIDE_SLICE) {
            let to = k.min(from + WIDE_SLICE);
            let panels = matrix.columns::<{ gemm::WIDE }>(first, from..to, scratch);
            sums = gemm::wide(&packed[from..to], panels, sums);
        }
        for (place, sums) in sums.into_iter().enumerate() {
            strips.strip(first + place).finish(0, &[sums], y);
        }
        first += gemm::WIDE;
    }
    for place in first..matrix.panels() {
        let strip = strips.strip(place);
        for from in (0..k.max(1)).step_by(SLICE) {
            let slice = from..k.min(from + SLICE);
            let [panel] = matrix.columns::<1>(place, slice.clone(), scratch);
            for (group, rows) in packed.chunks(gemm::ROWS * k).enumerate() {
                let tile = Tile { strip: &strip, first: group * gemm::ROWS, rows, panel, slice: slice.clone(), k };
                match rows.len() / k {
                    1 => tile.add::<1>(y),
                    2 => tile.add::<2>(y),
                    3 => tile.add::<3>(y),
                    _ => tile.add::<{ gemm::ROWS }>(y),
                }
            }
        }
    }
}

/// The panels of a chunk.
struct Words<'a> {
    quant: Quant,
    words: &'a [u32],
    panel: usize,
}

impl Words<'_> {
    fn panels(&self) -> usize {
        self.words.len() / self.panel.max(1)
    }

    /// Columns of `COUNT` panels from `first` on, as f32: where they lie, or unpacked to `scratch`.
    fn columns<'a, const COUNT: usize>(
        &'a self,
        first: usize,
        columns: Range<usize>,
        scratch: &'a mut Vec<[f32; OUTPUTS]>,
    ) -> [&'a [[f32; OUTPUTS]]; COUNT] {
        let panel = |place: usize| &self.words[(first + place) * self.panel..(first + place + 1) * self.panel];
        if self.quant == Quant::F32 {
            return std::array::from_fn(|place| &bytemuck::cast_slice(panel(place))[columns.clone()]);
        }
        let scratch = room(scratch, COUNT * columns.len(), [0.0; OUTPUTS]);
        for (place, out) in scratch.chunks_exact_mut(columns.len()).enumerate() {
            let block = columns.start / BLOCK;
            match self.quant {
                Quant::Q8 => int8::unpack::<int8::Q8>(&panel(place).as_chunks().0[block..], out),
                Quant::Q4 => int8::unpack::<int8::Q4>(&panel(place).as_chunks().0[block..], out),
                _ => unpack_columns(self.quant, panel(place), columns.start, out),
            }
        }
        let scratch = &*scratch;
        std::array::from_fn(|place| &scratch[place * columns.len()..(place + 1) * columns.len()])
    }
}

/// Up to `gemm::ROWS` rows of x with a slice of a panel.
struct Tile<'a> {
    strip: &'a Strip<'a>,
    first: usize,
    rows: &'a [f32],
    panel: &'a [[f32; OUTPUTS]],
    slice: Range<usize>,
    k: usize,
}

impl Tile<'_> {
    fn add<const ROWS: usize>(self, y: &mut [f32]) {
        let before = if self.slice.start == 0 { gemm::zero() } else { self.strip.kept(self.first, y) };
        let sums = gemm::tile::<ROWS>(&self.rows[self.slice.start * ROWS..self.slice.end * ROWS], self.panel, before);
        if self.slice.end == self.k { self.strip.finish(self.first, &sums, y) } else { self.strip.keep(self.first, sums, y) }
    }
}

/// Where products go, and what becomes of them there.
pub(crate) struct Outputs<'a> {
    pub n: usize,
    pub bias: Option<&'a [f32]>,
    pub activation: Activation,
    /// [m, n]
    pub other: Option<&'a [f32]>,
    /// Is `other` a factor? Else it is added.
    pub gates: bool,
}

/// The outputs of a chunk.
struct Strips<'a> {
    outputs: &'a Outputs<'a>,
    rows: Range<usize>,
}

impl<'a> Strips<'a> {
    fn strip(&self, panel: usize) -> Strip<'a> {
        let at = self.rows.start + panel * OUTPUTS;
        let width = OUTPUTS.min(self.rows.end - at);
        let bias = self.outputs.bias.map_or([F32x4::zero(); 2], |bias| read(&bias[at..at + width]));
        Strip { outputs: self.outputs, at, width, bias }
    }
}

/// The outputs of a panel: `width` columns of y from `at` on.
struct Strip<'a> {
    outputs: &'a Outputs<'a>,
    at: usize,
    width: usize,
    bias: Sums,
}

impl Strip<'_> {
    fn row(&self, row: usize) -> Range<usize> {
        let at = row * self.outputs.n + self.at;
        at..at + self.width
    }

    /// Unfinished sums, which later slices add to.
    fn keep<const ROWS: usize>(&self, first: usize, sums: [Sums; ROWS], y: &mut [f32]) {
        sums.into_iter().enumerate().for_each(|(row, sums)| write(sums, &mut y[self.row(first + row)]));
    }

    fn kept<const ROWS: usize>(&self, first: usize, y: &[f32]) -> [Sums; ROWS] {
        std::array::from_fn(|row| read(&y[self.row(first + row)]))
    }

    /// activation(sums + bias), times or plus `other`.
    #[inline(never)]
    fn finish(&self, first: usize, sums: &[Sums], y: &mut [f32]) {
        // A loop of its own for each that models use much.
        match self.outputs.activation {
            Activation::Identity => self.each(first, sums, y, |x| x),
            Activation::Relu => self.each(first, sums, y, |x| activate(Activation::Relu, x)),
            Activation::Gelu => self.each(first, sums, y, |x| activate(Activation::Gelu, x)),
            Activation::GeluNew => self.each(first, sums, y, |x| activate(Activation::GeluNew, x)),
            other => self.each(first, sums, y, |x| activate(other, x)),
        }
    }

    #[inline(always)]
    fn each(&self, first: usize, sums: &[Sums], y: &mut [f32], activate: impl Fn(F32x4) -> F32x4) {
        for (row, sums) in sums.iter().enumerate() {
            let row = self.row(first + row);
            let mut values = [activate(sums[0] + self.bias[0]), activate(sums[1] + self.bias[1])];
            if let Some(other) = self.outputs.other {
                let other = read(&other[row.clone()]);
                let with = |half: usize| if self.outputs.gates { values[half] * other[half] } else { values[half] + other[half] };
                values = [with(0), with(1)];
            }
            write(values, &mut y[row]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weights::panels::from_rows;
    use crate::weights::quant::words_per_row;

    fn values(count: usize) -> Vec<f32> {
        (0..count).map(|i| ((i * 7919 + 13) % 1009) as f32 / 504.0 - 1.0).collect()
    }

    /// Rows of words whose scales and floats are finite.
    fn matrix(quant: Quant, n: usize, k: usize) -> Vec<u32> {
        let count = n * words_per_row(quant, k);
        let rows = match quant {
            Quant::F32 => bytemuck::cast_vec(values(count)),
            _ => (0..count as u32).map(|i| i.wrapping_mul(0x9e37_79b9) & 0x3bff_3bff).collect(),
        };
        from_rows(quant, k, rows)
    }

    fn of(x: &[f32], [m, k, n]: [usize; 3], quant: Quant, words: &[u32], integers: bool) -> Vec<f32> {
        let outputs = Outputs { n, bias: None, activation: Activation::Gelu, other: None, gates: false };
        let (mut packed, mut blocks, mut y) = (vec![], vec![], vec![f32::NAN; m * n]);
        let input = input(x, [m, k], integers, &mut packed, &mut blocks);
        product(&input, [m, k], (quant, words), 0..n, &outputs, &mut vec![], &mut y);
        y
    }

    #[test]
    fn a_row_is_the_same_to_the_bit_alone_and_among_others() {
        for quant in Quant::ALL {
            for integers in [false, true] {
                if integers && !matches!(quant, Quant::Q8 | Quant::Q4) {
                    continue;
                }
                for [m, k, n] in [[2, 33, 5], [5, 64, 40], [7, 1100, 35]] {
                    let (x, words) = (values(m * k), matrix(quant, n, k));
                    let together = of(&x, [m, k, n], quant, &words, integers);
                    assert!(together.iter().all(|y| y.is_finite()));
                    for (x, together) in x.chunks_exact(k).zip(together.chunks_exact(n)) {
                        assert_eq!(of(x, [1, k, n], quant, &words, integers), together, "{quant} {m}x{k}x{n}, integers: {integers}");
                    }
                }
            }
        }
    }

    #[test]
    fn nothing_is_made_of_nothing() {
        assert_eq!(of(&[], [3, 0, 2], Quant::F32, &[], false).len(), 6);
        assert!(of(&[], [0, 4, 2], Quant::Q8, &matrix(Quant::Q8, 2, 4), true).is_empty());
    }
}
