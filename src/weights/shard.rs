//! A verified shard → rows in the kernels' layout → `Weights::put`.

use std::borrow::Cow;
use std::collections::HashSet;

use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

use crate::error::{Error, Result};
use crate::weights::index::{Index, PartEntry, TensorEntry};
use crate::weights::load::rows_and_columns;
use crate::weights::quant::{BLOCK, Quant, pack_f16, pack_rows, quantize, unpack_row, words_per_row};
use crate::weights::{Part, Weights};

/// Headers of real checkpoints stay below one MiB.
pub(crate) const MAX_HEADER: u64 = 16 << 20;

/// The tensors of a whole safetensors file, none copied. Errors: weight-invalid.
pub fn views<'a>(file: &str, bytes: &'a [u8]) -> Result<SafeTensors<'a>> {
    let invalid = |reason: String| Error::WeightInvalid { file: file.into(), key: String::new(), reason };
    let Some((prefix, rest)) = bytes.split_first_chunk() else {
        return Err(invalid(format!("{} bytes are no safetensors file", bytes.len())));
    };
    let header = u64::from_le_bytes(*prefix);
    if header > MAX_HEADER || header > rest.len() as u64 {
        return Err(invalid(format!("the header claims {header} bytes, the file has {}", bytes.len())));
    }
    refuse_duplicates(&rest[..header as usize]).map_err(&invalid)?;
    SafeTensors::deserialize(bytes).map_err(|error| invalid(error.to_string()))
}

/// The safetensors crate keeps the last of two tensors of one name; which of them was hashed, shown or meant is a guess.
pub(crate) fn refuse_duplicates(header: &[u8]) -> std::result::Result<(), String> {
    struct Names;
    impl<'de> serde::de::Visitor<'de> for Names {
        type Value = ();

        fn expecting(&self, formatter: &mut std::fmt::Formatter) -> std::fmt::Result {
            formatter.write_str("an object of tensors")
        }

        fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> std::result::Result<(), A::Error> {
            let mut names = HashSet::new();
            while let Some((name, _)) = map.next_entry::<String, serde::de::IgnoredAny>()? {
                if let Some(name) = names.replace(name) {
                    return Err(serde::de::Error::custom(format!("{name} is there twice")));
                }
            }
            Ok(())
        }
    }
    let mut json = serde_json::Deserializer::from_slice(header);
    serde::Deserializer::deserialize_map(&mut json, Names).map_err(|error| error.to_string())
}

/// Takes every part of `index` that lies in `file` to the device. Errors: weight-invalid, weight-shape, naming file and key.
pub fn push(weights: &Weights, index: &Index, file: &str, bytes: &[u8]) -> Result<()> {
    push_with(weights, index, file, bytes, &|_, part| part)
}

/// The same with every matrix in `quant`, by way of f32: in f32 it is what quantized arithmetic is held to.
pub fn push_in(weights: &Weights, index: &Index, file: &str, bytes: &[u8], quant: Quant) -> Result<()> {
    push_with(weights, index, file, bytes, &|columns, part| match part {
        Part::F32(values) => Part::F32(values),
        Part::Packed { quant: stored, words } => {
            let row_words = words_per_row(stored, columns);
            let mut values = vec![0.0; words.len() / row_words * columns];
            for (words, row) in words.chunks_exact(row_words).zip(values.chunks_exact_mut(columns)) {
                unpack_row(stored, columns, words, row);
            }
            in_quant(quant, columns, values)
        }
    })
}

fn in_quant(quant: Quant, columns: usize, values: Vec<f32>) -> Part {
    let words = match quant {
        Quant::F32 => return Part::F32(values),
        Quant::F16 => pack_f16(columns, &values.iter().map(|value| half::f16::from_f32(*value).to_bits()).collect::<Vec<_>>()),
        Quant::Q8 | Quant::Q4 => {
            let packed = quantize(quant, columns, &values);
            pack_rows(quant, columns, &packed.words, &packed.scales)
        }
    };
    Part::Packed { quant, words }
}

