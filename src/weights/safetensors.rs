//! Checkpoints on disk: the header of a safetensors file, checked, and its tensors read by ranges, so that a file of
//! gigabytes needs megabytes of memory.

use std::collections::BTreeMap;
use std::ops::Range;

use safetensors::Dtype;
use serde::Deserialize;

use crate::error::{Error, Result};
use crate::weights::shard::{MAX_HEADER, refuse_duplicates};

/// Bytes by their place: a file on a disk, or what JavaScript reads of one.
pub trait ReadAt {
    fn length(&self) -> u64;

    /// Fills `bytes` with what begins at `position`. Errors: file.
    fn read_at(&mut self, position: u64, bytes: &mut [u8]) -> Result<()>;
}

#[derive(Debug, Clone, PartialEq)]
pub struct TensorInfo {
    pub dtype: Dtype,
    pub shape: Vec<usize>,
    /// Bytes of the file.
    pub bytes: Range<u64>,
}

/// A tensor as the header tells of it. The safetensors crate's own `Metadata` counts in usize, which ends at 4 GiB in WebAssembly.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Told {
    dtype: Dtype,
    shape: Vec<u64>,
    data_offsets: (u64, u64),
}

#[derive(Deserialize)]
struct Header {
    #[serde(rename = "__metadata__", default)]
    _metadata: Option<BTreeMap<String, String>>,
    #[serde(flatten)]
    tensors: BTreeMap<String, Told>,
}

pub struct FileReader {
    name: String,
    file: Box<dyn ReadAt>,
    tensors: BTreeMap<String, TensorInfo>,
}

