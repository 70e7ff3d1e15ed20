//! Tensors of one stage into safetensors files of a bounded size, named by their content.

use half::f16;
use safetensors::Dtype;
use safetensors::tensor::{TensorView, serialize};

use crate::convert::summary::StageSummary;
use crate::convert::{Sink, Tensors};
use crate::error::{Error, Result};
use crate::weights::index::{FileEntry, Index, PartEntry, Stage, TensorEntry, sha256};
use crate::weights::quant::{BLOCK, Quant, pack_rows, quantize, unpack_row, words_per_row};
use crate::weights::shard::scales_key;

/// Floats that are worked on at once.
const BLOCK_FLOATS: usize = 1 << 20;

/// More than the length, the metadata and the padding of a header take.
const HEADER_BYTES: usize = 64;

/// More than one tensor takes in a header: its key, the names of the fields, and every number at its longest.
fn entry_header_bytes(key: &str, dimensions: usize) -> usize {
    key.len() + 96 + 21 * dimensions
}

struct Entry {
    key: String,
    dtype: Dtype,
    shape: Vec<usize>,
    data: Vec<u8>,
}

pub(super) struct ShardWriter<'a> {
    sink: &'a mut dyn Sink,
    stage: Stage,
    shard_bytes: usize,
    index: &'a mut Index,
    /// What the next file will hold, and the parts of tensors that wait for its name.
    entries: Vec<Entry>,
    waiting: Vec<(String, usize)>,
}

impl<'a> ShardWriter<'a> {
    pub fn new(sink: &'a mut dyn Sink, stage: Stage, shard_bytes: usize, index: &'a mut Index) -> Self {
        Self { sink, stage, shard_bytes, index, entries: vec![], waiting: vec![] }
    }

    /// A tensor that is too large for a shard is split by rows.
    pub fn tensor(&mut self, key: &str, shape: &[usize], quant: Quant, source: &mut dyn Tensors, summary: &mut StageSummary) -> Result<()> {
        let (rows, columns) = crate::weights::rows_and_columns(shape);
        let row_bytes = disk_bytes(quant, columns);
        // The longest key of a part, and of its scales.
        let header = 2 * entry_header_bytes(&format!("{key}.rows.{rows}."), shape.len().max(2));
        let rows_per_part = (self.shard_bytes.saturating_sub(HEADER_BYTES + header) / row_bytes).clamp(1, rows);
        self.index.tensors.insert(key.into(), TensorEntry { shape: shape.to_vec(), quant, parts: vec![] });
        summary.tensors += 1;
        for (place, first) in (0..rows).step_by(rows_per_part).enumerate() {
            let end = rows.min(first + rows_per_part);
            let bytes = (end - first) * row_bytes;
            if self.bytes() + header + bytes > self.shard_bytes {
                self.flush()?;
            }
            let part_key = if rows_per_part == rows { key.to_string() } else { format!("{key}.rows.{place}") };
            // A part keeps the checkpoint's shape but for its rows.
            let mut part_shape = shape.to_vec();
            if let Some(first_dimension) = part_shape.first_mut() {
                *first_dimension = end - first;
            }
            self.entries.extend(part(key, &part_key, &part_shape, first..end, columns, quant, source, summary)?);
            if let Some(tensor) = self.index.tensors.get_mut(key) {
                tensor.parts.push(PartEntry { file: String::new(), key: part_key, rows: [first, end] });
                self.waiting.push((key.into(), tensor.parts.len() - 1));
            }
            summary.bytes += bytes as u64;
        }
        Ok(())
    }

    /// What the entries would be at most as a file.
    fn bytes(&self) -> usize {
        let entry_bytes = |entry: &Entry| entry.data.len() + entry_header_bytes(&entry.key, entry.shape.len());
        HEADER_BYTES + self.entries.iter().map(entry_bytes).sum::<usize>()
    }

    pub fn finish(mut self) -> Result<()> {
        self.flush()
    }

