//! HF checkpoint folder → model folder. What a model needs is asked of the model itself (`models::plan_class`), so that this
//! knows no names of its own but those of what is left out. Tensors are read, quantized and written by blocks of rows: memory
//! stays near two shards.

mod checkpoint;
#[cfg(not(target_family = "wasm"))]
mod folder;
#[cfg(target_family = "wasm")]
mod js;
mod shards;
mod summary;
mod synthetic;

use std::collections::BTreeMap;
use std::ops::Range;
#[cfg(not(target_family = "wasm"))]
use std::path::Path;

use serde_json::{Value, json};

use crate::convert::checkpoint::{Checkpoint, Spare};
#[cfg(not(target_family = "wasm"))]
use crate::convert::folder::Unfinished;
use crate::convert::shards::ShardWriter;
use crate::convert::synthetic::Noise;
use crate::error::{Error, Result};
use crate::models::{Class, plan_class};
use crate::weights::index::{FORMAT, FileEntry, INDEX_FILE, Index, Metadata, Stage, Ui, sha256};
use crate::weights::quant::Quant;
use crate::weights::safetensors::ReadAt;
use crate::weights::{Plan, Request, Role};

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

/// A checkpoint's files, by name.
pub trait Source {
    /// The whole of it, as an error names it.
    fn name(&self) -> String;

    /// A file; `None` where there is none of this name. Errors: file.
    fn open(&self, name: &str) -> Result<Option<Box<dyn ReadAt>>>;
}

/// Takes the files of a model folder, one at a time, each whole.
pub trait Sink {
    /// Errors: file.
    fn write(&mut self, name: &str, bytes: &[u8]) -> Result<()>;
}

/// A checkpoint that fits its config: what there is to be read, and as what.
pub struct Conversion<'a> {
    source: &'a dyn Source,
    config: Vec<u8>,
    plan: Plan,
    checkpoint: Checkpoint,
    ignored: Vec<String>,
}

impl<'a> Conversion<'a> {
    /// Errors: file, config-invalid, model-unsupported, weight-missing, weight-shape, weight-invalid.
    pub fn open(source: &'a dyn Source, class: Option<Class>) -> Result<Self> {
        let missing = || Error::File { path: source.name(), reason: format!("holds no {CONFIG_FILE}") };
        let mut config = read_small(source, CONFIG_FILE)?.ok_or_else(missing)?;
        let spare = Spare::of(&config)?;
        if let Some(class) = class {
            config = as_class(class, config)?;
        }
        let plan = plan_class(Class::of(&config)?, &config)?;
        let checkpoint = Checkpoint::open(source)?;
        let ignored = checkpoint.check(&plan, &spare)?;
        Ok(Self { source, config, plan, checkpoint, ignored })
    }

    /// Errors: file, weight-invalid.
    pub fn write(mut self, sink: &mut dyn Sink, options: &Options, progress: &mut dyn Progress) -> Result<Summary> {
        let (source, config) = (self.source, &self.config);
        let mut summary = write(sink, &self.plan, &mut self.checkpoint, options, progress, |sink, index| {
            keep(sink, CONFIG_FILE, config, index)?;
            keep_files(source, sink, index)
        })?;
        summary.ignored = self.ignored;
        Ok(summary)
    }
}

/// Writes `dst` whole or not at all. Errors: file, config-invalid, model-unsupported, weight-missing, weight-shape,
/// weight-invalid.
#[cfg(not(target_family = "wasm"))]
pub fn convert(src: &Path, dst: &Path, options: &Options, progress: &mut dyn Progress) -> Result<Summary> {
    folder::check(Some(src), dst, options.force)?;
    let conversion = Conversion::open(&src, options.class)?;
    let mut folder = Unfinished::beside(dst)?;
    let summary = conversion.write(&mut folder, options, progress)?;
    folder.finish(dst)?;
    Ok(summary)
}

/// Writes a model folder of these shapes with made-up weights, whole or not at all. Errors: file, config-invalid.
#[cfg(not(target_family = "wasm"))]
pub fn synthesize(shapes: &Shapes, dst: &Path, options: &Options, progress: &mut dyn Progress) -> Result<Summary> {
    folder::check(None, dst, options.force)?;
    let mut folder = Unfinished::beside(dst)?;
    let summary = shapes.write(&mut folder, options, progress)?;
    folder.finish(dst)?;
    Ok(summary)
}

impl Shapes {
    /// A model folder of these shapes with made-up weights. Errors: file, config-invalid.
    pub fn write(&self, sink: &mut dyn Sink, options: &Options, progress: &mut dyn Progress) -> Result<Summary> {
        let files = self.files()?;
        let config = self.config.to_json()?;
        let plan = plan_class(Class::of(&config)?, &config)?;
        let options = Options { source: options.source.clone().or_else(|| Some(format!("{SCHEME}{}", self.name))), ..options.clone() };
        write(sink, &plan, &mut Noise::new(plan.clone()), &options, progress, |sink, index| {
            files.iter().try_for_each(|(name, bytes)| keep(sink, name, bytes, index))
        })
    }
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
    sink: &mut dyn Sink,
    plan: &BTreeMap<String, Request>,
    source: &mut dyn Tensors,
    options: &Options,
    progress: &mut dyn Progress,
    keep_files: impl FnOnce(&mut dyn Sink, &mut Index) -> Result<()>,
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
        let mut writer = ShardWriter::new(sink, stage, options.shard_bytes, &mut index);
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
    keep_files(sink, &mut index)?;
    index.metadata.total_size = index.files.values().filter(|file| file.stage.is_some()).map(|file| file.bytes).sum();
    index.validate()?;
    sink.write(INDEX_FILE, &index.to_json()?)?;
    summary.bytes_out = index.bytes();
    summary.files = index.files.len();
    Ok(summary)
}

fn keep_files(source: &dyn Source, sink: &mut dyn Sink, index: &mut Index) -> Result<()> {
    for name in KEPT_FILES {
        if let Some(bytes) = read_small(source, name)? {
            keep(sink, name, &bytes, index)?;
        }
    }
    Ok(())
}

fn keep(sink: &mut dyn Sink, name: &str, bytes: &[u8], index: &mut Index) -> Result<()> {
    sink.write(name, bytes)?;
    index.files.insert(name.into(), FileEntry { sha256: sha256(bytes), bytes: bytes.len() as u64, stage: None });
    Ok(())
}

/// A file that is read whole, such as a tokenizer's; `None` where there is none. Errors: file, out-of-memory.
fn read_small(source: &dyn Source, name: &str) -> Result<Option<Vec<u8>>> {
    let Some(mut file) = source.open(name)? else { return Ok(None) };
    let length = file.length();
    let mut bytes = vec![];
    let room = usize::try_from(length).ok().filter(|length| bytes.try_reserve_exact(*length).is_ok());
    bytes.resize(room.ok_or_else(|| Error::OutOfMemory { what: name.into(), needed: length })?, 0);
    file.read_at(0, &mut bytes)?;
    Ok(Some(bytes))
}
