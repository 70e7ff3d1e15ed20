//! The network of a worker: `fetch` with a streaming reader.

use js_sys::{ArrayBuffer, Function, Object, Promise, Reflect, Uint8Array};
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::JsFuture;
use web_sys::{AbortController, ReadableStream, RequestInit, Response, WorkerGlobalScope};

use super::address::shown;
use super::fetch::{Access, Body, Credentials, Freshness, Get, Network, Reply};
use crate::error::{Error, Result};
use crate::pace;

/// Bytes that are read at once.
const PIECE: u32 = 256 << 10;

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
    reader: Option<Reader>,
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
        Ok(Reply {
            status: response.status(),
            url: response.url(),
            from: header("content-range").and_then(|range| first_byte(&range)),
            retry_after: header("retry-after"),
            body: Stream::new(request.url, &response, abort).map_err(failed)?,
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

impl Stream {
    fn new(url: &str, response: &Response, abort: Abort) -> Result<Self, JsValue> {
        let reader = response.body().map(|body| Reader::of(&body)).transpose()?;
        Ok(Self { url: url.into(), reader, _abort: abort })
    }
}

/// Reads a body into one buffer again and again, where it can be: the pieces that a plain reader makes come to as much as the model, and their collector is
/// in no hurry.
struct Reader {
    reader: JsValue,
    read: Function,
    /// Of a reader that fills what it is given ("byob"); it travels to the stream and back.
    buffer: Option<ArrayBuffer>,
}

impl Reader {
    fn of(body: &ReadableStream) -> Result<Self, JsValue> {
        let mode = Object::new();
        Reflect::set(&mode, &"mode".into(), &"byob".into())?;
        let get: Function = Reflect::get(body, &"getReader".into())?.dyn_into()?;
        // A browser whose bodies are no streams of bytes refuses.
        let (reader, buffer) = match get.call1(body, &mode) {
            Ok(reader) => (reader, Some(ArrayBuffer::new(PIECE))),
            Err(_) => (get.call0(body)?, None),
        };
        let read = Reflect::get(&reader, &"read".into())?.dyn_into()?;
        Ok(Self { reader, read, buffer })
    }

    /// The next bytes, which are there until it is asked again; `None` at the end.
    async fn next(&mut self) -> Result<Option<Uint8Array>, JsValue> {
        loop {
            let fills = self.buffer.is_some();
            let promise: Promise = match self.buffer.take() {
                Some(buffer) => self.read.call1(&self.reader, &Uint8Array::new(&buffer)),
                None => self.read.call0(&self.reader),
            }?
            .unchecked_into();
            let result = JsFuture::from(promise).await?;
            if Reflect::get(&result, &"done".into())?.is_truthy() {
                return Ok(None);
            }
            let piece: Uint8Array = Reflect::get(&result, &"value".into())?.dyn_into()?;
            if fills {
                self.buffer = Some(piece.buffer());
            }
            // An empty piece is not the end.
            if piece.length() > 0 {
                return Ok(Some(piece));
            }
        }
    }
}

/// Takes bytes of JavaScript's into wasm's memory. Errors: out-of-memory, of what is named so.
pub(super) fn append(piece: &Uint8Array, into: &mut Vec<u8>, what: impl FnOnce() -> String) -> Result<()> {
    let (start, end) = (into.len(), into.len() + piece.length() as usize);
    into.try_reserve(end - start).map_err(|_| Error::OutOfMemory { what: what(), needed: end as u64 })?;
    into.resize(end, 0);
    piece.copy_to(&mut into[start..]);
    Ok(())
}

impl Body for Stream {
    async fn read(&mut self, into: &mut Vec<u8>, room: u64) -> Result<u64> {
        let Some(reader) = &mut self.reader else { return Ok(0) };
        let Some(piece) = reader.next().await.map_err(|error| network_error(&self.url, &error))? else { return Ok(0) };
        let came = piece.length() as usize;
        if came as u64 <= room {
            append(&piece, into, || shown(&self.url))?;
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
