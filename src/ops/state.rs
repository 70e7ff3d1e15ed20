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
use crate::ops::attention::MAX_HEAD_DIM;
use crate::ops::{DistanceBias, Heads, device_kind};

/// Where `tokens` begin.
const HEADER: usize = 4;

pub struct StepState {
    pub rows: usize,
    /// Rows that start from one prompt lie side by side; the prompt itself is computed once, and kept in the first of them.
    pub beams: usize,
    pub capacity: usize,
    /// How many positions are filled, as the host knows it: for checks and for the end of the cache.
    length: usize,
    pub(crate) buffer: Tensor<1, Int>,
}

impl StepState {
    /// A state for `beams` rows a prompt, whose caches hold up to `capacity` positions; the mask [prompts, n ≤ capacity] is
    /// that of the prompts, later positions are attended. `next_position` is each prompt's position id after it.
    pub fn new(device: &Device, attention_mask: &[Vec<u32>], next_position: &[i32], beams: usize, capacity: usize) -> Result<Self> {
        let rows = attention_mask.len() * beams;
        if rows == 0 || next_position.len() != attention_mask.len() || attention_mask.iter().any(|mask| mask.len() > capacity) {
            let prompts = attention_mask.len();
            let reason = format!("{prompts} prompts, {beams} beams, {} positions, capacity {capacity}", next_position.len());
            return Err(Error::kernel("state", reason));
        }
        let mut words = vec![0i32, rows as i32, capacity as i32, 0];
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
        let count = words.len();
        let buffer = Tensor::from_data(TensorData::new(words, [count]), &device.burn);
        Ok(Self { rows, beams, capacity, length: 0, buffer })
    }

    /// Rows that the next forward computes: one a prompt at first, then every beam.
    pub fn active_rows(&self) -> usize {
        self.rows / self.stride()
    }

