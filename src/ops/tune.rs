//! Which of the kernels' ways an adapter takes: each is tried on the device at a real model's shape, has to give what plain loops
//! give, and the fastest stays.

use burn_tensor::Tensor;

use crate::device::{Arithmetic, Device, Tuning};
use crate::error::{Error, Result};
use crate::ops::checks::{Noise, attend_reference, floats, ints, matrix};
use crate::ops::{Cache, Fused, Heads, Rows, StepState, advance, attention, cached_attention, linear, read_floats};
use crate::pace::now;
use crate::weights::Role;
use crate::weights::quant::Quant;

/// opt-2.7b's projections, and a token's attention to a long context; its vision tower's for one picture.
const FEW: [usize; 3] = [1, 2560, 2560];
const MANY: [usize; 3] = [257, 1408, 1408];
const LONG: (usize, Heads) = (1024, Heads { count: 32, head_dim: 80, scale: 0.1 });
const PICTURE: (usize, Heads) = (257, Heads { count: 16, head_dim: 88, scale: 0.1 });

/// Sums of thousands of products in another order, relative to the largest.
const TOLERANCE: f32 = 1e-4;
/// The best of so many runs counts, each of so many launches.
#[derive(Debug, Clone, Copy)]
pub struct Effort {
    pub runs: usize,
    pub launches: usize,
}

const EFFORT: Effort = Effort { runs: 3, launches: 16 };
/// How much faster a way has to be to be taken instead of the one before it.
const GAIN: f64 = 0.95;

/// The fastest ways that are right on this device. Errors: device-lost, kernel where no way at all is right.
pub async fn tune(device: &Device) -> Result<Tuning> {
    measure(device, Tuning::of(&device.adapter), EFFORT).await
}

/// The same from any ways, with any effort. Errors: those of `tune`.
pub async fn measure(device: &Device, first: Tuning, effort: Effort) -> Result<Tuning> {
    let columns = |shared_columns, subgroups| Tuning { shared_columns, subgroups, ..first };
    let mut ways = vec![columns(true, false), columns(false, false)];
    ways.extend(device.adapter.subgroups.then_some(columns(true, true)));
    let of_few = best(&Product::new(device, FEW), ways, effort).await?;
    let tiles = |product_tiles| Tuning { product_tiles, ..of_few };
    let of_many = best(&Product::new(device, MANY), vec![tiles(true), tiles(false)], effort).await?;
    let shared = |attention_tiles| Tuning { attention_tiles, ..of_many };
    let of_pictures = best(&Attention::new(device, PICTURE), vec![shared(true), shared(false)], effort).await?;
    let split = |split| Tuning { split, ..of_pictures };
    best(&Step::new(device, LONG)?, vec![split(true), split(false)], effort).await
}

/// Something that is done in one of several ways.
trait Task {
    fn launch(&self, tuning: Tuning) -> Result<Tensor<2>>;

    /// Whether some of its values are what plain loops make of them.
    fn is_right(&self, found: &[f32]) -> bool;
}

/// The fastest of the ways that are right; of those that are alike the first. Errors: device-lost, kernel where none is right.
async fn best(task: &impl Task, ways: Vec<Tuning>, effort: Effort) -> Result<Tuning> {
    let mut best: Option<(f64, Tuning)> = None;
    let mut reason = String::from("its values are wrong");
    for way in ways {
        // Compiled and looked at before the clock runs. What an adapter cannot compile is as good as wrong.
        let found = match task.launch(way) {
            Ok(found) => read_floats(found).await,
            Err(error) => Err(error),
        };
        match found {
            Ok(found) if task.is_right(&found) => {}
            Ok(_) => continue,
            Err(error @ Error::DeviceLost { .. }) => return Err(error),
            Err(error) => {
                reason = error.to_string();
                continue;
            }
        }
        let mut fastest = f64::INFINITY;
        for _ in 0..effort.runs {
            let start = now();
            let mut last = task.launch(way)?;
            for _ in 1..effort.launches {
                last = task.launch(way)?;
            }
            read_floats(last.slice([0..1, 0..1])).await?;
            fastest = fastest.min(now() - start);
        }
        if best.is_none_or(|(before, _)| fastest < GAIN * before) {
            best = Some((fastest, way));
        }
    }
    best.map(|(_, way)| way).ok_or_else(|| Error::kernel("tune", reason))
}

fn near(found: f32, expected: f64, largest: f64) -> bool {
    (f64::from(found) - expected).abs() <= f64::from(TOLERANCE) * largest.max(1.0)
}

/// x [m, k] times a packed matrix [n, k].
struct Product {
    x: Vec<f32>,
    on_device: Tensor<2>,
    weights: crate::weights::Matrix,
    values: Vec<f32>,
    shape: [usize; 3],
}

impl Product {
    fn new(device: &Device, shape @ [m, k, n]: [usize; 3]) -> Self {
        let mut noise = Noise::new(k as u32);
        let (weights, values) = matrix(device, &mut noise, Quant::Q4, Role::Matrix, [n, k]);
        let x = noise.floats(m * k);
        Self { on_device: floats(device, &x, [m, k]), x, weights, values, shape }
    }
}

