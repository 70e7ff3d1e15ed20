//! Long work on the one thread of a worker stays answerable: every 30 ms it lets the messages in that have come meanwhile.
//! Natively there is nobody to let in, and nothing waits.

use std::cell::Cell;

/// Work longer than this without a yield would make Stop feel late: at most three of these lie between a click and its effect.
const SLICE_MS: f64 = 30.0;

thread_local! {
    /// When this thread last let the event loop run. Of the thread rather than of each `Pace`: steps of 20 ms one after
    /// another, each with a pace of its own, are long work too.
    static LAST: Cell<f64> = Cell::new(now());
}

/// What long work carries along to stay answerable.
#[derive(Debug, Default)]
pub struct Pace {
    unbroken: bool,
}

impl Pace {
    pub fn new() -> Self {
        Self::default()
    }

    /// Never yields: for work that is short, and that nothing may come between.
    pub fn unbroken() -> Self {
        Self { unbroken: true }
    }

    /// Yields a macrotask when 30 ms have passed since this thread's last one, else goes on at once. Call it between launches,
    /// tokens, blocks of a hash: wherever the work may be left for good, because who drops the future here aborts it.
    pub async fn breathe(&mut self) {
        if !self.unbroken && now() - LAST.get() >= SLICE_MS {
            macrotask().await;
        }
    }
}

/// What a future gives that waits for nothing, such as work with an unbroken `Pace`. `None` where it does wait.
pub fn at_once<T>(future: impl Future<Output = T>) -> Option<T> {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match std::pin::pin!(future).poll(&mut context) {
        std::task::Poll::Ready(value) => Some(value),
        std::task::Poll::Pending => None,
    }
}

/// Milliseconds on a clock that never goes back; its zero means nothing.
pub fn now() -> f64 {
    platform::now()
}

/// Lets the event loop run once: what other tasks and messages have waited for is done before this resolves.
pub async fn macrotask() {
    platform::macrotask().await;
    LAST.set(now());
}

#[cfg(target_family = "wasm")]
pub use platform::sleep;

#[cfg(target_family = "wasm")]
mod platform {
    use std::cell::RefCell;
    use std::collections::VecDeque;
    use std::rc::Rc;

    use js_sys::{Function, Promise};
    use wasm_bindgen::prelude::*;
    use wasm_bindgen_futures::JsFuture;
    use web_sys::{MessageChannel, MessagePort, WorkerGlobalScope};

    /// Futures in wasm resume as microtasks, which run before any message is seen, and timers are held to 4 ms by browsers. A
    /// message to oneself is neither.
    struct Channel {
        send: MessagePort,
        waiting: Rc<RefCell<VecDeque<Function>>>,
        _receive: (MessagePort, Closure<dyn FnMut()>),
    }

    impl Channel {
        fn open() -> Option<Self> {
            let channel = MessageChannel::new().ok()?;
            let waiting = Rc::new(RefCell::new(VecDeque::<Function>::new()));
            let resume = {
                let waiting = waiting.clone();
                Closure::new(move || {
                    let next = waiting.borrow_mut().pop_front();
                    if let Some(resolve) = next {
                        // A resolver of a promise does not throw.
                        let _ = resolve.call0(&JsValue::UNDEFINED);
                    }
                })
            };
            let receive = channel.port1();
            receive.set_onmessage(Some(resume.as_ref().unchecked_ref()));
            Some(Self { send: channel.port2(), waiting, _receive: (receive, resume) })
        }

        fn post(&self, resolve: &Function) -> bool {
            self.waiting.borrow_mut().push_back(resolve.clone());
            self.send.post_message(&JsValue::NULL).is_ok()
        }
    }

    thread_local! {
        static CHANNEL: Option<Channel> = Channel::open();
    }

    pub async fn macrotask() {
        let promise = Promise::new(&mut |resolve, _| {
            let posted = CHANNEL.with(|channel| channel.as_ref().is_some_and(|channel| channel.post(&resolve)));
            if !posted {
                let _ = resolve.call0(&JsValue::UNDEFINED);
            }
        });
        let _ = JsFuture::from(promise).await;
    }

    /// Resolves after this time at the earliest. Dropped before, it leaves no timer behind.
    pub async fn sleep(milliseconds: u32) {
        let mut timer = Timer { handle: None };
        let promise = Promise::new(&mut |resolve, _| {
            let delay = i32::try_from(milliseconds).unwrap_or(i32::MAX);
            timer.handle = scope().set_timeout_with_callback_and_timeout_and_arguments_0(&resolve, delay).ok();
            if timer.handle.is_none() {
                let _ = resolve.call0(&JsValue::UNDEFINED);
            }
        });
        let _ = JsFuture::from(promise).await;
        drop(timer);
    }

    struct Timer {
        handle: Option<i32>,
    }

    impl Drop for Timer {
        fn drop(&mut self) {
            if let Some(handle) = self.handle {
                scope().clear_timeout_with_handle(handle);
            }
        }
    }

    pub fn now() -> f64 {
        scope().performance().map_or_else(js_sys::Date::now, |performance| performance.now())
    }

    /// A window answers to the same few methods, so nothing here minds which of the two it is.
    fn scope() -> WorkerGlobalScope {
        js_sys::global().unchecked_into()
    }
}

#[cfg(not(target_family = "wasm"))]
mod platform {
    use std::sync::LazyLock;
    use std::time::Instant;

    static START: LazyLock<Instant> = LazyLock::new(Instant::now);

    pub fn now() -> f64 {
        START.elapsed().as_secs_f64() * 1e3
    }

    pub async fn macrotask() {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_never_goes_back() {
        let first = now();
        assert!(now() >= first);
    }

    #[test]
    fn breathing_restarts_the_slice_only_after_it_has_passed() {
        // Ahead of the clock, so that a slow machine cannot use the slice up in between.
        let ahead = now() + 1e6;
        LAST.set(ahead);
        pollster::block_on(Pace::new().breathe());
        assert_eq!(LAST.get(), ahead);
        let start = now();
        LAST.set(start - SLICE_MS);
        pollster::block_on(Pace::new().breathe());
        assert!(LAST.get() >= start);
    }
}
