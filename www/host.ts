/** What an engine needs of where it runs: a page, unless `node.ts` says otherwise. */

import type { WorkerLike } from "./client.js";
import { inputInvalid } from "./error.js";
import { askedOfExtension } from "./extension.js";
import type { StorageKind } from "./protocol.js";

export interface Host {
  /** What addresses without a scheme are relative to. */
  base(): string | undefined;
  /** The address by which the worker asks for what is at `url`: another one, where that lies at hand and not in a network. It knows those of the web alone. */
  asked(url: URL): URL;
  startWorker(): WorkerLike;
  /** Where models are kept, if nobody says where. */
  readonly storage: StorageKind;
  /** A picture by its address. */
  fetch(url: string, init: RequestInit): Promise<Response>;
}

const page: Host = {
  base: () => globalThis.document?.baseURI ?? globalThis.location?.href,
  asked: askedOfExtension,
  startWorker: () => {
    if (typeof Worker === "undefined") throw inputInvalid("worker", "there are no workers here: call this in a browser");
    return new Worker(new URL("./worker.js", import.meta.url), { type: "module" });
  },
  storage: "indexeddb",
  fetch: (url, init) => fetch(url, init),
};

let current = page;
export const host = (): Host => current;

/** From now on engines run there. */
export function runOn(other: Host): void {
  current = other;
}
