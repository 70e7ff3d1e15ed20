//! Launches that are recorded once and replayed: a decode step. On the GPU a replay costs about a microsecond of CPU a launch
//! instead of twenty. A recording sees the buffers it was made with, so all that changes between replays has to lie in them:
//! `StepState` does. On the CPU there is nothing to record: work is done each time.

use burn_tensor::{Int, Tensor};

use crate::error::Result;
#[cfg(feature = "webgpu")]
use crate::{device::DeviceKind, error::Error, ops::device_kind, ops::launch};

/// Work whose launches are recorded the first time. What it gives are the same tensors after each replay, with other contents.
pub struct Recorder<T> {
    #[cfg(feature = "webgpu")]
    recording: Option<Recording<T>>,
    #[cfg(not(feature = "webgpu"))]
    _nothing: std::marker::PhantomData<T>,
}

impl<T> Default for Recorder<T> {
    fn default() -> Self {
        #[cfg(feature = "webgpu")]
        return Self { recording: None };
        #[cfg(not(feature = "webgpu"))]
        Self { _nothing: std::marker::PhantomData }
    }
}

impl<T: Clone> Recorder<T> {
    /// Does `work`, or replays its recording. `beside` is a buffer of the device it runs on. `work` runs twice when it is
    /// recorded, so it may change nothing but what lies in buffers. The first result goes through `copied`: its own buffers are
    /// what the recording writes to. Errors: those of `work`, kernel.
    pub fn run(&mut self, beside: &Tensor<1, Int>, mut work: impl FnMut() -> Result<T>, copied: impl FnOnce(T) -> T) -> Result<T> {
        #[cfg(feature = "webgpu")]
        if device_kind(beside) == DeviceKind::Webgpu {
            if let Some(recording) = &self.recording {
                return recording.replay();
            }
            let (first, recording) = record(beside, &mut work, copied)?;
            self.recording = recording;
            return Ok(first);
        }
        let _ = (beside, copied);
        work()
    }

    /// The next `run` does its work and records it anew: a buffer has changed its place.
    pub fn forget(&mut self) {
        #[cfg(feature = "webgpu")]
        {
            self.recording = None;
        }
    }
}

#[cfg(feature = "webgpu")]
struct Recording<T> {
    output: T,
    counts: launch::Counts,
    graph: cubecl::client::Graph,
}

#[cfg(feature = "webgpu")]
impl<T: Clone> Recording<T> {
    fn replay(&self) -> Result<T> {
        // SAFETY: every buffer that was recorded is alive. The graph guards those that its work made; caches, state and weights
        // belong to the decoding and the model that hold this recording, and who moves one of them calls `forget`.
        unsafe { self.graph.replay() }.map_err(|error| Error::kernel("replay", format!("{error:?}")))?;
        launch::count_replay(self.counts);
        Ok(self.output.clone())
    }
}

/// The work's own result, and its recording. `None` where the memory held had no room for a second run after all: the work is
/// done, and the next one tries again.
#[cfg(feature = "webgpu")]
fn record<T>(
    beside: &Tensor<1, Int>,
    work: &mut impl FnMut() -> Result<T>,
    copied: impl FnOnce(T) -> T,
) -> Result<(T, Option<Recording<T>>)> {
    let client = launch::ints(beside)?.client;
    let failed = |error: cubecl::server::ServerError| Error::kernel("record", format!("{error:?}"));
    client.graph_prepare().map_err(failed)?;
    // The run that the recording finds its buffers after; its effects are the first step's.
    launch::note_sizes();
    let first = work();
    let sizes = launch::noted_sizes();
    let first = match first {
        Ok(first) => copied(first),
        Err(error) => {
            // Ends the preparation; that there is nothing to record is known.
            let _ = client.stop_capture();
            return Err(error);
        }
    };
    // While it records the runtime takes no memory from the device, and what has just been copied lies somewhere in what the
    // run has left. So there is room for all of a run beside it, and as much again for what others make (Burn's own operations).
    let room: Vec<_> = sizes.iter().chain(&sizes).map(|bytes| client.empty(*bytes)).collect();
    drop(room);
    client.start_capture().map_err(failed)?;
    let before = launch::counts();
    let output = work();
    let counts = launch::counts() - before;
    launch::count_recorded(counts);
    match (client.stop_capture(), output) {
        (Ok(graph), output) => Ok((first, Some(Recording { output: output?, counts, graph }))),
        (Err(_), _) => Ok((first, None)),
    }
}
