/** A justified grid of thumbnails. One stop for Tab, arrow keys inside; what is out of sight costs nothing, and is found by the browser's own search all the same. */

import { ImageOff } from "lucide";
import { h, icon, setAttribute, setText } from "../dom.js";
import { w } from "../words.js";

export interface Cell {
  readonly id: number;
  readonly name: string;
  readonly ratio: number;
  /** An address for <img>; null while there is none. */
  readonly thumb: string | null;
  readonly state: "waiting" | "seen" | "failed";
}

/** What a search says of a picture: bar is 0 to 1; note has the number. */
export interface Mark {
  readonly bar: number;
  readonly note: string;
}

interface Row {
  readonly element: HTMLElement;
  readonly button: HTMLButtonElement;
  readonly name: HTMLElement;
  readonly bar: HTMLElement;
  image: HTMLImageElement | null;
}

/** Pictures that move are followed by the eye up to here; more would only be a flutter. */
const ANIMATED = 40;

export class Grid {
  readonly element = h("ul", { class: "grid" });
  private readonly rows = new Map<number, Row>();
  private readonly open: (id: number) => void;
  private order: readonly number[] = [];
  private current: number | null = null;

  constructor(open: (id: number) => void) {
    this.open = open;
    this.element.addEventListener("keydown", event => this.onKey(event));
    this.element.addEventListener("focusin", event => {
      const button = event.target instanceof HTMLElement ? event.target.closest<HTMLElement>("[data-id]") : null;
      if (button !== null) this.stop(Number(button.dataset.id));
    });
  }

  /** Shows these, in this order. */
  render(cells: readonly Cell[], marks: ReadonlyMap<number, Mark>): void {
    const before = this.order;
    const order = cells.map(({ id }) => id);
    const moved = before.length > 0 && (order.length !== before.length || order.some((id, at) => id !== before[at]));
    const places = moved ? this.places() : null;
    for (const cell of cells) this.update(this.rows.get(cell.id) ?? this.make(cell), cell, marks.get(cell.id));
    if (moved || before.length !== order.length) this.element.replaceChildren(...order.flatMap(id => this.rows.get(id)?.element ?? []));
    this.order = order;
    const away = moved && !this.element.contains(document.activeElement);
    if (this.current === null || away || !order.includes(this.current)) this.stop(order[0] ?? null);
    if (places !== null) this.glide(places);
  }

  forget(): void {
    this.rows.clear();
    this.order = [];
    this.element.replaceChildren();
  }

  private make({ id, name, ratio }: Cell): Row {
    const label = h("span", { class: "name" }, name);
    const bar = h("span", { class: "fit", "aria-hidden": "true" });
    const button = h("button", { type: "button", "data-id": id, tabindex: "-1", onclick: () => this.open(id) }, label, bar);
    const element = h("li", { class: "cell" }, button);
    element.style.setProperty("--ratio", String(Math.min(4, Math.max(0.4, ratio))));
    const row = { element, button, name: label, bar, image: null };
    this.rows.set(id, row);
    return row;
  }

  private update(row: Row, { name, ratio, thumb, state }: Cell, mark: Mark | undefined): void {
    const { element, button, bar } = row;
    if (thumb !== null && row.image === null) {
      row.image = h("img", { src: thumb, alt: "", loading: "lazy", decoding: "async", draggable: "false" });
      button.prepend(row.image);
      element.style.setProperty("--ratio", String(Math.min(4, Math.max(0.4, ratio))));
    }
    if (state === "failed" && element.dataset.state !== "failed") {
      row.image?.remove();
      button.prepend(icon(ImageOff));
    }
    setAttribute(element, "data-state", state);
    const note = mark === undefined ? "" : mark.note;
    setAttribute(button, "aria-label", note === "" ? w.openInAsk(name) : `${w.openInAsk(name)}, ${note}`);
    setAttribute(button, "title", note === "" ? name : `${name} · ${note}`);
    setText(row.name, name);
    bar.hidden = mark === undefined;
    bar.style.setProperty("--fit", String(mark?.bar ?? 0));
  }

  private stop(id: number | null): void {
    if (this.current !== null) setAttribute(this.rows.get(this.current)?.button ?? this.element, "tabindex", "-1");
    this.current = id;
    if (id !== null) setAttribute(this.rows.get(id)?.button ?? this.element, "tabindex", "0");
  }

  /** Where the pictures in sight are. */
  private places(): Map<number, DOMRect> {
    const places = new Map<number, DOMRect>();
    for (const id of this.order) {
      const place = this.rows.get(id)?.element.getBoundingClientRect();
      if (place === undefined || place.bottom < 0) continue;
      if (place.top > window.innerHeight || places.size >= ANIMATED) break;
      places.set(id, place);
    }
    return places;
  }

  private glide(before: ReadonlyMap<number, DOMRect>): void {
    if (matchMedia("(prefers-reduced-motion: reduce)").matches) return;
    for (const [id, now] of this.places()) {
      const element = this.rows.get(id)?.element;
      const then = before.get(id);
      const timing = { duration: 180, easing: "ease-out" };
      if (then === undefined) element?.animate([{ opacity: 0 }, { opacity: 1 }], timing);
      else if (then.top !== now.top || then.left !== now.left) {
        element?.animate([{ transform: `translate(${then.left - now.left}px, ${then.top - now.top}px)` }, { transform: "none" }], timing);
      }
    }
  }

  private onKey(event: KeyboardEvent): void {
    const at = this.current === null ? -1 : this.order.indexOf(this.current);
    if (at < 0 || event.altKey || event.ctrlKey || event.metaKey) return;
    const to = this.target(event.key, at);
    const next = to === null ? undefined : this.order[to];
    if (next === undefined) return;
    event.preventDefault();
    this.rows.get(next)?.button.focus();
  }

  private target(key: string, at: number): number | null {
    switch (key) {
      case "ArrowLeft":
        return at - 1;
      case "ArrowRight":
        return at + 1;
      case "Home":
        return 0;
      case "End":
        return this.order.length - 1;
      case "ArrowUp":
        return this.beside(at, -1);
      case "ArrowDown":
        return this.beside(at, 1);
      default:
        return null;
    }
  }

  /** The picture above or below: of the next row, the one whose middle is closest. */
  private beside(at: number, step: 1 | -1): number | null {
    const element = (index: number): HTMLElement | undefined => {
      const id = this.order[index];
      return id === undefined ? undefined : this.rows.get(id)?.element;
    };
    const here = element(at);
    if (here === undefined) return null;
    const middle = here.offsetLeft + here.offsetWidth / 2;
    let row: number | null = null;
    let best: { index: number; far: number } | null = null;
    for (let index = at + step; ; index += step) {
      const other = element(index);
      if (other === undefined) break;
      if (other.offsetTop === here.offsetTop) continue;
      row ??= other.offsetTop;
      if (other.offsetTop !== row) break;
      const far = Math.abs(other.offsetLeft + other.offsetWidth / 2 - middle);
      if (best === null || far < best.far) best = { index, far };
    }
    return best?.index ?? null;
  }
}
