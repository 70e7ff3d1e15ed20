//! A whole model: index, small files, then shards by stage, each from the cache or the network, checked before it is used.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use super::address::Address;
use super::cache::{Cache, Content, Hold, Record};
use super::concurrency::Concurrency;
use super::fetch::{Access, Freshness, Network, Retry, Size, Wanted, fetch};
use super::integrity::sha256_of;
use super::lanes::{First, Lanes, race};
use super::progress::{Expected, Meter, Progress};
use super::storage::{Storage, Turn};
use crate::error::{Error, Result};
use crate::weights::index::{INDEX_FILE, Index, Stage};

/// Bytes that may be on the way at once, beyond the fewest transfers: they lie beside the weights.
const UNDER_WAY: u64 = 64 << 20;
/// An index larger than this is none.
const INDEX_LIMIT: u64 = 64 << 20;
/// So long another tab may take to bring a shard before this one fetches it too: a tab in the background may be slowed down.
const PATIENCE_MS: u32 = 10_000;

/// What a caller of `load` may ask for.
#[derive(Debug, Clone, PartialEq)]
pub struct LoadOptions {
    /// `sha256-…` of the index, and through it of every file.
    pub integrity: Option<String>,
    pub request: Access,
    /// Whether what comes is kept in the cache.
    pub keep: bool,
}

impl Default for LoadOptions {
    fn default() -> Self {
        Self { integrity: None, request: Access::default(), keep: true }
    }
}

/// Who uses the files as they come.
#[allow(async_fn_in_trait)] // one thread, on which no future is Send
pub trait Receiver {
    /// Configs and tokenizer, by name: once, before any shard.
    fn files(&mut self, index: &Index, files: BTreeMap<String, Vec<u8>>) -> Result<()>;
    /// Whether it has any use for a shard. One that is in the cache already stays there unread where it has none.
    fn needs(&self, _file: &str) -> bool {
        true
    }
    /// One shard, whole and verified; those of a stage come in any order.
    async fn shard(&mut self, index: &Index, file: &str, bytes: &[u8]) -> Result<()>;
}

/// What a load has brought.
#[derive(Debug)]
pub struct Loaded {
    pub index: Index,
    pub bytes: u64,
    /// Part of `bytes` that came from the cache.
    pub cached: u64,
    /// Whether all of it is in the cache now.
    pub kept: bool,
    /// Why the model is not kept, where it was to be: it works all the same.
    pub storage_error: Option<Error>,
    /// Held as long as the model is used, nothing of it makes room for another.
    pub hold: Hold,
}

/// What can be said of a model from its index alone.
#[derive(Debug)]
pub struct Inspection {
    pub index: Index,
    pub bytes: u64,
    pub cached: u64,
}

/// A file of the model, in load order.
#[derive(Debug, Clone, PartialEq)]
struct Planned {
    name: String,
    content: Content,
    /// Files without a stage are configs and the tokenizer.
    stage: Option<Stage>,
}

/// Where a model comes from and where it is kept.
pub struct Source<'a, N, S> {
    pub address: &'a Address,
    pub network: &'a N,
    pub cache: &'a Cache<S>,
}

/// Loads a model and hands its files to `receiver`. Who drops the future aborts: transfers end, and whole files stay kept.
/// Errors: network, config-invalid, size-mismatch, checksum-mismatch, input-invalid, out-of-memory, and what `receiver` says.
pub async fn load_model<N: Network, S: Storage>(
    source: &Source<'_, N, S>,
    options: &LoadOptions,
    progress: &mut dyn FnMut(Progress),
    receiver: &mut impl Receiver,
) -> Result<Loaded> {
    let (index, index_bytes) = fetch_index(source, options).await?;
    let planned = plan(&index);
    let keeper = Keeper::new(source, options, &planned, &index_bytes).await;
    let clock = || source.network.now();
    let meter = Meter::new(source.address.as_str(), expected(&planned, &keeper), &clock, progress);
    let delivery = Delivery { source, options, keeper: &keeper, meter: &meter };

    let (small, shards): (Vec<_>, Vec<_>) = planned.iter().partition(|file| file.stage.is_none());
    receiver.files(&index, delivery.bring_files(&small).await?)?;
    let (idle, shards): (Vec<_>, Vec<_>) = shards.into_iter().partition(|file| keeper.has(&file.content) && !receiver.needs(&file.name));
    for file in idle {
        meter.initiate(&file.name);
        meter.done(&file.name, true);
    }
    delivery.bring_all(&shards, async |file, bytes| receiver.shard(&index, &file.name, bytes).await).await?;
    keeper.remember(&planned, &index_bytes).await;
    meter.ready();
    let totals = meter.totals();
    let (bytes, cached, kept) = (totals.total, totals.cached, keeper.keeps());
    let (storage_error, hold) = keeper.end();
    Ok(Loaded { index, bytes, cached, kept, storage_error, hold })
}

