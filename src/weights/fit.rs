//! Whether a model fits where it is to run, told from its index before a shard is fetched.

use serde::Serialize;

use crate::device::{Device, DeviceKind};
use crate::error::{Error, Result};
use crate::weights::index::Index;

/// Memory that WebAssembly can address.
const ADDRESSABLE: u64 = 4 << 30;
/// Caches, what a picture and a prompt need on their way, a shard that has just arrived, the program itself.
const WORKING: u64 = 256 << 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Fits {
    Yes,
    /// It takes more than half of what the machine says that it has.
    Tight,
    No,
}

/// What a model takes while it works, in bytes.
pub fn memory(index: &Index) -> u64 {
    index.device_bytes() + WORKING
}

/// What there can be of it. A GPU does not say how much it has.
fn room(kind: DeviceKind) -> Option<u64> {
    (kind == DeviceKind::Cpu && cfg!(target_family = "wasm")).then_some(ADDRESSABLE)
}

/// `machine`: the machine's memory in bytes, where it is known.
pub fn fits(device: &Device, index: &Index, machine: Option<u64>) -> Fits {
    judge(memory(index), room(device.kind), machine)
}

fn judge(needed: u64, room: Option<u64>, machine: Option<u64>) -> Fits {
    if room.is_some_and(|room| needed > room) {
        Fits::No
    } else if machine.is_some_and(|machine| needed > machine / 2) {
        Fits::Tight
    } else {
        Fits::Yes
    }
}

/// Errors: out-of-memory, naming the model, where it can never fit.
pub fn check(device: &Device, index: &Index) -> Result<()> {
    match fits(device, index, None) {
        Fits::No => {
            let name = index.source.as_deref().unwrap_or("the model");
            let what = format!("{name} on the CPU, where WebAssembly can have {ADDRESSABLE}");
            Err(Error::OutOfMemory { what, needed: memory(index) })
        }
        Fits::Yes | Fits::Tight => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_addressed_never_fits_and_half_of_a_machine_is_tight() {
        assert_eq!(judge(ADDRESSABLE + 1, Some(ADDRESSABLE), None), Fits::No);
        assert_eq!(judge(ADDRESSABLE, Some(ADDRESSABLE), None), Fits::Yes);
        assert_eq!(judge(ADDRESSABLE + 1, None, Some(16 << 30)), Fits::Yes);
        assert_eq!(judge(5 << 30, None, Some(8 << 30)), Fits::Tight);
    }
}
