//! Attentions as HF transformers gives them, and the maps that are made of them, on both devices. What is expected is in
//! `tests/fixtures/attention.json`, which `make_attention.py` beside it writes.

mod common;

use blip2_web::device::Device;
use blip2_web::models::{
    self, AttentionMask, Blip2QFormerConfig, Blip2QFormerModel, ImageOptions, LanguageOptions, LanguageOutput, QFormerInputs, TextInputs,
};
use blip2_web::ops::{Bias, DistanceBias, Heads, Rows, attention_weights, read_floats};
use blip2_web::parity::Files;
use blip2_web::processor::{RgbImage, decode};
use blip2_web::tasks::{AttentionMap, Blip2, ForwardInputs, ImageTextRetrieval};
use blip2_web::weights::Weights;
use burn_tensor::{Tensor, TensorData};
use pollster::block_on;
use serde_json::Value;

/// HF's are rounded to 6 digits.
const TOLERANCE: f32 = 2e-4;
const ATTENTIONS: LanguageOptions = LanguageOptions { output_hidden_states: false, output_attentions: true };

fn golden() -> Value {
    let path = common::fixtures().join("attention.json");
    serde_json::from_slice(&std::fs::read(path).expect("attention.json: run tests/fixtures/make_attention.py")).expect("JSON")
}

fn picture(files: &Files, name: &str) -> RgbImage {
    decode(&files[&format!("images/{name}")]).expect("a picture")
}

fn retrieval(device: &Device, files: &Files) -> ImageTextRetrieval {
    let plan = models::plan(&files["config.json"]).expect("a plan");
    let weights = common::unconverted(device, files, "", plan).expect("weights");
    ImageTextRetrieval::load(device, files, &weights).expect("a model")
}

fn pixels(device: &Device, model: &Blip2, images: &[RgbImage]) -> Tensor<4> {
    let pixels = model.processor.image_processor.preprocess(&images.iter().collect::<Vec<_>>()).expect("pixel_values");
    Tensor::from_data(TensorData::new(pixels.values, pixels.shape), &device.burn)
}

/// Rows of ids in a file.
fn ids(value: &Value) -> Vec<Vec<u32>> {
    serde_json::from_value(value.clone()).expect("rows of ids")
}

/// All numbers of nested lists, in order.
fn flat(value: &Value) -> Vec<f32> {
    match value {
        Value::Array(values) => values.iter().flat_map(flat).collect(),
        value => vec![value.as_f64().expect("a number") as f32],
    }
}

fn assert_close(name: &str, found: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(found.len(), expected.len(), "{name}");
    let off = found.iter().zip(expected).position(|(found, expected)| found.is_nan() || (found - expected).abs() > tolerance);
    if let Some(place) = off {
        panic!("{name} at {place}: {} found, {} expected", found[place], expected[place]);
    }
}

/// One row's [layers][n][m], the mean over heads; every row of weights of every head sums to 1.
fn mean_over_heads(name: &str, attentions: &[Tensor<4>], row: usize) -> Vec<f32> {
    let mut means = vec![];
    for (layer, attention) in attentions.iter().enumerate() {
        let [rows, heads, n, m] = attention.dims();
        let values = block_on(read_floats(attention.clone())).expect("a layer's weights");
        assert_eq!(values.len(), rows * heads * n * m);
        for (place, weights) in values.chunks_exact(m).enumerate() {
            let sum: f32 = weights.iter().sum();
            assert!((sum - 1.0).abs() < 1e-4, "{name} {layer}: row {place} sums to {sum}");
        }
        let one = &values[row * heads * n * m..(row + 1) * heads * n * m];
        means.extend((0..n * m).map(|place| (0..heads).map(|head| one[head * n * m + place]).sum::<f32>() / heads as f32));
    }
    means
}

fn is_hf(name: &str, attentions: &[Tensor<4>], expected: &Value, row: usize) {
    assert_eq!(attentions.len(), expected.as_array().expect(name).len(), "{name}: layers");
    assert_close(name, &mean_over_heads(name, attentions, row), &flat(expected), TOLERANCE);
}

