use pollster::block_on;

use super::*;
use crate::delivery::progress::Status;
use crate::delivery::testing::{Event, Host, Shelf};
use crate::weights::index::sha256;
use crate::weights::index::{FORMAT, FileEntry, Metadata, Ui};

const FOLDER: &str = "https://host/model/";

fn shard(seed: u8) -> Vec<u8> {
    (0..60).map(|value| value ^ seed).collect()
}

fn url(name: &str) -> String {
    format!("{FOLDER}{name}")
}

fn facts(bytes: &[u8], stage: Option<Stage>) -> FileEntry {
    FileEntry { sha256: sha256(bytes), bytes: bytes.len() as u64, stage }
}

/// Serves an index of these files. No tensors: nobody here looks into a shard.
fn serve_index(host: &Host, files: BTreeMap<String, FileEntry>) {
    let total_size = files.values().filter(|file| file.stage.is_some()).map(|file| file.bytes).sum();
    let index = Index {
        format: FORMAT,
        metadata: Metadata { total_size },
        weight_map: BTreeMap::new(),
        tensors: BTreeMap::new(),
        files,
        ui: Ui::default(),
        source: None,
        licence: None,
        quantization: BTreeMap::new(),
        parameters: 0,
    };
    host.serve(&url(INDEX_FILE), &index.to_json().unwrap());
}

fn files() -> BTreeMap<String, FileEntry> {
    let shards = [(3, Stage::Language), (1, Stage::Vision), (2, Stage::Vision)];
    let shards = shards.map(|(seed, stage)| (format!("model-{seed}.safetensors"), facts(&shard(seed), Some(stage))));
    let small = ["config.json", "tokenizer.json", "README.md", "vocab.json"].map(|name| (name.into(), facts(name.as_bytes(), None)));
    shards.into_iter().chain(small).collect()
}

/// Two configs, two shards of the first stage and one of the last, and two files that no model needs.
fn host() -> Host {
    let host = Host::default();
    for seed in [1, 2, 3] {
        host.serve(&url(&format!("model-{seed}.safetensors")), &shard(seed));
    }
    for name in ["config.json", "tokenizer.json", "README.md", "vocab.json"] {
        host.serve(&url(name), name.as_bytes());
    }
    serve_index(&host, files());
    host
}

/// Writes down what it gets; it refuses the shard that it is told to, and has no need of another.
#[derive(Default)]
struct Notebook {
    files: BTreeMap<String, Vec<u8>>,
    shards: Vec<(String, Vec<u8>)>,
    refuses: Option<&'static str>,
    needless: Option<&'static str>,
}

impl Receiver for Notebook {
    fn files(&mut self, _: &Index, files: BTreeMap<String, Vec<u8>>) -> Result<()> {
        assert!(self.shards.is_empty(), "configs come first");
        self.files = files;
        Ok(())
    }

    fn needs(&self, file: &str) -> bool {
        self.needless != Some(file)
    }

    async fn shard(&mut self, _: &Index, file: &str, bytes: &[u8]) -> Result<()> {
        if self.refuses == Some(file) {
            return Err(Error::input("shard", "refused"));
        }
        self.shards.push((file.into(), bytes.into()));
        Ok(())
    }
}

impl Notebook {
    fn names(&self) -> Vec<&str> {
        let mut names: Vec<_> = self.shards.iter().map(|(name, _)| name.as_str()).collect();
        names.sort_unstable();
        names
    }
}

const SHARDS: [&str; 3] = ["model-1.safetensors", "model-2.safetensors", "model-3.safetensors"];

struct Run {
    result: Result<Loaded>,
    notes: Notebook,
    events: Vec<Progress>,
}

fn load_with(host: &Host, cache: &Cache<Shelf>, options: &LoadOptions, mut notes: Notebook) -> Run {
    host.requests.borrow_mut().clear();
    let address = Address::parse(FOLDER).unwrap();
    let source = Source { address: &address, network: host, cache };
    let mut events = vec![];
    let result = block_on(load_model(&source, options, &mut |event| events.push(event), &mut notes));
    Run { result, notes, events }
}

fn load(host: &Host, cache: &Cache<Shelf>) -> Run {
    load_with(host, cache, &LoadOptions::default(), Notebook::default())
}

fn cache() -> Cache<Shelf> {
    Cache::new(Shelf::default())
}

fn code(run: &Run) -> &'static str {
    run.result.as_ref().unwrap_err().code()
}

#[test]
fn a_model_comes_from_the_network_once_and_from_the_cache_ever_after() {
    let (host, cache) = (host(), cache());
    let first = load(&host, &cache);
    assert_eq!(first.notes.names(), SHARDS);
    assert_eq!(first.notes.files.keys().collect::<Vec<_>>(), ["config.json", "tokenizer.json"]);
    let loaded = first.result.unwrap();
    let total = 180 + "config.json".len() as u64 + "tokenizer.json".len() as u64;
    assert_eq!((loaded.bytes, loaded.cached, loaded.storage_error), (total, 0, None));
    assert!(host.asked("README.md").is_empty() && host.asked("vocab.json").is_empty());

    let second = load(&host, &cache);
    let loaded = second.result.unwrap();
    assert_eq!((loaded.bytes, loaded.cached), (total, total));
    assert_eq!(second.notes.shards.len(), 3);
    assert_eq!(host.requests.borrow().len(), 1, "the index alone");
    let report = block_on(cache.report()).unwrap();
    assert_eq!((report.models.len(), report.models[0].files, report.loose), (1, 6, 0));
}

