//! One fixture folder on one native device: a line a case, then `summary {…}`. `npm run parity` runs it for each.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use blip2_web::device::Device;
use blip2_web::parity::{self, Files, Models};
use blip2_web::{Error, Result};
use clap::{Parser, ValueEnum};

#[derive(Clone, Copy, ValueEnum)]
enum Target {
    NativeCpu,
    NativeWgpu,
}

#[derive(Parser)]
struct Arguments {
    #[arg(long)]
    target: Target,
    /// Folder with expected.json and expected.safetensors; pictures are in its sibling `images`.
    #[arg(long)]
    fixture: PathBuf,
    /// The same folder, converted; left out where it holds no checkpoint.
    #[arg(long)]
    model: Option<PathBuf>,
    /// Hold the results to plain f32 arithmetic on the dequantized weights instead of the expected ones.
    #[arg(long)]
    dequantized: bool,
}

/// Every file of a folder, at any depth.
fn read_folder(path: &Path, prefix: &str, files: &mut Files) -> Result<()> {
    let failed = |error: std::io::Error| Error::file(path, error);
    for entry in std::fs::read_dir(path).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let Some(name) = path.file_name().map(|name| format!("{prefix}{}", name.to_string_lossy())) else { continue };
        if path.is_dir() {
            read_folder(&path, &format!("{name}/"), files)?;
        } else {
            files.insert(name, std::fs::read(&path).map_err(|error| Error::file(&path, error))?);
        }
    }
    Ok(())
}

fn load(device: &Device, fixture: &Files, model: &Files, dequantized: bool) -> Result<Models> {
    Models::load(device, fixture, &|folder, plan| parity::converted(device, model, folder, plan, dequantized))
}

fn run(arguments: &Arguments) -> Result<()> {
    let device = match arguments.target {
        Target::NativeCpu => Device::cpu(),
        Target::NativeWgpu => pollster::block_on(Device::webgpu())?,
    };
    let mut files = Files::new();
    read_folder(&arguments.fixture, "", &mut files)?;
    let images = arguments.fixture.with_file_name("images");
    if images.is_dir() {
        read_folder(&images, "images/", &mut files)?;
    }
    let mut model = Files::new();
    if let Some(folder) = &arguments.model {
        read_folder(folder, "", &mut model)?;
    }
    let models = if model.is_empty() { Ok(Models::None) } else { load(&device, &files, &model, false) };
    let reference = arguments.dequantized.then(|| load(&device, &files, &model, true)).transpose()?;
    let models = models.as_ref().map_err(Clone::clone);
    let summary = pollster::block_on(parity::run(&device, &files, models, reference.as_ref(), &mut |case| println!("{case}")))?;
    println!("summary {}", serde_json::to_string(&summary).map_err(|error| Error::input("summary", error))?);
    Ok(())
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error[{}]: {error}\n{}", error.code(), error.hint());
            ExitCode::FAILURE
        }
    }
}
