//! The state of a decoder on the device, and the operations that read and move it. A step takes no number from the host,
//! so that it can be captured and replayed; beams, shared prefixes and cross-attention shared by beams are one
//! indirection, `cache_row`.
//!
//! One i32 buffer: `length` (cache positions filled), `rows`, `capacity`, 0; then a row each of `tokens`, `positions`
//! (what a learned position table is asked for), `finished`; then `[rows, capacity]` of `attention_mask` and `cache_row`
//! (which row of the cache holds this row's key and value at a position).

use burn_tensor::{Int, Tensor, TensorData};

use crate::device::{Device, DeviceKind};
use crate::error::{Error, Result};
use crate::ops::{Cache, device_kind};

/// Where `tokens` begin.
const HEADER: usize = 4;

pub struct StepState {
    pub rows: usize,
    /// Rows that start from one prompt lie side by side; the prompt itself is computed once, and kept in the first of them.
    pub beams: usize,
    pub capacity: usize,
    /// How many positions are filled, as the host knows it: for checks and for the end of the cache.
    length: usize,
    /// Whether the next forward is of prompts.
    in_prompt: bool,
    pub(crate) buffer: Tensor<1, Int>,
}

impl StepState {
    /// A state for `beams` rows a prompt, whose caches hold up to `capacity` positions; the mask [prompts, n ≤ capacity] is
    /// that of the prompts, later positions are attended. `next_position` is each prompt's position id after it.
    pub fn new(device: &Device, attention_mask: &[Vec<u32>], next_position: &[i32], beams: usize, capacity: usize) -> Result<Self> {
        let words = words(attention_mask, next_position, beams, capacity, 0)?;
        let buffer = match device.kind {
            DeviceKind::Cpu => Tensor::from_data(TensorData::new(words.clone(), [words.len()]), &device.burn),
            DeviceKind::Webgpu => device.room(words.len()),
        };
        let rows = attention_mask.len() * beams;
        let mut state = Self { rows, beams, capacity, length: 0, in_prompt: true, buffer };
        state.write(device, words)?;
        Ok(state)
    }

    /// Starts again with other prompts, as many as before, of which the caches hold the first `length` positions already.
    /// The buffer stays where it is. Errors: kernel when the shape is another one.
    pub fn restart(&mut self, device: &Device, attention_mask: &[Vec<u32>], next_position: &[i32], length: usize) -> Result<()> {
        let words = words(attention_mask, next_position, self.beams, self.capacity, length)?;
        if words.len() != self.buffer.dims()[0] || attention_mask.iter().any(|mask| mask.len() <= length) {
            let prompts = attention_mask.len();
            return Err(Error::kernel("state", format!("{prompts} prompts after {length} positions for {} rows", self.rows)));
        }
        self.write(device, words)?;
        (self.length, self.in_prompt) = (length, true);
        Ok(())
    }

    fn write(&mut self, device: &Device, words: Vec<i32>) -> Result<()> {
        match device.kind {
            #[cfg(feature = "cpu")]
            DeviceKind::Cpu => crate::ops::cpu::change_ints(&mut self.buffer, |buffer| buffer.copy_from_slice(&words)),
            #[allow(unreachable_patterns)]
            _ => device.write_words(&self.buffer, 0, bytemuck::cast_slice(&words)),
        }
    }

    /// Room for more positions in the caches, which have to grow beside it. The buffer changes its place.
    pub fn grow(&mut self, capacity: usize) {
        let (rows, before) = (self.rows, self.capacity);
        let device = self.buffer.device();
        let tables = HEADER + 3 * rows;
        let header = |range: std::ops::Range<usize>| self.buffer.clone().slice(range);
        let wider = |table: usize, filler: Vec<i32>| {
            let at = tables + table * rows * before;
            let kept: Tensor<2, Int> = self.buffer.clone().slice(at..at + rows * before).reshape([rows, before]);
            let filler = Tensor::from_data(TensorData::new(filler, [rows, capacity - before]), &device);
            Tensor::cat(vec![kept, filler], 1).reshape([rows * capacity])
        };
        let extra = capacity - before;
        let attended = wider(0, vec![1; rows * extra]);
        let own_rows = wider(1, (0..rows).flat_map(|row| std::iter::repeat_n(row as i32, extra)).collect());
        let capacity_word = Tensor::from_data(TensorData::new(vec![capacity as i32], [1]), &device);
        self.buffer = Tensor::cat(vec![header(0..2), capacity_word, header(3..tables), attended, own_rows], 0);
        self.capacity = capacity;
    }

