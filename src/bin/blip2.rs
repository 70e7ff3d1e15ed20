//! Captions, answers, vectors and rankings of many pictures, as JSON Lines. Status 0: every picture has its line; 1: some could not be
//! read, and their lines say why; 2: the run could not go on, and standard error says why.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use blip2_web::batch::{self, Earlier, Lines, Picture, Progress, Report, Shard, Work};
use blip2_web::device::{Arithmetic, Device};
use blip2_web::generation::GenerationConfig;
use blip2_web::{Error, Result};
use clap::error::ErrorKind;
use clap::{Args, Parser, Subcommand, ValueEnum};

/// BLIP-2 over many pictures: one object a picture, as JSON Lines.
#[derive(Parser)]
#[command(name = "blip2", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// {"file", "caption", "ms"}
    Caption {
        #[command(flatten)]
        many: Many,
        #[command(flatten)]
        generation: Generation,
    },
    /// {"file", "question", "answer", "ms"}
    Ask {
        question: String,
        #[command(flatten)]
        many: Many,
        #[command(flatten)]
        generation: Generation,
    },
    /// {"file", "embedding", "ms"}: vectors of length 1, of a picture one for each query, of a text one
    Embed {
        #[command(flatten)]
        many: Many,
        /// A text whose vector comes first, as {"text", "embedding", "ms"}. May be repeated.
        #[arg(long)]
        text: Vec<String>,
    },
    /// {"file", "query", "scores": {"itc", "itm"}, "ms"}, best first
    Rank {
        text: String,
        #[command(flatten)]
        many: Many,
        /// How many of the best by cosine (itc) are matched with the text once more (itm) and ordered by that.
        #[arg(long, default_value_t = 0)]
        rerank: usize,
    },
}

#[derive(Args)]
struct Many {
    /// Files and folders. A folder stands for the PNG, JPEG, WebP, GIF and BMP files in it, at any depth, in the order of their names.
    pictures: Vec<PathBuf>,
    /// A file with more of them, one a line; - is standard input.
    #[arg(long, value_name = "LIST")]
    files: Option<PathBuf>,
    /// Model folder, as `convert` writes it.
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    #[arg(long, value_enum, default_value_t = On::Cpu)]
    device: On,
    /// How models compute: exact; int8 on a CPU, several times as fast and about 1 % off; f16 on a GPU.
    #[arg(long, value_enum, default_value_t = With::Int8)]
    arithmetic: With,
    /// Where the lines go; by itself to standard output.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Go on with FILE: what has a line there is left out, a torn last line is done again.
    #[arg(long, requires = "out", conflicts_with = "force")]
    resume: bool,
    /// Replace FILE if it is there.
    #[arg(long, requires = "out")]
    force: bool,
    /// Of n shares the i-th (from 1 on). A picture's share is decided by its name, so shares need not know of each other.
    #[arg(long, value_name = "i/n", default_value = "1/1")]
    shard: Shard,
}

#[derive(Args)]
struct Generation {
    /// What stands before the text; of a question with {question} in it. By itself as the model's folder says.
    #[arg(long)]
    prompt: Option<String>,
    /// An option of generate under Hugging Face's name, such as max_new_tokens=30 or num_beams=5. May be repeated.
    #[arg(long, value_name = "NAME=VALUE")]
    option: Vec<String>,
}

#[derive(Clone, Copy, ValueEnum)]
enum On {
    Cpu,
    Gpu,
}

#[derive(Clone, Copy, ValueEnum)]
enum With {
    Exact,
    Int8,
    F16,
}

impl Many {
    fn device(&self) -> Result<Device> {
        let device = match self.device {
            On::Cpu => Device::cpu(),
            #[cfg(feature = "webgpu")]
            On::Gpu => pollster::block_on(Device::webgpu())?,
            #[cfg(not(feature = "webgpu"))]
            On::Gpu => return Err(Error::WebgpuUnavailable { reason: "this program was built without it".into() }),
        };
        Ok(device.with_arithmetic(match self.arithmetic {
            With::Exact => Arithmetic::Exact,
            With::Int8 => Arithmetic::Int8Activations,
            With::F16 => Arithmetic::Half,
        }))
    }

