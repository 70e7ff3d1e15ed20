//! What must hold of `generate` whatever the model: its cache changes nothing, its ways agree where they meet, its draws can
//! be repeated. On tiny random models, on both devices.

mod common;

use std::ops::ControlFlow;
use std::sync::{Mutex, MutexGuard, PoisonError};

use blip2_web::Error;
use blip2_web::device::{Device, DeviceKind};
use blip2_web::generation::{Finish, Generated, GenerationConfig};
use blip2_web::models::{LanguageOptions, TokenIds};
use blip2_web::ops::{launch, read_floats};
use blip2_web::parity::Files;
use blip2_web::processor::{Padding, PaddingSide, TextOptions, decode};
use blip2_web::tasks::{Blip2, ForwardInputs, GenerateInputs, ImageFeatures};
use burn_tensor::{Tensor, TensorData};
use pollster::block_on;

/// Not `opt_odd`: where embeddings are narrower than image features, HF's rows of a batch get each other's.
const MODELS: [&str; 4] = ["opt", "opt_odd2", "t5", "t5_tied"];
const PROMPTS: [&str; 2] = ["Question: what color is the dog? Answer:", "a photo of"];
/// No end token: every search takes all the steps that it may.
const ENDLESS: TokenIds = TokenIds::Many(vec![]);

struct Fixture {
    name: &'static str,
    files: Files,
    model: Blip2,
}

impl Fixture {
    fn on(device: &Device, name: &'static str) -> Self {
        let files = common::files(name);
        let model = common::load(device, &files).expect("a model");
        Self { name, files, model }
    }

    fn is_t5(&self) -> bool {
        self.model.captioner.model.language_model.is_encoder_decoder()
    }

    /// [B, Q, width of the language model]
    fn features(&self, pictures: &[&str]) -> Tensor<3> {
        let pictures: Vec<_> = pictures.iter().map(|name| decode(&self.files[&format!("images/{name}")]).expect("a picture")).collect();
        let pixels = self.model.processor.image_processor.preprocess(&pictures.iter().collect::<Vec<_>>()).expect("pixel values");
        let pixels = Tensor::from_data(TensorData::new(pixels.values, pixels.shape), &self.model.captioner.device.burn);
        block_on(self.model.captioner.get_image_features(&pixels, false)).expect("features")
    }

    fn prompts(&self, texts: &[&str]) -> GenerateInputs {
        let side = if self.is_t5() { PaddingSide::Right } else { PaddingSide::Left };
        let options = TextOptions { padding: Padding::Longest, padding_side: Some(side), ..TextOptions::default() };
        let encoded = self.model.processor.text(texts, true, &options).expect("ids");
        GenerateInputs::Ids { input_ids: encoded.input_ids, attention_mask: Some(encoded.attention_mask) }
    }

    fn generate(&self, features: &Tensor<3>, inputs: GenerateInputs, config: &GenerationConfig) -> Generated {
        let mut go_on = |_: &[u32]| ControlFlow::Continue(());
        block_on(self.model.captioner.generate(features, inputs, config, &mut go_on))
            .unwrap_or_else(|error| panic!("{}: {error}", self.name))
    }

    /// Logits of every position without a cache: behind the image tokens and `said` (OPT), or in the decoder (T5). [n][vocabulary]
    fn logits(&self, features: &Tensor<3>, said: &[u32]) -> Vec<Vec<f32>> {
        let config = &self.model.captioner.model.config;
        let special = self.model.captioner.model.language_model.special_tokens();
        let mut asked = vec![config.image_token_index.expect("an image token"); config.num_query_tokens];
        asked.push(special.bos.expect("bos"));
        // OPT's ids have the image tokens in them already.
        let (input_ids, decoder_input_ids) =
            if self.is_t5() { (vec![asked], Some(vec![said.to_vec()])) } else { (vec![said.to_vec()], None) };
        let inputs = ForwardInputs {
            input_ids: &input_ids,
            attention_mask: None,
            decoder_input_ids: decoder_input_ids.as_deref(),
            labels: None,
            options: LanguageOptions::default(),
        };
        let logits = block_on(self.model.captioner.forward(features, inputs)).expect("logits").logits;
        let width = logits.dims()[2];
        block_on(read_floats(logits)).expect("floats").chunks_exact(width).map(<[f32]>::to_vec).collect()
    }

    /// How many of the ids are in front of the new ones, where there is no text.
    fn prefix(&self) -> usize {
        if self.is_t5() { 1 } else { self.model.captioner.model.config.num_query_tokens + 1 }
    }
}

