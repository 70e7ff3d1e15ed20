/** Engine → model → picture → answer: what a developer holds in hand. All of it lives through the death of its worker. */

import { Chat, inWords, type Turn } from "./chat.js";
import { Connection, type Resolve, scriptMissing, type WorkerLike } from "./client.js";
import { Blip2Error, broken, fromFacts, inputInvalid } from "./error.js";
import { type AskOptions, type CallOptions, Generation, STOPPED_AT_ONCE } from "./generation.js";
import { host } from "./host.js";
import { imageBytes, type ImageInput } from "./image.js";
import { type HowToLoad, Loading } from "./loading.js";
import { isPicked, type Picked, picked } from "./picked.js";
import { cutShort, Replay, repeatable, wentOtherwise } from "./replay.js";
import type {
  Arithmetic,
  Attention,
  CacheReport,
  DeviceReport,
  DeviceWish,
  EncodedImage,
  FloatTensor,
  Generated,
  GenerateParams,
  Inspection,
  LoadParams,
  ModelInfo,
  Progress,
  Ready,
  RequestOptions,
  Scores,
  StartParams,
  StorageDriver,
  Task,
  WasmAddresses,
} from "./protocol.js";

export interface EngineOptions {
  /** `auto` (the default) takes WebGPU where there is a real GPU behind it, else the CPU. */
  readonly device?: DeviceWish;
  /** Starts the worker: for other origins, Trusted Types, or a bundler that needs to see it. */
  readonly worker?: () => WorkerLike;
  /** Where the two .wasm files are: their folder, or each on its own. Beside the worker, if absent. */
  readonly wasm?: string | URL | { readonly cpu?: string | URL; readonly webgpu?: string | URL };
  /** Where models are kept: the browser's own storage, or one that the caller brings. `memory`, which Node has by itself, forgets them with the worker. */
  readonly storage?: "indexeddb" | "memory" | StorageDriver;
}

export interface LoadOptions {
  readonly signal?: AbortSignal;
  readonly onProgress?: (progress: Progress) => void;
  /**
   * How much of the model `load` waits for: all of it (`language`) where absent; `retrieval` is all but the language model, so that pictures can be encoded.
   * The rest goes on arriving, and `signal` ends that, too. What needs it waits for it; `ready()` tells.
   */
  readonly until?: Ready;
  /** Where a file is, by its name: for hosts that sign each address. Asked when the file is due. */
  readonly resolve?: Resolve;
  /** Whether the model is kept in the cache: by itself it is, unless it lies on a disk (picked, an extension's own, a path in Node). */
  readonly keep?: boolean;
  /** `sha256-…` (base64) of the model's index, which holds the hashes of everything else. */
  readonly integrity?: string;
  /** For models that are not public. Never sent to another origin than the model's. */
  readonly request?: RequestOptions;
  /** HF's name of the class to make of the folder (`Blip2VisionModelWithProjection` of a `Blip2ForImageTextRetrieval`); the folder's own if absent. */
  readonly as?: string;
  /**
   * On the CPU, with q8 or q4 weights: `int8` (the default there) turns activations into 8-bit integers, which is several times as fast and changes
   * results by about 1 %; `exact` computes with the very weights. A GPU does so too, unless `f16` has it keep the keys and values of a
   * decoder's self-attention in half the memory and, where it computes in f16, compute pictures and prompts so, about 0.1 % off.
   */
  readonly arithmetic?: Arithmetic;
}
export type InspectOptions = Omit<LoadOptions, "onProgress" | "until" | "keep" | "as" | "arithmetic">;

/** A model folder: its address, or the folder itself, picked by the user. */
export type Source = string | URL | Picked;

export interface ModelCache {
  report(): Promise<CacheReport>;
  /** The address as in `report().models`. */
  delete(url: string): Promise<void>;
  clear(): Promise<void>;
}

export type CaptionOptions = AskOptions & {
  /** What the caption begins with; the model's own choice if absent. */
  readonly prompt?: string;
};

export type RankOptions = CallOptions & {
  /** How many of the best are looked at again, text and picture together (ITM), and ordered by that; they stay before the others. */
  readonly rerank?: number;
};
export interface Ranked extends Scores {
  readonly image: Blip2Image;
}
export type AttentionOptions = CallOptions & {
  /** The text that is explained: a caption, or an answer. */
  readonly for: string;
  /** What it continues: the prompt of that caption or answer; the caption's if absent. */
  readonly prompt?: string;
};

