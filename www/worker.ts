/** The worker: owns wasm, and nothing else does. Chooses the device, then fetches that build alone, and answers the calls of `protocol.ts`. */

import { chooseDevice, type Choice } from "./device.js";
import { Blip2Error, broken, isErrorFacts, networkFailed, toFacts, unreachable, type ErrorFacts } from "./error.js";
import { STOPPED_AT_ONCE } from "./generation.js";
import { answerLocally } from "./local_fetch.js";
import { PICKED } from "./picked.js";
import type {
  Answer,
  Call,
  CallRequest,
  Calls,
  DeviceReport,
  Done,
  LoadParams,
  Milestone,
  Question,
  Reply,
  Request,
  StartParams,
} from "./protocol.js";
import initCpu, * as cpu from "./wasm/blip2_cpu.js";
import initWebgpu, * as webgpu from "./wasm/blip2_webgpu.js";

/** What a started engine is. The two builds export the same. */
interface Engine {
  readonly runtime: cpu.Runtime;
  readonly newFlag: () => cpu.StopFlag;
}

/** A call under way. Abort and stop may come before the engine is there to be told. */
class Job {
  readonly id: number;
  aborted = false;
  stopped = false;
  private flag: cpu.StopFlag | null = null;

  constructor(id: number) {
    this.id = id;
  }

  abort(): void {
    this.aborted = true;
    this.flag?.abort();
  }

  stop(): void {
    this.stopped = true;
    this.flag?.stop();
  }

  /** Runs `work` with a flag of the engine, unless it was aborted meanwhile. */
  async under<T>(engine: Engine, work: (flag: cpu.StopFlag) => Promise<T>): Promise<T> {
    if (this.aborted) throw aborted();
    const flag = engine.newFlag();
    this.flag = flag;
    if (this.stopped) flag.stop();
    try {
      return await work(flag);
    } finally {
      this.flag = null;
      flag.free();
    }
  }
}

const jobs = new Map<number, Job>();
const models = new Map<number, cpu.Model>();
/** By the id that wasm gave them. */
const images = new Map<number, cpu.Image>();
let nextModel = 1;

let begin: (engine: Promise<Engine>) => void;
const started = new Promise<Engine>(resolve => {
  begin = resolve;
});
started.catch(() => {}); // told to whoever asks; with no call waiting it is not unhandled

// The device is one: pictures and answers take turns, in the order they were asked for. Downloads do not wait for them.
let turn: Promise<unknown> = Promise.resolve();
function inTurn<T>(work: () => Promise<T>): Promise<T> {
  const mine = turn.then(work);
  turn = mine.catch(() => {});
  return mine;
}

type Handlers = { readonly [K in Call]: (params: Calls[K]["params"], job: Job) => Promise<Calls[K]["result"]> };

