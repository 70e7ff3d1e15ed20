//! Checkpoints on disk: the header of a safetensors file, checked, and its tensors read by ranges, so that a file of
//! gigabytes needs megabytes of memory.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::Path;

use safetensors::Dtype;
use safetensors::tensor::Metadata;

use crate::error::{Error, Result};

/// The crate's own limit for headers.
const MAX_HEADER: u64 = 100_000_000;

#[derive(Debug, Clone, PartialEq)]
pub struct TensorInfo {
    pub dtype: Dtype,
    pub shape: Vec<usize>,
    /// Bytes of the file.
    pub bytes: Range<u64>,
}

pub struct FileReader {
    name: String,
    file: File,
    tensors: BTreeMap<String, TensorInfo>,
}

impl FileReader {
    /// Reads the header alone. Errors: file, weight-invalid.
    pub fn open(path: &Path) -> Result<Self> {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let invalid = |key: &str, reason: String| Error::WeightInvalid { file: name.clone(), key: key.into(), reason };
        let mut file = File::open(path).map_err(|error| Error::file(path, error))?;
        let length = file.metadata().map_err(|error| Error::file(path, error))?.len();
        let mut prefix = [0; 8];
        file.read_exact(&mut prefix).map_err(|_| invalid("", format!("{length} bytes are no safetensors file")))?;
        let header = u64::from_le_bytes(prefix);
        if header > MAX_HEADER || header + 8 > length {
            return Err(invalid("", format!("the header claims {header} bytes, the file has {length}")));
        }
        let mut json = vec![0; header as usize];
        file.read_exact(&mut json).map_err(|error| Error::file(path, error))?;
        // Reading it checks that offsets follow one another and agree with dtypes and shapes.
        let metadata: Metadata = serde_json::from_slice(&json).map_err(|error| invalid("", error.to_string()))?;
        let mut tensors = BTreeMap::new();
        for (key, info) in metadata.tensors() {
            let start = 8 + header + info.data_offsets.0 as u64;
            let end = 8 + header + info.data_offsets.1 as u64;
            if end > length {
                return Err(invalid(&key, format!("ends at byte {end}, the file at {length}")));
            }
            tensors.insert(key, TensorInfo { dtype: info.dtype, shape: info.shape.clone(), bytes: start..end });
        }
        Ok(Self { name, file, tensors })
    }

    pub fn tensors(&self) -> &BTreeMap<String, TensorInfo> {
        &self.tensors
    }

    /// Elements of a tensor in their order, as f32; exact for F16 and BF16. Errors: weight-missing, weight-invalid.
    pub fn read_f32(&mut self, key: &str, elements: Range<usize>) -> Result<Vec<f32>> {
        let invalid = |reason: String| Error::WeightInvalid { file: self.name.clone(), key: key.into(), reason };
        let info = self.tensors.get(key).ok_or_else(|| Error::WeightMissing { key: key.into() })?;
        let size = match info.dtype {
            Dtype::F32 => 4u64,
            Dtype::F16 | Dtype::BF16 => 2,
            other => return Err(invalid(format!("{other:?} is not read; F32, F16 and BF16 are"))),
        };
        let start = info.bytes.start + elements.start as u64 * size;
        let length = elements.len() as u64 * size;
        if start + length > info.bytes.end {
            return Err(invalid(format!("elements {elements:?} are more than it has")));
        }
        let mut bytes = vec![0; length as usize];
        self.file
            .seek(SeekFrom::Start(start))
            .and_then(|_| self.file.read_exact(&mut bytes))
            .map_err(|error| invalid(error.to_string()))?;
        let halves = || bytes.as_chunks::<2>().0.iter();
        let values: Vec<f32> = match info.dtype {
            Dtype::F16 => halves().map(|half| half::f16::from_le_bytes(*half).to_f32()).collect(),
            Dtype::BF16 => halves().map(|half| half::bf16::from_le_bytes(*half).to_f32()).collect(),
            _ => bytes.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect(),
        };
        match values.iter().position(|value| !value.is_finite()) {
            Some(place) => Err(invalid(format!("element {} is {}", elements.start + place, values[place]))),
            None => Ok(values),
        }
    }
}
