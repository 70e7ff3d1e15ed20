/** The pictures that are searched: taken in, looked at one after the other in the background, remembered for the next visit. */

import { Blip2Error } from "../../index.js";
import { allowed, type Found, fromFolder, isPicture } from "../files.js";
import type { Looks } from "./rank.js";
import type { Seer } from "./seer.js";
import type { Shelved, Store } from "./store.js";
import { thumbnail } from "./thumbnail.js";

export interface Item {
  readonly id: number;
  readonly path: string;
  readonly name: string;
  readonly key: string;
  /** Of the site's own pictures. */
  readonly address: string | null;
  /** Null for one of the last visit whose folder has not been opened again. */
  file: File | null;
  folder: FileSystemDirectoryHandle | null;
  ratio: number;
  thumb: string | null;
  looks: Looks | null;
  state: "waiting" | "seen" | "failed";
}

export interface Progress {
  readonly done: number;
  readonly all: number;
  readonly failed: number;
  /** Pictures a second, of the last ones that were really looked at. */
  readonly rate: number | null;
  readonly busy: boolean;
  readonly paused: boolean;
}

/** It can be read; one of a folder that has not been opened again cannot. */
export const isOpen = ({ file, address }: Item): boolean => file !== null || address !== null;

type Sees = Pick<Seer, "ready" | "see">;
type Keeps = Pick<Store, "seen" | "keepSeen" | "shelf" | "keepShelf" | "clear">;

export class Library {
  readonly items: Item[] = [];
  private readonly seer: Sees;
  private readonly store: Keeps;
  private readonly changed: () => void;
  private readonly keys = new Map<string, Item>();
  private readonly handles = new Map<string, FileSystemDirectoryHandle>();
  private abort = new AbortController();
  private nextId = 1;
  private working = false;
  private rate: number | null = null;
  private tower = "";
  private stopped = false;

  constructor(seer: Sees, store: Keeps, changed: () => void) {
    this.seer = seer;
    this.store = store;
    this.changed = changed;
  }

  get progress(): Progress {
    const done = this.items.filter(({ state }) => state === "seen").length;
    const failed = this.items.filter(({ state }) => state === "failed").length;
    return { done, failed, all: this.items.length, rate: this.rate, busy: this.working, paused: this.stopped };
  }

  get folders(): readonly FileSystemDirectoryHandle[] {
    return [...this.handles.values()];
  }

  get knowsTower(): boolean {
    return this.tower !== "";
  }

  /** Whether there are pictures that can be looked at, and have not been. */
  get waits(): boolean {
    return this.next() !== undefined;
  }

  /** Whether there are pictures whose folder has to be opened again. */
  get locked(): boolean {
    return this.items.some(item => !isOpen(item));
  }

  /** What was seen by another tower is not comparable: the library begins with knowing its own. */
  use(tower: string): void {
    this.tower = tower;
  }

  /** The pictures of the last visit, as far as they were seen. */
  async restore(): Promise<void> {
    const shelf = await this.store.shelf();
    if (shelf === null || shelf.tower !== this.tower) return;
    for (const handle of shelf.folders) this.handles.set(handle.name, handle);
    // Each try to load the model begins with this.
    const fresh = shelf.pictures.filter(({ key }) => !this.keys.has(key));
    const items = fresh.map(({ key, path, address }) => this.item({ key, path, address, file: null, folder: null }));
    await this.recall(items);
  }

  /** Takes pictures in; what was seen before is known at once. */
  async add(found: readonly Found[], root: FileSystemDirectoryHandle | null = null): Promise<void> {
    if (root !== null) this.handles.set(root.name, root);
    const fresh: Item[] = [];
    for (const { file, path, folder } of found) {
      if (!isPicture(file)) continue;
      const key = `${this.tower}|${path}|${file.size}|${file.lastModified}`;
      const known = this.keys.get(key);
      if (known === undefined) fresh.push(this.item({ key, path, address: null, file, folder }));
      else Object.assign(known, { file, folder });
    }
    this.changed();
    await this.recall(fresh);
    void this.remember();
    void this.work();
  }

  /** Pictures that this site serves. */
  async addAddresses(addresses: readonly { readonly path: string; readonly address: string }[]): Promise<void> {
    const fresh = addresses.flatMap(({ path, address }) => {
      const key = `${this.tower}|${address}`;
      return this.keys.has(key) ? [] : [this.item({ key, path, address, file: null, folder: null })];
    });
    this.changed();
    await this.recall(fresh);
    void this.remember();
    void this.work();
  }

