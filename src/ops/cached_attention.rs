//! A decoder's self-attention: the newest keys and values join the cache, and the newest queries attend to all of it: causal,
//! and where the attention mask says so. A masked score becomes the lowest f32, as in HF, so that a row with nothing to
//! attend to is an even mean. Lengths, masks and rows come from the state on the device.

use burn_tensor::Tensor;

use crate::device::DeviceKind;
use crate::error::{Error, Result};
use crate::ops::attention::MAX_HEAD_DIM;
use crate::ops::{Cache, DistanceBias, Heads, Rows, StepState, device_kind};

/// q, k and v: rows·n rows of heads·head_dim floats, the newest n positions of each active row of the state → [rows·n,
/// heads·head_dim]. The length moves on with `advance`. Errors: kernel when shapes
/// disagree or the caches are full.
pub fn cached_attention(
    state: &StepState,
    [q, k, v]: [Rows; 3],
    k_cache: &mut Cache,
    v_cache: &mut Cache,
    heads: Heads,
    by_distance: Option<&DistanceBias>,
) -> Result<Tensor<2>> {
    let width = heads.count * heads.head_dim;
    let count = q.tensor.dims()[0];
    let positions = count / state.active_rows();
    state.check("cached_attention", positions, width, [k_cache, v_cache])?;
    let within = |rows: Rows| rows.tensor.dims()[0] == count && rows.offset + width <= rows.tensor.dims()[1];
    let fits = positions > 0 && positions * state.active_rows() == count && heads.head_dim <= MAX_HEAD_DIM;
    if !fits || ![q, k, v].into_iter().all(within) || by_distance.is_some_and(|bias| !bias.fits(heads)) {
        let dims = [q, k, v].map(|rows| (rows.tensor.dims(), rows.offset));
        return Err(Error::kernel("cached_attention", format!("q, k, v {dims:?}, {heads:?}")));
    }
    match device_kind(q.tensor) {
        #[cfg(feature = "cpu")]
        DeviceKind::Cpu => {
            use crate::ops::cpu::attention;
            let (k_cache, v_cache) = (k_cache.floats()?, v_cache.floats()?);
            attention::append(state, k, k_cache, width)?;
            attention::append(state, v, v_cache, width)?;
            attention::cached_attention(state, q, k_cache, v_cache, heads, by_distance)
        }
        #[cfg(feature = "webgpu")]
        DeviceKind::Webgpu => {
            let variant = gpu::Variant::choose(positions, state.capacity, crate::device::tuning());
            gpu::cached_attention(state, [q, k, v], [k_cache, v_cache], heads, by_distance, variant)
        }
        #[allow(unreachable_patterns)]
        kind => Err(Error::kernel("cached_attention", format!("no {kind:?} in this build"))),
    }
}

#[cfg(feature = "webgpu")]
pub(crate) mod gpu {
    use burn_cubecl::tensor::CubeTensor;

    use super::*;
    use crate::device::{Adapter, Tuning};
    use crate::ops::launch::{Kernel, Type, empty, floats, ints, tensor};

