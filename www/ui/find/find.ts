/** Find: many pictures, a field above them, and those that look like the words come first while they are typed. */

import { FolderPlus, ImagePlus, Pause, Play, Search, Trash2, X } from "lucide";
import { problemWords } from "../answer.js";
import { Bar } from "../bar.js";
import { type Choice, choose, closedFolder, problemWith } from "../choice.js";
import { confirmed } from "../confirm.js";
import { byId, h, icon, iconButton, Keyed, keepFocus, say, setAttribute, setText, translate, wordButton } from "../dom.js";
import { chooseFiles, chooseFolder, type Found, fromFiles, isPicture } from "../files.js";
import type { Place, Shell } from "../routes.js";
import { emptyTitle } from "../drop.js";
import { duration, inOrder, languageOf, loading, loadWords, w } from "../words.js";
import { type Cell, Grid, type Mark } from "./grid.js";
import { type Item, Library } from "./library.js";
import { FITS, rank, refined, type Scored } from "./rank.js";
import { Seer } from "./seer.js";
import { Store } from "./store.js";

/** A model above this is fetched only after a click. */
const UNASKED = 50e6;
const TYPING_MS = 90;
const IDLE_MS = 900;
/** Between two orders of the same search, while pictures are being looked at: less than `IDLE_MS`, so that the best are looked at again when all are there. */
const NEWS_MS = 500;
/** How many of the best are looked at again. */
const AGAIN = 8;
/** Of a search; all of thousands would move for each letter. */
const SHOWN = 96;

export class Find implements Place {
  private readonly shell: Shell;
  private readonly choice: Choice;
  private readonly section = byId("find", HTMLElement);
  private readonly field = say(
    h("input", { type: "search", id: "find-field", autocomplete: "off", spellcheck: "false", enterkeyhint: "search" }),
    "findField",
    "label",
  );
  private readonly chips = say(h("ul", { id: "find-chips", class: "chips" }), "findSuggestions", "label");
  private readonly note = h("p", { id: "find-note", role: "status" });
  private readonly bar = new Bar(say(h("progress", { max: 1 }), "viewFind", "label"));
  private readonly what = h("span");
  private readonly figures = h("span", { class: "figures" });
  private readonly working = h("div", { id: "find-progress", hidden: true });
  private readonly pauseButton: HTMLButtonElement;
  private readonly loadButton: HTMLButtonElement;
  private readonly problem = h("div", { class: "problem", hidden: true });
  private readonly empty: HTMLElement;
  private readonly tools: HTMLElement;
  private readonly reopenButton: HTMLButtonElement;
  private readonly moreButton: HTMLButtonElement;
  private readonly suggestions: Keyed<string>;
  private readonly grid: Grid;
  private readonly seer: Seer;
  private readonly library: Library;
  private abort = new AbortController();
  private loading = new AbortController();
  private timer = 0;
  private idle = 0;
  private news = 0;
  private away = false;
  /** Pictures that had been looked at when the last order was made. */
  private ranked = 0;
  private frame = 0;
  private text = "";
  private found: readonly Scored<Item>[] | null = null;
  private fitting: "no" | "now" | "done" = "no";
  private all = false;
  private phase: "starting" | "offered" | "loading" | "ready" | "failed" = "starting";
  private bytes = { all: 0, here: 0 };
  /** The model's folder, which the visitor has to open again. */
  private closed: string | null = null;
  /** Pictures that were given before the tower was known. */
  private early: { found: readonly Found[]; root: FileSystemDirectoryHandle | null }[] = [];
  /** Folders of the last visit that are not where they were. */
  private gone: readonly string[] = [];
  private begun = false;

