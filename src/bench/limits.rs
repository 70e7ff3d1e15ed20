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

/// Products of eight-bit weights with activations that are widened already, summed in 32 bits: what a q8 product does at the
/// very least, `turns` times over `WEIGHTS` weights. Returns how many operations that were.
pub fn multiply_add_int8(turns: usize) -> f64 {
    let weights: Vec<i8> = (0..WEIGHTS).map(|place| (place % 251) as i8).collect();
    let weights = black_box(&weights[..]);
    let activations = black_box([3i16, -2, 7, 5, -9, 11, 1, -4, 8, 6, -3, 2, -7, 10, 4, -1]);
    let mut sum = 0i32;
    for _ in 0..turns {
        sum = sum.wrapping_add(simd::dot(black_box(weights), &activations));
    }
    black_box(sum);
    (turns * WEIGHTS * 2) as f64
}

#[cfg(target_family = "wasm")]
mod simd {
    use core::arch::wasm32::{
        f32x4_add, f32x4_mul, f32x4_splat, i16x8, i16x8_extend_high_i8x16, i16x8_extend_low_i8x16, i32x4_add, i32x4_dot_i16x8,
        i32x4_extract_lane, i32x4_splat, v128, v128_load,
    };

    pub type F32 = v128;
    pub const F32_LANES: usize = 4;

    pub fn splat(value: f32) -> F32 {
        f32x4_splat(value)
    }

    #[inline(always)]
    pub fn multiply_add(value: F32, x: F32, y: F32) -> F32 {
        f32x4_add(f32x4_mul(value, x), y)
    }

    pub fn dot(weights: &[i8], activations: &[i16; 16]) -> i32 {
        let half = |from: usize| {
            let a: [i16; 8] = std::array::from_fn(|place| activations[from + place]);
            i16x8(a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7])
        };
        let (low, high) = (half(0), half(8));
        let mut sums = [i32x4_splat(0); 8];
        for block in weights.as_chunks::<64>().0 {
            for (place, pair) in sums.as_chunks_mut::<2>().0.iter_mut().enumerate() {
                // SAFETY: four runs of 16 bytes lie in a block of 64.
                let weights = unsafe { v128_load(block.as_ptr().add(16 * place).cast()) };
                pair[0] = i32x4_add(pair[0], i32x4_dot_i16x8(i16x8_extend_low_i8x16(weights), low));
                pair[1] = i32x4_add(pair[1], i32x4_dot_i16x8(i16x8_extend_high_i8x16(weights), high));
            }
        }
        let sum = sums.into_iter().fold(i32x4_splat(0), |all, sum| i32x4_add(all, sum));
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

    pub fn dot(weights: &[i8], activations: &[i16; 16]) -> i32 {
        let mut sums = [0i32; 16];
        for block in weights.as_chunks::<16>().0 {
            for ((sum, weight), activation) in sums.iter_mut().zip(block).zip(activations) {
                *sum = sum.wrapping_add(i32::from(*weight) * i32::from(*activation));
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
        let activations: [i16; 16] = std::array::from_fn(|place| place as i16 - 5);
        let expected: i32 = weights.iter().zip(activations.iter().cycle()).map(|(weight, x)| i32::from(*weight) * i32::from(*x)).sum();
        assert_eq!(simd::dot(&weights, &activations), expected);
    }

    #[test]
    fn operations_are_counted() {
        assert_eq!(multiply_add(3), (3 * CHAINS * simd::F32_LANES * 2) as f64);
        assert_eq!(multiply_add_int8(2), (2 * WEIGHTS * 2) as f64);
    }
}
