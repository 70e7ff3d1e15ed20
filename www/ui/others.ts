/** Other ways to say it, best first: a bar shows how likely each is beside the best, the number comes with the pointer. */

import { h, setAttribute, setText } from "./dom.js";
import type { More } from "./state.js";
import { explain, languageOf, w } from "./words.js";

export class Others {
  readonly element: HTMLElement;
  private readonly state = h("p", { class: "state" });
  private readonly list = h("ol", { class: "others" });
  private shown: More | null = null;
  private wanted = false;

  constructor(id: string | null) {
    this.element = h("div", { class: "more", hidden: true, ...(id !== null && { id }) }, this.state, this.list);
  }

  get open(): boolean {
    return this.wanted;
  }

  set open(open: boolean) {
    this.wanted = open;
    this.element.hidden = !open || this.shown === null;
  }

  /** text: what stands above already. */
  update(more: More | null, text: string): void {
    if (more === null) this.wanted = false;
    this.shown = more;
    this.open = this.wanted;
    if (more === null) return;
    setAttribute(this.element, "data-status", more.status === "working" || more.status === "waiting" ? "streaming" : more.status);
    const others = more.candidates.filter(candidate => candidate.text !== text);
    const failed = more.problem === null ? "" : explain(more.problem, "answer").happened;
    const done = others.length === 0 ? w.noOthers : "";
    setText(this.state, more.status === "done" ? done : more.status === "failed" ? failed : w.searchingOthers);
    this.list.replaceChildren(...others.map(candidate => row(candidate, more.candidates[0]?.score ?? null)));
  }
}

function row({ text, score }: More["candidates"][number], best: number | null): HTMLElement {
  const share = score === null || best === null ? 1 : Math.exp(score - best);
  const bar = h("meter", { min: 0, max: 1, value: share.toFixed(4), "aria-label": w.likelihood });
  const number = score === null ? "" : score.toFixed(3).replace("-", "−");
  return h("li", { title: number }, h("span", { lang: languageOf(text) }, text), bar, h("span", { class: "score", "aria-hidden": "true" }, number));
}
