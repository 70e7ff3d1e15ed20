//! A network and a storage that do as a test says.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::future::poll_fn;
use std::task::Poll;

use super::fetch::{Body, Freshness, Get, Network, Reply};
use super::storage::{Estimate, Memory, Storage};
use crate::error::{Error, Result};

/// What happens to one request, instead of a whole answer.
#[derive(Debug, Clone)]
pub enum Event {
    /// No connection.
    Unreachable,
    /// This status, and perhaps a `Retry-After`.
    Status(u16, Option<&'static str>),
    /// The connection breaks after this many bytes.
    BreaksAfter(usize),
    /// After this many bytes nothing comes any more.
    StallsAfter(usize),
    /// These bytes instead of the file's.
    Sends(Vec<u8>),
    /// The whole file, whatever range was asked for.
    IgnoresRange,
    /// From this address in the end.
    RedirectsTo(&'static str),
}

/// Files by address; events by address, one a request, before the file itself is served.
#[derive(Default)]
pub struct Host {
    pub files: RefCell<BTreeMap<String, Vec<u8>>>,
    pub events: RefCell<BTreeMap<String, VecDeque<Event>>>,
    /// (address, first byte, freshness) of each request.
    pub requests: RefCell<Vec<(String, u64, Freshness)>>,
    pub slept: RefCell<Vec<u32>>,
    /// Where the caller says that files are, by name.
    pub located: RefCell<BTreeMap<String, String>>,
    pub time: Cell<f64>,
    pub most_at_once: Cell<usize>,
    open: std::rc::Rc<Cell<usize>>,
}

impl Host {
    pub fn serve(&self, url: &str, bytes: &[u8]) {
        self.files.borrow_mut().insert(url.into(), bytes.into());
    }

    pub fn plan(&self, url: &str, events: impl IntoIterator<Item = Event>) {
        self.events.borrow_mut().entry(url.into()).or_default().extend(events);
    }

    /// Transfers that are open.
    pub fn open_now(&self) -> usize {
        self.open.get()
    }

    /// First bytes asked for, a request each, of files whose address ends so.
    pub fn asked(&self, ending: &str) -> Vec<u64> {
        self.requests.borrow().iter().filter(|(url, ..)| url.ends_with(ending)).map(|(_, from, _)| *from).collect()
    }
}

pub struct Stream {
    bytes: Vec<u8>,
    at: usize,
    end: End,
    open: std::rc::Rc<Cell<usize>>,
}

enum End {
    Whole,
    Breaks,
    Stalls,
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.open.set(self.open.get() - 1);
    }
}

/// Lets whatever else runs beside go first.
async fn turn() {
    let mut waited = false;
    poll_fn(|context| {
        context.waker().wake_by_ref();
        if std::mem::replace(&mut waited, true) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

impl Network for Host {
    type Body = Stream;

    async fn get(&self, request: &Get<'_>) -> Result<Reply<Stream>> {
        self.requests.borrow_mut().push((request.url.into(), request.from, request.freshness));
        turn().await;
        let event = self.events.borrow_mut().get_mut(request.url).and_then(VecDeque::pop_front);
        let file = self.files.borrow().get(request.url).cloned();
        let (mut status, mut url, mut end, mut retry_after) = (200, request.url.to_string(), End::Whole, None);
        let mut from = usize::try_from(request.from).unwrap();
        let mut bytes = file.unwrap_or_else(|| {
            status = 404;
            vec![]
        });
        match event {
            None => {}
            Some(Event::Unreachable) => {
                return Err(Error::Network { url, status: None, reason: "no connection".into() });
            }
            Some(Event::Status(code, after)) => (status, retry_after, bytes) = (code, after.map(str::to_string), vec![]),
            Some(Event::BreaksAfter(count)) => {
                bytes.truncate(from + count);
                end = End::Breaks;
            }
            Some(Event::StallsAfter(count)) => {
                bytes.truncate(from + count);
                end = End::Stalls;
            }
            Some(Event::Sends(other)) => bytes = other,
            Some(Event::IgnoresRange) => from = 0,
            Some(Event::RedirectsTo(other)) => url = other.into(),
        }
        if status == 200 && from > 0 {
            status = if from < bytes.len() { 206 } else { 416 };
        }
        let bytes = bytes.split_off(from.min(bytes.len()));
        self.open.set(self.open.get() + 1);
        self.most_at_once.set(self.most_at_once.get().max(self.open.get()));
        let from = (status == 206).then_some(from as u64);
        Ok(Reply { status, url, from, retry_after, body: Stream { bytes, at: 0, end, open: self.open.clone() } })
    }

    async fn locate(&self, name: &str) -> Result<Option<String>> {
        Ok(self.located.borrow().get(name).cloned())
    }

    async fn sleep(&self, milliseconds: u32) {
        // Several turns, so that what a sleep races against has had its chance.
        for _ in 0..3 {
            turn().await;
        }
        self.time.set(self.time.get() + f64::from(milliseconds));
        self.slept.borrow_mut().push(milliseconds);
    }

    fn now(&self) -> f64 {
        self.time.get()
    }
}

impl Body for Stream {
    async fn read(&mut self, into: &mut Vec<u8>, room: u64) -> Result<u64> {
        turn().await;
        let chunk = &self.bytes[self.at..self.bytes.len().min(self.at + 7)];
        if chunk.is_empty() {
            match self.end {
                End::Whole => return Ok(0),
                End::Breaks => return Err(Error::Network { url: String::new(), status: None, reason: "connection reset".into() }),
                End::Stalls => std::future::pending::<()>().await,
            }
        }
        self.at += chunk.len();
        if chunk.len() as u64 <= room {
            into.extend_from_slice(chunk);
        }
        Ok(chunk.len() as u64)
    }
}

/// Memory with a quota, that can be broken.
#[derive(Default)]
pub struct Shelf {
    pub memory: Memory,
    pub quota: Option<u64>,
    pub unavailable: Cell<bool>,
    /// What another tab says that it uses.
    pub theirs: RefCell<BTreeSet<String>>,
}

impl Shelf {
    fn check(&self) -> Result<()> {
        match self.unavailable.get() {
            true => Err(Error::StorageUnavailable { reason: "private mode".into() }),
            false => Ok(()),
        }
    }
}

impl Storage for Shelf {
    async fn get(&self, name: &str) -> Result<Option<Vec<u8>>> {
        self.check()?;
        self.memory.get(name).await
    }

    async fn put(&self, name: &str, bytes: &[u8]) -> Result<()> {
        self.check()?;
        let usage = self.memory.estimate().await?.usage.unwrap_or_default();
        if self.quota.is_some_and(|quota| usage + bytes.len() as u64 > quota) {
            return Err(Error::StorageQuota { what: name.into() });
        }
        self.memory.put(name, bytes).await
    }

    async fn delete(&self, name: &str) -> Result<()> {
        self.check()?;
        self.memory.delete(name).await
    }

    async fn list(&self) -> Result<Vec<String>> {
        self.check()?;
        self.memory.list().await
    }

    async fn estimate(&self) -> Result<Estimate> {
        self.check()?;
        Ok(Estimate { quota: self.quota, ..self.memory.estimate().await? })
    }

    async fn shared(&self) -> BTreeSet<String> {
        self.theirs.borrow().clone()
    }
}
