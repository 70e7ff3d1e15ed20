//! A loaded model and the images that it has seen.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::rc::Rc;

use burn_tensor::Tensor;
use js_sys::{Function, Promise};
use serde_json::{Value, json};
use wasm_bindgen::prelude::*;

use super::error::{error_to_json, to_js};
use super::stop::StopFlag;
use super::{Shared, call, is_webgpu, options, promise};
use crate::delivery::address::Address;
use crate::delivery::browser::Browser;
use crate::delivery::progress::Progress;
use crate::delivery::{LoadOptions, Loaded, Receiver, Source, load_model};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::models;
use crate::ops::read_floats;
use crate::pace;
use crate::processor::load_image;
use crate::tasks::{Answer, Blip2, ImageFeatures};
use crate::weights::index::{Index, Stage};
use crate::weights::{Weights, shard};

/// Uploads in flight: more of them pile up as copies beside the weights.
const UPLOAD_LIMIT: usize = 64 << 20;

struct Inner {
    shared: Rc<Shared>,
    blip2: Blip2,
    url: String,
    loaded: Loaded,
}

/// A model on the device. Freed while images of it live, it stays until they are freed.
#[wasm_bindgen]
pub struct Model {
    inner: Rc<Inner>,
}

impl Model {
    pub(super) async fn load(
        shared: Rc<Shared>,
        address: Address,
        options: &LoadOptions,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Self> {
        let mut uploads = Uploads { device: &shared.device, files: BTreeMap::new(), weights: None, in_flight: 0 };
        let source = Source { address: &address, network: &Browser, cache: &shared.cache };
        let loaded = load_model(&source, options, progress, &mut uploads).await?;
        let Uploads { files, weights, .. } = uploads;
        let weights = weights.ok_or_else(|| Error::config("config.json", "is not in the model folder"))?;
        let blip2 = Blip2::load(&shared.device, &files, &weights)?;
        let url = address.as_str().into();
        Ok(Self { inner: Rc::new(Inner { shared, blip2, url, loaded }) })
    }
}

/// Takes each shard to the device as it comes.
struct Uploads<'a> {
    device: &'a Device,
    files: BTreeMap<String, Vec<u8>>,
    weights: Option<Weights>,
    in_flight: usize,
}

impl Receiver for Uploads<'_> {
    fn files(&mut self, _: &Index, files: BTreeMap<String, Vec<u8>>) -> Result<()> {
        let config = files.get("config.json").ok_or_else(|| Error::config("config.json", "is not in the model folder"))?;
        self.weights = Some(Weights::new(self.device, models::plan(config)?));
        self.files = files;
        Ok(())
    }

    async fn shard(&mut self, index: &Index, file: &str, bytes: &[u8]) -> Result<()> {
        if let Some(weights) = &self.weights {
            shard::push(weights, index, file, bytes)?;
        }
        self.in_flight += bytes.len();
        if is_webgpu(self.device) && self.in_flight >= UPLOAD_LIMIT {
            // What is read back comes after all that was sent.
            read_floats(Tensor::<1>::zeros([1], &self.device.burn)).await?;
            self.in_flight = 0;
        }
        pace::macrotask().await;
        Ok(())
    }
}

#[wasm_bindgen]
impl Model {
    #[wasm_bindgen(unchecked_return_type = "ModelInfo")]
    pub fn info(&self) -> JsValue {
        let Inner { shared, url, loaded, .. } = &*self.inner;
        let storage_error = loaded.storage_error.as_ref().map(error_to_json);
        to_js(&json!({
            "url": url,
            "bytes": loaded.bytes,
            "cached": loaded.cached,
            "kept": storage_error.is_none(),
            "storageError": storage_error,
            "device": shared.device.kind,
            "index": index_facts(&loaded.index),
        }))
    }

    /// The bytes of an image file → what the language model sees of it, kept on the device.
    /// Errors: image-undecodable, image-too-large, device-lost, kernel; aborted.
    #[wasm_bindgen(unchecked_return_type = "Promise<Image>")]
    pub fn encode(&self, bytes: Vec<u8>, flag: &StopFlag) -> Promise {
        let (inner, flag) = (self.inner.clone(), flag.listen());
        promise(async move {
            let start = pace::now();
            let image = load_image(&bytes)?;
            drop(bytes);
            let features = flag.guard(inner.blip2.encode(&image)).await?;
            let (width, height) = (image.width as u32, image.height as u32);
            Ok(Image { inner, features: Rc::new(features), width, height, encode_ms: pace::now() - start }.into())
        })
    }
}

/// An image as the model has seen it: any number of questions may follow.
#[wasm_bindgen]
pub struct Image {
    inner: Rc<Inner>,
    features: Rc<ImageFeatures>,
    /// Pixels of the picture, upright.
    #[wasm_bindgen(readonly)]
    pub width: u32,
    #[wasm_bindgen(readonly)]
    pub height: u32,
    /// Milliseconds that decoding and encoding took.
    #[wasm_bindgen(readonly, js_name = encodeMs)]
    pub encode_ms: f64,
}

#[wasm_bindgen]
impl Image {
    /// A caption, or what follows the prompt, piece by piece. Errors: option-unsupported, input-invalid, device-lost, kernel; aborted.
    #[wasm_bindgen(unchecked_return_type = "Promise<Generated>")]
    pub fn generate(
        &self,
        prompt: Option<String>,
        #[wasm_bindgen(unchecked_param_type = "GenerationOptions | undefined")] options: JsValue,
        #[wasm_bindgen(js_name = onPiece, unchecked_param_type = "(piece: string) => void")] on_piece: Function,
        flag: &StopFlag,
    ) -> Promise {
        let (inner, features, flag) = (self.inner.clone(), self.features.clone(), flag.listen());
        promise(async move {
            let config = options::generation(&options)?;
            let nothing_yet = Cell::new(true);
            let mut piece = |text: &str| {
                nothing_yet.set(false);
                if !text.is_empty() {
                    call(Some(&on_piece), || text.into());
                }
                if flag.is_raised() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            };
            let generation = inner.blip2.generate(&features, prompt.as_deref(), &config, &mut piece);
            let answer = flag.guard_stoppable(&nothing_yet, generation).await?;
            Ok(to_js(&answer.unwrap_or_else(Answer::stopped_at_once)))
        })
    }
}

/// What a page shows of a model's index.
pub(super) fn index_facts(index: &Index) -> Value {
    let stages: BTreeMap<_, _> = Stage::ALL.iter().map(|stage| (stage.to_string(), index.stage_bytes(*stage))).collect();
    json!({
        "parameters": index.parameters,
        "quantization": index.quantization,
        "source": index.source,
        "licence": index.licence,
        "ui": index.ui,
        "stages": stages,
        "deviceBytes": index.device_bytes(),
    })
}
