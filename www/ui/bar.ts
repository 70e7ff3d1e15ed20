/** A bar that fills: a model on its way, pictures that are looked at, texts that are written. */

import { h } from "./dom.js";

export class Bar {
  readonly element: HTMLElement;
  private readonly bar: HTMLProgressElement;
  private readonly marks = h("span", { class: "marks", "aria-hidden": "true" });
  private marked = "";

  /** `bar`: one that is in the document already, in an element of its own. */
  constructor(bar = h("progress", { max: 1 })) {
    this.bar = bar;
    this.element = bar.parentElement ?? h("div", { class: "bar" }, bar);
    this.element.append(this.marks);
  }

  set hidden(hidden: boolean) {
    this.element.hidden = hidden;
  }

  /** Of a whole that is not known yet (0) the bar only says that something goes on. */
  show(done: number, all: number): void {
    if (all > 0) this.bar.value = done / all;
    else this.bar.removeAttribute("value");
  }

  /** Parts in their order, by size: a gap where one ends and the next begins. */
  divide(sizes: readonly number[]): void {
    const all = sizes.reduce((sum, size) => sum + size, 0);
    const key = sizes.join();
    if (this.marked === key) return;
    this.marked = key;
    let end = 0;
    const marks = sizes.slice(0, -1).map(size => {
      end += size;
      const mark = h("i");
      mark.style.setProperty("--at", String(end / all));
      return mark;
    });
    this.marks.replaceChildren(...marks);
  }
}
