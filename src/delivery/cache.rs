//! What is kept of models, when it is valid, and what goes first when room is short.
//!
//! Files are kept by content, `content/SHA256.BYTES`, so models that share a vision tower share its shards, and a file that
//! came is found again whatever became of the load that fetched it. `model/URL` is written last and names the files of a
//! whole model; content that no record names is loose: the beginning of a load that was cut short.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::{Rc, Weak};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::storage::{Estimate, Storage, Turn};
use crate::error::{Error, Result};
use crate::pace::Pace;
use crate::weights::index::{hex, sha256};

const CONTENT: &str = "content/";
const MODEL: &str = "model/";
/// Bytes hashed between two breaths: a few milliseconds.
const HASH_STEP: usize = 1 << 20;

/// A file by what is in it. The size stands in its name too, so that sums need no file to be read.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Content {
    /// Lower-case hex.
    pub sha256: String,
    pub bytes: u64,
}

impl Content {
    pub fn of(bytes: &[u8]) -> Self {
        Self { sha256: sha256(bytes), bytes: bytes.len() as u64 }
    }

    fn key(&self) -> String {
        format!("{CONTENT}{}.{}", self.sha256, self.bytes)
    }

    fn from_key(key: &str) -> Option<Self> {
        let (sha256, bytes) = key.strip_prefix(CONTENT)?.split_once('.')?;
        Some(Self { sha256: sha256.into(), bytes: bytes.parse().ok()? })
    }
}

/// A model that was loaded whole.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    pub url: String,
    pub index: Content,
    /// By name.
    pub files: Vec<(String, Content)>,
    /// Milliseconds since 1970.
    pub used: f64,
}

impl Record {
    fn contents(&self) -> impl Iterator<Item = &Content> {
        std::iter::once(&self.index).chain(self.files.iter().map(|(_, content)| content))
    }
}

/// A model in the cache, as a page lists it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CachedModel {
    pub url: String,
    pub bytes: u64,
    pub files: usize,
    pub used: f64,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    #[serde(flatten)]
    pub estimate: Estimate,
    /// Bytes that belong to no whole model.
    pub loose: u64,
    /// The one used last comes first.
    pub models: Vec<CachedModel>,
}

pub struct Cache<S> {
    storage: S,
    /// What is loaded, or being loaded, from here.
    used: RefCell<Vec<Weak<Used>>>,
}

impl<S: Storage> Cache<S> {
    pub fn new(storage: S) -> Self {
        Self { storage, used: RefCell::default() }
    }

    /// From now on nothing of this model makes room for anything, until what this gives is dropped. Other tabs know it by its address.
    pub async fn hold(&self, url: &str, contents: BTreeSet<Content>) -> Hold {
        let turn = self.storage.share(&model_key(url)).await;
        let used = Rc::new(Used { url: url.into(), contents });
        let mut all = self.used.borrow_mut();
        all.retain(|used| used.strong_count() > 0);
        all.push(Rc::downgrade(&used));
        Hold { used, _turn: turn }
    }

    /// What is held, here and in other tabs.
    async fn held(&self) -> Held {
        let mut held = Held { keys: self.storage.shared().await, contents: BTreeSet::new() };
        for used in self.used.borrow().iter().filter_map(Weak::upgrade) {
            held.keys.insert(model_key(&used.url));
            held.contents.extend(used.contents.iter().cloned());
        }
        held
    }

    pub fn storage(&self) -> &S {
        &self.storage
    }

    /// Everything that is kept, by content. Errors: storage-unavailable.
    pub async fn contents(&self) -> Result<BTreeSet<Content>> {
        Ok(self.storage.list().await?.iter().filter_map(|key| Content::from_key(key)).collect())
    }

    /// The bytes, hashed again: disks and browsers do damage them. What is damaged is dropped. Errors: storage-unavailable.
    pub async fn get(&self, content: &Content) -> Result<Option<Vec<u8>>> {
        let Some(bytes) = self.storage.get(&content.key()).await? else { return Ok(None) };
        if bytes.len() as u64 == content.bytes && digest(&bytes).await == content.sha256 {
            return Ok(Some(bytes));
        }
        self.storage.delete(&content.key()).await?;
        Ok(None)
    }

