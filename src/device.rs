//! The device that tensors live on: Burn's flex (CPU) or wgpu (WebGPU), and what is known of its adapter.

#[cfg(feature = "webgpu")]
use crate::error::{Error, Result};

/// Which of the two builds of the kernels a tensor meets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum DeviceKind {
    Cpu,
    Webgpu,
}

/// What the adapter says of itself, for the page, for reports and for the choice of kernels.
#[derive(Debug, Clone, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Adapter {
    pub name: String,
    pub backend: String,
    /// No GPU behind it: SwiftShader, lavapipe, WARP.
    pub software: bool,
}

#[derive(Debug, Clone)]
pub struct Device {
    pub kind: DeviceKind,
    pub adapter: Adapter,
    pub burn: burn_tensor::Device,
}

impl Device {
    /// Burn's flex: one thread, SIMD where the target has it.
    #[cfg(feature = "cpu")]
    pub fn cpu() -> Self {
        let adapter = Adapter { name: "CPU".into(), backend: "flex".into(), software: false };
        Self { kind: DeviceKind::Cpu, adapter, burn: burn_tensor::Device::flex() }
    }

    /// The adapter that the browser or the operating system prefers. Call it once: the runtime behind it is global.
    /// Errors: webgpu-unavailable.
    #[cfg(feature = "webgpu")]
    pub async fn webgpu() -> Result<Self> {
        // 1024: the default of 32 splits one decode step into many submits, and it cannot be changed later.
        let options = burn_tensor::Device::wgpu_options().tasks_max(1024);
        let (burn, setup) =
            options.init_with_setup_async().await.map_err(|error| Error::WebgpuUnavailable { reason: error.to_string() })?;
        setup.device.on_uncaptured_error(std::sync::Arc::new(|error| crate::ops::launch::report_gpu_error(error.to_string())));
        let info = setup.adapter.get_info();
        let software = info.device_type == burn_wgpu::wgpu::DeviceType::Cpu || is_software(&info.name) || is_software(&info.driver);
        crate::ops::launch::set_software_adapter(software);
        let adapter = Adapter { name: info.name.clone(), backend: format!("{:?}", setup.backend).to_lowercase(), software };
        Ok(Self { kind: DeviceKind::Webgpu, adapter, burn })
    }
}

#[cfg(feature = "webgpu")]
fn is_software(name: &str) -> bool {
    let name = name.to_lowercase();
    ["swiftshader", "llvmpipe", "lavapipe", "basic render driver", "warp"].iter().any(|software| name.contains(software))
}
