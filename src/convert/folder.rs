//! Folders on a disk: what is read, and what is written, whole or not at all, and never at the price of the source.

use std::path::{Path, PathBuf};

use crate::convert::{Sink, Source};
use crate::error::{Error, Result};
use crate::weights::safetensors::{DiskFile, ReadAt};

impl Source for &Path {
    fn name(&self) -> String {
        self.display().to_string()
    }

    fn open(&self, name: &str) -> Result<Option<Box<dyn ReadAt>>> {
        let path = self.join(name);
        if !path.is_file() {
            return Ok(None);
        }
        Ok(Some(Box::new(DiskFile::open(&path)?)))
    }
}

impl Sink for Unfinished {
    fn write(&mut self, name: &str, bytes: &[u8]) -> Result<()> {
        let path = self.path.join(name);
        std::fs::write(&path, bytes).map_err(|error| Error::file(&path, error))
    }
}

/// Refuses a `dst` that holds something, unless `force`, and always one whose replacement would take the source with it.
/// Errors: file.
pub(super) fn check(src: Option<&Path>, dst: &Path, force: bool) -> Result<()> {
    let Ok(found) = dst.canonicalize() else { return Ok(()) };
    if let Some(src) = src {
        let source = src.canonicalize().map_err(|error| Error::file(src, error))?;
        if source.starts_with(&found) {
            return Err(Error::file(dst, "holds the source, which would be lost"));
        }
    }
    let mut entries = std::fs::read_dir(dst).map_err(|error| Error::file(dst, error))?;
    match entries.next() {
        Some(_) if !force => Err(Error::file(dst, "is there already; --force replaces it")),
        _ => Ok(()),
    }
}

/// A folder under a name of its own until it is whole; dropped before, it leaves nothing.
pub(super) struct Unfinished {
    path: PathBuf,
    finished: bool,
}

impl Unfinished {
    /// Errors: file.
    pub fn beside(dst: &Path) -> Result<Self> {
        let name = dst.file_name().ok_or_else(|| Error::file(dst, "is no name for a folder"))?.to_string_lossy();
        let path = dst.with_file_name(format!(".{name}.{}.unfinished", std::process::id()));
        let failed = |error: std::io::Error| Error::file(&path, error);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(failed)?;
        }
        // Left by a killed process that had the same number: in containers they repeat.
        if path.exists() {
            std::fs::remove_dir_all(&path).map_err(failed)?;
        }
        std::fs::create_dir(&path).map_err(failed)?;
        Ok(Self { path, finished: false })
    }

    /// Takes the place of `dst`; what was there comes back if that fails. Errors: file.
    pub fn finish(mut self, dst: &Path) -> Result<()> {
        let old = self.path.with_extension("replaced");
        let replaces = dst.exists();
        if replaces {
            std::fs::rename(dst, &old).map_err(|error| Error::file(dst, error))?;
        }
        if let Err(error) = std::fs::rename(&self.path, dst) {
            if replaces {
                std::fs::rename(&old, dst).map_err(|error| Error::file(&old, error))?;
            }
            return Err(Error::file(dst, error));
        }
        self.finished = true;
        if replaces {
            std::fs::remove_dir_all(&old).map_err(|error| Error::file(&old, error))?;
        }
        Ok(())
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if !self.finished {
            // Nothing can be done about a folder that does not go; the error that brought us here is the one to report.
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}
