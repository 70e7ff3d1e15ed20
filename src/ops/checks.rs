//! Every operation against plain loops, on shapes that fill no workgroup, and every variant of a kernel, also those that
//! this device would not choose. The same list runs under `cargo test` and in the browser.

use burn_tensor::{Int, Tensor, TensorData};

use crate::device::{Arithmetic, Device};
use crate::error::{Error, Result};
use crate::ops::embedding::Lookup;
use crate::ops::{Activation, Bias, Cache, DistanceBias, Fused, Heads, Norm, Rows, StepState};
use crate::ops::{advance, argmax, attention, cached_attention, embedding, linear, reorder, top_k};
use crate::ops::{read_floats, read_ints};
use crate::weights::quant::{BLOCK, Quant, unpack_row, words_per_row};
use crate::weights::{Chunk, Layout, Matrix, Role};

/// What one check found.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Outcome {
    pub name: String,
    /// The worst difference, relative to max(1, largest value).
    pub worst: f32,
    pub error: Option<Error>,
}

/// f32 sums in another order.
const TOLERANCE: f32 = 2e-5;
/// Inputs, weights and slices of sums that have the 11 bits of an f16.
const HALF_TOLERANCE: f32 = 4e-3;

/// Runs every check on this device; one that fails does not keep the others from running.
pub async fn run_all(device: &Device, on_outcome: &mut dyn FnMut(&Outcome)) -> Vec<Outcome> {
    let mut outcomes = vec![];
    let mut done = |name: String, result: Result<f32>, on_outcome: &mut dyn FnMut(&Outcome)| {
        let outcome = match result {
            Ok(worst) => Outcome { name, worst, error: None },
            Err(error) => Outcome { name, worst: f32::NAN, error: Some(error) },
        };
        on_outcome(&outcome);
        outcomes.push(outcome);
    };
    // On the CPU a matrix is cut into slices of 512 inputs; on the GPU the long ones are as good as others.
    for quant in [Quant::F32, Quant::F16, Quant::Q8, Quant::Q4] {
        for dims in [(1, 32, 4), (1, 95, 65), (3, 40, 7), (6, 160, 129), (11, 33, 5), (33, 31, 18), (5, 1100, 9)] {
            done(format!("linear {quant} {dims:?}"), check_linear(device, quant, dims).await, on_outcome);
        }
        done(format!("embedding {quant}"), check_embedding(device, quant).await, on_outcome);
    }
    for quant in [Quant::Q8, Quant::Q4] {
        for dims in [(1, 32, 8), (1, 95, 65), (3, 40, 7), (6, 160, 129), (11, 33, 5), (9, 600, 20)] {
            done(format!("linear {quant} of integers {dims:?}"), check_integers(device, quant, dims).await, on_outcome);
        }
    }
    for activation in ACTIVATIONS {
        done(format!("linear {activation:?}"), check_activation(device, activation).await, on_outcome);
    }
    for (rows, width) in [(1, 1), (3, 40), (5, 257)] {
        done(format!("layer_norm {rows}x{width}"), check_norm(device, rows, width, true).await, on_outcome);
        done(format!("rms_norm {rows}x{width}"), check_norm(device, rows, width, false).await, on_outcome);
    }
    for (queries, keys, head_dim) in [(1, 1, 3), (5, 5, 8), (3, 70, 65), (2, 131, 130), (37, 45, 88)] {
        for fused in [false, true] {
            let name = format!("attention {queries}x{keys} head_dim {head_dim} fused {fused}");
            done(name, check_attention(device, [queries, keys, head_dim], fused).await, on_outcome);
        }
    }
    for (prompt, head_dim, beams) in [(1, 4, 1), (7, 9, 1), (70, 33, 1), (1, 5, 3), (9, 7, 4)] {
        for reach in [None, Some(5)] {
            let name = format!("cached_attention {prompt} head_dim {head_dim} beams {beams} by distance {}", reach.is_some());
            done(name, check_cached_attention(device, [prompt, head_dim, beams], reach).await, on_outcome);
        }
    }
    let halves = device.clone().with_arithmetic(Arithmetic::Half);
    if halves.arithmetic == Arithmetic::Half {
        // A head with an odd number of floats is kept as floats after all.
        for (prompt, head_dim, beams) in [(1, 4, 1), (70, 34, 1), (9, 6, 4), (3, 7, 2)] {
            for reach in [None, Some(5)] {
                let by_distance = reach.is_some();
                let name = format!("cached_attention {prompt} head_dim {head_dim} beams {beams} by distance {by_distance} in halves");
                done(name, check_cached_attention(&halves, [prompt, head_dim, beams], reach).await, on_outcome);
            }
        }
    }
    for width in [1, 63, 64, 200] {
        done(format!("argmax {width}"), check_argmax(device, width).await, on_outcome);
    }
    for (width, k) in [(1, 1), (70, 5), (2048, 51), (5000, 20)] {
        done(format!("top_k {k} of {width}"), check_top_k(device, width, k).await, on_outcome);
    }
    done("advance".into(), check_advance(device).await, on_outcome);
    outcomes
}

