//! Which of their ways kernels take on an adapter: a plain value, so that what was once measured can be kept.

use std::sync::RwLock;

use crate::device::Adapter;

/// Every way is right on every device that has what it needs; which is fast differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Tuning {
    /// A workgroup's sums by subgroup operations, else through its memory.
    pub subgroups: bool,
    /// Of products with few rows: a workgroup shares the columns of its outputs, else each thread has outputs of its own.
    pub shared_columns: bool,
    /// Of products with many rows: tiles in a workgroup's memory, else each thread has outputs of its own.
    pub product_tiles: bool,
    /// Of attention with many queries: 16 of them share what is read of keys and values.
    pub attention_tiles: bool,
    /// Several workgroups share what one could do: a head's attention to a long cache, the choice among a row's logits.
    pub split: bool,
}

impl Tuning {
    /// For software adapters, where a barrier costs a workgroup microseconds.
    pub const THREADS: Self = Self { subgroups: false, shared_columns: false, product_tiles: false, attention_tiles: false, split: false };

    /// For GPUs, before anything is measured.
    pub const WORKGROUPS: Self = Self { subgroups: false, shared_columns: true, product_tiles: true, attention_tiles: true, split: true };

    /// What to begin with.
    pub fn of(adapter: &Adapter) -> Self {
        if adapter.software { Self::THREADS } else { Self { subgroups: adapter.subgroups, ..Self::WORKGROUPS } }
    }
}

static TUNING: RwLock<Tuning> = RwLock::new(Tuning::WORKGROUPS);

/// What kernels go by.
pub fn tuning() -> Tuning {
    TUNING.read().map_or(Tuning::WORKGROUPS, |tuning| *tuning)
}

/// From now on kernels go by `tuning`. Recorded steps go on as they were recorded.
pub fn set_tuning(tuning: Tuning) {
    if let Ok(mut held) = TUNING.write() {
        *held = tuning;
    }
}