/// The GPU's counts are the process's: whoever uses it is alone with it for as long as the guard lives.
fn alone() -> MutexGuard<'static, ()> {
    static GPU: Mutex<()> = Mutex::new(());
    GPU.lock().unwrap_or_else(PoisonError::into_inner)
}

fn both_devices() -> [Device; 2] {
    [Device::cpu(), common::gpu()]
}

fn highest(scores: &[f32]) -> usize {
    (0..scores.len()).fold(0, |best, place| if scores[place] > scores[best] { place } else { best })
}

fn log_softmax(scores: &[f32], place: usize) -> f64 {
    let top = f64::from(scores[highest(scores)]);
    f64::from(scores[place]) - top - scores.iter().map(|score| (f64::from(*score) - top).exp()).sum::<f64>().ln()
}

#[test]
fn a_cache_changes_nothing_at_any_length() {
    let _alone = alone();
    let config = GenerationConfig { max_new_tokens: Some(12), eos_token_id: Some(ENDLESS), ..GenerationConfig::default() };
    for device in both_devices() {
        for name in MODELS {
            let fixture = Fixture::on(&device, name);
            let features = fixture.features(&["photo.png"]);
            let ids = fixture.generate(&features, GenerateInputs::Image, &config).ids.concat();
            let prefix = fixture.prefix();
            assert_eq!(ids.len(), prefix + 12, "{name}");
            // Each length alone, so that nothing of a longer pass helps.
            for length in prefix..ids.len() {
                let logits = fixture.logits(&features, &ids[..length]);
                let next = highest(logits.last().expect("a position"));
                assert_eq!(next, ids[length] as usize, "{name} on {}: behind {length} ids", device.adapter.name);
            }
        }
    }
}

#[test]
fn one_beam_is_greedy_and_five_find_nothing_less_likely() {
    for name in MODELS {
        let fixture = Fixture::on(&Device::cpu(), name);
        let features = fixture.features(&["photo.png", "rgba.png"]);
        let config = |beams| GenerationConfig {
            num_beams: Some(beams),
            max_new_tokens: Some(8),
            eos_token_id: Some(ENDLESS),
            length_penalty: (beams > 1).then_some(0.0),
            ..GenerationConfig::default()
        };
        let greedy = fixture.generate(&features, GenerateInputs::Image, &GenerationConfig { num_beams: None, ..config(1) });
        assert_eq!(fixture.generate(&features, GenerateInputs::Image, &config(1)).ids, greedy.ids, "{name}");
        let beams = fixture.generate(&features, GenerateInputs::Image, &config(5));
        let scores = beams.sequences_scores.expect("scores");
        for (row, picture) in ["photo.png", "rgba.png"].into_iter().enumerate() {
            let features = fixture.features(&[picture]);
            let sum = |ids: &[u32]| {
                let logits = fixture.logits(&features, ids);
                (fixture.prefix()..ids.len()).map(|place| log_softmax(&logits[place - 1], ids[place] as usize)).sum::<f64>()
            };
            let found = sum(&beams.ids[row]);
            assert!((found - f64::from(scores[row])).abs() < 1e-3, "{name}: {found}, said to be {}", scores[row]);
            assert!(found >= sum(&greedy.ids[row]) - 1e-3, "{name}: beams found {found}, greedy {}", sum(&greedy.ids[row]));
        }
    }
}

#[test]
fn a_batch_says_what_its_rows_say_alone() {
    let _alone = alone();
    const PICTURES: [&str; 2] = ["photo.png", "rgba.png"];
    for device in both_devices() {
        for name in MODELS {
            let fixture = Fixture::on(&device, name);
            for num_beams in [1, 3] {
                let config = GenerationConfig {
                    num_beams: Some(num_beams),
                    max_new_tokens: Some(8),
                    eos_token_id: Some(ENDLESS),
                    ..GenerationConfig::default()
                };
                let new = |ids: &[u32]| ids[ids.len() - 8..].to_vec();
                let batch = fixture.generate(&fixture.features(&PICTURES), fixture.prompts(&PROMPTS), &config).ids;
                for (row, (picture, prompt)) in PICTURES.into_iter().zip(PROMPTS).enumerate() {
                    let alone = fixture.generate(&fixture.features(&[picture]), fixture.prompts(&[prompt]), &config).ids;
                    assert_eq!(new(&batch[row]), new(&alone[0]), "{name} on {}: row {row}, {num_beams} beams", device.adapter.name);
                }
            }
        }
    }
}