const ACTIVATIONS: [Activation; 9] = [
    Activation::Identity,
    Activation::Relu,
    Activation::Gelu,
    Activation::GeluNew,
    Activation::QuickGelu,
    Activation::Silu,
    Activation::Tanh,
    Activation::Sigmoid,
    Activation::Selu,
];

/// The same numbers on every target: xorshift, in −1..1.
pub(super) struct Noise(u32);

impl Noise {
    #[cfg(feature = "webgpu")]
    pub fn new(seed: u32) -> Self {
        Self(seed.max(1))
    }

    fn next(&mut self) -> f32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 17;
        self.0 ^= self.0 << 5;
        (self.0 >> 8) as f32 / 8_388_608.0 - 1.0
    }

    pub fn floats(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| self.next()).collect()
    }

    fn words(&mut self, count: usize) -> Vec<u32> {
        (0..count)
            .map(|_| {
                self.next();
                self.0
            })
            .collect()
    }
}

pub(super) fn floats<const D: usize>(device: &Device, values: &[f32], shape: [usize; D]) -> Tensor<D> {
    Tensor::from_data(TensorData::new(values.to_vec(), shape), &device.burn)
}

pub(super) fn ints(device: &Device, values: &[i32]) -> Tensor<1, Int> {
    Tensor::from_data(TensorData::new(values.to_vec(), [values.len()]), &device.burn)
}

/// The worst difference; an error names the place and both values.
fn compare(kernel: &str, found: &[f32], expected: &[f32]) -> Result<f32> {
    compare_within(TOLERANCE, kernel, found, expected)
}

fn compare_within(tolerance: f32, kernel: &str, found: &[f32], expected: &[f32]) -> Result<f32> {
    if found.len() != expected.len() {
        return Err(Error::kernel(kernel, format!("{} values, expected {}", found.len(), expected.len())));
    }
    let scale = expected.iter().fold(1.0f32, |most, value| most.max(value.abs()));
    let mut worst = 0.0f32;
    for (place, (found, expected)) in found.iter().zip(expected).enumerate() {
        let difference = (found - expected).abs() / scale;
        if difference.is_nan() || difference > tolerance {
            return Err(Error::kernel(kernel, format!("at {place}: {found}, expected {expected} (tolerance {tolerance} of {scale})")));
        }
        worst = worst.max(difference);
    }
    Ok(worst)
}

