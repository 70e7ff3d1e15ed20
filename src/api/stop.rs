//! How a later message reaches a call that runs.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::rc::Rc;
use std::task::{Poll, Waker};

use wasm_bindgen::prelude::*;

use crate::delivery::{First, race};
use crate::error::{Error, Result};

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Wish {
    #[default]
    GoOn,
    Stop,
    Abort,
}

#[derive(Default)]
struct State {
    wish: Cell<Wish>,
    waker: RefCell<Option<Waker>>,
}

/// One for each call: made before it, and heard at its next yield.
#[wasm_bindgen]
#[derive(Default)]
pub struct StopFlag {
    state: Rc<State>,
}

#[wasm_bindgen]
impl StopFlag {
    #[wasm_bindgen(constructor)]
    pub fn new() -> Self {
        Self::default()
    }

    /// Ends a generation with the text so far; any other call as `abort` does.
    pub fn stop(&self) {
        if self.state.wish.get() == Wish::GoOn {
            self.wish(Wish::Stop);
        }
    }

    /// Ends the call with the error "aborted".
    pub fn abort(&self) {
        self.wish(Wish::Abort);
    }

    fn wish(&self, wish: Wish) {
        self.state.wish.set(wish);
        if let Some(waker) = self.state.waker.take() {
            waker.wake();
        }
    }
}

impl StopFlag {
    pub(super) fn listen(&self) -> Listener {
        Listener { state: self.state.clone() }
    }
}

/// The end of the flag that the call holds.
pub(super) struct Listener {
    state: Rc<State>,
}

impl Listener {
    pub fn is_raised(&self) -> bool {
        self.state.wish.get() != Wish::GoOn
    }

    fn is_aborted(&self) -> bool {
        self.state.wish.get() == Wish::Abort
    }

    /// Resolves when the flag is as `wished`; pending for ever if it never is.
    async fn until(&self, wished: impl Fn() -> bool) {
        poll_fn(|context| {
            if wished() {
                return Poll::Ready(());
            }
            *self.state.waker.borrow_mut() = Some(context.waker().clone());
            Poll::Pending
        })
        .await
    }

    /// Drops the work when the flag is raised in any way. Errors: aborted, and those of the work.
    pub async fn guard<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        match race(self.until(|| self.is_raised()), work).await {
            First::Left(()) => Err(Error::Aborted {}),
            First::Right(result) => result,
        }
    }

    /// Drops the work when it is aborted; it is the work that has to stop. Errors: aborted, and those of the work.
    pub async fn guard_stopped<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        match race(self.until(|| self.is_aborted()), work).await {
            First::Left(()) => Err(Error::Aborted {}),
            First::Right(result) => result,
        }
    }

    /// Drops the work when it is aborted, or stopped while `nothing_yet`: then there is no result. Once something has come,
    /// it is the work that has to stop. Errors: aborted, and those of the work.
    pub async fn guard_stoppable<T>(&self, nothing_yet: &Cell<bool>, work: impl Future<Output = Result<T>>) -> Result<Option<T>> {
        match race(self.until(|| self.is_aborted() || (self.is_raised() && nothing_yet.get())), work).await {
            First::Left(()) if self.is_aborted() => Err(Error::Aborted {}),
            First::Left(()) => Ok(None),
            First::Right(result) => result.map(Some),
        }
    }
}
