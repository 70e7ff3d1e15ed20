/** What the bench page and its worker say to each other, and what they tell `scripts/bench.mjs`. Types only. */

export type DeviceKind = "cpu" | "webgpu";

/** What is measured: one model on one device. Addresses are absolute. */
export interface Task {
  readonly device: DeviceKind;
  readonly model: string;
  readonly pictures: readonly string[];
  /** What a generator is asked, and then asked about the same picture; a retrieval model ranks by the first. */
  readonly questions: readonly [string, string];
  /** Rounds at most, and seconds behind which no further one begins. Three there are always, but for `quick`. */
  readonly rounds: number;
  readonly seconds: number;
  /** One round and nothing warmed up: does it run at all? */
  readonly quick: boolean;
  /** Tokens of an answer; there is no end token. */
  readonly tokens: number;
  /** Loads over and over, from the network and from the cache, instead of answering. */
  readonly loads: boolean;
  /** The glue of the wasm with the bench's own functions. Null: only what the browser can do by itself is measured. */
  readonly own: string | null;
  /** Also the same operations one by one in f32, as Burn has them. */
  readonly unfused: boolean;
  /** How the language model is stored, to measure what a token costs behind long contexts; null: it is not measured. */
  readonly context: string | null;
  /** Products that are timed each by itself. */
  readonly products: readonly Product[];
  /** Answers with the nanoseconds that this worker's thread has run. */
  readonly clock: string;
}

/** Work that the engine says it gave to the device, and what the browser saw of it. */
export interface Counts {
  readonly dispatches: number;
  readonly submits: number;
  readonly readbacks: number;
  readonly bytes: number;
  readonly weights: number;
  /** Recorded steps that were replayed; their launches are among the dispatches. */
  readonly replays: number;
  /** All compute dispatches of the page, Burn's own included. */
  readonly all_dispatches: number;
}

/** Milliseconds, a number a round; `storage` and `upload` are parts of `load_cached`: IndexedDB had not answered yet, and inside of writeBuffer. */
export type Samples = Readonly<Record<string, readonly number[]>>;

/** What the machine can do, a number a round: bytes a second, operations a second (a multiply-add is two). */
export interface Limits {
  /** Read once, in order, from memory. */
  readonly bytes_per_second: readonly number[];
  /** The same from a buffer as large as the model's weights, which may lie in a cache. */
  readonly bytes_per_second_of_weights: readonly number[];
  readonly flop_per_second: readonly number[];
  /** Of eight-bit weights and activations, widened as wasm has to. */
  readonly int8_per_second: readonly number[];
}

/** x [rows, columns] with a packed matrix [out, columns]. */
export interface Product {
  readonly rows: number;
  readonly out: number;
  readonly columns: number;
  readonly quant: string;
}

export interface Outcome {
  readonly adapter: { readonly name: string; readonly backend: string; readonly software: boolean } | null;
  readonly model: ModelFacts | null;
  readonly samples: Samples;
  /** The worker's own time for one encode and one token, in milliseconds of its thread; empty where no one can tell. */
  readonly cpu: Samples;
  readonly counts: Readonly<Record<string, Counts>>;
  readonly limits: Limits | null;
  /** Milliseconds of each of the task's products. */
  readonly products: readonly number[];
  /** SHA-256 in the bench's own wasm; null where it was not asked for, or is not there. */
  readonly hash_bytes_per_second: number | null;
  /** Bytes of the engine's wasm memory, which never shrinks. */
  readonly wasm_memory: number;
  readonly rounds: number;
  /** Why it ended before its end; null where it did not. */
  readonly error: string | null;
}

export interface ModelFacts {
  readonly class: string;
  readonly parameters: number;
  readonly quantization: Readonly<Record<string, string>>;
  readonly bytes: number;
  readonly device_bytes: number;
}

export type Message =
  | { readonly kind: "phase"; readonly phase: string }
  | { readonly kind: "line"; readonly line: string }
  | { readonly kind: "end"; readonly outcome: Outcome };