const handlers: Handlers = {
  async start(params) {
    const starting = start(params);
    begin(starting.then(({ engine }) => engine));
    return (await starting).report;
  },
  async load(params, job) {
    const engine = await started;
    const onProgress = (progress: cpu.Progress) => post({ kind: "progress", id: job.id, progress });
    let handle: number | null = null;
    const reached = (model: cpu.Model) => {
      // Of one model there is one handle, whichever came first.
      if (handle === null) handle = keep(models, nextModel++, model, job);
      else model.free();
      return { model: handle, info: held(models, handle).info() };
    };
    const onMilestone = (milestone: Milestone, model: cpu.Model) =>
      job.aborted ? model.free() : post({ kind: "milestone", id: job.id, milestone, loaded: reached(model) });
    try {
      const load = (options: cpu.LoadOptions, flag: cpu.StopFlag) => engine.runtime.load(params.url, options, onProgress, onMilestone, flag);
      return reached(await onFolder(engine, job, params, load));
    } catch (error) {
      if (handle !== null) await release(models, handle);
      throw error;
    }
  },
  async inspect(params, job) {
    const engine = await started;
    return onFolder(engine, job, params, (options, flag) => engine.runtime.inspect(params.url, options, flag));
  },
  async encode({ model, bytes }, job) {
    const engine = await started;
    const image = await inTurn(() => job.under(engine, flag => held(models, model).encode(bytes, flag)));
    const { id, width, height } = image;
    return { image: keep(images, id, image, job), width, height };
  },
  async generate({ image, prompt, options }, job) {
    const engine = await started;
    const onPiece = (text: string) => post({ kind: "piece", id: job.id, text });
    return inTurn(async () => {
      if (job.stopped && !job.aborted) return STOPPED_AT_ONCE;
      return job.under(engine, flag => held(images, image).generate(prompt, { ...options }, onPiece, flag));
    });
  },
  async attention({ image, prompt, text }, job) {
    const engine = await started;
    return inTurn(() => job.under(engine, flag => held(images, image).attention(prompt, text, flag)));
  },
  async rank({ model, images: ids, text, ...options }, job) {
    const engine = await started;
    return inTurn(() => job.under(engine, flag => held(models, model).rank(Uint32Array.from(ids), text, options, flag)));
  },
  async similarities({ model, images: ids, texts }, job) {
    const engine = await started;
    return inTurn(() => job.under(engine, flag => held(models, model).similarities(Uint32Array.from(ids), [...texts], flag)));
  },
  async embedTexts({ model, texts }, job) {
    const engine = await started;
    return inTurn(() => job.under(engine, flag => held(models, model).embedTexts([...texts], flag)));
  },
  async embedImage({ image }, job) {
    const engine = await started;
    return inTurn(() => job.under(engine, flag => held(images, image).embeds(flag)));
  },
  async matches({ model, image, texts }, job) {
    const engine = await started;
    return inTurn(() => job.under(engine, flag => held(models, model).matches(image, [...texts], flag)));
  },
  async config(params, job) {
    const { runtime, ...engine } = await started;
    switch (params.kind) {
      case "folder": {
        const { kind, part, ...folder } = params;
        return onFolder({ runtime, ...engine }, job, folder, (options, flag) => runtime.config(part, folder.url, undefined, options, flag));
      }
      case "json":
        return job.under({ runtime, ...engine }, flag => runtime.config(params.part, undefined, params.json, undefined, flag));
      case "parts":
        return runtime.joinConfigs(params.vision, params.qformer, params.text);
      default:
        return unreachable(params);
    }
  },
  async call({ model, method, inputs }, job) {
    const engine = await started;
    return inTurn(() => job.under(engine, flag => held(models, model).call(method, inputs, flag)));
  },
  async generateIds({ model, inputs, options }, job) {
    const engine = await started;
    return inTurn(() => job.under(engine, flag => held(models, model).generateIds(inputs, { ...options }, undefined, flag)));
  },
  // Neither needs the device: no turn to wait for.
  async process({ model, images: files, text, options }, job) {
    const engine = await started;
    return job.under(engine, flag => held(models, model).process(files && [...files], text && [...text], { ...options }, flag));
  },
  async decode({ model, rows, skip_special_tokens }) {
    await started;
    return held(models, model).decode(
      rows.map(row => [...row]),
      skip_special_tokens,
    );
  },
  async release({ kind, handle }) {
    await release<{ free(): void }>(kind === "model" ? models : images, handle);
    return null;
  },
  async cache() {
    return (await started).runtime.cache();
  },
  async deleteModel({ url }) {
    await (await started).runtime.deleteModel(url);
    return null;
  },
  async clearCache() {
    await (await started).runtime.clearCache();
    return null;
  },
};

/** Files that the user has picked, by the address of their folder, while it is being loaded. */
const folders = new Map<string, ReadonlyMap<string, Blob>>();
answerLocally(async ({ href, origin }) => {
  if (origin !== new URL(PICKED).origin) return undefined;
  for (const [folder, files] of folders) if (href.startsWith(folder)) return files.get(decodeURIComponent(href.slice(folder.length))) ?? null;
  return null;
});

