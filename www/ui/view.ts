/** The whole page from its state, at most once a frame. */

import { ArrowUp, Camera, ImageOff, Link, SlidersHorizontal, Square, X } from "lucide";
import { problemWords } from "./answer.js";
import { Bar } from "./bar.js";
import { byId, h, icon, iconButton, Keyed, keepFocus, say, setAttribute, setText, wordButton } from "./dom.js";
import { Filmstrip, type FilmstripEvents, sampleThumb } from "./filmstrip.js";
import { Look, type LookEvents } from "./look/look.js";
import { currentPicture, isBroken, type Problem, type Sample, type State } from "./state.js";
import { Talk, type TalkEvents } from "./talk.js";
import { languageOf, loading, loadWords, statusLine, w, waitingFor } from "./words.js";

export interface ViewEvents extends TalkEvents, FilmstripEvents, LookEvents {
  load(): void;
  cancelLoad(): void;
  unshowable(picture: number): void;
  models(): void;
  settings(): void;
}

/** Samples at the start: one row. The rest are in the filmstrip. */
const SAMPLES_AT_START = 6;
/** Loads above this can be cancelled; below, the button would be gone before it is found. */
const WORTH_CANCELLING = 50e6;

export class View {
  private readonly root = document.documentElement;
  private readonly welcome = byId("welcome", HTMLElement);
  private readonly stage = byId("stage", HTMLElement);
  private readonly picture = byId("picture", HTMLImageElement);
  private readonly noPicture = byId("no-picture", HTMLElement);
  private readonly progress = byId("progress", HTMLElement);
  private readonly bar = new Bar(byId("bar", HTMLProgressElement));
  private readonly status = byId("status", HTMLButtonElement);
  private readonly talk: Talk;
  private readonly filmstrip: Filmstrip;
  private readonly look: Look;
  private readonly samples: Keyed<Sample>;
  private readonly loadButton: HTMLButtonElement;
  private readonly cancelButton: HTMLButtonElement;
  private readonly modelsButton: HTMLButtonElement;
  private readonly useCpu = say(h("a", { class: "plain", hidden: true }), "useCpu");
  private state: State | null = null;
  private problem: Problem | null = null;
  private said = w;
  private frame = 0;

  constructor(events: ViewEvents) {
    this.look = new Look(events);
    this.talk = new Talk(events, this.look);
    this.filmstrip = new Filmstrip(events);
    this.samples = new Keyed(
      byId("samples", HTMLElement),
      ({ file }) => file,
      sample => sampleThumb(sample, () => events.sample(sample)),
    );
    this.loadButton = h("button", { type: "button", class: "plain", onclick: () => events.load() });
    this.cancelButton = wordButton("cancel", () => events.cancelLoad());
    this.modelsButton = wordButton("otherModels", () => events.models());
    byId("model-actions", HTMLElement).append(this.loadButton, this.useCpu, this.cancelButton, this.modelsButton);
    byId("drop", HTMLButtonElement).addEventListener("click", () => events.choose());
    const ways = [
      [Camera, "fromCamera", () => events.camera()],
      [Link, "fromAddress", () => events.address()],
    ] as const;
    for (const [node, words, onclick] of ways) {
      byId("ways-in", HTMLElement).append(h("button", { type: "button", class: "text", onclick }, icon(node), say(h("span", {}), words)));
    }
    const settings = iconButton(SlidersHorizontal, "settings", () => events.settings());
    settings.id = "open-settings";
    byId("tools", HTMLElement).append(settings);
    byId("send", HTMLButtonElement).append(icon(ArrowUp));
    byId("stop", HTMLButtonElement).append(icon(Square));
    this.noPicture.prepend(icon(ImageOff));
    const remove = iconButton(X, "removePicture", () => this.state?.current != null && events.remove(this.state.current));
    remove.id = "remove";
    this.stage.append(remove);
    this.picture.addEventListener("load", () => {
      const { naturalWidth, naturalHeight, style } = this.picture;
      for (const place of [style, byId("look", HTMLCanvasElement).style]) {
        place.setProperty("--ratio", String(naturalWidth / Math.max(1, naturalHeight)));
        place.setProperty("--natural", String(naturalWidth));
      }
    });
    this.picture.addEventListener("error", () => this.state?.current != null && events.unshowable(this.state.current));
    this.status.addEventListener("click", () => events.models());
  }

  /** Shows the newest state with the next frame. */
  show(state: State): void {
    this.state = state;
    if (this.frame !== 0) return;
    this.frame = requestAnimationFrame(() => {
      this.frame = 0;
      const { state } = this;
      if (state !== null)
        keepFocus(
          byId("main", HTMLElement),
          () => this.render(state),
          () => this.next(state),
        );
    });
  }

  /** Says a finished sentence to screen readers. language: of words that are not the page's own. */
  announce(sentence: string, language: string | null = null): void {
    const live = byId("live", HTMLElement);
    setAttribute(live, "lang", language);
    live.textContent = sentence;
  }

