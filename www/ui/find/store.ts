/** What was seen of each picture, and which pictures were open last: in the browser's own database, so that a second visit needs no second look. */

import { Database } from "../database.js";

/** embeds: [queries, width] as f32. thumbnail: an image file. */
export interface Seen {
  readonly embeds: ArrayBuffer;
  readonly width: number;
  readonly thumbnail: ArrayBuffer;
  readonly type: string;
  readonly ratio: number;
}

/** A picture of the shelf: its key in what was seen, and where it is. */
export interface Shelved {
  readonly key: string;
  readonly path: string;
  /** Of the site's own pictures. */
  readonly address: string | null;
}

export interface Shelf {
  readonly tower: string;
  /** Folders that can be opened again, where the browser has such. */
  readonly folders: readonly FileSystemDirectoryHandle[];
  readonly pictures: readonly Shelved[];
}

const SEEN = "seen";
const SHELF = "shelf";

export class Store {
  private readonly database = new Database("blip2-find", [SEEN, SHELF]);

  /** Null where it is not known, or nothing can be kept. */
  async seen(key: string): Promise<Seen | null> {
    const found: unknown = await this.database.run(SEEN, "readonly", store => store.get(key)).catch(() => null);
    return isSeen(found) ? found : null;
  }

  /** Errors are the browser's: no room, or no storage at all. */
  async keepSeen(key: string, seen: Seen): Promise<void> {
    await this.database.run(SEEN, "readwrite", store => store.put(seen, key));
  }

  async shelf(): Promise<Shelf | null> {
    const found: unknown = await this.database.run(SHELF, "readonly", store => store.get("last")).catch(() => null);
    return isShelf(found) ? found : null;
  }

  async keepShelf(shelf: Shelf): Promise<void> {
    await this.database.run(SHELF, "readwrite", store => store.put(shelf, "last"));
  }

  async clear(): Promise<void> {
    await this.database.run(SHELF, "readwrite", store => store.clear());
    await this.database.run(SEEN, "readwrite", store => store.clear());
  }
}

const isObject = (value: unknown): value is Record<string, unknown> => typeof value === "object" && value !== null;

function isSeen(value: unknown): value is Seen {
  if (!isObject(value)) return false;
  return (
    value.embeds instanceof ArrayBuffer &&
    value.thumbnail instanceof ArrayBuffer &&
    typeof value.width === "number" &&
    typeof value.ratio === "number"
  );
}

function isShelf(value: unknown): value is Shelf {
  return isObject(value) && typeof value.tower === "string" && Array.isArray(value.folders) && Array.isArray(value.pictures);
}
