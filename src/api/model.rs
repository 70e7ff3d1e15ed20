//! A loaded model and the images that it has seen.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::rc::{Rc, Weak};

use js_sys::{Float32Array, Function, Promise};
use serde_json::{Value, json};
use wasm_bindgen::prelude::*;

use super::error::to_js;
use super::options::Wish;
use super::stop::StopFlag;
use super::tensors::{self, tensor_to_js};
use super::{Shared, call, options, promise};
use crate::delivery::progress::Progress;
use crate::delivery::{Hold, load_files};
use crate::device::Arithmetic;
use crate::error::{Error, Result};
use crate::generation::Generated;
use crate::ops::read_floats;
use crate::pace;
use crate::processor::{Blip2Processor, load_image};
use crate::tasks::{Answer, AnyModel, ImageFeatures, PictureEncoder, Plain, RetrievalImage, Task};
use crate::weights::index::{Index, Stage};

/// A model from the moment its configs are known: what is there of it is there for good, and the rest may still come.
pub(super) struct Inner {
    pub shared: Rc<Shared>,
    pub arithmetic: Arithmetic,
    pub class: &'static str,
    pub can: &'static [Task],
    pub url: String,
    /// Of its index.
    pub facts: Value,
    pub bytes: u64,
    /// The vision tower is another model's.
    pub shares_tower: bool,
    /// Of a generation class: it encodes pictures before the language model is there.
    pub encoder: OnceCell<PictureEncoder>,
    /// All of it.
    pub model: OnceCell<AnyModel>,
    pub arrival: OnceCell<Arrival>,
    /// Images of a retrieval model by their ids, as long as JavaScript holds them.
    pub images: RefCell<BTreeMap<u32, Weak<RetrievalImage>>>,
}

/// How a whole model came.
#[derive(Default)]
pub(super) struct Arrival {
    /// Bytes that were in the cache.
    pub cached: u64,
    /// Whether all of it is there now.
    pub kept: bool,
    pub storage_error: Option<Error>,
    /// Its files stay in the cache as long as it lives.
    pub _hold: Option<Hold>,
}

impl Inner {
    /// Errors: input-invalid while it is not loaded whole.
    fn model(&self) -> Result<&AnyModel> {
        self.model.get().ok_or_else(|| Error::input("model", "is not loaded that far"))
    }

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
    pub(super) inner: Rc<Inner>,
}

impl Model {
    /// HF `Blip2Processor`: small files alone.
    pub(super) async fn processor(shared: Rc<Shared>, wish: &Wish, progress: &mut dyn FnMut(Progress)) -> Result<Self> {
        let (index, files) = load_files(&wish.source(&shared), &wish.options, progress).await?;
        let model = AnyModel::Processor(Box::new(Blip2Processor::from_files(&files)?));
        Ok(Self {
            inner: Rc::new(Inner {
                arithmetic: shared.device.arithmetic,
                shared,
                class: options::PROCESSOR,
                can: &[],
                url: wish.address.as_str().into(),
                facts: index_facts(&index),
                bytes: files.values().map(|bytes| bytes.len() as u64).sum(),
                shares_tower: false,
                encoder: OnceCell::new(),
                model: OnceCell::from(model),
                arrival: OnceCell::from(Arrival::default()),
                images: RefCell::default(),
            }),
        })
    }
}

