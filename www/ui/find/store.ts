/** What was seen of each picture, and which pictures were open last: in the browser's own database, so that a second visit needs no second look. */

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
  private opening: Promise<IDBDatabase> | null = null;

  /** Null where it is not known, or nothing can be kept. */
  async seen(key: string): Promise<Seen | null> {
    const found: unknown = await this.run(SEEN, "readonly", store => store.get(key)).catch(() => null);
    return isSeen(found) ? found : null;
  }

  /** Errors are the browser's: no room, or no storage at all. */
  async keepSeen(key: string, seen: Seen): Promise<void> {
    await this.run(SEEN, "readwrite", store => store.put(seen, key));
  }

  async shelf(): Promise<Shelf | null> {
    const found: unknown = await this.run(SHELF, "readonly", store => store.get("last")).catch(() => null);
    return isShelf(found) ? found : null;
  }

  async keepShelf(shelf: Shelf): Promise<void> {
    await this.run(SHELF, "readwrite", store => store.put(shelf, "last"));
  }

  async clear(): Promise<void> {
    await this.run(SHELF, "readwrite", store => store.clear());
    await this.run(SEEN, "readwrite", store => store.clear());
  }

  private async run(name: string, mode: IDBTransactionMode, ask: (store: IDBObjectStore) => IDBRequest): Promise<unknown> {
    try {
      return await this.ask(name, mode, ask);
    } catch (error) {
      // The browser closed the connection: WebKit does that to tabs in the background.
      if (!(error instanceof DOMException && error.name === "InvalidStateError")) throw error;
      this.opening = null;
      return this.ask(name, mode, ask);
    }
  }

  private async ask(name: string, mode: IDBTransactionMode, ask: (store: IDBObjectStore) => IDBRequest): Promise<unknown> {
    const database = await this.open();
    return new Promise((resolve, reject) => {
      const transaction = database.transaction(name, mode);
      const request = ask(transaction.objectStore(name));
      transaction.oncomplete = () => resolve(request.result);
      transaction.onabort = () => reject(transaction.error ?? request.error);
    });
  }

  private open(): Promise<IDBDatabase> {
    this.opening ??= new Promise((resolve, reject) => {
      const request = indexedDB.open("blip2-find", 1);
      request.onupgradeneeded = () => {
        for (const name of [SEEN, SHELF]) request.result.createObjectStore(name);
      };
      request.onsuccess = () => {
        request.result.onclose = () => {
          this.opening = null;
        };
        resolve(request.result);
      };
      request.onerror = () => reject(request.error);
    });
    return this.opening;
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