    /// Keeps bytes that were verified. Where room is short, content that is loose goes, then models from the one used longest
    /// ago on; never what is held. Errors: storage-quota, storage-unavailable.
    pub async fn put(&self, content: &Content, bytes: &[u8]) -> Result<()> {
        self.make_room_and_put(&content.key(), bytes).await
    }

    /// Writes down that the model is whole, or was used again. Errors: storage-quota, storage-unavailable.
    pub async fn remember(&self, record: &Record) -> Result<()> {
        let json = serde_json::to_vec(record).map_err(|error| Error::StorageUnavailable { reason: error.to_string() })?;
        self.make_room_and_put(&model_key(&record.url), &json).await
    }

    /// Errors: storage-unavailable.
    pub async fn record(&self, url: &str) -> Result<Option<Record>> {
        self.read_record(&model_key(url)).await
    }

    async fn read_record(&self, key: &str) -> Result<Option<Record>> {
        let Some(json) = self.storage.get(key).await? else { return Ok(None) };
        match serde_json::from_slice(&json) {
            Ok(record) => Ok(Some(record)),
            Err(_) => {
                self.storage.delete(key).await?;
                Ok(None)
            }
        }
    }

    /// The one used longest ago comes first.
    async fn records(&self, keys: &[String]) -> Result<Vec<Record>> {
        let mut records = vec![];
        for key in keys.iter().filter(|key| key.starts_with(MODEL)) {
            records.extend(self.read_record(key).await?);
        }
        records.sort_by(|a, b| a.used.total_cmp(&b.used));
        Ok(records)
    }

    /// Errors: storage-unavailable.
    pub async fn report(&self) -> Result<Report> {
        let keys = self.storage.list().await?;
        let records = self.records(&keys).await?;
        let kept: BTreeSet<_> = keys.iter().filter_map(|key| Content::from_key(key)).collect();
        let named: BTreeSet<_> = records.iter().flat_map(Record::contents).cloned().collect();
        let models = records.iter().rev().map(|record| {
            let own: BTreeSet<_> = record.contents().filter(|content| kept.contains(content)).collect();
            let bytes = own.iter().map(|content| content.bytes).sum();
            CachedModel { url: record.url.clone(), bytes, files: own.len(), used: record.used }
        });
        Ok(Report {
            estimate: self.storage.estimate().await?,
            loose: kept.difference(&named).map(|content| content.bytes).sum(),
            models: models.collect(),
        })
    }

    /// Deletes a model; files that others share stay. Errors: storage-unavailable.
    pub async fn delete(&self, url: &str) -> Result<()> {
        let keys = self.storage.list().await?;
        let records = self.records(&keys).await?;
        if let Some(record) = records.iter().find(|record| record.url == url) {
            self.delete_record(record, &records, &BTreeSet::new()).await?;
        }
        Ok(())
    }

    /// Deletes everything. Errors: storage-unavailable.
    pub async fn clear(&self) -> Result<()> {
        let keys = self.storage.list().await?;
        // Records first: cut short, what is left is loose rather than a model with holes.
        for key in keys.iter().rev().filter(|key| key.starts_with(MODEL) || key.starts_with(CONTENT)) {
            self.storage.delete(key).await?;
        }
        Ok(())
    }

    /// The bytes that it freed.
    async fn delete_record(&self, record: &Record, records: &[Record], held: &BTreeSet<Content>) -> Result<u64> {
        self.storage.delete(&model_key(&record.url)).await?;
        let mut freed = 0;
        for content in own_contents(record, records, held) {
            self.storage.delete(&content.key()).await?;
            freed += content.bytes;
        }
        Ok(freed)
    }

    async fn make_room_and_put(&self, key: &str, bytes: &[u8]) -> Result<()> {
        let mut freed = 0;
        loop {
            match self.storage.put(key, bytes).await {
                // Browsers give freed room back late: having freed twice what is needed, more of it would not help now.
                Err(error @ Error::StorageQuota { .. }) if freed < 2 * bytes.len() as u64 => match self.evict().await? {
                    0 => return Err(error),
                    more => freed += more,
                },
                other => return other,
            }
        }
    }

