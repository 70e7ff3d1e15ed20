//! A model folder on disk, as `convert` writes it: for programs that run natively.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::device::Device;
use crate::error::{Error, Result};
use crate::weights::index::{FileEntry, INDEX_FILE, Index, sha256};
use crate::weights::load::{Plan, Weights};
use crate::weights::shard;

/// Its index and small files are read at once, its shards when weights are asked for.
///
/// ```
/// use blip2_web::weights::ModelFolder;
///
/// let folder = ModelFolder::open("demo/model")?;
/// assert!(folder.files.contains_key("config.json"));
/// assert!(folder.index.parameters > 10_000_000);
/// # Ok::<(), blip2_web::Error>(())
/// ```
pub struct ModelFolder {
    pub index: Index,
    /// config.json, tokenizer.json and the others, by name.
    pub files: BTreeMap<String, Vec<u8>>,
    path: PathBuf,
}

impl ModelFolder {
    /// Errors: file, config-invalid, size-mismatch, checksum-mismatch.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref().to_path_buf();
        let index = Index::parse(&read(&path.join(INDEX_FILE))?)?;
        let small = index.files.iter().filter(|(_, file)| file.stage.is_none());
        let files = small.map(|(name, file)| Ok((name.clone(), checked(&path, name, file)?))).collect::<Result<_>>()?;
        Ok(Self { index, files, path })
    }

    /// What `plan` asks for, on the device. A shard is read, checked and freed before the next one.
    /// Errors: file, size-mismatch, checksum-mismatch, weight-invalid, weight-shape.
    pub fn weights(&self, device: &Device, plan: Plan) -> Result<Weights> {
        let weights = Weights::new(device, plan);
        for (name, file) in self.index.shards() {
            shard::push(&weights, &self.index, name, &checked(&self.path, name, file)?)?;
        }
        Ok(weights)
    }
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|error| Error::file(path, error))
}

fn checked(folder: &Path, name: &str, expected: &FileEntry) -> Result<Vec<u8>> {
    let bytes = read(&folder.join(name))?;
    if bytes.len() as u64 != expected.bytes {
        return Err(Error::SizeMismatch { file: name.into(), expected: expected.bytes, found: bytes.len() as u64 });
    }
    let found = sha256(&bytes);
    if found != expected.sha256 {
        return Err(Error::ChecksumMismatch { file: name.into(), expected: expected.sha256.clone(), found });
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_not_the_one_of_the_index_is_refused() {
        let folder = std::env::temp_dir().join(format!("blip2-folder-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        for entry in std::fs::read_dir("demo/retrieval").unwrap() {
            let path = entry.unwrap().path();
            std::fs::copy(&path, folder.join(path.file_name().unwrap())).unwrap();
        }
        assert!(ModelFolder::open(&folder).is_ok());
        let config = folder.join("config.json");
        let mut bytes = std::fs::read(&config).unwrap();
        bytes[3] ^= 1;
        std::fs::write(&config, &bytes).unwrap();
        assert_eq!(ModelFolder::open(&folder).err().map(|error| error.code()), Some("checksum-mismatch"));
        bytes.pop();
        std::fs::write(&config, &bytes).unwrap();
        assert_eq!(ModelFolder::open(&folder).err().map(|error| error.code()), Some("size-mismatch"));
        std::fs::remove_file(&config).unwrap();
        assert_eq!(ModelFolder::open(&folder).err().map(|error| error.code()), Some("file"));
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
