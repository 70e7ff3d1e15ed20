//! The converter as WebAssembly, for Node: JavaScript lends the files and takes what is made of them. `npx blip2-web convert`.

use js_sys::JSON;
use serde::Deserialize;
use wasm_bindgen::prelude::*;

use crate::convert::{Conversion, Options, Progress, SCHEME, Shapes, Sink, Source};
use crate::error::{Error, Result};
use crate::weights::index::{Stage, Ui};
use crate::weights::quant::Quant;
use crate::weights::safetensors::ReadAt;

#[wasm_bindgen(typescript_custom_section)]
const TYPES: &str = r#"
/** What Node lends: files of the source, read by position, and a folder that takes files one at a time, each whole. */
export interface Disk {
  /** Bytes of a file of the source; `undefined` where there is none of this name. */
  size(name: string): number | undefined;
  /** Fills `into` with what begins at `position`. */
  read(name: string, position: number, into: Uint8Array): void;
  write(name: string, bytes: Uint8Array): void;
  /** How far the work is, in bytes of the source. */
  start(total: number): void;
  advance(tensor: string, bytes: number): void;
}
/** As the options of the native program; of `ui` the file's text, too. */
export interface ConvertOptions {
  readonly src: string;
  readonly quant?: string;
  readonly quant_vision?: string;
  readonly quant_qformer?: string;
  readonly quant_projection?: string;
  readonly quant_language?: string;
  readonly as?: string;
  readonly layers?: number;
  readonly ui?: { readonly file: string; readonly text: string };
  readonly source?: string;
  readonly licence?: string;
}
"#;

#[wasm_bindgen]
extern "C" {
    #[wasm_bindgen(typescript_type = "Disk")]
    pub type Disk;

    #[wasm_bindgen(method, catch)]
    fn size(this: &Disk, name: &str) -> std::result::Result<Option<f64>, JsValue>;

    #[wasm_bindgen(method, catch)]
    fn read(this: &Disk, name: &str, position: f64, into: &mut [u8]) -> std::result::Result<(), JsValue>;

    #[wasm_bindgen(method, catch)]
    fn write(this: &Disk, name: &str, bytes: &[u8]) -> std::result::Result<(), JsValue>;

    #[wasm_bindgen(method)]
    fn start(this: &Disk, total: f64);

    #[wasm_bindgen(method)]
    fn advance(this: &Disk, tensor: &str, bytes: f64);

    #[wasm_bindgen(typescript_type = "ConvertOptions")]
    pub type ConvertOptions;
}

impl Clone for Disk {
    fn clone(&self) -> Self {
        self.obj.clone().unchecked_into()
    }
}

fn failed(path: &str, thrown: &JsValue) -> Error {
    let reason = thrown.dyn_ref::<js_sys::Error>().map_or_else(|| "failed".into(), |error| String::from(error.message()));
    Error::File { path: path.into(), reason }
}

/// A file that JavaScript reads.
struct Lent {
    disk: Disk,
    name: String,
    length: u64,
}

impl ReadAt for Lent {
    fn length(&self) -> u64 {
        self.length
    }

    fn read_at(&mut self, position: u64, bytes: &mut [u8]) -> Result<()> {
        // Sizes of files are far below 2⁵³.
        self.disk.read(&self.name, position as f64, bytes).map_err(|thrown| failed(&self.name, &thrown))
    }
}

struct Checkpoint<'a> {
    disk: &'a Disk,
    name: &'a str,
}

impl Source for Checkpoint<'_> {
    fn name(&self) -> String {
        self.name.into()
    }

    fn open(&self, name: &str) -> Result<Option<Box<dyn ReadAt>>> {
        let size = self.disk.size(name).map_err(|thrown| failed(name, &thrown))?;
        Ok(size.map(|size| -> Box<dyn ReadAt> { Box::new(Lent { disk: self.disk.clone(), name: name.into(), length: size as u64 }) }))
    }
}

struct Lender<'a>(&'a Disk);

impl Sink for Lender<'_> {
    fn write(&mut self, name: &str, bytes: &[u8]) -> Result<()> {
        self.0.write(name, bytes).map_err(|thrown| failed(name, &thrown))
    }
}

impl Progress for Lender<'_> {
    fn start(&mut self, total_bytes: u64) {
        self.0.start(total_bytes as f64);
    }

    fn advance(&mut self, tensor: &str, bytes: u64) {
        self.0.advance(tensor, bytes as f64);
    }
}

#[derive(Deserialize)]
struct Named {
    file: String,
    text: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    src: String,
    quant: Option<String>,
    quant_vision: Option<String>,
    quant_qformer: Option<String>,
    quant_projection: Option<String>,
    quant_language: Option<String>,
    #[serde(rename = "as")]
    class: Option<String>,
    layers: Option<usize>,
    ui: Option<Named>,
    source: Option<String>,
    licence: Option<String>,
}

impl Asked {
    fn options(&self) -> Result<Options> {
        let quant = |name: &str| name.parse().map_err(|reason: String| Error::input("quant", reason));
        let mut options = Options::new(self.quant.as_deref().map_or(Ok(Quant::Q8), quant)?);
        for (stage, asked) in [
            (Stage::Vision, &self.quant_vision),
            (Stage::Qformer, &self.quant_qformer),
            (Stage::Projection, &self.quant_projection),
            (Stage::Language, &self.quant_language),
        ] {
            options.quant.extend(asked.as_deref().map(quant).transpose()?.map(|quant| (stage, quant)));
        }
        if let Some(Named { file, text }) = &self.ui {
            options.ui = serde_json::from_str::<Ui>(text).map_err(|error| Error::config(file, error))?;
        }
        options.source.clone_from(&self.source);
        options.licence.clone_from(&self.licence);
        options.class = self.class.as_deref().map(str::parse).transpose()?;
        Ok(options)
    }
}

/// Converts; gives what the native program prints. Throws `{code, message, hint, retryable, facts}`.
#[wasm_bindgen]
pub fn convert(disk: &Disk, options: &ConvertOptions) -> std::result::Result<String, JsValue> {
    run(disk, options).map_err(|error| JSON::parse(&error.report().to_string()).unwrap_or(JsValue::NULL))
}

fn run(disk: &Disk, options: &ConvertOptions) -> Result<String> {
    let text = JSON::stringify(options).map_err(|_| Error::input("options", "not a plain object"))?;
    let asked: Asked = serde_json::from_str(&String::from(text)).map_err(|error| Error::input("options", error))?;
    let options = asked.options()?;
    let (mut sink, mut progress) = (Lender(disk), Lender(disk));
    let summary = match asked.src.strip_prefix(SCHEME) {
        Some(name) => {
            let whole = Shapes::named(name)?;
            let shapes = asked.layers.map_or(whole.clone(), |layers| whole.with_layers(layers));
            shapes.write(&mut sink, &options, &mut progress)?
        }
        None if asked.layers.is_some() => return Err(Error::input("--layers", format!("only a {SCHEME} source can be cut"))),
        None => Conversion::open(&Checkpoint { disk, name: &asked.src }, options.class)?.write(&mut sink, &options, &mut progress)?,
    };
    Ok(summary.to_string())
}