    /// How many of the state's rows stand behind each active one.
    pub(crate) fn stride(&self) -> usize {
        if self.length == 0 { self.beams } else { 1 }
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

    /// Room for keys or values of `width` floats a position.
    pub fn cache(&self, width: usize) -> Tensor<2> {
        Tensor::zeros([self.rows * self.capacity, width], &self.buffer.device())
    }

    fn check(&self, kernel: &str, positions: usize, width: usize, caches: [&Tensor<2>; 2]) -> Result<()> {
        let fits = caches.iter().all(|cache| cache.dims() == [self.rows * self.capacity, width]);
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

/// Copies k and v [rows·n, width] behind the positions that are filled. The length moves on with `advance`.
pub fn append(state: &StepState, k: &Tensor<2>, v: &Tensor<2>, k_cache: &mut Tensor<2>, v_cache: &mut Tensor<2>) -> Result<()> {
    let [count, width] = k.dims();
    let (rows, stride) = (state.active_rows(), state.stride());
    let positions = count / rows;
    state.check("append", positions, width, [k_cache, v_cache])?;
    if v.dims() != k.dims() || positions * rows != count {
        return Err(Error::kernel("append", format!("k {:?}, v {:?}", k.dims(), v.dims())));
    }
    match device_kind(k) {
        #[cfg(feature = "cpu")]
        DeviceKind::Cpu => {
            use crate::ops::cpu::{change, floats};
            for (new, cache) in [(k, k_cache), (v, v_cache)] {
                let new = floats(new)?;
                change(cache, |cache| {
                    for (row, new) in new.floats().chunks_exact(positions * width).enumerate() {
                        let at = (row * stride * state.capacity + state.length) * width;
                        cache[at..at + new.len()].copy_from_slice(new);
                    }
                })?;
            }
            Ok(())
        }
        #[cfg(feature = "webgpu")]
        DeviceKind::Webgpu => {
            use crate::ops::launch::{Kernel, Type, floats, ints};
            let (k, v) = (floats(k)?, floats(v)?);
            Kernel::new("append", include_str!("append.wgsl"))
                .buffer("k", Type::F32, &k)
                .buffer("v", Type::F32, &v)
                .buffer("k_cache", Type::F32, &floats(k_cache)?)
                .buffer("v_cache", Type::F32, &floats(v_cache)?)
                .buffer("state", Type::I32, &ints(&state.buffer)?)
                .info([positions, width, stride])
                .launch((count * width).div_ceil(64))
        }
        #[allow(unreachable_patterns)]
        kind => Err(Error::kernel("append", format!("no {kind:?} in this build"))),
    }
}

/// Attention of q [rows·n, heads·head_dim], the newest n positions, over the cache with them in it: causal, and where the
/// attention mask says so. A masked score becomes the lowest f32, as in HF, so that a row with nothing to attend to is
/// an even mean.
pub fn cached_attention(
    state: &StepState,
    q: &Tensor<2>,
    k_cache: &Tensor<2>,
    v_cache: &Tensor<2>,
    heads: Heads,
    by_distance: Option<&DistanceBias>,
) -> Result<Tensor<2>> {
    let [count, width] = q.dims();
    let rows = state.active_rows();
    let queries = count / rows;
    state.check("cached_attention", queries, width, [k_cache, v_cache])?;
    let fits = width == heads.count * heads.head_dim && queries * rows == count && heads.head_dim <= MAX_HEAD_DIM;
    if !fits || by_distance.is_some_and(|bias| !bias.fits(heads)) {
        return Err(Error::kernel("cached_attention", format!("q {:?}, {heads:?}", q.dims())));
    }
    match device_kind(q) {
        #[cfg(feature = "cpu")]
        DeviceKind::Cpu => crate::ops::cpu::attention::cached_attention(state, q, k_cache, v_cache, heads, by_distance),
        #[cfg(feature = "webgpu")]
        DeviceKind::Webgpu => {
            use crate::ops::launch::{Kernel, Type, empty, floats, ints, tensor};
            let q = floats(q)?;
            let y = empty(&q, [count, width], burn_tensor::DType::F32);
            let kernel = Kernel::new(
                "cached_attention",
                concat!(include_str!("distance.wgsl"), include_str!("cached_attention.wgsl"), include_str!("softmax_tiles.wgsl")),
            )
            .constant("HEAD_DIM", heads.head_dim as u32)
            .constant("DISTANCE", by_distance.is_some().into())
            .buffer("q", Type::F32, &q)
            .buffer("k", Type::F32, &floats(k_cache)?)
            .buffer("v", Type::F32, &floats(v_cache)?)
            .buffer("state", Type::I32, &ints(&state.buffer)?)
            .buffer("y", Type::F32, &y);
            let kernel = match by_distance {
                Some(bias) => kernel.buffer("distance", Type::F32, &floats(&bias.values)?),
                None => kernel.absent("distance"),
            };
            let reach = by_distance.map_or(0, |bias| bias.reach);
            kernel
                .info([heads.count, width, heads.scale.to_bits() as usize, queries, state.stride(), reach])
                .launch(count * heads.count)?;
            Ok(tensor(y))
        }
        #[allow(unreachable_patterns)]
        kind => Err(Error::kernel("cached_attention", format!("no {kind:?} in this build"))),
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
            let before = ints(&state.buffer)?;
            let count = state.buffer.dims()[0];
            let after = empty(&before, [count], burn_tensor::DType::I32);
            Kernel::new("reorder", include_str!("reorder.wgsl"))
                .buffer("before", Type::I32, &before)
                .buffer("order", Type::I32, &ints(&order)?)
                .buffer("state", Type::I32, &after)
                .info([count, rows_at])
                .launch(count.div_ceil(64))?;
            state.buffer = Tensor::from_primitive::<burn_wgpu::Wgpu>(after);
            Ok(())
        }
        #[allow(unreachable_patterns)]
        kind => Err(Error::kernel("reorder", format!("no {kind:?} in this build"))),
    }
}

/// The place of the largest of each row of logits [rows, n]; the lowest on ties.
pub fn argmax(logits: &Tensor<2>) -> Result<Tensor<1, Int>> {
    let [rows, width] = logits.dims();
    match device_kind(logits) {
        #[cfg(feature = "cpu")]
        DeviceKind::Cpu => {
            let values = crate::ops::cpu::floats(logits)?;
            let best: Vec<i32> = values.floats().chunks_exact(width).map(|row| highest(row) as i32).collect();
            Ok(Tensor::from_data(TensorData::new(best, [rows]), &logits.device()))
        }
        #[cfg(feature = "webgpu")]
        DeviceKind::Webgpu => {
            use crate::ops::launch::{Kernel, Type, empty, floats};
            let logits = floats(logits)?;
            let best = empty(&logits, [rows], burn_tensor::DType::I32);
            Kernel::new("argmax", include_str!("argmax.wgsl"))
                .buffer("logits", Type::F32, &logits)
                .buffer("best", Type::I32, &best)
                .info([width])
                .launch(rows)?;
            Ok(Tensor::from_primitive::<burn_wgpu::Wgpu>(best))
        }
        #[allow(unreachable_patterns)]
        kind => Err(Error::kernel("argmax", format!("no {kind:?} in this build"))),
    }
}

/// The lowest place of the highest value.
pub(crate) fn highest(values: &[f32]) -> usize {
    let mut best = 0;
    for (place, value) in values.iter().enumerate() {
        if *value > values[best] {
            best = place;
        }
    }
    best
}

/// The end of a step over `positions` positions: rows that are not finished take their next token and position, the others
/// take `pad`; an id of `eos` finishes a row. The first step, a prompt, leaves the position ids as they were made.
pub fn advance(state: &mut StepState, next: &Tensor<1, Int>, positions: usize, eos: &Tensor<1, Int>, pad: i32) -> Result<()> {
    let first = state.length == 0;
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
    state.length += positions;
    Ok(())
}