/// What HF's forward over two prompts of two lengths has, the shorter one padded on the left.
fn forward_is_hf(device: &Device, name: &str) -> (LanguageOutput, Vec<Vec<u32>>) {
    let golden = &golden()[name];
    let (expected, row) = (&golden["forward_left"], golden["row"].as_u64().expect("a row") as usize);
    let files = common::files(name);
    let model = common::load(device, &files).expect("a model");
    let images: Vec<RgbImage> =
        golden["images"].as_array().expect("images").iter().map(|name| picture(&files, name.as_str().expect("a name"))).collect();
    let options = ImageOptions { output_vision_attentions: true, output_qformer_attentions: true, ..ImageOptions::default() };
    let seen = block_on(model.captioner.model.image(&pixels(device, &model, &images), options)).expect("features");
    assert!(seen.vision.hidden_states.is_empty() && seen.qformer.hidden_states.is_empty());
    is_hf("vision_attentions", &seen.vision.attentions, &expected["vision_attentions"], row);
    is_hf("qformer_attentions", &seen.qformer.attentions, &expected["qformer_attentions"], row);
    is_hf("qformer_cross_attentions", &seen.qformer.cross_attentions, &expected["qformer_cross_attentions"], row);

    let tensors = safetensors::SafeTensors::deserialize(&files["expected.safetensors"]).expect("expected.safetensors");
    let table = |key: &str| {
        let view = tensors.tensor(&format!("forward_left.{key}")).expect(key);
        let row = view.shape()[1];
        let words: Vec<u32> =
            view.data().chunks_exact(8).map(|bytes| u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])).collect();
        words.chunks_exact(row).map(<[u32]>::to_vec).collect::<Vec<_>>()
    };
    let (input_ids, mask) = (table("input_ids"), table("attention_mask"));
    let decoder_input_ids = model.captioner.model.language_model.is_encoder_decoder().then(|| table("decoder_input_ids"));
    let inputs = ForwardInputs {
        input_ids: &input_ids,
        attention_mask: Some(&mask),
        decoder_input_ids: decoder_input_ids.as_deref(),
        labels: None,
        options: ATTENTIONS,
    };
    let output = block_on(model.captioner.forward(&seen.language_projection, inputs)).expect("a forward").language_model;
    assert!(output.hidden_states.is_empty(), "nobody asked for hidden states");
    let plain = ForwardInputs { options: LanguageOptions::default(), ..inputs };
    let plain = block_on(model.captioner.forward(&seen.language_projection, plain)).expect("a forward").language_model;
    assert!(plain.attentions.is_empty() && plain.cross_attentions.is_empty() && plain.hidden_states.is_empty());
    let logits = |output: &LanguageOutput| block_on(read_floats(output.logits.clone())).expect("logits");
    assert_close("logits", &logits(&output), &logits(&plain), 1e-6);
    (output, mask)
}

fn opt_is_hf(device: &Device) {
    let (output, mask) = forward_is_hf(device, "opt");
    let golden = &golden()["opt"];
    let row = golden["row"].as_u64().expect("a row") as usize;
    is_hf("opt attentions", &output.attentions, &golden["forward_left"]["attentions"], row);
    assert!(output.cross_attentions.is_empty());
    for attention in output.attentions {
        let [_, heads, n, _] = attention.dims();
        let weights = block_on(read_floats(attention)).expect("a layer's weights");
        for (place, weight) in weights.iter().enumerate() {
            let (key, query, row) = (place % n, place / n % n, place / (n * n * heads));
            assert!(*weight == 0.0 || (key <= query && mask[row][key] == 1), "row {row}: {query} attends to {key} with {weight}");
        }
    }
    // Padding in front of everything: what has nothing to attend to is an even mean.
    let files = common::files("opt");
    let model = common::load(device, &files).expect("a model");
    let padded = &golden["padded"];
    let (input_ids, mask) = (ids(&padded["input_ids"]), ids(&padded["attention_mask"]));
    let text = TextInputs { input_ids: &input_ids, attention_mask: &mask, decoder_input_ids: None, options: ATTENTIONS };
    let output = block_on(model.captioner.model.get_text_features(device, text)).expect("a forward").language_model;
    is_hf("opt padded", &output.attentions, &padded["attentions"], row);
}

fn t5_is_hf(device: &Device) {
    let (output, mask) = forward_is_hf(device, "t5");
    let golden = &golden()["t5"];
    let (expected, row) = (&golden["forward_left"], golden["row"].as_u64().expect("a row") as usize);
    let encoder = output.encoder.expect("an encoder");
    is_hf("t5 encoder_attentions", &encoder.attentions, &expected["encoder_attentions"], row);
    is_hf("t5 decoder_attentions", &output.attentions, &expected["decoder_attentions"], row);
    is_hf("t5 cross_attentions", &output.cross_attentions, &expected["cross_attentions"], row);
    for attention in encoder.attentions.into_iter().chain(output.cross_attentions) {
        let [_, heads, queries, keys] = attention.dims();
        let weights = block_on(read_floats(attention)).expect("a layer's weights");
        for (place, weight) in weights.iter().enumerate() {
            let (key, row) = (place % keys, place / (keys * queries * heads));
            assert!(*weight == 0.0 || mask[row][key] == 1, "row {row}: padding {key} is attended with {weight}");
        }
    }
}

