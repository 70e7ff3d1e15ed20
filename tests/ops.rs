//! Every operation against plain loops, on both devices: the same list that the parity page runs in a browser.

mod common;

use blip2_web::device::{Device, Tuning};
use blip2_web::ops::checks::run_all;
use blip2_web::ops::tune::{Effort, measure};
use blip2_web::ops::{Cache, read_floats, read_ints};
use burn_tensor::{Tensor, TensorData};

fn all_checks_hold(device: &Device) {
    let outcomes = pollster::block_on(run_all(device, &mut |_| {}));
    let failed: Vec<String> =
        outcomes.iter().filter_map(|outcome| outcome.error.as_ref().map(|e| format!("{}: {e}", outcome.name))).collect();
    assert!(failed.is_empty(), "{} of {} on {}:\n{}", failed.len(), outcomes.len(), device.adapter.name, failed.join("\n"));
    assert!(outcomes.len() > 40, "the list of checks has shrunk to {}", outcomes.len());
}

#[test]
fn on_the_cpu() {
    all_checks_hold(&Device::cpu());
}

#[test]
fn on_the_gpu() {
    all_checks_hold(&common::gpu());
}

/// Positions keep their rows and their places.
#[test]
fn a_cache_that_grows_keeps_what_it_held() {
    let (rows, before, after) = (2, 3, 5);
    for device in [Device::cpu(), common::gpu()] {
        // Bits that are no number as f32, too.
        let words: Vec<i32> = (0..rows * before * 2).map(|place| place as i32 * 0x0101_4001 - 7).collect();
        let held = |row: usize, position: usize| &words[(row * before + position) * 2..][..2];
        let expected: Vec<i32> = (0..rows)
            .flat_map(|row| (0..after).map(move |position| (row, position)))
            .flat_map(|(row, position)| if position < before { held(row, position).to_vec() } else { vec![0; 2] })
            .collect();
        let floats = |words: &[i32]| words.iter().map(|word| *word as f32).collect::<Vec<_>>();

        let mut cache = Cache::Halves(Tensor::from_data(TensorData::new(words.clone(), [rows * before, 2]), &device.burn));
        cache.grow(rows, [before, after]);
        assert_eq!((cache.dims(), cache.bytes()), ([rows * after, 4], rows * after * 8));
        let Cache::Halves(grown) = cache else { panic!("it was of halves") };
        assert_eq!(pollster::block_on(read_ints(grown)).expect("words"), expected);

        let mut cache = Cache::Floats(Tensor::from_data(TensorData::new(floats(&words), [rows * before, 2]), &device.burn));
        cache.grow(rows, [before, after]);
        assert_eq!((cache.dims(), cache.bytes()), ([rows * after, 2], rows * after * 8));
        let Cache::Floats(grown) = cache else { panic!("it was of floats") };
        assert_eq!(pollster::block_on(read_floats(grown)).expect("floats"), floats(&expected));
    }
}

/// Which way is the fastest is the adapter's business; that each of them is right at a real model's shapes is ours.
#[test]
fn every_way_that_tuning_tries_is_right() {
    let device = common::gpu();
    let effort = Effort { runs: 1, launches: 1 };
    for first in [Tuning::WORKGROUPS, Tuning::THREADS] {
        let found = pollster::block_on(measure(&device, first, effort)).expect("some way is right");
        println!("{}: {found:?}", device.adapter.name);
    }
}
