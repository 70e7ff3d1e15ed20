/** A checkpoint folder into a model folder, in Node: the converter is wasm, the folders are this file's. What `src/convert/folder.rs` is natively. */

import * as fs from "node:fs";
import * as path from "node:path";
import { broken, fileUnreadable, fromFacts, isErrorFacts, messageOf } from "./error.js";
import { type ConvertOptions, convert, type Disk, initSync } from "./wasm/blip2_convert.js";

export interface Conversion extends ConvertOptions {
  readonly dst: string;
  /** Replace `dst` if it is there. */
  readonly force: boolean;
  /** Told how far the work is, in bytes of the source. */
  onProgress(done: number, total: number, tensor: string): void;
}

/** What a source begins with that is no folder. */
const SCHEME = "synthetic:";

/** Writes `dst` whole or not at all, and gives the summary for people. Errors: those of the native program. */
export function convertFolder({ dst, force, onProgress, ...options }: Conversion): string {
  const src = options.src.startsWith(SCHEME) ? null : options.src;
  check(src, dst, force);
  const folder = new Unfinished(dst);
  const disk = new Lender(src, folder, onProgress);
  try {
    initSync({ module: fs.readFileSync(new URL("./wasm/blip2_convert_bg.wasm", import.meta.url)) });
    const summary = convert(disk, options);
    folder.finish();
    return summary;
  } catch (error) {
    if (isErrorFacts(error)) throw fromFacts(error);
    throw error instanceof WebAssembly.RuntimeError || error instanceof RangeError ? broken(error.message) : error;
  } finally {
    disk.close();
    folder.discard();
  }
}

/** Refuses a `dst` that holds something, unless `force`, and always one whose replacement would take the source with it. */
function check(src: string | null, dst: string, force: boolean): void {
  if (!fs.existsSync(dst)) return;
  const found = told(dst, () => fs.realpathSync(dst));
  if (src !== null) {
    const inside = path.relative(
      found,
      told(src, () => fs.realpathSync(src)),
    );
    const outside = inside === ".." || inside.startsWith(`..${path.sep}`) || path.isAbsolute(inside);
    if (!outside) throw fileUnreadable(dst, "holds the source, which would be lost");
  }
  const entries = told(dst, () => fs.readdirSync(dst));
  if (entries.length > 0 && !force) throw fileUnreadable(dst, "is there already; --force replaces it");
}

/** What a call of `fs` gives, or its failure under the path's name. */
export function told<T>(file: string, call: () => T): T {
  try {
    return call();
  } catch (error) {
    throw fileUnreadable(file, messageOf(error));
  }
}

/** A folder under a name of its own until it is whole. It is made by its first file. */
class Unfinished {
  private readonly dst: string;
  private readonly path: string;
  private state: "none" | "begun" | "finished" = "none";

  constructor(dst: string) {
    this.dst = dst;
    const whole = path.resolve(dst);
    this.path = path.join(path.dirname(whole), `.${path.basename(whole)}.${process.pid}.unfinished`);
  }

  write(name: string, bytes: Uint8Array): void {
    if (this.state === "none") {
      // Left by a killed process that had the same number: in containers they repeat.
      fs.rmSync(this.path, { recursive: true, force: true });
      fs.mkdirSync(this.path, { recursive: true });
      this.state = "begun";
    }
    fs.writeFileSync(path.join(this.path, name), bytes);
  }

  /** Takes the place of `dst`; what was there comes back if that fails. */
  finish(): void {
    const old = `${this.path}.replaced`;
    const replaces = fs.existsSync(this.dst);
    if (replaces) told(this.dst, () => fs.renameSync(this.dst, old));
    try {
      told(this.dst, () => fs.renameSync(this.path, this.dst));
    } catch (error) {
      if (replaces) told(old, () => fs.renameSync(old, this.dst));
      throw error;
    }
    this.state = "finished";
    if (replaces) told(old, () => fs.rmSync(old, { recursive: true, force: true }));
  }

  /** Leaves nothing of a folder that is not whole. */
  discard(): void {
    if (this.state === "begun") fs.rmSync(this.path, { recursive: true, force: true });
  }
}

/** Node's files as the converter asks for them. */
class Lender implements Disk {
  private readonly open = new Map<string, number>();
  private total = 0;
  private done = 0;
  private readonly src: string | null;
  private readonly folder: Unfinished;
  private readonly onProgress: Conversion["onProgress"];

  constructor(src: string | null, folder: Unfinished, onProgress: Conversion["onProgress"]) {
    this.src = src;
    this.folder = folder;
    this.onProgress = onProgress;
  }

  size(name: string): number | undefined {
    const found = this.src === null ? undefined : fs.statSync(path.join(this.src, name), { throwIfNoEntry: false });
    return found?.isFile() ? found.size : undefined;
  }

  read(name: string, position: number, into: Uint8Array): void {
    let file = this.open.get(name);
    if (file === undefined) {
      file = fs.openSync(path.join(this.src ?? "", name), "r");
      this.open.set(name, file);
    }
    for (let filled = 0; filled < into.length; ) {
      const bytes = fs.readSync(file, into, filled, into.length - filled, position + filled);
      if (bytes === 0) throw new Error(`it ends at ${position + filled}`);
      filled += bytes;
    }
  }

  write(name: string, bytes: Uint8Array): void {
    this.folder.write(name, bytes);
  }

  start(total: number): void {
    this.total = total;
  }

  advance(tensor: string, bytes: number): void {
    this.done += bytes;
    this.onProgress(this.done, this.total, tensor);
  }

  close(): void {
    for (const file of this.open.values()) fs.closeSync(file);
  }
}
