//! Every operation against plain loops, on both devices: the same list that the parity page runs in a browser.

mod common;

use blip2_web::device::{Device, Tuning};
use blip2_web::ops::checks::run_all;
use blip2_web::ops::tune::{Effort, measure};

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
