/** An answer as it is written: words, what it is doing, what went wrong, and what can be done with it. */

import { Check, Copy, RotateCcw } from "lucide";
import { h, icon, iconButton, setAttribute, setText } from "./dom.js";
import type { Answer } from "./state.js";
import { explain, type Where } from "./words.js";

export interface AnswerParts {
  /** Carries `data-status`, and takes what follows the words. */
  readonly box: HTMLElement;
  /** Holds the words alone. */
  readonly words: HTMLElement;
  readonly where: Where;
  again(): void;
}

export class AnswerView {
  private readonly parts: AnswerParts;
  private readonly state = h("p", { class: "state" });
  private readonly problem = h("div", { class: "problem", hidden: true });
  private readonly again: HTMLButtonElement;
  private readonly copy: HTMLButtonElement;
  private shown: Answer | null = null;

  constructor(parts: AnswerParts) {
    this.parts = parts;
    this.again = iconButton(RotateCcw, "Again", () => parts.again());
    this.copy = iconButton(Copy, "Copy", () => void this.copyWords());
    parts.box.append(this.state, this.problem, h("div", { class: "actions" }, this.copy, this.again));
  }

  /** doing: what to say while there are no words yet. */
  update(answer: Answer, doing: string): void {
    const { box, words, where } = this.parts;
    const { status, text, problem } = answer;
    setText(this.state, status === "stopped" ? "Stopped" : text === "" && status !== "failed" && status !== "done" ? doing : "");
    if (this.shown === answer) return;
    this.shown = answer;
    setAttribute(box, "data-status", status);
    setText(words, text);
    const ended = status === "done" || status === "stopped" || status === "failed";
    this.again.hidden = !ended || (problem !== null && !problem.retryable && where === "picture");
    this.copy.hidden = !ended || text === "";
    this.problem.hidden = problem === null;
    setAttribute(this.problem, "data-error-code", problem?.code ?? null);
    if (problem !== null) this.problem.replaceChildren(...problemWords(problem, where));
  }

  private async copyWords(): Promise<void> {
    try {
      await navigator.clipboard.writeText(this.parts.words.textContent);
    } catch {
      return; // no permission, or plain http: the words can still be selected
    }
    this.copy.replaceChildren(icon(Check));
    setTimeout(() => this.copy.replaceChildren(icon(Copy)), 1500);
  }
}

/** What happened, what was kept, what to do; the developer's words behind a click. */
export function problemWords(problem: NonNullable<Answer["problem"]>, where: Where): HTMLElement[] {
  const { happened, rest } = explain(problem, where);
  return [
    h("p", { class: "happened" }, happened),
    h("p", { class: "rest" }, rest),
    h("details", {}, h("summary", {}, "Details"), h("code", {}, `${problem.code}: ${problem.message}`)),
  ];
}
