//! Which pictures: files as they are named, folders walked in order, and of all of them one share.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use sha2::{Digest, Sha256};

use crate::error::{Error, Result};

/// Of a folder's files, those whose names end so are taken for pictures.
const EXTENSIONS: [&str; 6] = ["png", "jpg", "jpeg", "webp", "gif", "bmp"];

/// A picture by the name under which it stands in the output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    pub path: PathBuf,
    pub name: String,
}

/// One of n shares. A picture's share is decided by its name alone: it stays where it is however many others come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shard {
    /// From 1 on.
    index: u64,
    of: u64,
}

impl Default for Shard {
    /// All of it.
    fn default() -> Self {
        Self { index: 1, of: 1 }
    }
}

impl FromStr for Shard {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let numbers = text.split_once('/').and_then(|(index, of)| Some((index.parse().ok()?, of.parse().ok()?)));
        match numbers {
            Some((index, of)) if index >= 1 && index <= of => Ok(Self { index, of }),
            _ => Err(Error::input("shard", format!("{text}: i/n is expected, with i from 1 to n"))),
        }
    }
}

impl Shard {
    pub fn holds(&self, name: &str) -> bool {
        let [a, b, c, d, e, f, g, h, ..]: [u8; 32] = Sha256::digest(name.as_bytes()).into();
        u64::from_be_bytes([a, b, c, d, e, f, g, h]) % self.of == self.index - 1
    }
}

/// The pictures that these paths name, each once and in the order given. A folder stands for the pictures in it, at any depth, ordered
/// by name; what begins with a dot is left out there, and links to folders are not followed. A path that is no folder is taken as it
/// is: whether it is a picture shows when it is read. Errors: file, for a folder that cannot be read.
pub fn gather(paths: &[PathBuf], shard: Shard) -> Result<Vec<Picture>> {
    let (mut pictures, mut seen) = (vec![], BTreeSet::new());
    for path in paths {
        let mut add = |path: PathBuf| {
            let name = path.to_string_lossy().into_owned();
            if shard.holds(&name) && seen.insert(path.clone()) {
                pictures.push(Picture { path, name });
            }
        };
        if path.is_dir() { walk(path, &mut add)? } else { add(path.clone()) }
    }
    Ok(pictures)
}

fn walk(folder: &Path, add: &mut dyn FnMut(PathBuf)) -> Result<()> {
    let failed = |error: std::io::Error| Error::file(folder, error);
    let mut entries = std::fs::read_dir(folder).map_err(failed)?.collect::<std::io::Result<Vec<_>>>().map_err(failed)?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let (path, kind) = (entry.path(), entry.file_type().map_err(failed)?);
        if entry.file_name().to_string_lossy().starts_with('.') {
            continue;
        }
        if kind.is_dir() {
            walk(&path, add)?;
        } else if is_named_as_picture(&path) && (kind.is_file() || path.is_file()) {
            add(path);
        }
    }
    Ok(())
}

fn is_named_as_picture(path: &Path) -> bool {
    let extension = path.extension().map(|extension| extension.to_string_lossy().to_lowercase());
    extension.is_some_and(|extension| EXTENSIONS.contains(&extension.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_are_named_from_one_on_and_nothing_else_is_a_shard() {
        for text in ["0/4", "5/4", "1/0", "1", "/", "a/b", "-1/2", "1/2/3", ""] {
            assert_eq!(text.parse::<Shard>().err().map(|error| error.code()), Some("input-invalid"), "{text}");
        }
        assert_eq!("1/1".parse(), Ok(Shard::default()));
    }

    #[test]
    fn each_name_is_in_one_shard_and_shards_are_of_like_size() {
        let shards: Vec<Shard> = (1..=5).map(|index| format!("{index}/5").parse().unwrap()).collect();
        let mut sizes = [0; 5];
        for name in (0..1000).map(|number| format!("pictures/{number}.jpg")) {
            let holders: Vec<usize> = (0..5).filter(|&index| shards[index].holds(&name)).collect();
            assert_eq!(holders.len(), 1, "{name}");
            sizes[holders[0]] += 1;
        }
        assert!(sizes.iter().all(|size| (150..250).contains(size)), "{sizes:?}");
    }

    #[test]
    fn folders_are_walked_in_order_and_a_path_counts_once() {
        let folder = std::env::temp_dir().join(format!("blip2-web-gather-{}", std::process::id()));
        std::fs::create_dir_all(folder.join("b/.hidden")).unwrap();
        for name in ["c.PNG", "a.jpg", "b/x.webp", "b/notes.txt", "b/.hidden/y.png", ".z.png"] {
            std::fs::write(folder.join(name), b"").unwrap();
        }
        let paths = [folder.join("c.PNG"), folder.clone(), folder.join("b/notes.txt"), folder.join("missing.png")];
        let found = gather(&paths, Shard::default()).unwrap();
        let found: Vec<&Path> = found.iter().map(|picture| picture.path.strip_prefix(&folder).unwrap()).collect();
        assert_eq!(found, ["c.PNG", "a.jpg", "b/x.webp", "b/notes.txt", "missing.png"].map(Path::new));
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
