//! What a token and a picture may cost on a GPU, at the depth of the models that people use. Counts are exact and the same on
//! every adapter; widths are small, since no count depends on them.

mod common;

use blip2_web::device::{Arithmetic, Device, Tuning, set_tuning};
use blip2_web::models::{Blip2VisionConfig, Blip2VisionModel, Decoding, LanguageModel, OPTConfig, Prompt, TextConfig, VisionOptions};
use blip2_web::ops::launch::{Counts, counts};
use blip2_web::ops::{read_floats, start_reading};
use blip2_web::weights::quant::{Quant, pack_rows, quantize, words_per_row};
use blip2_web::weights::{Part, Plan, Role, Weights};
use burn_tensor::{Tensor, TensorData};
use pollster::block_on;
use serde_json::json;

/// In −0.5..0.5, another one for each place.
fn noise(count: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 24) as f32 - 0.5
    };
    (0..count).map(|_| next()).collect()
}

/// Whatever the plan asks for; and the bytes of its matrices as the device holds them.
fn filled(device: &Device, plan: Plan, quant: Quant) -> (Weights, usize) {
    let weights = Weights::new(device, plan.clone());
    let mut bytes = 0;
    for (seed, (key, request)) in plan.iter().enumerate() {
        let (rows, columns) = (request.shape[0], request.shape[1..].iter().product::<usize>());
        // Norms that norm, small words and large positions: else the tied head says the same word for ever.
        let (scale, around) = match key.as_str() {
            key if key.ends_with("norm.weight") => (0.2, 1.0),
            key if key.ends_with("norm.bias") => (0.02, 0.0),
            key if key.ends_with("embed_tokens.weight") => (0.2, 0.0),
            key if key.ends_with("embed_positions.weight") => (4.0, 0.0),
            _ => (0.5, 0.0),
        };
        let values: Vec<f32> = noise(rows * columns, seed as u64 + 1).iter().map(|value| around + value * scale).collect();
        let part = match request.role {
            Role::Matrix => {
                bytes += rows * words_per_row(quant, columns) * 4;
                let packed = quantize(quant, columns, &values);
                Part::Packed { quant, words: pack_rows(quant, columns, &packed.words, &packed.scales) }
            }
            Role::Tensor | Role::Table => Part::F32(values),
        };
        weights.put(key, 0..rows, part).unwrap_or_else(|error| panic!("{key}: {error}"));
    }
    (weights, bytes)
}

const LAYERS: usize = 32;
const WIDTH: usize = 96;
const PROMPT: usize = 7;

/// OPT-2.7b's depth.
fn opt(device: &Device, quant: Quant) -> (LanguageModel, usize) {
    let config = json!({
        "model_type": "opt", "hidden_size": WIDTH, "word_embed_proj_dim": WIDTH, "ffn_dim": 4 * WIDTH, "num_hidden_layers": LAYERS,
        "num_attention_heads": 4, "vocab_size": 307, "max_position_embeddings": 1100,
    });
    let config = TextConfig::Opt(serde_json::from_value::<OPTConfig>(config).expect("a config"));
    let load = |weights: &Weights| LanguageModel::load(&config, weights);
    let (weights, bytes) = filled(device, Weights::plan(load).expect("a plan"), quant);
    (load(&weights).expect("a model"), bytes)
}

fn started(device: &Device, model: &LanguageModel) -> Decoding {
    let inputs_embeds = Tensor::from_data(TensorData::new(noise(PROMPT * WIDTH, 99), [PROMPT, WIDTH]), &device.burn);
    let prompt = Prompt::Embeds { inputs_embeds: Box::new(inputs_embeds), attention_mask: vec![vec![1; PROMPT]], keys: None };
    let (mut decoding, logits) = block_on(model.start(device, &prompt, 40, 1)).expect("a start");
    decoding.set_ends(&[], 0);
    decoding.advance(&blip2_web::ops::argmax(&logits).expect("a choice")).expect("a step");
    decoding
}

/// The choice of one step.
fn chosen(model: &LanguageModel, decoding: &mut Decoding) -> i32 {
    let next = block_on(model.choose(decoding)).expect("a step");
    block_on(start_reading(next)).expect("an id")[0]
}

/// Launches of a token at 32 layers, one replay and one readback each.
fn launches_of_a_token(device: &Device, quant: Quant) -> u64 {
    let (model, weight_bytes) = opt(device, quant);
    let mut decoding = started(device, &model);
    chosen(&model, &mut decoding);
    let mut found = vec![];
    for _ in 0..3 {
        let before = counts();
        chosen(&model, &mut decoding);
        let Counts { dispatches, readbacks, weights, replays, .. } = counts() - before;
        println!("{quant}, {LAYERS} layers: {dispatches} dispatches, {weights} of {weight_bytes} weight bytes, {readbacks} readback");
        assert_eq!((replays, readbacks), (1, 1));
        assert!(weights as f64 <= 1.1 * weight_bytes as f64, "{weights} bytes of weights, the model has {weight_bytes}");
        found.push(dispatches);
    }
    assert!(found.iter().all(|dispatches| *dispatches == found[0]), "{found:?}");
    found[0]
}

