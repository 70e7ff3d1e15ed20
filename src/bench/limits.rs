//! What one thread can do, by loops of nothing else. Their results are sums nobody needs, so that no loop is left out.

use std::hint::black_box;

/// A buffer that is read in order, and nothing else.
pub struct Reader {
    words: Vec<u32>,
}

/// Sums that do not wait for each other.
const LANES: usize = 32;

impl Reader {
    pub fn new(bytes: usize) -> Self {
        // Not zeros: a system may keep those in one page.
        Self { words: (0..(bytes / 4).max(LANES) as u32).collect() }
    }

    /// Reads all of it once.
    pub fn read(&self) -> u32 {
        let mut sums = [0u32; LANES];
        for words in self.words.as_chunks::<LANES>().0 {
            for (sum, word) in sums.iter_mut().zip(words) {
                *sum = sum.wrapping_add(*word);
            }
        }
        black_box(sums.into_iter().fold(0, u32::wrapping_add))
    }
}

/// Registers that are worked on at once: enough for a multiply and an add to be long done when their turn comes again, and few
/// enough for the registers of a CPU.
const CHAINS: usize = 12;

/// f32 multiplications and additions from registers, `turns` times. Returns how many operations that were.
pub fn multiply_add(turns: usize) -> f64 {
    let mut values: [simd::F32; CHAINS] = std::array::from_fn(|chain| simd::splat(chain as f32));
    let (x, y) = (simd::splat(black_box(0.999)), simd::splat(black_box(1e-3)));
    for _ in 0..turns {
        for value in &mut values {
            *value = simd::multiply_add(*value, x, y);
        }
    }
    black_box(values);
    (turns * CHAINS * simd::F32_LANES * 2) as f64
}

/// Weights of eight bits that lie in the nearest cache.
const WEIGHTS: usize = 4096;

/// Rows of activations that meet a weight when it has been widened: as many as stay in registers beside their sums.
const ROWS: usize = 3;

/// Products of eight-bit weights with rows of activations that are widened already, summed in 32 bits: what a q8 product does
/// at the very least, `turns` times over `WEIGHTS` weights. Returns how many operations that were.
pub fn multiply_add_int8(turns: usize) -> f64 {
    let weights: Vec<i8> = (0..WEIGHTS).map(|place| (place % 251) as i8).collect();
    let weights = black_box(&weights[..]);
    let activations: [[i16; 16]; ROWS] = black_box(std::array::from_fn(|row| std::array::from_fn(|place| (row * 7 + place) as i16 - 9)));
    let mut sum = 0i32;
    for _ in 0..turns {
        sum = sum.wrapping_add(simd::dot(black_box(weights), &activations));
    }
    black_box(sum);
    (turns * WEIGHTS * ROWS * 2) as f64
}

#[cfg(target_family = "wasm")]
mod simd {
    use core::arch::wasm32::{
        f32x4_add, f32x4_mul, f32x4_splat, i16x8, i16x8_extend_high_i8x16, i16x8_extend_low_i8x16, i32x4_add, i32x4_dot_i16x8,
        i32x4_extract_lane, i32x4_splat, v128, v128_load,
    };

    use super::ROWS;

    pub type F32 = v128;
    pub const F32_LANES: usize = 4;

    pub fn splat(value: f32) -> F32 {
        f32x4_splat(value)
    }

    #[inline(always)]
    pub fn multiply_add(value: F32, x: F32, y: F32) -> F32 {
        f32x4_add(f32x4_mul(value, x), y)
    }

    /// The products of all rows, summed.
    pub fn dot(weights: &[i8], activations: &[[i16; 16]; ROWS]) -> i32 {
        let half = |row: &[i16; 16], from: usize| {
            let a: [i16; 8] = std::array::from_fn(|place| row[from + place]);
            i16x8(a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7])
        };
        let rows = activations.each_ref().map(|row| [half(row, 0), half(row, 8)]);
        let mut sums = [[i32x4_splat(0); 2]; ROWS];
        for block in weights.as_chunks::<16>().0 {
            // SAFETY: a block is 16 bytes long.
            let weights = unsafe { v128_load(block.as_ptr().cast()) };
            let weights = [i16x8_extend_low_i8x16(weights), i16x8_extend_high_i8x16(weights)];
            for (sums, row) in sums.iter_mut().zip(&rows) {
                for half in 0..2 {
                    sums[half] = i32x4_add(sums[half], i32x4_dot_i16x8(weights[half], row[half]));
                }
            }
        }
        let sum = sums.into_iter().flatten().fold(i32x4_splat(0), |all, sum| i32x4_add(all, sum));
        [i32x4_extract_lane::<0>(sum), i32x4_extract_lane::<1>(sum), i32x4_extract_lane::<2>(sum), i32x4_extract_lane::<3>(sum)]
            .into_iter()
            .fold(0, i32::wrapping_add)
    }
}

/// The same in words that any compiler turns into what its CPU has.
#[cfg(not(target_family = "wasm"))]
mod simd {
    pub type F32 = [f32; 8];
    pub const F32_LANES: usize = 8;

    pub fn splat(value: f32) -> F32 {
        [value; F32_LANES]
    }

    #[inline(always)]
    pub fn multiply_add(value: F32, x: F32, y: F32) -> F32 {
        std::array::from_fn(|lane| value[lane] * x[lane] + y[lane])
    }

    pub fn dot(weights: &[i8], activations: &[[i16; 16]; super::ROWS]) -> i32 {
        let mut sums = [0i32; 16];
        for block in weights.as_chunks::<16>().0 {
            for row in activations {
                for ((sum, weight), activation) in sums.iter_mut().zip(block).zip(row) {
                    *sum = sum.wrapping_add(i32::from(*weight) * i32::from(*activation));
                }
            }
        }
        sums.into_iter().fold(0, i32::wrapping_add)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_is_read() {
        let reader = Reader::new(4 * 1000 * LANES);
        let expected = (0..(1000 * LANES) as u32).fold(0, u32::wrapping_add);
        assert_eq!(reader.read(), expected);
        assert!(Reader::new(0).words.len() == LANES);
    }

    #[test]
    fn every_weight_is_multiplied() {
        let weights: Vec<i8> = (0..128).map(|place| (place * 7 % 256) as u8 as i8).collect();
        let activations: [[i16; 16]; ROWS] = std::array::from_fn(|row| std::array::from_fn(|place| (place * 3 + row) as i16 - 5));
        let product =
            |row: &[i16; 16]| -> i32 { weights.iter().zip(row.iter().cycle()).map(|(weight, x)| i32::from(*weight) * i32::from(*x)).sum() };
        let expected: i32 = activations.iter().map(product).sum();
        assert_eq!(simd::dot(&weights, &activations), expected);
    }

    #[test]
    fn operations_are_counted() {
        assert_eq!(multiply_add(3), (3 * CHAINS * simd::F32_LANES * 2) as f64);
        assert_eq!(multiply_add_int8(2), (2 * WEIGHTS * ROWS * 2) as f64);
    }
}
