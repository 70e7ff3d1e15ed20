/** Starts the wasm of one device, runs one task, and says each line as it comes. */

import initCpu, { Runtime as CpuRuntime } from "../../../www/wasm/blip2_cpu.js";
import initWebgpu, { Runtime as WebgpuRuntime } from "../../../www/wasm/blip2_webgpu.js";
import type { Message, Outcome, Task } from "./messages.js";

const post = (message: Message): void => self.postMessage(message);
/** A case as the native runner prints it. */
const WORDS = { pass: "pass", fail: "FAIL", "not yet": "not yet" };
const say = (line: string): void => post({ kind: "line", line });

self.addEventListener("message", (event: MessageEvent<Task>) => {
  void run(event.data).then(outcome => post({ kind: "end", outcome }));
});

async function run(task: Task): Promise<Outcome> {
  let adapter = "";
  let dispatches = 0;
  try {
    const runtime = await start(task.device);
    const { name, backend, kind } = runtime.adapter();
    if (kind !== task.device) throw new Error(`asked for ${task.device}, runs on ${kind}`);
    adapter = `${name} (${backend})`;
    if (task.checks) await runtime.checks(outcome => say(JSON.stringify(outcome)));
    else await runtime.parity(task.fixture, task.model, task.dequantized, ({ name, status, detail }) => say(`${WORDS[status]} ${name} ${detail}`));
    dispatches = runtime.launches().dispatches;
    return { adapter, dispatches, error: null };
  } catch (error) {
    return { adapter, dispatches, error: words(error) };
  }
}

/** What a browser finds wrong with a shader it tells to nobody but who asks: so every shader is asked about, and the text of a wrong one is shown. */
function listenToShaders(): void {
  const make = GPUDevice.prototype.createShaderModule;
  const told = new Set<string>();
  GPUDevice.prototype.createShaderModule = function (descriptor) {
    const shader = make.call(this, descriptor);
    void shader.getCompilationInfo().then(({ messages }) => {
      for (const { type, message, lineNum } of messages) {
        const line = descriptor.code.split("\n")[lineNum - 1]?.trim() ?? "";
        const text = `shader ${type}: ${message}: ${line}`;
        if (type === "error" && !told.has(text)) say(text);
        told.add(text);
      }
    });
    return shader;
  };
}

async function start(device: Task["device"]): Promise<CpuRuntime | WebgpuRuntime> {
  const wasm = new URL(`./wasm/blip2_${device}_bg.wasm`, import.meta.url);
  if (device === "cpu") {
    await initCpu({ module_or_path: wasm });
    return CpuRuntime.create({ storage: "memory" });
  }
  listenToShaders();
  await initWebgpu({ module_or_path: wasm });
  return WebgpuRuntime.create({ storage: "memory" });
}

/** An Error's stack, or the plain object that src/api rejects with. */
function words(error: unknown): string {
  if (error instanceof Error) return error.stack ?? error.message;
  return typeof error === "object" ? JSON.stringify(error) : String(error);
}
