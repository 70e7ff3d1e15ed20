//! The shipped model says what HF transformers says with the same, dequantized weights: `demo/expected.py` wrote it down.

mod common;

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use blip2_web::device::Device;
use blip2_web::generation::{Finish, GenerationConfig};
use blip2_web::processor::load_image;
use blip2_web::tasks::{Blip2, ImageFeatures};
use serde_json::Value;

fn demo() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("demo")
}

fn expected() -> Value {
    let bytes = std::fs::read(demo().join("samples/expected.q8.json")).expect("demo/expected.py writes it");
    serde_json::from_slice(&bytes).expect("JSON")
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