/// A random matrix in two chunks, as the device holds it in that role, and the f32 weights that its words stand for.
pub(super) fn matrix(device: &Device, noise: &mut Noise, quant: Quant, role: Role, [rows, columns]: [usize; 2]) -> (Matrix, Vec<f32>) {
    let layout = Layout::of(device, role);
    let row_words = words_per_row(quant, columns);
    let mut words = noise.words(rows * row_words);
    let scale = |noise: &mut Noise| u32::from(half::f16::from_f32(noise.next() * 0.02).to_bits());
    for row in words.chunks_exact_mut(row_words) {
        match quant {
            Quant::F32 => row.iter_mut().for_each(|word| *word = noise.next().to_bits()),
            Quant::F16 => row.iter_mut().for_each(|word| {
                let half = |noise: &mut Noise| u32::from(half::f16::from_f32(noise.next()).to_bits());
                *word = half(noise) | half(noise) << 16;
            }),
            Quant::Q8 | Quant::Q4 => {
                let scales = columns.div_ceil(32).div_ceil(2);
                let first = row_words - scales;
                row[first..].iter_mut().for_each(|word| *word = scale(noise) | scale(noise) << 16);
            }
        }
        // What lies behind the last column must not matter to a kernel, but is zero in real files.
        if quant == Quant::F16 && columns % 2 == 1 {
            row[row_words - 1] &= 0xffff;
        }
    }
    let mut values = vec![0.0; rows * columns];
    for (packed, row) in words.chunks_exact(row_words).zip(values.chunks_exact_mut(columns)) {
        unpack_row(quant, columns, packed, row);
    }
    let cut = rows.div_ceil(2);
    let chunk = |range: std::ops::Range<usize>| {
        let words = layout.lay(quant, columns, words[range.start * row_words..range.end * row_words].to_vec());
        Chunk { rows: range, words: ints(device, bytemuck::cast_slice(&words)) }
    };
    let chunks = if rows > 1 { vec![chunk(0..cut), chunk(cut..rows)] } else { vec![chunk(0..rows)] };
    (Matrix { quant, layout, arithmetic: device.arithmetic_of_products(), rows, columns, chunks }, values)
}

/// Three plain loops: slow, and the definition of right.
fn linear_reference(x: &[f32], w: &[f32], [m, k, n]: [usize; 3]) -> Vec<f32> {
    let mut y = vec![0.0; m * n];
    for i in 0..m {
        for j in 0..n {
            y[i * n + j] = (0..k).map(|c| f64::from(x[i * k + c]) * f64::from(w[j * k + c])).sum::<f64>() as f32;
        }
    }
    y
}

async fn check_linear(device: &Device, quant: Quant, (m, k, n): (usize, usize, usize)) -> Result<f32> {
    let mut noise = Noise((m * 7919 + k * 31 + n) as u32);
    let (weight, values) = matrix(device, &mut noise, quant, Role::Matrix, [n, k]);
    let (x, bias, residual) = (noise.floats(m * k), noise.floats(n), noise.floats(m * n));
    let mut expected = linear_reference(&x, &values, [m, k, n]);
    expected.iter_mut().enumerate().for_each(|(i, y)| *y = (*y + bias[i % n]).max(0.0));
    let gated: Vec<f32> = expected.iter().zip(&residual).map(|(y, gate)| y * gate).collect();
    expected.iter_mut().zip(&residual).for_each(|(y, residual)| *y += residual);
    let (x, bias, residual) = (floats(device, &x, [m, k]), floats(device, &bias, [n]), floats(device, &residual, [m, n]));
    let fused = Fused { bias: Some(&bias), activation: Activation::Relu, residual: Some(&residual), gate: None, norm: None };
    let mut worst = compare("linear", &read_floats(linear(&x, &weight, fused)?).await?, &expected)?;
    let gate = Fused { residual: None, gate: Some(&residual), ..fused };
    worst = worst.max(compare("linear gated", &read_floats(linear(&x, &weight, gate)?).await?, &gated)?);
    #[cfg(feature = "webgpu")]
    if device.kind == crate::device::DeviceKind::Webgpu {
        for variant in linear::gpu::Variant::exact(&device.adapter) {
            let found = read_floats(linear::gpu::linear(&x, &weight, fused, variant)?).await?;
            worst = worst.max(compare(&format!("linear {variant:?}"), &found, &expected)?);
        }
        if device.adapter.f16 {
            let found = read_floats(linear::gpu::linear(&x, &weight, fused, linear::gpu::Variant::Tiles { half: true })?).await?;
            compare_within(HALF_TOLERANCE, "linear of halves", &found, &expected)?;
        }
    }
    worst = worst.max(check_linear_behind_norm(device, &mut noise, quant, [m, k, n]).await?);
    Ok(worst)
}

