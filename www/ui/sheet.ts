/** A dialog: a sheet from the right, or a box in the middle. Escape, its button and a click beside it close it; the focus goes back where it was. */

import { X } from "lucide";
import { h, iconButton, say } from "./dom.js";
import type { Said } from "./words.js";

export class Sheet {
  readonly dialog: HTMLDialogElement;

  constructor(id: string, title: Said, kind: "sheet" | "box", ...content: Node[]) {
    const heading = say(h("h2", { id: `${id}-title` }), title);
    const close = iconButton(X, "close", () => this.dialog.close());
    this.dialog = h("dialog", { id, class: kind, "aria-labelledby": heading.id }, h("header", {}, heading, close), ...content);
    // A click on the backdrop meets the dialog itself, whose box its children fill.
    this.dialog.addEventListener("click", event => {
      if (event.target === this.dialog) this.dialog.close();
    });
    document.body.append(this.dialog);
  }

  open(): void {
    if (!this.dialog.open) this.dialog.showModal();
  }

  close(): void {
    this.dialog.close();
  }
}

/** A part of a sheet: a small heading, and what it is about. */
export const part = (title: Said, ...content: Node[]): HTMLElement => h("section", {}, say(h("h3", {}), title), ...content);
