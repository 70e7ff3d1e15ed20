/** What goes wrong, with a stable code. `src/error.rs` holds the same codes and facts; `error.test.ts` compares the two. */

/** How a fact looks: `?` may be null. */
type Look = "string" | "number" | "number?" | "numbers";
type Looks = Readonly<Record<string, Look>>;
type FactOf<L extends Look> = L extends "string" ? string : L extends "number" ? number : L extends "number?" ? number | null : readonly number[];

const FACTS = {
  "webgpu-unavailable": { reason: "string" },
  "device-lost": { reason: "string" },
  "out-of-memory": { what: "string", needed: "number" },
  "config-invalid": { file: "string", reason: "string" },
  "input-invalid": { argument: "string", reason: "string" },
  "option-unsupported": { option: "string", reason: "string" },
  "image-undecodable": { reason: "string" },
  "image-too-large": { width: "number", height: "number", limit: "number" },
  "tokenizer-invalid": { reason: "string" },
  "model-unsupported": { what: "string", reason: "string" },
  "weight-missing": { key: "string" },
  "weight-shape": { key: "string", expected: "numbers", found: "numbers" },
  "weight-invalid": { file: "string", key: "string", reason: "string" },
  "checksum-mismatch": { file: "string", expected: "string", found: "string" },
  "size-mismatch": { file: "string", expected: "number", found: "number" },
  network: { url: "string", status: "number?", reason: "string" },
  "storage-quota": { what: "string" },
  "storage-unavailable": { reason: "string" },
  file: { path: "string", reason: "string" },
  aborted: {},
  kernel: { kernel: "string", reason: "string" },
} as const satisfies Record<string, Looks>;

export type Code = keyof typeof FACTS;
export type Facts<C extends Code = Code> = {
  [One in C]: { readonly [F in keyof (typeof FACTS)[One]]: (typeof FACTS)[One][F] extends Look ? FactOf<(typeof FACTS)[One][F]> : never };
}[C];

export const isCode = (code: string): code is Code => Object.hasOwn(FACTS, code);

/** Every code, in the order of `src/error.rs`. */
export const CODES: readonly Code[] = Object.keys(FACTS).filter(isCode);

/** The names of a code's facts. */
export const factsOf = (code: Code): readonly string[] => Object.keys(FACTS[code]);

/** An error as plain data: what crosses the worker, and what `src/api` rejects with. */
export interface ErrorFacts {
  readonly code: string;
  readonly message: string;
  readonly hint: string;
  readonly retryable: boolean;
  readonly facts: Readonly<Record<string, unknown>>;
}

/**
 * The only kind of error that blip2-web rejects with, except for an aborted call, which rejects with its signal's reason.
 * `message` is for developers, `hint` says what can be done, `facts` are the operands.
 */
export class Blip2Error<C extends Code = Code> extends Error {
  override readonly name = "Blip2Error";
  readonly code: C;
  readonly facts: Facts<C>;
  /** What the reader can do about it, in one sentence. */
  readonly hint: string;
  /** Whether the same call may succeed when it is made again. */
  readonly retryable: boolean;
  /** Of an answer whose engine died: what had been said of it. Absent of everything else. */
  readonly partial?: string;

  constructor(code: C, facts: Facts<C>, words: { message: string; hint: string; retryable: boolean; cause?: unknown; partial?: string }) {
    super(words.message, words.cause === undefined ? undefined : { cause: words.cause });
    this.code = code;
    this.facts = facts;
    this.hint = words.hint;
    this.retryable = words.retryable;
    if (words.partial !== undefined) this.partial = words.partial;
  }

  /** Narrows `facts`: `if (error.is("network")) error.facts.url`. */
  is<D extends Code>(code: D): this is Blip2Error<D> {
    const found: Code = this.code;
    return found === code;
  }
}

/** The plain data of an error, for the way through the worker. */
export function toFacts(error: Blip2Error): ErrorFacts {
  return { code: error.code, message: error.message, hint: error.hint, retryable: error.retryable, facts: { ...error.facts } };
}

/** The error behind plain data. What is not in the list above comes from another version of the engine: the worker counts as broken. */
export function fromFacts(plain: ErrorFacts): Blip2Error {
  const { code, message, hint, retryable } = plain;
  if (!isCode(code)) return broken(`${message} (${code})`);
  const facts = read(code, plain.facts);
  return facts === null ? broken(`${message} (${code})`) : new Blip2Error(code, facts, { message, hint, retryable });
}

