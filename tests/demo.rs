//! The shipped models say and find what HF transformers does with the same, dequantized weights: `demo/expected.py` and
//! `demo/expected_gallery.py` wrote it down.

mod common;

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use blip2_web::device::Device;
use blip2_web::generation::{Finish, GenerationConfig};
use blip2_web::models;
use blip2_web::parity;
use blip2_web::processor::load_image;
use blip2_web::tasks::{Blip2, ImageFeatures, ImageTextRetrieval, RetrievalImage};
use serde_json::Value;

fn demo() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("demo")
}

fn json(path: &str) -> Value {
    let bytes = std::fs::read(demo().join(path)).expect("demo/renew.sh writes it");
    serde_json::from_slice(&bytes).expect("JSON")
}

fn expected() -> Value {
    json("samples/expected.q8.json")
}

fn encode(model: &Blip2, sample: &Value) -> ImageFeatures {
    let path = demo().join("samples").join(sample["file"].as_str().expect("a file"));
    let image = load_image(&std::fs::read(path).expect("a sample")).expect("a picture");
    pollster::block_on(model.encode(&image)).expect("features")
}

/// One caption or answer: the words and the ids, and the same words when they stream.
fn says(model: &Blip2, image: &ImageFeatures, case: &Value, max_new_tokens: usize) {
    let prompt = case["prompt"].as_str().filter(|prompt| !prompt.is_empty());
    let config = GenerationConfig { max_new_tokens: Some(max_new_tokens), ..GenerationConfig::default() };
    let mut pieces = String::new();
    let mut on_piece = |piece: &str| {
        pieces.push_str(piece);
        ControlFlow::Continue(())
    };
    let answer = pollster::block_on(model.generate(image, prompt, &config, &mut on_piece)).expect("an answer");
    assert_eq!(Some(answer.text.as_str()), case["text"].as_str(), "{case}");
    let new_ids = answer.ids[answer.ids.len() - answer.timings.tokens..].to_vec();
    assert_eq!(serde_json::json!(new_ids), case["ids"], "{case}");
    assert_eq!(pieces.trim(), answer.text, "pieces joined are the text");
}

#[test]
fn on_the_cpu_every_sample_is_captioned_and_asked_as_by_transformers() {
    let (model, expected) = (common::load_converted(&Device::cpu(), &demo().join("model")).expect("the demo model"), expected());
    let max_new_tokens = expected["max_new_tokens"].as_u64().expect("a number") as usize;
    let samples = expected["samples"].as_array().expect("samples");
    assert_eq!(samples.len(), 12);
    for sample in samples {
        let image = encode(&model, sample);
        says(&model, &image, &sample["caption"], max_new_tokens);
        for question in sample["questions"].as_array().expect("questions") {
            says(&model, &image, question, max_new_tokens);
        }
    }
}

#[test]
fn on_the_gpu_captions_and_first_answers_are_the_same() {
    let (model, expected) = (common::load_converted(&common::gpu(), &demo().join("model")).expect("the demo model"), expected());
    let max_new_tokens = expected["max_new_tokens"].as_u64().expect("a number") as usize;
    for sample in &expected["samples"].as_array().expect("samples")[..4] {
        let image = encode(&model, sample);
        says(&model, &image, &sample["caption"], max_new_tokens);
        says(&model, &image, &sample["questions"][0], max_new_tokens);
    }
}

#[test]
fn a_caption_that_is_stopped_keeps_what_was_said() {
    let (model, expected) = (common::load_converted(&Device::cpu(), &demo().join("model")).expect("the demo model"), expected());
    let image = encode(&model, &expected["samples"][0]);
    let mut steps = 0;
    let mut on_piece = |_: &str| {
        steps += 1;
        if steps == 2 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let answer = pollster::block_on(model.generate(&image, None, &GenerationConfig::default(), &mut on_piece)).expect("an answer");
    assert_eq!(answer.finish, Finish::Stopped);
    let whole = expected["samples"][0]["caption"]["text"].as_str().expect("text");
    assert!(!answer.text.is_empty() && answer.text.len() < whole.len() && whole.starts_with(&answer.text), "{:?}", answer.text);
}

/// How far a cosine may be from that of transformers; two that are nearer to each other may change places.
const TOLERANCE: f32 = 2e-3;

fn retrieval(device: &Device) -> ImageTextRetrieval {
    let files = common::folder(&demo().join("retrieval"));
    let plan = models::plan(&files["config.json"]).expect("a plan");
    let weights = parity::converted(device, &files, "", plan, false).expect("the demo's weights");
    ImageTextRetrieval::load(device, &files, &weights).expect("the demo's retrieval model")
}

fn scene(model: &ImageTextRetrieval, file: &str) -> RetrievalImage {
    let bytes = std::fs::read(demo().join("gallery").join(file)).expect("a scene");
    pollster::block_on(model.encode(&load_image(&bytes).expect("a picture"))).expect("an embedding")
}

fn strings<'a>(rows: &'a [Value], name: &str) -> Vec<&'a str> {
    rows.iter().map(|row| row[name].as_str().expect("a string")).collect()
}

