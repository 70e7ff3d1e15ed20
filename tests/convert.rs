//! Checkpoints to model folders: what goes in comes out, and what is wrong is named and leaves nothing behind.

mod common;

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use blip2_web::Error;
use blip2_web::convert::{Options, Shapes, convert, synthesize};
use blip2_web::device::Device;
use blip2_web::generation::GenerationConfig;
use blip2_web::models::{self, Class, TokenIds};
use blip2_web::processor::load_image;
use blip2_web::tasks::{Blip2, ImageTextRetrieval};
use blip2_web::weights::index::{INDEX_FILE, Index, Stage};
use blip2_web::weights::quant::Quant;
use blip2_web::weights::{Weights, shard};

/// A folder of this test's own, gone when the test is over.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("blip2-web-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).expect("a folder");
        Self(path)
    }

    /// A fixture's files, copied so that they can be spoiled.
    fn source(&self, fixture: &str) -> PathBuf {
        let to = self.0.join("src");
        std::fs::create_dir_all(&to).expect("a folder");
        let files = common::folder(&common::fixtures().join(fixture));
        for (name, bytes) in files.iter().filter(|(name, _)| !name.contains('/')) {
            std::fs::write(to.join(name), bytes).expect("a file");
        }
        to
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn index(folder: &Path) -> Index {
    Index::parse(&std::fs::read(folder.join(INDEX_FILE)).expect("an index")).expect("a valid index")
}

#[test]
fn f32_folders_hold_the_checkpoint_bit_for_bit() {
    for fixture in ["opt", "opt_odd", "opt_odd2", "t5", "t5_tied", "itm", "itm/vision_with_projection"] {
        let scratch = Scratch::new(&format!("exact-{}", fixture.replace('/', "-")));
        let dst = scratch.0.join("dst");
        convert(&common::fixtures().join(fixture), &dst, &Options::new(Quant::F32), &mut ()).expect("a conversion");
        let index = index(&dst);
        let files = common::folder(&dst);
        for (key, (shape, values)) in common::checkpoint(&common::folder(&common::fixtures().join(fixture)), "") {
            let entry = &index.tensors[&key];
            assert_eq!(entry.shape, shape, "{key}");
            let shard = safetensors::SafeTensors::deserialize(&files[&entry.parts[0].file]).expect("a shard");
            let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
            assert_eq!(shard.tensor(&entry.parts[0].key).expect("the tensor").data(), bytes, "{key}");
        }
    }
}

#[test]
fn every_folder_loads_and_nothing_in_it_is_unused() {
    for quant in Quant::ALL {
        let scratch = Scratch::new(&format!("loads-{quant}"));
        let dst = scratch.0.join("dst");
        // Shards so small that most tensors are split by rows.
        let options = Options { shard_bytes: 3000, ..Options::new(quant) };
        let summary = convert(&common::fixtures().join("opt_odd"), &dst, &options, &mut ()).expect("a conversion");
        assert!(summary.stages.iter().all(|stage| stage.quant == quant && stage.rms_error() < 0.12), "{summary}");
        let (index, files) = (index(&dst), common::folder(&dst));
        assert!(index.tensors.values().any(|tensor| tensor.parts.len() > 2), "nothing was split");
        for (name, file) in index.shards() {
            let parts: Vec<_> = index.tensors.values().flat_map(|tensor| &tensor.parts).filter(|part| part.file == name).collect();
            let one_row = parts.len() == 1 && parts[0].rows[1] - parts[0].rows[0] == 1;
            assert!(file.bytes <= 3000 || one_row, "{name} has {} bytes", file.bytes);
            assert!(
                index.tensors.iter().all(|(key, tensor)| {
                    tensor.parts.iter().filter(|part| part.file == name).all(|_| Some(Stage::of(key)) == file.stage)
                })
            );
        }
        let weights = Weights::new(&Device::cpu(), models::plan(&files["config.json"]).expect("a plan"));
        // Shards come in any order.
        for (name, _) in index.shards().into_iter().rev() {
            shard::push(&weights, &index, name, &files[name]).expect("a shard");
        }
        let config = models::Blip2Config::from_json(&files["config.json"]).expect("a config");
        models::Blip2Model::load(&config, &weights).expect("a model");
        assert_eq!(weights.unused(), Vec::<String>::new());
    }
}

#[test]
fn the_same_checkpoint_gives_the_same_bytes() {
    let scratch = Scratch::new("same");
    let folders = ["a", "b"].map(|name| {
        let dst = scratch.0.join(name);
        convert(&common::fixtures().join("opt"), &dst, &Options::new(Quant::Q4), &mut ()).expect("a conversion");
        common::folder(&dst)
    });
    assert!(folders[0] == folders[1]);
}

#[test]
fn made_up_weights_load_and_answer() {
    for fixture in ["opt", "t5"] {
        let scratch = Scratch::new(&format!("synthetic-{fixture}"));
        let dst = scratch.0.join("dst");
        let json = std::fs::read(common::fixtures().join(fixture).join("config.json")).expect("a config");
        let shapes = Shapes { name: fixture.into(), config: models::Blip2Config::from_json(&json).expect("a config") };
        let options = Options { shard_bytes: 20_000, ..Options::new(Quant::Q8) };
        let summary = synthesize(&shapes, &dst, &options, &mut ()).expect("a folder");
        assert_eq!(index(&dst).source, Some(format!("synthetic:{fixture}")));
        assert!(summary.files > 10, "{summary}");

        let model = Blip2::from_pretrained(&Device::cpu(), &dst).expect("a model");
        let picture = load_image(&std::fs::read("demo/samples/01-bee.png").expect("a picture")).expect("an image");
        let eight = GenerationConfig { max_new_tokens: Some(8), eos_token_id: Some(TokenIds::Many(vec![])), ..GenerationConfig::default() };
        let answer = pollster::block_on(async {
            let features = model.encode(&picture).await?;
            model.generate(&features, Some("Question: what is this? Answer:"), &eight, &mut |_| ControlFlow::Continue(())).await
        });
        let answer = answer.expect("an answer");
        assert_eq!(answer.timings.tokens, 8);
        assert!(!answer.text.is_empty(), "{answer:?}");
    }
}

#[test]
fn made_up_weights_are_the_same_each_time() {
    let scratch = Scratch::new("synthetic-same");
    let json = std::fs::read(common::fixtures().join("itm").join("config.json")).expect("a config");
    let shapes = Shapes { name: "itm".into(), config: models::Blip2Config::from_json(&json).expect("a config") };
    let folders = ["a", "b"].map(|name| {
        let dst = scratch.0.join(name);
        synthesize(&shapes, &dst, &Options::new(Quant::Q4), &mut ()).expect("a folder");
        common::folder(&dst)
    });
    assert!(folders[0] == folders[1]);
    let error = synthesize(&shapes, &scratch.0.join("a"), &Options::new(Quant::Q4), &mut ()).expect_err("a folder that is there");
    assert_eq!(error.code(), "file");
    let loaded = ImageTextRetrieval::from_pretrained(&Device::cpu(), scratch.0.join("b")).map(|_| ());
    assert_eq!(loaded, Ok(()));
}

/// Spoils a copy of a fixture, and says what `convert` makes of it.
fn refused(name: &str, spoil: impl FnOnce(&Path)) -> Error {
    let scratch = Scratch::new(name);
    let (src, dst) = (scratch.source("opt"), scratch.0.join("dst"));
    spoil(&src);
    let error = convert(&src, &dst, &Options::new(Quant::Q8), &mut ()).expect_err("a refusal");
    let left: Vec<_> = std::fs::read_dir(&scratch.0).expect("a folder").map(|entry| entry.expect("an entry").file_name()).collect();
    assert_eq!(left, ["src"], "{name} left something behind");
    error
}

fn rewrite(src: &Path, change: impl Fn(&str, &mut Vec<usize>, &mut Vec<f32>) -> bool) {
    let tensors = common::checkpoint(&common::folder(src), "");
    let changed = tensors
        .into_iter()
        .filter_map(|(key, (mut shape, mut values))| change(&key, &mut shape, &mut values).then_some((key, (shape, values))));
    save(src, changed);
}

/// One safetensors file of f32.
fn save(folder: &Path, tensors: impl IntoIterator<Item = (String, (Vec<usize>, Vec<f32>))>) {
    let tensors: Vec<(String, Vec<usize>, Vec<u8>)> = tensors
        .into_iter()
        .map(|(key, (shape, values))| (key, shape, values.iter().flat_map(|value| value.to_le_bytes()).collect()))
        .collect();
    let views = tensors.iter().map(|(key, shape, bytes)| {
        (key.as_str(), safetensors::tensor::TensorView::new(safetensors::Dtype::F32, shape.clone(), bytes).expect("a view"))
    });
    let bytes = safetensors::tensor::serialize(views, None).expect("a file");
    std::fs::write(folder.join("model.safetensors"), bytes).expect("a file");
}

const KEY: &str = "qformer.encoder.layer.0.attention.attention.key.weight";

#[test]
fn a_truncated_file_is_named() {
    let error = refused("truncated", |src| {
        let path = src.join("model.safetensors");
        let bytes = std::fs::read(&path).expect("a file");
        std::fs::write(&path, &bytes[..bytes.len() - 1000]).expect("a file");
    });
    assert!(matches!(&error, Error::WeightInvalid { file, key, .. } if file == "model.safetensors" && !key.is_empty()), "{error}");
}

#[test]
fn a_header_that_lies_is_named() {
    for header in [u64::MAX, 1 << 40, 3] {
        let error = refused(&format!("header-{header}"), |src| {
            let path = src.join("model.safetensors");
            let mut bytes = std::fs::read(&path).expect("a file");
            bytes[..8].copy_from_slice(&header.to_le_bytes());
            std::fs::write(&path, bytes).expect("a file");
        });
        assert!(matches!(&error, Error::WeightInvalid { file, .. } if file == "model.safetensors"), "{error}");
    }
}

#[test]
fn a_wrong_shape_a_missing_tensor_and_an_unknown_one_are_named() {
    let error = refused("shape", |src| {
        rewrite(src, |key, shape, _| {
            if key == KEY {
                shape.reverse();
                shape.insert(0, 1);
            }
            true
        });
    });
    assert!(matches!(&error, Error::WeightShape { key, .. } if key == KEY), "{error}");
    let error = refused("missing", |src| rewrite(src, |key, _, _| key != KEY));
    assert_eq!(error, Error::WeightMissing { key: KEY.into() });
    let error = refused("unknown", |src| {
        let path = src.join("config.json");
        let config = std::fs::read_to_string(&path).expect("a config").replace("\"num_hidden_layers\": 4", "\"num_hidden_layers\": 3");
        std::fs::write(path, config).expect("a config");
    });
    assert!(matches!(&error, Error::ModelUnsupported { what, .. } if what.contains("qformer.encoder.layer.3")), "{error}");
}

/// Stages in the order in which their shards are wanted.
fn stages(index: &Index) -> Vec<Stage> {
    let mut stages: Vec<Stage> = index.shards().into_iter().filter_map(|(_, file)| file.stage).collect();
    stages.dedup();
    stages
}

fn shards(index: &Index, stage: Stage) -> Vec<String> {
    let shards = index.shards().into_iter().filter(|(_, file)| file.stage == Some(stage));
    shards.map(|(name, _)| name.to_string()).collect()
}

/// The folder's own config asks for exactly what is in it.
fn holds_what_its_config_asks_for(folder: &Path, index: &Index) {
    let plan = models::plan(&std::fs::read(folder.join("config.json")).expect("a config")).expect("a plan");
    assert!(plan.keys().eq(index.tensors.keys()), "{}", folder.display());
}

#[test]
fn every_class_of_checkpoint_converts_in_the_order_of_its_stages() {
    const IMAGE: [Stage; 3] = [Stage::Vision, Stage::Qformer, Stage::Projection];
    for (fixture, expected) in [
        ("t5", &Stage::ALL[..]),
        ("t5_tied", &Stage::ALL),
        ("itm", &IMAGE),
        ("itm/text_with_projection", &IMAGE[1..]),
        ("itm/vision_with_projection", &IMAGE),
    ] {
        for quant in [Quant::Q8, Quant::F32] {
            let scratch = Scratch::new(&format!("class-{}-{quant}", fixture.replace('/', "-")));
            let dst = scratch.0.join("dst");
            let summary = convert(&common::fixtures().join(fixture), &dst, &Options::new(quant), &mut ()).expect("a conversion");
            let index = index(&dst);
            assert_eq!(stages(&index), expected, "{fixture}");
            assert!(index.quantization.keys().eq(expected), "{fixture}: {:?}", index.quantization);
            holds_what_its_config_asks_for(&dst, &index);
            let spare = fixture.ends_with("text_with_projection");
            assert!(summary.ignored.iter().all(|key| spare && key == "query_tokens"), "{fixture}: {:?}", summary.ignored);
        }
    }
}

#[test]
fn a_class_takes_its_part_of_a_larger_checkpoint_and_shares_its_shards() {
    for (fixture, classes) in [
        ("opt", &[Class::Blip2Model, Class::Blip2VisionModel, Class::Blip2QFormerModel][..]),
        (
            "itm",
            &[
                Class::Blip2VisionModelWithProjection,
                Class::Blip2TextModelWithProjection,
                Class::Blip2VisionModel,
                Class::Blip2QFormerModel,
            ],
        ),
    ] {
        let scratch = Scratch::new(&format!("as-{fixture}"));
        let (src, whole) = (common::fixtures().join(fixture), scratch.0.join("whole"));
        convert(&src, &whole, &Options::new(Quant::Q8), &mut ()).expect("a conversion");
        let whole_index = index(&whole);
        for class in classes {
            let dst = scratch.0.join(class.name());
            let options = Options { class: Some(*class), ..Options::new(Quant::Q8) };
            let summary = convert(&src, &dst, &options, &mut ()).expect("a conversion");
            let part = index(&dst);
            holds_what_its_config_asks_for(&dst, &part);
            assert_eq!(part.tensors.len() + summary.ignored.len(), whole_index.tensors.len(), "{class}");
            if stages(&part).contains(&Stage::Vision) {
                assert_eq!(shards(&part, Stage::Vision), shards(&whole_index, Stage::Vision), "{class}");
            }
            let config = |folder: &Path| -> serde_json::Value {
                serde_json::from_slice(&std::fs::read(folder.join("config.json")).expect("a config")).expect("JSON")
            };
            let mut expected = config(&src);
            expected["architectures"] = serde_json::json!([class.name()]);
            assert_eq!(config(&dst), expected, "{class}");
        }
    }
}

#[test]
fn a_part_that_transformers_saved_has_the_shards_of_one_that_is_taken() {
    let scratch = Scratch::new("taken");
    let folders = [("itm", Some(Class::Blip2VisionModelWithProjection)), ("itm/vision_with_projection", None)].map(|(fixture, class)| {
        let dst = scratch.0.join(fixture.replace('/', "-"));
        let options = Options { class, ..Options::new(Quant::Q4) };
        convert(&common::fixtures().join(fixture), &dst, &options, &mut ()).expect("a conversion");
        index(&dst).weight_map
    });
    assert_eq!(folders[0], folders[1]);
}

#[test]
fn a_class_takes_no_more_than_the_checkpoint_has_and_hides_nothing_unknown() {
    let scratch = Scratch::new("as-refused");
    let (src, dst) = (scratch.source("itm"), scratch.0.join("dst"));
    let options = |class| Options { class: Some(class), ..Options::new(Quant::Q8) };
    let error = convert(&src, &dst, &options(Class::Blip2ForConditionalGeneration), &mut ()).expect_err("a refusal");
    assert_eq!(error.code(), "weight-missing", "{error}");
    // Neither the vision tower nor the class that was saved has a fourth layer of the Q-Former by this config.
    let path = src.join("config.json");
    let config = std::fs::read_to_string(&path).expect("a config").replace("\"num_hidden_layers\": 4", "\"num_hidden_layers\": 3");
    std::fs::write(path, config).expect("a config");
    let error = convert(&src, &dst, &options(Class::Blip2VisionModel), &mut ()).expect_err("a refusal");
    assert!(matches!(&error, Error::ModelUnsupported { what, .. } if what.contains("qformer.encoder.layer.3")), "{error}");
    assert!(!dst.exists());
}

#[test]
fn a_part_that_was_saved_alone_converts_without_its_prefix() {
    let whole = common::folder(&common::fixtures().join("opt"));
    let config: serde_json::Value = serde_json::from_slice(&whole["config.json"]).expect("JSON");
    for (part, stage) in [("vision_model", Stage::Vision), ("qformer", Stage::Qformer)] {
        let scratch = Scratch::new(&format!("alone-{part}"));
        let (src, dst) = (scratch.0.join("src"), scratch.0.join("dst"));
        std::fs::create_dir_all(&src).expect("a folder");
        let config = &config[if part == "qformer" { "qformer_config" } else { "vision_config" }];
        std::fs::write(src.join("config.json"), serde_json::to_vec(config).expect("JSON")).expect("a file");
        let prefix = format!("{part}.");
        save(
            &src,
            common::checkpoint(&whole, "").into_iter().filter_map(|(key, tensor)| Some((key.strip_prefix(&prefix)?.to_string(), tensor))),
        );
        convert(&src, &dst, &Options::new(Quant::Q8), &mut ()).expect("a conversion");
        let index = index(&dst);
        assert_eq!(stages(&index), [stage]);
        holds_what_its_config_asks_for(&dst, &index);
    }
}

#[test]
fn copies_that_old_files_hold_are_left_out_and_named() {
    const LM_HEAD: &str = "language_model.lm_head.weight";
    for (fixture, spare) in [
        ("opt", &[LM_HEAD, "embeddings.position_ids"][..]),
        (
            "t5",
            &[
                "language_model.decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight",
                "language_model.decoder.embed_tokens.weight",
                "language_model.encoder.embed_tokens.weight",
            ],
        ),
        ("t5_tied", &[LM_HEAD]),
    ] {
        let scratch = Scratch::new(&format!("copies-{fixture}"));
        let (src, dst) = (scratch.source(fixture), scratch.0.join("dst"));
        let mut tensors = common::checkpoint(&common::folder(&src), "");
        tensors.extend(spare.iter().map(|key| (key.to_string(), (vec![2], vec![1.0, 2.0]))));
        save(&src, tensors);
        let mut ignored = convert(&src, &dst, &Options::new(Quant::Q8), &mut ()).expect("a conversion").ignored;
        ignored.sort();
        let mut spare = spare.to_vec();
        spare.sort_unstable();
        assert_eq!(ignored, spare, "{fixture}");
    }
}

#[test]
fn a_head_that_is_not_the_embedding_is_not_left_out() {
    let error = refused("untied", |src| {
        let path = src.join("config.json");
        let config = std::fs::read_to_string(&path).expect("a config");
        let untied = config.replace("\"ffn_dim\": 80", "\"ffn_dim\": 80, \"tie_word_embeddings\": false");
        assert_ne!(untied, config);
        std::fs::write(path, untied).expect("a config");
        let mut tensors = common::checkpoint(&common::folder(src), "");
        tensors.insert("language_model.lm_head.weight".into(), (vec![2], vec![1.0, 2.0]));
        save(src, tensors);
    });
    assert!(matches!(&error, Error::ModelUnsupported { what, .. } if what.contains("lm_head")), "{error}");
}

#[test]
fn nan_is_named() {
    let error = refused("nan", |src| {
        rewrite(src, |key, _, values| {
            if key == KEY {
                values[7] = f32::NAN;
            }
            true
        });
    });
    assert!(matches!(&error, Error::WeightInvalid { key, reason, .. } if key == KEY && reason.contains("element 7")), "{error}");
}

#[test]
fn what_is_there_is_not_overwritten_unless_asked() {
    let scratch = Scratch::new("force");
    let dst = scratch.0.join("dst");
    std::fs::create_dir_all(&dst).expect("a folder");
    std::fs::write(dst.join("mine"), b"kept").expect("a file");
    let mut options = Options::new(Quant::F16);
    let src = common::fixtures().join("opt_odd2");
    assert_eq!(convert(&src, &dst, &options, &mut ()).expect_err("a refusal").code(), "file");
    assert!(dst.join("mine").is_file());
    options.force = true;
    convert(&src, &dst, &options, &mut ()).expect("a conversion");
    assert_eq!(index(&dst).quantization[&Stage::Vision], Quant::F16);
}

#[test]
fn an_empty_folder_may_be_filled() {
    let scratch = Scratch::new("empty");
    let dst = scratch.0.join("dst");
    std::fs::create_dir_all(&dst).expect("a folder");
    convert(&common::fixtures().join("opt_odd2"), &dst, &Options::new(Quant::F16), &mut ()).expect("a conversion");
    assert!(dst.join(INDEX_FILE).is_file());
}

#[test]
fn the_source_is_never_replaced() {
    let scratch = Scratch::new("source");
    let src = scratch.source("opt_odd2");
    let options = Options { force: true, ..Options::new(Quant::F16) };
    for dst in [&src, &scratch.0] {
        assert_eq!(convert(&src, dst, &options, &mut ()).expect_err("a refusal").code(), "file");
        assert!(src.join("model.safetensors").is_file(), "the checkpoint is gone");
    }
    let file = scratch.0.join("file");
    std::fs::write(&file, b"kept").expect("a file");
    assert_eq!(convert(&src, &file, &options, &mut ()).expect_err("a refusal").code(), "file");
    assert_eq!(std::fs::read(&file).expect("the file"), b"kept");
}

#[test]
fn a_weight_too_large_for_f16_is_named_with_its_file() {
    let scratch = Scratch::new("overflow");
    let (src, dst) = (scratch.source("opt"), scratch.0.join("dst"));
    rewrite(&src, |key, _, values| {
        if key == KEY {
            values[3] = 1e6;
        }
        true
    });
    let error = convert(&src, &dst, &Options::new(Quant::F16), &mut ()).expect_err("a refusal");
    assert!(matches!(&error, Error::WeightInvalid { file, key, .. } if file == "model.safetensors" && key == KEY), "{error}");
    assert!(!dst.exists());
}

#[test]
fn an_index_that_leads_elsewhere_is_refused() {
    for name in [serde_json::json!("../model.safetensors"), serde_json::json!("/etc/passwd"), serde_json::json!(7)] {
        let scratch = Scratch::new("elsewhere");
        let (src, dst) = (scratch.source("opt_odd"), scratch.0.join("dst"));
        let mut index: serde_json::Value = serde_json::from_slice(&std::fs::read(src.join(INDEX_FILE)).expect("an index")).expect("JSON");
        index["weight_map"]["query_tokens"] = name.clone();
        std::fs::write(src.join(INDEX_FILE), serde_json::to_vec(&index).expect("JSON")).expect("a file");
        let error = convert(&src, &dst, &Options::new(Quant::Q8), &mut ()).expect_err("a refusal");
        assert_eq!(error.code(), "config-invalid", "{name}: {error}");
        assert!(!dst.exists());
    }
}

/// The most memory that this process has ever had, in bytes.
fn peak_memory() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("VmHWM");
    line.trim().trim_end_matches(" kB").parse::<usize>().expect("a number") * 1024
}

