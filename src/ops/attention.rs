//! Scaled dot-product attention without a score matrix in memory: softmax(q·kᵀ·scale + bias)·v, a tile of keys at a time.
//!
//! q is B·S rows, k and v are B·T rows; the heads lie side by side in a row, `head_dim` floats each, from `offset` on, so
//! that a fused qkv product needs no copies. A `Bias` is added to the scores. → [B·S, heads·head_dim].
//! One launch: a workgroup a query and head, or, where there are many queries, 16 queries and a head.

use burn_tensor::Tensor;

use crate::device::DeviceKind;
use crate::error::{Error, Result};
use crate::ops::device_kind;

/// Where q, k or v lie: `offset` floats into each row of `tensor`.
#[derive(Clone, Copy)]
pub struct Rows<'a> {
    pub tensor: &'a Tensor<2>,
    pub offset: usize,
}

impl<'a> Rows<'a> {
    pub fn whole(tensor: &'a Tensor<2>) -> Self {
        Self { tensor, offset: 0 }
    }

    /// N parts of equal width, side by side in one product.
    pub fn parts<const N: usize>(tensor: &'a Tensor<2>) -> [Self; N] {
        let width = tensor.dims()[1] / N;
        std::array::from_fn(|place| Self { tensor, offset: place * width })
    }
}

/// `scale` multiplies q·kᵀ: head_dim^-½, or 1 for T5.
#[derive(Debug, Clone, Copy)]
pub struct Heads {
    pub count: usize,
    pub head_dim: usize,
    pub scale: f32,
}

/// What is added to the scores.
#[derive(Clone, Copy, Default)]
pub struct Bias<'a> {
    /// [B, S or 1, T], for all heads.
    pub dense: Option<&'a Tensor<3>>,
    pub by_distance: Option<&'a DistanceBias>,
}

impl<'a> From<Option<&'a Tensor<3>>> for Bias<'a> {
    fn from(dense: Option<&'a Tensor<3>>) -> Self {
        Self { dense, by_distance: None }
    }
}

/// A value for each head and each distance of a key from its query; beyond `reach` the outermost ones hold.
#[derive(Debug, Clone)]
pub struct DistanceBias {
    /// [2·reach + 1, heads]: row `reach` is for the query's own position, later rows for keys behind it.
    pub values: Tensor<2>,
    pub reach: usize,
}

impl DistanceBias {
    pub(super) fn fits(&self, heads: Heads) -> bool {
        self.values.dims() == [2 * self.reach + 1, heads.count]
    }
}

/// The largest head_dim that the kernels hold: two registers of 64 lanes.
pub const MAX_HEAD_DIM: usize = 256;

/// See the module. Errors: kernel when shapes disagree.
pub fn attention<'a>(batch: usize, q: Rows, k: Rows, v: Rows, heads: Heads, bias: impl Into<Bias<'a>>) -> Result<Tensor<2>> {
    let bias = bias.into();
    let width = heads.count * heads.head_dim;
    let rows = |rows: Rows| (rows.tensor.dims()[0], rows.tensor.dims()[1]);
    let ((queries, q_width), (keys, k_width), (values, v_width)) = (rows(q), rows(k), rows(v));
    let fits = batch > 0 && queries % batch == 0 && keys % batch == 0 && keys == values && keys > 0 && heads.head_dim <= MAX_HEAD_DIM;
    let widths = q.offset + width <= q_width && k.offset + width <= k_width && v.offset + width <= v_width;
    let dense_fits = bias.dense.is_none_or(|bias| {
        let [b, s, t] = bias.dims();
        b == batch && (s == 1 || s * batch == queries) && t * batch == keys
    });
    if !fits || !widths || !dense_fits || bias.by_distance.is_some_and(|bias| !bias.fits(heads)) {
        let bias = (bias.dense.map(|bias| bias.dims()), bias.by_distance.map(|bias| bias.values.dims()));
        return Err(Error::kernel(
            "attention",
            format!("batch {batch}, q {queries}x{q_width}, k {keys}x{k_width}, v {values}x{v_width}, {heads:?}, bias {bias:?}"),
        ));
    }
    match device_kind(q.tensor) {
        #[cfg(feature = "cpu")]
        DeviceKind::Cpu => crate::ops::cpu::attention::attention(batch, q, k, v, heads, bias),
        #[cfg(feature = "webgpu")]
        DeviceKind::Webgpu => {
            gpu::attention(batch, q, k, v, heads, bias, gpu::Variant::choose(queries / batch, heads, crate::device::tuning()))
        }
        #[allow(unreachable_patterns)]
        kind => Err(Error::kernel("attention", format!("no {kind:?} in this build"))),
    }
}

