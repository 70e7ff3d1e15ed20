//! The ways that kernels take on this adapter, measured once and kept beside the models.

use crate::delivery::storage::Storage;
use crate::device::{Device, Tuning, set_tuning};
use crate::error::Result;
use crate::ops::tune::tune;

/// From another version of the kernels it would say nothing of these.
fn key(device: &Device) -> String {
    let Device { adapter, .. } = device;
    format!("tuning/{}/{}/{}", env!("CARGO_PKG_VERSION"), adapter.backend, adapter.name)
}

/// Takes what is kept, or measures and keeps it. A storage that fails costs a measurement. On software adapters a try takes
/// seconds and threads are always the fastest: there it stays as it is. Errors: device-lost, kernel where no way is right.
pub(super) async fn apply(device: &Device, storage: &impl Storage) -> Result<()> {
    if device.adapter.software {
        return Ok(());
    }
    let key = key(device);
    let kept = storage.get(&key).await.ok().flatten().and_then(|json| serde_json::from_slice::<Tuning>(&json).ok());
    if let Some(kept) = kept {
        set_tuning(kept);
        return Ok(());
    }
    let found = tune(device).await?;
    set_tuning(found);
    if let Ok(json) = serde_json::to_vec(&found) {
        // What cannot be kept is measured again next time.
        let _ = storage.put(&key, &json).await;
    }
    Ok(())
}
