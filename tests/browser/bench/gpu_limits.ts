/** What the GPU can do, by two kernels of nothing else: one reads a large buffer in order, one multiplies and adds in registers. Raw WebGPU. */

/** WebGPU's `GPUBufferUsage`, which TypeScript does not know in a worker. */
const COPY_DST = 0x08;
const STORAGE = 0x80;

/** The default limit of a binding. */
const BYTES = 128 << 20;
const THREADS = 1 << 16;
const GROUP = 64;
/** Operations of one turn of the loop: 8 vectors of 4, a multiply and an add each. */
const FLOP_A_TURN = 8 * 4 * 2;

const READ = `
@group(0) @binding(0) var<storage, read> input: array<vec4<u32>>;
@group(0) @binding(1) var<storage, read_write> output: array<u32>;
@compute @workgroup_size(${GROUP}) fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  var sum = vec4<u32>(0u);
  for (var at = id.x; at < ${BYTES / 16}u; at += ${THREADS}u) { sum += input[at]; }
  output[id.x] = sum.x + sum.y + sum.z + sum.w;
}`;

const MULTIPLY_ADD = `
@group(0) @binding(0) var<storage, read> input: array<vec4<u32>>;
@group(0) @binding(1) var<storage, read_write> output: array<u32>;
@compute @workgroup_size(${GROUP}) fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  let turns = input[0].x;
  let x = vec4<f32>(0.999 + f32(id.x) * 1e-9);
  let y = vec4<f32>(1e-3);
  var a = x; var b = x + 1.0; var c = x + 2.0; var d = x + 3.0; var e = x + 4.0; var f = x + 5.0; var g = x + 6.0; var h = x + 7.0;
  for (var turn = 0u; turn < turns; turn += 1u) {
    a = fma(a, x, y); b = fma(b, x, y); c = fma(c, x, y); d = fma(d, x, y);
    e = fma(e, x, y); f = fma(f, x, y); g = fma(g, x, y); h = fma(h, x, y);
  }
  let all = a + b + c + d + e + f + g + h;
  output[id.x] = bitcast<u32>(all.x + all.y + all.z + all.w);
}`;

export interface GpuLimits {
  /** Bytes a second. */
  read(): Promise<number>;
  /** Operations a second. */
  multiplyAdd(): Promise<number>;
  free(): void;
}

export async function gpuLimits(): Promise<GpuLimits> {
  const adapter = await navigator.gpu.requestAdapter({ powerPreference: "high-performance" });
  if (adapter === null) throw new Error("no adapter for the bench's own kernels");
  const device = await adapter.requestDevice();
  device.pushErrorScope("validation");
  const from = device.createBuffer({ size: BYTES, usage: STORAGE | COPY_DST });
  const to = device.createBuffer({ size: THREADS * 4, usage: STORAGE });
  const prepare = (code: string): ((times: number) => Promise<number>) => {
    const pipeline = device.createComputePipeline({ layout: "auto", compute: { module: device.createShaderModule({ code }) } });
    const entries = [from, to].map((buffer, binding) => ({ binding, resource: { buffer } }));
    const bindGroup = device.createBindGroup({ layout: pipeline.getBindGroupLayout(0), entries });
    return async times => {
      await device.queue.onSubmittedWorkDone();
      const start = performance.now();
      const encoder = device.createCommandEncoder();
      for (let time = 0; time < times; time++) {
        const pass = encoder.beginComputePass();
        pass.setPipeline(pipeline);
        pass.setBindGroup(0, bindGroup);
        pass.dispatchWorkgroups(THREADS / GROUP);
        pass.end();
      }
      device.queue.submit([encoder.finish()]);
      await device.queue.onSubmittedWorkDone();
      return performance.now() - start;
    };
  };
  const [read, multiplyAdd] = [prepare(READ), prepare(MULTIPLY_ADD)];
  // What is wrong with a kernel is told to nobody who does not ask; it would seem to be done at once.
  const refused = await device.popErrorScope();
  if (refused !== null) throw new Error(`the bench's own kernels: ${refused.message}`);
  const turns = 256;
  device.queue.writeBuffer(from, 0, Uint32Array.of(turns));
  // A submit and its answer take a while by themselves: enough passes to make that small.
  const repeats = new Map<typeof read, number>();
  const timed = async (run: typeof read): Promise<number> => {
    let times = repeats.get(run) ?? 1;
    let ms = await run(times);
    while (ms < 40 && times < 4096) {
      times = Math.ceil(times * Math.min(16, Math.max(2, 60 / ms)));
      ms = await run(times);
    }
    repeats.set(run, times);
    return ms / times / 1e3;
  };
  return {
    read: async () => BYTES / (await timed(read)),
    multiplyAdd: async () => (THREADS * turns * FLOP_A_TURN) / (await timed(multiplyAdd)),
    free: () => device.destroy(),
  };
}
