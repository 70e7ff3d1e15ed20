//! Storage that the caller brings: an object of JavaScript with five methods.

use js_sys::{Array, Reflect, Uint8Array};
use wasm_bindgen::prelude::*;

use super::browser::append;
use super::storage::{Estimate, Storage};
use crate::error::{Error, Result};

#[wasm_bindgen(typescript_custom_section)]
const DRIVER: &str = r#"
/** What rejects with the code `storage-quota` has no room; any other rejection counts as a storage that fails. */
export interface StorageDriver {
  get(name: string): Promise<Uint8Array | null>;
  put(name: string, bytes: Uint8Array): Promise<void>;
  delete(name: string): Promise<void>;
  list(): Promise<readonly string[]>;
  estimate(): Promise<{ readonly usage: number | null; readonly quota: number | null; readonly persistent: boolean }>;
}
"#;

#[wasm_bindgen]
extern "C" {
    #[wasm_bindgen(typescript_type = "StorageDriver")]
    pub type StorageDriver;

    #[wasm_bindgen(method, catch)]
    async fn get(this: &StorageDriver, name: &str) -> Result<JsValue, JsValue>;
    #[wasm_bindgen(method, catch)]
    async fn put(this: &StorageDriver, name: &str, bytes: Uint8Array) -> Result<JsValue, JsValue>;
    #[wasm_bindgen(method, catch)]
    async fn delete(this: &StorageDriver, name: &str) -> Result<JsValue, JsValue>;
    #[wasm_bindgen(method, catch)]
    async fn list(this: &StorageDriver) -> Result<JsValue, JsValue>;
    #[wasm_bindgen(method, catch)]
    async fn estimate(this: &StorageDriver) -> Result<JsValue, JsValue>;
}

pub struct CustomStorage {
    driver: StorageDriver,
}

impl From<StorageDriver> for CustomStorage {
    fn from(driver: StorageDriver) -> Self {
        Self { driver }
    }
}

impl Storage for CustomStorage {
    async fn get(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let found = self.driver.get(name).await.map_err(|error| failed(&error, name))?;
        if found.is_undefined() || found.is_null() {
            return Ok(None);
        }
        let found: Uint8Array = found.dyn_into().map_err(|_| unexpected("get", "bytes"))?;
        let mut bytes = vec![];
        append(&found, &mut bytes, || name.into())?;
        Ok(Some(bytes))
    }

    async fn put(&self, name: &str, bytes: &[u8]) -> Result<()> {
        // A copy outside of wasm's memory, which the driver may keep.
        self.driver.put(name, Uint8Array::from(bytes)).await.map(drop).map_err(|error| failed(&error, name))
    }

    async fn delete(&self, name: &str) -> Result<()> {
        self.driver.delete(name).await.map(drop).map_err(|error| failed(&error, name))
    }

    async fn list(&self) -> Result<Vec<String>> {
        let names = self.driver.list().await.map_err(|error| failed(&error, "the list of files"))?;
        let names: Array = names.dyn_into().map_err(|_| unexpected("list", "names"))?;
        let mut names: Vec<String> =
            names.iter().map(|name| name.as_string()).collect::<Option<_>>().ok_or_else(|| unexpected("list", "names"))?;
        names.sort_unstable();
        Ok(names)
    }

    async fn estimate(&self) -> Result<Estimate> {
        let said = self.driver.estimate().await.map_err(|error| failed(&error, "the estimate"))?;
        let field = |name: &str| Reflect::get(&said, &name.into()).unwrap_or_default();
        let number = |name: &str| field(name).as_f64().filter(|value| *value >= 0.0).map(|value| value as u64);
        Ok(Estimate { usage: number("usage"), quota: number("quota"), persistent: field("persistent").as_bool().unwrap_or(false) })
    }
}

fn failed(error: &JsValue, name: &str) -> Error {
    let text = |field: &str| Reflect::get(error, &field.into()).ok().and_then(|value| value.as_string());
    if text("code").as_deref() == Some("storage-quota") {
        return Error::StorageQuota { what: name.into() };
    }
    Error::StorageUnavailable { reason: text("message").or_else(|| error.as_string()).unwrap_or_else(|| "the driver failed".into()) }
}

fn unexpected(method: &str, wanted: &str) -> Error {
    Error::StorageUnavailable { reason: format!("the driver's {method} gave something else than {wanted}") }
}