    fn pictures(&self) -> Result<Vec<Picture>> {
        let mut paths = self.pictures.clone();
        if let Some(list) = &self.files {
            paths.extend(read_list(list)?.lines().map(str::trim_end).filter(|line| !line.is_empty()).map(PathBuf::from));
        }
        batch::gather(&paths, self.shard)
    }

    fn none_named(&self) -> bool {
        self.pictures.is_empty() && self.files.is_none()
    }

    /// The output, and what it holds already.
    fn lines(&self, work: &Work) -> Result<(Lines, Earlier)> {
        let mut earlier = Earlier::default();
        let lines = match &self.out {
            None => Lines::stdout(),
            Some(path) if self.resume => Lines::resume(path, &mut |line| earlier.keep(line, work))?,
            Some(path) => Lines::create(path, self.force)?,
        };
        Ok((lines, earlier))
    }
}

fn read_list(path: &Path) -> Result<String> {
    let mut text = String::new();
    let read = match path.to_str() {
        Some("-") => std::io::stdin().read_to_string(&mut text).map(|_| ()),
        _ => std::fs::read_to_string(path).map(|read| text = read),
    };
    read.map(|()| text).map_err(|error| Error::file(path, error))
}

impl Generation {
    /// A value that is no JSON is a text: `early_stopping=never`.
    fn config(&self) -> Result<GenerationConfig> {
        self.option.iter().try_fold(GenerationConfig::default(), |config, option| {
            let (name, value) =
                option.split_once('=').ok_or_else(|| Error::input("--option", format!("{option}: NAME=VALUE is expected")))?;
            config.with(name, serde_json::from_str(value).unwrap_or_else(|_| value.into()))
        })
    }
}

struct Bar(indicatif::ProgressBar);

impl Progress for Bar {
    fn start(&mut self, subjects: usize) {
        self.0.set_length(subjects as u64);
        if let Ok(style) = indicatif::ProgressStyle::with_template("{bar:30} {pos}/{len} {eta} {msg}") {
            self.0.set_style(style);
        }
    }

    fn advance(&mut self, subject: &str) {
        self.0.set_message(subject.to_string());
        self.0.inc(1);
    }
}

/// What is wrong with the arguments shows before a model is loaded.
fn run(arguments: Arguments) -> Result<Report> {
    let many = match &arguments.command {
        Command::Caption { many, .. } | Command::Ask { many, .. } | Command::Embed { many, .. } | Command::Rank { many, .. } => many,
    };
    let texts_alone = matches!(&arguments.command, Command::Embed { text, .. } if !text.is_empty());
    if many.none_named() && !texts_alone {
        return Err(Error::input("pictures", "none are named"));
    }
    let pictures = many.pictures()?;
    let mut work = match &arguments.command {
        Command::Caption { generation, .. } => {
            let config = generation.config()?;
            Work::caption(&many.device()?, &many.model, generation.prompt.clone(), config)
        }
        Command::Ask { question, generation, .. } => {
            let config = generation.config()?;
            Work::ask(&many.device()?, &many.model, question, generation.prompt.clone(), config)
        }
        Command::Embed { text, .. } => Work::embed(&many.device()?, &many.model, text.clone()),
        Command::Rank { text, rerank, .. } => Work::rank(&many.device()?, &many.model, text, *rerank),
    }?;
    let (lines, earlier) = many.lines(&work)?;
    let mut bar = Bar(indicatif::ProgressBar::new(0));
    let report = pollster::block_on(batch::run(&mut work, &pictures, earlier, lines, &mut bar));
    bar.0.finish_and_clear();
    report
}

/// Clap's own words, under the code of wrong input.
fn refused(error: &clap::Error) -> ExitCode {
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        print!("{error}");
        return ExitCode::SUCCESS;
    }
    let text = error.to_string();
    eprint!("error[input-invalid]: {}", text.strip_prefix("error: ").unwrap_or(&text));
    ExitCode::from(2)
}

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return refused(&error),
    };
    match run(arguments) {
        Ok(Report { done, kept, errors }) => {
            eprintln!("{done} done, {kept} were there, {errors} could not be read");
            ExitCode::from(u8::from(errors > 0))
        }
        Err(error) => {
            eprintln!("error[{}]: {error}\n{}", error.code(), error.hint());
            ExitCode::from(2)
        }
    }
}
