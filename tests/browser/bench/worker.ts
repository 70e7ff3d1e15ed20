/** Starts the engine of one device and measures one model, round by round: whatever slows the machine down for a while slows all of a round. */

import initCpu, * as cpu from "../../../www/wasm/blip2_cpu.js";
import initWebgpu, * as webgpu from "../../../www/wasm/blip2_webgpu.js";
import { type Calls, listen } from "./calls.js";
import { Limits, Often } from "./limits.js";
import type { Counts, Message, ModelFacts, Outcome, Task } from "./messages.js";
import { type Own, startOwn, type Unfused } from "./own.js";

interface Engine {
  readonly runtime: cpu.Runtime;
  readonly flag: cpu.StopFlag;
  readonly memory: WebAssembly.Memory;
}

/** Pictures that a text is ranked against. */
const RANKED = 100;
/** Tokens behind a context that are timed together. */
const CONTEXT_TOKENS = 3;
/** What is compiled while it runs, and what a browser compiles again when it has run often, is ready after this. */
const WARM_MS = 2000;
/** A model above this is loaded from the cache once: a few gigabytes take their time. */
const LARGE = 256e6;

const post = (message: Message): void => self.postMessage(message);
const say = (line: string): void => post({ kind: "line", line });
const phase = (name: string): void => post({ kind: "phase", phase: name });

class Bench {
  readonly samples: Record<string, number[]> = {};
  readonly cpu: Record<string, number[]> = {};
  readonly counts: Record<string, Counts> = {};
  readonly calls: Calls = listen();
  adapter: Outcome["adapter"] = null;
  facts: ModelFacts | null = null;
  limits: Limits | null = null;
  products: number[] = [];
  hashBytesPerSecond: number | null = null;
  wasmMemory = 0;
  rounds = 0;
  private readonly task: Task;
  private pictures: readonly Uint8Array[] = [];

  constructor(task: Task) {
    this.task = task;
  }

  async run(): Promise<void> {
    const { task } = this;
    const engine = await start(task.device);
    const { name, backend, software, kind } = engine.runtime.adapter();
    if (kind !== task.device) throw new Error(`asked for ${task.device}, runs on ${kind}`);
    this.adapter = { name, backend, software };
    this.pictures = await Promise.all(task.pictures.map(async url => new Uint8Array(await (await fetch(url)).arrayBuffer())));
    if (task.loads) return this.loads(engine);

    phase("load");
    const model = await this.timedLoad(engine, "load", this.samples);
    this.facts = factsOf(model);
    const subject = model.info().can.includes("rank") ? new Retrieval(this, engine, model) : new Generation(this, engine, model);
    phase("work");
    await subject.count();
    this.wasmMemory = engine.memory.buffer.byteLength;

    // From here on the bench has wasm of its own, whose memory is not the engine's.
    phase("measure");
    const own = task.own === null ? null : await startOwn(task.own);
    const unfused = own?.Unfused !== undefined && task.unfused ? new own.Unfused(await (await fetch(`${task.model}config.json`)).text()) : null;
    this.limits = await Limits.of(task.device, own, model.info().index.stages.language || this.facts.device_bytes);
    await this.repeat(async () => {
      await subject.round(unfused);
      await this.limits?.measure();
    });
    this.limits.free();
    unfused?.free();
    if (own !== null) await this.timeProducts(own);
    if (own !== null && task.context !== null) await this.timeContexts(own, task.context);

    phase("load again");
    subject.free();
    for (let time = 0; time < (task.quick || this.facts.bytes > LARGE ? 1 : 3); time++) {
      (await this.timedLoad(engine, "load_cached", this.samples)).free();
    }
  }

  /** Warms up, then measures until rounds or seconds are over. */
  private async repeat(round: () => Promise<void>): Promise<void> {
    const { quick, rounds, seconds } = this.task;
    const begin = performance.now();
    if (!quick) {
      do await round();
      while (performance.now() - begin < WARM_MS && seconds * 1e3 > WARM_MS);
      this.forget();
    }
    const start = performance.now();
    const enough = () => (performance.now() - start > seconds * 1e3 && this.rounds >= 3) || this.rounds >= rounds;
    do {
      await round();
      this.rounds += 1;
      say(`round ${this.rounds}`);
    } while (!quick && !enough());
  }

