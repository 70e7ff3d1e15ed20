//! A loaded model and the images that it has seen.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::rc::{Rc, Weak};

use js_sys::{Float32Array, Function, Promise};
use serde_json::{Value, json};
use wasm_bindgen::prelude::*;

use super::error::to_js;
use super::options::As;
use super::stop::StopFlag;
use super::tensors::{self, tensor_to_js};
use super::towers::tower_name;
use super::{Shared, call, options, promise, settle};
use crate::delivery::address::Address;
use crate::delivery::browser::Browser;
use crate::delivery::progress::Progress;
use crate::delivery::{LoadOptions, Loaded, Receiver, Source, load_files, load_model};
use crate::device::{Arithmetic, Device};
use crate::error::{Error, Result};
use crate::generation::Generated;
use crate::models::{self, Blip2VisionModel, Class};
use crate::pace;
use crate::processor::{Blip2Processor, load_image};
use crate::tasks::{Answer, AnyModel, ImageFeatures, Plain, RetrievalImage};
use crate::weights::index::{Index, Stage};
use crate::weights::{Weights, fit, shard};

/// Uploads in flight: more of them pile up as copies beside the weights.
const UPLOAD_LIMIT: usize = 64 << 20;

struct Inner {
    shared: Rc<Shared>,
    arithmetic: Arithmetic,
    class: &'static str,
    model: AnyModel,
    /// The vision tower is another model's.
    shares_tower: bool,
    url: String,
    loaded: Loaded,
    /// Images of a retrieval model by their ids, as long as JavaScript holds them.
    images: RefCell<BTreeMap<u32, Weak<RetrievalImage>>>,
}

impl Inner {
    /// Errors: input-invalid for an id that is none of this model's.
    fn images(&self, ids: &[u32]) -> Result<Vec<Rc<RetrievalImage>>> {
        let images = self.images.borrow();
        let image = |id: &u32| {
            images.get(id).and_then(Weak::upgrade).ok_or_else(|| Error::input("images", format!("this model has no image {id}")))
        };
        ids.iter().map(image).collect()
    }
}

/// A model on the device. Freed while images of it live, it stays until they are freed.
#[wasm_bindgen]
pub struct Model {
    inner: Rc<Inner>,
}

impl Model {
    pub(super) async fn load(
        shared: Rc<Shared>,
        device: Device,
        address: Address,
        class: As,
        options: &LoadOptions,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Self> {
        let class = match class {
            As::Processor => return Self::processor(shared, &address, options, progress).await,
            As::Class(class) => Some(class),
            As::Saved => None,
        };
        let mut uploads = Uploads { shared: &shared, device: &device, class, files: BTreeMap::new(), begun: None, in_flight: 0 };
        let source = Source { address: &address, network: &Browser, cache: &shared.cache };
        let loaded = load_model(&source, options, progress, &mut uploads).await?;
        let Uploads { files, begun, .. } = uploads;
        let Begun { class, weights, tower, tower_name } =
            begun.ok_or_else(|| Error::config("config.json", "is not in the model folder"))?;
        let shares_tower = tower.is_some();
        let model = AnyModel::load(&device, class, &files, &weights, tower)?;
        if let (Some(name), Some(tower)) = (tower_name, model.vision_model()) {
            shared.towers.remember(name, &tower);
        }
        let (class, url) = (class.name(), address.as_str().into());
        Ok(Self {
            inner: Rc::new(Inner {
                shared,
                arithmetic: device.arithmetic,
                class,
                model,
                shares_tower,
                url,
                loaded,
                images: RefCell::default(),
            }),
        })
    }
}

impl Model {
    /// Small files alone.
    async fn processor(shared: Rc<Shared>, address: &Address, options: &LoadOptions, progress: &mut dyn FnMut(Progress)) -> Result<Self> {
        let source = Source { address, network: &Browser, cache: &shared.cache };
        let (index, files) = load_files(&source, options, progress).await?;
        let model = AnyModel::Processor(Box::new(Blip2Processor::from_files(&files)?));
        let bytes = files.values().map(|bytes| bytes.len() as u64).sum();
        let loaded = Loaded { index, bytes, cached: 0, storage_error: None };
        let (class, url, images) = (options::PROCESSOR, address.as_str().into(), RefCell::default());
        let arithmetic = shared.device.arithmetic;
        Ok(Self { inner: Rc::new(Inner { shared, arithmetic, class, model, shares_tower: false, url, loaded, images }) })
    }
}

/// Takes each shard to the device as it comes.
struct Uploads<'a> {
    shared: &'a Shared,
    device: &'a Device,
    /// What it is to be loaded as, if not as it was saved.
    class: Option<Class>,
    files: BTreeMap<String, Vec<u8>>,
    begun: Option<Begun>,
    in_flight: usize,
}