#[wasm_bindgen]
impl Model {
    #[wasm_bindgen(unchecked_return_type = "ModelInfo")]
    pub fn info(&self) -> JsValue {
        let Inner { shared, arithmetic, class, can, url, facts, bytes, shares_tower, arrival, .. } = &*self.inner;
        let from_another: &[Stage] = if *shares_tower { &[Stage::Vision] } else { &[] };
        let arrival = arrival.get();
        let storage_error = arrival.and_then(|arrival| arrival.storage_error.as_ref()).map(Error::report);
        to_js(&json!({
            "url": url,
            "bytes": bytes,
            "cached": arrival.map_or(0, |arrival| arrival.cached),
            "kept": arrival.is_some_and(|arrival| arrival.kept),
            "storageError": storage_error,
            "device": shared.device.kind,
            "arithmetic": arithmetic,
            "index": facts,
            "shared": from_another,
            "class": class,
            "can": can,
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
            let seen = match inner.encoder.get() {
                Some(encoder) => Seen::Generation(Rc::new(flag.guard(encoder.encode(&image)).await?)),
                None => {
                    let seen = Rc::new(flag.guard(inner.model()?.retrieval()?.encode(&image)).await?);
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
            let (model, images) = (inner.model()?.retrieval()?, inner.images(&ids)?);
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
            let (model, images) = (inner.model()?.retrieval()?, inner.images(&ids)?);
            let images: Vec<&RetrievalImage> = images.iter().map(Rc::as_ref).collect();
            let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
            let data = flag.guard(model.itc(&images, &texts)).await?.concat();
            Ok(tensor_to_js(&Plain { data, shape: vec![texts.len(), images.len()] }))
        })
    }

    /// Texts as vectors, each of length 1: a tensor [texts, D]. Errors: as `rank`.
    #[wasm_bindgen(js_name = embedTexts, unchecked_return_type = "Promise<Tensor>")]
    pub fn embed_texts(&self, texts: Vec<String>, flag: &StopFlag) -> Promise {
        let (inner, flag) = (self.inner.clone(), flag.listen());
        promise(async move {
            let model = inner.model()?.retrieval()?;
            let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
            let embeds = flag.guard(model.embed(&texts)).await?;
            let width = model.model.config.image_text_hidden_size;
            Ok(tensor_to_js(&Plain { data: embeds.concat(), shape: vec![texts.len(), width] }))
        })
    }

    /// The probability of each text to be of the image. Errors: as `rank`.
    #[wasm_bindgen(unchecked_return_type = "Promise<Float32Array>")]
    pub fn matches(&self, id: u32, texts: Vec<String>, flag: &StopFlag) -> Promise {
        let (inner, flag) = (self.inner.clone(), flag.listen());
        promise(async move {
            let (model, images) = (inner.model()?.retrieval()?, inner.images(&[id])?);
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
            let outputs = flag.guard(inner.model()?.call(&inner.shared.device, &method, tensors::arguments(&inputs)?)).await?;
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
            let model = inner.model()?.generation()?;
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
            let processor = inner.model()?.processor()?;
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
            Ok(to_js(&inner.model()?.processor()?.batch_decode(&rows, skip_special_tokens)?))
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
            let model = inner.model()?.generation()?;
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
    /// The vectors that texts are compared with, each of length 1: a tensor [queries, D]. Errors: input-invalid where the model has none,
    /// device-lost, kernel; aborted.
    #[wasm_bindgen(unchecked_return_type = "Promise<Tensor>")]
    pub fn embeds(&self, flag: &StopFlag) -> Promise {
        let (seen, flag) = (self.seen.clone(), flag.listen());
        promise(async move {
            let Seen::Retrieval(image) = seen else { return Err(Error::input("image", "of this model has no vectors")) };
            let [_, queries, width] = image.image_embeds().dims();
            let data = flag.guard(read_floats(image.image_embeds().clone())).await?;
            Ok(tensor_to_js(&Plain { data, shape: vec![queries, width] }))
        })
    }

    /// Which part of the picture each word of a text goes back to: of a generator, as if it said the text behind the prompt.
    /// Errors: input-invalid, tokenizer-invalid, device-lost, kernel; aborted.
    #[wasm_bindgen(unchecked_return_type = "Promise<Attention>")]
    pub fn attention(&self, prompt: Option<String>, text: String, flag: &StopFlag) -> Promise {
        let (inner, seen, flag) = (self.inner.clone(), self.seen.clone(), flag.listen());
        promise(async move {
            let map = match seen {
                Seen::Generation(features) => {
                    flag.guard(inner.model()?.generation()?.attention(features.picture(), prompt.as_deref(), &text)).await?
                }
                Seen::Retrieval(image) => flag.guard(inner.model()?.retrieval()?.attention(&image, &text)).await?,
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
