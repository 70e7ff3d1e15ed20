//! Bytes from strangers: every parser of what is fetched, dropped or picked, on inputs that are almost right. None may panic, hang, or take more
//! memory than its input warrants. `npm test` tries some hundred of each, `npm run test:full` ten thousand, `npm run fuzz` as many as time allows.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use blip2_web::Error;
use blip2_web::delivery::address::Address;
use blip2_web::generation::GenerationConfig;
use blip2_web::models::{self, Blip2Config, Blip2QFormerConfig, Blip2VisionConfig, Class, TextConfig};
use blip2_web::processor::image::MAX_PIXELS;
use blip2_web::processor::{Blip2Processor, load_image};
use blip2_web::weights::index::Index;
use blip2_web::weights::shard;

thread_local! {
    static LIVE: Cell<usize> = const { Cell::new(0) };
    static PEAK: Cell<usize> = const { Cell::new(0) };
}

/// The system's allocator, and how much of it this thread holds and has held at most.
struct Counting;

impl Counting {
    fn add(bytes: usize) {
        let _ = LIVE.try_with(|live| {
            live.set(live.get().wrapping_add(bytes));
            let _ = PEAK.try_with(|peak| peak.set(peak.get().max(live.get())));
        });
    }

    fn remove(bytes: usize) {
        // What was made before a case began may be freed in it.
        let _ = LIVE.try_with(|live| live.set(live.get().saturating_sub(bytes)));
    }
}

// SAFETY: every call is the system allocator's own; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        Self::add(layout.size());
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        Self::remove(layout.size());
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        Self::add(layout.size());
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        Self::add(size);
        Self::remove(layout.size());
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What a parser may hold beside four times its input. An image may have its pixels, too, up to the limit that `image-too-large` names.
const ALLOWANCE: usize = 16 << 20;
/// Nothing of this size takes a parser so long, on however slow a machine.
const LIMIT: Duration = Duration::from_secs(10);

struct Target {
    name: &'static str,
    seeds: Vec<Vec<u8>>,
    /// Bytes that it may hold beside four times its input.
    allowance: usize,
    parse: fn(&[u8]) -> Result<(), Error>,
}

fn file(path: &str) -> Vec<u8> {
    std::fs::read(path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn targets() -> Vec<Target> {
    let fixtures = |name: &str| ["opt", "t5", "itm"].map(|folder| file(&format!("tests/fixtures/{folder}/{name}"))).to_vec();
    let images = ["gray.png", "gray16.png", "one_bit.png", "palette.png", "rgba.png", "photo.jpg", "photo.png"];
    let mut images: Vec<_> = images.map(|name| file(&format!("tests/fixtures/images/{name}"))).to_vec();
    images.extend([gif(), bmp()]);
    let json = |name, seeds, parse| Target { name, seeds, allowance: ALLOWANCE, parse };
    vec![
        json("index", vec![file("demo/model/model.safetensors.index.json")], |bytes| Index::parse(bytes).map(drop)),
        json("safetensors", vec![smallest_shard(), file("tests/fixtures/t5/expected.safetensors")], |bytes| {
            shard::views("a", bytes).map(drop)
        }),
        json("config", fixtures("config.json"), |bytes| {
            let class = Class::of(bytes);
            let whole = Blip2Config::from_json(bytes).map(drop);
            let parts = [Blip2VisionConfig::from_json(bytes).map(drop), Blip2QFormerConfig::from_json(bytes).map(drop)];
            let text = TextConfig::from_json(bytes).map(drop);
            let plan = class.and_then(|class| models::plan_class(class, bytes)).map(drop);
            parts.into_iter().chain([whole, text, plan]).collect()
        }),
        json(
            "generation",
            vec![br#"{"max_new_tokens": 20, "num_beams": 5, "eos_token_id": [1, 2], "bad_words_ids": [[3]]}"#.to_vec()],
            |bytes| serde_json::from_slice::<GenerationConfig>(bytes).map(drop).map_err(|error| Error::input("options", error)),
        ),
        json("tokenizer", fixtures("tokenizer.json"), |bytes| processor("tokenizer.json", bytes)),
        json("tokenizer_config", fixtures("tokenizer_config.json"), |bytes| processor("tokenizer_config.json", bytes)),
        json("special_tokens_map", fixtures("special_tokens_map.json"), |bytes| processor("special_tokens_map.json", bytes)),
        json("preprocessor_config", fixtures("preprocessor_config.json"), |bytes| processor("preprocessor_config.json", bytes)),
        json("processor_config", fixtures("processor_config.json"), |bytes| processor("processor_config.json", bytes)),
        json("address", vec![b"https://host:8080/models/demo/?v=2#top".to_vec(), b"http://a/%2e%2e/b".to_vec()], |bytes| {
            let text = String::from_utf8_lossy(bytes);
            let folder = Address::parse("https://host/m")?;
            if let Ok(url) = folder.file(&text) {
                assert!(url.starts_with("https://host/m/") && !url.contains("/../") && !url.contains("//m"), "{text:?} leads out: {url}");
            }
            Address::parse(&text).map(drop)
        }),
        // Eight bytes a pixel: as the decoder has it, and upright.
        Target { name: "image", seeds: images, allowance: ALLOWANCE + 8 * MAX_PIXELS as usize, parse: |bytes| load_image(bytes).map(drop) },
    ]
}

/// The whole processor of a fixture, with one file exchanged.
fn processor(name: &str, bytes: &[u8]) -> Result<(), Error> {
    let names = ["tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "preprocessor_config.json", "processor_config.json"];
    let mut files: BTreeMap<String, Vec<u8>> =
        names.into_iter().filter(|other| *other != name).map(|name| (name.into(), file(&format!("tests/fixtures/opt/{name}")))).collect();
    files.insert(name.into(), bytes.into());
    Blip2Processor::from_files(&files).map(drop)
}

fn smallest_shard() -> Vec<u8> {
    let shards = std::fs::read_dir("demo/model").expect("a folder").map(|entry| entry.expect("an entry").path());
    let shards = shards.filter(|path| path.extension().is_some_and(|name| name == "safetensors"));
    std::fs::read(shards.min_by_key(|path| path.metadata().map_or(u64::MAX, |facts| facts.len())).expect("a shard")).expect("a file")
}

fn gif() -> Vec<u8> {
    let mut bytes = b"GIF89a\x04\0\x04\0\x91\0\0".to_vec();
    bytes.extend([255, 0, 0, 0, 255, 0, 0, 0, 255, 0, 0, 0]);
    bytes.extend(b",\0\0\0\0\x04\0\x04\0\0\x02\x05\x84\x8f\xa9\xcb\x05\0;");
    bytes
}

fn bmp() -> Vec<u8> {
    let mut bytes = b"BM".to_vec();
    bytes.extend([70u32, 0, 54, 40, 2, 2].iter().flat_map(|value| value.to_le_bytes()));
    bytes.extend([1u16, 24].iter().flat_map(|value| value.to_le_bytes()));
    bytes.extend([0u32, 16, 0, 0, 0, 0].iter().flat_map(|value| value.to_le_bytes()));
    bytes.extend([200; 16]);
    bytes
}

/// splitmix64: the same inputs of the same seed on every machine.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }

    fn of<'a, T: ?Sized>(&mut self, all: &[&'a T]) -> &'a T {
        all[self.below(all.len())]
    }
}

