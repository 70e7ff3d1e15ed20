//! A model folder in a real model's shapes, with made-up weights and a made-up tokenizer: for measuring what nobody wants to
//! download. It loads and answers like any other; what it says means nothing.

use std::ops::Range;

use serde_json::{Value, json};

use crate::convert::Tensors;
use crate::error::{Error, Result};
use crate::models::{Blip2Config, Class, TextConfig};
use crate::weights::{Plan, Request, Role};

/// The first of `src` in `convert SRC DST`, where SRC is no folder.
pub const SCHEME: &str = "synthetic:";

/// transformers' `initializer_range`.
const SPREAD: f32 = 0.02;

/// What is made up: a config, and the name that the index gives as the source.
#[derive(Debug, Clone, PartialEq)]
pub struct Shapes {
    pub name: String,
    pub config: Blip2Config,
}

impl Shapes {
    pub const NAMES: [&str; 9] = [
        "blip2-opt-2.7b",
        "blip2-opt-6.7b",
        "blip2-flan-t5-xl",
        "blip2-flan-t5-xxl",
        "blip2-itm-vit-g",
        "blip2-opt-2.7b-coco",
        "blip2-opt-6.7b-coco",
        "blip2-flan-t5-xl-coco",
        "blip2-itm-vit-g-coco",
    ];

    /// The shapes of a model on Hugging Face's hub: its config.json, as far as it says anything. Errors: input-invalid.
    pub fn named(name: &str) -> Result<Self> {
        let (base, image_size) = match name.strip_suffix("-coco") {
            _ if !Self::NAMES.contains(&name) => {
                return Err(Error::input("SRC", format!("{SCHEME}{name} is none of {}", Self::NAMES.join(", "))));
            }
            // What was trained on COCO alone was trained on larger pictures.
            Some(base) => (base, 364),
            None => (name, 224),
        };
        let opt = |hidden_size: usize| {
            json!({
                "architectures": [Class::Blip2ForConditionalGeneration.name()],
                "image_token_index": 50265,
                "text_config": {
                    "model_type": "opt", "hidden_size": hidden_size, "ffn_dim": 4 * hidden_size, "word_embed_proj_dim": hidden_size,
                    "num_hidden_layers": 32, "num_attention_heads": 32, "vocab_size": 50304, "eos_token_id": 50118,
                },
            })
        };
        let t5 = |d_model: usize, d_ff: usize, num_heads: usize| {
            json!({
                "architectures": [Class::Blip2ForConditionalGeneration.name()],
                "image_token_index": 32100,
                "text_config": {
                    "model_type": "t5", "d_model": d_model, "d_ff": d_ff, "d_kv": 64, "num_layers": 24, "num_decoder_layers": 24,
                    "num_heads": num_heads, "feed_forward_proj": "gated-gelu", "dense_act_fn": "gelu", "tie_word_embeddings": false,
                    "vocab_size": 32128, "bos_token_id": 1, "decoder_start_token_id": 0,
                },
            })
        };
        let mut config = match base {
            "blip2-opt-2.7b" => opt(2560),
            "blip2-opt-6.7b" => opt(4096),
            "blip2-flan-t5-xl" => t5(2048, 5120, 32),
            "blip2-flan-t5-xxl" => t5(4096, 10240, 64),
            _ => json!({
                "architectures": [Class::Blip2ForImageTextRetrieval.name()],
                "qformer_config": { "vocab_size": 30523, "use_qformer_text_input": true },
            }),
        };
        config["vision_config"] = json!({ "image_size": image_size });
        let json = serde_json::to_vec(&config).map_err(|error| Error::input("SRC", error))?;
        Ok(Self { name: name.into(), config: Blip2Config::from_json(&json)? })
    }

    /// So many layers of each part at most; of the Q-Former whole groups of those with and those without cross-attention.
    pub fn with_layers(mut self, layers: usize) -> Self {
        let Blip2Config { vision_config, qformer_config, text_config, .. } = &mut self.config;
        vision_config.num_hidden_layers = layers.min(vision_config.num_hidden_layers);
        let groups = layers.next_multiple_of(qformer_config.cross_attention_frequency);
        qformer_config.num_hidden_layers = groups.min(qformer_config.num_hidden_layers);
        match text_config {
            TextConfig::Opt(text) => text.num_hidden_layers = layers.min(text.num_hidden_layers),
            TextConfig::T5(text) => {
                text.num_decoder_layers = Some(layers.min(text.decoder_layers()));
                text.num_layers = layers.min(text.num_layers);
            }
            TextConfig::Other(_) => {}
        }
        self
    }