#[test]
fn a_token_is_one_replay_and_one_readback_of_few_launches() {
    let device = common::gpu();
    for quant in [Quant::Q4, Quant::Q8] {
        // A norm rides along with the product behind it, but for software adapters.
        set_tuning(Tuning::WORKGROUPS);
        let on_gpu = launches_of_a_token(&device, quant);
        set_tuning(Tuning::THREADS);
        let on_software = launches_of_a_token(&device, quant);
        assert!(on_gpu > LAYERS as u64 && on_gpu <= 5 * LAYERS as u64 + 10, "{on_gpu} dispatches");
        assert!(on_software <= 250, "{on_software} dispatches");
    }
}

/// What a token behind so many positions takes, and the bytes of all keys and values that there is room for.
fn behind(device: &Device, model: &LanguageModel, positions: usize) -> (Counts, usize) {
    let mut decoding = model.seeded(device, positions).expect("a context");
    // Recorded, replayed.
    for _ in 0..2 {
        chosen(model, &mut decoding);
    }
    let before = counts();
    chosen(model, &mut decoding);
    (counts() - before, LAYERS * 2 * decoding.state.capacity * WIDTH * size_of::<f32>())
}

#[test]
fn a_long_context_costs_its_bytes_and_a_launch_a_layer_where_workgroups_share_it() {
    let device = common::gpu();
    let (model, weight_bytes) = opt(&device, Quant::Q8);
    for (tuning, more) in [(Tuning::WORKGROUPS, LAYERS as u64), (Tuning::THREADS, 0)] {
        set_tuning(tuning);
        let [(short, _), (long, cache)] = [64, 1024].map(|positions| behind(&device, &model, positions));
        assert_eq!(long.dispatches, short.dispatches + more, "{tuning:?}");
        assert!(long.dispatches <= 250, "{} dispatches", long.dispatches);
        for counts in [short, long] {
            assert_eq!((counts.replays, counts.readbacks, counts.weights as usize), (1, 1, weight_bytes));
        }
        // What layers hand to each other is less than a tenth, even at this width.
        let needed = weight_bytes + cache;
        println!("{tuning:?}: {} bytes bound, {needed} of weights and cache", long.bytes);
        assert!(long.bytes as f64 <= 1.1 * needed as f64, "{} bytes bound, {needed} of weights and cache", long.bytes);
    }
    // Kept as halves, what is remembered takes half of that.
    let (_, cache) = behind(&device, &model, 1024);
    let (halves, _) = behind(&device.clone().with_arithmetic(Arithmetic::Half), &model, 1024);
    let needed = weight_bytes + cache / 2;
    println!("in halves: {} bytes bound, {needed} of weights and cache", halves.bytes);
    assert!(halves.bytes as f64 <= 1.1 * needed as f64, "{} bytes bound, {needed} of weights and cache", halves.bytes);
    set_tuning(Tuning::of(&device.adapter));
}

#[test]
fn a_recorded_step_chooses_what_the_logits_say() {
    let device = common::gpu();
    let (on_cpu, _) = opt(&Device::cpu(), Quant::Q8);
    let mut decoding = started(&Device::cpu(), &on_cpu);
    let expected: Vec<i32> = (0..6).map(|_| chosen(&on_cpu, &mut decoding)).collect();
    assert!(expected.iter().any(|id| *id != expected[0]), "a model that says one thing shows nothing: {expected:?}");
    for tuning in [Tuning::WORKGROUPS, Tuning::THREADS] {
        for arithmetic in [Arithmetic::Exact, Arithmetic::Half] {
            set_tuning(tuning);
            let device = device.clone().with_arithmetic(arithmetic);
            let (model, _) = opt(&device, Quant::Q8);
            let mut recorded = started(&device, &model);
            let found: Vec<i32> = (0..6).map(|_| chosen(&model, &mut recorded)).collect();
            assert_eq!(found, expected, "{tuning:?}, {arithmetic:?}");
        }
    }
}

#[test]
fn a_picture_takes_few_launches() {
    let device = common::gpu();
    // The depth of ViT-g.
    let config = json!({
        "hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 39, "num_attention_heads": 4, "image_size": 28, "patch_size": 14,
    });
    let config: Blip2VisionConfig = serde_json::from_value(config).expect("a config");
    let load = |weights: &Weights| Blip2VisionModel::load(&config, weights);
    let (weights, _) = filled(&device, Weights::plan(load).expect("a plan"), Quant::Q8);
    let model = load(&weights).expect("a model");
    let pixels = Tensor::zeros([1, 3, 28, 28], &device.burn);
    let before = counts();
    let output = block_on(model.forward(&pixels, VisionOptions::default())).expect("an encoding");
    let dispatches = (counts() - before).dispatches;
    println!("39 layers: {dispatches} dispatches");
    assert!(dispatches > 39 && dispatches <= 400, "{dispatches} dispatches");
    assert!(block_on(read_floats(output.last_hidden_state)).expect("floats").iter().all(|x| x.is_finite()));
}
