//! How the CPU's kernels read a matrix: panels of 8 outputs, each one stream of u32 words along the inputs, so that a product
//! reads memory once and in order. One layout serves one row of x and many.
//!
//! | quant | words of a panel |
//! |---|---|
//! | f32 | each input: 8 f32 |
//! | f16 | each input: 8 f16 |
//! | q8 | each block of 32 inputs: the 8 f16 scales; then each pair of inputs: [8 outputs][2] i8 |
//! | q4 | each block of 32 inputs: the 8 f16 scales; then each 8 inputs: [8 outputs][2] u16 of four nibbles (value + 8), lowest first: a nibble an even input and, in the second u16, an odd one |
//!
//! What lies beyond the last output or the last input is zeros. A chunk of a matrix begins a panel of its own.

use crate::weights::quant::{BLOCK, Quant, words_per_row};

/// Outputs of a panel.
pub const OUTPUTS: usize = 8;
/// Words of the 8 scales in front of a block.
pub const SCALES: usize = OUTPUTS / 2;
/// Words of a block of a panel.
pub const Q8_BLOCK: usize = SCALES + OUTPUTS * BLOCK / 4;
pub const Q4_BLOCK: usize = SCALES + OUTPUTS * BLOCK / 8;

/// u32 words of a panel of `columns` inputs.
pub fn panel_words(quant: Quant, columns: usize) -> usize {
    let blocks = columns.div_ceil(BLOCK);
    match quant {
        Quant::F32 => columns * OUTPUTS,
        Quant::F16 => columns * OUTPUTS / 2,
        Quant::Q8 => blocks * Q8_BLOCK,
        Quant::Q4 => blocks * Q4_BLOCK,
    }
}

/// Words of that many rows in panels.
pub fn words(quant: Quant, columns: usize, rows: usize) -> usize {
    rows.div_ceil(OUTPUTS) * panel_words(quant, columns)
}

/// Rows as `weights::quant` lays them out → panels, in the same memory: beside the weights there is little room.
pub fn from_rows(quant: Quant, columns: usize, rows: Vec<u32>) -> Vec<u32> {
    let row_words = words_per_row(quant, columns);
    if row_words == 0 {
        return vec![];
    }
    let count = rows.len() / row_words;
    let panel_words = panel_words(quant, columns);
    let mut words = rows;
    // The last panel may be larger than the rows that are left for it.
    words.resize(words.len().max(self::words(quant, columns, count)), 0);
    let mut rows = Vec::with_capacity(OUTPUTS * row_words);
    for first in (0..count).step_by(OUTPUTS) {
        let outputs = OUTPUTS.min(count - first);
        rows.clear();
        rows.extend_from_slice(&words[first * row_words..(first + outputs) * row_words]);
        // A panel takes no more words than its rows do, so it never reaches those of the next one.
        let panel = &mut words[first / OUTPUTS * panel_words..][..panel_words];
        panel.fill(0);
        for (output, row) in rows.chunks_exact(row_words).enumerate() {
            put_row(quant, columns, row, output, panel);
        }
    }
    words.truncate(self::words(quant, columns, count));
    words
}