impl FileReader {
    /// Reads the header alone. Errors: file, weight-invalid.
    pub fn open(name: &str, mut file: Box<dyn ReadAt>) -> Result<Self> {
        let invalid = |key: &str, reason: String| Error::WeightInvalid { file: name.into(), key: key.into(), reason };
        let length = file.length();
        let mut prefix = [0; 8];
        if length < 8 {
            return Err(invalid("", format!("{length} bytes are no safetensors file")));
        }
        file.read_at(0, &mut prefix)?;
        let header = u64::from_le_bytes(prefix);
        if header > MAX_HEADER || header + 8 > length {
            return Err(invalid("", format!("the header claims {header} bytes, the file has {length}")));
        }
        let mut json = vec![0; header as usize];
        file.read_at(8, &mut json)?;
        refuse_duplicates(&json).map_err(|reason| invalid("", reason))?;
        let told: Header = serde_json::from_slice(&json).map_err(|error| invalid("", error.to_string()))?;
        let tensors = laid_out(told.tensors, 8 + header).map_err(|(key, reason)| invalid(&key, reason))?;
        let (end, data) = tensors.values().map(|info| info.bytes.end).max().map_or((8 + header, 0), |end| (end, end - 8 - header));
        if end != length {
            let cut = tensors.iter().filter(|(_, info)| info.bytes.end > length).min_by_key(|(_, info)| info.bytes.start);
            let key = cut.map(|(key, _)| key.as_str()).unwrap_or_default();
            return Err(invalid(key, format!("the header names {data} bytes of tensors, the file has {}", length - header - 8)));
        }
        Ok(Self { name: name.into(), file, tensors })
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
        self.file.read_at(start, &mut bytes)?;
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

/// Where tensors lie in a file whose data begins at `start`: each as long as its dtype and shape say, one behind the other.
fn laid_out(told: BTreeMap<String, Told>, start: u64) -> Result<BTreeMap<String, TensorInfo>, (String, String)> {
    let mut tensors = BTreeMap::new();
    let mut places = vec![];
    for (key, Told { dtype, shape, data_offsets: (first, end) }) in told {
        let wanted = shape.iter().try_fold(dtype.bitsize() as u64, |bits, size| bits.checked_mul(*size)).filter(|bits| bits % 8 == 0);
        let sizes: Option<Vec<usize>> = shape.iter().map(|size| usize::try_from(*size).ok()).collect();
        let places_it = start.checked_add(first).zip(start.checked_add(end));
        let (Some(wanted), Some(shape), Some((from, to))) = (wanted, sizes, places_it) else {
            return Err((key, format!("{dtype:?} of shape {shape:?} at {first} is too large")));
        };
        if end.checked_sub(first) != Some(wanted / 8) {
            return Err((key, format!("{dtype:?} of shape {shape:?} are {} bytes, not those from {first} to {end}", wanted / 8)));
        }
        places.push((first, end, key.clone()));
        tensors.insert(key, TensorInfo { dtype, shape, bytes: from..to });
    }
    places.sort();
    let mut reached = 0;
    for (first, end, key) in places {
        if first != reached {
            return Err((key, format!("begins at {first}, where {reached} bytes are before it")));
        }
        reached = end;
    }
    Ok(tensors)
}

#[cfg(not(target_family = "wasm"))]
mod disk {
    use std::fs::File;
    use std::io::{Read, Seek, SeekFrom};
    use std::path::{Path, PathBuf};

    use super::ReadAt;
    use crate::error::{Error, Result};

    /// A file on a disk.
    pub struct DiskFile {
        path: PathBuf,
        file: File,
        length: u64,
    }

    impl DiskFile {
        /// Errors: file.
        pub fn open(path: &Path) -> Result<Self> {
            let failed = |error: std::io::Error| Error::file(path, error);
            let file = File::open(path).map_err(failed)?;
            let length = file.metadata().map_err(failed)?.len();
            Ok(Self { path: path.to_path_buf(), file, length })
        }
    }

    impl ReadAt for DiskFile {
        fn length(&self) -> u64 {
            self.length
        }

        fn read_at(&mut self, position: u64, bytes: &mut [u8]) -> Result<()> {
            let read = self.file.seek(SeekFrom::Start(position)).and_then(|_| self.file.read_exact(bytes));
            read.map_err(|error| Error::file(&self.path, error))
        }
    }
}

#[cfg(not(target_family = "wasm"))]
pub use disk::DiskFile;

#[cfg(test)]
mod tests {
    use super::*;

    fn open(name: &str, header: &str, data: &[u8]) -> Result<FileReader> {
        raw(name, &[&(header.len() as u64).to_le_bytes(), header.as_bytes(), data].concat())
    }

    fn raw(name: &str, bytes: &[u8]) -> Result<FileReader> {
        let path = std::env::temp_dir().join(format!("blip2-web-{}-{name}.safetensors", std::process::id()));
        std::fs::write(&path, bytes).unwrap();
        let reader = DiskFile::open(&path).and_then(|file| FileReader::open(name, Box::new(file)));
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
        reason(open("gap", &format!("{{{},{}}}", tensor("a", 0, 4), tensor("b", 6, 10)), &[0; 10]));
        reason(open("late", &format!("{{{}}}", tensor("a", 2, 6)), &[0; 6]));
        reason(open("backwards", &format!("{{{}}}", tensor("a", 4, 0)), &[0; 4]));
        let huge = r#"{"a":{"dtype":"F32","shape":[18446744073709551615,4],"data_offsets":[0,4]}}"#;
        reason(open("huge", huge, &[0; 4]));
    }

    /// Zeros of any length, behind a header.
    struct Sparse(Vec<u8>, u64);

    impl ReadAt for Sparse {
        fn length(&self) -> u64 {
            self.1
        }

        fn read_at(&mut self, position: u64, bytes: &mut [u8]) -> Result<()> {
            for (place, byte) in (position..).zip(bytes) {
                *byte = usize::try_from(place).ok().and_then(|place| self.0.get(place)).copied().unwrap_or(place as u8);
            }
            Ok(())
        }
    }

    #[test]
    fn files_may_be_larger_than_a_word_counts() {
        let end = 6u64 << 30;
        let header = format!(
            r#"{{"__metadata__":{{"format":"pt"}},"a":{{"dtype":"F16","shape":[3145728,1024],"data_offsets":[0,{end}]}},
            "b":{{"dtype":"F16","shape":[2],"data_offsets":[{end},{}]}}}}"#,
            end + 4
        );
        let bytes = [&(header.len() as u64).to_le_bytes(), header.as_bytes()].concat();
        let length = bytes.len() as u64 + end + 4;
        let mut reader = FileReader::open("large", Box::new(Sparse(bytes, length))).unwrap();
        let place = reader.tensors()["b"].bytes.start;
        let half = |place: u64| half::f16::from_le_bytes([place as u8, (place + 1) as u8]).to_f32();
        assert_eq!(reader.read_f32("b", 0..2).unwrap(), [half(place), half(place + 2)]);
    }
}
