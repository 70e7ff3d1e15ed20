//! The device that tensors live on: Burn's flex (CPU) or wgpu (WebGPU), and what is known of its adapter.

use std::sync::Mutex;
#[cfg(feature = "webgpu")]
use std::sync::atomic::{AtomicBool, Ordering};

#[cfg(feature = "webgpu")]
use crate::error::{Error, Result};

#[cfg(feature = "webgpu")]
static SOFTWARE: AtomicBool = AtomicBool::new(false);
static GPU_ERROR: Mutex<Option<String>> = Mutex::new(None);

/// Which of the two builds of the kernels a tensor meets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum DeviceKind {
    Cpu,
    Webgpu,
}

/// What the adapter says of itself, for the page, for reports and for the choice of kernels.
#[derive(Debug, Clone, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Adapter {
    pub name: String,
    pub backend: String,
    /// No GPU behind it: SwiftShader, lavapipe, WARP.
    pub software: bool,
}

#[derive(Debug, Clone)]
pub struct Device {
    pub kind: DeviceKind,
    pub adapter: Adapter,
    pub burn: burn_tensor::Device,
}

impl Device {
    /// Burn's flex: one thread, SIMD where the target has it.
    #[cfg(feature = "cpu")]
    pub fn cpu() -> Self {
        let adapter = Adapter { name: "CPU".into(), backend: "flex".into(), software: false };
        Self { kind: DeviceKind::Cpu, adapter, burn: burn_tensor::Device::flex() }
    }

    /// The adapter that the browser or the operating system prefers. The runtime behind it is global: every call gives the same.
    /// Errors: webgpu-unavailable.
    #[cfg(all(feature = "webgpu", not(target_arch = "wasm32")))]
    #[allow(clippy::await_holding_lock)] // who comes second has to wait for the first, which nothing else does
    pub async fn webgpu() -> Result<Self> {
        static MADE: Mutex<Option<Device>> = Mutex::new(None);
        let mut made = MADE.lock().map_err(|error| Error::WebgpuUnavailable { reason: error.to_string() })?;
        if let Some(device) = &*made {
            return Ok(device.clone());
        }
        let device = Self::make_webgpu().await?;
        *made = Some(device.clone());
        Ok(device)
    }

    /// The adapter that the browser prefers. Call it once: the runtime behind it is the worker's. Errors: webgpu-unavailable.
    #[cfg(all(feature = "webgpu", target_arch = "wasm32"))]
    pub async fn webgpu() -> Result<Self> {
        Self::make_webgpu().await
    }

    #[cfg(feature = "webgpu")]
    async fn make_webgpu() -> Result<Self> {
        // 1024: the default of 32 splits one decode step into many submits, and it cannot be changed later.
        let options = burn_tensor::Device::wgpu_options().tasks_max(1024);
        let (burn, setup) =
            options.init_with_setup_async().await.map_err(|error| Error::WebgpuUnavailable { reason: error.to_string() })?;
        setup.device.on_uncaptured_error(std::sync::Arc::new(|error| report_gpu_error(error.to_string())));
        let info = setup.adapter.get_info();
        #[cfg(not(target_arch = "wasm32"))]
        let name = info.name.clone();
        #[cfg(target_arch = "wasm32")]
        let name = browser::adapter_name().await.unwrap_or_default();
        let software = info.device_type == burn_wgpu::wgpu::DeviceType::Cpu || is_software(&name) || is_software(&info.driver);
        SOFTWARE.store(software, Ordering::Relaxed);
        let adapter = Adapter { name, backend: format!("{:?}", setup.backend).to_lowercase(), software };
        Ok(Self { kind: DeviceKind::Webgpu, adapter, burn })
    }
}

#[cfg(feature = "webgpu")]
fn is_software(name: &str) -> bool {
    let name = name.to_lowercase();
    ["swiftshader", "llvmpipe", "lavapipe", "basic render driver", "warp"].iter().any(|software| name.contains(software))
}

/// On a software adapter a workgroup barrier costs microseconds, so kernels choose variants without.
#[cfg(feature = "webgpu")]
pub(crate) fn software_adapter() -> bool {
    SOFTWARE.load(Ordering::Relaxed)
}

/// Keeps the first error that the GPU reported outside of any call.
#[cfg(feature = "webgpu")]
fn report_gpu_error(message: String) {
    if let Ok(mut error) = GPU_ERROR.lock() {
        error.get_or_insert(message);
    }
}

/// Hands the error that the GPU reported to whoever waits for it next.
pub(crate) fn take_gpu_error() -> Option<String> {
    GPU_ERROR.lock().ok().and_then(|mut error| error.take())
}

/// wgpu passes on an adapter's description alone, which browsers leave empty for visitors.
#[cfg(all(feature = "webgpu", target_arch = "wasm32"))]
mod browser {
    use js_sys::{Function, Object, Promise, Reflect};
    use wasm_bindgen::{JsCast, JsValue};
    use wasm_bindgen_futures::JsFuture;

    /// What the browser says of the adapter that it gives when asked as the runtime asks: "google swiftshader".
    pub async fn adapter_name() -> Result<String, JsValue> {
        let get = |holder: &JsValue, name: &str| Reflect::get(holder, &name.into());
        let gpu = get(&get(&js_sys::global(), "navigator")?, "gpu")?;
        let options = Object::new();
        Reflect::set(&options, &"powerPreference".into(), &"high-performance".into())?;
        let asked: Promise = get(&gpu, "requestAdapter")?.dyn_into::<Function>()?.call1(&gpu, &options)?.dyn_into()?;
        let info = get(&JsFuture::from(asked).await?, "info")?;
        let mut words: Vec<String> = vec![];
        for name in ["vendor", "architecture", "device", "description"] {
            let word = get(&info, name)?.as_string().unwrap_or_default();
            if !word.trim().is_empty() && !words.contains(&word) {
                words.push(word);
            }
        }
        Ok(words.join(" "))
    }
}
