/** The dropped pictures in a row, then the samples that were not tried. One stop for Tab; arrow keys move inside. */

import { Camera, ImageOff, Link, Plus } from "lucide";
import { byId, h, icon, iconButton, Keyed, keepFocus, say, setAttribute } from "./dom.js";
import type { Picture, Sample, State } from "./state.js";
import { w } from "./words.js";

export interface FilmstripEvents {
  show(picture: number): void;
  remove(picture: number): void;
  sample(sample: Sample): void;
  choose(): void;
  camera(): void;
  address(): void;
}

export class Filmstrip {
  private readonly nav = byId("filmstrip", HTMLElement);
  private readonly pictures: Keyed<Picture>;
  private readonly samples: Keyed<Sample>;
  private current: number | null = null;

  constructor(events: FilmstripEvents) {
    const list = h("ul", { class: "thumbs" });
    const rest = say(h("ul", { class: "thumbs untried" }), "samples", "label");
    const add = say(h("button", { type: "button", class: "thumb add", onclick: () => events.choose() }, icon(Plus)), "addPictures", "label", "title");
    const ways = [iconButton(Camera, "fromCamera", () => events.camera()), iconButton(Link, "fromAddress", () => events.address())];
    this.nav.append(add, h("div", { class: "ways-in" }, ...ways), list, rest);
    this.pictures = new Keyed(
      list,
      ({ id }) => id,
      picture => this.thumb(picture, events),
    );
    this.samples = new Keyed(
      rest,
      ({ file }) => file,
      sample => sampleThumb(sample, () => events.sample(sample), "-1"),
    );
    this.nav.addEventListener("keydown", event => this.onKey(event, events));
  }

  render({ pictures, current, samples }: State): void {
    this.nav.hidden = pictures.length === 0;
    const moved = this.current !== current;
    this.current = current;
    const showing = () => this.nav.querySelector<HTMLElement>('[aria-current="true"]');
    keepFocus(this.nav, () => this.pictures.render(pictures), showing);
    const tried = new Set(pictures.map(({ name }) => name));
    this.samples.render((samples ?? []).filter(({ file }) => !tried.has(file)));
    if (!moved) return;
    showing()?.scrollIntoView({ block: "nearest", inline: "nearest" });
  }

  private thumb(picture: Picture, events: FilmstripEvents) {
    const image = h("img", { src: picture.address, alt: "", loading: "lazy", decoding: "async", draggable: "false" });
    const button = h(
      "button",
      { type: "button", class: "thumb", "data-picture": picture.id, title: picture.name, onclick: () => events.show(picture.id) },
      image,
    );
    const element = h("li", {}, button);
    const update = ({ id, name, caption, hidden }: Picture) => {
      const shown = id === this.current;
      setAttribute(button, "aria-current", shown ? "true" : null);
      setAttribute(button, "aria-label", caption.text === "" ? name : `${name}: ${caption.text}`);
      setAttribute(button, "data-status", caption.status);
      setAttribute(button, "tabindex", shown ? "0" : "-1");
      if (hidden && image.isConnected) image.replaceWith(icon(ImageOff));
    };
    return { element, update };
  }

  private onKey(event: KeyboardEvent, events: FilmstripEvents): void {
    const buttons = [...this.nav.querySelectorAll<HTMLButtonElement>("[data-picture], [data-file]")];
    const at = buttons.findIndex(button => button.contains(document.activeElement));
    if (at < 0) return;
    const picture = buttons[at]?.dataset.picture;
    if ((event.key === "Delete" || event.key === "Backspace") && picture !== undefined) {
      events.remove(Number(picture));
      return;
    }
    const to = { ArrowLeft: at - 1, ArrowRight: at + 1, Home: 0, End: buttons.length - 1 }[event.key];
    const next = to === undefined ? undefined : buttons[to];
    if (next === undefined) return;
    event.preventDefault();
    next.focus();
    if (next.dataset.picture !== undefined) next.click(); // a sample is only looked at, until Enter
  }
}

/** Also what the welcome shows. */
export function sampleThumb(sample: Sample, onclick: () => void, tabindex = "0") {
  const address = new URL(sample.file, new URL("samples/", document.baseURI)).href;
  const image = h("img", { src: address, alt: "", decoding: "async", draggable: "false" });
  const name = sample.alt === "" ? sample.file : sample.alt;
  const button = h("button", { type: "button", class: "thumb", "data-file": sample.file, tabindex, title: name, onclick }, image);
  const element = h("li", {}, button);
  // Without a network only those are here that were shown before.
  image.addEventListener("error", () => {
    element.hidden = true;
  });
  return { element, update: () => setAttribute(button, "aria-label", w.trySample(name)) };
}
