//! HF checkpoint folder → model folder. What a model needs is asked of the model itself (`models::plan_class`), so that this
//! knows no names of its own but those of what is left out. Tensors are read, quantized and written by blocks of rows: memory
//! stays near two shards.

mod checkpoint;
mod folder;
mod shards;
mod summary;
mod synthetic;

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use serde_json::{Value, json};

use crate::convert::checkpoint::{Checkpoint, Spare};
use crate::convert::folder::Unfinished;
use crate::convert::shards::ShardWriter;
use crate::convert::synthetic::Noise;
use crate::error::{Error, Result};
use crate::models::{Class, plan_class};
use crate::weights::index::{FORMAT, FileEntry, INDEX_FILE, Index, Metadata, Stage, Ui, sha256};
use crate::weights::quant::Quant;
use crate::weights::{Request, Role};

pub use summary::{StageSummary, Summary};
pub use synthetic::{SCHEME, Shapes};

const CONFIG_FILE: &str = "config.json";

/// What a model folder keeps as it is in the source, where it is there.
const KEPT_FILES: [&str; 10] = [
    "generation_config.json",
    "preprocessor_config.json",
    "processor_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "vocab.txt",
];

#[derive(Debug, Clone)]
pub struct Options {
    /// How the matrices of each stage are stored; norms, biases and positions stay f32.
    pub quant: BTreeMap<Stage, Quant>,
    pub ui: Ui,
    pub source: Option<String>,
    pub licence: Option<String>,
    /// Another class than the one that was saved: of the checkpoint it takes what it needs, and leaves the rest.
    pub class: Option<Class>,
    /// Replace a folder that is there.
    pub force: bool,
    /// What a shard may have, its header included; only one that holds a single row may have more.
    pub shard_bytes: usize,
}

impl Options {
    pub fn new(quant: Quant) -> Self {
        Self {
            quant: Stage::ALL.into_iter().map(|stage| (stage, quant)).collect(),
            ui: Ui::default(),
            source: None,
            licence: None,
            class: None,
            force: false,
            shard_bytes: 16 << 20,
        }
    }
}

/// Where tensors come from: a checkpoint, or nowhere.
trait Tensors {
    /// Bytes of a tensor in the source.
    fn bytes(&self, key: &str) -> u64;

    /// The name of the file that holds a tensor.
    fn file(&self, key: &str) -> &str;

    fn read(&mut self, key: &str, elements: Range<usize>) -> Result<Vec<f32>>;
}

/// Told how far the work is, in bytes of the source.
pub trait Progress {
    fn start(&mut self, total_bytes: u64);
    fn advance(&mut self, tensor: &str, bytes: u64);
}

impl Progress for () {
    fn start(&mut self, _: u64) {}
    fn advance(&mut self, _: &str, _: u64) {}
}

/// Writes `dst` whole or not at all. Errors: file, config-invalid, model-unsupported, weight-missing, weight-shape,
/// weight-invalid.
pub fn convert(src: &Path, dst: &Path, options: &Options, progress: &mut dyn Progress) -> Result<Summary> {
    folder::check(Some(src), dst, options.force)?;
    let path = src.join(CONFIG_FILE);
    let mut config = std::fs::read(&path).map_err(|error| Error::file(&path, error))?;
    let spare = Spare::of(&config)?;
    if let Some(class) = options.class {
        config = as_class(class, config)?;
    }
    let plan = plan_class(Class::of(&config)?, &config)?;
    let mut checkpoint = Checkpoint::open(src)?;
    let ignored = checkpoint.check(&plan, &spare)?;
    let folder = Unfinished::beside(dst)?;
    let mut summary = write(folder.path(), &plan, &mut checkpoint, options, progress, |index| {
        keep(folder.path(), CONFIG_FILE, &config, index)?;
        keep_files(src, folder.path(), index)
    })?;
    summary.ignored = ignored;
    folder.finish(dst)?;
    Ok(summary)
}

