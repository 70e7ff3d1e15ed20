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
use crate::weights::shard::{MAX_HEADER, refuse_duplicates};

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
        refuse_duplicates(&json).map_err(|reason| invalid("", reason))?;
        // Reading it checks that offsets follow one another and agree with dtypes and shapes.
        let metadata: Metadata = serde_json::from_slice(&json).map_err(|error| invalid("", error.to_string()))?;
        let (data, present) = (metadata.data_len() as u64, length - header - 8);
        if data != present {
            let cut = metadata.tensors().into_iter().find(|(_, info)| info.data_offsets.1 as u64 > present);
            let key = cut.map(|(key, _)| key).unwrap_or_default();
            return Err(invalid(&key, format!("the header names {data} bytes of tensors, the file has {present}")));
        }
        let mut tensors = BTreeMap::new();
        for (key, info) in metadata.tensors() {
            let start = 8 + header + info.data_offsets.0 as u64;
            let end = 8 + header + info.data_offsets.1 as u64;
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

#[cfg(test)]
mod tests {
    use super::*;

    fn open(name: &str, header: &str, data: &[u8]) -> Result<FileReader> {
        raw(name, &[&(header.len() as u64).to_le_bytes(), header.as_bytes(), data].concat())
    }

    fn raw(name: &str, bytes: &[u8]) -> Result<FileReader> {
        let path = std::env::temp_dir().join(format!("blip2-web-{}-{name}.safetensors", std::process::id()));
        std::fs::write(&path, bytes).unwrap();
        let reader = FileReader::open(&path);
        std::fs::remove_file(&path).unwrap();
        reader
    }

    fn reason(reader: Result<FileReader>) -> String {
        match reader {
            Err(error @ Error::WeightInvalid { .. }) => error.to_string(),
            Err(other) => panic!("{other}"),
            Ok(_) => panic!("it was taken"),
        }
    }

    #[test]
    fn ranges_of_every_dtype_are_read() {
        let header = r#"{"a":{"dtype":"F32","shape":[3],"data_offsets":[0,12]},
            "b":{"dtype":"BF16","shape":[2],"data_offsets":[12,16]},"c":{"dtype":"F16","shape":[2],"data_offsets":[16,20]}}"#;
        let mut data: Vec<u8> = [1.0f32, -2.5, f32::NAN].iter().flat_map(|x| x.to_le_bytes()).collect();
        data.extend([3.0, -0.5].iter().flat_map(|x| half::bf16::from_f32(*x).to_le_bytes()));
        data.extend([0.25, 7.0].iter().flat_map(|x| half::f16::from_f32(*x).to_le_bytes()));
        let mut reader = open("ranges", header, &data).unwrap();
        assert_eq!(reader.tensors().len(), 3);
        assert_eq!(reader.read_f32("a", 1..2), Ok(vec![-2.5]));
        assert_eq!(reader.read_f32("b", 0..2), Ok(vec![3.0, -0.5]));
        assert_eq!(reader.read_f32("c", 1..2), Ok(vec![7.0]));
        assert_eq!(reader.read_f32("a", 1..3).unwrap_err().code(), "weight-invalid");
        assert_eq!(reader.read_f32("b", 1..3).unwrap_err().code(), "weight-invalid");
        assert_eq!(reader.read_f32("d", 0..1).unwrap_err().code(), "weight-missing");
    }

    #[test]
    fn headers_that_lie_are_refused() {
        let tensor =
            |name: &str, first: usize, end: usize| format!(r#""{name}":{{"dtype":"F16","shape":[2],"data_offsets":[{first},{end}]}}"#);
        assert!(reason(raw("short", &[1, 2, 3])).contains("3 bytes"));
        assert!(reason(raw("long", &u64::MAX.to_le_bytes())).contains("claims"));
        assert!(reason(open("end", &format!("{{{}}}", tensor("a", 0, 4)), &[0; 3])).contains("names 4 bytes"));
        assert!(reason(open("more", &format!("{{{}}}", tensor("a", 0, 4)), &[0; 5])).contains("has 5"));
        assert!(reason(open("twice", &format!("{{{},{}}}", tensor("a", 0, 4), tensor("a", 0, 4)), &[0; 4])).contains("a is there twice"));
        reason(open("overlap", &format!("{{{},{}}}", tensor("a", 0, 4), tensor("b", 2, 6)), &[0; 6]));
        reason(open("shape", &format!("{{{}}}", tensor("a", 0, 6)), &[0; 6]));
        reason(open("json", "{", &[]));
        let huge = r#"{"a":{"dtype":"F32","shape":[18446744073709551615,4],"data_offsets":[0,4]}}"#;
        reason(open("huge", huge, &[0; 4]));
    }
}
