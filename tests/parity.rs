//! The fixture folders of HF transformers on both devices, their checkpoints unconverted.

mod common;

use blip2_web::device::Device;

/// Each folder, and the fewest cases that have to pass in it: a list that shrinks is a failure too.
const FOLDERS: [(&str, usize); 6] = [("opt", 85), ("opt_odd", 59), ("opt_odd2", 61), ("t5", 85), ("t5_tied", 50), ("itm", 50)];

fn all_folders_pass(device: &Device) {
    for (name, fewest) in FOLDERS {
        let summary = common::all_cases_pass(device, name);
        assert!(summary.passed >= fewest, "only {} cases of {name} passed", summary.passed);
    }
}

#[test]
fn pictures() {
    let summary = common::all_cases_pass(&Device::cpu(), "images");
    assert!(summary.passed >= 83, "only {} cases passed", summary.passed);
}

#[test]
fn on_the_cpu() {
    all_folders_pass(&Device::cpu());
}

#[test]
fn on_the_gpu() {
    all_folders_pass(&common::gpu());
}