fn push_with(weights: &Weights, index: &Index, file: &str, bytes: &[u8], change: &dyn Fn(usize, Part) -> Part) -> Result<()> {
    let invalid = |key: &str, reason: String| Error::WeightInvalid { file: file.into(), key: key.into(), reason };
    let views = views(file, bytes)?;
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

/// Little-endian words, copied only where they do not lie as words do.
fn words_in(bytes: &[u8]) -> Cow<'_, [u32]> {
    match bytemuck::try_cast_slice(bytes) {
        Ok(words) if cfg!(target_endian = "little") => Cow::Borrowed(words),
        _ => bytes.as_chunks().0.iter().map(|bytes| u32::from_le_bytes(*bytes)).collect(),
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
        let words = words_in(checked(&part.key, Dtype::U32, blocks * words)?);
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

#[cfg(all(test, feature = "cpu"))]
mod tests {
    use safetensors::tensor::serialize;

    use super::*;
    use crate::device::Device;
    use crate::weights::index::{FORMAT, FileEntry, Metadata, Stage, Ui};
    use crate::weights::panels;

    const FILE: &str = "model-a.safetensors";

    fn shard(tensors: &[(&str, Dtype, Vec<usize>, Vec<u8>)]) -> Vec<u8> {
        let view = |(key, dtype, shape, data)| (key, TensorView::new(dtype, shape, data).unwrap());
        serialize(tensors.iter().map(|(key, dtype, shape, data)| view((*key, *dtype, shape.clone(), data.as_slice()))), None).unwrap()
    }

    fn quantized(rows: usize, scales: usize) -> Vec<u8> {
        let packed = quantize(Quant::Q8, 40, &[0.5; 120]);
        let words: Vec<u8> = packed.words[..rows * 16].iter().flat_map(|word| word.to_le_bytes()).collect();
        let halves: Vec<u8> = packed.scales[..rows * scales].iter().flat_map(|half| half.to_le_bytes()).collect();
        shard(&[("x.weight", Dtype::U32, vec![rows, 16], words), ("x.scales", Dtype::F16, vec![rows, scales], halves)])
    }

    fn index() -> Index {
        let part = PartEntry { file: FILE.into(), key: "x.weight".into(), rows: [0, 3] };
        Index {
            format: FORMAT,
            metadata: Metadata { total_size: 0 },
            weight_map: ["x.weight", "x.scales"].map(|key| (key.to_string(), FILE.to_string())).into(),
            tensors: [("x.weight".into(), TensorEntry { shape: vec![3, 40], quant: Quant::Q8, parts: vec![part] })].into(),
            files: [(FILE.into(), FileEntry { sha256: "0".repeat(64), bytes: 0, stage: Some(Stage::Vision) })].into(),
            ui: Ui::default(),
            source: None,
            licence: None,
            quantization: [(Stage::Vision, Quant::Q8)].into(),
            parameters: 120,
        }
    }

    fn pushed(bytes: &[u8]) -> Result<Weights> {
        let ask = |weights: &Weights| weights.matrix("x.weight", &[3, 40]);
        let weights = Weights::new(&Device::cpu(), Weights::plan(ask)?);
        push(&weights, &index(), FILE, bytes)?;
        Ok(weights)
    }

    #[test]
    fn a_shard_becomes_the_matrix_it_was() {
        assert_eq!(index().validate(), Ok(()));
        let matrix = pushed(&quantized(3, 2)).unwrap().matrix("x.weight", &[3, 40]).unwrap();
        assert_eq!((matrix.quant, matrix.rows, matrix.columns, matrix.chunks.len()), (Quant::Q8, 3, 40, 1));
        let words: Vec<i32> = matrix.chunks[0].words.to_data().try_to_vec().unwrap();
        let words: Vec<u32> = words.into_iter().map(|word| word as u32).collect();
        for row in 0..3 {
            let mut back = [0.0; 40];
            panels::unpack_row(Quant::Q8, &words, row, &mut back);
            assert!(back.iter().all(|x| (x - 0.5).abs() < 0.002), "{back:?}");
        }
    }

    #[test]
    fn a_shard_can_be_taken_in_any_quantization() {
        for quant in Quant::ALL {
            let ask = |weights: &Weights| weights.matrix("x.weight", &[3, 40]);
            let weights = Weights::new(&Device::cpu(), Weights::plan(ask).unwrap());
            push_in(&weights, &index(), FILE, &quantized(3, 2), quant).unwrap();
            let matrix = ask(&weights).unwrap();
            let words: Vec<i32> = matrix.chunks[0].words.to_data().try_to_vec().unwrap();
            let words: Vec<u32> = words.into_iter().map(|word| word as u32).collect();
            let mut back = [0.0; 40];
            panels::unpack_row(quant, &words, 1, &mut back);
            assert_eq!(matrix.quant, quant);
            assert!(back.iter().all(|x| (x - 0.5).abs() < 0.003), "{quant}: {back:?}");
        }
    }

    #[test]
    fn a_shard_that_does_not_fit_its_index_is_named() {
        let missing = shard(&[("y.weight", Dtype::F32, vec![1], vec![0; 4])]);
        let other = shard(&[("x.weight", Dtype::F32, vec![3, 40], vec![0; 480])]);
        for (bytes, key) in [(quantized(2, 2), "x.weight"), (quantized(3, 1), "x.scales"), (missing, "x.weight"), (other, "x.weight")] {
            match pushed(&bytes).err() {
                Some(Error::WeightInvalid { file, key: named, .. }) => assert_eq!((file.as_str(), named.as_str()), (FILE, key)),
                other => panic!("{key}: {other:?}"),
            }
        }
    }

    #[test]
    fn headers_that_lie_are_refused() {
        let good = quantized(3, 2);
        assert!(views(FILE, &good).is_ok());
        for length in 0..good.len() {
            assert!(views(FILE, &good[..length]).is_err(), "{length} bytes");
        }
        let tensor = r#""a":{"dtype":"F16","shape":[2],"data_offsets":[0,4]}"#;
        let twice = format!("{{{tensor},{tensor}}}");
        let bytes = [&(twice.len() as u64).to_le_bytes()[..], twice.as_bytes(), &[0; 4]].concat();
        assert!(views(FILE, &bytes).unwrap_err().to_string().contains("a is there twice"));
        let mut long = good;
        long[..8].copy_from_slice(&u64::MAX.to_le_bytes());
        assert!(views(FILE, &long).unwrap_err().to_string().contains("claims"));
    }

    #[test]
    fn scales_lie_beside_their_weight() {
        assert_eq!(scales_key("a.weight"), "a.scales");
        assert_eq!(scales_key("a.weight.rows.3"), "a.scales.rows.3");
    }
}