fn put_row(quant: Quant, columns: usize, row: &[u32], output: usize, panel: &mut [u32]) {
    let blocks = columns.div_ceil(BLOCK);
    match quant {
        Quant::F32 => panel.iter_mut().skip(output).step_by(OUTPUTS).zip(row).for_each(|(word, value)| *word = *value),
        Quant::F16 => {
            let (panel, row): (&mut [u16], &[u16]) = (bytemuck::cast_slice_mut(panel), bytemuck::cast_slice(row));
            panel.iter_mut().skip(output).step_by(OUTPUTS).zip(row).for_each(|(half, value)| *half = *value);
        }
        Quant::Q8 => {
            let scales: &[u16] = bytemuck::cast_slice(&row[blocks * 8..]);
            for (b, block) in panel.as_chunks_mut::<Q8_BLOCK>().0.iter_mut().enumerate() {
                put_scale(block, output, scales[b]);
                let pairs: &mut [[[u8; 2]; OUTPUTS]] = bytemuck::cast_slice_mut(&mut block[SCALES..]);
                let values: &[[u8; 2]] = bytemuck::cast_slice(&row[b * 8..(b + 1) * 8]);
                pairs.iter_mut().zip(values).for_each(|(pair, value)| pair[output] = *value);
            }
        }
        Quant::Q4 => {
            let scales: &[u16] = bytemuck::cast_slice(&row[blocks * 4..]);
            for (b, block) in panel.as_chunks_mut::<Q4_BLOCK>().0.iter_mut().enumerate() {
                put_scale(block, output, scales[b]);
                // A word of a row holds eight inputs; here the even ones of them lie in the low half, the odd ones in the high.
                for (eight, word) in block[SCALES..].chunks_exact_mut(OUTPUTS).zip(&row[b * 4..(b + 1) * 4]) {
                    let nibble = |place: usize| (word >> (4 * place)) & 15;
                    eight[output] = (0..4).map(|pair| nibble(2 * pair) << (4 * pair) | nibble(2 * pair + 1) << (16 + 4 * pair)).sum();
                }
            }
        }
    }
}

fn put_scale(block: &mut [u32], output: usize, scale: u16) {
    block[output / 2] |= u32::from(scale) << (16 * (output % 2));
}

/// The scales of a block, from its first words.
fn scales_of(block: &[u32]) -> [f32; OUTPUTS] {
    std::array::from_fn(|output| half::f16::from_bits((block[output / 2] >> (16 * (output % 2))) as u16).to_f32())
}

/// Row `row` of panels → its f32 weights, the same as from `unpack_row`.
pub fn unpack_row(quant: Quant, panels: &[u32], row: usize, out: &mut [f32]) {
    let words = panel_words(quant, out.len());
    let output = row % OUTPUTS;
    let panel = &panels[row / OUTPUTS * words..][..words];
    let halves: &[u16] = bytemuck::cast_slice(panel);
    match quant {
        Quant::F32 => out.iter_mut().zip(panel[output..].iter().step_by(OUTPUTS)).for_each(|(out, word)| *out = f32::from_bits(*word)),
        Quant::F16 => {
            let halves = halves[output..].iter().step_by(OUTPUTS);
            out.iter_mut().zip(halves).for_each(|(out, half)| *out = half::f16::from_bits(*half).to_f32());
        }
        Quant::Q8 | Quant::Q4 => {
            let block_words = if quant == Quant::Q8 { Q8_BLOCK } else { Q4_BLOCK };
            let mut columns = [[0.0; OUTPUTS]; BLOCK];
            for (block, out) in panel.chunks_exact(block_words).zip(out.chunks_mut(BLOCK)) {
                unpack_block(quant, block, &mut columns);
                out.iter_mut().zip(&columns).for_each(|(out, column)| *out = column[output]);
            }
        }
    }
}

/// Columns of a panel, from `first` on (a multiple of `BLOCK`) → f32 weights [columns][8].
pub fn unpack_columns(quant: Quant, panel: &[u32], first: usize, out: &mut [[f32; OUTPUTS]]) {
    match quant {
        Quant::F32 => {
            let values: &[[f32; OUTPUTS]] = bytemuck::cast_slice(panel);
            out.copy_from_slice(&values[first..first + out.len()]);
        }
        Quant::F16 => {
            let halves: &[half::f16] = bytemuck::cast_slice(&panel[first * OUTPUTS / 2..]);
            out.as_flattened_mut().iter_mut().zip(halves).for_each(|(out, half)| *out = half.to_f32());
        }
        Quant::Q8 | Quant::Q4 => {
            let block_words = if quant == Quant::Q8 { Q8_BLOCK } else { Q4_BLOCK };
            let blocks = panel[first / BLOCK * block_words..].chunks_exact(block_words);
            let (whole, tail) = out.as_chunks_mut::<BLOCK>();
            let rest = blocks.clone().nth(whole.len());
            whole.iter_mut().zip(blocks).for_each(|(out, block)| unpack_block(quant, block, out));
            if let Some(block) = rest.filter(|_| !tail.is_empty()) {
                let mut columns = [[0.0; OUTPUTS]; BLOCK];
                unpack_block(quant, block, &mut columns);
                tail.copy_from_slice(&columns[..tail.len()]);
            }
        }
    }
}

