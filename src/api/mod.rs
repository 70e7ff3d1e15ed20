//! What JavaScript calls: wasm-bindgen shells without logic of their own. Plain values in, plain values out.
//!
//! Methods take `&self` and give a promise that owns what it needs, so that every one may be called, and every object freed,
//! while others still run. A failure is the plain object `{code, message, hint, retryable, facts}`.

#[cfg(feature = "workbench")]
mod bench;
mod error;
mod loading;
mod model;
mod options;
#[cfg(feature = "workbench")]
mod parity;
mod stop;
mod tensors;
mod towers;
#[cfg(feature = "webgpu")]
mod tuning;
mod types;

use std::cell::Cell;
use std::future::Future;
use std::rc::Rc;
use std::sync::Once;

use burn_tensor::Tensor;
use js_sys::{Function, Promise, Reflect};
use serde_json::json;
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::future_to_promise;

pub use self::model::{Image, Model};
pub use self::stop::StopFlag;

use self::error::{error_to_js, to_js};
use self::options::StorageKind;
use self::towers::Towers;
use crate::delivery::cache::Cache;
use crate::delivery::custom_storage::StorageDriver;
use crate::delivery::indexed_db::IndexedDb;
use crate::delivery::storage::{AnyStorage, Memory};
use crate::delivery::{inspect, load_files};
use crate::device::{Device, DeviceKind};
use crate::error::{Error, Result};
use crate::models::{Blip2Config, Blip2QFormerConfig, Blip2VisionConfig, TextConfig, config_json};
use crate::ops::{launch, read_floats};
use crate::weights::fit;

unsafe extern "C" {
    fn __wasm_call_ctors();
}

/// Runs when the module is ready, before anything else.
#[wasm_bindgen(start)]
pub fn start() {
    // A module that never calls its static constructors has them called by the linker around every export: half a
    // millisecond each time, and one kernel launch makes a dozen such calls. Called here, the linker leaves it to us.
    static ONCE: Once = Once::new();
    // SAFETY: the linker defines it in every module, and this is its only call.
    ONCE.call_once(|| unsafe { __wasm_call_ctors() });
    console_error_panic_hook::set_once();
}

/// What the objects of one worker share.
struct Shared {
    device: Device,
    cache: Cache<AnyStorage>,
    storage: StorageKind,
    towers: Towers,
    /// Images count up, over all models.
    images: Cell<u32>,
}

/// The device of this build, and the cache. One a worker.
#[wasm_bindgen]
pub struct Runtime {
    shared: Rc<Shared>,
}

#[wasm_bindgen]
impl Runtime {
    /// `driver`: of the storage `custom`. Errors: webgpu-unavailable, option-unsupported, input-invalid.
    #[wasm_bindgen(unchecked_return_type = "Promise<Runtime>")]
    pub fn create(
        #[wasm_bindgen(unchecked_param_type = "RuntimeOptions | undefined")] options: JsValue,
        driver: Option<StorageDriver>,
    ) -> Promise {
        promise(async move {
            let storage = options::runtime(&options)?.storage;
            let cache = Cache::new(match storage {
                StorageKind::IndexedDb => AnyStorage::IndexedDb(IndexedDb::default()),
                StorageKind::Memory => AnyStorage::Memory(Memory::default()),
                StorageKind::Custom => {
                    AnyStorage::Custom(driver.ok_or_else(|| Error::input("storage", "a custom one needs its driver"))?.into())
                }
            });
            let device = device().await?;
            #[cfg(feature = "webgpu")]
            tuning::apply(&device, cache.storage()).await?;
            Ok(Runtime { shared: Rc::new(Shared { device, cache, storage, towers: Towers::default(), images: Cell::new(0) }) }.into())
        })
    }

    #[wasm_bindgen(unchecked_return_type = "Adapter")]
    pub fn adapter(&self) -> JsValue {
        let Device { kind, adapter, .. } = &self.shared.device;
        let mut facts = json!(adapter);
        facts["kind"] = json!(kind);
        facts["tuning"] = json!((*kind == DeviceKind::Webgpu).then(crate::device::tuning));
        to_js(&facts)
    }

