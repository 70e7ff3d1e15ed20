/** Batch: many pictures, one wish, a table that fills row by row and leaves as a file. */

import { Copy, FolderPlus, ImageOff, ImagePlus, RotateCcw, Trash2, X } from "lucide";
import { copied } from "../answer.js";
import { Bar } from "../bar.js";
import { confirmed } from "../confirm.js";
import { byId, h, icon, iconButton, isShown, Keyed, keepFocus, say, setAttribute, setText, translate, wordButton } from "../dom.js";
import { emptyTitle } from "../drop.js";
import { chooseFiles, chooseFolder, type Found, fromFiles } from "../files.js";
import type { Place, Shell } from "../routes.js";
import { DEFAULTS, type Settings } from "../settings.js";
import type { State } from "../state.js";
import { duration, explain, languageOf, w } from "../words.js";
import { altAttribute, type Format, type Line, MIME, textName, written } from "./export.js";
import { download, Runner, writeBeside } from "./runner.js";
import { type Batch as BatchState, canRun, counts, EMPTY, type Event, framed, type Row, reduce, type Task } from "./state.js";

/** Rows in the table at first; more on demand: thousands of text fields are slow in every browser. */
const ROWS = 200;
const PREVIEW_MS = 500;
const TASKS = [
  ["caption", "taskCaption"],
  ["alt", "taskAlt"],
  ["question", "taskQuestion"],
] as const;

export class Batch implements Place {
  private readonly shell: Shell;
  private readonly section = byId("batch", HTMLElement);
  private readonly files = new Map<number, Found>();
  private readonly thumbs = new Map<number, string>();
  private readonly runner: Runner;
  private readonly question = say(
    h("input", { type: "text", class: "field", id: "batch-question", autocomplete: "off" }),
    "batchQuestion",
    "label",
    "placeholder",
  );
  private readonly prefix = h("input", { type: "text", class: "field", id: "batch-prefix", autocomplete: "off" });
  private readonly suffix = h("input", { type: "text", class: "field", id: "batch-suffix", autocomplete: "off" });
  private readonly previewImage = h("img", { alt: "" });
  private readonly previewText = h("p", { class: "preview-text", role: "status" });
  private readonly preview: HTMLElement;
  private readonly setup: HTMLElement;
  private readonly empty: HTMLElement;
  private readonly runButton: HTMLButtonElement;
  private readonly stopButton: HTMLButtonElement;
  private readonly againButton: HTMLButtonElement;
  private readonly moreButton: HTMLButtonElement;
  private readonly bar = new Bar(say(h("progress", { max: 1 }), "viewBatch", "label"));
  private readonly figures = h("p", { class: "figures" });
  private readonly note = h("p", { class: "rest", role: "status" });
  private readonly table: HTMLElement;
  private readonly rows: Keyed<Row>;
  private readonly exports: HTMLElement;
  private readonly exportButtons: HTMLButtonElement[];
  private readonly txtButton: HTMLButtonElement;
  private readonly tasks = new Map<Task, HTMLInputElement>();
  private state: BatchState = EMPTY;
  private settings: Settings = DEFAULTS;
  private modelReady = false;
  private nextId = 1;
  private shownRows = ROWS;
  private frame = 0;
  private started = { at: 0, done: 0 };
  private previewTimer = 0;
  private previewAbort = new AbortController();
  private previewed = "";
  private said = w;

