/** One worker from its start to its end: calls as promises, pieces and progress as callbacks, abort, stop, and what happens when it dies. */

import { Blip2Error, broken, fromFacts, inputInvalid, networkFailed, unreachable } from "./error.js";
import type {
  Answer,
  Call,
  CallRequest,
  Calls,
  Control,
  DeviceReport,
  Done,
  LoadedModel,
  Milestone,
  Progress,
  Question,
  Reply,
  StartParams,
  StorageDriver,
} from "./protocol.js";
import { asked, refusal } from "./questions.js";

/** The part of a Worker that is used: a page may bring its own. */
export interface WorkerLike {
  postMessage<K extends Call>(message: CallRequest<K> | Control, transfer: Transferable[]): void;
  terminate(): void;
  addEventListener(type: "message", listener: (event: { readonly data: Reply }) => void): void;
  addEventListener(type: "error", listener: (event: { readonly message: string; preventDefault(): void }) => void): void;
  addEventListener(type: "messageerror", listener: () => void): void;
}

export interface How {
  readonly signal?: AbortSignal | undefined;
  readonly transfer?: Transferable[];
  readonly onPiece?: (text: string) => void;
  readonly onProgress?: ((progress: Progress) => void) | undefined;
  readonly onMilestone?: (milestone: Milestone, loaded: LoadedModel) => void;
  /** Of a load: where each of its files is. */
  readonly locate?: Resolve | undefined;
}
/** The address of a file of a model folder, by its name. */
export type Resolve = (file: string) => string | URL | Promise<string | URL>;

interface Listening extends Pick<How, "onPiece" | "onProgress" | "onMilestone" | "locate"> {
  reject(error: unknown): void;
}
interface Pending<R> extends Listening {
  resolve(result: R): void;
}
type AllPending = { readonly [K in Call]: Map<number, Pending<Calls[K]["result"]>> };

/** A call under way: its result, and its early end. */
export interface Running<R> {
  readonly result: Promise<R>;
  stop(): void;
}

export class Connection {
  readonly device: Promise<DeviceReport>;
  private readonly worker: WorkerLike;
  private readonly pending: AllPending = {
    start: new Map(),
    load: new Map(),
    inspect: new Map(),
    encode: new Map(),
    generate: new Map(),
    attention: new Map(),
    rank: new Map(),
    similarities: new Map(),
    embedTexts: new Map(),
    embedImage: new Map(),
    matches: new Map(),
    config: new Map(),
    call: new Map(),
    generateIds: new Map(),
    process: new Map(),
    decode: new Map(),
    release: new Map(),
    cache: new Map(),
    deleteModel: new Map(),
    clearCache: new Map(),
  };
  private nextId = 1;
  private heard = false;
  private death: Blip2Error | null = null;
  private readonly driver: StorageDriver | null;

  /** `driver`: of the storage `custom`. */
  constructor(worker: WorkerLike, start: StartParams, driver: StorageDriver | null = null) {
    this.worker = worker;
    this.driver = driver;
    worker.addEventListener("message", ({ data }) => this.receive(data));
    worker.addEventListener("error", event => {
      event.preventDefault();
      this.die(
        this.heard || event.message ? broken(event.message || "the worker failed") : scriptMissing("its script is missing, or may not run here"),
      );
    });
    worker.addEventListener("messageerror", () => this.die(broken("a message of the worker could not be read")));
    this.device = this.call("start", start);
    // Without a device no call can be answered, and the next one shall try anew.
    this.device.catch((error: unknown) => this.die(error instanceof Blip2Error ? error : broken(String(error))));
  }

  get alive(): boolean {
    return this.death === null;
  }

  get idle(): boolean {
    return Object.values(this.pending).every(calls => calls.size === 0);
  }

  call<K extends Call>(kind: K, params: Calls[K]["params"], how: How = {}): Promise<Calls[K]["result"]> {
    return this.run(kind, params, how).result;
  }

