/** An answer that outlives its worker: written again in the next one, silently up to what was shown. */

import { Blip2Error } from "./error.js";
import type { GenerationOptions } from "./protocol.js";

/** Draws that nobody has given a seed are given one, so that they can be drawn again. */
export function repeatable(options: GenerationOptions): GenerationOptions {
  if (options.do_sample !== true || options.seed !== undefined) return options;
  const [seed = 0] = crypto.getRandomValues(new Uint32Array(1));
  return { ...options, seed };
}

/** What was shown of an answer, and what of it has been said again. */
export class Replay {
  private readonly emit: (piece: string) => void;
  private shown = "";
  private said = "";
  /** It has said something else than before: the rest cannot be joined to what was shown. */
  diverged = false;

  constructor(emit: (piece: string) => void) {
    this.emit = emit;
  }

  get text(): string {
    return this.shown;
  }

  /** From here on the answer is said from its beginning. */
  again(): void {
    this.said = "";
  }

  /** Hands on what is new of a piece. Returns false where it is not what was shown. */
  hear(piece: string): boolean {
    if (this.diverged) return false;
    this.said += piece;
    const known = Math.min(this.said.length, this.shown.length);
    this.diverged = this.said.slice(0, known) !== this.shown.slice(0, known);
    if (this.diverged) return false;
    const fresh = this.said.slice(this.shown.length);
    if (fresh !== "") {
      this.shown = this.said;
      this.emit(fresh);
    }
    return true;
  }
}

/** An answer that ended before it was whole: `error.partial` is what was shown of it. */
export function cutShort(error: unknown, partial: string): unknown {
  if (!(error instanceof Blip2Error)) return error;
  const { message, hint, retryable } = error;
  return new Blip2Error(error.code, error.facts, { message, hint, retryable, partial, cause: error });
}

export const wentOtherwise = (partial: string): Blip2Error =>
  new Blip2Error(
    "device-lost",
    { reason: "the new engine went on otherwise than the one that was lost" },
    { message: "the answer was lost with the engine, and said again it differs", hint: "Ask again.", retryable: true, partial },
  );
