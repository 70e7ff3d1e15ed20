//! Storage in IndexedDB: one object store of ArrayBuffers by name.

use std::cell::RefCell;
use std::collections::BTreeSet;

use indexed_db_futures::database::Database;
use indexed_db_futures::error::{Error as DbError, OpenDbError};
use indexed_db_futures::internals::SystemRepr;
use indexed_db_futures::prelude::*;
use indexed_db_futures::transaction::{Transaction, TransactionMode};
use js_sys::{Array, ArrayBuffer, Function, Promise, Reflect, Uint8Array};
use tokio::sync::Semaphore;
use wasm_bindgen::closure::Closure;
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::JsFuture;

use super::browser::append;
use super::locks::{self, Mode};
use super::storage::{Estimate, Storage, Turn};
use crate::error::{Error, Result};

const DATABASE: &str = "blip2-web";
const STORE: &str = "files";
/// Locks of what is in use are named so.
const IN_USE: &str = "blip2-web/in use/";
/// A database that is deleted again and again is somebody's wish.
const REOPENED: usize = 3;

/// Opened at the first use, and again when the browser has closed the connection.
pub struct IndexedDb {
    connection: RefCell<Option<Database>>,
    /// One is read while the one before is hashed; and each that is under way takes its size several times over in the browser.
    reading: Semaphore,
    /// The browser writes one after the other in any case.
    writing: Semaphore,
    /// What the browser calls when the connection is in somebody's way.
    closing: RefCell<Option<Closure<dyn FnMut()>>>,
}

/// What became of a request to the database.
enum Failure {
    /// The connection is closed; a new one may serve.
    Lost(String),
    /// There is no room.
    Full,
    Other(String),
}

impl Default for IndexedDb {
    fn default() -> Self {
        let one = || Semaphore::const_new(1);
        Self { connection: RefCell::default(), reading: one(), writing: one(), closing: RefCell::default() }
    }
}

impl IndexedDb {
    async fn open(&self) -> Result<Database, Failure> {
        if let Some(database) = self.connection.borrow().clone() {
            return Ok(database);
        }
        let request = Database::open(DATABASE).with_version(1u32).with_on_upgrade_needed(|_, database| {
            database.create_object_store(STORE).build()?;
            Ok(())
        });
        let database = request.await.map_err(|error: OpenDbError| Failure::Other(error.to_string()))?;
        // Several may have found it closed, and one of them was faster.
        if let Some(other) = self.connection.borrow().clone() {
            database.close();
            return Ok(other);
        }
        self.make_way(&database);
        *self.connection.borrow_mut() = Some(database.clone());
        Ok(database)
    }

    /// Whoever wants to delete the database, or a newer version of this page to change it, waits until every connection is closed.
    fn make_way(&self, database: &Database) {
        let raw: JsValue = database.as_sys().clone().into();
        let close = Closure::<dyn FnMut()>::new({
            let database = database.clone();
            move || database.clone().close()
        });
        let _ = Reflect::set(&raw, &"onversionchange".into(), close.as_ref());
        *self.closing.borrow_mut() = Some(close);
    }

    /// Opens another connection next time, unless somebody has done so already.
    fn forget(&self, lost: &Database) {
        let mut connection = self.connection.borrow_mut();
        let raw = |database: &Database| -> JsValue { database.as_sys().clone().into() };
        if connection.as_ref().is_some_and(|current| raw(current) == raw(lost)) {
            *connection = None;
        }
    }