fn itm_is_hf(device: &Device) {
    let golden = &golden()["itm"];
    let row = golden["row"].as_u64().expect("a row") as usize;
    let files = common::files("itm");
    let model = retrieval(device, &files);
    let image = picture(&files, golden["image"].as_str().expect("a name"));
    let image = block_on(model.encode(&image)).expect("an image");
    let states = block_on(model.last_hidden_state(&image)).expect("the vision tower's");
    let texts: Vec<&str> = golden["texts"].as_array().expect("texts").iter().map(|text| text.as_str().expect("a text")).collect();
    let text = model.text(&texts).expect("ids");
    let states = Tensor::cat(vec![states; texts.len()], 0);
    let joint = block_on(model.model.itm_attentions(&states, &text.input_ids, &text.attention_mask)).expect("a pass");
    is_hf("itm attentions", &joint.attentions, &golden["itm"]["attentions"], row);
    is_hf("itm cross_attentions", &joint.cross_attentions, &golden["itm"]["cross_attentions"], row);
}

/// The maps of a fixture's cases, each held to what HF's attentions make.
fn maps_are_hf(device: &Device, name: &str) -> Vec<AttentionMap> {
    let golden = golden();
    let files = common::files(name);
    let cases = golden[name]["map"].as_array().expect("maps").iter();
    let field = |case: &Value, field: &str| case[field].as_str().expect(field).to_string();
    let maps: Vec<AttentionMap> = if name == "itm" {
        let model = retrieval(device, &files);
        let map = |case: &Value| {
            let image = block_on(model.encode(&picture(&files, &field(case, "image")))).expect("an image");
            block_on(model.attention(&image, &field(case, "text"))).expect("a map")
        };
        cases.clone().map(map).collect()
    } else {
        let model = common::load(device, &files).expect("a model");
        let map = |case: &Value| {
            let image = picture(&files, &field(case, "image"));
            block_on(model.attention(&image, case["prompt"].as_str(), &field(case, "text"))).expect("a map")
        };
        cases.clone().map(map).collect()
    };
    for (map, case) in maps.iter().zip(cases) {
        assert_eq!(map.tokens.concat(), field(case, "decoded"), "{name}");
        assert_eq!(map.tokens.len(), case["queries"].as_array().expect("queries").len(), "{name}");
        assert_eq!((map.rows, map.columns, map.num_queries), (4, 4, 8), "{name}");
        for (what, values, width) in [("queries", &map.queries, 8), ("patches", &map.patches, 16), ("map", &map.map, 16)] {
            assert_close(&format!("{name} {what}"), values, &flat(&case[what]), TOLERANCE);
            for row in values.chunks(width) {
                assert_eq!(row.len(), width, "{name} {what}");
                assert!((row.iter().sum::<f32>() - 1.0).abs() < 1e-5, "{name} {what}: {row:?}");
            }
        }
    }
    maps
}

#[test]
fn opt_attends_as_in_hf() {
    opt_is_hf(&Device::cpu());
    opt_is_hf(&common::gpu());
}

#[test]
fn t5_attends_as_in_hf() {
    t5_is_hf(&Device::cpu());
    t5_is_hf(&common::gpu());
}

#[test]
fn queries_and_text_attend_to_each_other_as_in_hf() {
    itm_is_hf(&Device::cpu());
    itm_is_hf(&common::gpu());
}

#[test]
fn maps_are_made_of_hf_attentions_and_are_the_same_on_both_devices() {
    for name in ["opt", "t5", "itm"] {
        let (cpu, gpu) = (maps_are_hf(&Device::cpu(), name), maps_are_hf(&common::gpu(), name));
        for (cpu, gpu) in cpu.iter().zip(&gpu) {
            assert_eq!(cpu.tokens, gpu.tokens);
            assert_close(&format!("{name} on the GPU"), &gpu.map, &cpu.map, 1e-4);
        }
    }
}

