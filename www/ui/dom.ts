/** The few DOM helpers that the view is built with. */

import type { IconNode } from "lucide";
import { type Said, w } from "./words.js";

type Attributes = Readonly<Record<string, string | number | boolean | ((event: Event) => void) | null | undefined>>;

/** An element with its attributes (`on…`: listeners; true and false: present or not) and children. */
export function h<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  attributes: Attributes = {},
  ...children: (Node | string)[]
): HTMLElementTagNameMap[K] {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== undefined && value !== null && value !== false) element.setAttribute(name, String(value));
  }
  element.append(...children);
  return element;
}

const SVG = "http://www.w3.org/2000/svg";

/** Hidden from screen readers: the control it sits in has the name. */
export function icon(node: IconNode): SVGSVGElement {
  const svg = document.createElementNS(SVG, "svg");
  const frame = { class: "icon", viewBox: "0 0 24 24", "aria-hidden": "true", focusable: "false" };
  for (const [name, value] of Object.entries(frame)) svg.setAttribute(name, value);
  for (const [tag, attributes] of node) {
    const shape = document.createElementNS(SVG, tag);
    for (const [name, value] of Object.entries(attributes)) if (value !== undefined) shape.setAttribute(name, String(value));
    svg.append(shape);
  }
  return svg;
}

/** A button that shows an icon alone, named for everybody: aria-label for some, a tooltip for others. */
export const iconButton = (node: IconNode, name: Said, onclick: () => void): HTMLButtonElement =>
  say(h("button", { type: "button", class: "quiet", onclick }, icon(node)), name, "label", "title");

/** A button with words on it. */
export const wordButton = (name: Said, onclick: () => void, kind = "plain"): HTMLButtonElement =>
  say(h("button", { type: "button", class: kind, onclick }), name);

type Place = "text" | "label" | "title" | "placeholder";

/** Puts words of the visitor's language there, now and whenever the language changes. index.html says the same with `data-say-…`. */
export function say<E extends HTMLElement>(element: E, key: Said, ...places: Place[]): E {
  for (const place of places.length === 0 ? (["text"] as const) : places) {
    element.setAttribute(`data-say-${place}`, key);
    put(element, place, w[key]);
  }
  return element;
}

/** All that is said under this element, in the language of now. */
export function translate(root: ParentNode): void {
  for (const place of ["text", "label", "title", "placeholder"] as const) {
    for (const element of root.querySelectorAll(`[data-say-${place}]`)) {
      const words: unknown = Reflect.get(w, element.getAttribute(`data-say-${place}`) ?? "");
      if (typeof words === "string") put(element, place, words);
    }
  }
}

function put(element: Element, place: Place, words: string): void {
  if (place === "text") setText(element, words);
  else setAttribute(element, place === "label" ? "aria-label" : place, words);
}

/** The element of index.html with this id, which has to be there. */
export function byId<T extends HTMLElement>(id: string, kind: new () => T): T {
  const element = document.getElementById(id);
  if (!(element instanceof kind)) throw new Error(`index.html has no ${kind.name} #${id}`);
  return element;
}

/** Touches the document only where something changed: selections and screen readers are left alone. */
export function setText(element: Element, text: string): void {
  if (element.textContent !== text) element.textContent = text;
}

export function setAttribute(element: Element, name: string, value: string | null): void {
  if (value === null) element.removeAttribute(name);
  else if (element.getAttribute(name) !== value) element.setAttribute(name, value);
}

/** Can have the focus: it is there, and nothing hides it. */
export const isShown = (element: Element): boolean => element.getClientRects().length > 0;

/** Makes a change to what is under `root`. Where that moves what has the focus, it has it again; where that hides or removes it, what `next` finds has it. */
export function keepFocus(root: Element, change: () => void, next: () => HTMLElement | null | undefined): void {
  const had = document.activeElement;
  const inside = had instanceof HTMLElement && root.contains(had);
  change();
  const now = document.activeElement;
  if (!inside) return;
  if (now !== had && now !== document.body) return; // whoever made the change has seen to it
  if (!isShown(had)) next()?.focus({ preventScroll: true });
  else if (now !== had) had.focus({ preventScroll: true });
}

/** Keeps one child per item, in the items' order; what stays is updated in place and keeps its focus. */
export class Keyed<T> {
  private readonly rows = new Map<string | number, { readonly element: HTMLElement; update(item: T): void }>();
  private readonly list: HTMLElement;
  private readonly keyOf: (item: T) => string | number;
  private readonly make: (item: T) => { readonly element: HTMLElement; update(item: T): void };

  constructor(list: HTMLElement, keyOf: (item: T) => string | number, make: (item: T) => { readonly element: HTMLElement; update(item: T): void }) {
    this.list = list;
    this.keyOf = keyOf;
    this.make = make;
  }

  render(items: readonly T[]): void {
    const keys = new Set(items.map(this.keyOf));
    for (const [key, { element }] of this.rows) {
      if (keys.has(key)) continue;
      element.remove();
      this.rows.delete(key);
    }
    let after: Element | null = null;
    for (const item of items) {
      const key = this.keyOf(item);
      const row = this.rows.get(key) ?? this.make(item);
      this.rows.set(key, row);
      row.update(item);
      const place: Element | null = after === null ? this.list.firstElementChild : after.nextElementSibling;
      if (place !== row.element) this.list.insertBefore(row.element, place);
      after = row.element;
    }
  }
}
