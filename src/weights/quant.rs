//! Block layouts of quantized weights, on disk and as the kernels read them: the only place that knows them.
//!
//! Symmetric blocks of 32 along the input dimension, each row zero-padded to whole blocks. On disk: `X.weight` U32
//! [out, blocks·8 (q8) or blocks·4 (q4)] and `X.scales` F16 [out, blocks]. As kernels read them, a row of a matrix is one
//! run of u32 words:
//!
//! | quant | words of a row |
//! |---|---|
//! | f32 | one f32 (its bits) a column |
//! | f16 | two f16 a word, low half first; an odd row ends with 0 |
//! | q8 | blocks·8 words of four i8 each, lowest byte first; then ceil(blocks/2) words of two f16 scales each |
//! | q4 | blocks·4 words of eight nibbles each (value + 8), lowest first; then ceil(blocks/2) words of two f16 scales each |

/// Weights of a block that share a scale.
pub const BLOCK: usize = 32;

/// How the numbers of a weight matrix are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Quant {
    F32,
    F16,
    Q8,
    Q4,
}

impl std::fmt::Display for Quant {
    fn fmt(&self, formatter: &mut std::fmt::Formatter) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Q8 => "q8",
            Self::Q4 => "q4",
        })
    }
}

impl std::str::FromStr for Quant {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|quant| quant.to_string() == name).ok_or_else(|| format!("{name} is none of f32, f16, q8, q4"))
    }
}

impl Quant {
    pub const ALL: [Self; 4] = [Self::F32, Self::F16, Self::Q8, Self::Q4];
}

/// u32 words that one row of `columns` weights takes in the kernels' layout.
pub fn words_per_row(quant: Quant, columns: usize) -> usize {
    let blocks = columns.div_ceil(BLOCK);
    match quant {
        Quant::F32 => columns,
        Quant::F16 => columns.div_ceil(2),
        Quant::Q8 => blocks * 8 + blocks.div_ceil(2),
        Quant::Q4 => blocks * 4 + blocks.div_ceil(2),
    }
}

/// Quantized rows as they lie on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packed {
    /// [rows, blocks·8 or blocks·4]
    pub words: Vec<u32>,
    /// [rows, blocks], bits of f16.
    pub scales: Vec<u16>,
}

/// Whole rows of f32 → q8 or q4 blocks. The scale is rounded to f16 first and the weights are rounded against it, so that
/// what is written is the nearest to what is read.
pub fn quantize(quant: Quant, columns: usize, values: &[f32]) -> Packed {
    let blocks = columns.div_ceil(BLOCK);
    let rows = values.len() / columns.max(1);
    let per_block = if quant == Quant::Q4 { 4 } else { 8 };
    let mut packed = Packed { words: Vec::with_capacity(rows * blocks * per_block), scales: Vec::with_capacity(rows * blocks) };
    for row in values.chunks_exact(columns.max(1)) {
        for block in row.chunks(BLOCK) {
            let mut padded = [0.0; BLOCK];
            padded[..block.len()].copy_from_slice(block);
            match quant {
                Quant::Q4 => quantize_q4(&padded, &mut packed),
                _ => quantize_q8(&padded, &mut packed),
            }
        }
    }
    packed
}

/// The nearest f16; 0 where the block is nothing. Below f16's normal range steps are coarse: there the next larger one is
/// taken, so that the largest weight is not cut off.
fn scale_of(scale: f32) -> half::f16 {
    let nearest = half::f16::from_f32(scale.clamp(-65504.0, 65504.0));
    let is_small = nearest.to_f32().abs() < half::f16::MIN_POSITIVE.to_f32();
    let up = is_small && nearest.to_f32().abs() < scale.abs();
    half::f16::from_bits(nearest.to_bits() + u16::from(up))
}

fn nearest(value: f32, scale: half::f16, lowest: f32, highest: f32) -> f32 {
    let scale = scale.to_f32();
    if scale == 0.0 { 0.0 } else { (value / scale).round().clamp(lowest, highest) }
}