impl Task for Product {
    fn launch(&self, tuning: Tuning) -> Result<Tensor<2>> {
        let variant = linear::gpu::Variant::choose(self.shape[0], Arithmetic::Exact, tuning);
        linear::gpu::linear(&self.on_device, &self.weights, Fused::default(), variant)
    }

    fn is_right(&self, found: &[f32]) -> bool {
        let [m, k, n] = self.shape;
        let product =
            |row: usize, out: usize| -> f64 { (0..k).map(|c| f64::from(self.x[row * k + c]) * f64::from(self.values[out * k + c])).sum() };
        let largest = found.iter().fold(0.0f32, |most, value| most.max(value.abs()));
        [0, m / 2, m - 1]
            .into_iter()
            .all(|row| (0..n).step_by(37).chain([n - 1]).all(|out| near(found[row * n + out], product(row, out), f64::from(largest))))
    }
}

/// Every position attends to every position, in one fused product of q, k and v.
struct Attention {
    values: Vec<f32>,
    on_device: Tensor<2>,
    positions: usize,
    heads: Heads,
}

impl Attention {
    fn new(device: &Device, (positions, heads): (usize, Heads)) -> Self {
        let width = 3 * heads.count * heads.head_dim;
        let values = Noise::new(width as u32).floats(positions * width);
        Self { on_device: floats(device, &values, [positions, width]), values, positions, heads }
    }
}

impl Task for Attention {
    fn launch(&self, tuning: Tuning) -> Result<Tensor<2>> {
        let [q, k, v] = Rows::parts(&self.on_device);
        let variant = attention::gpu::Variant::choose(self.positions, self.heads, tuning);
        attention::gpu::attention(1, q, k, v, self.heads, None.into(), variant)
    }

    fn is_right(&self, found: &[f32]) -> bool {
        let width = self.heads.count * self.heads.head_dim;
        let part = |part: usize, row: usize, head: usize| &self.values[(3 * row + part) * width + head * self.heads.head_dim..];
        [(0, 0), (self.positions - 1, self.heads.count - 1)].into_iter().all(|(row, head)| {
            let expected = attended(self.heads, self.positions, part(0, row, head), |j| part(1, j, head), |j| part(2, j, head));
            let at = row * width + head * self.heads.head_dim;
            expected.iter().zip(&found[at..]).all(|(expected, found)| near(*found, f64::from(*expected), 1.0))
        })
    }
}

/// One query's floats of one head.
fn attended<'a>(
    heads: Heads,
    keys: usize,
    query: &[f32],
    key: impl Fn(usize) -> &'a [f32],
    value: impl Fn(usize) -> &'a [f32],
) -> Vec<f32> {
    let product = |j: usize| (0..heads.head_dim).map(|d| f64::from(query[d]) * f64::from(key(j)[d])).sum::<f64>();
    let scores: Vec<f64> = (0..keys).map(|j| product(j) * f64::from(heads.scale)).collect();
    attend_reference(&scores, heads.head_dim, |j, d| value(j)[d])
}

/// A decoder's newest position attends to a full cache.
struct Step {
    state: StepState,
    newest: Tensor<2>,
    caches: [Cache; 2],
    query: Vec<f32>,
    /// Keys and values of all positions.
    values: [Vec<f32>; 2],
    heads: Heads,
}

impl Step {
    fn new(device: &Device, (positions, heads): (usize, Heads)) -> Result<Self> {
        let width = heads.count * heads.head_dim;
        let before = positions - 1;
        let mut state = StepState::new(device, &[vec![1; before]], &[0], 1, positions)?;
        advance(&mut state, &ints(device, &[0]), before, &ints(device, &[-1]), 0)?;
        state.advanced(before);
        let mut noise = Noise::new(positions as u32);
        let mut query = noise.floats(3 * width);
        let newest = floats(device, &query, [1, 3 * width]);
        let mut values = [0, 1].map(|_| noise.floats(positions * width));
        let caches = values.each_ref().map(|values| Cache::Floats(floats(device, values, [positions, width])));
        // The device takes them in by itself.
        for (values, newest) in values.iter_mut().zip(query[width..].chunks_exact(width)) {
            values[before * width..].copy_from_slice(newest);
        }
        query.truncate(width);
        Ok(Self { state, newest, caches, query, values, heads })
    }
}

impl Task for Step {
    fn launch(&self, tuning: Tuning) -> Result<Tensor<2>> {
        let variant = cached_attention::gpu::Variant::choose(1, self.state.capacity, tuning);
        let [k, v] = &self.caches;
        cached_attention::gpu::cached_attention(&self.state, Rows::parts(&self.newest), [k, v], self.heads, None, variant)
    }

    fn is_right(&self, found: &[f32]) -> bool {
        let width = self.heads.count * self.heads.head_dim;
        let [keys, values] = &self.values;
        let positions = keys.len() / width;
        [0, self.heads.count - 1].into_iter().all(|head| {
            let at = head * self.heads.head_dim;
            let expected = attended(self.heads, positions, &self.query[at..], |j| &keys[j * width + at..], |j| &values[j * width + at..]);
            expected.iter().zip(&found[at..]).all(|(expected, found)| near(*found, f64::from(*expected), 1.0))
        })
    }
}