/// What the configs have decided.
struct Begun {
    class: Class,
    weights: Weights,
    /// Another model's, of the same weights.
    tower: Option<Rc<Blip2VisionModel>>,
    tower_name: Option<String>,
}

impl Receiver for Uploads<'_> {
    fn files(&mut self, index: &Index, files: BTreeMap<String, Vec<u8>>) -> Result<()> {
        fit::check(&self.shared.device, index)?;
        let config = models::config_json(&files)?;
        let class = self.class.map_or_else(|| Class::of(config), Ok)?;
        let weights = Weights::new(self.device, models::plan_class(class, config)?);
        let shares = matches!(class, Class::Blip2ForConditionalGeneration | Class::Blip2Model | Class::Blip2ForImageTextRetrieval);
        let tower_name = shares.then(|| tower_name(config, index, self.device.arithmetic)).transpose()?;
        let tower = tower_name.as_ref().and_then(|name| self.shared.towers.find(name));
        self.begun = Some(Begun { class, weights, tower, tower_name });
        self.files = files;
        Ok(())
    }

    async fn shard(&mut self, index: &Index, file: &str, bytes: &[u8]) -> Result<()> {
        let Some(begun) = &self.begun else { return Ok(()) };
        let of_tower = index.files.get(file).is_some_and(|entry| entry.stage == Some(Stage::Vision));
        if begun.tower.is_none() || !of_tower {
            shard::push(&begun.weights, index, file, bytes)?;
            self.in_flight += bytes.len();
        }
        if self.in_flight >= UPLOAD_LIMIT {
            settle(&self.shared.device).await?;
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
        let Inner { shared, arithmetic, class, model, shares_tower, url, loaded, .. } = &*self.inner;
        let from_another: &[Stage] = if *shares_tower { &[Stage::Vision] } else { &[] };
        let storage_error = loaded.storage_error.as_ref().map(Error::report);
        to_js(&json!({
            "url": url,
            "bytes": loaded.bytes,
            "cached": loaded.cached,
            "kept": storage_error.is_none(),
            "storageError": storage_error,
            "device": shared.device.kind,
            "arithmetic": arithmetic,
            "index": index_facts(&loaded.index),
            "shared": from_another,
            "class": class,
            "can": model.tasks(),
        }))
    }

    /// The bytes of an image file → what the model sees of it, kept on the device.
    /// Errors: image-undecodable, image-too-large, device-lost, kernel; aborted; option-unsupported where the class takes no pictures.
    #[wasm_bindgen(unchecked_return_type = "Promise<Image>")]
    pub fn encode(&self, bytes: Vec<u8>, flag: &StopFlag) -> Promise {
        let (inner, flag) = (self.inner.clone(), flag.listen());
        promise(async move {
            let start = pace::now();
            let image = load_image(&bytes)?;
            drop(bytes);
            let id = inner.shared.images.get() + 1;
            inner.shared.images.set(id);
            let seen = match &inner.model {
                AnyModel::Generation(model) => Seen::Generation(Rc::new(flag.guard(model.encode(&image)).await?)),
                _ => {
                    let seen = Rc::new(flag.guard(inner.model.retrieval()?.encode(&image)).await?);
                    let mut images = inner.images.borrow_mut();
                    images.retain(|_, image| image.strong_count() > 0);
                    images.insert(id, Rc::downgrade(&seen));
                    drop(images);
                    Seen::Retrieval(seen)
                }
            };
            let (width, height) = (image.width as u32, image.height as u32);
            Ok(Image { inner, seen, id, width, height, encode_ms: pace::now() - start }.into())
        })
    }

    /// The images of these ids by how well they fit the text, best first.
    /// Errors: option-unsupported, input-invalid, tokenizer-invalid, device-lost, kernel; aborted.
    #[wasm_bindgen(unchecked_return_type = "Promise<Ranked[]>")]
    pub fn rank(
        &self,
        ids: Vec<u32>,
        text: String,
        #[wasm_bindgen(unchecked_param_type = "{ rerank?: number } | undefined")] options: JsValue,
        flag: &StopFlag,
    ) -> Promise {
        let (inner, flag) = (self.inner.clone(), flag.listen());
        promise(async move {
            let options::RankOptions { rerank } = options::rank(&options)?;
            let (model, images) = (inner.model.retrieval()?, inner.images(&ids)?);
            let images: Vec<&RetrievalImage> = images.iter().map(Rc::as_ref).collect();
            let ranked = flag.guard(model.rank(&images, &text, rerank)).await?;
            let ranked: Vec<Value> =
                ranked.iter().map(|ranked| json!({ "image": ids[ranked.index], "itc": ranked.itc, "itm": ranked.itm })).collect();
            Ok(to_js(&ranked))
        })
    }

    /// Cosines of texts and images: a tensor [texts, images]. Errors: as `rank`.
    #[wasm_bindgen(unchecked_return_type = "Promise<Tensor>")]
    pub fn similarities(&self, ids: Vec<u32>, texts: Vec<String>, flag: &StopFlag) -> Promise {
        let (inner, flag) = (self.inner.clone(), flag.listen());
        promise(async move {
            let (model, images) = (inner.model.retrieval()?, inner.images(&ids)?);
            let images: Vec<&RetrievalImage> = images.iter().map(Rc::as_ref).collect();
            let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
            let data = flag.guard(model.itc(&images, &texts)).await?.concat();
            Ok(tensor_to_js(&Plain { data, shape: vec![texts.len(), images.len()] }))
        })
    }

    /// The probability of each text to be of the image. Errors: as `rank`.
    #[wasm_bindgen(unchecked_return_type = "Promise<Float32Array>")]
    pub fn matches(&self, id: u32, texts: Vec<String>, flag: &StopFlag) -> Promise {
        let (inner, flag) = (self.inner.clone(), flag.listen());
        promise(async move {
            let (model, images) = (inner.model.retrieval()?, inner.images(&[id])?);
            let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
            let probabilities = flag.guard(model.itm(&images[0], &texts)).await?;
            Ok(Float32Array::from(&probabilities[..]).into())
        })
    }

    /// A method of HF's class by its name, `forward` or one of `Blip2Model`'s: tensors and rows of ids under HF's names, and so its output.
    /// Errors: option-unsupported, input-invalid, device-lost, kernel; aborted.
    #[wasm_bindgen(unchecked_return_type = "Promise<Record<string, number | Tensor | Tensor[]>>")]
    pub fn call(
        &self,
        method: String,
        #[wasm_bindgen(unchecked_param_type = "Record<string, unknown>")] inputs: JsValue,
        flag: &StopFlag,
    ) -> Promise {
        let (inner, flag) = (self.inner.clone(), flag.listen());
        promise(async move {
            let outputs = flag.guard(inner.model.call(&inner.shared.device, &method, tensors::arguments(&inputs)?)).await?;
            Ok(tensors::outputs_to_js(&outputs))
        })
    }

    /// HF `generate` on pixel values and ids; `onStep` hears each row's newest id, of beams nothing.
    /// Errors: option-unsupported, input-invalid, device-lost, kernel; aborted.
    #[wasm_bindgen(js_name = generateIds, unchecked_return_type = "Promise<GeneratedIds>")]
    pub fn generate_ids(
        &self,
        #[wasm_bindgen(unchecked_param_type = "Record<string, unknown>")] inputs: JsValue,
        #[wasm_bindgen(unchecked_param_type = "GenerationOptions | undefined")] options: JsValue,
        #[wasm_bindgen(js_name = onStep, unchecked_param_type = "((ids: number[]) => void) | undefined")] on_step: Option<Function>,
        flag: &StopFlag,
    ) -> Promise {
        let (inner, flag) = (self.inner.clone(), flag.listen());
        promise(async move {
            let (arguments, config) = (tensors::arguments(&inputs)?, options::generation(&options)?);
            let mut step = |ids: &[u32]| {
                call(on_step.as_ref(), || to_js(&ids));
                if flag.is_raised() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            };
            let model = inner.model.generation()?;
            let Generated { ids, sequences_scores, finish } = flag.guard_stopped(model.generate_ids(arguments, &config, &mut step)).await?;
            Ok(to_js(&json!({ "ids": ids, "sequences_scores": sequences_scores, "finish": finish })))
        })
    }

    /// HF `Blip2Processor.__call__` on image files and texts. Errors: option-unsupported, input-invalid, image-undecodable, tokenizer-invalid.
    #[wasm_bindgen(unchecked_return_type = "Promise<Processed>")]
    pub fn process(
        &self,
        #[wasm_bindgen(unchecked_param_type = "Uint8Array[] | null | undefined")] images: JsValue,
        texts: Option<Vec<String>>,
        #[wasm_bindgen(unchecked_param_type = "Record<string, unknown> | undefined")] options: JsValue,
        flag: &StopFlag,
    ) -> Promise {
        let (inner, flag) = (self.inner.clone(), flag.listen());
        promise(async move {
            if flag.is_raised() {
                return Err(Error::Aborted {});
            }
            let processor = inner.model.processor()?;
            let mut fields = vec![];
            let pictures = tensors::files("images", &images)?;
            if let Some(files) = &pictures {
                let images = files.iter().map(|bytes| load_image(bytes)).collect::<Result<Vec<_>>>()?;
                let pixels = processor.image_processor.preprocess(&images.iter().collect::<Vec<_>>())?;
                fields.push(("pixel_values", tensor_to_js(&Plain { data: pixels.values, shape: pixels.shape.to_vec() })));
            }
            if let Some(texts) = &texts {
                let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
                let encoded = processor.text(&texts, pictures.is_some(), &options::process(&options)?)?;
                fields.push(("input_ids", to_js(&encoded.input_ids)));
                fields.push(("attention_mask", to_js(&encoded.attention_mask)));
            }
            if fields.is_empty() {
                return Err(Error::input("images", "images, text or both are needed"));
            }
            Ok(tensors::object(fields))
        })
    }

    /// HF `batch_decode`. Errors: option-unsupported, input-invalid, tokenizer-invalid.
    #[wasm_bindgen(unchecked_return_type = "Promise<string[]>")]
    pub fn decode(
        &self,
        #[wasm_bindgen(unchecked_param_type = "number[][]")] rows: JsValue,
        #[wasm_bindgen(js_name = skipSpecialTokens)] skip_special_tokens: bool,
    ) -> Promise {
        let inner = self.inner.clone();
        promise(async move {
            let rows: Vec<Vec<u32>> = options::read_value("ids", &rows)?;
            Ok(to_js(&inner.model.processor()?.batch_decode(&rows, skip_special_tokens)?))
        })
    }
}