/// What parsers trip over, as text.
const WORDS: [&str; 22] = [
    "-1",
    "0",
    "1e309",
    "1e99",
    "18446744073709551615",
    "9223372036854775808",
    "4294967296",
    "2147483648",
    "1000000",
    "0.5",
    "null",
    "true",
    "\"\"",
    "[]",
    "{}",
    "[[[[[[[[[[[[[[[[",
    "{\"a\":{\"a\":{\"a\":",
    "\"\\ud800\"",
    "\"../../etc/passwd\"",
    "\"F64\"",
    "\u{feff}",
    "\0",
];
const NUMBERS: [u64; 9] = [0, 1, 0x7f, 0xff, 0xffff, 0x7fff_ffff, 0xffff_ffff, 1 << 40, u64::MAX];

/// One input, changed in one to six places.
fn mutate(random: &mut Random, seeds: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = seeds[random.below(seeds.len())].clone();
    for _ in 0..=random.below(6) {
        let at = random.below(bytes.len() + 1);
        let end = (at + 1 + random.below(64)).min(bytes.len());
        match random.below(12) {
            0 if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
            1 if at < bytes.len() => bytes[at] = random.next() as u8,
            2 => bytes.truncate(at),
            3 => drop(bytes.drain(at..end)),
            4 => {
                let part = bytes[at..end].to_vec();
                bytes.splice(at..at, part);
            }
            5 => {
                let other = &seeds[random.below(seeds.len())];
                let from = random.below(other.len());
                let part = other[from..(from + random.below(256)).min(other.len())].to_vec();
                bytes.splice(at..end, part);
            }
            6 | 7 => replace_value(random, &mut bytes, at),
            8 => drop(bytes.splice(at..at, random.of(&WORDS).bytes())),
            9 => {
                // A length or a size in binary, of two, four or eight bytes, either way around.
                let width = 2 << random.below(3);
                let value = NUMBERS[random.below(NUMBERS.len())].to_le_bytes();
                let mut value = value[..width].to_vec();
                if random.below(2) == 0 {
                    value.reverse();
                }
                let at = if random.below(3) == 0 { random.below(32) } else { at }.min(bytes.len());
                let end = (at + width).min(bytes.len());
                bytes.splice(at..end, value);
            }
            10 => {
                let depth = 1 << random.below(14);
                let open = if random.below(2) == 0 { "[" } else { "{\"a\":" };
                bytes.splice(at..at, open.repeat(depth).into_bytes());
            }
            _ => {
                let times = 1 + random.below(8);
                let part = bytes[at..end].repeat(times);
                bytes.extend(part);
            }
        }
    }
    bytes
}

