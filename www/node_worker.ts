/** A thread of Node, made to look like a page's worker before `worker.js` runs in it. */

import { openAsBlob } from "node:fs";
import { fileURLToPath } from "node:url";
import { parentPort } from "node:worker_threads";
import { DISK } from "./disk.js";
import { answerLocally } from "./local_fetch.js";

const port = parentPort;
if (port === null) throw new Error("node_worker.js is started as a thread");

// Files: the wasm beside this, and folders of models.
answerLocally(async address => {
  if (address.protocol !== "file:" && address.origin !== new URL(DISK).origin) return undefined;
  return openAsBlob(fileURLToPath(`file://${address.pathname}`)).catch(() => null);
});

function addEventListener(type: string, listener: (event: unknown) => void): void {
  if (type === "message") port?.on("message", data => listener({ data }));
  if (type === "error") process.on("uncaughtException", error => listener({ error, message: error.message, preventDefault() {} }));
  if (type === "unhandledrejection") process.on("unhandledRejection", reason => listener({ reason, preventDefault() {} }));
}

Object.assign(globalThis, {
  self: globalThis,
  isSecureContext: true,
  addEventListener,
  postMessage: (message: unknown, transfer?: ArrayBuffer[]) => port.postMessage(message, transfer),
});
if (!("navigator" in globalThis)) Object.assign(globalThis, { navigator: {} });

await import(new URL("./worker.js", import.meta.url).href);
