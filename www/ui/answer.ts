/** An answer as it is written: words, what it is doing, what went wrong, and what can be done with it. */

import { Check, Copy, ListPlus, RotateCcw } from "lucide";
import { h, icon, iconButton, setAttribute, setText, wordButton } from "./dom.js";
import type { Look } from "./look/look.js";
import { Others } from "./others.js";
import type { Answer, Job } from "./state.js";
import { explain, languageOf, w, type Where } from "./words.js";

/** Without a word for so long, an answer says that it is still being written. */
const LONG_MS = 6000;

export interface AnswerParts {
  /** Carries `data-status`, and takes what follows the words. */
  readonly box: HTMLElement;
  /** Holds the words alone. */
  readonly words: HTMLElement;
  readonly where: Where;
  readonly look: Look;
  /** Further buttons, before the others. */
  readonly actions?: readonly HTMLElement[];
  job(): Job;
  again(): void;
  more(): void;
}

export class AnswerView {
  private readonly parts: AnswerParts;
  private readonly state = h("p", { class: "state" });
  private readonly problem = h("div", { class: "problem", hidden: true });
  private readonly again: HTMLButtonElement;
  private readonly retry: HTMLButtonElement;
  private readonly copy: HTMLButtonElement;
  private readonly more: HTMLButtonElement;
  private readonly others: Others;
  private shown: Answer | null = null;
  private late = false;
  private clock = 0;
  private said = w;

  constructor(parts: AnswerParts) {
    this.parts = parts;
    this.again = iconButton(RotateCcw, "again", () => parts.again());
    this.retry = wordButton("tryAgain", () => parts.again());
    this.copy = iconButton(Copy, "copy", () => void this.copyWords());
    this.more = iconButton(ListPlus, "others", () => this.toggleOthers());
    this.others = new Others(parts.words.id === "" ? null : `${parts.words.id}-others`);
    parts.box.append(
      this.state,
      this.problem,
      h("div", { class: "actions" }, ...(parts.actions ?? []), this.copy, this.again, this.more),
      this.others.element,
    );
  }

  /** doing: what to say while there are no words yet. */
  update(answer: Answer, doing: string): void {
    const { box, words, where, look } = this.parts;
    const { status, text, problem } = answer;
    if (this.shown !== answer) this.wait(status);
    const waits = text === "" && status !== "failed" && status !== "done";
    setText(this.state, status === "stopped" ? w.stopped : this.late ? w.stillAtIt : waits ? doing : "");
    if (this.shown === answer && this.said === w) return;
    this.shown = answer;
    this.said = w;
    setAttribute(box, "data-status", status);
    const ended = status === "done" || status === "stopped" || status === "failed";
    if (ended && text !== "") look.tell(words, this.parts.job(), text);
    else {
      look.untell(words);
      setText(words, text);
    }
    setAttribute(words, "lang", text === "" ? null : languageOf(text));
    const mayRetry = ended && (problem === null || problem.retryable || where !== "picture");
    this.again.hidden = !mayRetry || problem !== null;
    this.retry.hidden = !mayRetry;
    this.copy.hidden = !ended || text === "";
    this.more.hidden = !ended || text === "";
    setAttribute(this.more, "aria-expanded", String(answer.more !== null && this.others.open));
    this.others.update(answer.more, text);
    this.problem.hidden = problem === null;
    setAttribute(this.problem, "data-error-code", problem?.code ?? null);
    if (problem !== null) this.problem.replaceChildren(...problemWords(problem, where), this.retry);
  }

  /** Where no word comes for long, the engine may be starting anew behind this: it is said that something goes on. */
  private wait(status: Answer["status"]): void {
    clearTimeout(this.clock);
    this.late = false;
    if (status !== "streaming") return;
    this.clock = window.setTimeout(() => {
      this.late = true;
      setText(this.state, w.stillAtIt);
    }, LONG_MS);
  }

  private toggleOthers(): void {
    const { shown } = this;
    if (shown?.more == null || shown.more.status === "failed") {
      this.others.open = true;
      this.parts.more();
    } else this.others.open = !this.others.open;
    setAttribute(this.more, "aria-expanded", String(this.others.open));
  }

  private async copyWords(): Promise<void> {
    if (!(await copied(this.parts.words.textContent))) return;
    this.copy.replaceChildren(icon(Check));
    setTimeout(() => this.copy.replaceChildren(icon(Copy)), 1500);
  }
}

/** False where there is no permission, or on plain http: the words can still be selected. */
export async function copied(text: string): Promise<boolean> {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return false;
  }
}

/** What happened, what was kept, what to do; the developer's words behind a click. */
export function problemWords(problem: NonNullable<Answer["problem"]>, where: Where): HTMLElement[] {
  const { happened, rest } = explain(problem, where);
  return [
    h("p", { class: "happened" }, happened),
    h("p", { class: "rest" }, rest),
    h("details", {}, h("summary", {}, w.details), h("code", {}, `${problem.code}: ${problem.message}`)),
  ];
}
