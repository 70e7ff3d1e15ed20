//! A verified shard → rows in the kernels' layout → `Weights::put`.

use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

use crate::error::{Error, Result};
use crate::weights::index::{Index, PartEntry, TensorEntry};
use crate::weights::load::rows_and_columns;
use crate::weights::quant::{BLOCK, Quant, pack_f16, pack_rows, unpack_row, words_per_row};
use crate::weights::{Part, Weights};

/// Takes every part of `index` that lies in `file` to the device. Errors: weight-invalid, weight-shape, naming file and key.
pub fn push(weights: &Weights, index: &Index, file: &str, bytes: &[u8]) -> Result<()> {
    push_with(weights, index, file, bytes, &|_, part| part)
}

/// The same with every matrix in f32: what quantized arithmetic is held to.
pub fn push_dequantized(weights: &Weights, index: &Index, file: &str, bytes: &[u8]) -> Result<()> {
    push_with(weights, index, file, bytes, &|columns, part| match part {
        Part::F32(values) => Part::F32(values),
        Part::Packed { quant, words } => {
            let row_words = words_per_row(quant, columns);
            let mut values = vec![0.0; words.len() / row_words * columns];
            for (words, row) in words.chunks_exact(row_words).zip(values.chunks_exact_mut(columns)) {
                unpack_row(quant, columns, words, row);
            }
            Part::F32(values)
        }
    })
}

fn push_with(weights: &Weights, index: &Index, file: &str, bytes: &[u8], change: &dyn Fn(usize, Part) -> Part) -> Result<()> {
    let invalid = |key: &str, reason: String| Error::WeightInvalid { file: file.into(), key: key.into(), reason };
    let views = SafeTensors::deserialize(bytes).map_err(|error| invalid("", error.to_string()))?;
    for (name, tensor) in &index.tensors {
        for part in tensor.parts.iter().filter(|part| part.file == file) {
            let view = |key: &str| views.tensor(key).map_err(|error| invalid(key, error.to_string()));
            let data = read(tensor, part, &view).map_err(|error| match error {
                Error::WeightInvalid { key, reason, .. } => invalid(&key, reason),
                other => other,
            })?;
            let (_, columns) = rows_and_columns(&tensor.shape);
            weights.put(name, part.rows[0]..part.rows[1], change(columns, data)).map_err(|error| match error {
                Error::WeightInvalid { key, reason, .. } => invalid(&key, reason),
                other => other,
            })?;
        }
    }
    Ok(())
}

/// "X.weight" → "X.scales", "X.weight.rows.3" → "X.scales.rows.3".
pub fn scales_key(key: &str) -> String {
    match key.rfind(".weight") {
        Some(at) => format!("{}.scales{}", &key[..at], &key[at + ".weight".len()..]),
        None => format!("{key}.scales"),
    }
}

fn read<'a>(tensor: &TensorEntry, part: &PartEntry, view: &dyn Fn(&str) -> Result<TensorView<'a>>) -> Result<Part> {
    let rows = part.rows[1] - part.rows[0];
    let (_, columns) = rows_and_columns(&tensor.shape);
    let blocks = columns.div_ceil(BLOCK);
    let checked = |key: &str, dtype: Dtype, columns: usize| {
        let view = view(key)?;
        let (found_rows, found_columns) = rows_and_columns(view.shape());
        if view.dtype() != dtype || [found_rows, found_columns] != [rows, columns] {
            let reason = format!("{:?} {:?}, expected {dtype:?} of {rows} rows of {columns}", view.dtype(), view.shape());
            return Err(Error::WeightInvalid { file: String::new(), key: key.into(), reason });
        }
        Ok(view.data())
    };
    let halves = |data: &[u8]| data.as_chunks().0.iter().map(|bytes| u16::from_le_bytes(*bytes)).collect::<Vec<_>>();
    let words_of = |words: usize| -> Result<Part> {
        let words: Vec<u32> =
            checked(&part.key, Dtype::U32, blocks * words)?.as_chunks().0.iter().map(|bytes| u32::from_le_bytes(*bytes)).collect();
        let scales = halves(checked(&scales_key(&part.key), Dtype::F16, blocks)?);
        Ok(Part::Packed { quant: tensor.quant, words: pack_rows(tensor.quant, columns, &words, &scales) })
    };
    match tensor.quant {
        Quant::F32 => {
            let data = checked(&part.key, Dtype::F32, columns)?;
            Ok(Part::F32(data.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()))
        }
        Quant::F16 => {
            let data = halves(checked(&part.key, Dtype::F16, columns)?);
            Ok(Part::Packed { quant: Quant::F16, words: pack_f16(columns, &data) })
        }
        Quant::Q8 => words_of(8),
        Quant::Q4 => words_of(4),
    }
}