    /// Rows that the next forward computes: one a prompt at first, then every beam.
    pub fn active_rows(&self) -> usize {
        self.rows / self.stride()
    }

    /// How many of the state's rows stand behind each active one.
    pub(crate) fn stride(&self) -> usize {
        if self.in_prompt { self.beams } else { 1 }
    }

    pub fn length(&self) -> usize {
        self.length
    }

    /// Where each row's current token is in `buffer`.
    pub fn tokens_at(&self) -> usize {
        HEADER
    }

    /// Where each row's position id is in `buffer`.
    pub fn positions_at(&self) -> usize {
        HEADER + self.rows
    }

    fn finished_at(&self) -> usize {
        HEADER + 2 * self.rows
    }

    /// What the host knows of a step over `positions` positions whose `advance` has been queued.
    pub fn advanced(&mut self, positions: usize) {
        self.length += positions;
        self.in_prompt = false;
    }

    /// Errors: kernel unless the caches are the state's and have room for `positions` more.
    pub(crate) fn check(&self, kernel: &str, positions: usize, width: usize, caches: [&Cache; 2]) -> Result<()> {
        let [k, v] = caches.map(std::mem::discriminant);
        let fits = k == v && caches.iter().all(|cache| cache.dims() == [self.rows * self.capacity, width]);
        if !fits || self.length + positions > self.capacity {
            let dims = caches.map(|cache| cache.dims());
            return Err(Error::kernel(
                kernel,
                format!("{positions} positions after {} of {}, caches {dims:?}", self.length, self.capacity),
            ));
        }
        Ok(())
    }
}

/// Row r goes on with what row `order[r]` has in its cache, order [rows]. Caches stay where they are: only `cache_row` changes.
/// Errors: kernel unless each row takes one of the state's.
pub fn reorder(device: &Device, state: &mut StepState, order: &[usize]) -> Result<()> {
    if order.len() != state.rows || order.iter().any(|row| *row >= state.rows) {
        return Err(Error::kernel("reorder", format!("{order:?} for {} rows", state.rows)));
    }
    if order.iter().enumerate().all(|(row, from)| row == *from) {
        return Ok(());
    }
    let rows_at = HEADER + 3 * state.rows + state.rows * state.capacity;
    match device_kind(&state.buffer) {
        #[cfg(feature = "cpu")]
        DeviceKind::Cpu => {
            let _ = device;
            let (capacity, length) = (state.capacity, state.length);
            crate::ops::cpu::change_ints(&mut state.buffer, |words| {
                let before = words[rows_at..].to_vec();
                for (row, from) in order.iter().enumerate() {
                    words[rows_at + row * capacity..][..length].copy_from_slice(&before[from * capacity..][..length]);
                }
            })
        }
        #[cfg(feature = "webgpu")]
        DeviceKind::Webgpu => {
            use crate::ops::launch::{Kernel, Type, empty, ints};
            let order: Vec<i32> = order.iter().map(|row| *row as i32).collect();
            let order = Tensor::<1, Int>::from_data(TensorData::new(order, [state.rows]), &device.burn);
            let words = ints(&state.buffer)?;
            let count = state.rows * state.capacity;
            let before = empty(&words, [count], burn_tensor::DType::I32);
            // Two launches: where a row is read from is overwritten by another's, and the buffer has to stay where it is.
            for copy in [true, false] {
                Kernel::new("reorder", include_str!("reorder.wgsl"))
                    .constant("COPY", copy.into())
                    .buffer("before", Type::I32, &before)
                    .buffer("order", Type::I32, &ints(&order)?)
                    .buffer("state", Type::I32, &words)
                    .info([rows_at])
                    .launch(count.div_ceil(64))?;
            }
            Ok(())
        }
        #[allow(unreachable_patterns)]
        kind => Err(Error::kernel("reorder", format!("no {kind:?} in this build"))),
    }
}

