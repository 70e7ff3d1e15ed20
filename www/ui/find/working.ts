/** The line above the pictures while something goes on: what it is, how far it is, and a button that pauses it. */

import { Pause, Play } from "lucide";
import type { Totals } from "../../index.js";
import { Bar } from "../bar.js";
import { h, icon, say, setText } from "../dom.js";
import { duration, loading, w } from "../words.js";
import type { Progress } from "./library.js";

/** A model is asked for, or fetched; or pictures are looked at. */
export type Work = "starting" | "loading" | "looking";

export class Working {
  readonly element = h("div", { id: "find-progress", hidden: true });
  private readonly bar = new Bar(say(h("progress", { max: 1 }), "viewFind", "label"));
  private readonly what = h("span");
  private readonly figures = h("span", { class: "figures" });
  private readonly pauseButton: HTMLButtonElement;

  constructor(pause: () => void) {
    this.pauseButton = h("button", { type: "button", class: "text", onclick: pause });
    this.element.append(
      h("p", { class: "line" }, this.what, h("span", { class: "figures-and-pause" }, this.figures, this.pauseButton)),
      this.bar.element,
    );
  }

  /** The bar has a gap between parts of these sizes; none: it is whole. */
  divide(sizes: readonly number[]): void {
    this.bar.divide(sizes);
  }

  loaded(totals: Totals): void {
    const { what, figures } = loading(totals);
    setText(this.what, what);
    setText(this.figures, figures);
    this.bar.show(totals.loaded, totals.total);
  }

  /** Null: nothing goes on. What a load says is not said here. */
  render(work: Work | null, progress: Progress): void {
    this.element.hidden = work === null;
    this.pauseButton.hidden = work !== "looking";
    if (work === "starting") {
      setText(this.what, w.gettingReady);
      this.bar.show(0, 0);
    }
    if (work === "looking") this.looking(progress);
  }

  private looking({ done, all, failed, rate, paused }: Progress): void {
    const left = all - done - failed;
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
}