  /** What the warming up has measured; how long the first load took stays. */
  private forget(): void {
    for (const [name, values] of [...Object.entries(this.samples), ...Object.entries(this.cpu)]) {
      if (name !== "load" || this.task.loads) values.length = 0;
    }
    for (const values of Object.values(this.limits?.found ?? {})) values.length = 0;
  }

  picture(round = this.rounds): Uint8Array {
    const picture = this.pictures[round % this.pictures.length];
    if (picture === undefined) throw new Error("no pictures");
    return picture;
  }

  add(all: Record<string, number[]>, name: string, value: number): void {
    const values = all[name] ?? [];
    all[name] = values;
    values.push(value);
  }

  async timed<T>(name: string, work: () => Promise<T>): Promise<T> {
    const start = performance.now();
    const result = await work();
    this.add(this.samples, name, performance.now() - start);
    return result;
  }

  /** Times the picture's decoding and resizing alone, then all that it takes for the model to have seen it. */
  async encode({ runtime, flag }: Engine, model: cpu.Model, picture: Uint8Array): Promise<cpu.Image> {
    await this.timed("prepare", () => model.process([picture], undefined, {}, flag));
    // Asking the clock takes a while by itself.
    const idle = await this.clock();
    const before = await this.clock();
    const image = await this.timed("encode", async () => {
      const image = await model.encode(picture, flag);
      await runtime.settled();
      return image;
    });
    const after = await this.clock();
    if (idle !== null && before !== null && after !== null) this.add(this.cpu, "encode", after - before - (before - idle));
    return image;
  }

  /** Milliseconds that this thread has run, or null. */
  async clock(): Promise<number | null> {
    const answer: unknown = await (await fetch(this.task.clock)).json();
    return typeof answer === "number" ? answer / 1e6 : null;
  }

  /** Exactly what work asks of the device, less what it takes to wait for its end. */
  async counted<T>(engine: Engine, work: () => Promise<T>): Promise<readonly [T, Counts]> {
    const idle = await this.countsNow(engine);
    const before = await this.countsNow(engine);
    const result = await work();
    return [result, minus(minus(await this.countsNow(engine), before), minus(before, idle))];
  }

  /** When all that was asked for has reached the browser: it may have been held back. */
  private async countsNow({ runtime }: Engine): Promise<Counts> {
    await runtime.settled();
    const { dispatches, readbacks, bytes, weights, replays } = runtime.launches();
    return { dispatches, submits: this.calls.submits, readbacks, bytes, weights, replays, all_dispatches: this.calls.dispatches };
  }

  private async timedLoad(engine: Engine, name: string, samples: Record<string, number[]>): Promise<cpu.Model> {
    const start = performance.now();
    const model = await engine.runtime.load(this.task.model, undefined, undefined, undefined, engine.flag);
    await engine.runtime.settled();
    this.add(samples, name, performance.now() - start);
    return model;
  }

  /** Network, then cache, over and over, and what the parts of a cached load take. */
  private async loads(engine: Engine): Promise<void> {
    await this.repeat(async () => {
      await engine.runtime.clearCache();
      phase("load");
      const model = await this.timedLoad(engine, "load", this.samples);
      this.facts = factsOf(model);
      model.free();
      phase("load again");
      const before = { ...this.calls };
      (await this.timedLoad(engine, "load_cached", this.samples)).free();
      this.add(this.samples, "storage", this.calls.storing - before.storing);
      this.add(this.samples, "upload", this.calls.uploading - before.uploading);
    });
    this.wasmMemory = engine.memory.buffer.byteLength;
    if (this.task.own === null) return;
    phase("measure");
    const own = await startOwn(this.task.own);
    const [bytes, start] = [4 << 20, performance.now()];
    // As warm as the engine's own has become.
    do own.hash(bytes);
    while (performance.now() - start < WARM_MS / 2);
    this.hashBytesPerSecond = bytes / (new Often().measure(times => repeated(times, () => own.hash(bytes))) / 1e3);
  }

