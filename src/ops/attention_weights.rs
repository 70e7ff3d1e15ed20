//! The weights of attention themselves, softmax(q·kᵀ·scale + bias), for callers that ask for `attentions`: the models attend
//! without them.
//!
//! Attention to one-hot values gives the weights back, `head_dim` keys at a time. So they come from the operation that the
//! models use, in f32 on every device, and no second softmax or mask exists. T/head_dim times the launches of `attention`.

use burn_tensor::{Tensor, TensorData};

use crate::error::{Error, Result};
use crate::ops::attention::{Bias, Heads, Rows, attention};

/// q is B·S rows, k is B·T rows, bias as for `attention` → [B, heads, S, T]. Errors: kernel when shapes disagree.
pub fn attention_weights<'a>(batch: usize, q: Rows, k: Rows, heads: Heads, bias: impl Into<Bias<'a>>) -> Result<Tensor<4>> {
    let bias = bias.into();
    let width = heads.count * heads.head_dim;
    let ([queries, q_width], [keys, k_width]) = (q.tensor.dims(), k.tensor.dims());
    let fits = batch > 0 && queries % batch == 0 && keys % batch == 0 && queries > 0 && keys > 0 && width > 0;
    if !fits || q.offset + width > q_width || k.offset + width > k_width {
        let bias = (bias.dense.map(|bias| bias.dims()), bias.by_distance.map(|bias| bias.values.dims()));
        let shapes = format!("batch {batch}, q {queries}x{q_width}, k {keys}x{k_width}, {heads:?}, bias {bias:?}");
        return Err(Error::kernel("attention_weights", shapes));
    }
    // WebGPU refuses one buffer bound twice, and q and k may lie in one fused product: scaled, q has a buffer of its own.
    let (q, k) = (columns(q, width) * heads.scale, columns(k, width));
    let heads = Heads { scale: 1.0, ..heads };
    let (queries, keys) = (queries / batch, keys / batch);
    let mut tiles = vec![];
    for first in (0..keys).step_by(heads.head_dim) {
        let values = one_hot(&q.device(), batch, keys, heads, first);
        let tile = attention(batch, Rows::whole(&q), Rows::whole(&k), Rows::whole(&values), heads, bias)?;
        tiles.push(tile.reshape([batch, queries, heads.count, heads.head_dim]));
    }
    // What the last tile has beyond the keys is zeros.
    let weights: Tensor<4> = Tensor::cat(tiles, 3);
    Ok(weights.slice([0..batch, 0..queries, 0..heads.count, 0..keys]).permute([0, 2, 1, 3]))
}

fn columns(rows: Rows, width: usize) -> Tensor<2> {
    let count = rows.tensor.dims()[0];
    rows.tensor.clone().slice([0..count, rows.offset..rows.offset + width])
}

/// Values [B·T, heads·head_dim] whose column d is 1 at key `first` + d, in every head.
fn one_hot(device: &burn_tensor::Device, batch: usize, keys: usize, heads: Heads, first: usize) -> Tensor<2> {
    let Heads { count, head_dim, .. } = heads;
    let mut values = vec![0.0f32; keys * head_dim];
    for column in 0..head_dim.min(keys - first) {
        values[(first + column) * head_dim + column] = 1.0;
    }
    let values: Tensor<4> = Tensor::from_data(TensorData::new(values, [1, keys, 1, head_dim]), device);
    values.expand([batch, keys, count, head_dim]).reshape([batch * keys, count * head_dim])
}

#[cfg(all(test, feature = "cpu", feature = "native"))]
mod tests {
    use super::*;
    use crate::device::Device;
    use crate::ops::read_floats;

    const BATCH: usize = 2;
    const HEADS: Heads = Heads { count: 2, head_dim: 3, scale: 0.7 };

    fn values(count: usize) -> Vec<f32> {
        (0..count).map(|place| ((place * 37 % 23) as f32 - 11.0) / 8.0).collect()
    }

    fn tensor<const D: usize>(values: &[f32], shape: [usize; D]) -> Tensor<D> {
        Tensor::from_data(TensorData::new(values.to_vec(), shape), &Device::cpu().burn)
    }

    /// Plain loops: q in rows of 6 columns, k in rows of 12 from the sixth on, bias [B, 1, T].
    fn reference(q: &[f32], k: &[f32], [queries, keys]: [usize; 2], bias: &[f32]) -> Vec<f32> {
        let mut weights = vec![];
        for row in 0..BATCH * HEADS.count * queries {
            let (b, head, s) = (row / (HEADS.count * queries), row / queries % HEADS.count, row % queries);
            let score = |t: usize| {
                let dot: f32 = (0..3).map(|d| q[(b * queries + s) * 6 + head * 3 + d] * k[(b * keys + t) * 12 + 6 + head * 3 + d]).sum();
                dot * HEADS.scale + bias[b * keys + t]
            };
            let total: f32 = (0..keys).map(|t| score(t).exp()).sum();
            weights.extend((0..keys).map(|t| score(t).exp() / total));
        }
        weights
    }

    #[test]
    fn they_are_those_of_plain_loops_also_where_head_dim_does_not_divide_the_keys() {
        for [queries, keys] in [[1, 1], [4, 3], [2, 7]] {
            let (q, k) = (values(BATCH * queries * 6), values(BATCH * keys * 12));
            let mut bias = vec![0.0; BATCH * keys];
            bias[keys..].iter_mut().skip(1).for_each(|bias| *bias = -10_000.0);
            let (q_rows, k_rows) = (tensor(&q, [BATCH * queries, 6]), tensor(&k, [BATCH * keys, 12]));
            let k_rows = Rows { tensor: &k_rows, offset: 6 };
            let found = attention_weights(BATCH, Rows::whole(&q_rows), k_rows, HEADS, Some(&tensor(&bias, [BATCH, 1, keys]))).unwrap();
            assert_eq!(found.dims(), [BATCH, HEADS.count, queries, keys]);
            let found = pollster::block_on(read_floats(found)).unwrap();
            let expected = reference(&q, &k, [queries, keys], &bias);
            let worst = found.iter().zip(&expected).map(|(found, expected)| (found - expected).abs()).fold(0.0, f32::max);
            assert!(worst < 1e-5, "{queries}x{keys}: {worst} off: {found:?}, expected {expected:?}");
        }
    }

    #[test]
    fn shapes_that_disagree_are_refused() {
        let (q, k) = (tensor(&[0.0; 12], [2, 6]), tensor(&[0.0; 18], [3, 6]));
        let error = attention_weights(BATCH, Rows::whole(&q), Rows::whole(&k), HEADS, None).unwrap_err();
        assert_eq!(error.code(), "kernel");
    }
}
