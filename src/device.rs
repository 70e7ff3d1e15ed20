//! The device that tensors live on: Burn's flex (CPU) or wgpu (WebGPU), and what is known of its adapter.

use std::ops::Range;
use std::sync::Mutex;

use burn_tensor::{Int, Tensor};

use crate::error::{Error, Result};

mod tuning;

pub use tuning::{Tuning, set_tuning, tuning};

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
    /// Whether kernels may use subgroup operations.
    pub subgroups: bool,
    /// Whether kernels may compute in f16.
    pub f16: bool,
}

/// How a model computes. What a device does not know (integers on a GPU, halves elsewhere) is `Exact` there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub enum Arithmetic {
    /// Dequantized weight times f32 activation: what parity proves.
    #[default]
    #[serde(rename = "exact")]
    Exact,
    /// Activations become 8-bit integers, with a scale a row and block of 32 inputs, and products are sums of integers: several
    /// times as fast on a CPU, and about 1 % off.
    #[serde(rename = "int8")]
    Int8Activations,
    /// On a GPU: keys and values of a decoder's self-attention are kept as f16, in half the memory. Where it computes in f16 as well, products with many
    /// rows (a picture, a prompt) multiply and add within slices of 16 columns in f16, and between them in f32. What HF's float16 does,
    /// but for its sums; about 0.1 % off.
    #[serde(rename = "f16")]
    Half,
}

#[derive(Debug, Clone)]
pub struct Device {
    pub kind: DeviceKind,
    pub adapter: Adapter,
    pub burn: burn_tensor::Device,
    /// The largest buffer that a kernel may see as one, in bytes.
    pub max_binding: usize,
    /// Of the models that are loaded for it.
    pub arithmetic: Arithmetic,
}

/// Words that are handed to the GPU at once. A browser copies them twice on their way, into memory of its own that it does not give back soon.
#[cfg(feature = "webgpu")]
const WORDS_AT_ONCE: usize = 1 << 18;

/// Rows, and the words that they lie in.
pub(crate) type RowsOfWords = (Range<usize>, Tensor<1, Int>);

impl Device {
    /// Burn's flex: one thread, SIMD where the target has it.
    #[cfg(feature = "cpu")]
    pub fn cpu() -> Self {
        let adapter = Adapter { name: "CPU".into(), backend: "flex".into(), software: false, subgroups: false, f16: false };
        Self { kind: DeviceKind::Cpu, adapter, burn: burn_tensor::Device::flex(), max_binding: usize::MAX, arithmetic: Arithmetic::Exact }
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
        let has = |feature| setup.device.features().contains(feature);
        let (subgroups, f16) = (has(burn_wgpu::wgpu::Features::SUBGROUP), has(burn_wgpu::wgpu::Features::SHADER_F16));
        let adapter = Adapter { name, backend: format!("{:?}", setup.backend).to_lowercase(), software, subgroups, f16 };
        set_tuning(Tuning::of(&adapter));
        let max_binding = usize::try_from(setup.device.limits().max_storage_buffer_binding_size).unwrap_or(usize::MAX);
        Ok(Self { kind: DeviceKind::Webgpu, adapter, burn, max_binding, arithmetic: Arithmetic::Exact })
    }
}

impl Device {
    /// The same device, with another arithmetic for what is loaded from now on, if it knows it.
    pub fn with_arithmetic(self, arithmetic: Arithmetic) -> Self {
        let known = match arithmetic {
            Arithmetic::Exact => true,
            Arithmetic::Int8Activations => self.kind == DeviceKind::Cpu,
            Arithmetic::Half => self.kind == DeviceKind::Webgpu,
        };
        Self { arithmetic: if known { arithmetic } else { Arithmetic::Exact }, ..self }
    }

    /// Of products with matrices that are loaded for it: halves can be kept where nothing can be computed in them.
    pub(crate) fn arithmetic_of_products(&self) -> Arithmetic {
        match self.arithmetic {
            Arithmetic::Half if !self.adapter.f16 => Arithmetic::Exact,
            arithmetic => arithmetic,
        }
    }