  /** A token behind few and behind many positions, in turns. */
  private async timeContexts(own: Own, quant: string): Promise<void> {
    const context = await own.BenchContext.create(await (await fetch(`${this.task.model}config.json`)).text(), quant);
    const start = performance.now();
    for (let round = 0; round < (this.task.quick ? 1 : 9); round++) {
      if (round > 3 && performance.now() - start > this.task.seconds * 1e3) break;
      for (const positions of [64, 1024]) {
        await context.begin(positions);
        await context.steps(1);
        const begin = performance.now();
        await context.steps(CONTEXT_TOKENS);
        // The first round is for the compiler.
        if (round > 0 || this.task.quick) this.add(this.samples, `token_behind_${positions}`, (performance.now() - begin) / CONTEXT_TOKENS);
      }
    }
    context.free();
  }

  private async timeProducts(own: Own): Promise<void> {
    for (const { quant, rows, out, columns } of this.task.products) {
      const product = await own.BenchProduct.create(quant, rows, out, columns);
      let [times, ms] = [1, 0];
      do {
        times = ms === 0 ? 1 : Math.ceil(times * Math.min(16, Math.max(2, 30 / ms)));
        const start = performance.now();
        await product.run(times);
        ms = performance.now() - start;
      } while (ms < 20);
      this.products.push(ms / times);
      product.free();
    }
  }

  get options(): { readonly tokens: number; readonly questions: readonly [string, string] } {
    return this.task;
  }
}

/** A model that is asked about pictures. */
class Generation {
  private readonly bench: Bench;
  private readonly engine: Engine;
  private readonly model: cpu.Model;

  constructor(bench: Bench, engine: Engine, model: cpu.Model) {
    this.bench = bench;
    this.engine = engine;
    this.model = model;
  }

  /** Exactly what an image and a token ask of the device: the difference of a long and a short answer, without what both began with. */
  async count(): Promise<void> {
    const { bench, engine, model } = this;
    const [question] = bench.options.questions;
    const answered = async (tokens: number): Promise<readonly [Counts, Counts]> => {
      const [image, encode] = await bench.counted(engine, () => model.encode(bench.picture(), engine.flag));
      const [, answer] = await bench.counted(engine, () => this.ask(image, question, tokens));
      image.free();
      return [encode, answer];
    };
    const [short, long] = [2, 10];
    // What only the first answer does: kernels are compiled, a step is recorded.
    await answered(short);
    const [, few] = await answered(short);
    const [encode, many] = await answered(long);
    bench.counts.encode = encode;
    bench.counts.token = over(minus(many, few), long - short);
    bench.counts.first_word = minus(few, over(minus(many, few), (long - short) / (short - 1)));
  }

  async round(unfused: Unfused | null): Promise<void> {
    const { bench, engine, model } = this;
    const { questions, tokens } = bench.options;
    const picture = bench.picture();
    const image = await bench.encode(engine, model, picture);
    if (unfused !== null) await bench.timed("unfused_encode", async () => unfused.encode());

    const first = await this.ask(image, questions[0], tokens);
    bench.add(bench.samples, "first_word", first.timings.first_token_ms);
    bench.add(bench.samples, "token", perToken(first.timings));
    if (unfused !== null) this.unfusedTokens(unfused, first.ids.length - tokens, tokens);
    const second = await this.ask(image, questions[1], 1);
    bench.add(bench.samples, "second_word", second.timings.first_token_ms);

    const start = await bench.clock();
    await this.ask(image, questions[1], 1);
    const middle = await bench.clock();
    await this.ask(image, questions[1], tokens);
    const end = await bench.clock();
    if (start !== null && middle !== null && end !== null) {
      bench.add(bench.cpu, "token", (end - middle - (middle - start)) / (tokens - 1));
    }
    image.free();
  }

  /** Tokens of the same number behind as many positions. */
  private unfusedTokens(unfused: Unfused, positions: number, tokens: number): void {
    unfused.begin(positions);
    const start = performance.now();
    repeated(tokens - 1, () => unfused.step());
    this.bench.add(this.bench.samples, "unfused_token", (performance.now() - start) / (tokens - 1));
  }

