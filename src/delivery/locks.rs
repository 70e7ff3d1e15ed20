//! Web Locks: tabs of one site take turns, and a tab that is closed gives its turn away.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use js_sys::{Array, Function, Object, Promise, Reflect};
use wasm_bindgen::closure::Closure;
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::JsFuture;

use super::storage::Turn;

/// A request for a lock. The browser holds the lock until the promise that it was given resolves.
#[derive(Default)]
struct Request {
    /// Nobody waits for it any more.
    over: Cell<bool>,
    release: RefCell<Option<Function>>,
}

impl Request {
    fn end(&self) {
        self.over.set(true);
        if let Some(release) = self.release.take() {
            let _ = release.call0(&JsValue::UNDEFINED);
        }
    }
}

/// Ends the request when it is dropped, also while it still waits.
struct Waiting(Rc<Request>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// Whether a lock is one holder's alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Exclusive,
    Shared,
}

/// Waits for the lock of this name; `None` where the browser has no locks (plain http) or refuses.
pub async fn turn(name: &str, mode: Mode) -> Option<Turn> {
    let (manager, ask) = manager("request")?;
    let waiting = Waiting(Rc::default());
    let mut granted = None;
    let turn = Promise::new(&mut |resolve, _| granted = Some(resolve));
    let (request, granted) = (waiting.0.clone(), granted?);
    let hold = Closure::once_into_js(move |_lock: JsValue| {
        let _ = granted.call1(&JsValue::UNDEFINED, &JsValue::TRUE);
        Promise::new(&mut |resolve, _| match request.over.get() {
            true => drop(resolve.call0(&JsValue::UNDEFINED)),
            false => *request.release.borrow_mut() = Some(resolve),
        })
    });
    let options = Object::new();
    let mode = if mode == Mode::Shared { "shared" } else { "exclusive" };
    Reflect::set(&options, &"mode".into(), &mode.into()).ok()?;
    let asked: Promise = ask.call3(&manager, &name.into(), &options, &hold).ok()?.dyn_into().ok()?;
    JsFuture::from(Promise::race(&Array::of2(&turn, &asked))).await.ok()?;
    Some(Turn::ending_with(move || drop(waiting)))
}

/// Names of locks that are held, by whatever tab.
pub async fn held() -> Option<Vec<String>> {
    let (manager, query) = manager("query")?;
    let asked: Promise = query.call0(&manager).ok()?.dyn_into().ok()?;
    let said = JsFuture::from(asked).await.ok()?;
    let held: Array = Reflect::get(&said, &"held".into()).ok()?.dyn_into().ok()?;
    Some(held.iter().filter_map(|lock| Reflect::get(&lock, &"name".into()).ok()?.as_string()).collect())
}

/// `navigator.locks` and a method of it.
fn manager(method: &str) -> Option<(JsValue, Function)> {
    let navigator = Reflect::get(&js_sys::global(), &"navigator".into()).ok()?;
    let manager = Reflect::get(&navigator, &"locks".into()).ok().filter(JsValue::is_object)?;
    let method: Function = Reflect::get(&manager, &method.into()).ok()?.dyn_into().ok()?;
    Some((manager, method))
}