/** Lazy: nothing is started or fetched before the first call. */
export class Engine {
  readonly cache: ModelCache;
  private readonly startWorker: () => WorkerLike;
  private readonly start: StartParams;
  private readonly driver: StorageDriver | null;
  private readonly models = new Set<Blip2>();
  private current: Connection | null = null;
  private disposed = false;

  constructor(options: EngineOptions = {}) {
    const { device = "auto", worker = () => host().startWorker(), wasm, storage = host().storage } = options;
    this.startWorker = worker;
    this.driver = typeof storage === "string" ? null : storage;
    this.start = { device, wasm: wasmAddresses(wasm), storage: typeof storage === "string" ? storage : "custom" };
    this.cache = {
      report: async () => this.connect().call("cache", null),
      delete: async url => void (await this.connect().call("deleteModel", { url })),
      clear: async () => void (await this.connect().call("clearCache", null)),
    };
  }

  /** What the engine runs on, and why. Starts it. Errors: webgpu-unavailable, network. */
  async device(): Promise<DeviceReport> {
    return this.connect().device;
  }

  /** Fetches what is not in the cache, checks it, and readies the model. Several models may be loaded. */
  async load(source: Source, options: LoadOptions = {}): Promise<Blip2> {
    const { signal, onProgress, until = "language", resolve: locate } = options;
    const params = await loadParams(source, options);
    const loading = new Loading(this.connect(), params, { signal, onProgress, locate });
    const { info } = await loading.at(until);
    const blip2 = new Blip2(this, { params, locate }, info, loading);
    this.models.add(blip2);
    return blip2;
  }

  /** What a model is and how much of it is here already. Fetches its index alone. */
  async inspect(source: Source, options: InspectOptions = {}): Promise<Inspection> {
    const { signal, resolve: locate } = options;
    return this.connect().call("inspect", await loadParams(source, options), { signal, locate });
  }

  /** Ends the worker and frees all it holds. Calls under way reject with `aborted`. */
  async dispose(): Promise<void> {
    this.disposed = true;
    this.models.clear();
    this.current?.die(new Blip2Error("aborted", {}, { message: "the engine was disposed", hint: "", retryable: false }));
  }

  /** @internal */
  get isDisposed(): boolean {
    return this.disposed;
  }

  /** @internal The living worker, or a new one. */
  connect(): Connection {
    if (this.disposed) throw inputInvalid("engine", "it was disposed");
    if (!this.current?.alive) this.current = new Connection(this.newWorker(), this.start, this.driver);
    return this.current;
  }

  private newWorker(): WorkerLike {
    try {
      return this.startWorker();
    } catch (error) {
      if (error instanceof Blip2Error) throw error;
      throw scriptMissing(String(error)); // refused by a policy of the page, or from another origin
    }
  }

  /** @internal wasm memory never shrinks: with the last model the worker goes. */
  forget(blip2: Blip2): void {
    this.models.delete(blip2);
    if (this.models.size === 0 && this.current?.idle) {
      this.current.die(new Blip2Error("aborted", {}, { message: "the last model was disposed", hint: "", retryable: false }));
    }
  }
}

/** Something that lives in a worker, and is made anew in the next one. */
interface Held<T> {
  readonly connection: Connection;
  readonly value: Promise<T>;
}

/** handles: of the pictures, in their order. */
interface Whole {
  readonly connection: Connection;
  readonly model: number;
  readonly handles: readonly number[];
}

/** What a load was asked for, to ask for it again. */
interface Asked extends Pick<HowToLoad, "locate"> {
  readonly params: LoadParams;
}

/** A loaded model, or one of which a part is loaded. */
export class Blip2 {
  private readonly engine: Engine;
  private readonly asked: Asked;
  private known: ModelInfo;
  private loading: Loading | null;
  private disposed = false;

  /** @internal */
  constructor(engine: Engine, asked: Asked, info: ModelInfo, loading: Loading) {
    this.engine = engine;
    this.asked = asked;
    this.known = info;
    this.loading = loading;
    this.hear(loading);
  }

  /** What the model says of itself. How it came (`cached`, `kept`, `storageError`) is known when it is there whole. */
  get info(): ModelInfo {
    return this.known;
  }

  /**
   * Resolves when that much of the model works: its vision tower; all that sees pictures (`retrieval`); all of it (`language`). Rejects as the load does
   * when that cannot be.
   */
  async ready(part: Ready = "language", { signal }: CallOptions = {}): Promise<void> {
    await orAborted(this.inThisWorker().at(part), signal);
  }