    /// Deletes what can best be missed, and says how many bytes that freed.
    async fn evict(&self) -> Result<u64> {
        let keys = self.storage.list().await?;
        let records = self.records(&keys).await?;
        let held = self.held().await;
        let named: BTreeSet<_> = records.iter().flat_map(Record::contents).cloned().collect();
        let loose = keys.iter().filter_map(|key| Content::from_key(key));
        let mut freed = 0;
        for content in loose.filter(|content| !named.contains(content) && !held.contents.contains(content)) {
            self.storage.delete(&content.key()).await?;
            freed += content.bytes;
        }
        if freed > 0 {
            return Ok(freed);
        }
        for record in records.iter().filter(|record| !held.keys.contains(&model_key(&record.url))) {
            if own_contents(record, &records, &held.contents).next().is_some() {
                return self.delete_record(record, &records, &held.contents).await;
            }
        }
        Ok(0)
    }
}

/// A model in use: nothing of it goes to make room for another.
struct Used {
    url: String,
    contents: BTreeSet<Content>,
}

/// Says that a model is in use, until it is dropped.
pub struct Hold {
    used: Rc<Used>,
    _turn: Turn,
}

impl std::fmt::Debug for Hold {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_tuple("Hold").field(&self.used.url).finish()
    }
}

struct Held {
    /// Of records.
    keys: BTreeSet<String>,
    contents: BTreeSet<Content>,
}

/// What goes when the record goes: no other record names it, and nobody holds it.
fn own_contents<'a>(record: &'a Record, records: &'a [Record], held: &'a BTreeSet<Content>) -> impl Iterator<Item = &'a Content> {
    let others: BTreeSet<_> = records.iter().filter(|other| other.url != record.url).flat_map(Record::contents).collect();
    let own: BTreeSet<_> = record.contents().collect();
    own.into_iter().filter(move |content| !others.contains(content) && !held.contains(content))
}

fn model_key(url: &str) -> String {
    format!("{MODEL}{url}")
}

async fn digest(bytes: &[u8]) -> String {
    let mut pace = Pace::new();
    let mut hasher = Sha256::new();
    for step in bytes.chunks(HASH_STEP) {
        hasher.update(step);
        pace.breathe().await;
    }
    hex(&hasher.finalize())
}

#[cfg(test)]
mod tests {
    use pollster::block_on;

    use super::*;
    use crate::delivery::testing::Shelf;

    fn bytes(seed: u8) -> Vec<u8> {
        vec![seed; 1000]
    }

    async fn keep(cache: &Cache<Shelf>, seed: u8) -> Content {
        let content = Content::of(&bytes(seed));
        cache.put(&content, &bytes(seed)).await.unwrap();
        content
    }

    async fn model(cache: &Cache<Shelf>, url: &str, seeds: &[u8], used: f64) {
        let mut files = vec![];
        for seed in seeds {
            files.push((format!("{seed}"), keep(cache, *seed).await));
        }
        let index = files[0].1.clone();
        cache.remember(&Record { url: url.into(), index, files, used }).await.unwrap();
    }

    fn cache(quota: Option<u64>) -> Cache<Shelf> {
        Cache::new(Shelf { quota, ..Shelf::default() })
    }

    async fn kept(cache: &Cache<Shelf>, seeds: &[u8]) -> Vec<bool> {
        let contents = cache.contents().await.unwrap();
        seeds.iter().map(|seed| contents.contains(&Content::of(&bytes(*seed)))).collect()
    }

    #[test]
    fn what_was_kept_comes_back_and_what_is_damaged_does_not() {
        block_on(async {
            let cache = cache(None);
            let content = keep(&cache, 1).await;
            assert_eq!(cache.get(&content).await.unwrap(), Some(bytes(1)));
            for damaged in [vec![2; 1000], vec![1; 999], vec![]] {
                cache.storage.put(&content.key(), &damaged).await.unwrap();
                assert_eq!(cache.get(&content).await.unwrap(), None);
                assert!(cache.contents().await.unwrap().is_empty(), "dropped");
            }
            assert_eq!(cache.get(&content).await.unwrap(), None);
        });
    }

