//! Every operation against plain loops, on both devices: the same list that the parity page runs in a browser.

mod common;

use blip2_web::device::Device;
use blip2_web::ops::checks::run_all;

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