/** Does something with a model folder, whose options `work` gets as the engine takes them. */
async function onFolder<T>(
  engine: Engine,
  job: Job,
  { url, files, resolves, ...options }: LoadParams,
  work: (options: cpu.LoadOptions, flag: cpu.StopFlag) => Promise<T>,
): Promise<T> {
  if (files !== undefined) folders.set(url, files);
  const resolve = async (file: string) => String(await ask({ of: "resolve", load: job.id, file }));
  try {
    return await job.under(engine, flag => work({ ...options, ...(resolves && { resolve }) }, flag));
  } finally {
    folders.delete(url);
  }
}

/** Questions that the page has not answered yet. */
const questions = new Map<number, { resolve(answer: Answer): void; reject(error: unknown): void }>();
let nextQuestion = 1;
function ask(question: Question): Promise<Answer> {
  const id = nextQuestion++;
  return new Promise((resolve, reject) => {
    questions.set(id, { resolve, reject });
    post({ kind: "ask", id, question });
  });
}

/** The page's storage. */
const driver: cpu.StorageDriver = {
  async get(name) {
    const bytes = await ask({ of: "get", name });
    return bytes instanceof Uint8Array ? bytes : null;
  },
  async put(name, bytes) {
    await ask({ of: "put", name, bytes: new Uint8Array(bytes) });
  },
  async delete(name) {
    await ask({ of: "delete", name });
  },
  async list() {
    const names = await ask({ of: "list" });
    return Array.isArray(names) ? names : [];
  },
  async estimate() {
    const room = await ask({ of: "estimate" });
    return room !== null && typeof room === "object" && "persistent" in room ? room : { usage: null, quota: null, persistent: false };
  },
};

async function start({ device, wasm, storage }: StartParams): Promise<{ engine: Engine; report: DeviceReport }> {
  const choice = await chooseDevice(device, { isSecureContext, navigator });
  const open = async ({ kind, reason, detail }: Choice) => {
    const engine = kind === "cpu" ? await startCpu(wasm.cpu, storage) : await startWebgpu(wasm.webgpu, storage);
    const { name, backend, software } = engine.runtime.adapter();
    return { engine, report: { kind, name, backend, software, reason, detail } };
  };
  if (device !== "auto" || choice.kind === "cpu") return open(choice);
  try {
    return await open(choice);
  } catch (error) {
    const { code, message } = factsOf(error);
    if (code !== "webgpu-unavailable") throw error;
    return open({ kind: "cpu", reason: "start-failed", detail: message });
  }
}

// The addresses are written out for bundlers: that is how they find the files.
async function startCpu(address = new URL("./wasm/blip2_cpu_bg.wasm", import.meta.url).href, storage: StartParams["storage"]): Promise<Engine> {
  await fetchWasm(address, initCpu);
  return { runtime: await cpu.Runtime.create({ storage }, driver), newFlag: () => new cpu.StopFlag() };
}

async function startWebgpu(address = new URL("./wasm/blip2_webgpu_bg.wasm", import.meta.url).href, storage: StartParams["storage"]): Promise<Engine> {
  await fetchWasm(address, initWebgpu);
  return { runtime: await webgpu.Runtime.create({ storage }, driver), newFlag: () => new webgpu.StopFlag() };
}

async function fetchWasm(url: string, init: (input: { module_or_path: Response }) => Promise<unknown>): Promise<void> {
  let response: Response;
  try {
    response = await fetch(url);
  } catch (error) {
    throw networkFailed(url, null, String(error));
  }
  if (!response.ok) throw networkFailed(url, response.status, `the server answered ${response.status}`);
  try {
    await init({ module_or_path: response });
  } catch (error) {
    // CompileError: a policy without 'wasm-unsafe-eval', no SIMD, or no wasm at all in the file. Anything else: the transfer broke.
    if (!(error instanceof WebAssembly.CompileError || error instanceof WebAssembly.LinkError))
      throw networkFailed(url, response.status, String(error));
    throw new Blip2Error(
      "model-unsupported",
      { what: "this browser", reason: error.message },
      {
        message: `the engine cannot be compiled here: ${error.message}`,
        hint: "Use a current browser: WebAssembly with SIMD is needed.",
        retryable: false,
      },
    );
  }
}

