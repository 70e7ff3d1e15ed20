/** A load in one worker, and what of the model works already. */

import type { Connection, Resolve } from "./client.js";
import type { LoadedModel, LoadParams, Progress, Ready } from "./protocol.js";

/** In the order in which they are reached. */
const READY: readonly Ready[] = ["vision", "retrieval", "language"];

interface Point {
  readonly reached: Promise<LoadedModel>;
  resolve(loaded: LoadedModel): void;
  reject(error: unknown): void;
}

export interface HowToLoad {
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((progress: Progress) => void) | undefined;
  readonly locate?: Resolve | undefined;
}

export class Loading {
  readonly connection: Connection;
  private readonly points: Readonly<Record<Ready, Point>> = { vision: point(), retrieval: point(), language: point() };
  private readonly ending = new AbortController();

  constructor(connection: Connection, params: LoadParams, { signal, onProgress, locate }: HowToLoad) {
    this.connection = connection;
    const end = () => this.ending.abort(signal?.reason);
    if (signal?.aborted) end();
    else signal?.addEventListener("abort", end);
    connection
      .call("load", params, {
        signal: this.ending.signal,
        onProgress,
        locate,
        onMilestone: (milestone, loaded) => this.points[milestone].resolve(loaded),
      })
      .then(
        loaded => this.each(({ resolve }) => resolve(loaded)),
        (error: unknown) => this.each(({ reject }) => reject(error)),
      )
      .finally(() => signal?.removeEventListener("abort", end));
  }

  /** Its caller wanted it no more. */
  get aborted(): boolean {
    return this.ending.signal.aborted;
  }

  /** What works from that moment on. Rejects as the load does. */
  at(ready: Ready): Promise<LoadedModel> {
    return this.points[ready].reached;
  }

  /** Ends it, and frees what has come. */
  async end(): Promise<void> {
    const error = new Error("the model was disposed");
    this.ending.abort(error);
    // Where the load was over already, there is a model to free.
    const loaded = await this.points.language.reached.catch(() => null);
    if (loaded !== null && this.connection.alive) {
      await this.connection.call("release", { kind: "model", handle: loaded.model }).catch(() => {});
    }
  }

  private each(settle: (point: Point) => void): void {
    for (const ready of READY) settle(this.points[ready]);
  }
}

function point(): Point {
  let [resolve, reject]: [Point["resolve"], Point["reject"]] = [() => {}, () => {}];
  const reached = new Promise<LoadedModel>((yes, no) => {
    resolve = yes;
    reject = no;
  });
  reached.catch(() => {}); // told to whoever waits for it
  return { reached, resolve: loaded => resolve(loaded), reject: error => reject(error) };
}