  /** Why the model could not be kept in the cache; null if it could. */
  get storageError(): Blip2Error | null {
    return this.info.storageError === null ? null : fromFacts(this.info.storageError);
  }

  /** Whether the model can be asked for this. What it cannot do rejects at once with `input-invalid`. */
  can(task: Task): boolean {
    return this.info.can.includes(task);
  }

  /** Shows the model a picture; what it saw is kept until the Blip2Image is disposed. Errors: image-undecodable, image-too-large, file, network. */
  async encode(input: ImageInput, options: { readonly signal?: AbortSignal } = {}): Promise<Blip2Image> {
    const { signal } = options;
    const { bytes, decodedBy } = await imageBytes(input, signal);
    // A file on disk is read again if need be; other bytes travel to the worker, so a Blob keeps them out of this heap.
    const kept = input instanceof Blob && decodedBy === "engine" ? input : new Blob([bytes]);
    const loading = this.inThisWorker();
    const { connection } = loading;
    const { model } = await orAborted(loading.at("retrieval"), signal);
    const encoded = await connection.call("encode", { model, bytes }, { signal, transfer: [bytes.buffer] });
    const { width, height } = encoded;
    return new Blip2Image(this, { kept, decodedBy, width, height }, { connection, value: Promise.resolve(encoded) });
  }

  /** The pictures, which this model has seen, by how well they fit the text: best first. Needs `can("rank")`. */
  async rank(images: readonly Blip2Image[], text: string, { rerank, signal }: RankOptions = {}): Promise<Ranked[]> {
    this.needs("rank");
    const { connection, model, handles } = await this.whole(images, signal);
    const params = { model, images: handles, text, ...(rerank !== undefined && { rerank }) };
    const ranked = await connection.call("rank", params, { signal });
    return ranked.map(({ image: handle, itc, itm }) => {
      const image = images[handles.indexOf(handle)];
      if (image === undefined) throw broken(`picture ${handle} was ranked unasked`);
      return { image, itc, itm };
    });
  }

  /** How well each text fits each picture without looking again (ITC): cosines [texts, images], −1 to 1. Needs `can("rank")`. */
  async similarities(images: readonly Blip2Image[], texts: readonly string[], { signal }: CallOptions = {}): Promise<FloatTensor> {
    this.needs("rank");
    const { connection, model, handles } = await this.whole(images, signal);
    return connection.call("similarities", { model, images: handles, texts }, { signal });
  }

  /** Texts as vectors of length 1, [texts, width], for an index of one's own: the other half is `Blip2Image.embed`. Needs `can("rank")`. */
  async embed(texts: readonly string[], { signal }: CallOptions = {}): Promise<FloatTensor> {
    this.needs("rank");
    const { connection, model } = await this.whole([], signal);
    return connection.call("embedTexts", { model, texts }, { signal });
  }

  /** Frees the model. Its pictures keep answering until they are disposed or the worker ends; what compares them with texts needs it. */
  async dispose(): Promise<void> {
    if (this.disposed) return;
    this.disposed = true;
    await this.loading?.end();
    this.engine.forget(this);
  }

  /** @internal Neither it nor its engine was disposed. */
  get inUse(): boolean {
    return !this.disposed && !this.engine.isDisposed;
  }

  /** @internal Errors: input-invalid. */
  needs(task: Task): void {
    const { class: name, can } = this.info;
    if (!this.can(task)) throw inputInvalid(task, `a ${name} cannot do this; it can ${can.join(", ") || "be called by its HF class alone"}`);
  }

  /** @internal The worker that holds the model and these pictures; what was lost with the last one is made again first. */
  async whole(images: readonly Blip2Image[], signal: AbortSignal | undefined): Promise<Whole> {
    signal?.throwIfAborted();
    if (images.some(({ blip2 }) => blip2 !== this)) throw inputInvalid("images", "one of them was encoded by another model");
    const loading = this.inThisWorker();
    const { connection } = loading;
    const { model } = await orAborted(loading.at("language"), signal);
    const handles: number[] = [];
    // One after the other: many files at once would fill the memory.
    for (const image of images) {
      handles.push((await orAborted(image.inThisWorker().value, signal)).image);
    }
    return { connection, model, handles };
  }

  /**
   * @internal After the worker's death the model is loaded again, from the cache.
   * One reload serves all who wait for it: so no caller's signal ends it.
   */
  inThisWorker(): Loading {
    if (this.disposed) throw inputInvalid("model", "it was disposed");
    const connection = this.engine.connect();
    if (this.loading?.connection === connection) return this.loading;
    const { params, locate } = this.asked;
    const loading = new Loading(connection, params, { locate });
    this.loading = loading;
    this.hear(loading);
    return loading;
  }