/// What a model has seen of an image.
#[derive(Clone)]
enum Seen {
    Generation(Rc<ImageFeatures>),
    Retrieval(Rc<RetrievalImage>),
}

/// An image as the model has seen it: any number of questions may follow.
#[wasm_bindgen]
pub struct Image {
    inner: Rc<Inner>,
    seen: Seen,
    /// Of all images of this worker, for `rank`.
    #[wasm_bindgen(readonly)]
    pub id: u32,
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
        let (inner, flag) = (self.inner.clone(), flag.listen());
        let features = match &self.seen {
            Seen::Generation(features) => Some(features.clone()),
            Seen::Retrieval(_) => None,
        };
        promise(async move {
            let model = inner.model.generation()?;
            let features = features.ok_or_else(|| Error::input("image", "was encoded for another model"))?;
            let config = options::generation(&options)?;
            let nothing_yet = Cell::new(true);
            let mut piece = |text: &str| {
                nothing_yet.set(false);
                if !text.is_empty() {
                    call(Some(&on_piece), || text.into());
                }
                if flag.is_raised() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            };
            let generation = model.generate(&features, prompt.as_deref(), &config, &mut piece);
            let answer = flag.guard_stoppable(&nothing_yet, generation).await?;
            Ok(to_js(&answer.unwrap_or_else(Answer::stopped_at_once)))
        })
    }
}