    /// Loads the model folder at an absolute address. `onMilestone` hears what of it works before all does, with the model as far
    /// as it is there: each time another handle of the same. Errors: those of `delivery::load_model` and of the models; aborted.
    #[wasm_bindgen(unchecked_return_type = "Promise<Model>")]
    pub fn load(
        &self,
        url: String,
        #[wasm_bindgen(unchecked_param_type = "LoadOptions | undefined")] options: JsValue,
        #[wasm_bindgen(js_name = onProgress, unchecked_param_type = "((progress: Progress) => void) | undefined")] on_progress: Option<
            Function,
        >,
        #[wasm_bindgen(js_name = onMilestone, unchecked_param_type = "((milestone: Milestone, model: Model) => void) | undefined")]
        on_milestone: Option<Function>,
        flag: &StopFlag,
    ) -> Promise {
        let (shared, flag) = (self.shared.clone(), flag.listen());
        promise(async move {
            let wish = options::load(&url, &options)?;
            let mut progress = |event| call(on_progress.as_ref(), || to_js(&event));
            let mut milestone = |reached, model: Model| {
                if let Some(function) = &on_milestone {
                    let _ = function.call2(&JsValue::UNDEFINED, &to_js(&reached), &model.into());
                }
            };
            flag.guard(loading::load(shared, &wish, &mut progress, &mut milestone)).await.map(JsValue::from)
        })
    }

    /// What the index tells: sizes, how much of it is in the cache, and whether it fits this device. Errors: those of fetching an index; aborted.
    #[wasm_bindgen(unchecked_return_type = "Promise<Inspection>")]
    pub fn inspect(
        &self,
        url: String,
        #[wasm_bindgen(unchecked_param_type = "LoadOptions | undefined")] options: JsValue,
        flag: &StopFlag,
    ) -> Promise {
        let (shared, flag) = (self.shared.clone(), flag.listen());
        promise(async move {
            let wish = options::load(&url, &options)?;
            let found = flag.guard(inspect(&wish.source(&shared), &wish.options)).await?;
            let (url, index) = (wish.address.as_str(), model::index_facts(&found.index));
            let (memory, fits) = (fit::memory(&found.index), fit::fits(&shared.device, &found.index, machine_memory()));
            let facts = json!({ "url": url, "bytes": found.bytes, "cached": found.cached, "memory": memory, "fits": fits, "index": index });
            Ok(to_js(&facts))
        })
    }

    /// A configuration with all that its file leaves out, under HF's names: of the model folder at an address, or of JSON.
    /// part: "Blip2Config", "Blip2VisionConfig" or "Blip2QFormerConfig". Errors: those of fetching; config-invalid,
    /// model-unsupported, input-invalid; aborted.
    #[wasm_bindgen(unchecked_return_type = "Promise<Record<string, unknown>>")]
    pub fn config(
        &self,
        part: String,
        url: Option<String>,
        json: Option<String>,
        #[wasm_bindgen(unchecked_param_type = "LoadOptions | undefined")] options: JsValue,
        flag: &StopFlag,
    ) -> Promise {
        let (shared, flag) = (self.shared.clone(), flag.listen());
        promise(async move {
            let bytes = match (url, json) {
                (None, Some(json)) => json.into_bytes(),
                (Some(url), None) => {
                    let wish = options::load(&url, &options)?;
                    let (_, files) = flag.guard(load_files(&wish.source(&shared), &wish.options, &mut |_| {})).await?;
                    config_json(&files)?.to_vec()
                }
                _ => return Err(Error::input("config", "an address or JSON is expected")),
            };
            config_to_js(&part, &bytes)
        })
    }

    /// HF `Blip2Config.from_vision_qformer_text_configs` of their JSON; no text is OPT. Errors: config-invalid, model-unsupported.
    #[wasm_bindgen(js_name = joinConfigs, unchecked_return_type = "Promise<Record<string, unknown>>")]
    pub fn join_configs(&self, vision: String, qformer: String, text: Option<String>) -> Promise {
        promise(async move {
            let (vision, qformer) = (Blip2VisionConfig::from_json(vision.as_bytes())?, Blip2QFormerConfig::from_json(qformer.as_bytes())?);
            let text = text.map(|text| TextConfig::from_json(text.as_bytes())).transpose()?;
            let config = Blip2Config::from_vision_qformer_text_configs(vision, qformer, text)?;
            config_to_js("Blip2Config", &config.to_json()?)
        })
    }