  private hear(loading: Loading): void {
    loading.at("language").then(
      ({ info }) => {
        this.known = info;
      },
      () => {
        // The next call tries again, unless its caller wanted it no more.
        if (this.loading === loading && !loading.aborted) this.loading = null;
      },
    );
  }
}

interface Seen {
  readonly kept: Blob;
  readonly decodedBy: "engine" | "browser";
  readonly width: number;
  readonly height: number;
}

/** A picture that a model has seen. Every question about it reuses what was seen. */
export class Blip2Image {
  readonly width: number;
  readonly height: number;
  /** `browser` for formats that the engine cannot decode (HEIC, AVIF): their pixels may differ from one browser to the next. */
  readonly decodedBy: "engine" | "browser";
  /** The model that has seen it. */
  readonly blip2: Blip2;
  private readonly kept: Blob;
  private held: Held<EncodedImage> | null;
  private disposed = false;

  /** @internal */
  constructor(blip2: Blip2, seen: Seen, held: Held<EncodedImage>) {
    this.blip2 = blip2;
    this.width = seen.width;
    this.height = seen.height;
    this.decodedBy = seen.decodedBy;
    this.kept = seen.kept;
    this.held = held;
  }

  caption(options: CaptionOptions = {}): Generation<Generated> {
    const { prompt = this.blip2.info.index.ui.caption_prompt, ...rest } = options;
    return this.generate("caption", async () => prompt, rest);
  }

  /** Puts the question into the words that the model was trained with. */
  ask(question: string, options: AskOptions = {}): Generation<Generated> {
    return this.generate("ask", async () => inWords(this.blip2.info.index.ui.question_template, question), options);
  }

  /** A conversation about the picture: each question is asked with what was said before. `said` goes on from an earlier one. */
  chat(said: readonly Turn[] = []): Chat {
    const template = this.blip2.info.index.ui.question_template;
    return new Chat(template, (prompt, options) => this.generate("chat", prompt, options), said);
  }

  /** Where the model looks for each token of a text, in one pass. Needs `can("attention")`. */
  async attention(options: AttentionOptions): Promise<Attention> {
    const { for: text, prompt, signal } = options;
    this.blip2.needs("attention");
    signal?.throwIfAborted();
    const asked = prompt ?? (this.blip2.can("caption") ? this.blip2.info.index.ui.caption_prompt : undefined);
    const { connection, image } = await this.answerable(signal);
    return connection.call("attention", { image, text, ...(asked !== undefined && { prompt: asked }) }, { signal });
  }

  /**
   * The picture as vectors of length 1, [queries, width]. Its cosine with a text is the greatest of their dot products with the text's vector
   * (`Blip2.embed`). Needs `can("rank")`.
   */
  async embed({ signal }: CallOptions = {}): Promise<FloatTensor> {
    this.blip2.needs("rank");
    const { connection, image } = await this.answerable(signal);
    return connection.call("embedImage", { image }, { signal });
  }

  /** The probability of each text to be of the picture (ITM). Needs `can("match")`. */
  async match(texts: readonly string[], { signal }: CallOptions = {}): Promise<Float32Array> {
    this.blip2.needs("match");
    const { connection, model } = await this.blip2.whole([], signal);
    const { image } = await orAborted(this.inThisWorker().value, signal);
    return connection.call("matches", { model, image, texts }, { signal });
  }

  /** Frees what the model saw. */
  async dispose(): Promise<void> {
    if (this.disposed) return;
    this.disposed = true;
    if (!this.held?.connection.alive) return;
    const { connection, value } = this.held;
    await value.then(({ image }) => connection.call("release", { kind: "image", handle: image })).catch(() => {});
  }

