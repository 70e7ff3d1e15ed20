//! Products of x, quantized as it comes, with q8 and q4 panels: `Int8Activations` arithmetic. Each row of x has a scale a block of
//! 32, the largest of its values over 127; products of a block are sums of integers, exact; blocks are summed in f32, in order,
//! so that an output does not depend on how many rows it is computed with.

use crate::ops::cpu::gemm::{Sums, write};
use crate::ops::cpu::math::Halves;
use crate::ops::cpu::simd::{F32x4, I16x8, I32x4};
use crate::weights::panels::{OUTPUTS, Q4_BLOCK, Q8_BLOCK, SCALES};
use crate::weights::quant::BLOCK;

/// Rows of a full tile: 4 x 8 sums of integers, in eight registers, leave room for the weights.
pub(crate) const ROWS: usize = 4;

/// 32 values of a row of x, as integers times `scale`.
#[derive(Clone, Copy)]
pub(crate) struct Block {
    /// Two values each, the first in the low half.
    pairs: [i32; BLOCK / 2],
    scale: f32,
    sum: i32,
}

impl Block {
    pub(crate) const ZERO: Self = Self { pairs: [0; BLOCK / 2], scale: 0.0, sum: 0 };

    fn new(values: &[f32; BLOCK]) -> Self {
        let fours = values.as_chunks::<4>().0;
        let largest = fours.iter().fold(F32x4::zero(), |most, four| most.max(F32x4::load(four).abs())).highest();
        // Below, its inverse is infinite.
        if largest < 1e-30 {
            return Self::ZERO;
        }
        let factor = F32x4::splat(127.0 / largest);
        // Added, it rounds to the nearest integer, the even one of two; taken from the bits, it leaves that integer.
        let rounding = F32x4::splat(12_582_912.0);
        let mut block = Self { scale: largest / 127.0, ..Self::ZERO };
        let mut sum = I32x4::splat(0);
        for (eight, pairs) in values.as_chunks::<8>().0.iter().zip(block.pairs.as_chunks_mut::<4>().0) {
            let integers = |at: usize| {
                let four = F32x4::load(&std::array::from_fn(|lane| eight[at + lane]));
                (four * factor + rounding).bits() - rounding.bits()
            };
            let (low, high) = (integers(0), integers(4));
            sum = sum + (low + high);
            I16x8::narrow(low, high).store(bytemuck::cast_mut(pairs));
        }
        block.sum = sum.sum();
        block
    }
}

/// Rows of x, `k` floats each → groups of up to `ROWS` of them, each group [blocks][its rows]. The last block of a row is filled
/// with zeros.
pub(crate) fn quantize(x: &[f32], k: usize, blocks: &mut [Block]) {
    let per_row = k.div_ceil(BLOCK);
    for (rows, blocks) in x.chunks(ROWS * k).zip(blocks.chunks_mut(ROWS * per_row)) {
        let count = rows.len() / k;
        for (row, values) in rows.chunks_exact(k).enumerate() {
            let (whole, tail) = values.as_chunks::<BLOCK>();
            let mut blocks = blocks[row..].iter_mut().step_by(count);
            whole.iter().zip(&mut blocks).for_each(|(values, block)| *block = Block::new(values));
            if let Some(last) = blocks.next() {
                let mut padded = [0.0; BLOCK];
                padded[..tail.len()].copy_from_slice(tail);
                *last = Block::new(&padded);
            }
        }
    }
}

/// What the kernels need beside weights. Make it before a loop: it keeps its constants in registers.
pub(crate) struct Constants {
    halves: Halves,
    /// The lowest three of four nibbles.
    nibbles: [I16x8; 3],
}

impl Constants {
    #[inline(always)]
    fn new() -> Self {
        // Not to be known to a compiler: V8 builds a constant vector anew where it is used.
        Self { halves: Halves::new(), nibbles: std::hint::black_box([0xf, 0xf0, 0xf00]).map(I16x8::splat) }
    }
}

/// A block of a panel, 8 outputs times 32 inputs, as words: first the 8 scales, as f16.
pub(crate) trait Weights {
    /// How much integers are stored above their value.
    const ABOVE: i32;

    fn words(&self) -> &[u32];

    /// Each pair of inputs with its integers: two of 4 outputs.
    fn each_pair(&self, constants: &Constants, meet: impl FnMut(usize, [I16x8; 2]));

    #[inline(always)]
    fn scales(&self, Constants { halves, .. }: &Constants) -> Sums {
        let scales: &[[i16; 4]] = bytemuck::cast_slice(&self.words()[..SCALES]);
        [halves.widen(&scales[0]), halves.widen(&scales[1])]
    }

    /// The sums of integers of 8 outputs, for each row of x.
    #[inline(always)]
    fn products<const ROWS: usize>(&self, x: &[Block; ROWS], constants: &Constants) -> [[I32x4; 2]; ROWS] {
        by_pairs(self, x, constants)
    }
}

/// A pair of inputs after the other, which serves all rows of x.
#[inline(always)]
fn by_pairs<W: Weights + ?Sized, const ROWS: usize>(weights: &W, x: &[Block; ROWS], constants: &Constants) -> [[I32x4; 2]; ROWS] {
    let mut sums = x.each_ref().map(|x| [I32x4::splat(-W::ABOVE * x.sum); 2]);
    weights.each_pair(constants, |pair, weights| meet(&mut sums, x, pair, weights));
    sums
}

