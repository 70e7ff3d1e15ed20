//! HF checkpoint folder → model folder that the page and the package load.

use std::path::PathBuf;
use std::process::ExitCode;

use blip2_web::convert::{Options, Progress, SCHEME, Shapes, Summary, convert, synthesize};
use blip2_web::models::Class;
use blip2_web::weights::index::{Stage, Ui};
use blip2_web::weights::quant::Quant;
use blip2_web::{Error, Result};
use clap::Parser;

/// Converts a BLIP-2 checkpoint of Hugging Face transformers into a folder for blip2-web.
#[derive(Parser)]
struct Arguments {
    /// Folder with config.json, the tokenizer's files and safetensors; or synthetic:NAME, which makes up weights in the shapes of
    /// a checkpoint of Salesforce, such as blip2-opt-2.7b.
    src: PathBuf,
    /// Folder to write.
    dst: PathBuf,
    /// How weight matrices are stored: f32, f16, q8 or q4.
    #[arg(long, default_value = "q8")]
    quant: Quant,
    /// Another choice for the vision tower.
    #[arg(long)]
    quant_vision: Option<Quant>,
    /// Another choice for the Q-Former.
    #[arg(long)]
    quant_qformer: Option<Quant>,
    /// Another choice for projections and heads.
    #[arg(long)]
    quant_projection: Option<Quant>,
    /// Another choice for the language model.
    #[arg(long)]
    quant_language: Option<Quant>,
    /// Another class that the checkpoint's weights hold, such as Blip2VisionModelWithProjection of a Blip2ForImageTextRetrieval:
    /// only what it needs is written.
    #[arg(long = "as", value_name = "CLASS")]
    class: Option<Class>,
    /// Of synthetic weights: so many layers of each part at most.
    #[arg(long)]
    layers: Option<usize>,
    /// JSON with caption_prompt, question_template, suggestions, licence_url, about.
    #[arg(long)]
    ui: Option<PathBuf>,
    /// Where the checkpoint is from, for the index.
    #[arg(long)]
    source: Option<String>,
    /// Its licence, for the index.
    #[arg(long)]
    licence: Option<String>,
    /// Replace DST if it is there.
    #[arg(long)]
    force: bool,
}

struct Bar(indicatif::ProgressBar);

impl Progress for Bar {
    fn start(&mut self, total_bytes: u64) {
        self.0.set_length(total_bytes);
        if let Ok(style) = indicatif::ProgressStyle::with_template("{bar:30} {bytes}/{total_bytes} {eta} {msg}") {
            self.0.set_style(style);
        }
    }

    fn advance(&mut self, tensor: &str, bytes: u64) {
        self.0.set_message(tensor.to_string());
        self.0.inc(bytes);
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    let mut options = Options::new(arguments.quant);
    for (stage, quant) in [
        (Stage::Vision, arguments.quant_vision),
        (Stage::Qformer, arguments.quant_qformer),
        (Stage::Projection, arguments.quant_projection),
        (Stage::Language, arguments.quant_language),
    ] {
        options.quant.extend(quant.map(|quant| (stage, quant)));
    }
    if let Some(path) = &arguments.ui {
        let bytes = std::fs::read(path).map_err(|error| Error::file(path, error))?;
        options.ui = serde_json::from_slice::<Ui>(&bytes).map_err(|error| Error::config(path.display().to_string(), error))?;
    }
    options.source.clone_from(&arguments.source);
    options.licence.clone_from(&arguments.licence);
    options.class = arguments.class;
    options.force = arguments.force;
    let mut bar = Bar(indicatif::ProgressBar::new(0));
    let result = match arguments.src.to_str().and_then(|src| src.strip_prefix(SCHEME)) {
        Some(name) => synthetic(name, arguments, &options, &mut bar),
        None if arguments.layers.is_some() => Err(Error::input("--layers", format!("only a {SCHEME} source can be cut"))),
        None => convert(&arguments.src, &arguments.dst, &options, &mut bar),
    };
    bar.0.finish_and_clear();
    println!("{}", result?);
    Ok(())
}

fn synthetic(name: &str, arguments: &Arguments, options: &Options, bar: &mut Bar) -> Result<Summary> {
    let whole = Shapes::named(name)?;
    let shapes = match arguments.layers {
        Some(layers) => whole.with_layers(layers),
        None => whole,
    };
    synthesize(&shapes, &arguments.dst, options, bar)
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