  /** The prompt is asked for when its turn comes. */
  private generate(task: Task, prompt: () => Promise<string>, { signal, ...options }: AskOptions): Generation<Generated> {
    return new Generation(emit => {
      let stopped = false;
      let stop = () => {
        stopped = true;
      };
      const write = async (): Promise<Generated> => {
        this.blip2.needs(task);
        const asked = await orAborted(prompt(), signal);
        const params = { prompt: asked, options: repeatable(options) };
        const replay = new Replay(emit);
        try {
          return await attempt(params, replay);
        } catch (error) {
          if (!this.lost || signal?.aborted) throw error;
          replay.again();
          return await attempt(params, replay).catch((error: unknown) => {
            throw signal?.aborted ? error : cutShort(error, replay.text);
          });
        }
      };
      const attempt = async (params: Omit<GenerateParams, "image">, replay: Replay): Promise<Generated> => {
        const { connection, image } = await this.answerable(signal);
        if (stopped) return { ...STOPPED_AT_ONCE, text: replay.text.trim() };
        const running = connection.run("generate", { image, ...params }, { signal, onPiece: piece => replay.hear(piece) || running.stop() });
        stop = () => {
          stopped = true;
          running.stop();
        };
        const generated = await running.result;
        if (replay.diverged) throw wentOtherwise(replay.text);
        return generated;
      };
      return { done: write(), stop: () => stop() };
    });
  }

  /** The worker that holds the picture, and a model that can speak of it. */
  private async answerable(signal: AbortSignal | undefined): Promise<{ readonly connection: Connection; readonly image: number }> {
    const { connection, value } = this.inThisWorker();
    const { image } = await orAborted(value, signal);
    await orAborted(this.blip2.inThisWorker().at("language"), signal);
    return { connection, image };
  }

  /** Its worker has died, and was not ended by whoever uses it. */
  private get lost(): boolean {
    return !this.disposed && this.held !== null && !this.held.connection.alive && this.blip2.inUse;
  }

  /** @internal */
  inThisWorker(): Held<EncodedImage> {
    if (this.disposed) throw inputInvalid("image", "it was disposed");
    if (this.held?.connection.alive) return this.held;
    const loading = this.blip2.inThisWorker();
    const { connection } = loading;
    const encode = async () => {
      const bytes = new Uint8Array(await this.kept.arrayBuffer());
      const { model } = await loading.at("retrieval");
      return connection.call("encode", { model, bytes }, { transfer: [bytes.buffer] });
    };
    const held = { connection, value: encode() };
    this.held = held;
    held.value.catch(() => {
      if (this.held === held) this.held = null;
    });
    return held;
  }
}

/** The engine of all who bring none of their own. */
export function sharedEngine(): Engine {
  shared ??= new Engine();
  return shared;
}
let shared: Engine | undefined;

/** What lies on a disk already is not copied into a storage unasked. */
const KEPT_ALREADY = { keep: false };
const WEB = ["http:", "https:"];

/** @internal Errors: input-invalid, file. */
export async function loadParams(source: Source, { integrity, request, resolve, keep, as, arithmetic }: LoadOptions): Promise<LoadParams> {
  const options = {
    ...(integrity !== undefined && { integrity }),
    ...(keep !== undefined && { keep }),
    ...(as !== undefined && { as }),
    ...(arithmetic !== undefined && { arithmetic }),
  };
  if (isPicked(source)) return { ...KEPT_ALREADY, ...options, ...(await picked(source)) };
  let url: URL;
  try {
    url = new URL(source, host().base());
  } catch {
    throw inputInvalid("source", `${String(source)} is not an address`);
  }
  if (!url.pathname.endsWith("/")) url.pathname += "/";
  const signed = url.search === "" ? request : { query: url.search, ...request };
  url.search = "";
  const asked = host().asked(url);
  if (!WEB.includes(asked.protocol)) throw inputInvalid("source", `${asked.protocol} addresses cannot be loaded`);
  return {
    url: asked.href,
    ...(asked !== url && KEPT_ALREADY),
    ...(signed !== undefined && { request: signed }),
    ...(resolve !== undefined && { resolves: true }),
    ...options,
  };
}

function wasmAddresses(wasm: EngineOptions["wasm"]): WasmAddresses {
  const base = host().base();
  if (wasm === undefined) return {};
  if (typeof wasm === "string" || wasm instanceof URL) {
    const folder = new URL(wasm, base);
    if (!folder.pathname.endsWith("/")) folder.pathname += "/";
    return { cpu: new URL("blip2_cpu_bg.wasm", folder).href, webgpu: new URL("blip2_webgpu_bg.wasm", folder).href };
  }
  const { cpu, webgpu } = wasm;
  return { ...(cpu !== undefined && { cpu: new URL(cpu, base).href }), ...(webgpu !== undefined && { webgpu: new URL(webgpu, base).href }) };
}

function orAborted<T>(promise: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (signal === undefined) return promise;
  return new Promise((resolve, reject) => {
    const abort = () => reject(signal.reason);
    if (signal.aborted) abort();
    else signal.addEventListener("abort", abort);
    promise.then(resolve, reject).finally(() => signal.removeEventListener("abort", abort));
  });
}