/// Another value for a field of JSON near `at`.
fn replace_value(random: &mut Random, bytes: &mut Vec<u8>, at: usize) {
    let Some(colon) = bytes[at..].iter().position(|byte| *byte == b':').map(|colon| at + colon + 1) else { return };
    let end = bytes[colon..].iter().position(|byte| b",}]\n".contains(byte)).map_or(bytes.len(), |end| colon + end);
    bytes.splice(colon..end, random.of(&WORDS).bytes());
}

/// What is wrong with how the parser takes these bytes.
fn fault(target: &Target, bytes: &[u8]) -> Option<String> {
    LIVE.set(0);
    PEAK.set(0);
    let start = Instant::now();
    let result = catch_unwind(AssertUnwindSafe(|| (target.parse)(bytes)));
    let (took, peak) = (start.elapsed(), PEAK.get());
    let allowed = 4 * bytes.len() + target.allowance;
    match result {
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned().or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string));
            Some(format!("panics: {}", text.unwrap_or_default()))
        }
        Ok(_) if peak > allowed => Some(format!("holds {peak} bytes, of an input of {} it may {allowed}", bytes.len())),
        Ok(_) if took > LIMIT => Some(format!("takes {took:?}")),
        Ok(_) => None,
    }
}

/// Tries so many inputs a parser, and keeps those that are taken wrongly as files.
fn run(cases: u64, seed: u64) {
    let mut faults = vec![];
    for target in targets() {
        for seed_bytes in &target.seeds {
            assert_eq!(
                (target.parse)(seed_bytes).err().filter(|_| target.name != "config" && target.name != "address"),
                None,
                "{}",
                target.name
            );
        }
        for case in 0..cases {
            let bytes = mutate(&mut Random(seed ^ (case << 20)), &target.seeds);
            if let Some(fault) = fault(&target, &bytes) {
                let path = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("hostile-{}-{seed}-{case}", target.name));
                std::fs::write(&path, &bytes).expect("a file");
                faults.push(format!("{} of seed {seed}, case {case} ({}): {fault}", target.name, path.display()));
            }
        }
    }
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.iter().take(20).cloned().collect::<Vec<_>>().join("\n"));
}

/// The seed of `npm run fuzz`, else always the same.
fn seed() -> u64 {
    std::env::var("HOSTILE_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(2026)
}

#[test]
fn inputs_that_are_almost_right_neither_panic_nor_hang_nor_fill_the_memory() {
    run(300, seed());
}

#[test]
#[ignore = "minutes: npm run test:full, npm run fuzz"]
fn ten_thousand_inputs_of_each_parser() {
    run(10_000, seed().wrapping_add(1));
}

#[test]
fn what_is_huge_or_no_json_is_refused_by_name() {
    let code = |result: Result<(), Error>| result.map_err(|error| error.code());
    let png = |width: u32, height: u32| {
        let mut bytes = file("tests/fixtures/images/photo.png");
        bytes[16..20].copy_from_slice(&width.to_be_bytes());
        bytes[20..24].copy_from_slice(&height.to_be_bytes());
        bytes
    };
    assert!(matches!(code(load_image(&png(60_000, 60_000)).map(drop)), Err("image-too-large" | "image-undecodable")));
    let config = |field: &str, value: &str| {
        let json = String::from_utf8(file("tests/fixtures/opt/config.json")).expect("text");
        let mut value_of: serde_json::Value = serde_json::from_str(&json).expect("JSON");
        for part in ["vision_config", "qformer_config", "text_config"] {
            value_of[part][field] = serde_json::from_str(value).expect("JSON");
        }
        let bytes = serde_json::to_vec(&value_of).expect("JSON");
        models::plan(&bytes).map(drop)
    };
    for field in ["num_hidden_layers", "hidden_size", "num_attention_heads", "intermediate_size"] {
        assert_eq!(code(config(field, "4000000000")), Err("config-invalid"), "{field}");
    }
    for header in [u64::MAX, 1 << 62, 1 << 40] {
        let mut bytes = smallest_shard();
        bytes[..8].copy_from_slice(&header.to_le_bytes());
        assert_eq!(code(shard::views("a", &bytes).map(drop)), Err("weight-invalid"));
    }
    let no_json = [b"{\"a\": \"\\ud800\"}".to_vec(), b"{\"a\" 1}".to_vec()];
    for bytes in no_json {
        assert_eq!(code(processor("tokenizer.json", &bytes)), Err("tokenizer-invalid"));
    }
    let nested = [b"{\"a\":".repeat(1 << 20), b"1".to_vec()].concat();
    assert_eq!(code(Index::parse(&nested).map(drop)), Err("config-invalid"));
    assert_eq!(code(models::plan(&nested).map(drop)), Err("config-invalid"));
}
