//! Rows of a packed matrix by id: word and position embeddings. ids i32 (from the device, so that a captured step can use
//! them), W [rows, columns] → y [n, columns] = W[ids[offset..offset + n] + shift] (+ add). One launch a chunk of W.
//! An id whose row is outside W gives what `add` holds, or zeros.

use burn_tensor::{Int, Tensor};

use crate::device::DeviceKind;
use crate::error::{Error, Result};
use crate::ops::device_kind;
use crate::weights::Matrix;

/// Which rows, and what they are added to.
pub struct Lookup<'a> {
    pub ids: &'a Tensor<1, Int>,
    /// The first id and how many.
    pub offset: usize,
    pub count: usize,
    /// Added to each id: OPT's positions start two rows in.
    pub shift: usize,
    /// [count, columns]
    pub add: Option<&'a Tensor<2>>,
}

/// See the module. Errors: kernel when shapes disagree.
pub fn embedding(weight: &Matrix, lookup: Lookup) -> Result<Tensor<2>> {
    let shape = [lookup.count, weight.columns];
    let ids = lookup.ids.dims()[0];
    if lookup.offset + lookup.count > ids || lookup.add.is_some_and(|add| add.dims() != shape) {
        return Err(Error::kernel(
            "embedding",
            format!("{} ids from {} of {ids}, columns {}", lookup.count, lookup.offset, weight.columns),
        ));
    }
    let kind = match weight.chunks.first() {
        Some(chunk) => device_kind(&chunk.words),
        None => return Err(Error::kernel("embedding", "no weights")),
    };
    match kind {
        #[cfg(feature = "cpu")]
        DeviceKind::Cpu => on_cpu(weight, lookup),
        #[cfg(feature = "webgpu")]
        DeviceKind::Webgpu => on_gpu(weight, lookup),
        #[allow(unreachable_patterns)]
        kind => Err(Error::kernel("embedding", format!("no {kind:?} in this build"))),
    }
}

#[cfg(feature = "cpu")]
fn on_cpu(weight: &Matrix, lookup: Lookup) -> Result<Tensor<2>> {
    use crate::ops::cpu::{filled, floats, ints};
    use crate::weights::quant::{unpack_row, words_per_row};
    use crate::weights::{Layout, panels};

    let ids = ints(lookup.ids)?;
    let add = lookup.add.map(floats).transpose()?;
    let row_words = words_per_row(weight.quant, weight.columns);
    filled([lookup.count, weight.columns], |y| {
        y.fill(0.0);
        for chunk in &weight.chunks {
            let words = ints(&chunk.words)?;
            let words: &[u32] = bytemuck::cast_slice(words.ints());
            for (id, row) in ids.ints()[lookup.offset..].iter().zip(y.chunks_exact_mut(weight.columns)) {
                let row_of = usize::try_from(i64::from(*id) + lookup.shift as i64);
                if let Some(id) = row_of.ok().filter(|id| chunk.rows.contains(id)) {
                    let place = id - chunk.rows.start;
                    match weight.layout {
                        Layout::Rows => unpack_row(weight.quant, weight.columns, &words[place * row_words..][..row_words], row),
                        Layout::Panels => panels::unpack_row(weight.quant, words, place, row),
                    }
                }
            }
        }
        if let Some(add) = &add {
            y.iter_mut().zip(add.floats()).for_each(|(y, add)| *y += add);
        }
        Ok(())
    })
}

#[cfg(feature = "webgpu")]
fn on_gpu(weight: &Matrix, lookup: Lookup) -> Result<Tensor<2>> {
    use crate::ops::launch::{Kernel, Type, empty, floats, ints, tensor};
    use crate::weights::quant::words_per_row;

    let ids = ints(lookup.ids)?;
    let add = lookup.add.map(floats).transpose()?;
    let y = empty(&ids, [lookup.count, weight.columns], burn_tensor::DType::F32);
    for (place, chunk) in weight.chunks.iter().enumerate() {
        let kernel = Kernel::new("embedding", include_str!("embedding.wgsl"))
            .constant("QUANT", weight.quant as u32)
            .constant("ADD", add.is_some().into())
            // The first chunk writes every row, the others only those that they hold.
            .constant("FIRST", (place == 0).into())
            .buffer("ids", Type::I32, &ids)
            .weights("words", Type::U32, &ints(&chunk.words)?, 0)
            .buffer("y", Type::F32, &y);
        let kernel = match &add {
            Some(add) => kernel.buffer("add", Type::F32, add),
            None => kernel.absent("add"),
        };
        let row_words = words_per_row(weight.quant, weight.columns);
        kernel
            .info([lookup.count, weight.columns, lookup.offset, lookup.shift, chunk.rows.start, chunk.rows.len(), row_words])
            .launch((lookup.count * weight.columns).div_ceil(64))?;
    }
    Ok(tensor(y))
}
