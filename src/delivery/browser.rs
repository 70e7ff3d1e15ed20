//! The network of a worker: `fetch` with a streaming reader.

use js_sys::{Function, Object, Promise, Reflect, Uint8Array};
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::JsFuture;
use web_sys::{AbortController, ReadableStreamDefaultReader, RequestInit, Response, WorkerGlobalScope};

use super::address::shown;
use super::fetch::{Access, Body, Credentials, Freshness, Get, Network, Reply};
use crate::error::{Error, Result};
use crate::pace;

#[derive(Default)]
pub struct Browser {
    /// The caller's word on where each file is: its name → a promise of its address.
    pub resolve: Option<Function>,
}

/// Ends the transfer when it is dropped.
struct Abort(AbortController);

impl Drop for Abort {
    fn drop(&mut self) {
        self.0.abort();
    }
}

pub struct Stream {
    url: String,
    reader: Option<ReadableStreamDefaultReader>,
    _abort: Abort,
}

impl Network for Browser {
    type Body = Stream;

    async fn get(&self, request: &Get<'_>) -> Result<Reply<Stream>> {
        let failed = |error: JsValue| network_error(request.url, &error);
        let abort = Abort(AbortController::new().map_err(failed)?);
        let init = init(request, &abort.0).map_err(|error| Error::input("request", message(&error)))?;
        let scope: WorkerGlobalScope = js_sys::global().unchecked_into();
        let response = JsFuture::from(scope.fetch_with_str_and_init(request.url, &init)).await.map_err(failed)?;
        let response: Response = response.dyn_into().map_err(failed)?;
        let header = |name: &str| response.headers().get(name).ok().flatten();
        let reader = response.body().map(|body| ReadableStreamDefaultReader::new(&body)).transpose().map_err(failed)?;
        Ok(Reply {
            status: response.status(),
            url: response.url(),
            from: header("content-range").and_then(|range| first_byte(&range)),
            retry_after: header("retry-after"),
            body: Stream { url: request.url.into(), reader, _abort: abort },
        })
    }

    async fn locate(&self, name: &str) -> Result<Option<String>> {
        let Some(resolve) = &self.resolve else { return Ok(None) };
        let failed = |error: JsValue| Error::Network { url: name.into(), status: None, reason: message(&error) };
        let said = resolve.call1(&JsValue::UNDEFINED, &name.into()).map_err(failed)?;
        let address = JsFuture::from(Promise::resolve(&said)).await.map_err(failed)?;
        address.as_string().map(Some).ok_or_else(|| Error::input("resolve", format!("of {name}: an address is expected")))
    }

    async fn sleep(&self, milliseconds: u32) {
        pace::sleep(milliseconds).await
    }

    fn now(&self) -> f64 {
        js_sys::Date::now()
    }
}

impl Body for Stream {
    async fn read(&mut self, into: &mut Vec<u8>, room: u64) -> Result<u64> {
        let Some(reader) = &self.reader else { return Ok(0) };
        let failed = |error: JsValue| network_error(&self.url, &error);
        let chunk = loop {
            let result = JsFuture::from(reader.read()).await.map_err(failed)?;
            let value = Reflect::get(&result, &"value".into()).map_err(failed)?;
            if value.is_undefined() {
                return Ok(0);
            }
            let chunk: Uint8Array = value.dyn_into().map_err(failed)?;
            // An empty chunk is not the end.
            if chunk.length() > 0 {
                break chunk;
            }
        };
        let came = chunk.length() as usize;
        if came as u64 <= room {
            let start = into.len();
            let oom = |_| Error::OutOfMemory { what: shown(&self.url), needed: (start + came) as u64 };
            into.try_reserve(came).map_err(oom)?;
            into.resize(start + came, 0);
            chunk.copy_to(&mut into[start..]);
        }
        Ok(came as u64)
    }
}

fn init(request: &Get<'_>, abort: &AbortController) -> Result<RequestInit, JsValue> {
    let headers = Object::new();
    for (name, value) in &request.access.headers {
        Reflect::set(&headers, &name.as_str().into(), &value.as_str().into())?;
    }
    if request.from > 0 {
        Reflect::set(&headers, &"Range".into(), &format!("bytes={}-", request.from).into())?;
    }
    let init = Object::new();
    let set = |name: &str, value: &JsValue| Reflect::set(&init, &name.into(), value);
    set("headers", &headers)?;
    set("signal", &abort.signal())?;
    set("credentials", &credentials(request.access).into())?;
    set("cache", &cache(request.freshness).into())?;
    // Browsers show no hop of a redirect to us: what carries secrets goes to no other address at all.
    set("redirect", &if request.access.is_private() { "manual" } else { "follow" }.into())?;
    Ok(init.unchecked_into())
}

fn credentials(access: &Access) -> &'static str {
    match access.credentials {
        Credentials::Omit => "omit",
        Credentials::SameOrigin => "same-origin",
        Credentials::Include => "include",
    }
}

fn cache(freshness: Freshness) -> &'static str {
    match freshness {
        Freshness::Any => "default",
        Freshness::Revalidate => "no-cache",
        Freshness::Bypass => "no-store",
        Freshness::Reload => "reload",
    }
}

/// `bytes 100-199/200` → 100
fn first_byte(content_range: &str) -> Option<u64> {
    content_range.trim().strip_prefix("bytes ")?.split('-').next()?.trim().parse().ok()
}

fn network_error(url: &str, error: &JsValue) -> Error {
    Error::Network { url: shown(url), status: None, reason: message(error) }
}

fn message(error: &JsValue) -> String {
    let text = Reflect::get(error, &"message".into()).ok().and_then(|message| message.as_string());
    text.unwrap_or_else(|| "the connection failed".into())
}
