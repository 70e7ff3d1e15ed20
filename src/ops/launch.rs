//! The one road from (WGSL, buffers, grid) to the GPU, and the counts of what went down it.

use std::sync::atomic::{AtomicU64, Ordering};

static DISPATCHES: AtomicU64 = AtomicU64::new(0);
static READBACKS: AtomicU64 = AtomicU64::new(0);
static BYTES: AtomicU64 = AtomicU64::new(0);
static WEIGHTS: AtomicU64 = AtomicU64::new(0);
static REPLAYS: AtomicU64 = AtomicU64::new(0);

/// What our kernels have launched since the program started, replayed launches too. Burn's own operations are not in it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Counts {
    pub dispatches: u64,
    pub readbacks: u64,
    /// The sum of the ranges that were bound: an upper bound of the memory traffic.
    pub bytes: u64,
    /// Bytes of packed weights that products have read: a matrix as often as its kernel goes over it.
    pub weights: u64,
    /// Recorded steps that were replayed: their launches are in the other counts.
    pub replays: u64,
}

impl std::ops::Sub for Counts {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        Self {
            dispatches: self.dispatches - before.dispatches,
            readbacks: self.readbacks - before.readbacks,
            bytes: self.bytes - before.bytes,
            weights: self.weights - before.weights,
            replays: self.replays - before.replays,
        }
    }
}

pub fn counts() -> Counts {
    let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    Counts {
        dispatches: load(&DISPATCHES),
        readbacks: load(&READBACKS),
        bytes: load(&BYTES),
        weights: load(&WEIGHTS),
        replays: load(&REPLAYS),
    }
}

/// Launches that were queued again from a recording.
#[cfg(feature = "webgpu")]
pub(crate) fn count_replay(counts: Counts) {
    DISPATCHES.fetch_add(counts.dispatches, Ordering::Relaxed);
    BYTES.fetch_add(counts.bytes, Ordering::Relaxed);
    WEIGHTS.fetch_add(counts.weights, Ordering::Relaxed);
    REPLAYS.fetch_add(1, Ordering::Relaxed);
}

/// Launches that were counted while they were only recorded.
#[cfg(feature = "webgpu")]
pub(crate) fn count_recorded(counts: Counts) {
    DISPATCHES.fetch_sub(counts.dispatches, Ordering::Relaxed);
    BYTES.fetch_sub(counts.bytes, Ordering::Relaxed);
    WEIGHTS.fetch_sub(counts.weights, Ordering::Relaxed);
}

pub(crate) fn count_readback() {
    READBACKS.fetch_add(1, Ordering::Relaxed);
}

#[cfg(feature = "webgpu")]
pub(crate) use gpu::{Kernel, Type, empty, floats, ints, note_sizes, noted_sizes, tensor};

#[cfg(feature = "webgpu")]
mod gpu {
    use std::cell::RefCell;
    use std::fmt::Write;
    use std::sync::atomic::{AtomicU64, Ordering};

    use burn_cubecl::kernel::into_contiguous;
    use burn_cubecl::template::{KernelSource, SourceKernel, SourceTemplate};
    use burn_cubecl::tensor::CubeTensor;
    use burn_tensor::{DType, Int, Shape, Tensor};
    use burn_wgpu::Wgpu;
    use cubecl::prelude::*;
    use cubecl::server::{KernelArguments, MetadataBindingInfo};

    use crate::error::{Error, Result};

    /// The largest count of workgroups that WebGPU promises in one dimension.
    const MAX_GROUPS: u32 = 65_535;
    /// Multiplications that are queued before what is queued is handed to the GPU: some 2 ms of a fast one, 20 ms of a slow one.
    /// An encoding handed over as a whole would begin late, and hold up whatever else the machine draws.
    const HANDED_OVER: u64 = 8 << 30;

    static QUEUED: AtomicU64 = AtomicU64::new(0);

    thread_local! {
        /// Sizes of the buffers that `empty` has made since `note_sizes`.
        static SIZES: RefCell<Option<Vec<usize>>> = const { RefCell::new(None) };
    }

    /// From now on the sizes of new buffers are noted.
    pub(crate) fn note_sizes() {
        SIZES.set(Some(vec![]));
    }

    /// In bytes, in order; and notes no more.
    pub(crate) fn noted_sizes() -> Vec<usize> {
        SIZES.take().unwrap_or_default()
    }

    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
    pub(crate) enum Type {
        F32,
        U32,
        /// Four at a time: the buffer is a multiple of 16 bytes long.
        U32x4,
        I32,
    }