/// Writes a model folder of these shapes with made-up weights, whole or not at all. Errors: file, config-invalid.
pub fn synthesize(shapes: &Shapes, dst: &Path, options: &Options, progress: &mut dyn Progress) -> Result<Summary> {
    folder::check(None, dst, options.force)?;
    let files = shapes.files()?;
    let config = shapes.config.to_json()?;
    let plan = plan_class(Class::of(&config)?, &config)?;
    let options = Options { source: options.source.clone().or_else(|| Some(format!("{SCHEME}{}", shapes.name))), ..options.clone() };
    let folder = Unfinished::beside(dst)?;
    let summary = write(folder.path(), &plan, &mut Noise::new(plan.clone()), &options, progress, |index| {
        files.iter().try_for_each(|(name, bytes)| keep(folder.path(), name, bytes, index))
    })?;
    folder.finish(dst)?;
    Ok(summary)
}

/// The config of a checkpoint that was saved as `class`: the same to the byte where it was.
fn as_class(class: Class, config_json: Vec<u8>) -> Result<Vec<u8>> {
    let mut config: Value = serde_json::from_slice(&config_json).map_err(|error| Error::config(CONFIG_FILE, error))?;
    let architectures = json!([class.name()]);
    if config["architectures"] == architectures {
        return Ok(config_json);
    }
    config["architectures"] = architectures;
    let mut config_json = serde_json::to_vec_pretty(&config).map_err(|error| Error::config(CONFIG_FILE, error))?;
    config_json.push(b'\n');
    Ok(config_json)
}

fn write(
    folder: &Path,
    plan: &BTreeMap<String, Request>,
    source: &mut dyn Tensors,
    options: &Options,
    progress: &mut dyn Progress,
    keep_files: impl FnOnce(&mut Index) -> Result<()>,
) -> Result<Summary> {
    progress.start(plan.keys().map(|key| source.bytes(key)).sum());
    let mut index = Index {
        format: FORMAT,
        metadata: Metadata { total_size: 0 },
        weight_map: BTreeMap::new(),
        tensors: BTreeMap::new(),
        files: BTreeMap::new(),
        ui: options.ui.clone(),
        source: options.source.clone(),
        licence: options.licence.clone(),
        quantization: options.quant.clone(),
        parameters: plan.values().map(|request| request.shape.iter().product::<usize>() as u64).sum(),
    };
    let mut summary = Summary { parameters: index.parameters, ..Summary::default() };
    for stage in Stage::ALL {
        let quant = options.quant.get(&stage).copied().unwrap_or(Quant::F32);
        let mut writer = ShardWriter::new(folder, stage, options.shard_bytes, &mut index);
        let mut stage_summary = StageSummary::new(stage, quant);
        for (key, request) in plan.iter().filter(|(key, _)| Stage::of(key) == stage) {
            let quant = if request.role == Role::Matrix { quant } else { Quant::F32 };
            writer.tensor(key, &request.shape, quant, source, &mut stage_summary)?;
            summary.bytes_in += source.bytes(key);
            progress.advance(key, source.bytes(key));
        }
        writer.finish()?;
        if stage_summary.tensors > 0 {
            summary.stages.push(stage_summary);
        }
    }
    index.quantization.retain(|stage, _| summary.stages.iter().any(|written| written.stage == *stage));
    keep_files(&mut index)?;
    index.metadata.total_size = index.files.values().filter(|file| file.stage.is_some()).map(|file| file.bytes).sum();
    index.validate()?;
    let path = folder.join(INDEX_FILE);
    std::fs::write(&path, index.to_json()?).map_err(|error| Error::file(&path, error))?;
    summary.bytes_out = index.bytes();
    summary.files = index.files.len();
    Ok(summary)
}

fn keep_files(src: &Path, folder: &Path, index: &mut Index) -> Result<()> {
    for name in KEPT_FILES {
        let path = src.join(name);
        if path.is_file() {
            let bytes = std::fs::read(&path).map_err(|error| Error::file(&path, error))?;
            keep(folder, name, &bytes, index)?;
        }
    }
    Ok(())
}

fn keep(folder: &Path, name: &str, bytes: &[u8], index: &mut Index) -> Result<()> {
    let path = folder.join(name);
    std::fs::write(&path, bytes).map_err(|error| Error::file(&path, error))?;
    index.files.insert(name.into(), FileEntry { sha256: sha256(bytes), bytes: bytes.len() as u64, stage: None });
    Ok(())
}