#[test]
fn progress_begins_and_ends_every_file_and_the_model() {
    let (host, cache) = (host(), cache());
    let run = load(&host, &cache);
    let of = |status| run.events.iter().filter(|event| event.status == status).map(|event| event.file.clone()).collect::<Vec<_>>();
    assert_eq!(of(Status::Initiate).len(), 5);
    assert_eq!(of(Status::Download).len(), 5);
    assert_eq!(of(Status::Done).len(), 5);
    assert_eq!(of(Status::Ready), [None]);
    let last = run.events.last().unwrap();
    assert_eq!((last.status, last.name.as_str(), last.totals.stage.as_deref()), (Status::Ready, FOLDER, None));
    let cached = load(&host, &cache).events;
    assert!(cached.iter().all(|event| event.status != Status::Download));
    assert!(cached.iter().filter(|event| event.status == Status::Done).all(|event| event.cached == Some(true)));
}

#[test]
fn what_nobody_needs_stays_in_the_cache_unread_and_is_fetched_for_it_once() {
    let (host, cache) = (host(), cache());
    let run = || load_with(&host, &cache, &LoadOptions::default(), Notebook { needless: Some(SHARDS[0]), ..Notebook::default() });
    assert_eq!(run().notes.names(), SHARDS, "so that the model is there whole");
    // Damaged, it would be fetched again if it were read.
    let key = format!("content/{}.60", sha256(&shard(1)));
    block_on(cache.storage().put(&key, &[0; 60])).unwrap();
    let second = run();
    assert_eq!(second.notes.names(), SHARDS[1..]);
    let loaded = second.result.unwrap();
    assert_eq!((loaded.cached, loaded.kept), (loaded.bytes, true));
    assert_eq!(second.events.iter().filter(|event| event.status == Status::Done).count(), 5);
    assert_eq!(host.requests.borrow().len(), 1, "the index alone");
}

#[test]
fn what_came_before_a_load_was_cut_short_is_not_fetched_again() {
    let (host, cache) = (host(), cache());
    host.plan(&url(SHARDS[2]), vec![Event::Status(404, None)]);
    assert_eq!(code(&load(&host, &cache)), "network");
    let report = block_on(cache.report()).unwrap();
    assert!(report.models.is_empty());
    assert!(report.loose > 0);
    let second = load(&host, &cache);
    assert_eq!(second.notes.names(), SHARDS);
    assert!(host.asked("config.json").is_empty());
    assert_eq!(block_on(cache.report()).unwrap().loose, 0);
}

#[test]
fn a_damaged_shard_is_never_handed_over() {
    let (host, cache) = (host(), cache());
    host.serve(&url(SHARDS[1]), &[7; 60]);
    let run = load(&host, &cache);
    assert!(matches!(&run.result, Err(Error::ChecksumMismatch { file, .. }) if file == SHARDS[1]));
    assert!(run.notes.shards.iter().all(|(name, _)| name != SHARDS[1]));
    host.serve(&url(SHARDS[1]), &[7; 61]);
    assert_eq!(code(&load(&host, &cache)), "size-mismatch");
}

#[test]
fn a_shard_damaged_in_the_cache_is_fetched_again() {
    let (host, cache) = (host(), cache());
    load(&host, &cache).result.unwrap();
    let key = format!("content/{}.60", sha256(&shard(2)));
    block_on(cache.storage().put(&key, &[0; 60])).unwrap();
    let run = load(&host, &cache);
    assert_eq!(run.result.unwrap().storage_error, None);
    assert!(run.notes.shards.iter().any(|(name, bytes)| name == SHARDS[1] && *bytes == shard(2)));
    assert_eq!(host.requests.borrow().iter().map(|(url, ..)| url.as_str()).collect::<Vec<_>>(), [url(INDEX_FILE), url(SHARDS[1])]);
    assert_eq!(load(&host, &cache).result.unwrap().cached, 205);
}

#[test]
fn without_a_connection_a_kept_model_loads() {
    let (host, cache) = (host(), cache());
    load(&host, &cache).result.unwrap();
    host.plan(&url(INDEX_FILE), [Event::Unreachable]);
    assert_eq!(load(&host, &cache).notes.names(), SHARDS);
    assert!(host.slept.borrow().is_empty(), "there is nothing to wait for");
    host.plan(&url(INDEX_FILE), [Event::Status(404, None)]);
    assert_eq!(code(&load(&host, &cache)), "network");
}

#[test]
fn without_storage_a_model_loads_and_says_why_it_is_not_kept() {
    let (host, cache) = (host(), cache());
    cache.storage().unavailable.set(true);
    let run = load(&host, &cache);
    assert_eq!(run.notes.names(), SHARDS);
    assert_eq!(run.result.unwrap().storage_error.unwrap().code(), "storage-unavailable");
}