/// LayerNorm and RMSNorm before the product.
async fn check_linear_behind_norm(device: &Device, noise: &mut Noise, quant: Quant, [m, k, n]: [usize; 3]) -> Result<f32> {
    let (weight, values) = matrix(device, noise, quant, Role::Matrix, [n, k]);
    let (x, gamma, beta) = (noise.floats(m * k), noise.floats(k), noise.floats(k));
    let (on_device, gamma_tensor, beta_tensor) = (floats(device, &x, [m, k]), floats(device, &gamma, [k]), floats(device, &beta, [k]));
    let mut worst = 0.0f32;
    for centred in [true, false] {
        let beta_of = |c: usize| if centred { beta[c] } else { 0.0 };
        let normed: Vec<f32> = x.chunks_exact(k).flat_map(|row| norm_reference(row, &gamma, beta_of, centred, 1e-5)).collect();
        let expected = linear_reference(&normed, &values, [m, k, n]);
        let norm = Norm { gamma: &gamma_tensor, beta: centred.then_some(&beta_tensor), eps: 1e-5 };
        let fused = Fused { norm: Some(norm), ..Fused::default() };
        let found = read_floats(linear(&on_device, &weight, fused)?).await?;
        worst = worst.max(compare("linear behind a norm", &found, &expected)?);
        #[cfg(feature = "webgpu")]
        if device.kind == crate::device::DeviceKind::Webgpu {
            // Before others it is a launch of its own.
            let rides = |variant: &linear::gpu::Variant| matches!(variant, linear::gpu::Variant::Few { .. });
            for variant in linear::gpu::Variant::exact(&device.adapter).into_iter().filter(rides) {
                let found = read_floats(linear::gpu::linear(&on_device, &weight, fused, variant)?).await?;
                worst = worst.max(compare(&format!("linear {variant:?} behind a norm"), &found, &expected)?);
            }
        }
    }
    Ok(worst)
}

/// One row.
fn norm_reference(x: &[f32], gamma: &[f32], beta: impl Fn(usize) -> f32, centred: bool, eps: f64) -> Vec<f32> {
    let count = x.len() as f64;
    let mean = if centred { x.iter().map(|x| f64::from(*x)).sum::<f64>() / count } else { 0.0 };
    let variance = x.iter().map(|x| (f64::from(*x) - mean).powi(2)).sum::<f64>() / count;
    let scaled = |c: usize| (f64::from(x[c]) - mean) / (variance + eps).sqrt() * f64::from(gamma[c]) + f64::from(beta(c));
    (0..x.len()).map(|c| scaled(c) as f32).collect()
}

/// Products of integers against plain loops over the same integers, on the devices that know that arithmetic.
async fn check_integers(device: &Device, quant: Quant, (m, k, n): (usize, usize, usize)) -> Result<f32> {
    let device = device.clone().with_arithmetic(Arithmetic::Int8Activations);
    let mut noise = Noise((m * 31 + k * 7 + n) as u32);
    let (weight, values) = matrix(&device, &mut noise, quant, Role::Matrix, [n, k]);
    if weight.arithmetic == Arithmetic::Exact {
        return Ok(0.0);
    }
    let (mut x, bias) = (noise.floats(m * k), noise.floats(n));
    // A block of nothing, and one whose values differ by much.
    x[..k.min(BLOCK)].fill(0.0);
    x[(m - 1) * k] = 3e4;
    let expected: Vec<f32> = integers_reference(&x, &values, [m, k, n]).iter().enumerate().map(|(i, y)| y + bias[i % n]).collect();
    let (x, bias) = (floats(&device, &x, [m, k]), floats(&device, &bias, [n]));
    let found = read_floats(linear(&x, &weight, Fused { bias: Some(&bias), ..Fused::default() })?).await?;
    compare("linear of integers", &found, &expected)
}

