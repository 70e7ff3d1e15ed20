/** What page and worker say to each other: one list of calls, types only. The unions are derived from it. */

import type { ErrorFacts } from "./error.js";

export interface Calls {
  /** Chooses the device and starts the engine. First and once; the other calls wait for it. */
  start: { params: StartParams; result: DeviceReport };
  load: { params: LoadParams; result: LoadedModel };
  inspect: { params: LoadParams; result: Inspection };
  encode: { params: EncodeParams; result: EncodedImage };
  /** Sends `piece` replies while it runs. */
  generate: { params: GenerateParams; result: Generated };
  release: { params: Handle; result: null };
  cache: { params: null; result: CacheReport };
  deleteModel: { params: { readonly url: string }; result: null };
  clearCache: { params: null; result: null };
}
export type Call = keyof Calls;

type Each<T extends { [K in Call]: unknown }> = T[Call];
export type CallRequest<K extends Call = Call> = { [P in K]: { readonly kind: P; readonly id: number; readonly params: Calls[P]["params"] } }[K];
/** Abort: the call fails at once. Stop: it ends with what there is. */
export type Control = { readonly kind: "abort"; readonly id: number } | { readonly kind: "stop"; readonly id: number };
export type Request = CallRequest | Control;

export type Done<K extends Call = Call> = {
  [P in K]: { readonly kind: "done"; readonly call: P; readonly id: number; readonly result: Calls[P]["result"] };
}[K];
export type Reply =
  | Each<{ [K in Call]: Done<K> }>
  | { readonly kind: "progress"; readonly id: number; readonly progress: Progress }
  | { readonly kind: "piece"; readonly id: number; readonly text: string }
  | { readonly kind: "error"; readonly id: number; readonly error: ErrorFacts }
  /** The instance trapped: nothing that was asked of it will be answered. */
  | { readonly kind: "dead"; readonly error: ErrorFacts };

export type DeviceKind = "webgpu" | "cpu";
export type DeviceWish = "auto" | DeviceKind;

/**
 * Why this device: it was asked for; a GPU was found; or what stood in the way of one: the page is not served over https, the browser has no WebGPU,
 * it offers no adapter, the adapter is only software, or the adapter was refused when the engine asked for it.
 */
export type DeviceReason = "asked" | "gpu" | "insecure" | "no-webgpu" | "no-adapter" | "software-adapter" | "start-failed";

export interface DeviceReport {
  readonly kind: DeviceKind;
  readonly name: string;
  readonly backend: string;
  /** No GPU behind it, though it was asked for: SwiftShader, lavapipe, WARP. */
  readonly software: boolean;
  readonly reason: DeviceReason;
  /** What the browser said of the adapter that was looked at, or of its refusal; may be empty. */
  readonly detail: string;
}

/** Where the two .wasm files are served from; absent: beside the worker. */
export interface WasmAddresses {
  readonly cpu?: string;
  readonly webgpu?: string;
}
export type StorageKind = "indexeddb" | "memory";

export interface StartParams {
  readonly device: DeviceWish;
  readonly wasm: WasmAddresses;
  readonly storage: StorageKind;
}

export interface LoadParams {
  readonly url: string;
  readonly integrity?: string;
  readonly request?: RequestOptions;
}
export interface RequestOptions {
  readonly headers?: Record<string, string>;
  readonly credentials?: "omit" | "same-origin" | "include";
}

export interface LoadedModel {
  readonly model: number;
  readonly info: ModelInfo;
}
export interface EncodeParams {
  readonly model: number;
  readonly bytes: Uint8Array<ArrayBuffer>;
}
/** width, height: of the upright picture. */
export interface EncodedImage {
  readonly image: number;
  readonly width: number;
  readonly height: number;
}
export interface GenerateParams {
  readonly image: number;
  readonly prompt: string;
  readonly options: GenerationOptions;
}
export interface Handle {
  readonly kind: "model" | "image";
  readonly handle: number;
}