/** What a caught value says, without its kind. */
export const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));

/** Whether a caught value is the plain data of an error. */
export function isErrorFacts(value: unknown): value is ErrorFacts {
  return (
    typeof value === "object" &&
    value !== null &&
    "code" in value &&
    typeof value.code === "string" &&
    "message" in value &&
    typeof value.message === "string" &&
    "hint" in value &&
    typeof value.hint === "string" &&
    "retryable" in value &&
    typeof value.retryable === "boolean" &&
    "facts" in value &&
    typeof value.facts === "object" &&
    value.facts !== null
  );
}

function read<C extends Code>(code: C, facts: Readonly<Record<string, unknown>>): Facts<C> | null {
  const looks: Looks = FACTS[code];
  const clean: Record<string, unknown> = {};
  for (const [name, look] of Object.entries(looks)) {
    const value = facts[name] ?? null;
    if (!looksLike(look, value)) return null;
    clean[name] = value;
  }
  return isFactsOf(code, clean) ? clean : null;
}

function isFactsOf<C extends Code>(code: C, facts: object): facts is Facts<C> {
  const looks: Looks = FACTS[code];
  return Object.entries(looks).every(([name, look]) => looksLike(look, Reflect.get(facts, name)));
}

function looksLike(look: Look, value: unknown): boolean {
  switch (look) {
    case "string":
      return typeof value === "string";
    case "number":
      return typeof value === "number";
    case "number?":
      return typeof value === "number" || value === null;
    case "numbers":
      return Array.isArray(value) && value.every(item => typeof item === "number");
    default:
      return unreachable(look);
  }
}

// What TypeScript itself finds wrong. Everything else comes from Rust with its own words.

export const inputInvalid = (argument: string, reason: string): Blip2Error =>
  new Blip2Error(
    "input-invalid",
    { argument, reason },
    { message: `${argument}: ${reason}`, hint: "See the documentation of this option.", retryable: false },
  );

export const imageUndecodable = (reason: string): Blip2Error =>
  new Blip2Error(
    "image-undecodable",
    { reason },
    {
      message: `this is not an image that can be read: ${reason}`,
      hint: "PNG, JPEG, WebP, GIF and BMP can be read.",
      retryable: false,
    },
  );

export const fileUnreadable = (path: string, reason: string): Blip2Error =>
  new Blip2Error("file", { path, reason }, { message: `${path}: ${reason}`, hint: "Check the path and its permissions.", retryable: false });

export const networkFailed = (
  url: string,
  status: number | null,
  reason: string,
  hint = "Check the connection and the address, then try again.",
): Blip2Error =>
  new Blip2Error(
    "network",
    { url, status, reason },
    {
      message: `${url}: ${reason}`,
      hint,
      retryable: status === null || status === 429 || status >= 500,
    },
  );

export const webgpuUnavailable = (reason: string): Blip2Error =>
  new Blip2Error(
    "webgpu-unavailable",
    { reason },
    {
      message: `WebGPU is not available: ${reason}`,
      hint: 'Use the CPU (device "cpu"), or a browser and a driver with WebGPU.',
      retryable: false,
    },
  );

/**
 * The worker died: a trap, a lost device, no memory. A trap tells no more than its message, so the message is what the code is read from.
 * Retryable, because the next call starts a new worker.
 */
export function broken(reason: string): Blip2Error {
  if (/out of memory|allocation failed|memory access out of bounds|could not allocate/i.test(reason)) {
    return new Blip2Error(
      "out-of-memory",
      { what: "the engine", needed: 0 },
      {
        message: `out of memory: ${reason}`,
        hint: "Close other tabs, or choose a smaller model or a stronger quantization.",
        retryable: true,
      },
    );
  }
  if (/device.{0,12}lost/i.test(reason)) {
    return new Blip2Error(
      "device-lost",
      { reason },
      {
        message: `the GPU device was lost: ${reason}`,
        hint: "Load the model again; the files are still in the cache.",
        retryable: true,
      },
    );
  }
  return new Blip2Error(
    "kernel",
    { kernel: "worker", reason },
    {
      message: `the engine stopped: ${reason}`,
      hint: "Try once more: it is started again. If it stays so, please report this.",
      retryable: true,
    },
  );
}

/** The end of a switch over a union: the compiler proves that nothing comes here. */
export function unreachable(value: never): never {
  throw broken(`unknown message ${JSON.stringify(value)}`);
}
