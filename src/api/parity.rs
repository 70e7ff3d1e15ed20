//! What holds the engine to its references in a browser: the checks of `ops` and the cases of `parity`. Like the bench, no page that ships has it.

use std::collections::BTreeMap;

use js_sys::{Function, Promise};
use wasm_bindgen::prelude::*;

use super::error::to_js;
use super::{Runtime, call, promise};
use crate::delivery::address::Address;
use crate::delivery::browser::Browser;
use crate::delivery::fetch::{Access, Freshness, Retry, Size, Wanted, fetch};
use crate::error::{Error, Result};
use crate::ops::checks;
use crate::parity;
use crate::weights::index::{INDEX_FILE, Index};

#[wasm_bindgen(typescript_custom_section)]
const TYPES: &str = r#"
/** One check of an operation against plain loops. */
export interface CheckOutcome { name: string; worst: number | null; error: Record<string, unknown> | null }
export interface ParityCase { name: string; status: "pass" | "fail" | "not yet"; detail: string }
export interface ParitySummary { passed: number; failed: number; not_yet: number; adapter: string; dispatches: number }
"#;

#[wasm_bindgen]
impl Runtime {
    /// Holds every operation to plain loops on this device.
    #[wasm_bindgen(unchecked_return_type = "Promise<CheckOutcome[]>")]
    pub fn checks(
        &self,
        #[wasm_bindgen(js_name = onOutcome, unchecked_param_type = "(outcome: CheckOutcome) => void")] on_outcome: Function,
    ) -> Promise {
        let shared = self.shared.clone();
        promise(async move {
            let outcomes = checks::run_all(&shared.device, &mut |outcome| call(Some(&on_outcome), || to_js(outcome))).await;
            Ok(to_js(&outcomes))
        })
    }

    /// Runs the cases of the fixture folder at `fixtureUrl`, whose `files.json` lists its files, on the model folder made from
    /// it. `dequantized`: results are held to those of the same weights in f32. Errors: network, and those of loading.
    #[wasm_bindgen(unchecked_return_type = "Promise<ParitySummary>")]
    pub fn parity(
        &self,
        #[wasm_bindgen(js_name = fixtureUrl)] fixture_url: String,
        #[wasm_bindgen(js_name = modelUrl)] model_url: Option<String>,
        dequantized: bool,
        #[wasm_bindgen(js_name = onCase, unchecked_param_type = "(outcome: ParityCase) => void")] on_case: Function,
    ) -> Promise {
        let shared = self.shared.clone();
        promise(async move {
            let device = &shared.device;
            let files = fixture(&Address::parse(&fixture_url)?).await?;
            let model = match model_url {
                Some(url) => model_files(&Address::parse(&url)?, &files).await?,
                None => parity::Files::new(),
            };
            let load = |dequantized| {
                parity::Models::load(device, &files, &|folder, plan| parity::converted(device, &model, folder, plan, dequantized))
            };
            let models = if model.is_empty() { Ok(parity::Models::None) } else { load(false) };
            let reference = dequantized.then(|| load(true)).transpose()?;
            let mut case = |case: &parity::Case| call(Some(&on_case), || to_js(case));
            let models = models.as_ref().map_err(Clone::clone);
            let summary = parity::run(device, &files, models, reference.as_ref(), &mut case).await?;
            Ok(to_js(&summary))
        })
    }
}

/// The weights of a converted fixture, and of those of its folders that hold a checkpoint.
async fn model_files(model: &Address, fixture: &parity::Files) -> Result<parity::Files> {
    let mut files = parity::Files::new();
    let folders = fixture.keys().filter_map(|name| name.strip_suffix("model.safetensors"));
    let indexed = fixture.keys().filter_map(|name| name.strip_suffix(INDEX_FILE));
    for folder in folders.chain(indexed) {
        let bytes = fixture_file(model, &format!("{folder}{INDEX_FILE}")).await?;
        for (name, _) in Index::parse(&bytes)?.shards() {
            let path = format!("{folder}{name}");
            let shard = fixture_file(model, &path).await?;
            files.insert(path, shard);
        }
        files.insert(format!("{folder}{INDEX_FILE}"), bytes);
    }
    Ok(files)
}

async fn fixture(folder: &Address) -> Result<BTreeMap<String, Vec<u8>>> {
    let list = fixture_file(folder, "files.json").await?;
    let names: Vec<String> = serde_json::from_slice(&list).map_err(|error| Error::config("files.json", error))?;
    let mut files = BTreeMap::new();
    for name in names {
        let bytes = fixture_file(folder, &name).await?;
        files.insert(name, bytes);
    }
    Ok(files)
}

async fn fixture_file(folder: &Address, name: &str) -> Result<Vec<u8>> {
    let url = folder.file(name)?;
    let wanted = Wanted { name, url: &url, size: Size::AtMost(1 << 28), sha256: None, freshness: Freshness::Revalidate };
    fetch(&Browser::default(), &wanted, &Access::default(), &Retry::default(), &|_| {}).await
}