    /// One kernel: its WGSL, the constants put before it, and its buffers in order. The buffers' declarations are written
    /// from here, so that Rust and WGSL cannot disagree; after them comes `info: array<u32>`.
    pub(crate) struct Kernel {
        name: &'static str,
        source: &'static str,
        together: Together,
        half: bool,
        constants: Vec<(&'static str, u32)>,
        buffers: Vec<(&'static str, Type, CubeTensor)>,
        absent: Vec<&'static str>,
        info: Vec<u32>,
        workgroup: u32,
        weight_bytes: usize,
        work: u64,
    }

    impl Kernel {
        pub fn new(name: &'static str, source: &'static str) -> Self {
            Self {
                name,
                source,
                together: Together::No,
                half: false,
                constants: vec![],
                buffers: vec![],
                absent: vec![],
                info: vec![],
                workgroup: 64,
                weight_bytes: 0,
                work: 0,
            }
        }

        /// Threads of a workgroup, instead of 64.
        pub fn workgroup(mut self, threads: u32) -> Self {
            self.workgroup = threads;
            self
        }

        /// Gives it what a workgroup's lanes find out together (`sum_of_all` and its kin), by subgroup operations or through the
        /// workgroup's memory.
        pub fn together(mut self, subgroups: bool) -> Self {
            self.together = if subgroups { Together::BySubgroups } else { Together::ByMemory };
            self
        }

        /// Whether `Number` in the WGSL is an f16, instead of an f32.
        pub fn half(mut self, half: bool) -> Self {
            self.half = half;
            self
        }

        /// `const NAME: u32` in the WGSL; another value is another pipeline.
        pub fn constant(mut self, name: &'static str, value: u32) -> Self {
            self.constants.push((name, value));
            self
        }

        pub fn buffer(mut self, name: &'static str, kind: Type, tensor: &CubeTensor) -> Self {
            self.buffers.push((name, kind, tensor.clone()));
            self
        }

        /// Packed weights, and how often the kernel goes over all of them.
        pub fn weights(mut self, name: &'static str, kind: Type, words: &CubeTensor, passes: usize) -> Self {
            self.weight_bytes += words.meta.shape().num_elements() * size_of::<u32>() * passes;
            self.buffer(name, kind, words)
        }

        /// Multiplications, where there are many.
        pub fn work(mut self, multiplications: u64) -> Self {
            self.work = multiplications;
            self
        }

        /// A buffer that this variant does without: its name stays valid in the WGSL's dead branches.
        pub fn absent(mut self, name: &'static str) -> Self {
            self.absent.push(name);
            self
        }

        /// Sizes that do not deserve a pipeline of their own; `info[i]` in the WGSL.
        pub fn info(mut self, info: impl IntoIterator<Item = usize>) -> Self {
            self.info.extend(info.into_iter().map(|value| value as u32));
            self
        }

        /// Runs `groups` workgroups. They are folded into two dimensions: the WGSL asks where it is (`common.wgsl`).
        pub fn launch(self, groups: usize) -> Result<()> {
            if groups == 0 {
                return Ok(());
            }
            let groups = u32::try_from(groups).map_err(|_| Error::kernel(self.name, "too many workgroups"))?;
            let x = groups.min(MAX_GROUPS);
            let y = groups.div_ceil(x);
            if y > MAX_GROUPS {
                return Err(Error::kernel(self.name, "too many workgroups"));
            }
            let Some((_, _, first)) = self.buffers.first() else {
                return Err(Error::kernel(self.name, "no buffers"));
            };
            let client = first.client.clone();
            let bytes: usize = self.buffers.iter().map(|(_, _, tensor)| tensor.meta.shape().num_elements() * 4).sum();
            super::DISPATCHES.fetch_add(1, Ordering::Relaxed);
            super::BYTES.fetch_add(bytes as u64, Ordering::Relaxed);
            super::WEIGHTS.fetch_add(self.weight_bytes as u64, Ordering::Relaxed);

            let bindings = self.buffers.iter().map(|(_, _, tensor)| tensor.handle.clone().binding()).collect();
            let mut info = self.info.clone();
            info.push(groups);
            if info.len() % 2 == 1 {
                info.push(0);
            }
            let words = info.chunks(2).map(|pair| u64::from(pair[0]) | u64::from(pair[1]) << 32).collect();
            let workgroup = self.workgroup;
            let source = Source {
                name: self.name,
                wgsl: self.source,
                together: self.together,
                half: self.half,
                constants: self.constants,
                buffers: self.buffers.iter().map(|(name, kind, _)| (*name, *kind)).collect(),
                absent: self.absent,
                groups_at: self.info.len(),
                workgroup,
            };
            client.launch(
                Box::new(SourceKernel::new(source, CubeDim::new_1d(workgroup))),
                CubeCount::Static(x, y, 1),
                KernelArguments::new().with_buffers(bindings).with_info(MetadataBindingInfo::custom(words)),
            );
            if self.work > 0 && QUEUED.fetch_add(self.work, Ordering::Relaxed) + self.work > HANDED_OVER && !client.is_capturing() {
                QUEUED.store(0, Ordering::Relaxed);
                client.flush().map_err(|error| Error::kernel(self.name, format!("{error:?}")))?;
            }
            Ok(())
        }
    }

    /// How the lanes of a workgroup find out something together.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
    enum Together {
        No,
        ByMemory,
        BySubgroups,
    }

    /// What decides the text of a kernel, and so which pipeline serves it. The text itself is made when it is compiled.
    #[derive(Debug, Clone, PartialEq, Eq, Hash)]
    struct Source {
        name: &'static str,
        wgsl: &'static str,
        together: Together,
        half: bool,
        constants: Vec<(&'static str, u32)>,
        buffers: Vec<(&'static str, Type)>,
        absent: Vec<&'static str>,
        groups_at: usize,
        workgroup: u32,
    }

    impl Source {
        fn text(&self) -> String {
            let mut text = String::new();
            if self.half {
                text.push_str("enable f16;\n");
            }
            // Browsers ask for it; naga, which compiles natively, does not know it and needs nothing.
            if self.together == Together::BySubgroups && cfg!(target_family = "wasm") {
                text.push_str("enable subgroups;\n");
            }
            let _ = writeln!(text, "alias Number = {};", if self.half { "f16" } else { "f32" });
            for (name, value) in &self.constants {
                let _ = writeln!(text, "const {name}: u32 = {value}u;");
            }
            let _ = writeln!(text, "const WORKGROUP: u32 = {}u;\nconst GROUPS: u32 = {}u;", self.workgroup, self.groups_at);
            for (place, (name, kind)) in self.buffers.iter().enumerate() {
                let kind = match kind {
                    Type::F32 => "f32",
                    Type::U32 => "u32",
                    Type::U32x4 => "vec4<u32>",
                    Type::I32 => "i32",
                };
                // read_write everywhere: small tensors share one GPU buffer, and one buffer has one usage in a dispatch.
                let _ = writeln!(text, "@group(0) @binding({place}) var<storage, read_write> {name}: array<{kind}>;");
            }
            let _ = writeln!(text, "@group(0) @binding({}) var<storage, read_write> info: array<u32>;", self.buffers.len());
            for name in &self.absent {
                let _ = writeln!(text, "const {name} = array<f32, 1>(0.0);");
            }
            text.push_str(include_str!("common.wgsl"));
            match self.together {
                Together::No => text.push_str(include_str!("here.wgsl")),
                Together::ByMemory => text.push_str(concat!(include_str!("here.wgsl"), include_str!("workgroup.wgsl"))),
                Together::BySubgroups => text.push_str(include_str!("subgroups.wgsl")),
            }
            text.push_str(self.wgsl);
            text
        }
    }

    impl KernelSource for Source {
        fn source(&self) -> SourceTemplate {
            let text = self.text();
            if std::env::var_os("BLIP2_DUMP_KERNELS").is_some() {
                eprintln!("// {}\n{text}", self.name);
            }
            SourceTemplate::new(text)
        }

        fn id(&self) -> KernelId {
            KernelId::new::<Self>().info(self.clone()).cube_dim((self.workgroup, 1, 1).into())
        }

        fn lang(&self) -> &'static str {
            "wgsl"
        }
    }

    /// The buffer of a float tensor, its elements in order.
    pub(crate) fn floats<const D: usize>(tensor: &Tensor<D>) -> Result<CubeTensor> {
        let tensor = tensor.clone().try_into_primitive::<Wgpu>().map_err(|error| Error::kernel("buffer", format!("{error:?}")))?;
        Ok(into_contiguous(tensor))
    }

    /// The buffer of an integer tensor, its elements in order.
    pub(crate) fn ints<const D: usize>(tensor: &Tensor<D, Int>) -> Result<CubeTensor> {
        let tensor = tensor.clone().try_into_primitive::<Wgpu>().map_err(|error| Error::kernel("buffer", format!("{error:?}")))?;
        Ok(into_contiguous(tensor))
    }

    /// Room for a tensor beside `like`; its contents are whatever was there.
    pub(crate) fn empty<const D: usize>(like: &CubeTensor, shape: [usize; D], dtype: DType) -> CubeTensor {
        let bytes = shape.iter().product::<usize>() * 4;
        SIZES.with_borrow_mut(|sizes| sizes.iter_mut().for_each(|sizes| sizes.push(bytes)));
        let handle = like.client.empty(bytes);
        CubeTensor::new_contiguous(like.client.clone(), like.device.clone(), Shape::from(shape), handle, dtype)
    }

    pub(crate) fn tensor<const D: usize>(tensor: CubeTensor) -> Tensor<D> {
        Tensor::from_primitive::<Wgpu>(tensor)
    }
}