  constructor(shell: Shell, choice: Choice) {
    this.shell = shell;
    this.choice = choice;
    this.seer = new Seer(shell.engine, choice);
    this.library = new Library(this.seer, new Store(), () => this.heedNews());
    this.grid = new Grid(id => void this.open(id));
    this.suggestions = new Keyed(
      this.chips,
      words => words,
      words => {
        const button = h("button", { type: "button", class: "chip", lang: languageOf(words), onclick: () => this.suggest(words) }, words);
        return { element: h("li", {}, button), update() {} };
      },
    );
    const button = (kind: string, onclick: () => void) => h("button", { type: "button", class: kind, onclick });
    this.pauseButton = button("text", () => this.library.pause(!this.library.progress.paused));
    this.loadButton = button("plain main", () => void this.load(true));
    this.reopenButton = button("plain", () => void this.reopen());
    this.moreButton = button("plain", () => {
      this.all = true;
      this.show();
    });
    this.tools = h(
      "div",
      { class: "view-tools" },
      iconButton(ImagePlus, "addPictures", () => void this.choose()),
      iconButton(FolderPlus, "addFolder", () => void this.chooseFolder()),
      iconButton(Trash2, "forgetAll", () => void this.forget()),
    );
    this.empty = h(
      "div",
      { class: "empty" },
      emptyTitle(),
      say(h("p", {}), "findEmptyRest"),
      h(
        "div",
        { class: "row-of-buttons" },
        wordButton("choosePictures", () => void this.choose(), "plain main"),
        wordButton("chooseFolder", () => void this.chooseFolder()),
        wordButton("findSamples", () => void this.openGallery()),
      ),
    );
    this.build();
    this.listen();
  }

  enter(): void {
    this.grid.element.hidden = false;
    if (!this.begun) {
      this.begun = true;
      void this.load(false);
    }
    this.away = false;
    this.heedNews();
    if (matchMedia("(pointer: fine)").matches) this.field.focus({ preventScroll: true });
  }

  leave(): void {
    this.away = true;
    clearTimeout(this.idle);
    clearTimeout(this.news);
    this.news = 0;
  }

  end(): void {
    clearTimeout(this.idle);
    clearTimeout(this.news);
    this.found = null;
    this.abort.abort();
    this.loading.abort();
    this.library.pause(true);
    void this.library.clear({ forget: false });
    void this.seer.dispose();
  }

  take(found: readonly Found[]): void {
    void this.add(found, null);
  }

  changed(): void {}

  translated(): void {
    translate(this.section);
    this.render();
  }

  private build(): void {
    const clear = iconButton(X, "clear", () => this.suggest(""));
    clear.id = "find-clear";
    const search = h("search", {}, h("div", { class: "entry" }, icon(Search), this.field, clear), this.tools);
    this.working.append(
      h("p", { class: "line" }, this.what, h("span", { class: "figures-and-pause" }, this.figures, this.pauseButton)),
      this.bar.element,
    );
    const head = h("div", { class: "find-head" }, search, this.chips);
    const below = h("div", { class: "row-of-buttons" }, this.moreButton);
    this.section.replaceChildren(
      head,
      h("div", { class: "find-lines" }, this.working, this.problem, this.loadButton, this.note, this.reopenButton),
      this.empty,
      this.grid.element,
      below,
    );
  }

  private listen(): void {
    // Also while a syllable is composed: what is there so far can be looked for. Only Enter has to wait.
    this.field.addEventListener("input", () => this.typed());
    this.field.addEventListener("keydown", event => {
      if (event.key === "Enter" && !event.isComposing) void this.refine();
      if (event.key === "ArrowDown" && !event.isComposing) {
        event.preventDefault();
        this.grid.element.querySelector<HTMLElement>('[tabindex="0"]')?.focus();
      }
    });
    this.field.addEventListener("compositionend", () => this.typed());
    this.grid.element.addEventListener("keydown", event => {
      // From the first row there is no way up but this.
      if (event.key !== "ArrowUp" || event.defaultPrevented) return;
      event.preventDefault();
      this.field.focus();
    });
  }

  private typed(): void {
    clearTimeout(this.timer);
    clearTimeout(this.idle);
    this.abort.abort();
    this.timer = window.setTimeout(() => void this.search(), TYPING_MS);
  }

