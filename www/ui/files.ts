/** Pictures from wherever they lie: files, and what is in folders. */

/** path: below the folder that was given, as a visitor would write it. */
export interface Found {
  readonly file: File;
  readonly path: string;
  /** The folder it lies in, where the browser lets pages write there. */
  readonly folder: FileSystemDirectoryHandle | null;
}

const PICTURE = /\.(png|jpe?g|webp|gif|bmp|avif|heic|heif|jxl|tiff?)$/i;

/** By type where the system knows it, by name where not. */
export const isPicture = ({ type, name }: { readonly type: string; readonly name: string }): boolean =>
  type === "" ? PICTURE.test(name) : type.startsWith("image/");

export const fromFiles = (files: Iterable<File>): Found[] =>
  [...files].map(file => ({ file, path: file.webkitRelativePath === "" ? file.name : file.webkitRelativePath, folder: null }));

/** All that was dropped, folders with what is in them. Has to be called before the event is over. */
export async function fromDrop({ items, files }: DataTransfer): Promise<Found[]> {
  const entries = [...items].map(item => (item.kind === "file" ? item.webkitGetAsEntry() : null));
  // Where entries are not known, or made by a script, the files alone are there.
  if (entries.every(entry => entry === null || entry.isFile)) return fromFiles(files);
  const found: Found[] = [];
  for (const entry of entries) if (entry !== null) await fromEntry(entry, "", found);
  return found;
}

async function fromEntry(entry: FileSystemEntry, above: string, found: Found[]): Promise<void> {
  const path = above === "" ? entry.name : `${above}/${entry.name}`;
  if (isFileEntry(entry)) {
    const file = await new Promise<File>((resolve, reject) => entry.file(resolve, reject)).catch(() => null);
    if (file !== null && isPicture(file)) found.push({ file, path, folder: null });
  } else if (isFolderEntry(entry)) {
    const reader = entry.createReader();
    for (;;) {
      // At most a hundred at a time, until there are none.
      const some = await new Promise<FileSystemEntry[]>((resolve, reject) => reader.readEntries(resolve, reject)).catch(() => []);
      if (some.length === 0) return;
      for (const one of some) await fromEntry(one, path, found);
    }
  }
}

const isFileEntry = (entry: FileSystemEntry): entry is FileSystemFileEntry => entry.isFile;
const isFolderEntry = (entry: FileSystemEntry): entry is FileSystemDirectoryEntry => entry.isDirectory;

/** The pictures of a folder that the visitor has opened, and of the folders in it. */
export async function fromFolder(folder: FileSystemDirectoryHandle, above = folder.name): Promise<Found[]> {
  const found: Found[] = [];
  for await (const [name, handle] of folder.entries()) {
    if (isDirectory(handle)) found.push(...(await fromFolder(handle, `${above}/${name}`)));
    else if (isFileHandle(handle) && PICTURE.test(name)) {
      const file = await handle.getFile().catch(() => null);
      if (file !== null) found.push({ file, path: `${above}/${name}`, folder });
    }
  }
  return found.sort((a, b) => a.path.localeCompare(b.path));
}

const isDirectory = (handle: FileSystemHandle): handle is FileSystemDirectoryHandle => handle.kind === "directory";
const isFileHandle = (handle: FileSystemHandle): handle is FileSystemFileHandle => handle.kind === "file";

/** The parts of the File System Access API that TypeScript does not know. */
interface Picker {
  showDirectoryPicker(options: { id: string; mode: "read" | "readwrite" }): Promise<FileSystemDirectoryHandle>;
}
const hasPicker = (value: object): value is Picker => "showDirectoryPicker" in value && typeof value.showDirectoryPicker === "function";
interface Guarded {
  queryPermission(how: { mode: "read" }): Promise<PermissionState>;
  requestPermission(how: { mode: "read" }): Promise<PermissionState>;
}
const isGuarded = (handle: object): handle is Guarded => "requestPermission" in handle && typeof handle.requestPermission === "function";

/** Whether a folder of an earlier visit may be read. `ask`: the visitor is asked for it, which needs a click. */
export async function allowed(handle: FileSystemDirectoryHandle, ask: boolean): Promise<boolean> {
  if (!isGuarded(handle)) return true;
  const answer = ask ? handle.requestPermission({ mode: "read" }) : handle.queryPermission({ mode: "read" });
  return (await answer.catch(() => "denied")) === "granted";
}

/** A folder of the visitor's choice: its handle where the browser has them, its files elsewhere; null where nothing was chosen. */
export async function pickFolder(
  id: "pictures" | "models",
  mode: "read" | "readwrite" = "read",
): Promise<FileSystemDirectoryHandle | readonly File[] | null> {
  if (hasPicker(window)) {
    try {
      return await window.showDirectoryPicker({ id, mode });
    } catch (error) {
      if (error instanceof DOMException && error.name === "AbortError") return null;
      throw error;
    }
  }
  const files = await chooseFiles({ folder: true });
  return files.length === 0 ? null : files;
}

/** The pictures of a folder that is chosen now, and its handle where the browser has them; null where nothing was chosen. */
export async function chooseFolder(
  mode: "read" | "readwrite" = "read",
): Promise<{ handle: FileSystemDirectoryHandle | null; found: Found[] } | null> {
  const picked = await pickFolder("pictures", mode);
  if (picked === null) return null;
  if ("kind" in picked) return { handle: picked, found: await fromFolder(picked) };
  return { handle: null, found: fromFiles(picked).filter(({ file }) => isPicture(file)) };
}

/** Through an <input>, which every browser has. */
export function chooseFiles({ folder = false } = {}): Promise<File[]> {
  const input = document.createElement("input");
  input.type = "file";
  input.multiple = true;
  if (folder) input.webkitdirectory = true;
  else input.accept = "image/*";
  return new Promise(resolve => {
    input.addEventListener("change", () => resolve([...(input.files ?? [])]));
    input.addEventListener("cancel", () => resolve([]));
    input.click();
  });
}
