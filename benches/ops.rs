//! Operations by themselves at the shapes of opt-2.7b and of its vision tower, on each device. Each is held to its reference
//! before it is timed.
//!
//!     cargo bench --features criterion -- linear/cpu/q4     what matches; `--list` names all
//!
//! Of a product with one row the throughput is bytes of packed weights; of others, operations (a multiply-add is two).

use std::time::{Duration, Instant};

use blip2_web::bench::product::Product;
use blip2_web::device::Device;
use blip2_web::ops::{Heads, Norm, Rows, attention, checks, read_floats};
use blip2_web::weights::quant::{Quant, words_per_row};
use burn_tensor::quantization::{QuantScheme, QuantStore, QuantValue, ScaleDtype};
use burn_tensor::{Tensor, TensorData};
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main, measurement::WallTime};
use pollster::block_on;

/// rows, out, columns
const MATVECS: [[usize; 3]; 4] = [[1, 7680, 2560], [1, 2560, 2560], [1, 10240, 2560], [1, 2560, 10240]];
const MATMULS: [[usize; 3]; 4] = [[257, 4224, 1408], [257, 1408, 1408], [257, 6144, 1408], [257, 1408, 6144]];

/// How far from the reference a product may be, of its largest value: activations may be eight bits wide.
const TOLERANCE: f32 = 0.03;

fn devices() -> Vec<(&'static str, Device)> {
    let mut devices = vec![("cpu", Device::cpu())];
    match block_on(Device::webgpu()) {
        Ok(device) => {
            println!("webgpu: {} ({})", device.adapter.name, device.adapter.backend);
            devices.push(("webgpu", device));
        }
        Err(error) => println!("webgpu is left out: {error}"),
    }
    devices
}

fn floats<const D: usize>(device: &Device, shape: [usize; D]) -> Tensor<D> {
    let values: Vec<f32> = (0..shape.iter().product::<usize>()).map(|place| ((place * 7919 % 1009) as f32 / 504.5) - 1.0).collect();
    Tensor::from_data(TensorData::new(values, shape), &device.burn)
}

/// A group whose members take long: few samples of few runs.
fn group<'a>(criterion: &'a mut Criterion, name: &str) -> BenchmarkGroup<'a, WallTime> {
    let mut group = criterion.benchmark_group(name);
    group.sample_size(10).warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(2));
    group
}

/// Times `work`, which launches, so many times in a row; the device has done them all when `value` can be read.
fn timed<const D: usize>(times: u64, mut work: impl FnMut() -> Tensor<D>) -> Duration {
    let start = Instant::now();
    let mut last = None;
    for _ in 0..times {
        last = Some(work());
    }
    if let Some(last) = last {
        let one: [std::ops::Range<usize>; D] = std::array::from_fn(|_| 0..1);
        block_on(read_floats(last.slice(one))).expect("a value");
    }
    start.elapsed()
}

fn check(product: &Product, name: &str) {
    let [rows, out, _] = product.shape;
    let found = block_on(product.values()).expect("a product");
    let expected = product.reference(rows - 1);
    let scale = expected.iter().fold(0.0f32, |most, value| most.max(value.abs()));
    for (place, (found, expected)) in found[(rows - 1) * out..].iter().zip(&expected).enumerate() {
        assert!((found - expected).abs() <= TOLERANCE * scale, "{name} at {place}: {found}, expected {expected}");
    }
}

fn linear(criterion: &mut Criterion) {
    for (device_name, device) in devices() {
        for quant in Quant::ALL {
            let mut group = group(criterion, &format!("linear/{device_name}/{quant}"));
            for shape @ [rows, out, columns] in MATVECS.into_iter().chain(MATMULS) {
                let name = format!("{rows}x{columns}x{out}");
                group.throughput(match rows {
                    1 => Throughput::Bytes((out * words_per_row(quant, columns) * 4) as u64),
                    _ => Throughput::Elements((2 * rows * out * columns) as u64),
                });
                // Made when it is its turn, and only if it is asked for.
                let mut product = None;
                group.bench_function(BenchmarkId::from_parameter(&name), |bencher| {
                    let product = product.get_or_insert_with(|| {
                        let product = Product::new(&device, quant, shape).expect("a product");
                        check(&product, &name);
                        product
                    });
                    bencher.iter_custom(|times| {
                        let start = Instant::now();
                        block_on(product.run(times as usize)).expect("a product");
                        start.elapsed()
                    });
                });
            }
            group.finish();
        }
    }
}

