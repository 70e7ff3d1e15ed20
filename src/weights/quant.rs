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
