/** A model that several users share: loaded for the first, disposed of behind the last. Nothing here knows React. */

import type { Blip2, Engine, LoadOptions, Source } from "./engine.js";
import type { Progress } from "./protocol.js";

/** What a user sees; another object whenever something has changed. */
export interface Blip2State {
  readonly status: "idle" | "loading" | "ready" | "error";
  /** There when `status` is `ready`. */
  readonly blip2: Blip2 | null;
  /** The latest, while it is loading. */
  readonly progress: Progress | null;
  /** Why it is not there: a `Blip2Error`, unless something else is broken. */
  readonly error: unknown;
}

/** Nothing is asked for. */
export const IDLE: Blip2State = { status: "idle", blip2: null, progress: null, error: null };
const LOADING: Blip2State = { ...IDLE, status: "loading" };

/** What tells two loads apart. */
export const leaseKey = (source: Source | null | undefined, options: Omit<LoadOptions, "signal" | "onProgress">): string =>
  JSON.stringify([String(source), options]);

export class Lease {
  private static readonly ofEngine = new WeakMap<Engine, Map<string, Lease>>();

  /** The one that is in use already, or another. */
  static of(engine: Engine, key: string, source: Source, options: LoadOptions): Lease {
    let leases = Lease.ofEngine.get(engine);
    if (leases === undefined) {
      leases = new Map();
      Lease.ofEngine.set(engine, leases);
    }
    const found = leases.get(key) ?? new Lease(leases, key, (signal, onProgress) => engine.load(source, { ...options, signal, onProgress }));
    leases.set(key, found);
    return found;
  }

  private readonly leases: Map<string, Lease>;
  private readonly key: string;
  private readonly load: (signal: AbortSignal, onProgress: (progress: Progress) => void) => Promise<Blip2>;
  private readonly listeners = new Set<() => void>();
  // Whoever looks is about to wait for it: a component draws once before it is subscribed.
  private state = LOADING;
  private loading: AbortController | null = null;

  private constructor(leases: Map<string, Lease>, key: string, load: Lease["load"]) {
    this.leases = leases;
    this.key = key;
    this.load = load;
  }

  readonly snapshot = (): Blip2State => this.state;

  /** A user more; the function that it returns makes it one less. */
  readonly subscribe = (listener: () => void): (() => void) => {
    this.listeners.add(listener);
    this.leases.set(this.key, this);
    if (this.loading === null) this.start();
    return () => {
      this.listeners.delete(listener);
      // StrictMode, and a component that takes another's place, leave and come back at once.
      setTimeout(() => this.listeners.size === 0 && this.end());
    };
  };

  readonly retry = (): void => {
    if (this.state.status === "error" && this.listeners.size > 0) this.start();
  };

  private start(): void {
    const loading = new AbortController();
    this.loading = loading;
    const mine = () => this.loading === loading;
    this.become(LOADING);
    const onProgress = (progress: Progress) => mine() && this.become({ ...LOADING, progress });
    this.load(loading.signal, onProgress).then(
      blip2 => {
        if (mine()) this.become({ ...IDLE, status: "ready", blip2 });
        // It came though nobody wanted it any more.
        else void blip2.dispose();
      },
      (error: unknown) => mine() && this.become({ ...IDLE, status: "error", error }),
    );
  }

  private end(): void {
    this.loading?.abort();
    this.loading = null;
    if (this.leases.get(this.key) === this) this.leases.delete(this.key);
    void this.state.blip2?.dispose();
    this.state = LOADING;
  }

  private become(state: Blip2State): void {
    this.state = state;
    for (const listener of this.listeners) listener();
  }
}