#[cfg(feature = "webgpu")]
pub(crate) mod gpu {
    use super::*;
    use crate::device::{Adapter, Tuning};
    use crate::ops::launch::{Kernel, Type, empty, floats, tensor};

    /// How the work is shared out.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub(crate) enum Variant {
        /// A workgroup, a query of a head.
        Query { subgroups: bool },
        /// A workgroup, 16 queries of a head that share what is read of keys and values.
        Tile,
    }

    /// Queries of a tile.
    const TILE: usize = 16;
    /// What two tiles of rows leave of the 16 KiB that WebGPU promises a workgroup.
    const MAX_TILE_HEAD_DIM: usize = 96;

    impl Variant {
        pub(crate) fn all(adapter: &Adapter) -> Vec<Self> {
            let with_subgroups = adapter.subgroups.then_some(Self::Query { subgroups: true });
            [Self::Query { subgroups: false }, Self::Tile].into_iter().chain(with_subgroups).collect()
        }

        pub(crate) fn choose(queries: usize, heads: Heads, tuning: Tuning) -> Self {
            if queries >= TILE / 2 && Self::Tile.fits(heads) && tuning.attention_tiles {
                Self::Tile
            } else {
                Self::Query { subgroups: tuning.subgroups }
            }
        }

        pub(crate) fn fits(self, heads: Heads) -> bool {
            self != Self::Tile || heads.head_dim <= MAX_TILE_HEAD_DIM
        }
    }

    pub(crate) fn attention(batch: usize, q: Rows, k: Rows, v: Rows, heads: Heads, bias: Bias, variant: Variant) -> Result<Tensor<2>> {
        let (queries, keys) = (q.tensor.dims()[0] / batch, k.tensor.dims()[0] / batch);
        let q_buffer = floats(q.tensor)?;
        // WebGPU refuses one buffer bound twice: a fused product is bound once and read at several offsets.
        let shared = same(k.tensor, v.tensor);
        let fused = shared && same(q.tensor, k.tensor);
        let y = empty(&q_buffer, [queries * batch, heads.count * heads.head_dim], burn_tensor::DType::F32);
        let mut kernel = match variant {
            Variant::Query { subgroups } => Kernel::new(
                "attention",
                concat!(include_str!("distance.wgsl"), include_str!("attention.wgsl"), include_str!("softmax_tiles.wgsl")),
            )
            .together(subgroups)
            .constant("SPLITS", 1),
            Variant::Tile => Kernel::new(
                "attention_tiles",
                concat!(include_str!("distance.wgsl"), include_str!("attention.wgsl"), include_str!("attention_tiles.wgsl")),
            )
            .workgroup(256),
        }
        .constant("HEAD_DIM", heads.head_dim as u32)
        .constant("FUSED", fused.into())
        .constant("SHARED", shared.into())
        .constant("BIAS", bias.dense.is_some().into())
        .constant("DISTANCE", bias.by_distance.is_some().into())
        .buffer("q", Type::F32, &q_buffer)
        .buffer("y", Type::F32, &y);
        if fused {
            kernel = kernel.absent("k").absent("v");
        } else {
            kernel = kernel.buffer("k", Type::F32, &floats(k.tensor)?);
            kernel = if shared { kernel.absent("v") } else { kernel.buffer("v", Type::F32, &floats(v.tensor)?) };
        }
        let bias_rows = bias.dense.map_or(1, |bias| bias.dims()[1]);
        let tiles = if variant == Variant::Tile { queries.div_ceil(TILE) } else { queries };
        let groups = batch * tiles * heads.count;
        kernel = match bias.dense {
            Some(bias) => kernel.buffer("bias", Type::F32, &floats(bias)?),
            None => kernel.absent("bias"),
        };
        kernel = match bias.by_distance {
            Some(bias) => kernel.buffer("distance", Type::F32, &floats(&bias.values)?),
            None => kernel.absent("distance"),
        };
        let width = |rows: Rows| rows.tensor.dims()[1];
        kernel
            .info([queries, keys, heads.count, heads.scale.to_bits() as usize])
            .info([width(q), q.offset, width(k), k.offset, width(v), v.offset, bias_rows, bias.by_distance.map_or(0, |bias| bias.reach)])
            .launch(groups)?;
        Ok(tensor(y))
    }

    fn same(a: &Tensor<2>, b: &Tensor<2>) -> bool {
        std::ptr::eq(a, b)
    }
}