/// Configs and tokenizer alone, by name: nothing of the weights. Errors: network, config-invalid, size-mismatch, checksum-mismatch,
/// input-invalid.
pub async fn load_files<N: Network, S: Storage>(
    source: &Source<'_, N, S>,
    options: &LoadOptions,
    progress: &mut dyn FnMut(Progress),
) -> Result<(Index, BTreeMap<String, Vec<u8>>)> {
    let (index, index_bytes) = fetch_index(source, options).await?;
    let planned: Vec<Planned> = plan(&index).into_iter().filter(|file| file.stage.is_none()).collect();
    let keeper = Keeper::new(source, options, &planned, &index_bytes).await;
    let clock = || source.network.now();
    let meter = Meter::new(source.address.as_str(), expected(&planned, &keeper), &clock, progress);
    let delivery = Delivery { source, options, keeper: &keeper, meter: &meter };
    let files = delivery.bring_files(&planned.iter().collect::<Vec<_>>()).await?;
    meter.ready();
    Ok((index, files))
}

fn expected<S: Storage>(planned: &[Planned], keeper: &Keeper<'_, S>) -> Vec<Expected> {
    let file = |file: &Planned| Expected {
        name: file.name.clone(),
        bytes: file.content.bytes,
        stage: file.stage.map(|stage| stage.to_string()),
        cached: keeper.has(&file.content),
    };
    planned.iter().map(file).collect()
}

/// Fetches the index alone. Errors: network, config-invalid, size-mismatch, checksum-mismatch, input-invalid.
pub async fn inspect<N: Network, S: Storage>(source: &Source<'_, N, S>, options: &LoadOptions) -> Result<Inspection> {
    let (index, _) = fetch_index(source, options).await?;
    let kept = source.cache.contents().await.unwrap_or_default();
    let planned = plan(&index);
    let sum = |files: &mut dyn Iterator<Item = &Planned>| files.map(|file| file.content.bytes).sum();
    let bytes = sum(&mut planned.iter());
    let cached = sum(&mut planned.iter().filter(|file| kept.contains(&file.content)));
    Ok(Inspection { index, bytes, cached })
}

/// The files that a load needs: configs and tokenizer first, then shards by stage. A README stays where it is, and so does
/// a vocabulary, which tokenizer.json has whole.
fn plan(index: &Index) -> Vec<Planned> {
    let needed = |name: &str| name.ends_with(".json") && name != "vocab.json";
    let small = index.files.iter().map(|(name, file)| (name.as_str(), file));
    small
        .filter(|(name, file)| file.stage.is_none() && needed(name))
        .chain(index.shards())
        .map(|(name, file)| Planned {
            name: name.into(),
            content: Content { sha256: file.sha256.clone(), bytes: file.bytes },
            stage: file.stage,
        })
        .collect()
}

