//! HF checkpoint folder → model folder. What a model needs is asked of the model itself (`models::plan`), so that this knows
//! no names of its own. Tensors are read, quantized and written by blocks of rows: memory stays near two shards.

mod checkpoint;
mod shards;
mod summary;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::convert::checkpoint::Checkpoint;
use crate::convert::shards::ShardWriter;
use crate::error::{Error, Result};
use crate::models;
use crate::weights::index::{FORMAT, FileEntry, INDEX_FILE, Index, Metadata, Stage, Ui};
use crate::weights::quant::Quant;
use crate::weights::{Request, Role};

pub use summary::{StageSummary, Summary};

/// Everything beside the weights that a model folder keeps, as in the source.
const KEPT_FILES: [&str; 11] = [
    "config.json",
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
    /// Replace a folder that is there.
    pub force: bool,
    pub shard_bytes: usize,
}

impl Options {
    pub fn new(quant: Quant) -> Self {
        Self {
            quant: Stage::ALL.into_iter().map(|stage| (stage, quant)).collect(),
            ui: Ui::default(),
            source: None,
            licence: None,
            force: false,
            shard_bytes: 16 << 20,
        }
    }
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
    if !options.force && dst.exists() {
        return Err(Error::file(dst, "is there already; --force replaces it"));
    }
    let config_path = src.join("config.json");
    let config = std::fs::read(&config_path).map_err(|error| Error::file(&config_path, error))?;
    let plan = models::plan(&config)?;
    let mut checkpoint = Checkpoint::open(src)?;
    let ignored = checkpoint.check(&plan)?;
    let folder = Unfinished::beside(dst)?;
    let result = write(src, folder.path(), &plan, &mut checkpoint, options, progress);
    let mut summary = result?;
    summary.ignored = ignored;
    folder.finish(dst)?;
    Ok(summary)
}

fn write(
    src: &Path,
    folder: &Path,
    plan: &BTreeMap<String, Request>,
    checkpoint: &mut Checkpoint,
    options: &Options,
    progress: &mut dyn Progress,
) -> Result<Summary> {
    progress.start(plan.keys().map(|key| checkpoint.bytes(key)).sum());
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
            writer.tensor(key, &request.shape, quant, checkpoint, &mut stage_summary)?;
            summary.bytes_in += checkpoint.bytes(key);
            progress.advance(key, checkpoint.bytes(key));
        }
        writer.finish()?;
        if stage_summary.tensors > 0 {
            summary.stages.push(stage_summary);
        }
    }
    keep_files(src, folder, &mut index)?;
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
            let to = folder.join(name);
            std::fs::write(&to, &bytes).map_err(|error| Error::file(&to, error))?;
            index.files.insert(name.into(), FileEntry { sha256: sha256(&bytes), bytes: bytes.len() as u64, stage: None });
        }
    }
    Ok(())
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A folder under a name of its own until it is whole; dropped before, it leaves nothing.
struct Unfinished(Option<PathBuf>);

impl Unfinished {
    fn beside(dst: &Path) -> Result<Self> {
        let name = dst.file_name().ok_or_else(|| Error::file(dst, "is no name for a folder"))?.to_string_lossy();
        let path = dst.with_file_name(format!(".{name}.{}.unfinished", std::process::id()));
        std::fs::create_dir_all(&path).map_err(|error| Error::file(&path, error))?;
        Ok(Self(Some(path)))
    }

    fn path(&self) -> &Path {
        self.0.as_deref().unwrap_or(Path::new("."))
    }

    fn finish(mut self, dst: &Path) -> Result<()> {
        let Some(path) = self.0.take() else { return Ok(()) };
        let old = path.with_extension("replaced");
        let replaces = dst.exists();
        if replaces {
            std::fs::rename(dst, &old).map_err(|error| Error::file(dst, error))?;
        }
        std::fs::rename(&path, dst).map_err(|error| Error::file(dst, error))?;
        if replaces {
            std::fs::remove_dir_all(&old).map_err(|error| Error::file(&old, error))?;
        }
        Ok(())
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if let Some(path) = &self.0 {
            // Nothing can be done about a folder that does not go; the error that brought us here is the one to report.
            let _ = std::fs::remove_dir_all(path);
        }
    }
}
