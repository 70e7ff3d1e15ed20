/** What the wasm of the workbench exports beside the engine's own. It is built for tests and the bench alone, so its types are written here. */

export interface Own {
  default(options: { module_or_path: URL }): Promise<unknown>;
  readonly Reader: new (bytes: number) => Reader;
  /** On the CPU alone. */
  readonly Unfused?: new (
    configJson: string,
  ) => Unfused;
  readonly BenchContext: { create(configJson: string, quant: string): Promise<ContextRun> };
  readonly BenchProduct: { create(quant: string, rows: number, out: number, columns: number): Promise<ProductRun> };
  /** Each runs so many turns and returns how many operations that were. */
  multiplyAdd(turns: number): number;
  multiplyAddInt8(turns: number): number;
  /** Hashes so many bytes. */
  hash(bytes: number): void;
}

interface Freed {
  free(): void;
}

/** A buffer that is read in order, and nothing else. */
export interface Reader extends Freed {
  read(passes: number): void;
}

/** A model's operations one by one, as Burn has them, on random f32 weights. */
export interface Unfused extends Freed {
  encode(): void;
  /** Starts an answer behind so many positions. */
  begin(positions: number): void;
  /** One token more. */
  step(): void;
}

/** A language model with made-up weights behind caches that are taken as full. */
export interface ContextRun extends Freed {
  begin(positions: number): Promise<void>;
  /** So many tokens. */
  steps(count: number): Promise<void>;
}

export interface ProductRun extends Freed {
  /** Resolves when the device has done it so many times. */
  run(times: number): Promise<void>;
}

const NAMES = ["default", "Reader", "BenchProduct", "BenchContext", "multiplyAdd", "multiplyAddInt8", "hash"];

export async function startOwn(glue: string): Promise<Own> {
  const found: unknown = await import(glue);
  if (!isOwn(found)) throw new Error(`${glue} is not the bench's glue`);
  await found.default({ module_or_path: new URL(glue.replace(/\.js$/, "_bg.wasm")) });
  return found;
}

function isOwn(found: unknown): found is Own {
  return typeof found === "object" && found !== null && NAMES.every(name => name in found);
}