#[test]
fn five_beams_read_hardly_more_weights_than_one() {
    let _alone = alone();
    let device = common::gpu();
    assert_eq!(device.kind, DeviceKind::Webgpu);
    for name in ["opt", "t5"] {
        let fixture = Fixture::on(&device, name);
        let features = fixture.features(&["photo.png"]);
        let read = |num_beams, max_new_tokens| {
            let config = GenerationConfig {
                num_beams: Some(num_beams),
                max_new_tokens: Some(max_new_tokens),
                eos_token_id: Some(ENDLESS),
                ..GenerationConfig::default()
            };
            let before = launch::counts().weights;
            assert_eq!(fixture.generate(&features, GenerateInputs::Image, &config).ids[0].len(), fixture.prefix() + max_new_tokens);
            launch::counts().weights - before
        };
        // Ten steps more, without the prompt.
        let per_step = |num_beams| read(num_beams, 14) - read(num_beams, 4);
        let (one, five) = (per_step(1), per_step(5));
        assert!(one > 0 && five as f64 <= 1.15 * one as f64, "{name}: ten steps of five beams read {five} bytes, of one {one}");
    }
}

#[test]
fn a_seed_draws_the_same_on_every_device_and_another_one_does_not() {
    let _alone = alone();
    let [cpu, gpu] = both_devices();
    for name in MODELS {
        let (here, there) = (Fixture::on(&cpu, name), Fixture::on(&gpu, name));
        let drawn = |fixture: &Fixture, seed, extra: GenerationConfig| {
            let config = GenerationConfig { do_sample: Some(true), seed: Some(seed), max_new_tokens: Some(12), ..extra };
            fixture.generate(&fixture.features(&["photo.png", "rgba.png"]), GenerateInputs::Image, &config).ids
        };
        let ways = || {
            [
                GenerationConfig { temperature: Some(0.9), top_k: Some(20), ..GenerationConfig::default() },
                GenerationConfig { top_p: Some(0.9), top_k: Some(0), ..GenerationConfig::default() },
                GenerationConfig { num_beams: Some(3), ..GenerationConfig::default() },
                GenerationConfig { num_return_sequences: Some(3), ..GenerationConfig::default() },
            ]
        };
        for (way, config) in ways().into_iter().enumerate() {
            let first = drawn(&here, 7, config.clone());
            assert_eq!(first.len(), 2 * config.num_return_sequences.unwrap_or(1), "{name}, way {way}");
            assert_eq!(drawn(&here, 7, config.clone()), first, "{name}, way {way}: again");
            assert_eq!(drawn(&there, 7, config.clone()), first, "{name}, way {way}: on {}", gpu.adapter.name);
            assert!((8..14).any(|seed| drawn(&here, seed, config.clone()) != first), "{name}, way {way}: no seed draws anything else");
        }
        let likeliest = GenerationConfig { top_k: Some(1), ..GenerationConfig::default() };
        let greedy = GenerationConfig { max_new_tokens: Some(12), ..GenerationConfig::default() };
        let features = here.features(&["photo.png", "rgba.png"]);
        assert_eq!(drawn(&here, 1, likeliest), here.generate(&features, GenerateInputs::Image, &greedy).ids, "{name}");
    }
}

#[test]
fn a_stop_string_is_the_last_that_is_said() {
    for name in ["opt", "t5"] {
        let fixture = Fixture::on(&Device::cpu(), name);
        let picture = decode(&fixture.files["images/photo.png"]).expect("a picture");
        let image = block_on(fixture.model.encode(&picture)).expect("features");
        let say = |config: &GenerationConfig| {
            block_on(fixture.model.generate(&image, None, config, &mut |_| ControlFlow::Continue(()))).expect("an answer")
        };
        let all = GenerationConfig { max_new_tokens: Some(16), eos_token_id: Some(ENDLESS), ..GenerationConfig::default() };
        let whole = say(&all);
        // Two characters from the middle of what it says by itself.
        let text: Vec<char> = whole.text.chars().collect();
        let middle: String = text[text.len() / 2..text.len() / 2 + 2].iter().collect();
        let stop = serde_json::from_value(serde_json::json!(middle)).expect("a string");
        let stopped = say(&GenerationConfig { stop_strings: Some(stop), ..all });
        assert_eq!(stopped.finish, Finish::StopString, "{name}");
        assert!(stopped.ids.len() < whole.ids.len() && whole.ids.starts_with(&stopped.ids), "{name}: {:?}", stopped.ids);
        assert!(stopped.text.contains(middle.trim()), "{name}: {:?} ends {:?}", middle, stopped.text);
        let tokenizer = &fixture.model.processor.tokenizer;
        let before = tokenizer.decode(&stopped.ids[fixture.prefix()..stopped.ids.len() - 1], false).expect("text");
        assert!(!before.contains(&middle), "{name}: {before:?} said {middle:?} already");
    }
}