  private suggest(words: string): void {
    this.field.value = words;
    this.field.focus({ preventScroll: true });
    void this.search();
  }

  /** Whether the order that is shown knows fewer pictures, or others, than have been looked at. */
  private get stale(): boolean {
    return this.found !== null && this.library.progress.done !== this.ranked;
  }

  /** What has been looked at since takes its place among what was found. */
  private heedNews(): void {
    this.show();
    if (this.away || this.news !== 0 || !this.stale) return;
    this.news = window.setTimeout(() => {
      this.news = 0;
      if (!this.stale) return;
      // A second look is seen to its end.
      if (this.fitting === "now") this.heedNews();
      else void this.search({ anew: false });
    }, NEWS_MS);
  }

  /**
   * Ranks by what the pictures look like; a second look follows when nothing is typed for a while. Not `anew`: the same words, now that more pictures
   * have been looked at.
   */
  private async search({ anew = true } = {}): Promise<void> {
    clearTimeout(this.idle);
    this.abort.abort();
    const abort = new AbortController();
    this.abort = abort;
    const text = anew ? this.field.value.trim() : this.text;
    this.text = text;
    if (anew) this.all = false;
    this.fitting = "no";
    if (text === "" || !this.seer.ready) {
      this.found = null;
      return this.show();
    }
    try {
      const query = await this.seer.read(text);
      if (abort.signal.aborted) return;
      const started = performance.now();
      this.ranked = this.library.progress.done;
      this.found = rank(this.library.items, query);
      performance.measure("find: rank", { start: started }); // seen in the browser's own tools, and by a test
      this.problem.hidden = true;
      this.show();
      if (anew && window.scrollY > this.grid.element.offsetTop) window.scrollTo({ top: 0, behavior: "instant" });
      this.idle = window.setTimeout(() => void this.refine(), IDLE_MS);
    } catch (error) {
      if (!abort.signal.aborted) this.fail(error);
    }
  }

  /** Looks at the best again, each together with the words. */
  private async refine(): Promise<void> {
    clearTimeout(this.idle);
    const { found, text } = this;
    const { signal } = this.abort;
    if (found === null || text === "" || signal.aborted || this.fitting !== "no") return;
    this.fitting = "now";
    this.show();
    const itm = new Map<Item, number>();
    try {
      for (const { item } of found.slice(0, AGAIN)) {
        const file = await this.library.file(item);
        if (file !== null) itm.set(item, await this.seer.match(file, text, signal));
        if (signal.aborted) return;
      }
    } catch (error) {
      if (signal.aborted) return;
      this.fail(error);
    }
    this.fitting = itm.size === 0 ? "no" : "done";
    this.found = refined(found, itm);
    this.show();
    const best = this.found[0];
    if (best !== undefined) this.shell.announce(`${w.bestFor(text)}: ${best.item.name}`);
  }

  private async load(asked: boolean): Promise<void> {
    const abort = new AbortController();
    this.loading = abort;
    this.phase = "starting";
    this.problem.hidden = true;
    this.show();
    try {
      this.closed = await closedFolder(this.choice, asked);
      if (this.closed !== null) {
        this.phase = "offered";
        return this.show();
      }
      const { bytes, cached, index } = await this.seer.inspect(abort.signal);
      this.bytes = { all: bytes, here: cached };
      this.library.use(await this.seer.tower());
      await this.library.restore();
      for (const { found, root } of this.early.splice(0)) await this.library.add(found, root);
      if (!asked && bytes - cached > UNASKED) {
        this.phase = "offered";
        return this.show();
      }
      this.phase = "loading";
      this.bar.divide(inOrder(index.stages));
      if (this.library.items.length === 0) void this.openGallery();
      await this.seer.load(abort.signal, ({ totals }) => {
        const { what, figures } = loading(totals);
        setText(this.what, what);
        setText(this.figures, figures);
        this.bar.show(totals.loaded, totals.total);
      });
      this.phase = "ready";
      this.bar.divide([]);
      this.suggestions.render(this.seer.ui?.suggestions ?? []);
      this.show();
      void this.library.work();
      void this.search();
    } catch (error) {
      if (abort.signal.aborted) return;
      this.phase = "failed";
      void choose("find", null); // not tried again on the next visit
      this.fail(error);
      this.show();
    }
  }

