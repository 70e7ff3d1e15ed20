/** Model folders that the user has picked: files, or a directory. Nothing of them is fetched, and each is held to its hash as any other. */

import { fileUnreadable, inputInvalid } from "./error.js";

/** A folder that an input with `webkitdirectory` gave, files of one folder, or what `showDirectoryPicker` gave. */
export type Picked = FileSystemDirectoryHandle | FileList | readonly File[];

/** Where such folders are to the engine: a name that no network can have (RFC 2606). */
export const PICKED = "https://picked.invalid/";
const INDEX = "model.safetensors.index.json";

export interface PickedFolder {
  readonly url: string;
  readonly files: ReadonlyMap<string, Blob>;
}

let count = 0;

export function isPicked(source: unknown): source is Picked {
  return typeof source === "object" && source !== null && !(source instanceof URL);
}

/** Errors: input-invalid, file. */
export async function picked(source: Picked): Promise<PickedFolder> {
  const [name, files] = "values" in source && "kind" in source ? await fromHandle(source) : fromFiles([...source]);
  if (!files.has(INDEX)) throw fileUnreadable(INDEX, "is not among the files that were picked: is this a model folder?");
  count += 1;
  return { url: `${PICKED}${count}/${encodeURIComponent(name)}/`, files };
}

async function fromHandle(directory: FileSystemDirectoryHandle): Promise<[string, Map<string, Blob>]> {
  const files = new Map<string, Blob>();
  try {
    for await (const entry of directory.values()) if (entry.kind === "file") files.set(entry.name, await entry.getFile());
  } catch (error) {
    throw fileUnreadable(directory.name, String(error));
  }
  return [directory.name, files];
}

/** Of files below a folder, those beside the index. */
function fromFiles(all: readonly File[]): [string, Map<string, Blob>] {
  if (!all.every(file => file instanceof Blob)) throw inputInvalid("source", "an address, files or a directory is expected");
  const path = (file: File) => file.webkitRelativePath || file.name;
  const index = all.map(path).find(path => path === INDEX || path.endsWith(`/${INDEX}`)) ?? INDEX;
  const folder = index.slice(0, -INDEX.length);
  const files = all.filter(file => path(file).startsWith(folder)).map((file): [string, Blob] => [path(file).slice(folder.length), file]);
  return [folder.split("/").at(-2) ?? "files", new Map(files)];
}
