/** Where the model looked, painted over the picture: for the word under the pointer, the one that has the focus, or the one that was tapped. */

import { Eye } from "lucide";
import type { Attention } from "../../index.js";
import { byId, h, iconButton, setAttribute, setText } from "../dom.js";
import type { Job } from "../state.js";
import { w } from "../words.js";
import { type Heat, heat, type Stretch, stretches } from "./maps.js";

export interface LookEvents {
  /** Errors are told by the caller; null where the model cannot say. */
  attention(job: Job, text: string): Promise<Attention | null>;
}

/** A text whose words can be looked for. */
interface Told {
  readonly job: Job;
  readonly text: string;
}

/** Long enough for a pointer on its way elsewhere to be gone. */
const REST_MS = 60;

export class Look {
  private readonly root = document.documentElement;
  private readonly canvas = byId("look", HTMLCanvasElement);
  private readonly note = byId("look-note", HTMLElement);
  private readonly toggle: HTMLButtonElement;
  private readonly lines = new Map<HTMLElement, Told>();
  private readonly events: LookEvents;
  private on = false;
  private timer = 0;
  /** Only the newest wish is painted: maps may come late. */
  private wish = 0;
  private chosen: HTMLElement | null = null;

  constructor(events: LookEvents) {
    this.events = events;
    this.toggle = iconButton(Eye, "look", () => this.turn(!this.on));
    this.toggle.id = "look-toggle";
    setAttribute(this.toggle, "aria-pressed", "false");
    byId("stage", HTMLElement).append(this.toggle);
    document.addEventListener("keydown", event => {
      if (event.key === "Escape" && this.on && document.querySelector("dialog[open]") === null) this.turn(false);
    });
  }

  /** possible: whether the model can tell at all. */
  render(possible: boolean): void {
    this.toggle.hidden = !possible;
    if (!possible && this.on) this.turn(false);
    setAttribute(this.root, "data-attention", possible ? "" : null);
  }

  /** Shows a finished text word by word. The element holds nothing else. */
  tell(element: HTMLElement, job: Job, text: string): void {
    const before = this.lines.get(element);
    this.lines.set(element, { job, text });
    if (before?.text === text && before.job.picture === job.picture && element.querySelector(".word") !== null) return;
    if (before === undefined) this.listen(element);
    const parts: (Node | string)[] = [];
    let at = 0;
    for (const { from, to } of stretches(text)) {
      parts.push(text.slice(at, from), h("span", { class: "word", "data-from": from, "data-to": to }, text.slice(from, to)));
      at = to;
    }
    element.replaceChildren(...parts, text.slice(at));
    this.dress(element);
    if (this.on && element.id === "caption-text") void this.show(element, null);
  }

  /** The element tells something unfinished again, or nothing. */
  untell(element: HTMLElement): void {
    if (this.lines.get(element) === undefined) return;
    this.lines.set(element, { job: { picture: 0, turn: null }, text: "" });
    setAttribute(element, "role", null);
    if (this.chosen !== null && element.contains(this.chosen)) this.clear();
  }

  /** Another picture is shown: what lies over it is not of it. */
  forget(): void {
    this.chosen = null;
    this.hide();
  }

  private turn(on: boolean): void {
    this.on = on;
    setAttribute(this.toggle, "aria-pressed", String(on));
    setAttribute(this.root, "data-look", on ? "" : null);
    for (const element of this.lines.keys()) this.dress(element);
    this.clear();
    if (!on) return;
    const caption = byId("caption-text", HTMLElement);
    if (this.lines.has(caption)) void this.show(caption, null);
  }

  private clear(): void {
    this.choose(null);
    this.hide();
  }

  /** Words are buttons while looking is on: one stop for Tab, arrows between them. */
  private dress(element: HTMLElement): void {
    const words = element.querySelectorAll<HTMLElement>(".word");
    if (words.length === 0) return;
    setAttribute(element, "role", this.on ? "group" : null);
    setAttribute(element, "aria-label", this.on ? element.textContent : null);
    for (const [index, word] of words.entries()) {
      setAttribute(word, "role", this.on ? "button" : null);
      setAttribute(word, "aria-pressed", this.on ? "false" : null);
      setAttribute(word, "tabindex", this.on ? (index === 0 ? "0" : "-1") : null);
    }
  }