/// Burn's own quantized product of the same shapes, in the store that the device takes.
fn burn_quantized(criterion: &mut Criterion) {
    for (device_name, device) in devices() {
        for (name, value) in [("q8", QuantValue::Q8S), ("q4", QuantValue::Q4S)] {
            let store = if device_name == "cpu" { QuantStore::Native } else { QuantStore::PackedU32(0) };
            // Half a byte has no store of its own on the CPU.
            if device_name == "cpu" && name == "q4" {
                continue;
            }
            let mut group = group(criterion, &format!("burn/{device_name}/{name}"));
            for [rows, out, columns] in MATVECS.into_iter().chain(MATMULS) {
                let mut operands = None;
                group.bench_function(BenchmarkId::from_parameter(format!("{rows}x{columns}x{out}")), |bencher| {
                    let (x, weight) = operands.get_or_insert_with(|| {
                        let scheme = QuantScheme::default().with_value(value).with_store(store).per_block([1, 32], ScaleDtype::F32);
                        (floats(&device, [rows, columns]), floats(&device, [columns, out]).quantize_dynamic(&scheme))
                    });
                    bencher.iter_custom(|times| timed(times, || x.clone().matmul(weight.clone())));
                });
            }
            group.finish();
        }
    }
}

fn attention_and_norm(criterion: &mut Criterion) {
    for (device_name, device) in devices() {
        // The registry of checks is the reference of these two, on shapes that fill nothing.
        let mut failed = vec![];
        let outcomes = block_on(checks::run_all(&device, &mut |outcome| failed.extend(outcome.error.clone())));
        assert!(failed.is_empty() && !outcomes.is_empty(), "{failed:?}");

        let mut group = group(criterion, &format!("attention/{device_name}"));
        // A picture, and a token behind 64 and behind 1024 positions.
        for (queries, keys, count, head_dim) in [(257, 257, 16, 88), (1, 64, 32, 80), (1, 1024, 32, 80)] {
            let width = count * head_dim;
            let heads = Heads { count, head_dim, scale: (head_dim as f32).sqrt().recip() };
            let (q, kv) = (floats(&device, [queries, width]), floats(&device, [keys, 2 * width]));
            let (k, v) = (Rows { tensor: &kv, offset: 0 }, Rows { tensor: &kv, offset: width });
            group.throughput(Throughput::Elements((4 * queries * keys * width) as u64));
            group.bench_function(BenchmarkId::from_parameter(format!("{queries}x{keys} {count} heads of {head_dim}")), |bencher| {
                bencher.iter_custom(|times| timed(times, || attention(1, Rows::whole(&q), k, v, heads, None).expect("attention")));
            });
        }
        group.finish();

        let mut group = self::group(criterion, &format!("layer_norm/{device_name}"));
        for (rows, width) in [(257, 1408), (1, 2560)] {
            let (x, gamma, beta) = (floats(&device, [rows, width]), floats(&device, [width]), floats(&device, [width]));
            group.throughput(Throughput::Bytes((rows * width * 8) as u64));
            group.bench_function(BenchmarkId::from_parameter(format!("{rows}x{width}")), |bencher| {
                bencher.iter_custom(|times| timed(times, || Norm { gamma: &gamma, beta: Some(&beta), eps: 1e-5 }.of(&x).expect("a norm")));
            });
        }
        group.finish();
    }
}

criterion_group!(benches, linear, burn_quantized, attention_and_norm);
criterion_main!(benches);