  private async add(found: readonly Found[], root: FileSystemDirectoryHandle | null): Promise<void> {
    // The pictures of the sample gallery make way for the visitor's own.
    if (this.library.items.length > 0 && this.library.items.every(({ address }) => address !== null)) await this.takeAway(false);
    if (this.library.knowsTower) return this.library.add(found, root);
    this.early.push({ found, root });
    this.show();
  }

  private async choose(): Promise<void> {
    await this.add(fromFiles(await chooseFiles()), null);
  }

  private async chooseFolder(): Promise<void> {
    const chosen = await chooseFolder();
    if (chosen !== null) await this.add(chosen.found, chosen.handle);
  }

  private async reopen(): Promise<void> {
    this.gone = await this.library.reopen();
    this.show();
  }

  private async openGallery(): Promise<void> {
    try {
      const folder = new URL("gallery/", document.baseURI);
      const response = await fetch(new URL("index.json", folder));
      const list: unknown = await response.json();
      if (!Array.isArray(list)) return;
      const files = list.flatMap((one: unknown) =>
        typeof one === "object" && one !== null && "file" in one && typeof one.file === "string" ? [one.file] : [],
      );
      await this.library.addAddresses(files.map(file => ({ path: file, address: new URL(file, folder).href })));
    } catch {
      return; // a site without a gallery is whole without it
    }
  }

  private async forget(): Promise<void> {
    // Those of the gallery are soon there again.
    const own = this.library.items.some(({ address, state }) => address === null && state === "seen");
    if (!own || (await confirmed("forgetTitle", "forgetRest", "forgetAct"))) await this.takeAway(true);
  }

  private async takeAway(forget: boolean): Promise<void> {
    this.early = [];
    await this.library.clear({ forget });
    this.grid.forget();
    this.found = null;
    this.show();
  }

  private async open(id: number): Promise<void> {
    const item = this.library.items.find(one => one.id === id);
    if (item === undefined) return;
    if (item.file === null && item.address === null) await this.reopen();
    const file = await this.library.file(item);
    if (file !== null) this.shell.ask([{ file, path: item.path, folder: item.folder }]);
    else if (this.gone.length === 0) setText(this.note, w.lastTime);
  }

  private fail(error: unknown): void {
    const problem = problemWith(error, this.choice);
    setAttribute(this.problem, "data-error-code", problem.code);
    this.problem.replaceChildren(...problemWords(problem, "model"));
    this.problem.hidden = false;
  }

  /** With the next frame. */
  private show(): void {
    if (this.frame !== 0) return;
    this.frame = requestAnimationFrame(() => {
      this.frame = 0;
      keepFocus(
        this.section,
        () => this.render(),
        () => this.next(),
      );
    });
  }

  /** How many pictures were given before the tower was known. */
  private get waiting(): number {
    return this.early.flatMap(({ found }) => found).filter(({ file }) => isPicture(file)).length;
  }

  /** Where the visitor goes on when what had the focus is gone. */
  private next(): HTMLElement | null {
    if (!this.empty.hidden) return this.empty.querySelector("button");
    return matchMedia("(pointer: fine)").matches ? this.field : null;
  }

