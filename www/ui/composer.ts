/** The question field. Enter sends; Stop is where Send was. */

import { byId } from "./dom.js";

export interface ComposerEvents {
  ask(question: string): void;
  draft(text: string): void;
  stop(): void;
}

// A Korean syllable is always under composition when Enter is pressed, and Enter means "send". In Japanese or Chinese input it means
// "take this conversion", and the next Enter sends.
const HANGUL = /[\u1100-\u11ff\u3130-\u318f\uac00-\ud7af]$/;

/** Calls `send` on Enter, and no sooner than a composition has become text. */
export function sendsWithEnter(field: HTMLInputElement, send: () => void): void {
  let due = false;
  field.addEventListener("keydown", event => {
    if (event.key !== "Enter" && event.code !== "Enter") return;
    event.preventDefault();
    // keyCode 229: "the input method has this key", where isComposing is not told.
    if (event.isComposing || event.keyCode === 229) due = HANGUL.test(field.value.slice(0, field.selectionEnd ?? undefined));
    else send();
  });
  field.addEventListener("compositionend", () => {
    const now = due;
    due = false;
    // After this event the field's value is settled, not before.
    if (now) queueMicrotask(send);
  });
}

export class Composer {
  private readonly form = byId("ask", HTMLFormElement);
  private readonly field = byId("question", HTMLInputElement);
  private readonly send = byId("send", HTMLButtonElement);
  private readonly halt = byId("stop", HTMLButtonElement);
  private readonly events: ComposerEvents;

  constructor(events: ComposerEvents) {
    this.events = events;
    this.form.addEventListener("submit", event => {
      event.preventDefault();
      this.submit();
    });
    this.field.addEventListener("input", () => {
      events.draft(this.field.value);
      this.enable();
    });
    sendsWithEnter(this.field, () => this.submit());
    const viewport = window.visualViewport;
    if (viewport !== null) for (const change of ["resize", "scroll"]) viewport.addEventListener(change, () => this.stayAboveKeyboard(viewport));
    this.halt.addEventListener("click", () => {
      events.stop();
      this.field.focus({ preventScroll: true });
    });
  }

  /** Where the keyboard covers the page instead of making it smaller (iOS), the field moves up by what is covered. */
  private stayAboveKeyboard(viewport: VisualViewport): void {
    const covered = Math.max(0, window.innerHeight - viewport.height - viewport.offsetTop);
    document.documentElement.style.setProperty("--keyboard", `${Math.round(covered)}px`);
  }

  render(draft: string, running: boolean, usable: boolean): void {
    // The visitor's own typing is the truth while it happens: a composition must not be written over.
    if (document.activeElement !== this.field || draft === "") {
      if (this.field.value !== draft) this.field.value = draft;
    }
    this.field.disabled = !usable;
    const hadFocus = document.activeElement === this.send || document.activeElement === this.halt;
    this.send.hidden = running;
    this.halt.hidden = !running;
    if (hadFocus) (running ? this.halt : this.send).focus({ preventScroll: true });
    this.enable();
  }

  private submit(): void {
    const question = this.field.value.trim();
    if (question === "" || this.field.disabled) return;
    this.field.value = "";
    this.events.ask(question);
  }

  private enable(): void {
    this.send.disabled = this.field.disabled || this.field.value.trim() === "";
  }
}
