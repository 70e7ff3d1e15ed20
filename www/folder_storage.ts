/** A folder of the disk where Node keeps models: a file for each name. */

import { mkdir, readdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { StorageDriver } from "./protocol.js";

/** `createEngine({ storage: folderStorage("models-cache") })`: what was downloaded is there the next time. The folder is made when it is needed. */
export function folderStorage(folder: string): StorageDriver {
  const path = (name: string) => join(folder, encodeURIComponent(name));
  const absent = (error: unknown) => error instanceof Error && "code" in error && error.code === "ENOENT";
  let drafts = 0;
  return {
    async get(name) {
      try {
        return await readFile(path(name));
      } catch (error) {
        if (absent(error)) return null;
        throw error;
      }
    },
    async put(name, bytes) {
      await mkdir(folder, { recursive: true });
      // Another process may read it meanwhile: it is there whole, or not at all.
      const draft = join(folder, `.${process.pid}.${drafts++}.part`);
      try {
        await writeFile(draft, bytes);
        await rename(draft, path(name));
      } catch (error) {
        await rm(draft, { force: true });
        throw error instanceof Error && "code" in error && error.code === "ENOSPC"
          ? Object.assign(new Error(error.message), { name: "QuotaExceededError" })
          : error;
      }
    },
    async delete(name) {
      await rm(path(name), { force: true });
    },
    async list() {
      try {
        return (await readdir(folder)).filter(name => !name.startsWith(".")).map(decodeURIComponent);
      } catch (error) {
        if (absent(error)) return [];
        throw error;
      }
    },
    async estimate() {
      return { usage: null, quota: null, persistent: true };
    },
  };
}
