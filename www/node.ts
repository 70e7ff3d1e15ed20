/**
 * blip2-web in Node: the same, on the CPU, in a thread of its own. Folders and pictures may be paths; models are kept in memory.
 *
 * ```ts
 * const blip2 = await load("models/demo");
 * const image = await blip2.encode("picture.png");
 * console.log((await image.caption()).text);
 * ```
 */

import { openAsBlob } from "node:fs";
import { fileURLToPath, pathToFileURL } from "node:url";
import { Worker } from "node:worker_threads";
import type { WorkerLike } from "./client.js";
import { DISK } from "./disk.js";
import { runOn } from "./host.js";
import type { Reply } from "./protocol.js";

export { folderStorage } from "./folder_storage.js";
export * from "./index.js";

/** A thread as a page's worker looks. It keeps the process only while something has been asked of it. */
class Thread implements WorkerLike {
  // Options of the process are its script's business.
  private readonly worker = new Worker(new URL("./node_worker.js", import.meta.url), { execArgv: [] });
  private readonly asked = new Set<number>();

  constructor() {
    this.worker.on("message", (reply: Reply) => {
      if (reply.kind === "done" || reply.kind === "error") this.asked.delete(reply.id);
      if (reply.kind === "dead") this.asked.clear();
      this.keep();
    });
  }

  readonly postMessage: WorkerLike["postMessage"] = (message, transfer) => {
    if (message.kind === "abort") this.asked.delete(message.id);
    else if ("params" in message) this.asked.add(message.id);
    this.keep();
    // Bytes are all that is ever handed over.
    const bytes = transfer.filter(value => value instanceof ArrayBuffer);
    this.worker.postMessage(message, bytes);
  };

  readonly addEventListener: WorkerLike["addEventListener"] = (type: string, listener: (event: never) => void) => {
    const tell = (event: object) => Reflect.apply(listener, null, [{ preventDefault() {}, ...event }]);
    if (type === "message") this.worker.on("message", data => tell({ data }));
    if (type === "error") this.worker.on("error", error => tell({ message: String(error) }));
    if (type === "messageerror") this.worker.on("messageerror", () => tell({}));
  };

  terminate(): void {
    void this.worker.terminate();
  }

  private keep(): void {
    if (this.asked.size > 0) this.worker.ref();
    else this.worker.unref();
  }
}

/** The folder in which the process runs now. */
const here = (): string => pathToFileURL(`${process.cwd()}/`).href;

runOn({
  base: here,
  // The engine knows web addresses: the thread answers these from the disk.
  asked: url => (url.protocol === "file:" ? new URL(url.pathname, DISK) : url),
  startWorker: () => new Thread(),
  storage: "memory",
  fetch: async (url, init) => {
    const address = new URL(url, here());
    return address.protocol === "file:" ? new Response(await openAsBlob(fileURLToPath(address))) : fetch(address, init);
  },
});