fn quantize_q8(block: &[f32; BLOCK], packed: &mut Packed) {
    let largest = block.iter().fold(0.0f32, |most, value| most.max(value.abs()));
    let scale = scale_of(largest / 127.0);
    packed.scales.push(scale.to_bits());
    for four in block.as_chunks::<4>().0 {
        packed.words.push(u32::from_le_bytes(four.map(|value| nearest(value, scale, -127.0, 127.0) as i8 as u8)));
    }
}

/// Eight steps go down and seven up: the sign of the scale may turn the longer side to where the largest value is. Of
/// that and the even scale the one with the smaller error is taken.
fn quantize_q4(block: &[f32; BLOCK], packed: &mut Packed) {
    let extreme = block.iter().fold(0.0f32, |most, value| if value.abs() > most.abs() { *value } else { most });
    let error =
        |scale: half::f16| -> f32 { block.iter().map(|value| (value - nearest(*value, scale, -8.0, 7.0) * scale.to_f32()).powi(2)).sum() };
    let candidates = [scale_of(extreme / -8.0), scale_of(extreme.abs() / 7.0)];
    let scale = if error(candidates[1]) < error(candidates[0]) { candidates[1] } else { candidates[0] };
    packed.scales.push(scale.to_bits());
    for eight in block.as_chunks::<8>().0 {
        let nibble = |value: f32| (nearest(value, scale, -8.0, 7.0) as i32 + 8) as u32;
        packed.words.push(eight.iter().enumerate().fold(0, |word, (place, value)| word | nibble(*value) << (4 * place)));
    }
}

/// Rows of q8 or q4 as they lie on disk → the kernels' layout.
pub fn pack_rows(quant: Quant, columns: usize, words: &[u32], scales: &[u16]) -> Vec<u32> {
    let blocks = columns.div_ceil(BLOCK);
    let per_row = blocks * if quant == Quant::Q4 { 4 } else { 8 };
    let rows = scales.len() / blocks.max(1);
    // Room to become panels where they lie.
    let mut packed = Vec::with_capacity((rows * words_per_row(quant, columns)).max(super::panels::words(quant, columns, rows)));
    for (words, scales) in words.chunks_exact(per_row.max(1)).zip(scales.chunks_exact(blocks.max(1))) {
        packed.extend_from_slice(words);
        packed.extend(pairs(scales));
    }
    packed
}

/// Rows of f16 → the kernels' layout.
pub fn pack_f16(columns: usize, halves: &[u16]) -> Vec<u32> {
    halves.chunks_exact(columns.max(1)).flat_map(pairs).collect()
}

fn pairs(halves: &[u16]) -> impl Iterator<Item = u32> {
    halves.chunks(2).map(|pair| u32::from(pair[0]) | pair.get(1).map_or(0, |high| u32::from(*high) << 16))
}

