/** What the machine can do, measured between the rounds of what it does. */

import { gpuLimits, type GpuLimits } from "./gpu_limits.js";
import type { DeviceKind, Limits as Found } from "./messages.js";
import type { Own, Reader } from "./own.js";

/** More than any cache holds. */
const MEMORY = 256 << 20;
/** A measurement is at least so long. */
const MS = 8;

/** Runs `work` often enough for a clock to tell, and returns the milliseconds of once. */
export class Often {
  #times = 1;

  measure(work: (times: number) => void): number {
    for (;;) {
      const start = performance.now();
      work(this.#times);
      const ms = performance.now() - start;
      if (ms >= MS) return ms / this.#times;
      this.#times = Math.ceil(this.#times * Math.min(16, Math.max(1.5, (1.2 * MS) / ms)));
    }
  }
}

export class Limits {
  readonly found: Record<keyof Found, number[]> = {
    bytes_per_second: [],
    bytes_per_second_of_weights: [],
    flop_per_second: [],
    int8_per_second: [],
  };
  #own: Own | null = null;
  #readers: readonly [Reader, Reader] | null = null;
  #gpu: GpuLimits | null = null;
  #bytes = 0;
  readonly #often = [new Often(), new Often(), new Often(), new Often()] as const;

  /** `bytes`: of the weights that one token reads. */
  static async of(device: DeviceKind, own: Own | null, bytes: number): Promise<Limits> {
    const limits = new Limits();
    if (device === "webgpu") limits.#gpu = await gpuLimits();
    else if (own !== null) {
      limits.#own = own;
      limits.#bytes = Math.min(MEMORY, Math.max(1 << 16, bytes));
      limits.#readers = [new own.Reader(MEMORY), new own.Reader(limits.#bytes)];
    }
    return limits;
  }

  async measure(): Promise<void> {
    const { found } = this;
    if (this.#gpu !== null) {
      const bytes = await this.#gpu.read();
      found.bytes_per_second.push(bytes);
      found.bytes_per_second_of_weights.push(bytes);
      found.flop_per_second.push(await this.#gpu.multiplyAdd());
    }
    if (this.#own === null || this.#readers === null) return;
    const [own, [memory, weights]] = [this.#own, this.#readers];
    const [a, b, c, d] = this.#often;
    found.bytes_per_second.push(MEMORY / (a.measure(times => memory.read(times)) / 1e3));
    found.bytes_per_second_of_weights.push(this.#bytes / (b.measure(times => weights.read(times)) / 1e3));
    const turns = 1 << 12;
    const [flop, int8] = [own.multiplyAdd(turns), own.multiplyAddInt8(turns)];
    found.flop_per_second.push(flop / (c.measure(times => own.multiplyAdd(turns * times)) / 1e3));
    found.int8_per_second.push(int8 / (d.measure(times => own.multiplyAddInt8(turns * times)) / 1e3));
  }

  free(): void {
    for (const reader of this.#readers ?? []) reader.free();
    this.#gpu?.free();
  }
}