#[test]
#[cfg(target_os = "linux")]
fn a_tensor_of_200_mib_needs_little_memory() {
    let scratch = Scratch::new("memory");
    let src = scratch.source("opt");
    let (vocabulary, width) = (51_200usize, 2048usize);
    // A language model without layers around one huge embedding, written piece by piece.
    let config = serde_json::json!({
        "vision_config": {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 0, "num_attention_heads": 1, "image_size": 8, "patch_size": 8},
        "qformer_config": {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 0, "num_attention_heads": 1},
        "text_config": {"model_type": "opt", "hidden_size": width, "vocab_size": vocabulary, "num_hidden_layers": 0, "num_attention_heads": 1,
            "word_embed_proj_dim": width, "max_position_embeddings": 8, "_remove_final_layer_norm": true},
        "num_query_tokens": 2
    });
    let config = serde_json::to_vec(&config).expect("JSON");
    std::fs::write(src.join("config.json"), &config).expect("a file");
    let plan = models::plan(&config).expect("a plan");
    let (mut header, mut at) = (serde_json::Map::new(), 0usize);
    for (key, request) in &plan {
        let end = at + request.shape.iter().product::<usize>() * 2;
        header.insert(key.clone(), serde_json::json!({"dtype": "F16", "shape": request.shape, "data_offsets": [at, end]}));
        at = end;
    }
    let json = serde_json::to_vec(&header).expect("JSON");
    let mut file = std::io::BufWriter::new(std::fs::File::create(src.join("model.safetensors")).expect("a file"));
    use std::io::Write;
    file.write_all(&(json.len() as u64).to_le_bytes()).and_then(|()| file.write_all(&json)).expect("a header");
    let block: Vec<u8> = (0..1 << 16).flat_map(|i| half::f16::from_f32((i % 251) as f32 / 251.0 - 0.5).to_le_bytes()).collect();
    let mut left = at;
    while left > 0 {
        let part = left.min(block.len());
        file.write_all(&block[..part]).expect("room on the disk");
        left -= part;
    }
    file.flush().expect("room on the disk");
    let before = peak_memory();
    convert(&src, &scratch.0.join("dst"), &Options::new(Quant::Q4), &mut ()).expect("a conversion");
    let grown = peak_memory() - before;
    assert!(grown < 300 << 20, "{} MiB for a tensor of {} MiB", grown >> 20, (vocabulary * width * 2) >> 20);
}