/// One row in the kernels' layout → f32 weights. `words` holds `words_per_row` words, `out` the row's columns.
pub fn unpack_row(quant: Quant, columns: usize, words: &[u32], out: &mut [f32]) {
    let blocks = columns.div_ceil(BLOCK);
    let half = |word: u32, high: bool| half::f16::from_bits(if high { word >> 16 } else { word & 0xffff } as u16).to_f32();
    match quant {
        Quant::F32 => out.iter_mut().zip(words).for_each(|(out, word)| *out = f32::from_bits(*word)),
        Quant::F16 => {
            for (pair, word) in out.chunks_mut(2).zip(words) {
                pair[0] = half(*word, false);
                if let Some(second) = pair.get_mut(1) {
                    *second = half(*word, true);
                }
            }
        }
        Quant::Q8 => {
            for (block, out) in out.chunks_mut(BLOCK).enumerate() {
                let scale = half(words[blocks * 8 + block / 2], block % 2 == 1);
                for (four, word) in out.chunks_mut(4).zip(&words[block * 8..]) {
                    let bytes = word.to_le_bytes();
                    four.iter_mut().zip(bytes).for_each(|(out, byte)| *out = f32::from(byte as i8) * scale);
                }
            }
        }
        Quant::Q4 => {
            for (block, out) in out.chunks_mut(BLOCK).enumerate() {
                let scale = half(words[blocks * 4 + block / 2], block % 2 == 1);
                for (eight, word) in out.chunks_mut(8).zip(&words[block * 4..]) {
                    for (place, out) in eight.iter_mut().enumerate() {
                        *out = (((word >> (4 * place)) & 15) as f32 - 8.0) * scale;
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(columns: usize) -> Vec<f32> {
        (0..columns).map(|i| ((i * 37 + 11) % 101) as f32 / 50.0 - 1.0).collect()
    }

    #[test]
    fn what_comes_back_is_within_its_step() {
        for columns in [1, 31, 32, 33, 40, 95] {
            let values = [row(columns), row(columns).iter().map(|x| x * -0.01).collect()].concat();
            // Half a step; in q4 the eighth step is missing on the shorter side.
            for (quant, bound) in [(Quant::Q8, 0.52 / 127.0), (Quant::Q4, 1.02 / 8.0)] {
                let packed = quantize(quant, columns, &values);
                let words = pack_rows(quant, columns, &packed.words, &packed.scales);
                let per_row = words_per_row(quant, columns);
                assert_eq!(words.len(), 2 * per_row);
                for (values, words) in values.chunks(columns).zip(words.chunks(per_row)) {
                    let mut back = vec![f32::NAN; columns];
                    unpack_row(quant, columns, words, &mut back);
                    for (block, back) in values.chunks(BLOCK).zip(back.chunks(BLOCK)) {
                        let largest = block.iter().fold(0.0f32, |most, x| most.max(x.abs()));
                        for (x, y) in block.iter().zip(back) {
                            assert!((x - y).abs() <= largest * bound, "{quant} {columns}: {x} became {y}, largest {largest}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn rows_are_padded_with_zeros() {
        let packed = quantize(Quant::Q8, 33, &[1.0; 33]);
        assert_eq!(packed.words[8], 127);
        assert_eq!(packed.words[9..16], [0; 7]);
        let packed = quantize(Quant::Q4, 33, &[1.0; 33]);
        assert_eq!(packed.words[5..8], [0x8888_8888; 3]);
    }

    #[test]
    fn tiny_weights_are_not_cut_off_and_huge_ones_stay_finite() {
        for (quant, steps) in [(Quant::Q8, 127.0f32), (Quant::Q4, 7.0)] {
            for largest in [1e-8f32, 1e-6, 3e-5, 1e-4, 5e-3, 1e9, f32::MAX] {
                let values: Vec<f32> = (0..32).map(|i| largest * (i as f32 / 15.5 - 1.0)).collect();
                let packed = quantize(quant, 32, &values);
                let scale = half::f16::from_bits(packed.scales[0]).to_f32().abs();
                assert!(scale.is_finite() && scale > 0.0, "{quant} {largest}");
                let mut back = [0.0; 32];
                unpack_row(quant, 32, &pack_rows(quant, 32, &packed.words, &packed.scales), &mut back);
                assert!(back.iter().all(|x| x.is_finite()));
                if largest / steps < 65504.0 {
                    // In q4 the seventh step of the shorter side may stand for the eighth.
                    let bound = scale * if quant == Quant::Q4 { 1.01 } else { 0.51 };
                    assert!(values.iter().zip(back).all(|(x, y)| (x - y).abs() <= bound), "{quant} {largest}: {back:?}");
                }
            }
        }
    }

    #[test]
    fn rows_without_columns_are_nothing() {
        assert!(quantize(Quant::Q8, 0, &[]).words.is_empty());
        assert!(pack_rows(Quant::Q4, 0, &[], &[]).is_empty());
        assert!(pack_f16(0, &[]).is_empty());
    }

    #[test]
    fn a_block_of_nothing_is_nothing() {
        for quant in [Quant::Q8, Quant::Q4] {
            let packed = quantize(quant, 32, &[0.0; 32]);
            let mut back = [1.0; 32];
            unpack_row(quant, 32, &pack_rows(quant, 32, &packed.words, &packed.scales), &mut back);
            assert_eq!(back, [0.0; 32]);
        }
    }

    #[test]
    fn f16_rows_keep_their_odd_end() {
        let halves: Vec<u16> = [1.0, -2.0, 0.5].map(|x| half::f16::from_f32(x).to_bits()).to_vec();
        let words = pack_f16(3, &halves);
        let mut back = [0.0; 3];
        unpack_row(Quant::F16, 3, &words, &mut back);
        assert_eq!((words.len(), back), (2, [1.0, -2.0, 0.5]));
    }
}
