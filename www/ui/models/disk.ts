/**
 * Models from a folder on the visitor's disk. The engine fetches models by address; the service worker answers addresses below `disk/` with files of
 * a folder that a page has opened, by asking the page for them. So nothing is copied, and nothing else needs to know.
 */

import { chooseFiles, type Found } from "../files.js";

const folders = new Map<string, ReadonlyMap<string, File>>();
let listening = false;

/** Whether this page's requests pass through the service worker. */
export const canServeDisk = (): boolean => "serviceWorker" in navigator && navigator.serviceWorker.controller !== null;

/** The address under which the engine finds the folder; null where nothing was chosen. Errors: `NotFoundError` where it holds no model. */
export async function openModelFolder(): Promise<URL | null> {
  const files = (await chooseFiles({ folder: true })).map((file): Found => ({ file, path: file.webkitRelativePath, folder: null }));
  if (files.length === 0) return null;
  const index = files.find(({ path }) => path.endsWith("/model.safetensors.index.json"));
  if (index === undefined) throw new DOMException("no model.safetensors.index.json", "NotFoundError");
  const root = index.path.slice(0, index.path.lastIndexOf("/") + 1);
  const name = root.split("/").at(-2) ?? "model";
  folders.set(name, new Map(files.filter(({ path }) => path.startsWith(root)).map(({ path, file }) => [path.slice(root.length), file])));
  listen();
  return new URL(`disk/${encodeURIComponent(name)}/`, document.baseURI);
}

function listen(): void {
  if (listening) return;
  listening = true;
  navigator.serviceWorker.addEventListener("message", ({ data, ports: [port] }: MessageEvent<unknown>) => {
    if (typeof data !== "object" || data === null || !("disk" in data) || typeof data.disk !== "string") return;
    const [folder = "", ...path] = data.disk.split("/");
    port?.postMessage(folders.get(decodeURIComponent(folder))?.get(path.map(decodeURIComponent).join("/")) ?? null);
  });
}