  run<K extends Call>(kind: K, params: Calls[K]["params"], how: How = {}): Running<Calls[K]["result"]> {
    const id = this.nextId++;
    const { signal, transfer = [], onPiece, onProgress, onMilestone, locate } = how;
    const calls = this.pending[kind];
    const result = new Promise<Calls[K]["result"]>((resolve, reject) => {
      if (signal?.aborted) return reject(signal.reason);
      if (this.death !== null) return reject(this.death);
      const abort = () => {
        forget();
        this.post({ kind: "abort", id });
        reject(signal?.reason);
      };
      const forget = () => {
        calls.delete(id);
        signal?.removeEventListener("abort", abort);
      };
      signal?.addEventListener("abort", abort);
      calls.set(id, {
        resolve: value => {
          forget();
          resolve(value);
        },
        reject: error => {
          forget();
          reject(error);
        },
        ...(onPiece && { onPiece }),
        ...(onProgress && { onProgress }),
        ...(onMilestone && { onMilestone }),
        ...(locate && { locate }),
      });
      try {
        const request: CallRequest<K> = { kind, id, params };
        this.post(request, transfer);
      } catch (error) {
        forget();
        reject(inputInvalid("options", String(error))); // DataCloneError: a function or another thing that cannot travel
      }
    });
    return {
      result,
      stop: () => {
        if (calls.has(id)) this.post({ kind: "stop", id });
      },
    };
  }

  /** Ends the worker; everything that waits for it rejects with `error`. */
  die(error: Blip2Error): void {
    if (this.death !== null) return;
    this.death = error;
    this.worker.terminate();
    for (const calls of Object.values(this.pending)) {
      for (const call of [...calls.values()]) call.reject(error);
    }
  }

  private post<K extends Call>(message: CallRequest<K> | Control, transfer: Transferable[] = []): void {
    if (this.death === null) this.worker.postMessage(message, transfer);
  }

  private receive(reply: Reply): void {
    if (this.death !== null) return;
    this.heard = true;
    switch (reply.kind) {
      case "done":
        if (!this.settle(reply)) this.giveBack(reply);
        break;
      case "error":
        this.find(reply.id)?.reject(fromFacts(reply.error));
        break;
      case "piece":
        this.find(reply.id)?.onPiece?.(reply.text);
        break;
      case "progress":
        this.find(reply.id)?.onProgress?.(reply.progress);
        break;
      case "milestone":
        this.find(reply.id)?.onMilestone?.(reply.milestone, reply.loaded);
        break;
      case "ask":
        void this.answer(reply.id, reply.question);
        break;
      case "dead":
        this.die(fromFacts(reply.error));
        break;
      default:
        this.misunderstood(reply);
    }
  }

  private settle<K extends Call>(reply: Done<K>): boolean {
    const call = this.pending[reply.call].get(reply.id);
    call?.resolve(reply.result);
    return call !== undefined;
  }

  // Aborted while its last message was on the way: what it made has no owner.
  private giveBack(reply: Done): void {
    if (reply.call === "load") this.call("release", { kind: "model", handle: reply.result.model }).catch(() => {});
    if (reply.call === "encode") this.call("release", { kind: "image", handle: reply.result.image }).catch(() => {});
  }

  private async answer(id: number, question: Question): Promise<void> {
    try {
      const locate = question.of === "resolve" ? this.find(question.load)?.locate : undefined;
      const result: Answer = await asked(question, { driver: this.driver, locate });
      this.post({ kind: "answer", id, result });
    } catch (error) {
      this.post({ kind: "refusal", id, error: refusal(error) });
    }
  }

  private find(id: number): Listening | undefined {
    for (const calls of Object.values(this.pending)) {
      const call = calls.get(id);
      if (call !== undefined) return call;
    }
    return undefined;
  }

  // Page and worker are of different versions: no answer of this worker can be trusted.
  private misunderstood(reply: never): void {
    try {
      unreachable(reply);
    } catch (error) {
      this.die(error instanceof Blip2Error ? error : broken(String(error)));
    }
  }
}

export const scriptMissing = (reason: string): Blip2Error =>
  networkFailed(
    "worker.js",
    null,
    `the worker could not be started: ${reason}`,
    'Check the connection, the policy of the page, then the bundler: Vite before 8 needs optimizeDeps: { exclude: ["blip2-web"] }, some a copy of worker.js.',
  );