    /// config.json, the tokenizer's files and those of the processor. Errors: config-invalid.
    pub(super) fn files(&self) -> Result<Vec<(&'static str, Vec<u8>)>> {
        let Blip2Config { num_query_tokens, vision_config, image_token_index, .. } = &self.config;
        let side = vision_config.image_size;
        let preprocessor = json!({
            "image_processor_type": "BlipImageProcessor", "size": { "height": side, "width": side }, "resample": 3,
            "do_convert_rgb": true, "do_resize": true, "do_rescale": true, "do_normalize": true, "rescale_factor": 1.0 / 255.0,
            "image_mean": [0.481_454_66, 0.457_827_5, 0.408_210_73], "image_std": [0.268_629_54, 0.261_302_58, 0.275_777_11],
        });
        let words = Words::of(&self.config);
        let mut files = vec![
            ("config.json", self.config.to_json()?),
            ("preprocessor_config.json", to_vec(&preprocessor)?),
            ("tokenizer.json", to_vec(&words.tokenizer(*image_token_index))?),
            ("tokenizer_config.json", to_vec(&words.config())?),
        ];
        if image_token_index.is_some() {
            files.push(("processor_config.json", to_vec(&json!({ "num_query_tokens": num_query_tokens }))?));
        }
        Ok(files)
    }
}

fn to_vec(value: &Value) -> Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(|error| Error::config("tokenizer.json", error))
}

/// A vocabulary of a real model's size: its special tokens where they are there, and a made-up word for each other id. Text is
/// cut at spaces and punctuation, so that it has about as many tokens as there; every word of it is unknown.
struct Words {
    /// Without the image token.
    count: u32,
    pad: u32,
    unknown: u32,
    /// In front of a text, and behind it.
    first: Option<u32>,
    last: Option<u32>,
    padding_side: &'static str,
}

impl Words {
    fn of(config: &Blip2Config) -> Self {
        let text = &config.qformer_config;
        let count = config.image_token_index.unwrap_or_else(|| u32::try_from(text.vocab_size).unwrap_or(u32::MAX));
        match &config.text_config {
            // A retrieval model's texts are the Q-Former's, whose tokenizer is BERT's.
            _ if text.use_qformer_text_input => Self { count, pad: 0, unknown: 1, first: Some(2), last: Some(3), padding_side: "right" },
            TextConfig::T5(_) => Self { count, pad: 0, unknown: 2, first: None, last: Some(1), padding_side: "right" },
            TextConfig::Opt(_) | TextConfig::Other(_) => {
                Self { count, pad: 1, unknown: 3, first: Some(2), last: None, padding_side: "left" }
            }
        }
    }

    fn name(&self, id: u32) -> String {
        match id {
            _ if id == self.pad => "<pad>".into(),
            _ if id == self.unknown => "<unk>".into(),
            _ if Some(id) == self.first => "<first>".into(),
            _ if Some(id) == self.last => "<last>".into(),
            _ => format!("w{id}"),
        }
    }

    fn special(&self) -> Vec<u32> {
        let mut ids: Vec<u32> = [Some(self.pad), Some(self.unknown), self.first, self.last].into_iter().flatten().collect();
        ids.sort_unstable();
        ids
    }