    fn flush(&mut self) -> Result<()> {
        if self.entries.is_empty() {
            return Ok(());
        }
        let invalid = |error: safetensors::SafeTensorError| Error::File { path: "shard".into(), reason: error.to_string() };
        let views = self
            .entries
            .iter()
            .map(|entry| Ok((entry.key.as_str(), TensorView::new(entry.dtype, entry.shape.clone(), &entry.data).map_err(invalid)?)))
            .collect::<Result<Vec<_>>>()?;
        let metadata = [("format".to_string(), "pt".to_string())].into();
        let bytes = serialize(views, Some(metadata)).map_err(invalid)?;
        let sha256 = sha256(&bytes);
        let name = format!("model-{}.safetensors", &sha256[..16]);
        self.sink.write(&name, &bytes)?;
        for entry in self.entries.drain(..) {
            self.index.weight_map.insert(entry.key, name.clone());
        }
        for (key, part) in self.waiting.drain(..) {
            if let Some(part) = self.index.tensors.get_mut(&key).and_then(|tensor| tensor.parts.get_mut(part)) {
                part.file.clone_from(&name);
            }
        }
        self.index.files.insert(name, FileEntry { sha256, bytes: bytes.len() as u64, stage: Some(self.stage) });
        Ok(())
    }
}

/// Bytes of one row in a shard.
pub(super) fn disk_bytes(quant: Quant, columns: usize) -> usize {
    let blocks = columns.div_ceil(BLOCK);
    match quant {
        Quant::F32 => columns * 4,
        Quant::F16 => columns * 2,
        Quant::Q8 => blocks * 34,
        Quant::Q4 => blocks * 18,
    }
}

#[allow(clippy::too_many_arguments, reason = "one call; a struct of them would be named only here")]
fn part(
    key: &str,
    part_key: &str,
    shape: &[usize],
    rows: std::ops::Range<usize>,
    columns: usize,
    quant: Quant,
    source: &mut dyn Tensors,
    summary: &mut StageSummary,
) -> Result<Vec<Entry>> {
    let step = (BLOCK_FLOATS / columns).max(1);
    let (mut data, mut scales) = (Vec::with_capacity(rows.len() * disk_bytes(quant, columns)), vec![]);
    for first in rows.clone().step_by(step) {
        let end = rows.end.min(first + step);
        let values = source.read(key, first * columns..end * columns)?;
        match quant {
            Quant::F32 => data.extend(values.iter().flat_map(|value| value.to_le_bytes())),
            Quant::F16 => {
                let halves: Vec<f16> = values.iter().map(|value| f16::from_f32(*value)).collect();
                if let Some(place) = halves.iter().position(|half| !half.is_finite()) {
                    let reason = format!("{} at {} is too large for f16", values[place], first * columns + place);
                    return Err(Error::WeightInvalid { file: source.file(key).into(), key: key.into(), reason });
                }
                values.iter().zip(&halves).for_each(|(value, half)| summary.error(*value, half.to_f32()));
                data.extend(halves.iter().flat_map(|half| half.to_le_bytes()));
            }
            Quant::Q8 | Quant::Q4 => {
                let packed = quantize(quant, columns, &values);
                measure(&values, quant, columns, &pack_rows(quant, columns, &packed.words, &packed.scales), summary);
                data.extend(packed.words.iter().flat_map(|word| word.to_le_bytes()));
                scales.extend(packed.scales.iter().flat_map(|scale| scale.to_le_bytes()));
            }
        }
    }
    let blocks = columns.div_ceil(BLOCK);
    let entry = |key: &str, dtype, shape, data| Entry { key: key.into(), dtype, shape, data };
    Ok(match quant {
        Quant::F32 => vec![entry(part_key, Dtype::F32, shape.to_vec(), data)],
        Quant::F16 => vec![entry(part_key, Dtype::F16, shape.to_vec(), data)],
        Quant::Q8 | Quant::Q4 => {
            let words = blocks * if quant == Quant::Q4 { 4 } else { 8 };
            vec![
                entry(part_key, Dtype::U32, vec![rows.len(), words], data),
                entry(&scales_key(part_key), Dtype::F16, vec![rows.len(), blocks], scales),
            ]
        }
    })
}

/// How far what a kernel will read is from the source.
fn measure(values: &[f32], quant: Quant, columns: usize, words: &[u32], summary: &mut StageSummary) {
    let mut back = vec![0.0; columns];
    for (row, words) in values.chunks_exact(columns).zip(words.chunks_exact(words_per_row(quant, columns))) {
        unpack_row(quant, columns, words, &mut back);
        row.iter().zip(&back).for_each(|(value, back)| summary.error(*value, *back));
    }
}
