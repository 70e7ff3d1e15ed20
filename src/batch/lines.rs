//! JSON Lines: where results go one by one, and how a file that was left in the middle goes on.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{BufRead, BufReader, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::error::{Error, Result};

/// Standard output, or a file that nobody else writes meanwhile. A line is written at once: who ends the process tears the last one at most.
pub struct Lines {
    to: Target,
}

enum Target {
    Stdout,
    File { path: PathBuf, file: File },
}

impl Lines {
    pub fn stdout() -> Self {
        Self { to: Target::Stdout }
    }

    /// A new file; what is there is replaced with `force` alone. Errors: file.
    pub fn create(path: &Path, force: bool) -> Result<Self> {
        let there = std::fs::metadata(path).is_ok_and(|found| found.len() > 0);
        if there && !force {
            return Err(Error::file(path, "is there already; --resume goes on with it, --force replaces it"));
        }
        let file = open(path)?;
        file.set_len(0).map_err(|error| Error::file(path, error))?;
        Ok(Self { to: Target::File { path: path.to_path_buf(), file } })
    }

    /// A file that may hold lines already: `keep` gets each of them. What stands behind the last end of a line was torn, and is cut off.
    /// Errors: file, and those of `keep`.
    pub fn resume(path: &Path, keep: &mut dyn FnMut(&str) -> Result<()>) -> Result<Self> {
        let failed = |error: std::io::Error| Error::file(path, error);
        let mut file = open(path)?;
        let mut reader = BufReader::new(&file);
        let (mut line, mut number, mut whole) = (vec![], 0, 0);
        loop {
            line.clear();
            let bytes = reader.read_until(b'\n', &mut line).map_err(failed)?;
            if line.pop() != Some(b'\n') {
                break;
            }
            number += 1;
            let text = str::from_utf8(&line).map_err(|error| Error::file(path, format!("line {number}: {error}")))?;
            keep(text).map_err(|error| Error::file(path, format!("line {number}: {error}")))?;
            whole += bytes as u64;
        }
        drop(reader);
        file.set_len(whole).and_then(|()| file.seek(SeekFrom::Start(whole))).map_err(failed)?;
        Ok(Self { to: Target::File { path: path.to_path_buf(), file } })
    }

    /// Errors: file.
    pub fn write(&mut self, line: &impl Serialize) -> Result<()> {
        let bytes = in_json(line)?;
        match &mut self.to {
            Target::Stdout => {
                let mut stdout = std::io::stdout().lock();
                let written = stdout.write_all(&bytes).and_then(|()| stdout.flush());
                written.map_err(|error| Error::file(Path::new("standard output"), error))
            }
            Target::File { path, file } => file.write_all(&bytes).map_err(|error| Error::file(path, error)),
        }
    }

    /// Keeps a line for a later run, where there is a file to keep it in. Errors: file.
    pub fn note(&mut self, line: &impl Serialize) -> Result<()> {
        if matches!(self.to, Target::File { .. }) { self.write(line) } else { Ok(()) }
    }

    /// These lines in place of all that are there; on standard output, behind them. A file is replaced whole or not at all. Errors: file.
    pub fn replace(mut self, lines: &[impl Serialize]) -> Result<()> {
        let path = match &self.to {
            Target::Stdout => return lines.iter().try_for_each(|line| self.write(line)),
            Target::File { path, .. } => path,
        };
        let mut bytes = vec![];
        for line in lines {
            bytes.extend(in_json(line)?);
        }
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let beside = path.with_file_name(format!(".{name}.{}.unfinished", std::process::id()));
        let replaced = std::fs::write(&beside, bytes).and_then(|()| std::fs::rename(&beside, path));
        replaced.map_err(|error| {
            // Nothing more can be done about a file that does not go; the error that brought us here is the one to report.
            let _ = std::fs::remove_file(&beside);
            Error::file(path, error)
        })
    }
}

fn in_json(line: &impl Serialize) -> Result<Vec<u8>> {
    let mut bytes = serde_json::to_vec(line).map_err(|error| Error::input("a line of the output", error))?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// For this process alone, where the file system can tell.
fn open(path: &Path) -> Result<File> {
    let opened = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
    let file = opened.map_err(|error| Error::file(path, error))?;
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => Err(Error::file(path, "another run is writing it")),
        Err(TryLockError::Error(_)) | Ok(()) => Ok(file),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("blip2-web-lines-{name}-{}", std::process::id()))
    }

    fn resumed(path: &Path) -> Result<(Lines, Vec<String>)> {
        let mut kept = vec![];
        let lines = Lines::resume(path, &mut |line| {
            kept.push(line.to_string());
            Ok(())
        })?;
        Ok((lines, kept))
    }

    #[test]
    fn a_torn_line_is_cut_off_wherever_it_tore() {
        let path = scratch("torn");
        let whole = "{\"a\":\"é\"}\n[2]\n[3]\n";
        for bytes in 0..=whole.len() {
            std::fs::write(&path, &whole.as_bytes()[..bytes]).unwrap();
            let (mut lines, kept) = resumed(&path).unwrap();
            let complete = whole.as_bytes()[..bytes].iter().filter(|&&byte| byte == b'\n').count();
            assert_eq!(kept.len(), complete, "{bytes} bytes");
            lines.write(&"next").unwrap();
            let text = std::fs::read_to_string(&path).unwrap();
            let expected: String = whole.split_inclusive('\n').take(complete).chain(["\"next\"\n"]).collect();
            assert_eq!(text, expected, "{bytes} bytes");
        }
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn a_file_that_is_there_is_kept_unless_told_otherwise_and_has_one_writer() {
        let path = scratch("there");
        std::fs::write(&path, "[1]\n").unwrap();
        assert_eq!(Lines::create(&path, false).err().map(|error| error.code()), Some("file"));
        let first = resumed(&path).unwrap();
        assert!(matches!(Lines::create(&path, true), Err(Error::File { reason, .. }) if reason == "another run is writing it"));
        first.0.replace(&["b", "a"]).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "\"b\"\n\"a\"\n");
        Lines::create(&path, true).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"");
        std::fs::remove_file(&path).unwrap();
    }
}