    fn tokenizer(&self, image_token: Option<u32>) -> Value {
        let added = |id: u32, content: String| json!({ "id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true });
        let mut added_tokens: Vec<Value> = self.special().into_iter().map(|id| added(id, self.name(id))).collect();
        added_tokens.extend(image_token.map(|id| added(id, "<image>".into())));
        let vocab: serde_json::Map<String, Value> = (0..self.count).map(|id| (self.name(id), json!(id))).collect();
        let token = |id: u32| json!({ "SpecialToken": { "id": self.name(id), "type_id": 0 } });
        let text = |place: &str, type_id: u32| json!({ "Sequence": { "id": place, "type_id": type_id } });
        let around =
            |inner: Vec<Value>| -> Vec<Value> { self.first.map(token).into_iter().chain(inner).chain(self.last.map(token)).collect() };
        let ends = [self.first, self.last].into_iter().flatten();
        let special: serde_json::Map<String, Value> =
            ends.map(|id| (self.name(id), json!({ "id": self.name(id), "ids": [id], "tokens": [self.name(id)] }))).collect();
        json!({
            "version": "1.0",
            "truncation": null,
            "padding": null,
            "added_tokens": added_tokens,
            "normalizer": null,
            "pre_tokenizer": { "type": "Whitespace" },
            "post_processor": {
                "type": "TemplateProcessing",
                "single": around(vec![text("A", 0)]),
                "pair": around(vec![text("A", 0), text("B", 1)]),
                "special_tokens": special,
            },
            "decoder": null,
            "model": { "type": "WordLevel", "vocab": vocab, "unk_token": self.name(self.unknown) },
        })
    }

    fn config(&self) -> Value {
        let end = self.last.or(self.first).map(|id| self.name(id));
        json!({
            "pad_token": self.name(self.pad),
            "unk_token": self.name(self.unknown),
            "bos_token": self.first.map(|id| self.name(id)),
            "eos_token": end,
            "padding_side": self.padding_side,
            "clean_up_tokenization_spaces": false,
        })
    }
}

/// Weights by place: any part of any tensor is made on its own, and is the same each time.
pub(super) struct Noise {
    plan: Plan,
}

impl Noise {
    pub fn new(plan: Plan) -> Self {
        Self { plan }
    }

    fn request(&self, key: &str) -> Result<&Request> {
        self.plan.get(key).ok_or_else(|| Error::WeightMissing { key: key.into() })
    }
}

impl Tensors for Noise {
    /// As if they were f32.
    fn bytes(&self, key: &str) -> u64 {
        self.request(key).map_or(0, |request| 4 * request.shape.iter().product::<usize>() as u64)
    }

    fn file(&self, _: &str) -> &str {
        ""
    }

    fn read(&mut self, key: &str, elements: Range<usize>) -> Result<Vec<f32>> {
        let Request { role, shape, .. } = self.request(key)?;
        // A vector called "weight" is a norm's: it scales what has been brought to length 1.
        let middle = if *role == Role::Tensor && shape.len() == 1 && key.ends_with(".weight") { 1.0 } else { 0.0 };
        let seed = seed_of(key);
        Ok(elements.map(|place| middle + SPREAD * normal(seed.wrapping_add(place as u64))).collect())
    }
}

/// FNV-1a.
fn seed_of(key: &str) -> u64 {
    key.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// Nearly a normal distribution of variance 1: the sum of four even ones, of a counter that was stirred (splitmix64).
fn normal(counter: u64) -> f32 {
    let mut bits = counter.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^= bits >> 31;
    let sum = (0..4).map(|part| (bits >> (16 * part)) & 0xffff).sum::<u64>();
    (sum as f32 - 131_070.0) / 37_837.2
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::convert::shards::disk_bytes;
    use crate::models::plan;
    use crate::weights::index::Stage;
    use crate::weights::quant::Quant;
    use crate::weights::rows_and_columns;

    #[test]
    fn the_shapes_are_those_of_the_hub() {
        let parameters = |name: &str| -> f64 {
            let plan = plan(&Shapes::named(name).unwrap().config.to_json().unwrap()).unwrap();
            plan.values().map(|request| request.shape.iter().product::<usize>() as f64).sum::<f64>() / 1e9
        };
        // As the hub counts them, in billions.
        let hub = [("opt-2.7b", 3.74), ("opt-6.7b", 7.75), ("flan-t5-xl", 3.94), ("flan-t5-xxl", 12.23), ("itm-vit-g", 1.17)];
        for (name, expected) in hub.map(|(name, expected)| (format!("blip2-{name}"), expected)) {
            let found = parameters(&name);
            assert!((found - expected).abs() < 0.02, "{name} has {found:.2} billion parameters, expected {expected}");
        }
        let positions = parameters("blip2-opt-2.7b-coco") - parameters("blip2-opt-2.7b");
        assert!((positions * 1e9 - (26.0 * 26.0 - 16.0 * 16.0) * 1408.0).abs() < 1.0);
        for name in ["blip2-opt-1b", "blip2-flan-t5-xxl-coco"] {
            assert_eq!(Shapes::named(name).unwrap_err().code(), "input-invalid");
        }
    }

    /// Bytes of a model folder's tensors.
    fn bytes(plan: &Plan, quant: Quant, vision: Quant) -> u64 {
        let of = |(key, request): (&String, &Request)| {
            let (rows, columns) = rows_and_columns(&request.shape);
            let stage = if Stage::of(key) == Stage::Vision { vision } else { quant };
            (rows * disk_bytes(if request.role == Role::Matrix { stage } else { Quant::F32 }, columns)) as u64
        };
        plan.iter().map(of).sum()
    }

    #[test]
    fn the_guide_has_the_sizes_that_follow_from_the_shapes() {
        /// As `weights::fit` counts: what WebAssembly can address, without room to work.
        const ROOM: u64 = (4 << 30) - (256 << 20);
        let guide = std::fs::read_to_string("docs/converting.md").unwrap();
        let mut missing = vec![];
        for name in Shapes::NAMES {
            let config = Shapes::named(name).unwrap().config;
            let plan = plan(&config.to_json().unwrap()).unwrap();
            let parameters = plan.values().map(|request| request.shape.iter().product::<usize>() as f64).sum::<f64>();
            let choices = [
                ("f32", Quant::F32, Quant::F32),
                ("f16", Quant::F16, Quant::F16),
                ("q8", Quant::Q8, Quant::Q8),
                ("q4, vision q8", Quant::Q4, Quant::Q8),
                ("q4", Quant::Q4, Quant::Q4),
            ];
            let sizes = choices.map(|(name, quant, vision)| (name, bytes(&plan, quant, vision)));
            let fits = sizes.iter().find(|(_, bytes)| *bytes <= ROOM).map_or("none", |(name, _)| name);
            let cache = match (&config.text_config, config.qformer_config.use_qformer_text_input) {
                (_, true) | (TextConfig::Other(_), _) => "–".into(),
                (TextConfig::Opt(text), _) => format!("{:.2} MB", (8 * text.num_hidden_layers * text.hidden_size) as f64 / 1e6),
                (TextConfig::T5(text), _) => format!("{:.2} MB", (8 * text.decoder_layers() * text.num_heads * text.d_kv) as f64 / 1e6),
            };
            let sizes = sizes.map(|(_, bytes)| format!("{:.2} GB", bytes as f64 / 1e9)).join(" | ");
            let row = format!("| {name} | {:.0} M | {sizes} | {cache} | {fits} |", parameters / 1e6);
            if !guide.lines().any(|line| line == row) {
                missing.push(row);
            }
        }
        assert!(missing.is_empty(), "docs/converting.md lacks these rows:\n{}", missing.join("\n"));
    }

    #[test]
    fn a_slice_keeps_the_frequency_of_the_crossing_layers() {
        let Shapes { config, .. } = Shapes::named("blip2-opt-2.7b").unwrap().with_layers(3);
        let TextConfig::Opt(text) = config.text_config else { panic!("OPT") };
        assert_eq!((config.vision_config.num_hidden_layers, config.qformer_config.num_hidden_layers, text.num_hidden_layers), (3, 4, 3));
        let Shapes { config, .. } = Shapes::named("blip2-flan-t5-xl").unwrap().with_layers(100);
        let TextConfig::T5(text) = config.text_config else { panic!("T5") };
        assert_eq!((config.vision_config.num_hidden_layers, config.qformer_config.num_hidden_layers), (39, 12));
        assert_eq!((text.num_layers, text.num_decoder_layers), (24, Some(24)));
    }

    #[test]
    fn noise_is_of_its_place_and_spreads_as_asked() {
        let request = |role, shape: Vec<usize>| Request { role, shape, joined: None };
        let mut noise = Noise::new(
            [
                ("a.weight".to_string(), request(Role::Matrix, vec![100, 100])),
                ("norm.weight".into(), request(Role::Tensor, vec![1000])),
                ("norm.bias".into(), request(Role::Tensor, vec![1000])),
            ]
            .into(),
        );
        let values = noise.read("a.weight", 0..10_000).unwrap();
        assert_eq!(noise.read("a.weight", 77..99).unwrap(), values[77..99]);
        let moments = |values: &[f32]| {
            let mean = values.iter().sum::<f32>() / values.len() as f32;
            (mean, (values.iter().map(|value| (value - mean).powi(2)).sum::<f32>() / values.len() as f32).sqrt())
        };
        for (key, expected) in [("a.weight", 0.0), ("norm.weight", 1.0), ("norm.bias", 0.0)] {
            let (mean, spread) = moments(&noise.read(key, 0..1000).unwrap());
            assert!((mean - expected).abs() < 0.003 && (spread - SPREAD).abs() < 0.002, "{key}: {mean} ± {spread}");
        }
    }
}
