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
  attention: { params: AttentionParams; result: Attention };
  /** Best first. */
  rank: { params: RankParams; result: readonly RankedHandle[] };
  /** Cosines [texts, images]. */
  similarities: { params: SimilarityParams; result: FloatTensor };
  /** Vectors [texts, D]. */
  embedTexts: { params: EmbedTextsParams; result: FloatTensor };
  /** Vectors [queries, D]. */
  embedImage: { params: EmbedImageParams; result: FloatTensor };
  /** The probability of each text to be of the image. */
  matches: { params: MatchParams; result: Float32Array };
  /** A configuration of a folder or of JSON, whole; or one joined of three. */
  config: { params: ConfigParams; result: Readonly<Record<string, unknown>> };
  /** A method of the model's own class, under HF's names. */
  call: { params: CallParams; result: Readonly<Record<string, unknown>> };
  generateIds: { params: GenerateIdsParams; result: GeneratedIds };
  /** HF's `Blip2Processor.__call__`. */
  process: { params: ProcessParams; result: Processed };
  /** HF's `batch_decode`. */
  decode: { params: DecodeParams; result: readonly string[] };
  release: { params: Handle; result: null };
  cache: { params: null; result: CacheReport };
  deleteModel: { params: { readonly url: string }; result: null };
  clearCache: { params: null; result: null };
}
export type Call = keyof Calls;

type Each<T extends { [K in Call]: unknown }> = T[Call];
export type CallRequest<K extends Call = Call> = { [P in K]: { readonly kind: P; readonly id: number; readonly params: Calls[P]["params"] } }[K];
/** Abort: the call fails at once. Stop: it ends with what there is. Answer and refusal: of an `ask`. */
export type Control =
  | { readonly kind: "abort"; readonly id: number }
  | { readonly kind: "stop"; readonly id: number }
  | { readonly kind: "answer"; readonly id: number; readonly result: Answer }
  | { readonly kind: "refusal"; readonly id: number; readonly error: ErrorFacts };
export type Request = CallRequest | Control;

export type Done<K extends Call = Call> = {
  [P in K]: { readonly kind: "done"; readonly call: P; readonly id: number; readonly result: Calls[P]["result"] };
}[K];
export type Reply =
  | Each<{ [K in Call]: Done<K> }>
  | { readonly kind: "progress"; readonly id: number; readonly progress: Progress }
  | { readonly kind: "piece"; readonly id: number; readonly text: string }
  /** Of a load: what works before all of it does. `loaded.info` says what is known by then. */
  | { readonly kind: "milestone"; readonly id: number; readonly milestone: Milestone; readonly loaded: LoadedModel }
  /** The worker needs something of the page, and waits for an answer under this id. */
  | { readonly kind: "ask"; readonly id: number; readonly question: Question }
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
/** custom: a `StorageDriver` of the page. */
export type StorageKind = "indexeddb" | "memory" | "custom";

/**
 * Storage that the caller brings: files by name. What rejects with a `QuotaExceededError`, or with the code `storage-quota`, has no room; whatever else
 * it rejects with, models load without being kept.
 */
export interface StorageDriver {
  get(name: string): Promise<Uint8Array | null>;
  /** Replaces what was there, whole or not at all. */
  put(name: string, bytes: Uint8Array): Promise<void>;
  /** What is not there is deleted too. */
  delete(name: string): Promise<void>;
  list(): Promise<readonly string[]>;
  /** Bytes; null where they are unknown. persistent: nobody clears it but the user. */
  estimate(): Promise<StorageRoom>;
}
export interface StorageRoom {
  readonly usage: number | null;
  readonly quota: number | null;
  readonly persistent: boolean;
}

/** What a worker asks of its page. */
export type Question =
  /** Where a file of a load is: of the caller's `resolve`. */
  | { readonly of: "resolve"; readonly load: number; readonly file: string }
  | { readonly of: "get" | "delete"; readonly name: string }
  | { readonly of: "put"; readonly name: string; readonly bytes: Uint8Array<ArrayBuffer> }
  | { readonly of: "list" | "estimate" };
export type Answer = string | Uint8Array | readonly string[] | StorageRoom | null;

export interface StartParams {
  readonly device: DeviceWish;
  readonly wasm: WasmAddresses;
  readonly storage: StorageKind;
}

export interface LoadParams {
  readonly url: string;
  readonly integrity?: string;
  readonly request?: RequestOptions;
  /** HF's name of the class to make of the folder, where that is not the folder's own. */
  readonly as?: string;
  readonly arithmetic?: Arithmetic;
  /** Whether what comes is kept in the cache; it is, if absent. */
  readonly keep?: boolean;
  /** The worker asks where each file is. */
  readonly resolves?: boolean;
  /** The folder itself, by the names of its files: nothing is fetched. */
  readonly files?: ReadonlyMap<string, Blob>;
}
/** How a model computes: `int8` is of the CPU, with q8 and q4 weights, `f16` of a GPU, `exact` of both. */
export type Arithmetic = "exact" | "int8" | "f16";