/// The end of a step over `positions` positions: rows that are not finished take their next token and position, the others
/// take `pad`; an id of `eos` finishes a row. The first step, a prompt, leaves the position ids as they were made. The host
/// learns of it by `StepState::advanced`. Errors: kernel.
pub fn advance(state: &mut StepState, next: &Tensor<1, Int>, positions: usize, eos: &Tensor<1, Int>, pad: i32) -> Result<()> {
    let first = state.in_prompt;
    if next.dims() != [state.rows] {
        return Err(Error::kernel("advance", format!("{:?} tokens for {} rows", next.dims(), state.rows)));
    }
    let rows = state.rows;
    let (tokens_at, positions_at, finished_at) = (state.tokens_at(), state.positions_at(), state.finished_at());
    match device_kind(next) {
        #[cfg(feature = "cpu")]
        DeviceKind::Cpu => {
            use crate::ops::cpu::{change_ints, ints};
            let (next, eos) = (ints(next)?, ints(eos)?);
            change_ints(&mut state.buffer, |words| {
                words[0] += positions as i32;
                for row in 0..rows {
                    let finished = words[finished_at + row] != 0;
                    let token = if finished { pad } else { next.ints()[row] };
                    words[tokens_at + row] = token;
                    words[positions_at + row] += i32::from(!first);
                    words[finished_at + row] = i32::from(finished || eos.ints().contains(&token));
                }
            })?;
        }
        #[cfg(feature = "webgpu")]
        DeviceKind::Webgpu => {
            use crate::ops::launch::{Kernel, Type, ints};
            let _ = (tokens_at, positions_at, finished_at, rows);
            Kernel::new("advance", include_str!("advance.wgsl"))
                .buffer("state", Type::I32, &ints(&state.buffer)?)
                .buffer("next", Type::I32, &ints(next)?)
                .buffer("eos", Type::I32, &ints(eos)?)
                .info([positions, eos.dims()[0], pad as u32 as usize, first.into()])
                .launch(1)?;
        }
        #[allow(unreachable_patterns)]
        kind => return Err(Error::kernel("advance", format!("no {kind:?} in this build"))),
    }
    Ok(())
}

/// What the buffer holds at the start.
fn words(attention_mask: &[Vec<u32>], next_position: &[i32], beams: usize, capacity: usize, length: usize) -> Result<Vec<i32>> {
    let rows = attention_mask.len() * beams;
    if rows == 0 || next_position.len() != attention_mask.len() || attention_mask.iter().any(|mask| mask.len() > capacity) {
        let prompts = attention_mask.len();
        let reason = format!("{prompts} prompts, {beams} beams, {} positions, capacity {capacity}", next_position.len());
        return Err(Error::kernel("state", reason));
    }
    let mut words = vec![length as i32, rows as i32, capacity as i32, 0];
    words.extend(std::iter::repeat_n(0, rows));
    words.extend(next_position.iter().flat_map(|position| std::iter::repeat_n(*position, beams)));
    words.extend(std::iter::repeat_n(0, rows));
    for mask in attention_mask.iter().flat_map(|mask| std::iter::repeat_n(mask, beams)) {
        words.extend(mask.iter().map(|attended| i32::from(*attended != 0)));
        words.extend(std::iter::repeat_n(1, capacity - mask.len()));
    }
    for row in 0..rows {
        let prompt = attention_mask[row / beams].len();
        words.extend(std::iter::repeat_n((row / beams * beams) as i32, prompt));
        words.extend(std::iter::repeat_n(row as i32, capacity - prompt));
    }
    Ok(words)
}
