//! The shapes of plain values that cross to JavaScript, for the `.d.ts` that wasm-bindgen writes.

use wasm_bindgen::prelude::*;

#[wasm_bindgen(typescript_custom_section)]
const TYPES: &str = r#"
/** What every failure rejects with, or throws. `facts`: the fields of the error. */
export interface WasmError { code: string; message: string; hint: string; retryable: boolean; facts: Record<string, unknown> }
export interface RuntimeOptions { storage?: "indexeddb" | "memory" | "custom" }
export interface Adapter {
  name: string; backend: string; software: boolean; subgroups: boolean; f16: boolean; kind: "cpu" | "webgpu";
  /** Which of their ways kernels take: `device::Tuning`. */
  tuning: Record<string, boolean> | null;
}
export interface LoadOptions {
  /** `sha256-…` of the index, and through it of every file. */
  integrity?: string;
  request?: {
    readonly headers?: Readonly<Record<string, string>>;
    readonly credentials?: "omit" | "same-origin" | "include";
    readonly origins?: readonly string[];
    readonly query?: string;
    readonly addresses?: Readonly<Record<string, string>>;
  };
  /** Whether what comes is kept in the cache; it is, if absent. */
  keep?: boolean;
  /** Where each file is fetched from: a promise of its address. */
  resolve?: (file: string) => Promise<string>;
  /** One of HF's classes, where it is not the one that was saved. */
  as?: string;
  /** On the CPU, of q8 and q4 weights: "int8" (the default there) is several times as fast and about 1 % off, "exact" is not. On a GPU, "f16" keeps the keys and values of a decoder's self-attention in half the memory and, where the GPU computes in f16, computes pictures and prompts so, about 0.1 % off. */
  arithmetic?: Arithmetic;
}
export type Arithmetic = "exact" | "int8" | "f16";
/** As transformers.js sends them. Bytes are of the file; those of `ready`, which comes once and without a file, of the model. */
export interface Progress {
  status: "initiate" | "download" | "progress" | "done" | "ready";
  name: string;
  file?: string;
  /** 0 to 100 */
  progress: number;
  loaded: number;
  total: number;
  /** With `done`: whether the file came from the cache. */
  cached?: boolean;
  totals: Totals;
}
/** Of all files: bytes, bytes a second, seconds left. */
export interface Totals { loaded: number; total: number; cached: number; rate: number; eta: number | null; stage: Stage | null }
/** memory: what it takes while it works. fits: `tight` where that is more than half of the machine's memory, as far as it is known. */
export interface Inspection { url: string; bytes: number; cached: number; memory: number; fits: "yes" | "tight" | "no"; index: IndexFacts }
export interface CacheReport {
  storage: "indexeddb" | "memory" | "custom";
  persistent: boolean;
  usage: number | null;
  quota: number | null;
  /** Bytes that belong to no whole model: loads that were cut short. */
  loose: number;
  models: CachedModel[];
}
/** used: milliseconds since 1970 */
export interface CachedModel { url: string; bytes: number; files: number; used: number }
/** What of a model works before all of it does: its vision tower, which other models may share; all but its language model. */
export type Milestone = "vision" | "retrieval";
/** cached, kept and storageError say something of a model that is loaded whole. */
export interface ModelInfo {
  url: string;
  bytes: number;
  cached: number;
  /** Whether it is in the cache now; if not, why. */
  kept: boolean;
  storageError: WasmError | null;
  device: "cpu" | "webgpu";
  arithmetic: Arithmetic;
  index: IndexFacts;
  /** Parts whose weights another model of this engine had on the device already. */
  shared: Stage[];
  /** HF's name of it. */
  class: string;
  can: Task[];
}
export type Task = "caption" | "ask" | "chat" | "attention" | "rank" | "match" | "embed";
export type Stage = "vision" | "qformer" | "projection" | "language";
export type Quant = "f32" | "f16" | "q8" | "q4";
/** stages: bytes of each; deviceBytes: what the weights take on the device. */
export interface IndexFacts {
  parameters: number;
  quantization: Partial<Record<Stage, Quant>>;
  source: string | null;
  licence: string | null;
  ui: Ui;
  stages: Record<Stage, number>;
  deviceBytes: number;
}
/** How the model wants to be asked; `{question}` in the template is replaced. */
export interface Ui { caption_prompt: string; question_template: string; suggestions: string[]; licence_url?: string; about?: string }
/** HF's snake_case. An unknown one fails with "option-unsupported". */
export type GenerationOptions = Record<string, unknown>;
/** `text`: the new text, trimmed; `ids`: image tokens, prompt and new ones. */
export interface Generated { text: string; ids: number[]; finish: Finish; timings: Timings; candidates: Candidate[] }
/** score: HF's sequences_scores, of beams alone. */
export interface Candidate { text: string; score: number | null }
/** stop: one of stop_strings was said. stopped: by the caller. */
export type Finish = "eos" | "stop" | "length" | "stopped";
/** Elements in order. */
export interface Tensor { data: Float32Array; shape: number[] }
/** An image of a rank: `image` is its id, `itc` a cosine, `itm` a probability where it was matched. */
export interface Ranked { image: number; itc: number; itm: number | null }
/** map [tokens, rows, columns] is the product of queries [tokens, Q] and patches [Q, rows, columns]; each token's sums to 1. */
export interface Attention {
  tokens: string[];
  queries: Float32Array;
  patches: Float32Array;
  map: Float32Array;
  shape: { tokens: number; queries: number; rows: number; columns: number };
}
/** HF's sequences, and scores of beams. */
export interface GeneratedIds { ids: number[][]; sequences_scores: number[] | null; finish: Finish }
/** What a processor makes of images and texts. */
export interface Processed { pixel_values?: Tensor; input_ids?: number[][]; attention_mask?: number[][] }
export interface Timings { first_token_ms: number; total_ms: number; tokens: number }
export interface Launches { dispatches: number; readbacks: number; bytes: number; weights: number; replays: number }
"#;
