/** An answer that is being written: its pieces as they come, and the whole when it is done. */

import type { Generated, GenerationOptions } from "./protocol.js";

export interface CallOptions {
  readonly signal?: AbortSignal;
}
export type AskOptions = GenerationOptions & CallOptions;

/** The answer of a call that was stopped before there was any. */
export const STOPPED_AT_ONCE: Generated = {
  text: "",
  ids: [],
  finish: "stopped",
  timings: { first_token_ms: 0, total_ms: 0, tokens: 0 },
  candidates: [],
};

/** What does the work: hands pieces over through `emit`, and resolves or rejects once. */
export type Writing<R> = (emit: (piece: string) => void) => { readonly done: Promise<R>; stop(): void };

type Ending = { readonly ok: true } | { readonly ok: false; readonly error: unknown };

/**
 * Starts at once. `for await` gives the pieces, from the first one, however late and however often it is asked; `await` gives the result.
 * Leaving the last loop early stops the work, as nobody listens any more. An abort rejects both ways with the signal's reason.
 */
export class Generation<R> implements AsyncIterable<string>, PromiseLike<R> {
  private readonly pieces: string[] = [];
  private readonly done: Promise<R>;
  private readonly work: { stop(): void };
  private ending: Ending | null = null;
  private listeners = 0;
  private wake: (() => void)[] = [];

  /** @internal */
  constructor(write: Writing<R>) {
    const { done, stop } = write(piece => {
      this.pieces.push(piece);
      this.notify();
    });
    this.done = done;
    this.work = { stop };
    // Whoever iterates meets the error there: it must not count as unhandled because nobody awaits as well.
    done.then(
      () => this.end({ ok: true }),
      (error: unknown) => this.end({ ok: false, error }),
    );
  }

  /** Ends early, with what there is: the result resolves with the text so far and `finish: "stopped"`. */
  stop(): void {
    if (this.ending === null) this.work.stop();
  }

  // biome-ignore lint/suspicious/noThenProperty: being awaitable is the point
  then<A = R, B = never>(
    onResult?: ((result: R) => A | PromiseLike<A>) | null,
    onError?: ((error: unknown) => B | PromiseLike<B>) | null,
  ): Promise<A | B> {
    return this.done.then(onResult, onError);
  }

  catch<B = never>(onError?: ((error: unknown) => B | PromiseLike<B>) | null): Promise<R | B> {
    return this.done.catch(onError);
  }

  finally(onEnd?: (() => void) | null): Promise<R> {
    return this.done.finally(onEnd);
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<string, void, undefined> {
    this.listeners += 1;
    try {
      for (let next = 0; ; next++) {
        while (next >= this.pieces.length && this.ending === null) await new Promise<void>(resolve => this.wake.push(resolve));
        const piece = this.pieces[next];
        if (piece !== undefined) yield piece;
        else if (this.ending?.ok === false) throw this.ending.error;
        else return;
      }
    } finally {
      this.listeners -= 1;
      if (this.listeners === 0) this.stop();
    }
  }

  private end(ending: Ending): void {
    this.ending = ending;
    this.notify();
  }

  private notify(): void {
    const waiting = this.wake;
    this.wake = [];
    for (const resolve of waiting) resolve();
  }
}
