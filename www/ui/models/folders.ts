/** Model folders on the visitor's disk: chosen, and known on the next visit where the browser has handles of them. */

import { Database } from "../database.js";
import { pickFolder } from "../files.js";
import type { View } from "../choice.js";

/** An open folder: its handle where the browser has them, its files elsewhere. */
export interface Folder {
  readonly name: string;
  readonly picked: FileSystemDirectoryHandle | readonly File[];
}

const HANDLES = "handles";
const database = new Database("blip2-models", [HANDLES]);

/** Null where nothing was chosen. */
export async function chooseModelFolder(): Promise<Folder | null> {
  const picked = await pickFolder("models");
  if (picked === null) return null;
  return { picked, name: "kind" in picked ? picked.name : (picked[0]?.webkitRelativePath.split("/")[0] ?? "") };
}

/** Returns whether the browser will know it on the next visit. */
export async function rememberFolder(view: View, { picked }: Folder): Promise<boolean> {
  if (!("kind" in picked)) {
    await forgetFolder(view);
    return false;
  }
  return database
    .run(HANDLES, "readwrite", store => store.put(picked, view))
    .then(
      () => true,
      () => false,
    );
}

/** Something else was chosen. */
export async function forgetFolder(view: View): Promise<void> {
  await database.run(HANDLES, "readwrite", store => store.delete(view)).catch(() => {});
}

export async function rememberedFolder(view: View): Promise<Folder | null> {
  const picked = await database.run(HANDLES, "readonly", store => store.get(view)).catch(() => null);
  return picked instanceof FileSystemDirectoryHandle ? { picked, name: picked.name } : null;
}
