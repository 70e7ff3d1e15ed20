//! Memory that kernels work in, kept from call to call.

use std::cell::RefCell;

use crate::ops::cpu::int8::Block;
use crate::weights::panels::OUTPUTS;

#[derive(Default)]
pub(crate) struct Scratch {
    /// x behind a norm.
    pub normed: Vec<f32>,
    /// x in groups of rows, as `gemm::pack` leaves it.
    pub packed: Vec<f32>,
    /// x as integers.
    pub blocks: Vec<Block>,
    /// Weights of a panel as f32; in attention the keys of a head.
    pub panels: Vec<[f32; OUTPUTS]>,
    /// The values of a head.
    pub values: Vec<[f32; OUTPUTS]>,
    pub scores: Vec<f32>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// Lends the thread's scratch to `work`; what it holds is left from the call before. A call inside another gets an empty one.
pub(crate) fn with<T>(work: impl FnOnce(&mut Scratch) -> T) -> T {
    let mut scratch = SCRATCH.take();
    let result = work(&mut scratch);
    SCRATCH.set(scratch);
    result
}

/// The first `count` of a buffer, which grows where it must.
pub(crate) fn room<T: Clone>(buffer: &mut Vec<T>, count: usize, zero: T) -> &mut [T] {
    if buffer.len() < count {
        buffer.resize(count, zero);
    }
    &mut buffer[..count]
}
