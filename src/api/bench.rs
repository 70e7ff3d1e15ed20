//! What the bench's own wasm exports beside the engine's: see `crate::bench`. No page that ships has it.

use js_sys::Promise;
use wasm_bindgen::prelude::*;

#[cfg(feature = "cpu")]
use super::error::error_to_js;
use super::{device, promise};
use crate::bench::{context, limits, product};
use crate::device::Arithmetic;
use crate::error::Error;
use crate::weights::index::sha256;
use crate::weights::quant::Quant;

#[wasm_bindgen]
pub struct Reader {
    inner: limits::Reader,
}

#[wasm_bindgen]
impl Reader {
    #[wasm_bindgen(constructor)]
    pub fn new(bytes: usize) -> Self {
        Self { inner: limits::Reader::new(bytes) }
    }

    pub fn read(&self, passes: usize) {
        for _ in 0..passes {
            self.inner.read();
        }
    }
}

/// Operations that were done.
#[wasm_bindgen(js_name = multiplyAdd)]
pub fn multiply_add(turns: usize) -> f64 {
    limits::multiply_add(turns)
}

/// Operations that were done.
#[wasm_bindgen(js_name = multiplyAddInt8)]
pub fn multiply_add_int8(turns: usize) -> f64 {
    limits::multiply_add_int8(turns)
}

/// SHA-256 of so many bytes, as a load has it.
#[wasm_bindgen]
pub fn hash(bytes: usize) {
    std::hint::black_box(sha256(&vec![7; bytes]));
}

#[wasm_bindgen]
pub struct BenchProduct {
    inner: std::rc::Rc<product::Product>,
}

#[wasm_bindgen]
impl BenchProduct {
    /// Errors: input-invalid, webgpu-unavailable, kernel.
    #[wasm_bindgen(unchecked_return_type = "Promise<BenchProduct>")]
    pub fn create(quant: String, rows: usize, out: usize, columns: usize) -> Promise {
        promise(async move {
            let quant: Quant = quant.parse().map_err(|reason: String| Error::input("quant", reason))?;
            // As models are loaded by themselves.
            let device = device().await?.with_arithmetic(Arithmetic::Int8Activations);
            let inner = product::Product::new(&device, quant, [rows, out, columns])?;
            Ok(Self { inner: std::rc::Rc::new(inner) }.into())
        })
    }

    /// Errors: kernel, device-lost.
    #[wasm_bindgen(unchecked_return_type = "Promise<void>")]
    pub fn run(&self, times: usize) -> Promise {
        let product = self.inner.clone();
        promise(async move { product.run(times).await.map(|()| JsValue::UNDEFINED) })
    }
}

#[wasm_bindgen]
pub struct BenchContext {
    inner: std::rc::Rc<context::Context>,
}

#[wasm_bindgen]
impl BenchContext {
    /// The language model of a `config.json`. Errors: input-invalid, config-invalid, webgpu-unavailable, kernel.
    #[wasm_bindgen(unchecked_return_type = "Promise<BenchContext>")]
    pub fn create(config_json: String, quant: String) -> Promise {
        promise(async move {
            let quant: Quant = quant.parse().map_err(|reason: String| Error::input("quant", reason))?;
            let config = crate::models::Blip2Config::from_json(config_json.as_bytes())?;
            let device = device().await?.with_arithmetic(Arithmetic::Int8Activations);
            let inner = context::Context::new(&device, &config.text_config, quant)?;
            Ok(Self { inner: std::rc::Rc::new(inner) }.into())
        })
    }

    /// Errors: input-invalid, option-unsupported.
    #[wasm_bindgen(unchecked_return_type = "Promise<void>")]
    pub fn begin(&self, positions: usize) -> Promise {
        let context = self.inner.clone();
        promise(async move { context.begin(positions).map(|()| JsValue::UNDEFINED) })
    }

    /// Errors: kernel, device-lost, input-invalid.
    #[wasm_bindgen(unchecked_return_type = "Promise<void>")]
    pub fn steps(&self, count: usize) -> Promise {
        let context = self.inner.clone();
        promise(async move { context.steps(count).await.map(|()| JsValue::UNDEFINED) })
    }
}

#[cfg(feature = "cpu")]
#[wasm_bindgen]
pub struct Unfused {
    inner: crate::bench::unfused::Unfused,
}

#[cfg(feature = "cpu")]
#[wasm_bindgen]
impl Unfused {
    /// Errors: config-invalid, model-unsupported.
    #[wasm_bindgen(constructor)]
    pub fn new(config_json: &str) -> Result<Self, JsValue> {
        let config = crate::models::Blip2Config::from_json(config_json.as_bytes());
        let inner = config.and_then(|config| crate::bench::unfused::Unfused::new(&config)).map_err(|error| error_to_js(&error))?;
        Ok(Self { inner })
    }

    pub fn encode(&self) {
        std::hint::black_box(self.inner.encode());
    }

    pub fn begin(&mut self, positions: usize) {
        self.inner.begin(positions);
    }

    pub fn step(&mut self) {
        self.inner.step();
    }
}