  private render(): void {
    const { items, progress } = this.library;
    const { found, phase } = this;
    setAttribute(this.field, "placeholder", this.seer.ui?.suggestions[0] ?? w.findPlaceholder);
    setAttribute(this.section, "data-phase", phase);
    setAttribute(this.section, "data-seen", String(progress.done));
    setAttribute(this.section, "data-fitting", this.fitting);
    const given = items.length > 0 || this.waiting > 0;
    this.empty.hidden = given || phase === "starting" || phase === "loading";
    this.tools.hidden = !given;
    this.loadButton.hidden = phase !== "offered" && phase !== "failed";
    setText(this.loadButton, phase === "offered" ? loadWords(this.bytes.all, this.bytes.here, this.closed) : w.tryAgain);
    this.chips.hidden = this.text !== "" || items.length === 0;
    const locked = items.filter(({ file, address }) => file === null && address === null);
    const [folder] = this.library.folders;
    this.reopenButton.hidden = locked.length === 0 || folder === undefined;
    if (folder !== undefined) setText(this.reopenButton, w.openAgain(folder.name));
    this.renderProgress();
    const shown = found === null ? items.map(item => ({ item, itc: 0, itm: null })) : this.all ? found : found.slice(0, SHOWN);
    this.moreButton.hidden = found === null || found.length <= shown.length;
    setText(this.moreButton, w.showAll(found?.length ?? 0));
    this.grid.render(
      shown.map(({ item }) => cell(item)),
      found === null ? new Map() : marks(found.slice(0, shown.length)),
    );
    setText(this.note, this.said(locked.length > 0));
  }

  private renderProgress(): void {
    const { phase } = this;
    const { done, all, failed, rate, paused } = this.library.progress;
    const left = all - done - failed;
    const waits = this.library.items.some(({ state, file, address }) => state === "waiting" && (file !== null || address !== null));
    const looking = phase === "ready" && waits;
    this.working.hidden = !(looking || phase === "starting" || phase === "loading");
    this.pauseButton.hidden = !looking;
    if (phase === "starting") setText(this.what, w.gettingReady);
    if (phase === "starting") this.bar.show(0, 0);
    if (!looking) return;
    const figures = paused
      ? [w.paused]
      : rate === null
        ? []
        : [w.perSecond(rate < 10 ? rate.toFixed(1) : String(Math.round(rate))), w.left(duration(left / rate))];
    setText(this.what, w.encoding(done, all));
    setText(this.figures, figures.join(" · "));
    this.bar.show(done + failed, all);
    const words = paused ? w.resume : w.pause;
    if (this.pauseButton.textContent !== words) this.pauseButton.replaceChildren(icon(paused ? Play : Pause), words);
  }

  private said(locked: boolean): string {
    const { found, fitting, text } = this;
    const { failed, done, all } = this.library.progress;
    const [gone] = this.gone;
    if (this.waiting > 0) return w.picturesWait(this.waiting);
    if (locked && gone !== undefined) return w.folderGone(gone);
    if (found === null) return locked ? w.lastTime : failed > 0 ? w.failedSome(failed) : all > 0 && done + failed === all ? w.found(all) : "";
    if (found.length === 0) return w.noneSeen;
    if (fitting === "now") return w.fitting;
    if (fitting === "done") return found.some(({ itm }) => itm !== null && itm >= FITS) ? w.fitted : w.noMatch;
    return w.bestFor(text);
  }
}

const cell = ({ id, name, ratio, thumb, address, state }: Item): Cell => ({ id, name, ratio, thumb: thumb ?? address, state });

/** The best fills its bar, the worst has none: how much better one is than the next is what can be seen. */
function marks(found: readonly Scored<Item>[]): Map<number, Mark> {
  const best = found.reduce((high, { itc }) => Math.max(high, itc), -1);
  const worst = found.reduce((low, { itc }) => Math.min(low, itc), 1);
  const range = Math.max(best - worst, 1e-6);
  return new Map(
    found.map(({ item, itc, itm }) => {
      const likeness = w.scoreItc(itc.toFixed(3));
      const note = itm === null ? likeness : `${w.scoreItm(`${Math.round(itm * 100)} %`)} · ${likeness}`;
      return [item.id, { bar: (itc - worst) / range, note }];
    }),
  );
}