  private listen(element: HTMLElement): void {
    const wordOf = (event: Event): HTMLElement | null => (event.target instanceof HTMLElement ? event.target.closest<HTMLElement>(".word") : null);
    element.addEventListener("pointerover", event => {
      const word = wordOf(event);
      if (event.pointerType === "mouse" && word !== null) this.soon(() => void this.show(element, word));
    });
    element.addEventListener("pointerout", event => {
      if (event.pointerType === "mouse" && wordOf(event) !== null) this.soon(() => this.back());
    });
    element.addEventListener("focusin", event => {
      const word = wordOf(event);
      if (word === null || !this.on) return;
      clearTimeout(this.timer); // where the pointer happens to rest is not what is wanted now
      for (const other of element.querySelectorAll(".word")) setAttribute(other, "tabindex", other === word ? "0" : "-1");
      this.choose(word);
      void this.show(element, word);
    });
    element.addEventListener("click", event => {
      if (this.on) wordOf(event)?.focus({ preventScroll: true });
    });
    element.addEventListener("keydown", event => {
      const words = [...element.querySelectorAll<HTMLElement>(".word")];
      const at = words.findIndex(word => word.matches(":focus"));
      const to = { ArrowLeft: at - 1, ArrowRight: at + 1, Home: 0, End: words.length - 1 }[event.key];
      if (at < 0 || to === undefined) return;
      event.preventDefault();
      words[to]?.focus();
    });
  }

  private soon(act: () => void): void {
    clearTimeout(this.timer);
    this.timer = window.setTimeout(act, REST_MS);
  }

  /** What was chosen, once the pointer has left. */
  private back(): void {
    const { chosen } = this;
    const element = chosen?.closest<HTMLElement>("#caption-text, .answer");
    if (this.on && chosen !== null && element) void this.show(element, chosen);
    else if (this.on) void this.show(byId("caption-text", HTMLElement), null);
    else this.hide();
  }

  private choose(word: HTMLElement | null): void {
    if (this.chosen !== null && this.on) setAttribute(this.chosen, "aria-pressed", "false");
    this.chosen = word;
    if (word !== null) setAttribute(word, "aria-pressed", "true");
  }

  /** word: null for the whole text. */
  private async show(element: HTMLElement, word: HTMLElement | null): Promise<void> {
    const told = this.lines.get(element);
    if (told === undefined || told.text === "") return this.hide();
    const mine = ++this.wish;
    const { job, text } = told;
    const stretch: Stretch = word === null ? { from: 0, to: text.length } : { from: Number(word.dataset.from), to: Number(word.dataset.to) };
    setAttribute(this.canvas, "aria-busy", "true");
    const attention = await this.events.attention(job, text);
    if (mine !== this.wish) return;
    setAttribute(this.canvas, "aria-busy", null);
    const found = attention === null ? null : heat(attention, text, stretch);
    if (found === null) return this.hide();
    this.paint(found);
    const shown = text.slice(stretch.from, stretch.to);
    setText(this.note, word === null ? w.looksForAll : w.looksFor(shown.replace(/[.,!?;:]+$/, "")));
    setAttribute(this.root, "data-looking", "");
  }

  private hide(): void {
    this.wish += 1;
    setAttribute(this.canvas, "aria-busy", null);
    setAttribute(this.root, "data-looking", null);
  }

  /** Light where it looked, a veil elsewhere: one hue, whatever the picture's colours. Enlarged step by step, so that no squares show. */
  private paint({ rows, columns, values }: Heat): void {
    let step = new OffscreenCanvas(columns, rows);
    const pixels = new ImageData(columns, rows);
    for (const [index, value] of values.entries()) pixels.data.set([255, 255, 255, Math.round(255 * value ** 0.7)], index * 4);
    step.getContext("2d")?.putImageData(pixels, 0, 0);
    for (let times = 0; times < 4; times++) {
      const next = new OffscreenCanvas(step.width * 2, step.height * 2);
      const context = next.getContext("2d");
      if (context !== null) {
        context.imageSmoothingQuality = "high";
        context.drawImage(step, 0, 0, next.width, next.height);
      }
      step = next;
    }
    this.canvas.width = step.width;
    this.canvas.height = step.height;
    const context = this.canvas.getContext("2d");
    if (context === null) return;
    const style = getComputedStyle(this.root);
    context.fillStyle = style.getPropertyValue("--veil");
    context.fillRect(0, 0, step.width, step.height);
    context.globalCompositeOperation = "destination-out";
    context.drawImage(step, 0, 0);
    context.globalCompositeOperation = "source-over";
    // The hue, as a tint where it looked.
    const tint = new OffscreenCanvas(step.width, step.height);
    const brush = tint.getContext("2d");
    if (brush === null) return;
    brush.drawImage(step, 0, 0);
    brush.globalCompositeOperation = "source-in";
    brush.fillStyle = style.getPropertyValue("--tint");
    brush.fillRect(0, 0, step.width, step.height);
    context.drawImage(tint, 0, 0);
  }
}