    #[test]
    fn the_report_counts_shared_files_once_a_model_and_loose_ones_apart() {
        block_on(async {
            let cache = cache(None);
            model(&cache, "a", &[1, 2], 5.0).await;
            model(&cache, "b", &[2, 3, 4], 7.0).await;
            keep(&cache, 9).await;
            let report = cache.report().await.unwrap();
            assert_eq!(report.loose, 1000);
            let of = |url: &str, files, used| CachedModel { url: url.into(), bytes: files as u64 * 1000, files, used };
            assert_eq!(report.models, [of("b", 3, 7.0), of("a", 2, 5.0)]);
        });
    }

    #[test]
    fn deleting_a_model_leaves_what_another_shares() {
        block_on(async {
            let cache = cache(None);
            model(&cache, "a", &[1, 2], 1.0).await;
            model(&cache, "b", &[2, 3], 2.0).await;
            cache.delete("a").await.unwrap();
            assert_eq!(kept(&cache, &[1, 2, 3]).await, [false, true, true]);
            assert_eq!(cache.record("a").await.unwrap(), None);
            cache.delete("a").await.unwrap();
            cache.clear().await.unwrap();
            assert!(cache.storage.list().await.unwrap().is_empty());
        });
    }

    #[test]
    fn when_room_is_short_loose_files_go_first_then_the_model_used_longest_ago() {
        block_on(async {
            let cache = cache(Some(5_200));
            model(&cache, "old", &[1, 2], 1.0).await;
            model(&cache, "new", &[2, 3], 2.0).await;
            keep(&cache, 9).await;
            keep(&cache, 10).await;
            assert_eq!(kept(&cache, &[1, 2, 3, 9, 10]).await, [true, true, true, false, true], "the loose file was enough");
            let _hold = cache.hold("loading", BTreeSet::from([Content::of(&bytes(10))])).await;
            for seed in [11, 12] {
                cache.put(&Content::of(&bytes(seed)), &bytes(seed)).await.unwrap();
            }
            assert_eq!(kept(&cache, &[2, 3, 10]).await, [true, true, true]);
            assert_eq!(cache.record("old").await.unwrap(), None);
        });
    }

    #[test]
    fn nothing_that_is_held_goes_and_then_the_quota_is_told() {
        block_on(async {
            let cache = cache(Some(2_500));
            model(&cache, "loaded", &[1], 1.0).await;
            let loaded = cache.hold("loaded", BTreeSet::new()).await;
            let _loading = cache.hold("loading", BTreeSet::from([Content::of(&bytes(2))])).await;
            cache.put(&Content::of(&bytes(2)), &bytes(2)).await.unwrap();
            let error = cache.put(&Content::of(&bytes(3)), &bytes(3)).await.unwrap_err();
            assert_eq!(error.code(), "storage-quota");
            assert_eq!(kept(&cache, &[1, 2, 3]).await, [true, true, false]);
            drop(loaded);
            cache.put(&Content::of(&bytes(3)), &bytes(3)).await.unwrap();
            assert_eq!(kept(&cache, &[1, 2, 3]).await, [false, true, true], "what nobody uses any more can go");
        });
    }

    #[test]
    fn what_another_tab_uses_stays_and_so_does_what_it_shares() {
        block_on(async {
            let cache = cache(Some(3_700));
            model(&cache, "theirs", &[1, 2], 1.0).await;
            model(&cache, "nobodys", &[2, 3], 2.0).await;
            cache.storage.theirs.borrow_mut().insert(model_key("theirs"));
            cache.put(&Content::of(&bytes(4)), &bytes(4)).await.unwrap();
            assert_eq!(kept(&cache, &[1, 2, 3, 4]).await, [true, true, false, true]);
            assert!(cache.record("theirs").await.unwrap().is_some());
        });
    }

    #[test]
    fn a_record_that_cannot_be_read_is_no_record() {
        block_on(async {
            let cache = cache(None);
            cache.storage.put("model/a", b"{").await.unwrap();
            assert_eq!(cache.record("a").await.unwrap(), None);
            assert!(cache.storage.list().await.unwrap().is_empty());
        });
    }
}
