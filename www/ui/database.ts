/** A database of the browser's for what is no text: tables of values under keys. */

export class Database {
  private readonly name: string;
  private readonly tables: readonly string[];
  private opening: Promise<IDBDatabase> | null = null;

  constructor(name: string, tables: readonly string[]) {
    this.name = name;
    this.tables = tables;
  }

  /** Errors are the browser's: no room, or no storage at all. */
  async run(table: string, mode: IDBTransactionMode, ask: (store: IDBObjectStore) => IDBRequest): Promise<unknown> {
    try {
      return await this.ask(table, mode, ask);
    } catch (error) {
      // The browser closed the connection: WebKit does that to tabs in the background.
      if (!(error instanceof DOMException && error.name === "InvalidStateError")) throw error;
      this.opening = null;
      return this.ask(table, mode, ask);
    }
  }

  private async ask(table: string, mode: IDBTransactionMode, ask: (store: IDBObjectStore) => IDBRequest): Promise<unknown> {
    const database = await this.open();
    return new Promise((resolve, reject) => {
      const transaction = database.transaction(table, mode);
      const request = ask(transaction.objectStore(table));
      transaction.oncomplete = () => resolve(request.result);
      transaction.onabort = () => reject(transaction.error ?? request.error);
    });
  }

  private open(): Promise<IDBDatabase> {
    this.opening ??= new Promise((resolve, reject) => {
      const request = indexedDB.open(this.name, 1);
      request.onupgradeneeded = () => {
        for (const table of this.tables) request.result.createObjectStore(table);
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