pub(crate) type Q8 = [u32; Q8_BLOCK];
pub(crate) type Q4 = [u32; Q4_BLOCK];

impl Weights for Q8 {
    const ABOVE: i32 = 0;

    #[inline(always)]
    fn words(&self) -> &[u32] {
        self
    }

    #[inline(always)]
    fn each_pair(&self, _: &Constants, mut meet: impl FnMut(usize, [I16x8; 2])) {
        let pairs: &[[[i8; 8]; 2]] = bytemuck::cast_slice(&self[SCALES..]);
        for (pair, [low, high]) in pairs.iter().enumerate() {
            meet(pair, [I16x8::widen(low), I16x8::widen(high)]);
        }
    }
}

impl Weights for Q4 {
    const ABOVE: i32 = 8;

    #[inline(always)]
    fn words(&self) -> &[u32] {
        self
    }

    #[inline(always)]
    fn each_pair(&self, Constants { nibbles: [nibble, ..], .. }: &Constants, mut meet: impl FnMut(usize, [I16x8; 2])) {
        let eights: &[[[i16; 8]; 2]] = bytemuck::cast_slice(&self[SCALES..]);
        for (eight, [low, high]) in eights.iter().enumerate() {
            let (low, high) = (I16x8::load(low), I16x8::load(high));
            meet(4 * eight, [low & *nibble, high & *nibble]);
            meet(4 * eight + 1, [low.shift_right::<4>() & *nibble, high.shift_right::<4>() & *nibble]);
            meet(4 * eight + 2, [low.shift_right::<8>() & *nibble, high.shift_right::<8>() & *nibble]);
            meet(4 * eight + 3, [low.shift_right::<12>(), high.shift_right::<12>()]);
        }
    }

    #[inline(always)]
    fn products<const ROWS: usize>(&self, x: &[Block; ROWS], constants: &Constants) -> [[I32x4; 2]; ROWS] {
        if ROWS == 1 { x.each_ref().map(|x| alone(self, x, constants)) } else { by_pairs(self, x, constants) }
    }
}

/// The products of one row: its registers have room for sums that are 16 and 256 times too large, so that nibbles need no shift.
#[inline(always)]
fn alone(weights: &Q4, x: &Block, constants: &Constants) -> [I32x4; 2] {
    let eights: &[[[i16; 8]; 2]] = bytemuck::cast_slice(&weights[SCALES..]);
    let mut sums = [[I32x4::splat(-Q4::ABOVE * x.sum); 2], [I32x4::splat(0); 2], [I32x4::splat(0); 2]];
    for (eight, halves) in eights.iter().enumerate() {
        let halves = halves.each_ref().map(I16x8::load);
        let pairs = std::array::from_fn::<_, 4, _>(|pair| I16x8::splat_pair(x.pairs[4 * eight + pair]));
        for half in 0..2 {
            for (sums, (pair, mask)) in sums.iter_mut().zip(pairs.iter().zip(constants.nibbles)) {
                sums[half] = sums[half] + pair.dot(halves[half] & mask);
            }
            sums[0][half] = sums[0][half] + pairs[3].dot(halves[half].shift_right::<12>());
        }
    }
    let [ones, sixteens, more] = sums;
    std::array::from_fn(|half| ones[half] + (sixteens[half] + more[half].divide::<4>()).divide::<4>())
}

/// Blocks → f32 weights [inputs][8], for `Exact` arithmetic; of the last block as many inputs as there is room for.
#[inline(never)]
pub(crate) fn unpack<W: Weights>(panel: &[W], out: &mut [[f32; OUTPUTS]]) {
    let constants = Constants::new();
    // The first of a pair alone, and the second.
    let only = [I16x8::splat_pair(1), I16x8::splat_pair(1 << 16)];
    let above = I32x4::splat(W::ABOVE);
    for (weights, out) in panel.iter().zip(out.chunks_mut(BLOCK)) {
        let scales = weights.scales(&constants);
        weights.each_pair(&constants, |pair, integers| {
            for (out, only) in out.iter_mut().skip(2 * pair).zip(only) {
                let values = [0, 1].map(|half| (integers[half].dot(only) - above).to_floats() * scales[half]);
                write(values, out);
            }
        });
    }
}

/// sums += the pair `pair` of each row times its weights.
#[inline(always)]
fn meet<const ROWS: usize>(sums: &mut [[I32x4; 2]; ROWS], x: &[Block; ROWS], pair: usize, [low, high]: [I16x8; 2]) {
    for (sums, x) in sums.iter_mut().zip(x) {
        let pair = I16x8::splat_pair(x.pairs[pair]);
        *sums = [sums[0] + pair.dot(low), sums[1] + pair.dot(high)];
    }
}

/// rows · panel; `rows` are a group of `quantize`.
#[inline(never)]
pub(crate) fn tile<W: Weights, const ROWS: usize>(rows: &[Block], panel: &[W]) -> [Sums; ROWS] {
    let constants = Constants::new();
    let mut sums = [[F32x4::zero(); 2]; ROWS];
    for (x, weights) in rows.as_chunks::<ROWS>().0.iter().zip(panel) {
        let products = weights.products(x, &constants);
        let [low, high] = weights.scales(&constants);
        for row in 0..ROWS {
            let scale = F32x4::splat(x[row].scale);
            let [first, second] = products[row];
            sums[row] = [sums[row][0] + first.to_floats() * (scale * low), sums[row][1] + second.to_floats() * (scale * high)];
        }
    }
    sums
}