  /** Where the visitor goes on when what had the focus is gone. */
  private next({ route, pictures }: State): HTMLElement | undefined {
    if (route !== "ask") return;
    if (pictures.length === 0) return byId("drop", HTMLButtonElement);
    // On a phone the field would pull up the keyboard.
    return matchMedia("(pointer: fine)").matches ? byId("question", HTMLInputElement) : undefined;
  }

  private render(state: State): void {
    const { device, model, pictures, route } = state;
    const asking = route === "ask";
    setAttribute(this.root, "data-view", !asking ? route : pictures.length === 0 ? "welcome" : "ask");
    setAttribute(this.root, "data-model", model.phase);
    setAttribute(this.root, "data-device", device?.kind ?? null);
    setAttribute(this.root, "data-model-cached", model.phase === "ready" ? String(model.info.cached) : null);
    this.welcome.hidden = !asking || pictures.length > 0;
    if (state.samples !== null) this.renderSamples(state.samples);
    for (const id of ["samples-line", "samples"]) byId(id, HTMLElement).hidden = state.samples?.length === 0;
    const about = byId("about", HTMLElement);
    setText(about, state.ui?.about ?? "");
    setAttribute(about, "lang", languageOf(state.ui?.about ?? ""));
    const picture = currentPicture(state);
    this.look.render(model.phase === "ready" && model.info.can.includes("attention") && picture !== undefined && !isBroken(picture));
    this.renderStage(state);
    this.renderModel(state);
    this.filmstrip.render(state);
    this.talk.render(state);
    for (const id of ["stage", "filmstrip", "talk"]) byId(id, HTMLElement).hidden = !asking || pictures.length === 0;
    setText(this.status, statusLine(state));
    this.said = w;
  }

  /** In the place of those that the document came with. */
  private renderSamples(samples: readonly Sample[]): void {
    for (const tile of byId("samples", HTMLElement).querySelectorAll("li.thumb")) tile.remove();
    this.samples.render(samples.slice(0, SAMPLES_AT_START));
  }

  private renderStage(state: State): void {
    const picture = currentPicture(state);
    if (picture === undefined) return;
    if (this.picture.getAttribute("src") !== picture.address) this.picture.src = picture.address;
    setAttribute(this.picture, "alt", picture.caption.text === "" ? picture.name : picture.caption.text);
    this.picture.hidden = picture.hidden;
    this.noPicture.hidden = !picture.hidden;
    setText(byId("picture-name", HTMLElement), picture.name);
  }

  private renderModel(state: State): void {
    const { model, route } = state;
    const { phase } = model;
    const problem = phase === "failed" ? model.problem : phase === "ready" ? model.notKept : null;
    const busy = phase === "starting" || phase === "loading";
    this.progress.hidden = (phase === "ready" && problem === null) || route === "find"; // which has a model of its own
    const totals = phase === "loading" ? model.totals : null;
    const elsewhere = phase === "loading" && model.elsewhere;
    const picture = currentPicture(state);
    // A picture that cannot be read waits for nothing.
    const waits = picture === undefined ? elsewhere : !isBroken(picture);
    setText(byId("waiting", HTMLElement), waits ? waitingFor(model, picture) : "");
    setAttribute(byId("waiting", HTMLElement), "data-ahead", picture?.ahead ?? null);
    const online = state.online || (phase === "loading" && model.folder === true);
    const { what, figures } = loading(totals, { slow: phase === "starting" && model.slow === true, online });
    setText(byId("loading-what", HTMLElement), busy ? what : "");
    setText(byId("loading-figures", HTMLElement), busy ? figures : "");
    this.bar.hidden = !busy;
    this.bar.show(totals?.loaded ?? 0, totals?.total ?? 0);
    this.bar.divide(phase === "loading" ? model.stages : []);
    this.cancelButton.hidden = (totals?.total ?? 0) < WORTH_CANCELLING;
    const about = phase === "failed" ? model.problem.about : undefined;
    this.loadButton.hidden = phase !== "offered" && (phase !== "failed" || about === "finder");
    // Where trying again may not help, another way out; and the way to what takes the room.
    const full = phase === "ready" && problem?.code === "storage-quota";
    this.modelsButton.hidden = about === undefined && !full && !(phase === "offered" && model.closed !== null);
    this.loadButton.classList.toggle("main", phase === "offered");
    setText(this.loadButton, phase === "offered" ? loadWords(model.bytes, model.arrived, model.closed) : w.tryAgain);
    this.renderProblem(problem, phase === "failed" ? "model" : "notice");
  }

  private renderProblem(problem: Problem | null, where: "model" | "notice"): void {
    const box = byId("model-problem", HTMLElement);
    this.useCpu.hidden = where !== "model" || problem === null || !["webgpu-unavailable", "kernel", "device-lost"].includes(problem.code);
    const cpu = new URL(location.href);
    cpu.searchParams.set("device", "cpu");
    this.useCpu.href = cpu.href;
    box.hidden = problem === null;
    box.classList.toggle("mild", where === "notice");
    if (this.problem === problem && this.said === w) return;
    this.problem = problem;
    setAttribute(box, "data-error-code", problem?.code ?? null);
    box.replaceChildren(...(problem === null ? [] : problemWords(problem, where)));
  }
}