    /// How the work is shared out.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub(crate) struct Variant {
        pub subgroups: bool,
        /// Of a workgroup.
        pub threads: u32,
        /// Workgroups that share a query and head.
        pub splits: usize,
    }

    /// Positions of a cache that are worth a workgroup of their own, and how many of those at most.
    const STRETCH: usize = 128;
    const MAX_SPLITS: usize = 8;

    /// A cache as a kernel sees it.
    struct CacheBuffer {
        buffer: CubeTensor,
        kind: Type,
        /// Numbers.
        in_word: u32,
    }

    impl CacheBuffer {
        fn of(cache: &Cache) -> Result<Self> {
            Ok(match cache {
                Cache::Floats(numbers) => Self { buffer: floats(numbers)?, kind: Type::F32, in_word: 1 },
                Cache::Halves(words) => Self { buffer: ints(words)?, kind: Type::U32, in_word: 2 },
            })
        }
    }

    /// WGSL that reads and writes caches, behind what says how a word of this one is read.
    macro_rules! on_cache {
        ($cache:expr, $($file:literal),+) => {
            match $cache.in_word {
                1 => concat!(include_str!("cache_floats.wgsl"), $(include_str!($file)),+),
                _ => concat!(include_str!("cache_halves.wgsl"), $(include_str!($file)),+),
            }
        };
    }

    impl Variant {
        pub(crate) fn all(adapter: &Adapter) -> Vec<Self> {
            let mut all: Vec<Self> =
                [(64, 1), (256, 1), (256, 3)].map(|(threads, splits)| Self { subgroups: false, threads, splits }).into();
            if adapter.subgroups {
                all.extend([(64, 1), (256, 3)].map(|(threads, splits)| Self { subgroups: true, threads, splits }));
            }
            all
        }

        /// By what does not change within a recording.
        pub(crate) fn choose(positions: usize, capacity: usize, Tuning { subgroups, split, .. }: Tuning) -> Self {
            let long = split && positions == 1 && capacity > STRETCH;
            let splits = if long && capacity >= 4 * STRETCH { (capacity / STRETCH).min(MAX_SPLITS) } else { 1 };
            Self { subgroups, threads: if long { 256 } else { 64 }, splits }
        }
    }

    pub(crate) fn cached_attention(
        state: &StepState,
        [q, k, v]: [Rows; 3],
        caches: [&Cache; 2],
        heads: Heads,
        by_distance: Option<&DistanceBias>,
        variant: Variant,
    ) -> Result<Tensor<2>> {
        let (k_cache, v_cache) = (CacheBuffer::of(caches[0])?, CacheBuffer::of(caches[1])?);
        let words = ints(&state.buffer)?;
        let count = q.tensor.dims()[0];
        let (positions, width) = (count / state.active_rows(), heads.count * heads.head_dim);
        let stride = |rows: Rows| rows.tensor.dims()[1];
        // One position a row, all of one product: each workgroup takes in the key and value that only it reads. Of a prompt, what
        // one workgroup takes in others read, so that is a launch of its own.
        let joins = positions == 1 && std::ptr::eq(q.tensor, k.tensor) && std::ptr::eq(k.tensor, v.tensor);
        if !joins {
            append(state, [k, v], [&k_cache, &v_cache], &words, [positions, width])?;
        }

        let q_rows = floats(q.tensor)?;
        let y = empty(&q_rows, [count, width], burn_tensor::DType::F32);
        let splits = variant.splits;
        let of_splits = match splits {
            1 => y.clone(),
            // Of each: its floats, the highest score and the sum of its weights.
            _ => empty(&q_rows, [count * heads.count * splits, heads.head_dim + 2], burn_tensor::DType::F32),
        };
        let source = on_cache!(k_cache, "distance.wgsl", "cached_attention.wgsl", "softmax_tiles.wgsl");
        let kernel = Kernel::new("cached_attention", source)
            .together(variant.subgroups)
            .workgroup(variant.threads)
            .constant("SPLITS", splits as u32)
            .constant("IN_WORD", k_cache.in_word)
            .constant("JOINS", joins.into())
            .constant("HEAD_DIM", heads.head_dim as u32)
            .constant("DISTANCE", by_distance.is_some().into())
            .buffer("q", Type::F32, &q_rows)
            .buffer("k", k_cache.kind, &k_cache.buffer)
            .buffer("v", v_cache.kind, &v_cache.buffer)
            .buffer("state", Type::I32, &words)
            .buffer("y", Type::F32, &of_splits);
        let kernel = match by_distance {
            Some(bias) => kernel.buffer("distance", Type::F32, &floats(&bias.values)?),
            None => kernel.absent("distance"),
        };
        let reach = by_distance.map_or(0, |bias| bias.reach);
        kernel
            .info([
                heads.count,
                width,
                heads.scale.to_bits() as usize,
                positions,
                state.stride(),
                reach,
                stride(q),
                q.offset,
                k.offset,
                v.offset,
            ])
            .launch(count * heads.count * splits)?;
        if splits > 1 {
            Kernel::new("combine", include_str!("combine.wgsl"))
                .constant("SPLITS", splits as u32)
                .constant("HEAD_DIM", heads.head_dim as u32)
                .buffer("stretches", Type::F32, &of_splits)
                .buffer("y", Type::F32, &y)
                .info([count * width])
                .launch((count * width).div_ceil(64))?;
        }
        Ok(tensor(y))
    }

    fn append(
        state: &StepState,
        [k, v]: [Rows; 2],
        [k_cache, v_cache]: [&CacheBuffer; 2],
        words: &CubeTensor,
        [positions, width]: [usize; 2],
    ) -> Result<()> {
        // WebGPU refuses one buffer bound twice: a fused product is bound once and read at two offsets.
        let fused = std::ptr::eq(k.tensor, v.tensor);
        let kernel = Kernel::new("append", on_cache!(k_cache, "append.wgsl"))
            .constant("IN_WORD", k_cache.in_word)
            .constant("FUSED", fused.into())
            .buffer("k", Type::F32, &floats(k.tensor)?)
            .buffer("k_cache", k_cache.kind, &k_cache.buffer)
            .buffer("v_cache", v_cache.kind, &v_cache.buffer)
            .buffer("state", Type::I32, words);
        let kernel = if fused { kernel.absent("v") } else { kernel.buffer("v", Type::F32, &floats(v.tensor)?) };
        let ([count, k_stride], v_stride) = (k.tensor.dims(), v.tensor.dims()[1]);
        kernel
            .info([positions, width, state.stride(), k_stride, k.offset, v_stride, v.offset])
            .launch((count * width / k_cache.in_word as usize).div_ceil(64))
    }
}