/// What transformers found: files and cosines, best first.
fn found_first(search: &Value) -> Vec<(&str, f32)> {
    let files = search["files"].as_array().expect("files").iter().map(|file| file.as_str().expect("a file"));
    let cosines = search["cosines"].as_array().expect("cosines").iter().map(|cosine| cosine.as_f64().expect("a number") as f32);
    files.zip(cosines).collect()
}

#[test]
fn on_the_cpu_every_search_orders_the_gallery_as_by_transformers() {
    let (model, expected, gallery) = (retrieval(&Device::cpu()), json("gallery/expected.q8.json"), json("gallery/index.json"));
    let (searches, scenes) = (expected["searches"].as_array().expect("searches"), gallery.as_array().expect("scenes"));
    assert!(searches.len() >= 20 && scenes.len() >= 60);
    let (texts, captions, files) = (strings(searches, "text"), strings(scenes, "caption"), strings(scenes, "file"));
    let place: BTreeMap<&str, usize> = files.iter().enumerate().map(|(place, file)| (*file, place)).collect();
    let images: Vec<RetrievalImage> = files.iter().map(|file| scene(&model, file)).collect();
    let images: Vec<&RetrievalImage> = images.iter().collect();

    for (search, cosines) in searches.iter().zip(pollster::block_on(model.itc(&images, &texts)).expect("cosines")) {
        let text = search["text"].as_str().expect("a text");
        let first = found_first(search);
        for (file, cosine) in &first {
            let found = cosines[place[file]];
            assert!((found - cosine).abs() <= TOLERANCE, "{text}: {file} {found} instead of {cosine}");
        }
        for pair in first.windows(2) {
            let [(better, high), (worse, low)] = [pair[0], pair[1]];
            assert!(high - low <= TOLERANCE || cosines[place[better]] > cosines[place[worse]], "{text}: {worse} before {better}");
        }
        let last = first.last().expect("scenes").1;
        for (file, found) in files.iter().zip(&cosines) {
            let is_first = first.iter().any(|(known, _)| known == file);
            assert!(is_first || *found <= last + TOLERANCE, "{text}: {file} {found} is among the first");
        }
        let found = pollster::block_on(model.itm(images[place[first[0].0]], &[text])).expect("a probability")[0];
        let matches = search["first_matches"].as_f64().expect("a number") as f32;
        assert!((found - matches).abs() <= 5e-3, "{text}: the first matches with {found} instead of {matches}");
    }

    let cosines = pollster::block_on(model.itc(&images, &captions)).expect("cosines");
    let better = |(own, cosines): (usize, &Vec<f32>)| cosines.iter().filter(|cosine| **cosine > cosines[own]).count();
    let among_five = cosines.iter().enumerate().map(better).filter(|better| *better < 5).count() as f64 / scenes.len() as f64;
    let wanted = expected["found_by_own_caption"]["R@5"].as_f64().expect("a share");
    assert!(among_five >= 0.6, "R@5 {among_five}");
    assert!((among_five - wanted).abs() <= 2.0 / scenes.len() as f64, "R@5 {among_five} instead of {wanted}");
}

#[test]
fn on_the_gpu_what_a_search_finds_first_has_the_same_cosines() {
    let (model, expected) = (retrieval(&common::gpu()), json("gallery/expected.q8.json"));
    let search = &expected["searches"][0];
    let first = found_first(search);
    let images: Vec<RetrievalImage> = first.iter().map(|(file, _)| scene(&model, file)).collect();
    let images: Vec<&RetrievalImage> = images.iter().collect();
    let text = search["text"].as_str().expect("a text");
    let found = pollster::block_on(model.itc(&images, &[text])).expect("cosines").remove(0);
    for ((file, cosine), found) in first.iter().zip(found) {
        assert!((found - cosine).abs() <= TOLERANCE, "{text}: {file} {found} instead of {cosine}");
    }
}