#[test]
fn without_room_a_model_loads_and_says_why_it_is_not_kept() {
    let host = host();
    let cache = Cache::new(Shelf { quota: Some(100), ..Shelf::default() });
    let run = load(&host, &cache);
    assert_eq!(run.notes.names(), SHARDS);
    assert_eq!(run.result.unwrap().storage_error.unwrap().code(), "storage-quota");
    assert!(block_on(cache.report()).unwrap().models.is_empty());
}

#[test]
fn a_file_is_fetched_from_where_the_caller_says() {
    let (host, cache) = (host(), cache());
    let elsewhere = "https://cdn/a?signed";
    host.serve(elsewhere, &shard(1));
    host.located.borrow_mut().insert("model-1.safetensors".into(), elsewhere.into());
    load(&host, &cache).result.unwrap();
    assert_eq!(host.asked("a?signed"), [0]);
    assert_eq!(host.asked("model-1.safetensors"), [0u64; 0]);
    host.located.borrow_mut().insert("model-1.safetensors".into(), "file:///etc/passwd".into());
    let cache = self::cache();
    assert_eq!(code(&load(&host, &cache)), "input-invalid");
}

#[test]
fn what_is_not_to_be_kept_is_not() {
    let (host, cache) = (host(), cache());
    let once = LoadOptions { keep: false, ..LoadOptions::default() };
    let loaded = load_with(&host, &cache, &once, Notebook::default()).result.unwrap();
    assert_eq!((loaded.kept, loaded.storage_error), (false, None));
    assert!(block_on(cache.storage().list()).unwrap().is_empty());
}

#[test]
fn integrity_holds_the_index_and_makes_asking_for_it_needless() {
    let (host, cache) = (host(), cache());
    let options = |integrity: &str| LoadOptions { integrity: Some(integrity.into()), ..LoadOptions::default() };
    let wrong = options("sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=");
    assert_eq!(code(&load_with(&host, &cache, &wrong, Notebook::default())), "checksum-mismatch");
    assert_eq!(code(&load_with(&host, &cache, &options("sha256-x"), Notebook::default())), "input-invalid");
    let index = host.files.borrow()[&url(INDEX_FILE)].clone();
    let right = options(&crate::delivery::integrity::tests::written(&sha256(&index)));
    load_with(&host, &cache, &right, Notebook::default()).result.unwrap();
    load_with(&host, &cache, &right, Notebook::default()).result.unwrap();
    assert!(host.requests.borrow().is_empty());
}

#[test]
fn an_index_that_is_none_is_told_as_what_it_is() {
    let (host, cache) = (host(), cache());
    host.serve(&url(INDEX_FILE), b"\n<!doctype html><title>Not found</title>");
    let error = load(&host, &cache).result.unwrap_err();
    assert!(error.code() == "config-invalid" && error.to_string().contains("web page"), "{error}");
    host.serve(&url(INDEX_FILE), b"{");
    assert_eq!(code(&load(&host, &cache)), "config-invalid");
}

#[test]
fn what_the_receiver_refuses_ends_the_load() {
    let (host, cache) = (host(), cache());
    let notes = Notebook { refuses: Some(SHARDS[0]), ..Notebook::default() };
    assert_eq!(code(&load_with(&host, &cache, &LoadOptions::default(), notes)), "input-invalid");
    assert!(block_on(cache.report()).unwrap().models.is_empty());
}

#[test]
fn four_transfers_run_at_a_time_and_a_dropped_load_closes_them() {
    let (host, cache) = (host(), cache());
    let mut files = files();
    for seed in 10..30 {
        let name = format!("model-{seed}.safetensors");
        host.serve(&url(&name), &shard(seed));
        files.insert(name, facts(&shard(seed), Some(Stage::Vision)));
    }
    serve_index(&host, files);
    let address = Address::parse(FOLDER).unwrap();
    let source = Source { address: &address, network: &host, cache: &cache };
    let options = LoadOptions::default();
    let (mut notes, mut ignore) = (Notebook::default(), |_| {});
    let mut load = Box::pin(load_model(&source, &options, &mut ignore, &mut notes));
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    while host.open_now() < 4 {
        assert!(load.as_mut().poll(&mut context).is_pending());
    }
    drop(load);
    assert_eq!(host.open_now(), 0);
    assert!(self::load(&host, &cache).result.is_ok());
    assert_eq!(host.most_at_once.get(), 4);
}

#[test]
fn an_inspection_fetches_no_file() {
    let (host, cache) = (host(), cache());
    let address = Address::parse(FOLDER).unwrap();
    let source = Source { address: &address, network: &host, cache: &cache };
    let inspected = block_on(inspect(&source, &LoadOptions::default())).unwrap();
    assert_eq!((inspected.bytes, inspected.cached), (205, 0));
    assert_eq!(host.requests.borrow().len(), 1);
    load(&host, &cache).result.unwrap();
    assert_eq!(block_on(inspect(&source, &LoadOptions::default())).unwrap().cached, 205);
}
