/** Ask, find, batch: which of them is shown. The last two are fetched when they are first wanted. The address says where one is, so that Back works. */

import type { Blip2, Engine } from "../index.js";
import { chosen } from "./choice.js";
import { byId, h, setAttribute } from "./dom.js";
import type { Found } from "./files.js";
import { fetched } from "./offline.js";
import type { Loader } from "./loader.js";
import type { Route, State } from "./state.js";

/** What the other two views may use of the page. */
export interface Shell {
  readonly engine: Engine;
  readonly loader: Loader;
  /** The model that captions and answers, once it is here. */
  captioner(): Blip2 | null;
  announce(sentence: string): void;
  /** Opens pictures in Ask. */
  ask(found: readonly Found[]): void;
}

/** A view with a section of its own in index.html. */
export interface Place {
  take(found: readonly Found[]): void;
  /** It is shown again, or for the first time. */
  enter(): void;
  leave(): void;
  changed(state: State): void;
  translated(): void;
  /** It is not shown again: another one takes its place. */
  end(): void;
}

type Lazy = Exclude<Route, "ask">;

export class Routes {
  private readonly shell: Shell & { entered(route: Route): void };
  private readonly places = new Map<Lazy, Promise<Place>>();
  private readonly ready = new Map<Lazy, Place>();
  private readonly scrolled = new Map<Route, number>();
  private route: Route = "ask";
  private entered = false;
  private state: State | null = null;

  constructor(shell: Shell & { entered(route: Route): void }) {
    this.shell = shell;
    // The browser restores a scroll position before the view is there again; it is done below.
    history.scrollRestoration = "manual";
    for (const moved of ["popstate", "hashchange"]) window.addEventListener(moved, () => void this.enter());
    byId("views", HTMLElement).addEventListener("click", event => {
      const link = event.target instanceof HTMLElement ? event.target.closest("a") : null;
      if (link === null || event.ctrlKey || event.metaKey || event.shiftKey) return; // in a tab of its own
      event.preventDefault();
      this.go(routeOf(link.hash));
    });
  }

  start(): Promise<void> {
    return this.enter();
  }

  go(route: Route): void {
    if (this.isHere(route)) return;
    // Not by following a fragment: the browser scrolls to the top before it tells of it, and the place would be lost.
    if (route !== this.route) history.pushState(null, "", hashOf(route));
    void this.enter();
  }

  /** Pictures go to the view that is shown; false where that is Ask. */
  async take(found: readonly Found[]): Promise<boolean> {
    if (this.route === "ask") return false;
    const place = await fetched(this.place(this.route));
    place?.take(found);
    return place !== null;
  }

  changed(state: State): void {
    this.state = state;
    for (const place of this.ready.values()) place.changed(state);
  }

  translated(): void {
    for (const place of this.ready.values()) place.translated();
  }

  /** Made anew when it is next shown, which may be now. */
  async renew(route: Lazy): Promise<void> {
    const old = this.ready.get(route);
    this.places.delete(route);
    this.ready.delete(route);
    old?.end();
    if (this.route === route) (await fetched(this.place(route)))?.enter();
  }

  private async enter(): Promise<void> {
    const route = routeOf(location.hash);
    if (this.entered && this.isHere(route)) return;
    this.entered = true;
    if (route !== this.route) {
      this.scrolled.set(this.route, window.scrollY);
      if (this.route !== "ask") this.ready.get(this.route)?.leave();
    }
    this.route = route;
    this.shell.entered(route);
    for (const link of byId("views", HTMLElement).querySelectorAll("a")) {
      setAttribute(link, "aria-current", link.getAttribute("href") === hashOf(route) ? "page" : null);
    }
    for (const name of ["find", "batch"] as const) byId(name, HTMLElement).hidden = route !== name;
    if (route !== "ask") {
      const place = await fetched(this.place(route));
      if (routeOf(location.hash) === route) place?.enter();
    }
    // Once the view has been painted again.
    requestAnimationFrame(() => requestAnimationFrame(() => window.scrollTo({ top: this.scrolled.get(route) ?? 0, behavior: "instant" })));
  }

  /** It is shown, or about to be. What could not be fetched is not: it is tried again. */
  private isHere(route: Route): boolean {
    return route === this.route && (route === "ask" || this.places.has(route));
  }

  private place(route: Lazy): Promise<Place> {
    const known = this.places.get(route);
    if (known !== undefined) return known;
    const made = this.make(route);
    this.places.set(route, made);
    made.catch(() => this.places.delete(route)); // without a network it may be there the next time
    return made;
  }

  private async make(route: Lazy): Promise<Place> {
    const style = styled(`${route}.css`);
    const place = await (route === "find" ? this.makeFind() : this.makeBatch());
    await style;
    this.ready.set(route, place);
    if (this.state !== null) place.changed(this.state);
    return place;
  }

  private async makeFind(): Promise<Place> {
    const [{ Find }, choice] = await Promise.all([import("./find/find.js"), chosen("find")]);
    return new Find(this.shell, choice);
  }

  private async makeBatch(): Promise<Place> {
    const { Batch } = await import("./batch/batch.js");
    return new Batch(this.shell);
  }
}

/** Not the id of anything: the browser would scroll there. */
const hashOf = (route: Route): string => `#/${route}`;

const routeOf = (hash: string): Route => (["find", "batch"] as const).find(route => hashOf(route) === hash) ?? "ask";

/** A style sheet that only one view needs. */
export function styled(file: string): Promise<void> {
  const href = new URL(file, document.baseURI).href;
  if (document.querySelector(`link[href="${href}"]`) !== null) return Promise.resolve();
  const link = h("link", { rel: "stylesheet", href });
  const loaded = new Promise<void>(resolve => {
    for (const event of ["load", "error"]) link.addEventListener(event, () => resolve(), { once: true });
  });
  document.head.append(link);
  return loaded;
}