/// Each row of x in blocks: integers, the largest of them 127, times a scale. Weights are what their own integers stand for.
fn integers_reference(x: &[f32], w: &[f32], [m, k, n]: [usize; 3]) -> Vec<f32> {
    let mut rounded = vec![];
    for block in x.chunks_exact(k).flat_map(|row| row.chunks(BLOCK)) {
        let largest = block.iter().fold(0.0f32, |most, value| most.max(value.abs()));
        let integer = |value: &f32| if largest > 0.0 { (value * (127.0 / largest)).round_ties_even() } else { 0.0 };
        rounded.extend(block.iter().map(|value| integer(value) * (largest / 127.0)));
    }
    linear_reference(&rounded, w, [m, k, n])
}

async fn check_activation(device: &Device, activation: Activation) -> Result<f32> {
    // The identity matrix: what comes out is the activation alone, from −12 to 12.
    let k = 49;
    let identity: Vec<u32> = (0..k * k).map(|i| if i % (k + 1) == 0 { 1.0f32.to_bits() } else { 0 }).collect();
    let layout = Layout::of(device, Role::Matrix);
    let words = ints(device, bytemuck::cast_slice(&layout.lay(Quant::F32, k, identity)));
    let chunks = vec![Chunk { rows: 0..k, words }];
    let weight = Matrix { quant: Quant::F32, layout, arithmetic: Arithmetic::Exact, rows: k, columns: k, chunks };
    let x: Vec<f32> = (0..k).map(|i| (i as f32 - 24.0) * 0.5).collect();
    let expected: Vec<f32> = x.iter().map(|x| activation.apply(*x)).collect();
    let fused = Fused { activation, ..Fused::default() };
    compare("activation", &read_floats(linear(&floats(device, &x, [1, k]), &weight, fused)?).await?, &expected)
}

/// Rows of a matrix, which may be a head too, and of a table.
async fn check_embedding(device: &Device, quant: Quant) -> Result<f32> {
    let of_matrix = check_lookup(device, quant, Role::Matrix).await?;
    Ok(of_matrix.max(check_lookup(device, quant, Role::Table).await?))
}

async fn check_lookup(device: &Device, quant: Quant, role: Role) -> Result<f32> {
    let (rows, columns) = (21, 45);
    let mut noise = Noise(77);
    let (weight, values) = matrix(device, &mut noise, quant, role, [rows, columns]);
    let ids = [99, 5, 0, 17, -1, -4];
    let add = noise.floats(5 * columns);
    let mut expected = add.clone();
    for (place, id) in ids[1..].iter().enumerate() {
        if let Some(row) = usize::try_from(id + 2).ok().filter(|row| *row < rows) {
            for c in 0..columns {
                expected[place * columns + c] += values[row * columns + c];
            }
        }
    }
    let add = floats(device, &add, [5, columns]);
    let lookup = Lookup { ids: &ints(device, &ids), offset: 1, count: 5, shift: 2, add: Some(&add) };
    compare("embedding", &read_floats(embedding(&weight, lookup)?).await?, &expected)
}

async fn check_norm(device: &Device, rows: usize, width: usize, centred: bool) -> Result<f32> {
    let mut noise = Noise(width as u32 + 5);
    let (x, gamma, beta) = (noise.floats(rows * width), noise.floats(width), noise.floats(width));
    let eps = 1e-5;
    let beta_of = |c: usize| if centred { beta[c] } else { 0.0 };
    let expected: Vec<f32> = x.chunks_exact(width).flat_map(|row| norm_reference(row, &gamma, beta_of, centred, eps)).collect();
    let (x, gamma, beta) = (floats(device, &x, [rows, width]), floats(device, &gamma, [width]), floats(device, &beta, [width]));
    let beta = centred.then_some(&beta);
    let worst = compare("norm", &read_floats(Norm { gamma: &gamma, beta, eps }.of(&x)?).await?, &expected)?;
    #[cfg(feature = "webgpu")]
    if device.adapter.subgroups {
        let found = read_floats(super::norm::gpu::norm(&x, Norm { gamma: &gamma, beta, eps }, true)?).await?;
        return Ok(worst.max(compare("norm by subgroups", &found, &expected)?));
    }
    Ok(worst)
}