#[wasm_bindgen]
impl Image {
    /// Which part of the picture each word of a text goes back to: of a generator, as if it said the text behind the prompt.
    /// Errors: input-invalid, tokenizer-invalid, device-lost, kernel; aborted.
    #[wasm_bindgen(unchecked_return_type = "Promise<Attention>")]
    pub fn attention(&self, prompt: Option<String>, text: String, flag: &StopFlag) -> Promise {
        let (inner, seen, flag) = (self.inner.clone(), self.seen.clone(), flag.listen());
        promise(async move {
            let map = match seen {
                Seen::Generation(features) => {
                    flag.guard(inner.model.generation()?.attention(features.picture(), prompt.as_deref(), &text)).await?
                }
                Seen::Retrieval(image) => flag.guard(inner.model.retrieval()?.attention(&image, &text)).await?,
            };
            let floats = |values: &[f32]| JsValue::from(Float32Array::from(values));
            let shape = json!({ "tokens": map.tokens.len(), "queries": map.num_queries, "rows": map.rows, "columns": map.columns });
            Ok(tensors::object([
                ("tokens", to_js(&map.tokens)),
                ("queries", floats(&map.queries)),
                ("patches", floats(&map.patches)),
                ("map", floats(&map.map)),
                ("shape", to_js(&shape)),
            ]))
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