#[test]
fn other_texts_and_other_pictures_have_other_maps() {
    let device = Device::cpu();
    let far = |a: &AttentionMap, b: &AttentionMap| a.map.iter().zip(&b.map).any(|(a, b)| (a - b).abs() > 1e-4);
    for name in ["opt", "t5"] {
        let files = common::files(name);
        let model = common::load(&device, &files).expect("a model");
        let map = |image: &str, prompt, text: &str| block_on(model.attention(&picture(&files, image), prompt, text)).expect("a map");
        let first = map("photo.png", None, "two cats");
        // T5's decoder says its first token before it has read any.
        let others =
            [map("photo.png", None, "a red car"), map("photo.png", Some("a photo of"), "two cats"), map("rgba.png", None, "two cats")];
        for (place, other) in others.iter().enumerate() {
            assert!(far(&first, other), "{name}: {place}");
        }
        assert_eq!(first, map("photo.png", None, "two cats"));
    }
    let files = common::files("itm");
    let model = retrieval(&device, &files);
    let [photo, rgba] = ["photo.png", "rgba.png"].map(|name| block_on(model.encode(&picture(&files, name))).expect("an image"));
    let map = |image, text| block_on(model.attention(image, text)).expect("a map");
    let first = map(&photo, "two cats");
    assert!(far(&first, &map(&photo, "the beach")) && far(&first, &map(&rgba, "two cats")));
}

#[test]
fn a_piece_of_a_character_waits_for_the_rest_of_it() {
    let files = common::files("opt");
    let model = common::load(&Device::cpu(), &files).expect("a model");
    let map = block_on(model.attention(&picture(&files, "photo.png"), None, "a café")).expect("a map");
    assert_eq!(map.tokens.concat(), "a café");
    assert_eq!(map.tokens.last().map(String::as_str), Some("é"), "{:?}", map.tokens);
    assert_eq!(map.tokens[map.tokens.len() - 2], "", "{:?}", map.tokens);
    assert_eq!(map.map.len(), map.tokens.len() * 16);
}

#[test]
fn what_cannot_be_shown_is_refused() {
    let device = Device::cpu();
    let argument = |error: blip2_web::Error| match error {
        blip2_web::Error::InputInvalid { argument, .. } => argument,
        other => panic!("{other}"),
    };
    for name in ["opt", "t5"] {
        let files = common::files(name);
        let model = common::load(&device, &files).expect("a model");
        let image = picture(&files, "photo.png");
        assert_eq!(argument(block_on(model.attention(&image, None, "")).unwrap_err()), "text", "{name}");
        if name == "opt" {
            assert_eq!(argument(block_on(model.attention(&image, None, &"a dog ".repeat(60))).unwrap_err()), "text");
        }
    }
    let files = common::files("itm");
    let model = retrieval(&device, &files);
    let image = block_on(model.encode(&picture(&files, "photo.png"))).expect("an image");
    assert_eq!(argument(block_on(model.attention(&image, " ")).unwrap_err()), "text");
    assert_eq!(block_on(model.attention(&image, &"dog ".repeat(60))).unwrap_err().code(), "input-invalid");
}

#[test]
fn an_image_that_had_to_give_up_its_states_is_looked_at_again() {
    let files = common::files("itm");
    let model = retrieval(&Device::cpu(), &files);
    let image = block_on(model.encode(&picture(&files, "photo.png"))).expect("an image");
    let before = block_on(model.attention(&image, "a dog")).expect("a map");
    let match_before = block_on(model.itm(&image, &["a dog"])).expect("a match");
    model.set_budget(0);
    assert!(!image.is_whole());
    assert_eq!(block_on(model.attention(&image, "a dog")).expect("a map"), before);
    assert_eq!(block_on(model.itm(&image, &["a dog"])).expect("a match"), match_before);
}

/// softmax(q·kᵀ·scale + bias + value of the distance) in plain loops, [B, heads, S, T].
fn plain_loops(batch: usize, [queries, keys]: [usize; 2], heads: Heads, [q, k, dense, distance]: [&[f32]; 4], reach: usize) -> Vec<f32> {
    let (width, dim) = (heads.count * heads.head_dim, heads.head_dim);
    let mut weights = vec![];
    for b in 0..batch {
        for head in 0..heads.count {
            for s in 0..queries {
                let score = |t: usize| {
                    let at = |row: usize, d: usize| row * width + head * dim + d;
                    let dot: f32 = (0..dim).map(|d| q[at(b * queries + s, d)] * k[at(b * keys + t, d)]).sum();
                    let far = (t as i64 - s as i64).clamp(-(reach as i64), reach as i64) + reach as i64;
                    dot * heads.scale + dense[(b * queries + s) * keys + t] + distance[far as usize * heads.count + head]
                };
                let highest = (0..keys).map(score).fold(f32::MIN, f32::max);
                let total: f32 = (0..keys).map(|t| (score(t) - highest).exp()).sum();
                weights.extend((0..keys).map(|t| (score(t) - highest).exp() / total));
            }
        }
    }
    weights
}

