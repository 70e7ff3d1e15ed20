/** A worker without wasm, for tests: what it was told, and what it says is the test's choice. */

import type { WorkerLike } from "./client.js";
import { createEngine, type Engine } from "./index.js";
import type { Call, CallRequest, Calls, Control, DeviceReport, Done, Finish, Generated, ModelInfo, Reply, Request } from "./protocol.js";

export const DEVICE: DeviceReport = { kind: "cpu", name: "CPU", backend: "flex", software: false, reason: "asked", detail: "" };

export const MODEL: ModelInfo = {
  url: "http://localhost/models/demo/",
  bytes: 1000,
  cached: 0,
  kept: true,
  storageError: null,
  device: "cpu",
  arithmetic: "int8",
  class: "Blip2ForConditionalGeneration",
  shared: [],
  can: ["caption", "ask", "chat", "attention"],
  index: {
    parameters: 10,
    quantization: { vision: "q8" },
    source: null,
    licence: null,
    ui: { caption_prompt: "a picture of", question_template: "Question: {question} Answer:", suggestions: [] },
    stages: { vision: 400, qformer: 200, projection: 100, language: 300 },
    deviceBytes: 1200,
  },
};

export const RETRIEVAL: ModelInfo = { ...MODEL, class: "Blip2ForImageTextRetrieval", can: ["rank", "match", "embed", "attention"] };

export const generated = (text: string, finish: Finish = "eos"): Generated => ({
  text,
  ids: [1],
  finish,
  timings: { first_token_ms: 1, total_ms: 2, tokens: 2 },
  candidates: [{ text, score: null }],
});

/** What a worker says last, when its device is lost. */
export const DEAD: Reply = {
  kind: "dead",
  error: { code: "device-lost", message: "lost", hint: "", retryable: true, facts: { reason: "lost" } },
};

/** Whatever the worker was told has reached it, and what it said to that has come back. */
export const turn = (): Promise<void> => new Promise(resolve => setTimeout(resolve, 0));
export async function turns(count = 8): Promise<void> {
  for (let i = 0; i < count; i++) await turn();
}

/** An engine over fake workers, newest last. */
export function withWorkers(answers: Answers = {}): { engine: Engine; workers: FakeWorker[]; last(): FakeWorker } {
  const workers: FakeWorker[] = [];
  const engine = createEngine({
    device: "cpu",
    worker: () => {
      const worker = new FakeWorker(answers);
      workers.push(worker);
      return worker;
    },
  });
  const last = () => {
    const worker = workers.at(-1);
    if (worker === undefined) throw new Error("no worker was started");
    return worker;
  };
  return { engine, workers, last };
}

/** Answers a call, or leaves it open (undefined) for the test to answer. */
type Answers = { [K in Call]?: (params: Calls[K]["params"], id: number) => Calls[K]["result"] | undefined };

// `any`, as in the DOM's own MessageEvent: what comes out of a worker has no type before it is looked at.
type Heard = { readonly data: MessageEvent["data"]; readonly message: string; preventDefault(): void };

export class FakeWorker implements WorkerLike {
  readonly heard: Request[] = [];
  terminated = false;
  private readonly listeners = new Map<string, (event: Heard) => void>();
  private readonly answers: Answers;

  constructor(answers: Answers = {}) {
    let next = 1;
    this.answers = {
      start: () => DEVICE,
      load: () => ({ model: next++, info: MODEL }),
      encode: () => ({ image: next++, width: 4, height: 3 }),
      release: () => null,
      ...answers,
    };
  }

  postMessage<K extends Call>(message: CallRequest<K> | Control): void {
    const event: MessageEvent = new MessageEvent("message", { data: structuredClone(message) }); // clones, or throws, as a worker does
    const copy: Request = event.data;
    queueMicrotask(() => {
      if (this.terminated) return;
      this.heard.push(copy);
      if ("params" in copy) this.answer(copy);
    });
  }

  terminate(): void {
    this.terminated = true;
  }

  addEventListener(type: string, listener: (event: Heard) => void): void {
    this.listeners.set(type, listener);
  }

  /** As if the worker had posted it. Deaf when terminated, as a worker is. */
  say(...replies: Reply[]): void {
    for (const data of replies) this.deliver(new MessageEvent("message", { data }));
  }

  /** An error that nothing in the worker caught; without words: its script did not load. */
  fail(message: string): void {
    this.listeners.get("error")?.({ data: null, message, preventDefault() {} });
  }

  /** The id of the latest call of this kind. */
  idOf(kind: Request["kind"]): number {
    const last = this.heard.findLast(request => request.kind === kind);
    if (last === undefined) throw new Error(`the worker never heard ${kind}`);
    return last.id;
  }

  /** What every call of this kind was told, oldest first. */
  paramsOf<K extends Call>(kind: K): Calls[K]["params"][] {
    const isOfKind = (request: Request): request is Request & CallRequest<K> => request.kind === kind;
    return this.heard.filter(isOfKind).map(({ params }) => params);
  }

  count(kind: Request["kind"]): number {
    return this.heard.filter(request => request.kind === kind).length;
  }

  private deliver({ data }: MessageEvent): void {
    if (!this.terminated) this.listeners.get("message")?.({ data, message: "", preventDefault() {} });
  }

  private answer<K extends Call>({ kind, id, params }: CallRequest<K>): void {
    const result = this.answers[kind]?.(params, id);
    if (result === undefined) return;
    const data: Done<K> = { kind: "done", call: kind, id, result };
    this.deliver(new MessageEvent("message", { data }));
  }
}