  constructor(shell: Shell) {
    this.shell = shell;
    const desk = {
      dispatch: (event: Event) => this.dispatch(event),
      file: (row: number) => this.files.get(row)?.file,
      model: () => shell.captioner(),
      settings: () => this.settings,
    };
    const current = () => this.state;
    this.runner = new Runner({
      ...desk,
      get state() {
        return current();
      },
    });
    this.runButton = h("button", { type: "button", class: "plain main", id: "batch-run", onclick: () => void this.run() });
    this.stopButton = wordButton("stop", () => this.runner.stop());
    this.stopButton.id = "batch-stop";
    this.againButton = wordButton("rerun", () => void this.run("rerun"));
    const more = () => {
      this.shownRows += ROWS;
      this.show();
    };
    this.moreButton = h("button", { type: "button", class: "plain", onclick: more });
    const body = h("tbody");
    this.rows = new Keyed(
      body,
      ({ id }) => id,
      row => this.row(row),
    );
    const columns = [
      say(h("th", { scope: "col" }), "columnPicture"),
      say(h("th", { scope: "col" }), "columnFile"),
      say(h("th", { scope: "col" }), "columnText"),
    ];
    const actions = h("th", { scope: "col" }, say(h("span", { class: "unseen" }), "columnActions"));
    this.table = h("table", { id: "batch-table" }, h("thead", {}, h("tr", {}, ...columns, actions)), body);
    const formats: Format[] = ["csv", "jsonl", "json"];
    this.exportButtons = formats.map(format =>
      h("button", { type: "button", class: "plain", "data-format": format, onclick: () => this.export(format) }, format.toUpperCase()),
    );
    this.txtButton = h("button", { type: "button", class: "plain", "data-format": "txt", onclick: () => void this.exportTexts() });
    this.exports = say(
      h("div", { class: "exports", role: "group" }, say(h("span", { class: "rest" }), "exportAs"), ...this.exportButtons, this.txtButton),
      "exportAs",
      "label",
    );
    this.preview = h(
      "figure",
      { class: "preview" },
      this.previewImage,
      h("figcaption", {}, say(h("span", { class: "rest" }), "preview"), this.previewText),
    );
    this.setup = this.makeSetup();
    this.empty = h(
      "div",
      { class: "empty" },
      emptyTitle(),
      say(h("p", {}), "batchEmptyRest"),
      h(
        "div",
        { class: "row-of-buttons" },
        wordButton("choosePictures", () => void this.choose(), "plain main"),
        wordButton("chooseFolder", () => void this.chooseFolder()),
        wordButton("trySamples", () => void this.addSamples()),
      ),
    );
    const bar = h("div", { class: "run-bar" }, this.runButton, this.stopButton, this.againButton, this.figures, this.exports, this.bar.element);
    this.section.replaceChildren(this.empty, this.setup, bar, this.note, this.table, h("div", { class: "row-of-buttons" }, this.moreButton));
    this.render();
  }

  enter(): void {
    this.show();
  }

  leave(): void {
    this.previewAbort.abort();
  }

  end(): void {
    this.leave();
    this.clear();
  }

  take(found: readonly Found[]): void {
    const rows = found.map(one => {
      const id = this.nextId++;
      this.files.set(id, one);
      this.thumbs.set(id, URL.createObjectURL(one.file));
      return { id, path: one.path, name: one.path.split("/").at(-1) ?? one.path };
    });
    this.dispatch({ type: "add", rows });
    this.soonPreview();
  }

  changed({ settings, model }: State): void {
    this.settings = settings;
    const ready = model.phase === "ready";
    if (ready === this.modelReady) return;
    this.modelReady = ready;
    this.show();
    this.soonPreview();
  }

  translated(): void {
    translate(this.section);
    this.render();
  }

  private makeSetup(): HTMLElement {
    const choices = TASKS.map(([task, name]) => {
      const radio = h("input", { type: "radio", name: "task", value: task, class: "unseen" });
      radio.checked = task === this.state.task;
      radio.addEventListener("change", () => this.set({ task }));
      this.tasks.set(task, radio);
      return h("label", {}, radio, say(h("span", {}), name));
    });
    this.question.addEventListener("input", () => this.set({ question: this.question.value }));
    this.prefix.addEventListener("input", () => this.set({ prefix: this.prefix.value }));
    this.suffix.addEventListener("input", () => this.set({ suffix: this.suffix.value }));
    const frame = h(
      "div",
      { class: "frame" },
      h("div", { class: "setting" }, say(h("label", { for: "batch-prefix" }), "prefix"), this.prefix),
      h("div", { class: "setting" }, say(h("label", { for: "batch-suffix" }), "suffix"), this.suffix),
    );
    const tools = h(
      "div",
      { class: "view-tools" },
      iconButton(ImagePlus, "addPictures", () => void this.choose()),
      iconButton(FolderPlus, "addFolder", () => void this.chooseFolder()),
      iconButton(Trash2, "clearAll", () => void this.askAndClear()),
    );
    const head = h("div", { class: "task-line" }, say(h("div", { class: "choices", role: "radiogroup" }, ...choices), "task", "label"), tools);
    return h("div", { class: "setup" }, h("div", { class: "task" }, head, this.question, frame), this.preview);
  }