fn unpack_block(quant: Quant, block: &[u32], out: &mut [[f32; OUTPUTS]; BLOCK]) {
    let scales = scales_of(block);
    if quant == Quant::Q8 {
        // Two inputs a short integer, the first in its low byte: loops over those become SIMD.
        let pairs: &[[i16; OUTPUTS]] = bytemuck::cast_slice(&block[SCALES..]);
        for (out, pair) in out.as_chunks_mut::<2>().0.iter_mut().zip(pairs) {
            out[0] = std::array::from_fn(|output| f32::from((pair[output] << 8) >> 8) * scales[output]);
            out[1] = std::array::from_fn(|output| f32::from(pair[output] >> 8) * scales[output]);
        }
        return;
    }
    for (out, eight) in out.as_chunks_mut::<8>().0.iter_mut().zip(block[SCALES..].chunks_exact(OUTPUTS)) {
        for (place, out) in out.iter_mut().enumerate() {
            let shift = 4 * (place / 2) + 16 * (place % 2);
            *out = std::array::from_fn(|output| (((eight[output] >> shift) & 15) as f32 - 8.0) * scales[output]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weights::quant;

    /// Rows of any bits that are finite numbers, in every quantization.
    fn rows(quant: Quant, rows: usize, columns: usize) -> Vec<u32> {
        let values: Vec<f32> = (0..rows * columns).map(|i| ((i * 37 + 11) % 101) as f32 / 50.0 - 1.0).collect();
        let half = |value: &f32| half::f16::from_f32(*value).to_bits();
        match quant {
            Quant::F32 => bytemuck::cast_vec(values),
            Quant::F16 => quant::pack_f16(columns, &values.iter().map(half).collect::<Vec<_>>()),
            _ => {
                let packed = quant::quantize(quant, columns, &values);
                quant::pack_rows(quant, columns, &packed.words, &packed.scales)
            }
        }
    }

    #[test]
    fn panels_hold_the_very_weights_of_the_rows() {
        for quant in Quant::ALL {
            for (count, columns) in [(1, 1), (3, 31), (8, 32), (9, 33), (16, 64), (21, 95), (40, 33), (17, 1)] {
                let rows = rows(quant, count, columns);
                let panels = from_rows(quant, columns, rows.clone());
                assert_eq!(panels.len(), words(quant, columns, count));
                for (place, row) in rows.chunks(words_per_row(quant, columns)).enumerate() {
                    let (mut expected, mut found) = (vec![f32::NAN; columns], vec![f32::NAN; columns]);
                    quant::unpack_row(quant, columns, row, &mut expected);
                    unpack_row(quant, &panels, place, &mut found);
                    assert_eq!(found, expected, "{quant} {count}x{columns}, row {place}");
                    let panel = &panels[place / OUTPUTS * panel_words(quant, columns)..];
                    for first in (0..columns).step_by(BLOCK) {
                        let mut found = vec![[f32::NAN; OUTPUTS]; columns - first];
                        unpack_columns(quant, panel, first, &mut found);
                        let found: Vec<f32> = found.iter().map(|outputs| outputs[place % OUTPUTS]).collect();
                        assert_eq!(found, expected[first..], "{quant} {count}x{columns}, row {place} from {first}");
                    }
                }
            }
        }
    }

    #[test]
    fn what_is_beyond_the_last_output_counts_nothing() {
        for quant in Quant::ALL {
            let panels = from_rows(quant, 40, rows(quant, 3, 40));
            let mut columns = vec![[f32::NAN; OUTPUTS]; 40];
            unpack_columns(quant, &panels, 0, &mut columns);
            assert!(columns.iter().all(|outputs| outputs[3..].iter().all(|weight| *weight == 0.0)), "{quant}");
        }
    }

    #[test]
    fn rows_without_columns_are_nothing() {
        assert!(Quant::ALL.into_iter().all(|quant| from_rows(quant, 0, vec![]).is_empty()));
    }
}
