//! Where bytes are kept by name: five methods over IndexedDB, and over memory for tests and whoever wants no traces.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::error::Result;

/// What the browser says of its room; each a hint, and unknown where it does not say.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Estimate {
    pub usage: Option<u64>,
    pub quota: Option<u64>,
    /// Whether the browser has promised not to clear it by itself.
    pub persistent: bool,
}

/// Bytes by name. Errors of all methods: storage-unavailable; of `put` also storage-quota.
#[allow(async_fn_in_trait)] // one thread, on which no future is Send
pub trait Storage {
    async fn get(&self, name: &str) -> Result<Option<Vec<u8>>>;
    /// Replaces what was there, whole or not at all.
    async fn put(&self, name: &str, bytes: &[u8]) -> Result<()>;
    /// What is not there is deleted too.
    async fn delete(&self, name: &str) -> Result<()>;
    /// Every name, in order.
    async fn list(&self) -> Result<Vec<String>>;
    async fn estimate(&self) -> Result<Estimate>;
    /// Waits until nobody else who shares this storage is bringing that file. It is a courtesy: where there is no way to wait, nobody does.
    async fn turn(&self, _name: &str) -> Turn {
        Turn::default()
    }
    /// Tells everybody else who shares this storage that this name is in use, until what it gives is dropped. A courtesy, too.
    async fn share(&self, _name: &str) -> Turn {
        Turn::default()
    }
    /// Names that somebody else, or oneself, has said to be in use.
    async fn shared(&self) -> BTreeSet<String> {
        BTreeSet::new()
    }
}

/// The right to bring a file, or to use one, until it is dropped.
#[derive(Default)]
pub struct Turn(Option<Box<dyn FnOnce()>>);

impl Turn {
    pub fn ending_with(release: impl FnOnce() + 'static) -> Self {
        Self(Some(Box::new(release)))
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(release) = self.0.take() {
            release();
        }
    }
}

/// Gone with the tab.
#[derive(Debug, Default)]
pub struct Memory {
    files: RefCell<BTreeMap<String, Vec<u8>>>,
}

impl Storage for Memory {
    async fn get(&self, name: &str) -> Result<Option<Vec<u8>>> {
        Ok(self.files.borrow().get(name).cloned())
    }

    async fn put(&self, name: &str, bytes: &[u8]) -> Result<()> {
        self.files.borrow_mut().insert(name.into(), bytes.into());
        Ok(())
    }

    async fn delete(&self, name: &str) -> Result<()> {
        self.files.borrow_mut().remove(name);
        Ok(())
    }

    async fn list(&self) -> Result<Vec<String>> {
        Ok(self.files.borrow().keys().cloned().collect())
    }

    async fn estimate(&self) -> Result<Estimate> {
        let usage = self.files.borrow().values().map(|bytes| bytes.len() as u64).sum();
        Ok(Estimate { usage: Some(usage), quota: None, persistent: false })
    }
}

/// The storage that a page asked for.
pub enum AnyStorage {
    Memory(Memory),
    #[cfg(target_family = "wasm")]
    IndexedDb(super::indexed_db::IndexedDb),
    #[cfg(target_family = "wasm")]
    Custom(super::custom_storage::CustomStorage),
}

macro_rules! either {
    ($storage:expr, $inner:ident => $call:expr) => {
        match $storage {
            AnyStorage::Memory($inner) => $call.await,
            #[cfg(target_family = "wasm")]
            AnyStorage::IndexedDb($inner) => $call.await,
            #[cfg(target_family = "wasm")]
            AnyStorage::Custom($inner) => $call.await,
        }
    };
}

impl Storage for AnyStorage {
    async fn get(&self, name: &str) -> Result<Option<Vec<u8>>> {
        either!(self, storage => storage.get(name))
    }

    async fn put(&self, name: &str, bytes: &[u8]) -> Result<()> {
        either!(self, storage => storage.put(name, bytes))
    }

    async fn delete(&self, name: &str) -> Result<()> {
        either!(self, storage => storage.delete(name))
    }

    async fn list(&self) -> Result<Vec<String>> {
        either!(self, storage => storage.list())
    }

    async fn estimate(&self) -> Result<Estimate> {
        either!(self, storage => storage.estimate())
    }

    async fn turn(&self, name: &str) -> Turn {
        either!(self, storage => storage.turn(name))
    }

    async fn share(&self, name: &str) -> Turn {
        either!(self, storage => storage.share(name))
    }

    async fn shared(&self) -> BTreeSet<String> {
        either!(self, storage => storage.shared())
    }
}