/** Progress of a load, as transformers.js tells it, and of the whole in `totals` (bytes, bytes a second, seconds). */
export interface Progress {
  readonly status: "initiate" | "download" | "progress" | "done" | "ready";
  /** The model's address. */
  readonly name: string;
  /** Absent with `ready`, which comes once. */
  readonly file?: string;
  /** Of this file, 0–100. */
  readonly progress: number;
  readonly loaded: number;
  readonly total: number;
  /** With `done`: it came from the cache. */
  readonly cached?: boolean;
  readonly totals: Totals;
}
export interface Totals {
  readonly loaded: number;
  readonly total: number;
  readonly cached: number;
  readonly rate: number;
  readonly eta: number | null;
  readonly stage: Stage | null;
}
/** Parts of a model in the order they arrive. */
export type Stage = "vision" | "qformer" | "projection" | "language";
export type Quant = "f32" | "f16" | "q8" | "q4";

/** What a model folder's index says of itself. */
export interface IndexFacts {
  readonly parameters: number;
  readonly quantization: Readonly<Partial<Record<Stage, Quant>>>;
  readonly source: string | null;
  readonly licence: string | null;
  readonly ui: Ui;
  /** Bytes of each. */
  readonly stages: Readonly<Record<Stage, number>>;
  /** What the weights take on the device. */
  readonly deviceBytes: number;
}
/** How the model wants to be asked, in its maker's words. */
export interface Ui {
  readonly caption_prompt: string;
  /** Holds `{question}`. */
  readonly question_template: string;
  readonly suggestions: readonly string[];
  readonly licence_url?: string;
  /** One honest line. */
  readonly about?: string;
}
export interface Inspection {
  readonly url: string;
  readonly bytes: number;
  readonly cached: number;
  readonly index: IndexFacts;
}
export interface ModelInfo {
  readonly url: string;
  readonly bytes: number;
  /** Bytes of it that came from the cache. */
  readonly cached: number;
  /** Whether all of it is in the cache now; if not, `storageError` may say why. */
  readonly kept: boolean;
  readonly storageError: ErrorFacts | null;
  readonly device: DeviceKind;
  readonly index: IndexFacts;
}

export interface CacheReport {
  readonly storage: StorageKind;
  readonly persistent: boolean;
  readonly usage: number | null;
  readonly quota: number | null;
  /** Bytes of unfinished loads. */
  readonly loose: number;
  readonly models: readonly CachedModel[];
}
/** used: milliseconds since 1970. */
export interface CachedModel {
  readonly url: string;
  readonly bytes: number;
  readonly files: number;
  readonly used: number;
}

/** Options of HF's `generate` under HF's names: greedy search and all that shapes it. What the engine does not know is refused with `option-unsupported`. */
export interface GenerationOptions {
  /** New tokens alone; wins over max_length. 20 where nobody says how many. */
  readonly max_new_tokens?: number;
  /** Prompt and image tokens included. */
  readonly max_length?: number;
  readonly min_new_tokens?: number;
  readonly min_length?: number;
  readonly repetition_penalty?: number;
  readonly no_repeat_ngram_size?: number;
  readonly bad_words_ids?: readonly (readonly number[])[];
  readonly suppress_tokens?: readonly number[];
  readonly begin_suppress_tokens?: readonly number[];
  readonly forced_bos_token_id?: number;
  readonly forced_eos_token_id?: number | readonly number[];
  readonly eos_token_id?: number | readonly number[];
  readonly pad_token_id?: number;
}
/** text: the new text, trimmed. ids: image tokens, prompt and new ones. */
export interface Generated {
  readonly text: string;
  readonly ids: readonly number[];
  readonly finish: "eos" | "length" | "stopped";
  readonly timings: Timings;
}
/** tokens: the new ones. */
export interface Timings {
  readonly first_token_ms: number;
  readonly total_ms: number;
  readonly tokens: number;
}
