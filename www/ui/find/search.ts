/** What is looked for: pictures in the order in which they look like the words, made while these are typed; the best are looked at again when they rest. */

import type { Item, Library } from "./library.js";
import { rank, refined, type Scored } from "./rank.js";
import type { Seer } from "./seer.js";

const TYPING_MS = 90;
const IDLE_MS = 900;
/** Between two orders of the same search, while pictures are being looked at: less than `IDLE_MS`, so that the best are looked at again when all are there. */
const NEWS_MS = 500;
/** How many of the best are looked at again. */
const AGAIN = 8;
/** Of a search; all of thousands would move for each letter. */
const SHOWN = 96;

/** What a search asks of the view, and tells it. */
export interface Desk {
  /** What stands in the field. */
  words(): string;
  changed(): void;
  /** There is an order; `anew`: of other words than before. */
  ordered(anew: boolean): void;
  /** The best, once they were looked at again. */
  refined(best: Item): void;
  failed(error: unknown): void;
}

type Reads = Pick<Seer, "ready" | "read" | "match">;
type Holds = Pick<Library, "items" | "progress" | "file">;

export class Search {
  /** The words of the order, without space around them; "" for none. */
  text = "";
  /** Best first; null where nothing is looked for. */
  found: readonly Scored<Item>[] | null = null;
  /** Whether the best have been looked at again. */
  fitting: "no" | "now" | "done" = "no";
  private readonly seer: Reads;
  private readonly library: Holds;
  private readonly desk: Desk;
  private abort = new AbortController();
  /** Set as long as a search is due, though none starts while the view is away. */
  private timer: ReturnType<typeof setTimeout> | undefined;
  private idle: ReturnType<typeof setTimeout> | undefined;
  private news: ReturnType<typeof setTimeout> | undefined;
  private away = false;
  /** Pictures that had been looked at when the last order was made. */
  private ranked = 0;
  private all = false;

  constructor(seer: Reads, library: Holds, desk: Desk) {
    this.seer = seer;
    this.library = library;
    this.desk = desk;
  }

  /** As many of `found` as are shown. */
  get shown(): readonly Scored<Item>[] | null {
    return this.all ? this.found : (this.found?.slice(0, SHOWN) ?? null);
  }

  /** Until other words are looked for. */
  showAll(): void {
    this.all = true;
    this.desk.changed();
  }

  /** Looks for what stands in the field, a moment after the last letter. */
  typed(): void {
    clearTimeout(this.timer);
    clearTimeout(this.idle);
    this.abort.abort();
    this.timer = setTimeout(() => void this.start(), TYPING_MS);
  }

  /** The view is shown. */
  enter(): void {
    this.away = false;
    if (this.timer !== undefined) return void this.start();
    this.rest();
    this.heedNews();
  }

  leave(): void {
    this.away = true;
    clearTimeout(this.timer);
    clearTimeout(this.idle);
    clearTimeout(this.news);
    this.news = undefined;
  }

  /** The pictures that were found are gone. */
  forget(): void {
    this.abort.abort();
    this.found = null;
    this.fitting = "no";
  }

  end(): void {
    this.leave();
    this.forget();
  }

  /** What has been looked at since takes its place among what was found. */
  heedNews(): void {
    if (this.away || this.news !== undefined || !this.stale) return;
    this.news = setTimeout(() => {
      this.news = undefined;
      if (!this.stale) return;
      // A second look is seen to its end.
      if (this.fitting === "now") this.heedNews();
      else void this.start({ anew: false });
    }, NEWS_MS);
  }

  /** Whether the order that is shown knows fewer pictures, or others, than have been looked at. */
  private get stale(): boolean {
    return this.found !== null && this.library.progress.done !== this.ranked;
  }

  /**
   * Ranks by what the pictures look like; a second look follows when nothing is typed for a while. Not `anew`: the same words, now that more pictures
   * have been looked at.
   */
  async start({ anew = true } = {}): Promise<void> {
    clearTimeout(this.timer);
    clearTimeout(this.idle);
    this.timer = undefined;
    this.abort.abort();
    const abort = new AbortController();
    this.abort = abort;
    const text = anew ? this.desk.words().trim() : this.text;
    this.text = text;
    if (anew) this.all = false;
    this.fitting = "no";
    if (text === "" || !this.seer.ready) {
      this.found = null;
      return this.desk.changed();
    }
    try {
      const query = await this.seer.read(text);
      if (abort.signal.aborted) return;
      const started = performance.now();
      this.ranked = this.library.progress.done;
      this.found = rank(this.library.items, query);
      performance.measure("find: rank", { start: started }); // seen in the browser's own tools, and by a test
      this.desk.ordered(anew);
      this.rest();
    } catch (error) {
      if (!abort.signal.aborted) this.desk.failed(error);
    }
  }

  /** Nothing is typed: the best are looked at again, unless that changes soon. */
  private rest(): void {
    clearTimeout(this.idle);
    if (!this.away) this.idle = setTimeout(() => void this.refine(), IDLE_MS);
  }

  /** Looks at the best again, each together with the words. */
  async refine(): Promise<void> {
    clearTimeout(this.idle);
    const { found, text } = this;
    const { signal } = this.abort;
    if (found === null || text === "" || signal.aborted || this.fitting !== "no") return;
    this.fitting = "now";
    this.desk.changed();
    const itm = new Map<Item, number>();
    try {
      for (const { item } of found.slice(0, AGAIN)) {
        const file = await this.library.file(item);
        if (file !== null) itm.set(item, await this.seer.match(file, text, signal));
        if (signal.aborted) return;
      }
    } catch (error) {
      if (signal.aborted) return;
      this.fitting = "no";
      this.desk.failed(error);
      return this.desk.changed();
    }
    this.fitting = itm.size === 0 ? "no" : "done";
    this.found = refined(found, itm);
    this.desk.changed();
    const [best] = this.found;
    if (best !== undefined && !this.away) this.desk.refined(best.item);
  }
}
