/** Starts the wasm of one device, runs one task, and says each line as it comes. */

import type { Message, Outcome, Task } from "./messages.js";

/** What the wasm of the workbench exports. It is built for tests and the bench alone, so its types are written here. */
interface Workbench {
  default(options: { module_or_path: URL }): Promise<unknown>;
  readonly Runtime: { create(options: { storage: "memory" }): Promise<Runtime> };
}
interface Runtime {
  adapter(): { readonly name: string; readonly backend: string; readonly kind: Task["device"] };
  checks(onOutcome: (outcome: object) => void): Promise<unknown>;
  parity(fixture: string, model: string | undefined, dequantized: boolean, onCase: (outcome: Case) => void): Promise<unknown>;
  launches(): { readonly dispatches: number };
}
interface Case {
  readonly name: string;
  readonly status: keyof typeof WORDS;
  readonly detail: string;
}

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

async function start(device: Task["device"]): Promise<Runtime> {
  const glue = new URL(`./wasm/blip2_${device}_workbench.js`, import.meta.url);
  const found: unknown = await import(glue.href);
  if (!isWorkbench(found)) throw new Error(`${glue.href} is not the workbench's glue`);
  if (device === "webgpu") listenToShaders();
  await found.default({ module_or_path: new URL(glue.href.replace(/\.js$/, "_bg.wasm")) });
  return found.Runtime.create({ storage: "memory" });
}

const isWorkbench = (found: unknown): found is Workbench => typeof found === "object" && found !== null && "default" in found && "Runtime" in found;

/** An Error's stack, or the plain object that src/api rejects with. */
function words(error: unknown): string {
  if (error instanceof Error) return error.stack ?? error.message;
  return typeof error === "object" ? JSON.stringify(error) : String(error);
}