function keep<T extends { free(): void }>(all: Map<number, T>, handle: number, thing: T, job: Job): number {
  if (job.aborted) {
    thing.free();
    throw aborted();
  }
  all.set(handle, thing);
  return handle;
}

/** In turn: what runs now may be using it. */
function release<T extends { free(): void }>(all: Map<number, T>, handle: number): Promise<void> {
  return inTurn(async () => {
    all.get(handle)?.free();
    all.delete(handle);
  });
}

function held<T>(all: Map<number, T>, handle: number): T {
  const thing = all.get(handle);
  if (thing === undefined) throw broken(`handle ${handle} is not held`);
  return thing;
}

const aborted = (): Blip2Error => new Blip2Error("aborted", {}, { message: "stopped by the caller", hint: "", retryable: false });

function factsOf(error: unknown): ErrorFacts {
  // An Error crosses without the fields it was given, though it looks like plain data here.
  if (error instanceof Blip2Error) return toFacts(error);
  return isErrorFacts(error) ? error : toFacts(broken(String(error)));
}

const post = (reply: Reply): void => postMessage(reply);

async function answer<K extends Call>({ kind, id, params }: CallRequest<K>): Promise<void> {
  const job = new Job(id);
  jobs.set(id, job);
  try {
    const result = await handlers[kind](params, job);
    const done: Done<K> = { kind: "done", call: kind, id, result };
    postDone(done);
  } catch (error) {
    const facts = factsOf(error);
    // On a lost device every later call would fail as this one did.
    if (isTrap(error) || facts.code === "device-lost") die(panic === "" ? facts : toFacts(broken(panic)));
    else post({ kind: "error", id, error: facts });
  } finally {
    jobs.delete(id);
  }
}

const postDone = <K extends Call>(done: Done<K>): void => postMessage(done);

function receive(request: Request): void {
  switch (request.kind) {
    case "abort":
      jobs.get(request.id)?.abort();
      break;
    case "stop":
      jobs.get(request.id)?.stop();
      break;
    case "answer":
    case "refusal": {
      const question = questions.get(request.id);
      questions.delete(request.id);
      if (request.kind === "answer") question?.resolve(request.result);
      else question?.reject(request.error);
      break;
    }
    case "start":
    case "load":
    case "inspect":
    case "encode":
    case "generate":
    case "attention":
    case "rank":
    case "similarities":
    case "embedTexts":
    case "embedImage":
    case "matches":
    case "config":
    case "call":
    case "generateIds":
    case "process":
    case "decode":
    case "release":
    case "cache":
    case "deleteModel":
    case "clearCache":
      void answer(request);
      break;
    default:
      unreachable(request);
  }
}

// A trap leaves wasm in a state that nothing may run in. Inside a future it rejects no promise: it shows as an uncaught error alone,
// and what it was about is only in the console, where the panic hook wrote it.
const isTrap = (error: unknown): boolean => error instanceof WebAssembly.RuntimeError || error instanceof RangeError;

let panic = "";
const toConsole = console.error.bind(console);
console.error = (...words: unknown[]) => {
  const text = words.map(String).join(" ");
  if (text.includes("panicked at")) panic = text.split("\n\nStack:")[0] ?? text;
  toConsole(...words);
};

function die(error: ErrorFacts): void {
  post({ kind: "dead", error });
  close();
}

function trapped(message: string): void {
  die(toFacts(broken(panic || message)));
}

addEventListener("message", (event: MessageEvent<Request>) => receive(event.data));
addEventListener("error", event => {
  if (isTrap(event.error)) {
    event.preventDefault();
    trapped(event.message);
  }
});
addEventListener("unhandledrejection", event => {
  if (isTrap(event.reason)) {
    event.preventDefault();
    trapped(String(event.reason));
  }
});
