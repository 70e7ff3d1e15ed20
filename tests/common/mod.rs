//! Fixture folders as HF transformers wrote them, straight into weights; and model folders as `convert` writes them.
// Each test program uses its part of this.
#![allow(dead_code)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use blip2_web::device::Device;
use blip2_web::models;
use blip2_web::parity::{self, Case, Files, Models, Status, Summary};
use blip2_web::tasks::Blip2;
use blip2_web::weights::{Part, Plan, Weights};
use safetensors::{Dtype, SafeTensors};

pub fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

/// The files of a fixture folder, and of its sibling `images`.
pub fn files(name: &str) -> Files {
    let mut files = Files::new();
    for (folder, prefix) in [(name, ""), ("images", "images/")] {
        read(&fixtures().join(folder), prefix, &mut files);
    }
    files
}

/// Every file of one folder, at any depth.
pub fn folder(path: &Path) -> Files {
    let mut files = Files::new();
    read(path, "", &mut files);
    files
}

fn read(folder: &Path, prefix: &str, files: &mut Files) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        let name = format!("{prefix}{}", path.file_name().expect("a name").to_string_lossy());
        if path.is_dir() {
            read(&path, &format!("{name}/"), files);
        } else {
            files.insert(name, std::fs::read(&path).expect("a readable file"));
        }
    }
}

/// A captioner's model folder that `convert` wrote.
pub fn load_converted(device: &Device, path: &Path) -> blip2_web::Result<Blip2> {
    let files = folder(path);
    let weights = parity::converted(device, &files, "", models::plan(&files["config.json"])?, false)?;
    Blip2::load(device, &files, &weights)
}

pub fn gpu() -> Device {
    pollster::block_on(Device::webgpu()).expect("an adapter: on a machine without a GPU, install lavapipe")
}

/// Every tensor of the safetensors files in one folder of a fixture ("" is its own), as f32.
pub fn checkpoint(files: &Files, folder: &str) -> BTreeMap<String, (Vec<usize>, Vec<f32>)> {
    let mut tensors = BTreeMap::new();
    let start = if folder.is_empty() { "model".to_string() } else { format!("{folder}/model") };
    for (_, bytes) in files.iter().filter(|(name, _)| name.starts_with(&start) && name.ends_with(".safetensors")) {
        for (key, view) in SafeTensors::deserialize(bytes).expect("a safetensors file").iter() {
            let values = match view.dtype() {
                Dtype::F32 => view.data().chunks(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect(),
                Dtype::F16 => view.data().chunks(2).map(|b| half::f16::from_le_bytes([b[0], b[1]]).to_f32()).collect(),
                Dtype::BF16 => view.data().chunks(2).map(|b| half::bf16::from_le_bytes([b[0], b[1]]).to_f32()).collect(),
                other => panic!("{key} is {other:?}"),
            };
            tensors.insert(key.to_string(), (view.shape().to_vec(), values));
        }
    }
    tensors
}

/// What the plan asks for, from a checkpoint that was not converted.
pub fn unconverted(device: &Device, files: &Files, folder: &str, plan: Plan) -> blip2_web::Result<Weights> {
    let weights = Weights::new(device, plan);
    for (key, (shape, values)) in checkpoint(files, folder) {
        weights.put(&key, 0..shape.first().copied().unwrap_or(1), Part::F32(values))?;
    }
    Ok(weights)
}

/// A captioner.
pub fn load(device: &Device, files: &Files) -> blip2_web::Result<Blip2> {
    let weights = unconverted(device, files, "", models::plan(&files["config.json"])?)?;
    let model = Blip2::load(device, files, &weights)?;
    assert_eq!(weights.unused(), Vec::<String>::new());
    Ok(model)
}

/// Runs every case of a folder; any failed one fails the test, with its name and what was found.
pub fn all_cases_pass(device: &Device, name: &str) -> Summary {
    let files = files(name);
    let models = Models::load(device, &files, &|folder, plan| unconverted(device, &files, folder, plan));
    let mut failed = vec![];
    let mut on_case = |case: &Case| {
        if case.status == Status::Fail {
            failed.push(case.to_string());
        }
    };
    let models = models.as_ref().map_err(Clone::clone);
    let summary = pollster::block_on(parity::run(device, &files, models, None, &mut on_case)).expect("a run");
    assert!(failed.is_empty(), "{} of {name} on {}:\n{}", failed.len(), device.adapter.name, failed.join("\n"));
    summary
}