/// From the host, or where it cannot be reached, as it was kept.
async fn fetch_index<N: Network, S: Storage>(source: &Source<'_, N, S>, options: &LoadOptions) -> Result<(Index, Vec<u8>)> {
    let expected = options.integrity.as_deref().map(sha256_of).transpose()?;
    let located = source.network.locate(INDEX_FILE).await?;
    let (url, access) = options.request.way_to(source.address, INDEX_FILE, located.as_deref())?;
    let kept = kept_index(source).await.filter(|(content, _)| expected.as_ref().is_none_or(|expected| content.sha256 == *expected));
    let bytes = match kept {
        // Its hash is known, so the host has nothing to add.
        Some((_, bytes)) if expected.is_some() => bytes,
        kept => {
            let sha256 = expected.as_deref();
            let wanted = Wanted { name: INDEX_FILE, url: &url, size: Size::AtMost(INDEX_LIMIT), sha256, freshness: Freshness::Revalidate };
            let retry = if kept.is_some() { Retry::NEVER } else { Retry::default() };
            match (fetch(source.network, &wanted, &access, &retry, &|_| {}).await, kept) {
                (Ok(bytes), _) => bytes,
                (Err(error @ Error::Network { .. }), Some((_, bytes))) if error.retryable() => bytes,
                (Err(error), _) => return Err(error),
            }
        }
    };
    if bytes.trim_ascii_start().starts_with(b"<") {
        let reason = "a web page came instead of a model's index; is this the address of a model folder?";
        return Err(Error::config(INDEX_FILE, reason));
    }
    Ok((Index::parse(&bytes)?, bytes))
}

async fn kept_index<N, S: Storage>(source: &Source<'_, N, S>) -> Option<(Content, Vec<u8>)> {
    let record = source.cache.record(source.address.as_str()).await.ok().flatten()?;
    let bytes = source.cache.get(&record.index).await.ok().flatten()?;
    Some((record.index, bytes))
}

/// The cache as one load sees it. Its failures never fail the load: the first one is kept, and the load goes on uncached.
struct Keeper<'a, S> {
    cache: &'a Cache<S>,
    url: &'a str,
    now: f64,
    /// Whether anything is to be kept.
    wanted: bool,
    kept: BTreeSet<Content>,
    hold: Hold,
    error: RefCell<Option<Error>>,
}

impl<'a, S: Storage> Keeper<'a, S> {
    async fn new<N: Network>(source: &Source<'a, N, S>, options: &LoadOptions, planned: &[Planned], index: &[u8]) -> Self {
        let (kept, error) = match source.cache.contents().await {
            Ok(kept) => (kept, None),
            Err(error) => (BTreeSet::new(), Some(error)),
        };
        let holds = planned.iter().map(|file| file.content.clone()).chain([Content::of(index)]).collect();
        let (cache, url, now) = (source.cache, source.address.as_str(), source.network.now());
        Self { cache, url, now, wanted: options.keep, kept, hold: cache.hold(url, holds).await, error: RefCell::new(error) }
    }

    fn has(&self, content: &Content) -> bool {
        self.kept.contains(content)
    }

    fn keeps(&self) -> bool {
        self.wanted && self.error.borrow().is_none()
    }

    fn note<T>(&self, result: Result<T>) -> Option<T> {
        result.map_err(|error| self.error.borrow_mut().get_or_insert(error).clone()).ok()
    }

    async fn get(&self, content: &Content) -> Option<Vec<u8>> {
        if !self.has(content) {
            return None;
        }
        self.note(self.cache.get(content).await).flatten()
    }

    /// As `get`, of what another tab may have kept since.
    async fn get_anew(&self, content: &Content) -> Option<Vec<u8>> {
        if !self.keeps() {
            return None;
        }
        self.note(self.cache.get(content).await).flatten()
    }

    async fn put(&self, content: &Content, bytes: &[u8]) {
        if self.keeps() {
            self.note(self.cache.put(content, bytes).await);
        }
    }

    /// Last of all: a record says that every file it names is there.
    async fn remember(&self, planned: &[Planned], index_bytes: &[u8]) {
        let index = Content::of(index_bytes);
        self.put(&index, index_bytes).await;
        if self.keeps() {
            let files = planned.iter().map(|file| (file.name.clone(), file.content.clone())).collect();
            let record = Record { url: self.url.into(), index, files, used: self.now };
            self.note(self.cache.remember(&record).await);
        }
    }

    fn end(self) -> (Option<Error>, Hold) {
        (self.error.into_inner(), self.hold)
    }
}

struct Delivery<'a, N, S> {
    source: &'a Source<'a, N, S>,
    options: &'a LoadOptions,
    keeper: &'a Keeper<'a, S>,
    meter: &'a Meter<'a>,
}

enum Step<'a> {
    Arrived { file: &'a Planned, bytes: Vec<u8>, cached: bool, turn: Turn },
    Kept { bytes: u64 },
}

