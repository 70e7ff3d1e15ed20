//! Fixture folders made with HF transformers → which of their cases this build reproduces on this device. The same code
//! serves the native `parity` program and the parity page of a browser.
//!
//! A case is one entry of expected.json (`generate`, `processor`, `tokenizer`, an image's hashes) or one tensor of
//! expected.safetensors. Tensors within 2e-4·max(1, largest expected value); ids, strings and pixels to the letter.

mod images;
mod model;
mod models;
mod retrieval;
mod tensors;
mod text;

use std::collections::BTreeMap;

use serde_json::Value;

use crate::device::Device;
use crate::error::{Error, Result};
use crate::ops::launch;

pub use models::{GenerationModels, Models, converted};
pub use retrieval::RetrievalModels;
pub use tensors::Values;

/// A folder's files by name, those of its folders as `FOLDER/NAME`. A fixture also has its sibling `images` so.
pub type Files = BTreeMap<String, Vec<u8>>;

#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    Pass,
    Fail,
    /// What no code claims to do so far; never counted as passed.
    #[serde(rename = "not yet")]
    NotYet,
}

#[derive(Debug, Clone, serde::Serialize)]
pub struct Case {
    pub name: String,
    pub status: Status,
    /// The worst difference, or what went wrong.
    pub detail: String,
}

impl std::fmt::Display for Case {
    fn fmt(&self, formatter: &mut std::fmt::Formatter) -> std::fmt::Result {
        let status = match self.status {
            Status::Pass => "pass",
            Status::Fail => "FAIL",
            Status::NotYet => "not yet",
        };
        write!(formatter, "{status} {} {}", self.name, self.detail)
    }
}

#[derive(Debug, Clone, Default, serde::Serialize)]
pub struct Summary {
    pub passed: usize,
    pub failed: usize,
    pub not_yet: usize,
    pub adapter: String,
    pub dispatches: u64,
}

/// Collects outcomes and hands each to the caller as it comes.
pub(crate) struct Report<'a> {
    summary: Summary,
    on_case: &'a mut dyn FnMut(&Case),
}

impl Report<'_> {
    fn push(&mut self, name: impl Into<String>, outcome: Result<String>) {
        let (status, detail) = match outcome {
            Ok(detail) => (Status::Pass, detail),
            Err(error) => (Status::Fail, format!("[{}] {error}", error.code())),
        };
        self.case(Case { name: name.into(), status, detail });
    }

    fn not_yet(&mut self, name: impl Into<String>) {
        self.case(Case { name: name.into(), status: Status::NotYet, detail: String::new() });
    }

    fn case(&mut self, case: Case) {
        match case.status {
            Status::Pass => self.summary.passed += 1,
            Status::Fail => self.summary.failed += 1,
            Status::NotYet => self.summary.not_yet += 1,
        }
        (self.on_case)(&case);
    }
}

/// Runs every case of one folder. `models` are the folder's checkpoints, loaded. With `reference`, models of the same weights
/// in f32 on the same device, results are held to theirs instead of the file's: how a quantized folder is held to plain
/// arithmetic on its dequantized weights.
pub async fn run(
    device: &Device,
    files: &Files,
    models: Result<&Models>,
    reference: Option<&Models>,
    on_case: &mut dyn FnMut(&Case),
) -> Result<Summary> {
    let before = launch::counts().dispatches;
    let mut report = Report { summary: Summary::default(), on_case };
    let expected = json(files, "expected.json")?;
    let tensors = tensors::read(files, "expected.safetensors")?;
    match models {
        Ok(Models::None) if expected.get("generate").is_none() && expected.get("captions").is_none() => {
            images::run(files, &expected, &tensors, &mut report)
        }
        Ok(Models::None) => return Err(Error::input("model", "this fixture needs its model folder")),
        Ok(Models::Generation(models)) => {
            let reference = reference.map(Models::generation).transpose()?;
            text::run(&models.model.processor, &expected, &mut report);
            model::run(device, files, &expected, &tensors, models, reference, &mut report).await?;
        }
        Ok(Models::Retrieval(models)) => {
            let reference = reference.map(Models::retrieval).transpose()?;
            text::run(&models.retrieval.processor, &expected, &mut report);
            retrieval::run(device, files, &expected, &tensors, models, reference, &mut report).await?;
        }
        // A model that nobody implements yet: all its cases wait with it.
        Err(Error::ModelUnsupported { .. }) => not_yet(&expected, &tensors, &mut report),
        Err(error) => return Err(error),
    }
    report.summary.adapter = device.adapter.name.clone();
    report.summary.dispatches = launch::counts().dispatches - before;
    Ok(report.summary)
}

fn not_yet(expected: &Value, tensors: &BTreeMap<String, tensors::Tensor>, report: &mut Report) {
    tensors.keys().for_each(|name| report.not_yet(name.clone()));
    for name in ["generate", "processor"] {
        for (place, case) in array(&expected[name]).iter().enumerate() {
            let label = case["name"].as_str().map_or_else(|| format!("{name}.{place}"), |case| format!("{name}.{case}"));
            report.not_yet(label);
        }
    }
}

pub(crate) fn json(files: &Files, name: &str) -> Result<Value> {
    let bytes = files.get(name).ok_or_else(|| Error::input(name, "is not in the fixture"))?;
    serde_json::from_slice(bytes).map_err(|error| Error::input(name, error))
}

pub(crate) fn array(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// [[1, 2], [3]] → ids; errors name what was read.
pub(crate) fn ids(name: &str, value: &Value) -> Result<Vec<Vec<u32>>> {
    serde_json::from_value(value.clone()).map_err(|error| Error::input(name, error))
}

/// Equal, or an error that shows both.
pub(crate) fn equal<T: PartialEq + std::fmt::Debug>(name: &str, found: &T, expected: &T) -> Result<()> {
    if found == expected { Ok(()) } else { Err(Error::input(name, format!("found {found:?}, expected {expected:?}"))) }
}