  private row({ id, path }: Row) {
    const image = h("img", { src: this.thumbs.get(id), alt: "", loading: "lazy", decoding: "async" });
    const open = h("button", { type: "button", class: "thumb", onclick: () => this.open(id) }, image);
    image.addEventListener("error", () => image.replaceWith(icon(ImageOff)), { once: true });
    const text = h("textarea", { rows: "1", autocomplete: "off" });
    text.addEventListener("input", () => {
      grow(text);
      this.dispatch({ type: "edit", row: id, text: text.value });
    });
    const status = h("p", { class: "state" });
    const problem = h("div", { class: "row-problem", hidden: true });
    const retry = iconButton(RotateCcw, "retryRow", () => void this.retry(id));
    const copy = iconButton(Copy, "copyRow", () => void this.copy(id, copy));
    const remove = iconButton(X, "removeRow", () => this.remove(id));
    const cell = h("td", { class: "cell-text" }, text, status, problem);
    const actions = h("td", { class: "cell-actions" }, h("div", {}, copy, retry, remove));
    const element = h("tr", {}, h("td", { class: "cell-picture" }, open), h("td", { class: "cell-file", title: path }, path), cell, actions);
    let shown: Row | null = null;
    let spoken = this.said;
    const update = (row: Row) => {
      if (shown === row && spoken === w) return;
      shown = row;
      spoken = w;
      setAttribute(element, "data-status", row.status);
      setAttribute(open, "aria-label", w.openInAsk(row.name));
      setAttribute(text, "aria-label", w.textOf(row.name));
      setAttribute(text, "lang", languageOf(row.text));
      if (document.activeElement !== text && text.value !== row.text) text.value = row.text;
      text.hidden = row.text === "" && row.status !== "done";
      if (!text.hidden) grow(text);
      setText(status, row.status === "running" ? w.rowRunning : row.status === "waiting" && row.text === "" ? w.rowWaiting : "");
      problem.hidden = row.problem === null;
      if (row.problem !== null) {
        setAttribute(problem, "data-error-code", row.problem.code);
        setText(problem, explain(row.problem, "picture").happened);
      }
      copy.hidden = row.text === "";
      retry.hidden = row.status !== "failed" && row.status !== "done";
    };
    return { element, update };
  }

  private dispatch(event: Event): void {
    this.state = reduce(this.state, event);
    this.show();
  }

  private set(how: Partial<Pick<BatchState, "task" | "question" | "prefix" | "suffix">>): void {
    this.dispatch({ type: "set", how });
    this.soonPreview();
  }

  private async run(how: "run" | "rerun" = "run"): Promise<void> {
    this.previewAbort.abort();
    this.dispatch({ type: how });
    this.started = { at: performance.now(), done: counts(this.state).done };
    await this.runner.run();
    const { done, failed } = counts(this.state);
    this.shell.announce(failed === 0 ? w.batchDone(done) : `${w.batchDone(done)}, ${w.batchFailed(failed)}`);
  }

  private async retry(row: number): Promise<void> {
    this.dispatch({ type: "retry", row });
    if (!this.state.running) await this.run();
  }

  private async copy(row: number, button: HTMLButtonElement): Promise<void> {
    const text = this.state.rows.find(({ id }) => id === row)?.text ?? "";
    const words = framed(this.state, text);
    if (!(await copied(this.state.task === "alt" ? altAttribute(words) : words))) return;
    button.classList.add("did");
    setTimeout(() => button.classList.remove("did"), 1200);
  }