/** Headers and credentials go to the model's own origin alone, and never along with a redirect. None of it is logged or kept. */
export interface RequestOptions {
  readonly headers?: Readonly<Record<string, string>>;
  readonly credentials?: "omit" | "same-origin" | "include";
  /** Other origins that a redirect may lead to (`https://cdn.example.org`): none where absent. */
  readonly origins?: readonly string[];
  /** What a signed address ends with, the same for every file; that of the model's address where absent. */
  readonly query?: string;
  /** Whole addresses of files, by name: signed ones, each for itself. */
  readonly addresses?: Readonly<Record<string, string>>;
}

export interface LoadedModel {
  readonly model: number;
  readonly info: ModelInfo;
}
export interface EncodeParams {
  readonly model: number;
  readonly bytes: Uint8Array<ArrayBuffer>;
}
/** image: its handle, which is the id that wasm gave it. width, height: of the upright picture. */
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
/** prompt: what the text continues; absent for a model that is not asked with one. */
export interface AttentionParams {
  readonly image: number;
  readonly prompt?: string;
  readonly text: string;
}
export interface RankParams {
  readonly model: number;
  readonly images: readonly number[];
  readonly text: string;
  readonly rerank?: number;
}
export interface SimilarityParams {
  readonly model: number;
  readonly images: readonly number[];
  readonly texts: readonly string[];
}
export interface EmbedTextsParams {
  readonly model: number;
  readonly texts: readonly string[];
}
export interface EmbedImageParams {
  readonly image: number;
}
export interface MatchParams {
  readonly model: number;
  readonly image: number;
  readonly texts: readonly string[];
}
export type ConfigPart = "Blip2Config" | "Blip2VisionConfig" | "Blip2QFormerConfig";
export type ConfigParams =
  | ({ readonly kind: "folder"; readonly part: ConfigPart } & LoadParams)
  | { readonly kind: "json"; readonly part: ConfigPart; readonly json: string }
  /** No text is OPT with its class's defaults. */
  | { readonly kind: "parts"; readonly vision: string; readonly qformer: string; readonly text?: string };