    /// Does `work` in a transaction of its own, on a new connection when the old one is lost.
    async fn transact<T>(&self, mode: TransactionMode, work: impl AsyncFn(&Transaction<'_>) -> Result<T, DbError>) -> Result<T, Failure> {
        let mut reopened = 0;
        loop {
            let database = self.open().await?;
            match attempt(&database, mode, &work).await {
                Err(Failure::Lost(_)) if reopened < REOPENED => {
                    reopened += 1;
                    self.forget(&database);
                }
                other => return other,
            }
        }
    }
}

async fn attempt<T>(
    database: &Database,
    mode: TransactionMode,
    work: &impl AsyncFn(&Transaction<'_>) -> Result<T, DbError>,
) -> Result<T, Failure> {
    let transaction = database.transaction(STORE).with_mode(mode).build().map_err(|error| classify(&error))?;
    let value = work(&transaction).await.map_err(|error| classify(&error))?;
    if mode == TransactionMode::Readwrite {
        // The reason why a commit failed stands on the transaction, which `commit` consumes.
        let raw: JsValue = transaction.as_sys().clone().into();
        transaction.commit().await.map_err(|error| match Reflect::get(&raw, &"error".into()) {
            Ok(reason) if reason.is_object() => classify_name(&reason),
            _ => classify(&error),
        })?;
    }
    Ok(value)
}

impl Storage for IndexedDb {
    async fn get(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let _turn = self.reading.acquire().await;
        let found = self.transact(TransactionMode::Readonly, async |transaction| {
            let store = transaction.object_store(STORE)?;
            let value: Option<ArrayBuffer> = store.get(name).primitive()?.await?;
            Ok(value)
        });
        let found = found.await.map_err(|failure| error(failure, name))?;
        let Some(buffer) = found else { return Ok(None) };
        let mut bytes = vec![];
        append(&Uint8Array::new(&buffer), &mut bytes, || name.into())?;
        give_back(&buffer);
        hurry_collector(bytes.len());
        Ok(Some(bytes))
    }

    async fn put(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let _turn = self.writing.acquire().await;
        let done = self.transact(TransactionMode::Readwrite, async |transaction| {
            let store = transaction.object_store(STORE)?;
            // A copy outside of wasm's memory: cloning a view would take all of that memory along.
            let buffer = Uint8Array::from(bytes).buffer();
            let writing = store.put(&buffer).with_key(name.to_string()).without_key_type().primitive()?;
            // The request holds a clone by now.
            give_back(&buffer);
            writing.await
        });
        let done = done.await.map_err(|failure| error(failure, name));
        hurry_collector(bytes.len());
        done
    }

    async fn delete(&self, name: &str) -> Result<()> {
        let done = self.transact(TransactionMode::Readwrite, async |transaction| {
            let store = transaction.object_store(STORE)?;
            store.delete(name).primitive()?.await
        });
        done.await.map_err(|failure| error(failure, name))
    }

    async fn list(&self) -> Result<Vec<String>> {
        let names = self.transact(TransactionMode::Readonly, async |transaction| {
            let store = transaction.object_store(STORE)?;
            let keys = store.get_all_keys::<String>().primitive()?.await?;
            keys.collect::<Result<Vec<_>, _>>()
        });
        names.await.map_err(|failure| error(failure, "the list of files"))
    }

    async fn estimate(&self) -> Result<Estimate> {
        let said = call("estimate").await;
        let number = |name: &str| {
            let value = said.as_ref().and_then(|said| Reflect::get(said, &name.into()).ok()).and_then(|value| value.as_f64());
            value.filter(|value| value.is_finite() && *value >= 0.0).map(|value| value as u64)
        };
        let persistent = call("persisted").await.and_then(|said| said.as_bool()).unwrap_or(false);
        Ok(Estimate { usage: number("usage"), quota: number("quota"), persistent })
    }

    async fn turn(&self, name: &str) -> Turn {
        locks::turn(&format!("{DATABASE}/{name}"), Mode::Exclusive).await.unwrap_or_default()
    }

    async fn share(&self, name: &str) -> Turn {
        locks::turn(&format!("{IN_USE}{name}"), Mode::Shared).await.unwrap_or_default()
    }

    async fn shared(&self) -> BTreeSet<String> {
        let held = locks::held().await.unwrap_or_default();
        held.iter().filter_map(|name| name.strip_prefix(IN_USE)).map(str::to_string).collect()
    }
}

/// Frees the memory of a buffer that nobody reads any more, where the browser has a way: garbage of a shard's size would wait for its collector, and
/// many of them at once. (What `fetch` has made is not freed by this in Chromium, and the collector is told that it was.)
fn give_back(buffer: &ArrayBuffer) {
    let transfer = Reflect::get(buffer, &"transfer".into()).ok().and_then(|method| method.dyn_into::<Function>().ok());
    if let Some(transfer) = transfer {
        let _ = transfer.call1(buffer, &0.into());
    }
}

/// Chromium keeps beside the buffer that it gives what it has read from the disk, until its collector comes; and that is called by what it knows of, which this
/// is not: 733 MB of weights left 210 of it. A buffer that nobody writes to takes no memory there, but counts. Elsewhere it would take some.
/// `moved`: bytes that came or went.
fn hurry_collector(moved: usize) {
    if navigator("userAgentData").is_none() {
        return;
    }
    if let Ok(class) = Reflect::get(&js_sys::global(), &"ArrayBuffer".into()).and_then(|class| class.dyn_into::<Function>()) {
        let _ = Reflect::construct(&class, &Array::of1(&(32.0 * moved as f64).into()));
    }
}

fn navigator(name: &str) -> Option<JsValue> {
    let navigator = Reflect::get(&js_sys::global(), &"navigator".into()).ok()?;
    Reflect::get(&navigator, &name.into()).ok().filter(JsValue::is_object)
}

/// `navigator.storage.NAME()`, which plain http and old browsers lack.
async fn call(name: &str) -> Option<JsValue> {
    let manager = navigator("storage")?;
    let method: Function = Reflect::get(&manager, &name.into()).ok()?.dyn_into().ok()?;
    let promise: Promise = method.call0(&manager).ok()?.dyn_into().ok()?;
    JsFuture::from(promise).await.ok()
}

fn error(failure: Failure, what: &str) -> Error {
    match failure {
        Failure::Full => Error::StorageQuota { what: what.into() },
        Failure::Lost(reason) | Failure::Other(reason) => Error::StorageUnavailable { reason },
    }
}

fn classify(error: &DbError) -> Failure {
    match error {
        DbError::DomException(exception) => classify_name(exception.as_ref()),
        other => Failure::Other(other.to_string()),
    }
}

fn classify_name(exception: &JsValue) -> Failure {
    let text = |field: &str| Reflect::get(exception, &field.into()).ok().and_then(|value| value.as_string()).unwrap_or_default();
    let (name, message) = (text("name"), text("message"));
    let reason = format!("{name}: {message}");
    match name.as_str() {
        "QuotaExceededError" => Failure::Full,
        // "Connection to Indexed Database server lost" comes as an UnknownError.
        "InvalidStateError" | "TransactionInactiveError" | "UnknownError" => Failure::Lost(reason),
        _ => Failure::Other(reason),
    }
}