/// softmax(scores)·values for one query; `scores` [keys], `value(j, d)`.
pub(super) fn attend_reference(scores: &[f64], dim: usize, value: impl Fn(usize, usize) -> f32) -> Vec<f32> {
    let highest = scores.iter().copied().fold(f64::MIN, f64::max);
    let weights: Vec<f64> = scores.iter().map(|score| (score - highest).exp()).collect();
    let total: f64 = weights.iter().sum();
    (0..dim).map(|d| weights.iter().enumerate().map(|(j, weight)| weight / total * f64::from(value(j, d))).sum::<f64>() as f32).collect()
}

async fn check_attention(device: &Device, [queries, keys, dim]: [usize; 3], fused: bool) -> Result<f32> {
    let (batch, count, reach) = (2, 3, 4);
    let keys = if fused { queries } else { keys };
    let width = count * dim;
    let mut noise = Noise((queries * 1000 + keys * 10 + dim) as u32);
    let heads = Heads { count, head_dim: dim, scale: 0.3 };
    let bias = noise.floats(batch * queries * keys);
    let table = noise.floats((2 * reach + 1) * count);
    // Fused: one tensor of three parts. Else three tensors, the values' with a part in front that is nobody's.
    let (q_width, v_width) = (if fused { 3 * width } else { width }, if fused { 3 * width } else { width + 5 });
    let q = noise.floats(batch * queries * q_width);
    let (k, v) = (noise.floats(batch * keys * width), noise.floats(batch * keys * v_width));
    let k_of = |row: usize, at: usize| if fused { q[row * q_width + width + at] } else { k[row * width + at] };
    let v_of = |row: usize, at: usize| if fused { q[row * q_width + 2 * width + at] } else { v[row * v_width + 5 + at] };
    let mut expected = vec![];
    for b in 0..batch {
        for s in 0..queries {
            for head in 0..count {
                let scores: Vec<f64> = (0..keys)
                    .map(|j| {
                        let product = |d: usize| {
                            f64::from(q[(b * queries + s) * q_width + head * dim + d]) * f64::from(k_of(b * keys + j, head * dim + d))
                        };
                        let by_distance = f64::from(table[distance_row(j, s, reach) * count + head]);
                        let dense = f64::from(bias[(b * queries + s) * keys + j]);
                        (0..dim).map(product).sum::<f64>() * f64::from(heads.scale) + dense + by_distance
                    })
                    .collect();
                expected.extend(attend_reference(&scores, dim, |j, d| v_of(b * keys + j, head * dim + d)));
            }
        }
    }
    let q = floats(device, &q, [batch * queries, q_width]);
    let bias = floats(device, &bias, [batch, queries, keys]);
    let by_distance = DistanceBias { values: floats(device, &table, [2 * reach + 1, count]), reach };
    let bias = Bias { dense: Some(&bias), by_distance: Some(&by_distance) };
    let (k, v) = (floats(device, &k, [batch * keys, width]), floats(device, &v, [batch * keys, v_width]));
    let parts = match fused {
        true => Rows::parts(&q),
        false => [Rows::whole(&q), Rows::whole(&k), Rows { tensor: &v, offset: 5 }],
    };
    let [q, k, v] = parts;
    let mut worst = compare("attention", &read_floats(attention(batch, q, k, v, heads, bias)?).await?, &expected)?;
    #[cfg(feature = "webgpu")]
    if device.kind == crate::device::DeviceKind::Webgpu {
        use crate::ops::attention::gpu::{Variant, attention};
        for variant in Variant::all(&device.adapter).into_iter().filter(|variant| variant.fits(heads)) {
            let found = read_floats(attention(batch, q, k, v, heads, bias, variant)?).await?;
            worst = worst.max(compare(&format!("attention {variant:?}"), &found, &expected)?);
        }
    }
    worst = worst.max(0.0);
    Ok(worst)
}