export interface CallParams {
  readonly method: string;
  readonly model: number;
  readonly inputs: Readonly<Record<string, unknown>>;
}
export interface GenerateIdsParams {
  readonly model: number;
  readonly inputs: Readonly<Record<string, unknown>>;
  readonly options: GenerationOptions;
}
/** images: the bytes of image files. */
export interface ProcessParams {
  readonly model: number;
  readonly images: readonly Uint8Array<ArrayBuffer>[] | null;
  readonly text: readonly string[] | null;
  readonly options: TextOptions;
}
export interface DecodeParams {
  readonly model: number;
  readonly rows: readonly (readonly number[])[];
  readonly skip_special_tokens: boolean;
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

/** What of a model works: its vision tower; all that sees pictures (`retrieval`), so that they are encoded; all of it. */
export type Ready = Milestone | "language";
export type Milestone = "vision" | "retrieval";

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
  /** What it takes while it works, in bytes. */
  readonly memory: number;
  /** Whether this device has it: `tight` where it is more than half of the machine's memory, as far as the browser tells; `no` where a load is refused. */
  readonly fits: "yes" | "tight" | "no";
  readonly index: IndexFacts;
}
/** What a model can be asked for. */
export type Task = "caption" | "ask" | "chat" | "attention" | "rank" | "match" | "embed";
export interface ModelInfo {
  /** HF's name of the class that was loaded. */
  readonly class: string;
  readonly can: readonly Task[];
  /** Parts whose weights another model of this engine had on the device already. */
  readonly shared: readonly Stage[];
  readonly url: string;
  readonly bytes: number;
  /** Bytes of it that came from the cache. */
  readonly cached: number;
  /** Whether all of it is in the cache now; if not, `storageError` may say why. */
  readonly kept: boolean;
  readonly storageError: ErrorFacts | null;
  readonly device: DeviceKind;
  /** What its weights are computed with. */
  readonly arithmetic: Arithmetic;
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

/**
 * Options of HF's `generate` under HF's names. What the engine does not know, or what has no effect beside the others, is refused with
 * `option-unsupported`. What is absent takes the model's own value, or HF's default.
 */
export interface GenerationOptions {
  /** New tokens alone; wins over max_length. 20 where nobody says how many. */
  readonly max_new_tokens?: number;
  /** Prompt and image tokens included. */
  readonly max_length?: number;
  /** New tokens alone; wins over min_length. */
  readonly min_new_tokens?: number;
  /** Prompt and image tokens included. */
  readonly min_length?: number;
  /** Tokens that were said become less likely above 1, more likely below. */
  readonly repetition_penalty?: number;
  /** No sequence of so many tokens comes twice. */
  readonly no_repeat_ngram_size?: number;
  /** Sequences of ids that never come. */
  readonly bad_words_ids?: readonly (readonly number[])[];
  /** Ids that never come. */
  readonly suppress_tokens?: readonly number[];
  /** Ids that do not come first. */
  readonly begin_suppress_tokens?: readonly number[];
  /** The id that comes first. */
  readonly forced_bos_token_id?: number;
  /** The id, or one of them, that comes last when the length runs out. */
  readonly forced_eos_token_id?: number | readonly number[];
  /** Ids that end the answer. */
  readonly eos_token_id?: number | readonly number[];
  /** Fills rows that ended before the others. */
  readonly pad_token_id?: number;
  /** Draw the next token instead of taking the likeliest. */
  readonly do_sample?: boolean;
  /** Scores are divided by it before a token is drawn. 1 where absent. */
  readonly temperature?: number;
  /** Draw among so many tokens; 0: among all. 50 where absent. */
  readonly top_k?: number;
  /** Draw among the likeliest tokens that have this probability together. 1, all, where absent. */
  readonly top_p?: number;
  /** Draw among tokens that have at least this part of the likeliest one's probability. 0, all, where absent. */
  readonly min_p?: number;
  /** Draw among the tokens closest to the expected information that have this probability together. 1, all, where absent. */
  readonly typical_p?: number;
  /** Not HF's, whose seed is global: the same seed draws the same tokens. Another one each time where absent. */
  readonly seed?: number;
  /** Sequences that are followed side by side, 1 to 64. Their text comes whole, at the end. */
  readonly num_beams?: number;
  /** How many `candidates`, 1 to 64; of beams at most num_beams. */
  readonly num_return_sequences?: number;
  /** Beams end as soon as there are num_beams answers (true), when a better one is unlikely (false), or when there cannot be one ("never"). */
  readonly early_stopping?: boolean | "never";
  /** A beam's score is divided by its number of new tokens to this power: above 0 favours long answers. 1 where absent. */
  readonly length_penalty?: number;
  /** Text that ends an answer, and stays in it. */
  readonly stop_strings?: string | readonly string[];
  /** Make log-probabilities of the scores again after they were processed. */
  readonly renormalize_logits?: boolean;
}
/** An end token, a stop string, no more room, or somebody's `stop()`. */
export type Finish = "eos" | "stop" | "length" | "stopped";
/** text: the best candidate's new text, trimmed. ids: image tokens, prompt and new ones; of T5 those of its decoder. */
export interface Generated {
  readonly text: string;
  readonly ids: readonly number[];
  readonly finish: Finish;
  readonly timings: Timings;
  /** num_return_sequences of them, best first where they have scores. */
  readonly candidates: readonly Candidate[];
}
export interface Candidate {
  readonly text: string;
  /** HF's `sequences_scores`: the sum of log-probabilities over length^length_penalty. Of beams alone. */
  readonly score: number | null;
}
/** tokens: the new ones. */
export interface Timings {
  readonly first_token_ms: number;
  readonly total_ms: number;
  readonly tokens: number;
}

/** Where a model looks while it says (or reads) each token of a text. */
export interface Attention {
  /** The text, in pieces. */
  readonly tokens: readonly string[];
  /** [tokens, queries]: which queries each token looks at. Null for a retrieval model, whose Q-Former reads the text itself. */
  readonly queries: Float32Array | null;
  /** [queries, rows, columns]: which patches of the picture each query looks at. */
  readonly patches: Float32Array;
  /** [tokens, rows, columns]: the patches behind each token; each token's sum to 1. */
  readonly map: Float32Array;
  readonly shape: { readonly tokens: number; readonly queries: number; readonly rows: number; readonly columns: number };
}

/** itc: cosine, −1 to 1. itm: the probability that the text is of the picture, of those that were looked at again. */
export interface Scores {
  readonly itc: number;
  readonly itm: number | null;
}
export interface RankedHandle extends Scores {
  readonly image: number;
}

/** Numbers in C order. */
export interface Tensor {
  readonly data: Float32Array | Int32Array;
  readonly shape: readonly number[];
}
export interface FloatTensor extends Tensor {
  readonly data: Float32Array;
}
/** sequences_scores: of beams alone. */
export interface GeneratedIds {
  readonly ids: readonly (readonly number[])[];
  readonly sequences_scores: readonly number[] | null;
  readonly finish: Finish;
}
/** How a batch of texts is made rectangular, as HF's tokenizers take it. max_length counts the image tokens. */
export interface TextOptions {
  /** `true` is "longest". */
  readonly padding?: boolean | "longest" | "max_length" | "do_not_pad";
  readonly padding_side?: "left" | "right";
  readonly truncation?: boolean;
  readonly max_length?: number;
}
/** pixel_values: [B, 3, H, W]. */
export interface Processed {
  readonly pixel_values?: Tensor;
  readonly input_ids?: readonly (readonly number[])[];
  readonly attention_mask?: readonly (readonly number[])[];
}