  private remove(row: number): void {
    const thumb = this.thumbs.get(row);
    if (thumb !== undefined) URL.revokeObjectURL(thumb);
    this.thumbs.delete(row);
    this.files.delete(row);
    this.dispatch({ type: "remove", row });
    this.soonPreview();
  }

  private async askAndClear(): Promise<void> {
    const written = this.state.rows.some(({ text }) => text !== "");
    if (!written || (await confirmed("clearTitle", "clearRest", "clearAll"))) this.clear();
  }

  private clear(): void {
    this.runner.stop();
    for (const thumb of this.thumbs.values()) URL.revokeObjectURL(thumb);
    this.thumbs.clear();
    this.files.clear();
    this.shownRows = ROWS;
    this.dispatch({ type: "clear" });
  }

  private open(row: number): void {
    const found = this.files.get(row);
    if (found !== undefined) this.shell.ask([found]);
  }

  private async choose(): Promise<void> {
    this.take(fromFiles(await chooseFiles()));
  }

  private async chooseFolder(): Promise<void> {
    const chosen = await chooseFolder("readwrite").catch(() => null);
    if (chosen !== null) this.take(chosen.found);
  }

  private async addSamples(): Promise<void> {
    try {
      const folder = new URL("samples/", document.baseURI);
      const list: unknown = await (await fetch(new URL("index.json", folder))).json();
      if (!Array.isArray(list)) return;
      const found: Found[] = [];
      for (const one of list as unknown[]) {
        if (typeof one !== "object" || one === null || !("file" in one) || typeof one.file !== "string") continue;
        const blob = await (await fetch(new URL(one.file, folder))).blob();
        found.push({ file: new File([blob], one.file, { type: blob.type }), path: one.file, folder: null });
      }
      this.take(found);
    } catch {
      return; // a site without samples is whole without them
    }
  }

  /** What the first picture would get, once the wish has settled. */
  private soonPreview(): void {
    clearTimeout(this.previewTimer);
    this.previewTimer = window.setTimeout(() => void this.showPreview(), PREVIEW_MS);
  }

  private async showPreview(): Promise<void> {
    const [first] = this.state.rows;
    if (first === undefined || this.state.running || !this.modelReady || !canRun(this.state)) return;
    const { task, question } = this.state;
    const wish = `${first.id}/${task}/${task === "question" ? question.trim() : ""}/${JSON.stringify(this.settings)}`;
    if (wish === this.previewed) return this.show();
    this.previewAbort.abort();
    const abort = new AbortController();
    this.previewAbort = abort;
    this.previewText.dataset.text = "";
    setText(this.previewText, w.previewing);
    try {
      const text = await this.runner.preview(first.id, abort.signal);
      if (abort.signal.aborted) return;
      this.previewed = wish;
      this.previewText.dataset.text = text;
    } catch {
      if (!abort.signal.aborted) this.previewText.dataset.text = "";
    }
    this.show();
  }

  private lines(): Line[] {
    return this.state.rows
      .filter(({ status, text }) => text !== "" || status === "failed")
      .map(({ path, text, question, problem }) => ({ path, text: framed(this.state, text), question, problem: problem?.message ?? null }));
  }

  private export(format: Format): void {
    download(`${this.state.task === "question" ? "answers" : "captions"}.${format}`, MIME[format], written(format, this.lines()));
  }

  /** Beside the pictures where the browser lets the page write there, else as so many downloads. */
  private async exportTexts(): Promise<void> {
    const files = this.state.rows.flatMap(({ id, name, text }) => {
      const found = this.files.get(id);
      return found === undefined || text === "" ? [] : [{ found, name: textName(name), text: `${framed(this.state, text)}\n` }];
    });
    const beside = files.filter(({ found }) => found.folder !== null);
    const { wrote, failed } = await writeBeside(beside);
    for (const { found, name, text } of files) if (found.folder === null) download(name, "text/plain", text);
    const told = [wrote > 0 ? w.wroteBeside(wrote) : "", failed > 0 ? w.notWritten(failed) : ""].filter(words => words !== "");
    setText(this.note, told.join(" "));
  }