#[test]
fn what_cannot_be_done_is_refused_by_its_name() {
    let fixture = Fixture::on(&Device::cpu(), "opt");
    let features = fixture.features(&["photo.png"]);
    let refused = |json: serde_json::Value| {
        let config: GenerationConfig = serde_json::from_value(json).expect("known options");
        let mut go_on = |_: &[u32]| ControlFlow::Continue(());
        block_on(fixture.model.captioner.generate(&features, GenerateInputs::Image, &config, &mut go_on)).expect_err("a refusal")
    };
    for option in ["temperature", "top_p", "seed"] {
        let error = refused(serde_json::json!({ option: if option == "seed" { 1.into() } else { serde_json::json!(0.5) } }));
        assert!(matches!(&error, Error::OptionUnsupported { option: named, .. } if named == option), "{error}");
    }
    for (option, value) in [("num_beams", 0), ("num_return_sequences", 2), ("max_new_tokens", 100_000)] {
        let error = refused(serde_json::json!({ option: value }));
        assert!(error.to_string().starts_with(option) || error.to_string().contains(option), "{option}: {error}");
    }
    assert!(serde_json::from_str::<GenerationConfig>(r#"{"num_beam": 2}"#).is_err());
}

/// Questions about two pictures in turn, some of them again: each is answered as by a model that has said nothing before.
#[test]
fn what_earlier_answers_have_left_changes_no_answer() {
    let _alone = alone();
    let names = ["photo.png", "rgba.png"];
    let questions = [None, Some(PROMPTS[0]), Some("Question: what color is the cat? Answer:"), Some(PROMPTS[1])];
    let config = GenerationConfig { max_new_tokens: Some(5), eos_token_id: Some(ENDLESS), ..GenerationConfig::default() };
    let beams = GenerationConfig { num_beams: Some(3), ..config.clone() };
    for device in both_devices() {
        for name in ["opt", "t5"] {
            let encoded = |model: &Blip2, picture: &str| {
                let picture = decode(&common::files(name)[&format!("images/{picture}")]).expect("a picture");
                block_on(model.encode(&picture)).expect("an encoding")
            };
            let answer = |model: &Blip2, image: &ImageFeatures, question: Option<&str>, config: &GenerationConfig| {
                let mut go_on = |_: &str| ControlFlow::Continue(());
                block_on(model.generate(image, question, config, &mut go_on)).expect("an answer").ids
            };
            let kept = Fixture::on(&device, name).model;
            // Encoded once, so that the second question starts from the first one's picture.
            let images = names.map(|picture| encoded(&kept, picture));
            for (place, question) in questions.iter().chain(&questions).enumerate() {
                for config in [&config, &beams] {
                    let at = (place / 2) % 2;
                    let found = answer(&kept, &images[at], *question, config);
                    let fresh = Fixture::on(&device, name).model;
                    let expected = answer(&fresh, &encoded(&fresh, names[at]), *question, config);
                    assert_eq!(found, expected, "{name} on {}: question {place}", device.adapter.name);
                }
            }
        }
    }
}

#[test]
fn a_second_question_computes_only_what_is_new() {
    let _alone = alone();
    let device = common::gpu();
    let fixture = Fixture::on(&device, "opt");
    let picture = decode(&fixture.files["images/photo.png"]).expect("a picture");
    let image = block_on(fixture.model.encode(&picture)).expect("an encoding");
    let config = GenerationConfig { max_new_tokens: Some(1), ..GenerationConfig::default() };
    let mut bytes = vec![];
    for question in [PROMPTS[0], PROMPTS[0]] {
        let before = launch::counts();
        let mut go_on = |_: &str| ControlFlow::Continue(());
        block_on(fixture.model.generate(&image, Some(question), &config, &mut go_on)).expect("an answer");
        bytes.push((launch::counts() - before).bytes);
    }
    assert!(bytes[1] < bytes[0], "{bytes:?} bytes bound");
}

/// Longer than the room that a cache begins with.
#[test]
fn a_long_answer_is_what_the_model_says_without_a_cache() {
    let _alone = alone();
    let config = GenerationConfig { max_new_tokens: Some(180), eos_token_id: Some(ENDLESS), ..GenerationConfig::default() };
    for device in both_devices() {
        let fixture = Fixture::on(&device, "t5");
        let features = fixture.features(&["photo.png"]);
        let ids = fixture.generate(&features, GenerateInputs::Image, &config).ids.concat();
        assert_eq!(ids.len(), 181);
        for length in [64, 65, 66, 128, 129, 130, 180] {
            let logits = fixture.logits(&features, &ids[..length]);
            let next = highest(logits.last().expect("a position"));
            assert_eq!(next, ids[length] as usize, "{} behind {length} ids", device.adapter.name);
        }
    }
}