  /** The picture itself; null where its folder has to be opened again first. */
  async file(item: Item): Promise<File | null> {
    if (item.file !== null) return item.file;
    if (item.address !== null) {
      const response = await fetch(item.address);
      if (!response.ok) return null;
      const blob = await response.blob();
      item.file = new File([blob], item.name, { type: blob.type });
      return item.file;
    }
    return null;
  }

  /** Asks the browser for the folders of the last visit, then finds the pictures in them. Needs a click. Returns the names of those that are gone. */
  async reopen(): Promise<string[]> {
    const gone: string[] = [];
    for (const handle of this.folders) {
      if (!(await allowed(handle, true))) continue;
      const found = await fromFolder(handle).catch(() => null);
      if (found === null) gone.push(handle.name);
      else await this.add(found, handle);
    }
    return gone;
  }

  pause(paused: boolean): void {
    this.stopped = paused;
    if (paused) this.abort.abort();
    else void this.work();
    this.changed();
  }

  /** Takes the pictures away. What was seen of them stays known, unless it is to be forgotten. */
  async clear({ forget }: { readonly forget: boolean }): Promise<void> {
    this.abort.abort();
    for (const { thumb } of this.items) if (thumb !== null) URL.revokeObjectURL(thumb);
    this.items.length = 0;
    this.keys.clear();
    this.handles.clear();
    if (forget) await this.store.clear().catch(() => {});
    this.changed();
  }

  /** Looks at what was not seen yet, one after the other. */
  async work(): Promise<void> {
    if (this.working || this.stopped || !this.seer.ready) return;
    this.working = true;
    this.abort = new AbortController();
    const { signal } = this.abort;
    for (let item = this.next(); item !== undefined && !signal.aborted; item = this.next()) {
      const started = performance.now();
      try {
        await this.look(item, signal);
        const rate = 1000 / Math.max(1, performance.now() - started);
        this.rate = this.rate === null ? rate : this.rate * 0.8 + rate * 0.2;
      } catch (error) {
        if (signal.aborted) break;
        item.state = "failed";
        // Not the picture's fault: whatever comes next would fail the same way.
        if (error instanceof Blip2Error && ["device-lost", "out-of-memory", "kernel"].includes(error.code)) {
          item.state = "waiting";
          this.stopped = true;
          break;
        }
      }
      this.changed();
    }
    this.working = false;
    this.changed();
    if (!this.stopped && this.next() !== undefined) void this.work();
  }

  private next(): Item | undefined {
    return this.items.find(item => item.state === "waiting" && isOpen(item));
  }

  private async look(item: Item, signal: AbortSignal): Promise<void> {
    const file = await this.file(item);
    if (file === null) throw new DOMException("the picture is gone", "NotFoundError");
    const small = await thumbnail(file);
    if (small !== null) this.show(item, small);
    const looks = await this.seer.see(file, signal);
    item.looks = looks;
    item.state = "seen";
    if (small === null) return;
    // A copy of its own: a view would take along all that it looks into.
    const embeds = looks.data.slice().buffer;
    await this.store.keepSeen(item.key, { embeds, width: looks.width, thumbnail: small.bytes, type: small.type, ratio: small.ratio }).catch(() => {});
  }

  private async recall(items: readonly Item[]): Promise<void> {
    // Side by side: one transaction after the other would take its time with thousands.
    const recallOne = async (item: Item) => {
      const seen = await this.store.seen(item.key);
      if (seen === null) return;
      this.show(item, { bytes: seen.thumbnail, type: seen.type, ratio: seen.ratio });
      item.looks = { data: new Float32Array(seen.embeds), width: seen.width };
      item.state = "seen";
    };
    for (let at = 0; at < items.length; at += 100) {
      await Promise.all(items.slice(at, at + 100).map(recallOne));
      this.changed();
    }
  }

  private show(item: Item, { bytes, type, ratio }: { bytes: ArrayBuffer; type: string; ratio: number }): void {
    item.ratio = ratio;
    item.thumb ??= URL.createObjectURL(new Blob([bytes], { type }));
  }

  private item({ key, path, address, file, folder }: Shelved & Pick<Item, "file" | "folder">): Item {
    const name = path.split("/").at(-1) ?? path;
    const item: Item = { id: this.nextId++, key, path, name, address, file, folder, ratio: 1, thumb: null, looks: null, state: "waiting" };
    this.items.push(item);
    this.keys.set(key, item);
    return item;
  }

  private async remember(): Promise<void> {
    const pictures = this.items.map(({ key, path, address }) => ({ key, path, address }));
    await this.store.keepShelf({ tower: this.tower, folders: this.folders, pictures }).catch(() => {});
  }
}