/// Two prompts of `beams` rows each through a prompt and two steps; between steps the beams change places.
async fn check_cached_attention(device: &Device, [prompt, dim, beams]: [usize; 3], reach: Option<usize>) -> Result<f32> {
    let tolerance = if device.arithmetic == Arithmetic::Half { HALF_TOLERANCE } else { TOLERANCE };
    let compare = |kernel: &str, found: &[f32], expected: &[f32]| compare_within(tolerance, kernel, found, expected);
    let (prompts, count, steps) = (2, 2, 2);
    let (rows, width, capacity) = (prompts * beams, count * dim, prompt + steps);
    let heads = Heads { count, head_dim: dim, scale: 0.4 };
    let mut noise = Noise((prompt * 100 + dim) as u32);
    let table = reach.map(|reach| (noise.floats((2 * reach + 1) * count), reach));
    let by_distance =
        table.as_ref().map(|(values, reach)| DistanceBias { values: floats(device, values, [2 * reach + 1, count]), reach: *reach });
    // The second prompt does not attend to its first position (where that leaves any).
    let mask = [vec![1; prompt], (0..prompt).map(|j| u32::from(j > 0 || prompt == 1)).collect::<Vec<u32>>()];
    let mut state = StepState::new(device, &mask, &[prompt as i32, prompt as i32 - 1], beams, capacity)?;
    let mut caches = [0, 1].map(|_| [0, 1].map(|_| Cache::new(device, &state, heads)));
    let (mut keys, mut values) = (vec![vec![]; rows], vec![vec![]; rows]);
    let mut worst = 0.0f32;
    for positions in [prompt, 1, 1] {
        let active = state.active_rows();
        let per_active = rows / active;
        let [q, k, v] = std::array::from_fn(|_| noise.floats(active * positions * width));
        for row in 0..rows {
            let from = row / per_active * positions * width;
            keys[row].extend_from_slice(&k[from..from + positions * width]);
            values[row].extend_from_slice(&v[from..from + positions * width]);
        }
        let before = state.length();
        let mut expected = vec![];
        for row in 0..active {
            let held = row * per_active;
            let mask = &mask[held / beams];
            for s in 0..positions {
                for head in 0..count {
                    let scores: Vec<f64> = (0..before + positions)
                        .map(|j| {
                            let attended = j <= before + s && mask.get(j).is_none_or(|bit| *bit == 1);
                            let product = |d: usize| {
                                f64::from(q[(row * positions + s) * width + head * dim + d])
                                    * f64::from(keys[held][j * width + head * dim + d])
                            };
                            let bias = table
                                .as_ref()
                                .map_or(0.0, |(table, reach)| f64::from(table[distance_row(j, before + s, *reach) * count + head]));
                            let score = (0..dim).map(product).sum::<f64>() * f64::from(heads.scale) + bias;
                            if attended { score } else { f64::from(f32::MIN) }
                        })
                        .collect();
                    expected.extend(attend_reference(&scores, dim, |j, d| values[held][j * width + head * dim + d]));
                }
            }
        }
        let [q, k, v] = [q, k, v].map(|values| floats(device, &values, [active * positions, width]));
        // Once as three tensors, once as one fused product, each with caches of its own: whatever puts a position there is seen.
        let fused = Tensor::cat(vec![q.clone(), k.clone(), v.clone()], 1);
        let parts = [0, 1, 2].map(|place| Rows { tensor: &fused, offset: place * width });
        let separate = [&q, &k, &v].map(Rows::whole);
        for (parts, [k_cache, v_cache]) in [separate, parts].into_iter().zip(&mut caches) {
            let found = cached_attention(&state, parts, k_cache, v_cache, heads, by_distance.as_ref())?;
            worst = worst.max(compare("cached_attention", &read_floats(found).await?, &expected)?);
            #[cfg(feature = "webgpu")]
            if device.kind == crate::device::DeviceKind::Webgpu {
                use crate::ops::cached_attention::gpu::{Variant, cached_attention};
                for variant in Variant::all(&device.adapter) {
                    let found = cached_attention(&state, parts, [k_cache, v_cache], heads, by_distance.as_ref(), variant)?;
                    worst = worst.max(compare(&format!("cached_attention {variant:?}"), &read_floats(found).await?, &expected)?);
                }
            }
        }
        advance(&mut state, &ints(device, &vec![7; rows]), positions, &ints(device, &[-1]), 0)?;
        state.advanced(positions);
        // Each prompt's beams go round; the first of the second prompt is taken twice.
        let last_of = |row: usize| row / beams * beams + beams - 1;
        let order: Vec<usize> = (0..rows)
            .map(|row| match row % beams {
                0 => last_of(row),
                1 if row > beams => row,
                _ => row - 1,
            })
            .collect();
        reorder(device, &mut state, &order)?;
        keys = order.iter().map(|row| keys[*row].clone()).collect();
        values = order.iter().map(|row| values[*row].clone()).collect();
    }
    Ok(worst)
}

