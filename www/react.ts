/**
 * blip2-web for React: a model as long as some component uses it.
 *
 * ```tsx
 * function Caption({ file }: { file: File }) {
 *   const { blip2, status, progress, error } = useBlip2("/models/demo");
 *   …
 * }
 * ```
 */

import { useMemo, useSyncExternalStore } from "react";
import { type Blip2, type Engine, type LoadOptions, sharedEngine, type Source } from "./engine.js";
import { type Blip2State, IDLE, Lease, leaseKey } from "./lease.js";

export type { Blip2State } from "./lease.js";

export type UseBlip2Options = Omit<LoadOptions, "signal" | "onProgress"> & {
  /** The engine to load into; the one that everybody shares, if absent. */
  readonly engine?: Engine;
};

/** What `useBlip2` gives: the state, and a way out of an error. */
export type UseBlip2 = Blip2State & {
  /** Loads again after an error. */
  readonly retry: () => void;
};

/**
 * Loads a model when the first component that uses it is there, and disposes of it when the last one is gone; a load that nobody waits for any more is
 * aborted. Components with the same source and options share one model, in one worker. On a server, and without a source, nothing is loaded.
 */
export function useBlip2(source: Source | null | undefined, { engine, ...options }: UseBlip2Options = {}): UseBlip2 {
  // Options are compared by what is in them: an object literal is another one at each render.
  const key = leaseKey(source, options);
  // biome-ignore lint/correctness/useExhaustiveDependencies: `key` stands for source and options
  const lease = useMemo(
    () => (source === null || source === undefined ? null : Lease.of(engine ?? sharedEngine(), key, source, options)),
    [engine, key],
  );
  const state = useSyncExternalStore(lease?.subscribe ?? subscribeToNothing, lease?.snapshot ?? nothing, nothing);
  return useMemo(() => ({ ...state, retry: lease?.retry ?? (() => {}) }), [state, lease]);
}

const nothing = (): Blip2State => IDLE;
const subscribeToNothing = () => () => {};

export type { Blip2 };
