//! One fixture folder on one native device: a line a case, then `summary {…}`. `npm run parity` runs it for each.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use blip2_web::device::Device;
use blip2_web::parity::{self, Files};
use blip2_web::tasks::Blip2;
use blip2_web::weights::index::{INDEX_FILE, Index};
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

fn read_folder(path: &Path, prefix: &str, files: &mut Files) -> Result<()> {
    let failed = |error: std::io::Error| Error::file(path, error);
    for entry in std::fs::read_dir(path).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if let Some(name) = path.file_name().filter(|_| path.is_file()) {
            let bytes = std::fs::read(&path).map_err(|error| Error::file(&path, error))?;
            files.insert(format!("{prefix}{}", name.to_string_lossy()), bytes);
        }
    }
    Ok(())
}

fn load(device: &Device, folder: &Path, dequantized: bool) -> Result<Blip2> {
    let mut files = Files::new();
    read_folder(folder, "", &mut files)?;
    let index = files.get(INDEX_FILE).ok_or_else(|| Error::config(INDEX_FILE, "is missing"))?;
    parity::load(device, &Index::parse(index)?, &files, dequantized)
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
    let model = match &arguments.model {
        Some(folder) => load(&device, folder, false).map(Some),
        None => Ok(None),
    };
    let reference = match (&arguments.model, arguments.dequantized) {
        (Some(folder), true) => Some(load(&device, folder, true)?),
        _ => None,
    };
    let model = model.as_ref().map(Option::as_ref).map_err(Clone::clone);
    let summary = pollster::block_on(parity::run(&device, &files, model, reference.as_ref(), &mut |case| println!("{case}")))?;
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