/// The row of a `DistanceBias` for a key and a query.
fn distance_row(key_position: usize, query_position: usize, reach: usize) -> usize {
    (key_position as i64 - query_position as i64).clamp(-(reach as i64), reach as i64).wrapping_add(reach as i64) as usize
}

async fn check_argmax(device: &Device, width: usize) -> Result<f32> {
    let mut noise = Noise(width as u32 + 1);
    let rows = 3;
    let mut logits = noise.floats(rows * width);
    // A tie in the first row: the lower place wins. The last row is all −∞ but one.
    logits[0] = 2.0;
    logits[width - 1] = 2.0;
    logits[2 * width..].fill(f32::NEG_INFINITY);
    logits[2 * width + width / 2] = -1e30;
    let expected: Vec<f32> = logits.chunks_exact(width).map(|row| super::argmax::highest(row) as f32).collect();
    let found = read_ints(argmax(&floats(device, &logits, [rows, width]))?).await?;
    let as_floats = |places: &[i32]| places.iter().map(|place| *place as f32).collect::<Vec<_>>();
    compare("argmax", &as_floats(&found), &expected)?;
    #[cfg(feature = "webgpu")]
    if device.kind == crate::device::DeviceKind::Webgpu {
        let found = read_ints(super::argmax::gpu::argmax(&floats(device, &logits, [rows, width]), 3)?).await?;
        compare("argmax of pieces", &as_floats(&found), &expected)?;
    }
    Ok(0.0)
}

async fn check_top_k(device: &Device, width: usize, k: usize) -> Result<f32> {
    let rows = 2;
    let mut logits = Noise(width as u32 + 3).floats(rows * width);
    // Ties: of equal values the lowest place is the higher.
    logits[width - 1] = logits[0];
    logits[width / 2] = logits[0];
    let expected: Vec<usize> = logits.chunks_exact(width).flat_map(|row| super::top_k::reference(row, k)).collect();
    let (values, places) = top_k(&floats(device, &logits, [rows, width]), k)?;
    let as_floats = expected.iter().map(|place| *place as f32).collect::<Vec<_>>();
    compare("top_k", &read_ints(places).await?.iter().map(|place| *place as f32).collect::<Vec<_>>(), &as_floats)?;
    let expected: Vec<f32> = expected.iter().enumerate().map(|(at, place)| logits[at / k * width + place]).collect();
    compare("top_k", &read_floats(values).await?, &expected)
}

/// Three rows: one goes on, one ends now, one ended before.
async fn check_advance(device: &Device) -> Result<f32> {
    let mask = vec![vec![1; 2]; 3];
    let mut state = StepState::new(device, &mask, &[2, 2, 2], 1, 6)?;
    let eos = ints(device, &[40, 41]);
    advance(&mut state, &ints(device, &[10, 11, 41]), 2, &eos, 9)?;
    state.advanced(2);
    advance(&mut state, &ints(device, &[20, 40, 22]), 1, &eos, 9)?;
    state.advanced(1);
    let words = read_ints(state.buffer.clone()).await?;
    let expected = [3, 3, 6, 0, 20, 40, 9, 3, 3, 3, 0, 1, 1];
    let as_floats = |values: &[i32]| values.iter().map(|value| *value as f32).collect::<Vec<_>>();
    compare("advance", &as_floats(&words[..13]), &as_floats(&expected))
}