#[test]
fn weights_with_a_mask_and_a_bias_by_distance_are_those_of_plain_loops() {
    let (batch, reach) = (2, 3);
    let heads = Heads { count: 3, head_dim: 5, scale: 0.6 };
    let values = |count: usize| (0..count).map(|place| ((place * 37 % 23) as f32 - 11.0) / 8.0).collect::<Vec<f32>>();
    for device in [Device::cpu(), common::gpu()] {
        for [queries, keys] in [[1, 1], [6, 6], [3, 14]] {
            let (q, k) = (values(batch * queries * 15), values(batch * keys * 15));
            let distance = values((2 * reach + 1) * heads.count);
            // The second row of the batch is causal, and has padding in front.
            let hidden = |b: usize, s: usize, t: usize| b == 1 && (t > s || t == 0);
            let places = (0..batch * queries * keys).map(|place| (place / (queries * keys), place / keys % queries, place % keys));
            let dense: Vec<f32> = places.clone().map(|(b, s, t)| if hidden(b, s, t) { f32::MIN } else { 0.0 }).collect();
            let expected = plain_loops(batch, [queries, keys], heads, [&q, &k, &dense, &distance], reach);
            let rows = |values: &[f32]| -> Tensor<2> {
                Tensor::from_data(TensorData::new(values.to_vec(), [values.len() / 15, 15]), &device.burn)
            };
            let (q, k) = (rows(&q), rows(&k));
            let dense: Tensor<3> = Tensor::from_data(TensorData::new(dense, [batch, queries, keys]), &device.burn);
            let table = TensorData::new(distance, [2 * reach + 1, heads.count]);
            let by_distance = DistanceBias { values: Tensor::from_data(table, &device.burn), reach };
            let bias = Bias { dense: Some(&dense), by_distance: Some(&by_distance) };
            let found = attention_weights(batch, Rows::whole(&q), Rows::whole(&k), heads, bias).expect("weights");
            assert_eq!(found.dims(), [batch, heads.count, queries, keys]);
            let found = block_on(read_floats(found)).expect("weights");
            let name = format!("{queries}x{keys} on {}", device.adapter.name);
            assert_close(&name, &found, &expected, 1e-5);
            // Where a query has any key at all, a hidden one has nothing.
            for (b, s, t) in places.filter(|(b, s, t)| hidden(*b, *s, *t) && *s > 0) {
                for head in 0..heads.count {
                    assert_eq!(found[((b * heads.count + head) * queries + s) * keys + t], 0.0, "{name}: {b} {s} {t}");
                }
            }
        }
    }
}

/// sin(k), in order: what the generator of the golden file makes its inputs of.
fn wave<const D: usize>(device: &Device, shape: [usize; D]) -> Tensor<D> {
    let values: Vec<f32> = (0..shape.iter().product::<usize>()).map(|k| (k as f64).sin() as f32).collect();
    Tensor::from_data(TensorData::new(values, shape), &device.burn)
}

#[test]
fn queries_and_text_see_what_masks_of_two_and_of_three_dimensions_leave_them() {
    let golden = golden();
    let files = common::files("itm");
    for device in [Device::cpu(), common::gpu()] {
        let config = Blip2QFormerConfig::from_json(&files["config.json"]).expect("a config");
        let load = |weights: &Weights| Blip2QFormerModel::load(&config, &weights.at("qformer"));
        let weights = common::unconverted(&device, &files, "", Weights::plan(load).expect("a plan")).expect("weights");
        let model = load(&weights).expect("a Q-Former");
        let query_embeds = wave(&device, [2, 5, config.hidden_size]);
        let seen = wave(&device, [2, 7, config.encoder_hidden_size]);
        let cases = golden["qformer"].as_array().expect("cases");
        assert_eq!(cases.len(), 9);
        for (place, case) in cases.iter().enumerate() {
            let mask = &case["attention_mask"];
            let full: Option<Vec<Vec<Vec<u32>>>> = serde_json::from_value(mask.clone()).ok();
            let attention_mask = match full {
                _ if mask.is_null() => None,
                Some(full) => Some(AttentionMask::Full(full)),
                None => Some(AttentionMask::Padding(ids(mask))),
            };
            let query_length = case["query_length"].as_u64().expect("a length") as usize;
            let inputs = QFormerInputs {
                query_length,
                attention_mask,
                encoder_hidden_states: (query_length > 0).then_some(&seen),
                ..QFormerInputs::new(&query_embeds)
            };
            let found = block_on(model.forward(&inputs)).expect("a pass").last_hidden_state;
            let found = block_on(read_floats(found)).expect("floats");
            let name = format!("case {place} on {}", device.adapter.name);
            assert_close(&name, &found, &flat(&case["last_hidden_state"]), 5e-4);
        }
    }
}