impl<N: Network, S: Storage> Delivery<'_, N, S> {
    /// Brings files, a few at a time, hands each to `use_it` when it is whole, and keeps those that came from the network.
    /// Small files, by name.
    async fn bring_files(&self, files: &[&Planned]) -> Result<BTreeMap<String, Vec<u8>>> {
        let mut found = BTreeMap::new();
        let keep = async |file: &Planned, bytes: &[u8]| {
            found.insert(file.name.clone(), bytes.to_vec());
            Ok(())
        };
        self.bring_all(files, keep).await?;
        Ok(found)
    }

    async fn bring_all<'f>(&'f self, files: &[&'f Planned], mut use_it: impl AsyncFnMut(&Planned, &[u8]) -> Result<()>) -> Result<()> {
        let mut lanes = Lanes::new();
        let mut waiting = files.iter().peekable();
        // Of what lanes hold, whether it comes or is being kept.
        let mut under_way = 0;
        // Of transfers and writes together.
        let mut concurrency = Concurrency::new(self.source.network.now());
        loop {
            let has_room = |lanes: usize, under_way: u64, file: &Planned| {
                lanes < Concurrency::FEWEST || (lanes < concurrency.limit() && under_way + file.content.bytes <= UNDER_WAY)
            };
            while let Some(file) = waiting.next_if(|file| has_room(lanes.len(), under_way, file)) {
                under_way += file.content.bytes;
                self.meter.initiate(&file.name);
                lanes.push(self.bring(file));
            }
            match lanes.next().await.transpose()? {
                None => return Ok(()),
                Some(Step::Kept { bytes }) => under_way -= bytes,
                Some(Step::Arrived { file, bytes, cached, turn }) => {
                    use_it(file, &bytes).await?;
                    self.meter.done(&file.name, cached);
                    if cached {
                        under_way -= file.content.bytes;
                    } else {
                        concurrency.came(file.content.bytes, self.source.network.now());
                        lanes.push(self.keep(file, bytes, turn));
                    }
                }
            }
        }
    }

    async fn bring<'f>(&self, file: &'f Planned) -> Result<Step<'f>> {
        if let Some(bytes) = self.keeper.get(&file.content).await {
            return Ok(Step::Arrived { file, bytes, cached: true, turn: Turn::default() });
        }
        let turn = self.turn(&file.content).await;
        if let Some(bytes) = self.keeper.get_anew(&file.content).await {
            return Ok(Step::Arrived { file, bytes, cached: true, turn });
        }
        let located = self.source.network.locate(&file.name).await?;
        let (url, access) = self.options.request.way_to(self.source.address, &file.name, located.as_deref())?;
        // The browser's own cache would keep a second copy.
        let freshness = if self.keeper.keeps() { Freshness::Bypass } else { Freshness::Any };
        let sha256 = Some(file.content.sha256.as_str());
        let wanted = Wanted { name: &file.name, url: &url, size: Size::Exactly(file.content.bytes), sha256, freshness };
        self.meter.download(&file.name);
        let on_bytes = |loaded| self.meter.advance(&file.name, loaded);
        let bytes = fetch(self.source.network, &wanted, &access, &Retry::default(), &on_bytes).await?;
        Ok(Step::Arrived { file, bytes, cached: false, turn })
    }

    /// Two tabs that load the same fetch each file once: the second waits for the first, and then reads it from the cache.
    async fn turn(&self, content: &Content) -> Turn {
        if !self.keeper.keeps() {
            return Turn::default();
        }
        let turn = self.source.cache.storage().turn(&content.sha256);
        match race(turn, self.source.network.sleep(PATIENCE_MS)).await {
            First::Left(turn) => turn,
            First::Right(()) => Turn::default(),
        }
    }

    /// The turn ends when the file is there for others to read.
    async fn keep<'f>(&self, file: &'f Planned, bytes: Vec<u8>, turn: Turn) -> Result<Step<'f>> {
        self.keeper.put(&file.content, &bytes).await;
        drop(turn);
        Ok(Step::Kept { bytes: file.content.bytes })
    }
}

#[cfg(test)]
mod tests;