    /// Whether weights stay in the pieces they arrive in; else `room_for_rows` is made first and pieces are written into it.
    pub(crate) fn keeps_rows_as_they_come(&self) -> bool {
        self.kind == DeviceKind::Cpu
    }

    /// Buffers for `rows` rows of `row_words` words, each as many rows as one binding may hold; none where pieces stay as they are.
    /// Errors: kernel where a single row is larger than a binding.
    pub(crate) fn room_for_rows(&self, rows: usize, row_words: usize) -> Result<Vec<RowsOfWords>> {
        if self.keeps_rows_as_they_come() {
            return Ok(vec![]);
        }
        let row_bytes = row_words * size_of::<u32>();
        let at_once = self.max_binding.checked_div(row_bytes).unwrap_or(rows).min(rows);
        if at_once == 0 && rows > 0 {
            return Err(Error::kernel("weights", format!("a row of {row_bytes} bytes, and bindings hold {}", self.max_binding)));
        }
        let firsts = (0..rows).step_by(at_once.max(1));
        Ok(firsts.map(|first| first..rows.min(first + at_once)).map(|rows| (rows.clone(), self.room(rows.len() * row_words))).collect())
    }

    /// Memory that stays where it is as long as it is held, whatever else comes and goes: captured launches refer to it by place.
    #[cfg(feature = "webgpu")]
    pub(crate) fn room(&self, words: usize) -> Tensor<1, Int> {
        use burn_cubecl::tensor::CubeTensor;
        use burn_wgpu::Wgpu;

        let like = Tensor::<1, Int>::empty([1], &self.burn);
        let Ok(like) = like.clone().try_into_primitive::<Wgpu>() else { return Tensor::empty([words], &self.burn) };
        let bytes = words * size_of::<u32>();
        let handle = like.client.memory_persistent_allocation(bytes, |bytes| like.client.empty(bytes));
        let shape = burn_tensor::Shape::from([words]);
        Tensor::from_primitive::<Wgpu>(CubeTensor::new_contiguous(
            like.client.clone(),
            like.device.clone(),
            shape,
            handle,
            burn_tensor::DType::I32,
        ))
    }

    #[cfg(not(feature = "webgpu"))]
    pub(crate) fn room(&self, words: usize) -> Tensor<1, Int> {
        Tensor::empty([words], &self.burn)
    }

    /// Writes words into a buffer of the GPU, from its word `at` on. Errors: kernel where they do not fit.
    #[cfg(feature = "webgpu")]
    pub(crate) fn write_words(&self, buffer: &Tensor<1, Int>, at: usize, words: &[u32]) -> Result<()> {
        let length = buffer.dims()[0];
        if at + words.len() > length {
            return Err(Error::kernel("write", format!("{} words at {at} of {length}", words.len())));
        }
        let buffer =
            buffer.clone().try_into_primitive::<burn_wgpu::Wgpu>().map_err(|error| Error::kernel("write", format!("{error:?}")))?;
        let bytes = |words: usize| (words * size_of::<u32>()) as u64;
        for (place, piece) in words.chunks(WORDS_AT_ONCE).enumerate() {
            let at = at + place * WORDS_AT_ONCE;
            let part = buffer.handle.clone().offset_start(bytes(at)).offset_end(bytes(length - at - piece.len()));
            buffer.client.write(&part, burn_tensor::Bytes::from_elems(piece.to_vec()));
        }
        Ok(())
    }

    #[cfg(not(feature = "webgpu"))]
    pub(crate) fn write_words(&self, _: &Tensor<1, Int>, _: usize, _: &[u32]) -> Result<()> {
        Err(Error::kernel("write", "there is no GPU in this build"))
    }
}

#[cfg(feature = "webgpu")]
fn is_software(name: &str) -> bool {
    let name = name.to_lowercase();
    ["swiftshader", "llvmpipe", "lavapipe", "basic render driver", "warp"].iter().any(|software| name.contains(software))
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
