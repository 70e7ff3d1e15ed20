//! Values on their way from the device, without blocking the browser.

use std::pin::Pin;
use std::task::{Context, Poll};

use burn_tensor::{Int, Tensor, TensorData};

use crate::error::{Error, Result};
use crate::ops::launch;
use crate::pace::at_once;

type Work<T> = Pin<Box<dyn Future<Output = Result<Vec<T>>>>>;

/// A read that has been queued: what is queued after it does not change what it gives. Dropped, it still runs to its end: the
/// runtime reuses the buffer that it is mapped in, and a mapped buffer makes the next read fail.
pub struct Reading<T: 'static>(State<T>);

enum State<T> {
    Waiting(Work<T>),
    Ready(Result<Vec<T>>),
    Taken,
}

impl<T: Unpin> Reading<T> {
    /// Polled once, a read is queued; whoever waits for it polls again.
    fn start(work: impl Future<Output = Result<Vec<T>>> + 'static) -> Self {
        launch::count_readback();
        let mut work: Work<T> = Box::pin(work);
        match at_once(&mut work) {
            Some(values) => Self(State::Ready(values)),
            None => Self(State::Waiting(work)),
        }
    }
}

impl<T: Unpin> Future for Reading<T> {
    type Output = Result<Vec<T>>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match std::mem::replace(&mut self.0, State::Taken) {
            State::Ready(values) => Poll::Ready(values),
            State::Waiting(mut work) => match work.as_mut().poll(context) {
                Poll::Ready(values) => Poll::Ready(values),
                Poll::Pending => {
                    self.0 = State::Waiting(work);
                    Poll::Pending
                }
            },
            State::Taken => Poll::Ready(Err(Error::kernel("read", "read twice"))),
        }
    }
}

impl<T: 'static> Drop for Reading<T> {
    fn drop(&mut self) {
        if let State::Waiting(work) = std::mem::replace(&mut self.0, State::Taken) {
            finish(work);
        }
    }
}

#[cfg(target_family = "wasm")]
fn finish<T: 'static>(work: Work<T>) {
    wasm_bindgen_futures::spawn_local(async move {
        // Nobody waits for what it gives, nor for how it fails.
        let _ = work.await;
    });
}

#[cfg(not(target_family = "wasm"))]
fn finish<T: 'static>(mut work: Work<T>) {
    while at_once(&mut work).is_none() {
        std::thread::yield_now();
    }
}

/// A tensor's values. Errors: device-lost, kernel.
pub async fn read_floats<const D: usize>(tensor: Tensor<D>) -> Result<Vec<f32>> {
    let values = async move { read(tensor.into_data_async().await, |data| data.try_to_vec::<f32>().map_err(|error| format!("{error:?}"))) };
    Reading::start(values).await
}

/// A tensor's values. Errors: device-lost, kernel.
pub async fn read_ints<const D: usize>(tensor: Tensor<D, Int>) -> Result<Vec<i32>> {
    start_reading(tensor).await
}

/// The same as two steps. Errors, of the second: device-lost, kernel.
pub fn start_reading<const D: usize>(tensor: Tensor<D, Int>) -> Reading<i32> {
    Reading::start(
        async move { read(tensor.into_data_async().await, |data| data.try_to_vec::<i32>().map_err(|error| format!("{error:?}"))) },
    )
}

fn read<T, E: std::fmt::Debug>(data: Result<TensorData, E>, values: impl FnOnce(TensorData) -> Result<T, String>) -> Result<T> {
    let data = data.map_err(|error| failed_read(format!("{error:?}")))?;
    if let Some(message) = crate::device::take_gpu_error() {
        return Err(Error::kernel("gpu", message));
    }
    values(data).map_err(|reason| Error::kernel("read", reason))
}

/// The runtime poisons its reads when the device is gone, which is how a loss is noticed, and also when a kernel before
/// them was refused.
fn failed_read(reason: String) -> Error {
    let refused = ["compilation", "Validation", "launch error"].iter().any(|word| reason.contains(word));
    if refused { Error::kernel("gpu", reason) } else { Error::DeviceLost { reason } }
}