  /** An answer of exactly so many tokens. */
  private ask(image: cpu.Image, question: string, tokens: number): Promise<cpu.Generated> {
    return image.generate(question, { max_new_tokens: tokens, eos_token_id: [] }, () => {}, this.engine.flag);
  }

  free(): void {
    this.model.free();
  }
}

/** A model that ranks pictures by a text. */
class Retrieval {
  private readonly bench: Bench;
  private readonly engine: Engine;
  private readonly model: cpu.Model;

  constructor(bench: Bench, engine: Engine, model: cpu.Model) {
    this.bench = bench;
    this.engine = engine;
    this.model = model;
  }

  async count(): Promise<void> {
    const { bench, engine } = this;
    const [image, encode] = await bench.counted(engine, () => this.model.encode(bench.picture(), engine.flag));
    const [, rank] = await bench.counted(engine, () => this.rank(image));
    bench.counts.encode = encode;
    bench.counts.rank_100 = rank;
    image.free();
  }

  async round(): Promise<void> {
    const { bench, engine, model } = this;
    const picture = bench.picture();
    const image = await bench.encode(engine, model, picture);
    await bench.timed("rank_100", () => this.rank(image));
    await bench.timed("match", () => model.matches(image.id, [bench.options.questions[0]], engine.flag));
    image.free();
  }

  /** One picture stands for all: what a picture is to a rank has one size, whatever it shows. */
  private rank(image: cpu.Image): Promise<cpu.Ranked[]> {
    return this.model.rank(new Uint32Array(RANKED).fill(image.id), this.bench.options.questions[0], undefined, this.engine.flag);
  }

  free(): void {
    this.model.free();
  }
}

const perToken = ({ first_token_ms, total_ms, tokens }: cpu.Timings): number => (total_ms - first_token_ms) / (tokens - 1);

function repeated(times: number, work: () => void): void {
  for (let time = 0; time < times; time++) work();
}

const each = (change: (name: keyof Counts) => number): Counts => ({
  dispatches: change("dispatches"),
  submits: change("submits"),
  readbacks: change("readbacks"),
  bytes: change("bytes"),
  weights: change("weights"),
  replays: change("replays"),
  all_dispatches: change("all_dispatches"),
});
const minus = (a: Counts, b: Counts): Counts => each(name => a[name] - b[name]);
const over = (a: Counts, n: number): Counts => each(name => a[name] / n);

function factsOf(model: cpu.Model): ModelFacts {
  const { class: name, bytes, index } = model.info();
  const quantization = Object.fromEntries(Object.entries(index.quantization));
  return { class: name, parameters: index.parameters, quantization, bytes, device_bytes: index.deviceBytes };
}

async function start(device: Task["device"]): Promise<Engine> {
  const module_or_path = new URL(`./wasm/blip2_${device}_bg.wasm`, import.meta.url);
  if (device === "cpu") {
    const { memory } = await initCpu({ module_or_path });
    return { runtime: await cpu.Runtime.create({ storage: "indexeddb" }), flag: new cpu.StopFlag(), memory };
  }
  const { memory } = await initWebgpu({ module_or_path });
  return { runtime: await webgpu.Runtime.create({ storage: "indexeddb" }), flag: new webgpu.StopFlag(), memory };
}

/** An Error's stack, or the plain object that src/api rejects with. */
function words(error: unknown): string {
  if (error instanceof Error) return error.stack ?? error.message;
  return typeof error === "object" ? JSON.stringify(error) : String(error);
}

self.addEventListener("message", (event: MessageEvent<Task>) => {
  const bench = new Bench(event.data);
  const end = (error: string | null): void => {
    const { adapter, facts, samples, cpu: cpuTime, counts, limits, products, hashBytesPerSecond, wasmMemory, rounds } = bench;
    const outcome: Outcome = {
      ...{ adapter, model: facts, samples, cpu: cpuTime, counts, limits: limits?.found ?? null },
      ...{ products, hash_bytes_per_second: hashBytesPerSecond, wasm_memory: wasmMemory, rounds, error },
    };
    post({ kind: "end", outcome });
  };
  bench.run().then(
    () => end(null),
    (error: unknown) => end(words(error)),
  );
});
