/** Find: many pictures, a field above them, and those that look like the words come first while they are typed. */

import { FolderPlus, ImagePlus, Search as Glass, Trash2, X } from "lucide";
import { problemWords } from "../answer.js";
import { type Choice, choose, closedFolder, problemWith } from "../choice.js";
import { confirmed } from "../confirm.js";
import { byId, h, icon, iconButton, Keyed, keepFocus, say, setAttribute, setText, translate, wordButton } from "../dom.js";
import { emptyTitle } from "../drop.js";
import type { Found } from "../files.js";
import type { Place, Shell } from "../routes.js";
import { inOrder, languageOf, loadWords, w } from "../words.js";
import { cell, marks } from "./cells.js";
import { Grid } from "./grid.js";
import { Intake } from "./intake.js";
import { isOpen, Library } from "./library.js";
import { FITS } from "./rank.js";
import { Search } from "./search.js";
import { Seer } from "./seer.js";
import { Store } from "./store.js";
import { type Work, Working } from "./working.js";

/** A model above this is fetched only after a click. */
const UNASKED = 50e6;

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
  private readonly loadButton: HTMLButtonElement;
  private readonly problem = h("div", { class: "problem", hidden: true });
  private readonly empty: HTMLElement;
  private readonly tools: HTMLElement;
  private readonly reopenButton: HTMLButtonElement;
  private readonly moreButton: HTMLButtonElement;
  private readonly suggestions: Keyed<string>;
  private readonly working: Working;
  private readonly grid: Grid;
  private readonly seer: Seer;
  private readonly library: Library;
  private readonly intake: Intake;
  private readonly search: Search;
  private loading = new AbortController();
  private frame = 0;
  private phase: "starting" | "offered" | "loading" | "ready" | "failed" = "starting";
  private bytes = { all: 0, here: 0 };
  /** The model's folder, which the visitor has to open again. */
  private closed: string | null = null;
  private begun = false;

  constructor(shell: Shell, choice: Choice) {
    this.shell = shell;
    this.choice = choice;
    this.seer = new Seer(shell.engine, choice);
    this.library = new Library(this.seer, new Store(), () => {
      this.show();
      this.search.heedNews();
    });
    this.search = new Search(this.seer, this.library, {
      words: () => this.field.value,
      changed: () => this.show(),
      ordered: anew => this.ordered(anew),
      refined: ({ name }) => this.shell.announce(`${w.bestFor(this.search.text)}: ${name}`),
      failed: error => this.fail(error),
    });
    this.grid = new Grid(id => void this.open(id));
    this.intake = new Intake(this.library, {
      changed: () => this.show(),
      emptied: () => {
        this.grid.forget();
        this.search.forget();
        this.show();
      },
    });
    this.working = new Working(() => this.library.pause(!this.library.progress.paused));
    this.suggestions = new Keyed(
      this.chips,
      words => words,
      words => {
        const button = h("button", { type: "button", class: "chip", lang: languageOf(words), onclick: () => this.suggest(words) }, words);
        return { element: h("li", {}, button), update() {} };
      },
    );
    const button = (kind: string, onclick: () => void) => h("button", { type: "button", class: kind, onclick });
    this.loadButton = button("plain main", () => void this.load(true));
    this.reopenButton = button("plain", () => void this.intake.reopen());
    this.moreButton = button("plain", () => this.search.showAll());
    this.tools = h(
      "div",
      { class: "view-tools" },
      iconButton(ImagePlus, "addPictures", () => void this.intake.choose()),
      iconButton(FolderPlus, "addFolder", () => void this.intake.chooseFolder()),
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
        wordButton("choosePictures", () => void this.intake.choose(), "plain main"),
        wordButton("chooseFolder", () => void this.intake.chooseFolder()),
        wordButton("findSamples", () => void this.intake.openGallery()),
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
    this.show();
    this.search.enter();
    if (matchMedia("(pointer: fine)").matches) this.field.focus({ preventScroll: true });
  }

  leave(): void {
    this.search.leave();
  }

  end(): void {
    this.search.end();
    this.loading.abort();
    this.library.pause(true);
    void this.library.clear({ forget: false });
    void this.seer.dispose();
  }

  take(found: readonly Found[]): void {
    void this.intake.add(found, null);
  }

  changed(): void {}

  translated(): void {
    translate(this.section);
    this.render();
  }

  private build(): void {
    const clear = iconButton(X, "clear", () => this.suggest(""));
    clear.id = "find-clear";
    const search = h("search", {}, h("div", { class: "entry" }, icon(Glass), this.field, clear), this.tools);
    const head = h("div", { class: "find-head" }, search, this.chips);
    const below = h("div", { class: "row-of-buttons" }, this.moreButton);
    this.section.replaceChildren(
      head,
      h("div", { class: "find-lines" }, this.working.element, this.problem, this.loadButton, this.note, this.reopenButton),
      this.empty,
      this.grid.element,
      below,
    );
  }

  private listen(): void {
    // Also while a syllable is composed: what is there so far can be looked for. Only Enter has to wait.
    this.field.addEventListener("input", () => this.search.typed());
    this.field.addEventListener("keydown", event => {
      if (event.key === "Enter" && !event.isComposing) void this.search.refine();
      if (event.key === "ArrowDown" && !event.isComposing) {
        event.preventDefault();
        this.grid.element.querySelector<HTMLElement>('[tabindex="0"]')?.focus();
      }
    });
    this.field.addEventListener("compositionend", () => this.search.typed());
    this.grid.element.addEventListener("keydown", event => {
      // From the first row there is no way up but this.
      if (event.key !== "ArrowUp" || event.defaultPrevented) return;
      event.preventDefault();
      this.field.focus();
    });
  }

  private suggest(words: string): void {
    this.field.value = words;
    this.field.focus({ preventScroll: true });
    void this.search.start();
  }

  private ordered(anew: boolean): void {
    this.problem.hidden = true;
    this.show();
    if (anew && !this.section.hidden && window.scrollY > this.grid.element.offsetTop) window.scrollTo({ top: 0, behavior: "instant" });
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
      await this.intake.addEarly();
      if (!asked && bytes - cached > UNASKED) {
        this.phase = "offered";
        return this.show();
      }
      this.phase = "loading";
      this.working.divide(inOrder(index.stages));
      if (this.library.items.length === 0) void this.intake.openGallery();
      await this.seer.load(abort.signal, ({ totals }) => this.working.loaded(totals));
      this.phase = "ready";
      this.working.divide([]);
      this.suggestions.render(this.seer.ui?.suggestions ?? []);
      this.show();
      void this.library.work();
      void this.search.start();
    } catch (error) {
      if (abort.signal.aborted) return;
      this.phase = "failed";
      void choose("find", null); // not tried again on the next visit
      this.fail(error);
      this.show();
    }
  }

  private async forget(): Promise<void> {
    // Those of the gallery are soon there again.
    const own = this.library.items.some(({ address, state }) => address === null && state === "seen");
    if (!own || (await confirmed("forgetTitle", "forgetRest", "forgetAct"))) await this.intake.takeAway({ forget: true });
  }

  private async open(id: number): Promise<void> {
    const item = this.library.items.find(one => one.id === id);
    if (item === undefined) return;
    if (!isOpen(item)) await this.intake.reopen();
    const file = await this.library.file(item);
    if (file !== null) this.shell.ask([{ file, path: item.path, folder: item.folder }]);
    else if (this.intake.gone.length === 0) setText(this.note, w.lastTime);
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

  /** Where the visitor goes on when what had the focus is gone. */
  private next(): HTMLElement | null {
    if (!this.empty.hidden) return this.empty.querySelector("button");
    return matchMedia("(pointer: fine)").matches ? this.field : null;
  }

  private render(): void {
    const { items, progress } = this.library;
    const { phase } = this;
    const { found, shown } = this.search;
    setAttribute(this.field, "placeholder", this.seer.ui?.suggestions[0] ?? w.findPlaceholder);
    setAttribute(this.section, "data-phase", phase);
    setAttribute(this.section, "data-seen", String(progress.done));
    setAttribute(this.section, "data-fitting", this.search.fitting);
    const given = items.length > 0 || this.intake.waiting > 0;
    this.empty.hidden = given || phase === "starting" || phase === "loading";
    this.tools.hidden = !given;
    this.loadButton.hidden = phase !== "offered" && phase !== "failed";
    setText(this.loadButton, phase === "offered" ? loadWords(this.bytes.all, this.bytes.here, this.closed) : w.tryAgain);
    this.chips.hidden = this.search.text !== "" || items.length === 0;
    const [folder] = this.library.folders;
    this.reopenButton.hidden = !this.library.locked || folder === undefined;
    if (folder !== undefined) setText(this.reopenButton, w.openAgain(folder.name));
    this.working.render(this.work, progress);
    this.moreButton.hidden = found === null || shown === null || found.length <= shown.length;
    setText(this.moreButton, w.showAll(found?.length ?? 0));
    this.grid.render((shown?.map(({ item }) => item) ?? items).map(cell), shown === null ? new Map() : marks(shown));
    setText(this.note, this.said());
  }

  /** What goes on. */
  private get work(): Work | null {
    if (this.phase === "starting" || this.phase === "loading") return this.phase;
    return this.phase === "ready" && this.library.waits ? "looking" : null;
  }

  private said(): string {
    const { found, fitting, text } = this.search;
    const { locked } = this.library;
    const { failed, done, all } = this.library.progress;
    const [gone] = this.intake.gone;
    if (this.intake.waiting > 0) return w.picturesWait(this.intake.waiting);
    if (locked && gone !== undefined) return w.folderGone(gone);
    if (found === null) return locked ? w.lastTime : failed > 0 ? w.failedSome(failed) : all > 0 && done + failed === all ? w.found(all) : "";
    if (found.length === 0) return w.noneSeen;
    if (fitting === "now") return w.fitting;
    if (fitting === "done") return found.some(({ itm }) => itm !== null && itm >= FITS) ? w.fitted : w.noMatch;
    return w.bestFor(text);
  }
}
