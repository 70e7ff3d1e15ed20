/** A thread of Node, made to look like a page's worker before `worker.js` runs in it. */

import { openAsBlob } from "node:fs";
import { fileURLToPath } from "node:url";
import { parentPort } from "node:worker_threads";
import { DISK } from "./disk.js";

const port = parentPort;
if (port === null) throw new Error("node_worker.js is started as a thread");

const fetchFromNetwork = globalThis.fetch;

/** Files: the wasm beside this, and folders of models. */
async function fetchAll(input: string | URL | Request, init?: RequestInit): Promise<Response> {
  const address = new URL(input instanceof Request ? input.url : input);
  if (address.protocol !== "file:" && address.origin !== new URL(DISK).origin) return fetchFromNetwork(input, init);
  let file: Blob;
  try {
    file = await openAsBlob(fileURLToPath(`file://${address.pathname}`));
  } catch {
    return new Response(null, { status: 404 });
  }
  const type = address.pathname.endsWith(".wasm") ? "application/wasm" : "application/octet-stream";
  const response = new Response(file.stream(), { headers: { "content-type": type, "content-length": String(file.size) } });
  // The engine looks where an answer came from; one that was made here says nothing of it.
  return Object.defineProperty(response, "url", { value: address.href });
}

function addEventListener(type: string, listener: (event: unknown) => void): void {
  if (type === "message") port?.on("message", data => listener({ data }));
  if (type === "error") process.on("uncaughtException", error => listener({ error, message: error.message, preventDefault() {} }));
  if (type === "unhandledrejection") process.on("unhandledRejection", reason => listener({ reason, preventDefault() {} }));
}

Object.assign(globalThis, {
  self: globalThis,
  isSecureContext: true,
  fetch: fetchAll,
  addEventListener,
  postMessage: (message: unknown, transfer?: ArrayBuffer[]) => port.postMessage(message, transfer),
});
if (!("navigator" in globalThis)) Object.assign(globalThis, { navigator: {} });

await import(new URL("./worker.js", import.meta.url).href);