  private show(): void {
    if (this.frame !== 0) return;
    this.frame = requestAnimationFrame(() => {
      this.frame = 0;
      const row = document.activeElement?.closest("#batch-table tbody tr") ?? null;
      const at = row === null ? -1 : [...(row.parentElement?.children ?? [])].indexOf(row);
      keepFocus(
        this.section,
        () => this.render(),
        () => this.next(row, at),
      );
    });
  }

  /** Where the visitor goes on when what had the focus is gone: `row` was the one that it was in, the `at`-th. */
  private next(row: Element | null, at: number): HTMLElement | null | undefined {
    if (this.state.rows.length === 0) return this.empty.querySelector("button");
    if (row?.isConnected) return row.querySelector<HTMLElement>("button");
    if (row !== null) {
      const rows = this.table.querySelectorAll("tbody tr");
      return rows[Math.min(at, rows.length - 1)]?.querySelector<HTMLElement>(".cell-actions button:last-child");
    }
    const task = this.tasks.get(this.state.task);
    return [this.stopButton, this.runButton, this.againButton].find(button => isShown(button) && !button.disabled) ?? task;
  }

  private render(): void {
    const { state } = this;
    const { task, rows, running, began } = state;
    const { all, done, failed, left } = counts(state);
    setAttribute(this.section, "data-run", running ? "running" : began && left === 0 ? "done" : began ? "stopped" : "ready");
    const none = rows.length === 0;
    this.empty.hidden = !none;
    for (const part of [this.setup, this.table, this.exports]) part.hidden = none;
    this.question.hidden = task !== "question";
    this.renderPreview();
    this.runButton.hidden = none || running || left === 0;
    this.runButton.disabled = !this.modelReady || !canRun(state);
    setText(this.runButton, began ? w.resumeRun(left) : w.run(left));
    this.stopButton.hidden = !running;
    this.againButton.hidden = none || running || left > 0 || !canRun(state);
    this.bar.hidden = !running;
    this.bar.show(done + failed, all);
    setText(this.figures, none || !began ? "" : this.progress(running, { all, done, failed, left }));
    const some = rows.some(({ text }) => text !== "");
    for (const button of [...this.exportButtons, this.txtButton]) button.disabled = !some;
    const beside = rows.some(({ id }) => this.files.get(id)?.folder != null);
    setText(this.txtButton, beside ? w.exportTxtBeside : w.exportTxt);
    setAttribute(this.table, "data-task", task);
    this.rows.render(rows.slice(0, this.shownRows));
    this.moreButton.hidden = rows.length <= this.shownRows;
    setText(this.moreButton, w.showMore(Math.min(ROWS, rows.length - this.shownRows)));
    if (none) setText(this.note, "");
    this.said = w;
  }

  private renderPreview(): void {
    const { state } = this;
    const [first] = state.rows;
    const text = this.previewText.dataset.text ?? "";
    const thumb = first === undefined ? undefined : this.thumbs.get(first.id);
    this.preview.hidden = state.began || thumb === undefined || !canRun(state);
    if (thumb !== undefined && this.previewImage.getAttribute("src") !== thumb) this.previewImage.src = thumb;
    if (text === "") return;
    const words = framed(state, text);
    setText(this.previewText, state.task === "alt" ? altAttribute(words) : words);
    setAttribute(this.previewText, "lang", languageOf(text));
  }

  private progress(running: boolean, { all, done, failed, left }: ReturnType<typeof counts>): string {
    const parts = [left === 0 ? w.batchDone(done) : w.batchProgress(done + failed, all)];
    if (failed > 0) parts.push(w.batchFailed(failed));
    const wrote = done + failed - this.started.done;
    const rate = wrote / ((performance.now() - this.started.at) / 1000);
    if (running && wrote > 1) parts.push(w.left(duration(left / rate)));
    return parts.join(" · ");
  }
}

/** As high as its words. */
function grow(field: HTMLTextAreaElement): void {
  if (CSS.supports("field-sizing", "content")) return;
  field.style.setProperty("height", "auto");
  field.style.setProperty("height", `${field.scrollHeight}px`);
}