    /// Errors: storage-unavailable.
    #[wasm_bindgen(unchecked_return_type = "Promise<CacheReport>")]
    pub fn cache(&self) -> Promise {
        let shared = self.shared.clone();
        promise(async move {
            let report = shared.cache.report().await?;
            let mut json = serde_json::to_value(report).unwrap_or_default();
            json["storage"] = json!(shared.storage);
            Ok(to_js(&json))
        })
    }

    /// Deletes a model from the cache, by its address there. Errors: storage-unavailable.
    #[wasm_bindgen(js_name = deleteModel, unchecked_return_type = "Promise<void>")]
    pub fn delete_model(&self, url: String) -> Promise {
        let shared = self.shared.clone();
        promise(async move { shared.cache.delete(&url).await.map(|()| JsValue::UNDEFINED) })
    }

    /// Errors: storage-unavailable.
    #[wasm_bindgen(js_name = clearCache, unchecked_return_type = "Promise<void>")]
    pub fn clear_cache(&self) -> Promise {
        let shared = self.shared.clone();
        promise(async move { shared.cache.clear().await.map(|()| JsValue::UNDEFINED) })
    }

    /// Resolves when the device has done all that it was asked for. Errors: device-lost, kernel.
    #[wasm_bindgen(unchecked_return_type = "Promise<void>")]
    pub fn settled(&self) -> Promise {
        let shared = self.shared.clone();
        promise(async move { settle(&shared.device).await.map(|()| JsValue::UNDEFINED) })
    }

    /// What our kernels have launched since the start.
    #[wasm_bindgen(unchecked_return_type = "Launches")]
    pub fn launches(&self) -> JsValue {
        to_js(&launch::counts())
    }
}

/// The one device that this build is made for.
async fn device() -> Result<Device> {
    #[cfg(feature = "webgpu")]
    return Device::webgpu().await;
    #[cfg(not(feature = "webgpu"))]
    Ok(Device::cpu())
}

/// What the browser says of the machine's memory, in bytes: a coarse number, at most 8 GiB, and of some browsers nothing.
fn machine_memory() -> Option<u64> {
    let navigator = Reflect::get(&js_sys::global(), &"navigator".into()).ok()?;
    let gibibytes = Reflect::get(&navigator, &"deviceMemory".into()).ok()?.as_f64()?;
    Some((gibibytes * f64::from(1 << 30)) as u64)
}

fn config_to_js(part: &str, bytes: &[u8]) -> Result<JsValue> {
    let json = match part {
        "Blip2Config" => Blip2Config::from_json(bytes)?.to_json()?,
        "Blip2VisionConfig" => Blip2VisionConfig::from_json(bytes)?.to_json()?,
        "Blip2QFormerConfig" => Blip2QFormerConfig::from_json(bytes)?.to_json()?,
        _ => return Err(Error::input("part", format!("{part} is no configuration"))),
    };
    let value: serde_json::Value = serde_json::from_slice(&json).map_err(|error| Error::config("config.json", error))?;
    Ok(to_js(&value))
}

/// A promise of what the future gives, or of its error as a plain object.
fn promise(future: impl Future<Output = Result<JsValue>> + 'static) -> Promise {
    future_to_promise(async move { future.await.map_err(|error| error_to_js(&error)) })
}

/// Calls back; what the callback throws is its own affair.
fn call(function: Option<&Function>, argument: impl FnOnce() -> JsValue) {
    if let Some(function) = function {
        let _ = function.call1(&JsValue::UNDEFINED, &argument());
    }
}

/// What is read back comes after all that was sent.
async fn settle(device: &Device) -> Result<()> {
    if is_webgpu(device) {
        read_floats(Tensor::<1>::zeros([1], &device.burn)).await?;
    }
    Ok(())
}

fn is_webgpu(device: &Device) -> bool {
    device.kind == DeviceKind::Webgpu
}
