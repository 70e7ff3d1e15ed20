/** The sheet behind the status line: what runs, where, what else could run, and what is kept on this device. */

import { Trash2 } from "lucide";
import type { CachedModel, CacheReport, Engine, IndexFacts, Inspection } from "../../index.js";
import { problemWords } from "../answer.js";
import { Bar } from "../bar.js";
import { type Choice, ownModel, problemWith, sourceOf } from "../choice.js";
import { confirmed } from "../confirm.js";
import { h, iconButton, say, setAttribute, wordButton } from "../dom.js";
import { finds, type Loader } from "../loader.js";
import { styled } from "../routes.js";
import { part, Sheet } from "../sheet.js";
import type { Problem, State } from "../state.js";
import { count, deviceName, deviceWhy, inOrder, languageOf, loading, modelName, STAGES, size, w } from "../words.js";
import { problemOf } from "../writer.js";
import { chooseModelFolder } from "./folders.js";

export interface ModelsParts {
  readonly engine: Engine;
  readonly loader: Loader;
  /** Find works with this model from now on. */
  find(choice: Choice): void;
}

export class ModelsSheet {
  private readonly parts: ModelsParts;
  private readonly model = h("div", { class: "group" });
  private readonly progress = new Bar(say(h("progress", { max: 1 }), "loadingModel", "label"));
  private readonly device = h("div", { class: "group" });
  private readonly cache = h("div", { class: "group", id: "cache", tabindex: -1 });
  private readonly field = say(
    h("input", { type: "url", class: "field", id: "model-address", autocomplete: "off", spellcheck: "false", placeholder: "https://…/" }),
    "modelAddress",
    "label",
  );
  private readonly offer = h("div", { class: "group", id: "model-offer", hidden: true });
  private readonly sheet: Sheet;
  private readonly styles = styled("models.css");
  private shown: State | null = null;
  private said = w;
  private inspected = new AbortController();

  constructor(parts: ModelsParts) {
    this.parts = parts;
    const form = h(
      "form",
      { class: "group" },
      say(h("label", { for: "model-address" }), "modelAddress"),
      h("div", { class: "field-and-button" }, this.field, say(h("button", { type: "submit", class: "plain" }), "inspect")),
      say(h("p", { class: "rest" }), "modelAddressRest"),
    );
    form.addEventListener("submit", event => {
      event.preventDefault();
      if (URL.canParse(this.field.value, document.baseURI)) void this.look(new URL(this.field.value, document.baseURI));
    });
    const demo = h(
      "div",
      { class: "known" },
      h("div", {}, say(h("strong", {}), "demoModel"), say(h("p", { class: "rest" }), "demoRest")),
      wordButton("inspect", () => void this.look(null)),
    );
    const disk = h(
      "div",
      { class: "known" },
      wordButton("fromDisk", () => void this.chooseFolder()),
      say(h("p", { class: "rest" }), "fromDiskRest"),
    );
    this.sheet = new Sheet(
      "details",
      "modelsTitle",
      "sheet",
      part("modelNow", this.model, this.progress.element),
      part("device", this.device),
      part("otherModels", demo, form, disk, this.offer),
      part("cached", this.cache),
      say(h("p", { class: "rest promise" }), "neverLeave"),
    );
  }

  async open(state: State): Promise<void> {
    await this.styles;
    this.render(state);
    this.sheet.open();
    await this.refreshCache();
  }

  render(state: State): void {
    const { device, model, ui, online } = state;
    this.progress.hidden = model.phase !== "loading";
    if (model.phase === "loading") {
      this.progress.show(model.totals?.loaded ?? 0, model.totals?.total ?? 0);
      this.progress.divide(model.stages);
    }
    // Written anew only with news: a link that is being tabbed to stays.
    const { shown } = this;
    if (shown?.device === device && shown.model === model && shown.ui === ui && shown.online === online && this.said === w) return;
    const arrived = this.shown?.model.phase === "loading" && model.phase === "ready";
    this.shown = state;
    this.said = w;
    this.device.replaceChildren(...deviceWords(state));
    this.model.replaceChildren(...modelWords(state));
    if (arrived) this.offer.hidden = true;
    if (arrived && this.sheet.dialog.open) void this.refreshCache();
  }

  /** What a model is and takes, before anything of it is fetched. Null is the page's own. */
  private async look(choice: Choice | null): Promise<void> {
    this.inspected.abort();
    const abort = new AbortController();
    this.inspected = abort;
    this.offer.hidden = false;
    this.offer.replaceChildren(h("p", { class: "rest" }, w.inspecting));
    try {
      const inspection = await this.parts.engine.inspect(sourceOf(choice ?? ownModel("ask")), { signal: abort.signal });
      const report = await this.parts.engine.cache.report();
      if (abort.signal.aborted) return;
      this.offer.replaceChildren(...this.offerWords(inspection, report, choice));
      this.offer.scrollIntoView({ block: "nearest" });
    } catch (error) {
      if (!abort.signal.aborted) this.showProblem(problemWith(error, choice));
    }
  }

  private showProblem(problem: Problem): void {
    const box = h("div", { class: "problem" }, ...problemWords(problem, "model"));
    setAttribute(box, "data-error-code", problem.code);
    this.offer.replaceChildren(box);
    this.offer.hidden = false;
  }

  private offerWords({ url, bytes, cached, memory, fits, index }: Inspection, report: CacheReport, choice: Choice | null): HTMLElement[] {
    const figures = [size(bytes), w.parameters(count(index.parameters)), w.needs(size(memory))];
    const here = cached >= bytes ? "" : cached > 0 ? w.partlyHere(size(cached)) : "";
    const left = report.quota === null || report.usage === null ? null : report.quota - report.usage;
    // A folder of the disk is there already: it is not kept once more.
    const folder = choice === null || choice instanceof URL ? null : choice;
    const room = folder === null && left !== null && left < bytes - cached ? w.noRoom(size(left)) : "";
    const once = folder === null || "kind" in folder.picked ? "" : w.forThisVisit;
    const finder = finds(index);
    const take = () => {
      if (!finder) return void this.parts.loader.choose(choice);
      this.sheet.close();
      this.parts.find(choice ?? ownModel("ask"));
    };
    const { model } = this.shown ?? {};
    const inUse = model?.phase === "ready" && model.info.url === url;
    const toUse = inUse ? w.useModelAgain : cached >= bytes ? w.useModelCached : w.useModel(size(bytes - cached));
    const use = h(
      "button",
      { type: "button", class: inUse ? "plain" : "plain main", id: "use-model", disabled: fits === "no", onclick: take },
      finder ? w.useForFind : toUse,
    );
    const lines = [figures.join(" · "), inUse ? w.inUse : here, w[FIT[fits]], room, once, finder ? w.problemAbout.finder.happened : ""].filter(
      line => line !== "",
    );
    const about = index.ui.about === undefined ? [] : [h("p", { lang: languageOf(index.ui.about) }, index.ui.about)];
    return [h("strong", {}, modelName(url)), ...lines.map(line => h("p", { class: "rest" }, line)), ...about, h("div", {}, use)];
  }

  private async chooseFolder(): Promise<void> {
    try {
      const folder = await chooseModelFolder();
      if (folder !== null) await this.look(folder);
    } catch (error) {
      // The browser's own no: a folder of the system, or no permission.
      this.inspected.abort();
      this.showProblem({ code: "file", message: String(error), retryable: true, about: "folder" });
    }
  }

  private async refreshCache(): Promise<void> {
    try {
      this.cache.replaceChildren(...this.cacheWords(await this.parts.engine.cache.report()));
    } catch (error) {
      this.cache.replaceChildren(h("p", { class: "rest" }, w.cachedUnreadable(problemOf(error).message)));
    }
  }

  private cacheWords(report: CacheReport): HTMLElement[] {
    if (report.storage === "memory") return [h("p", {}, w.cachedNothing)];
    const rows = report.models.map(model => this.cacheRow(model));
    const list = rows.length === 0 ? h("p", {}, w.cachedNone) : h("ul", { class: "rows" }, ...rows);
    const free = report.quota !== null && report.usage !== null ? w.room(size(report.usage), size(report.quota)) : "";
    const loose = report.loose > 0 ? w.loose(size(report.loose)) : "";
    const rest = [free, loose].filter(words => words !== "").join(" ");
    return rest === "" ? [list] : [list, h("p", { class: "rest" }, rest)];
  }

  private cacheRow(model: CachedModel): HTMLElement {
    const name = modelName(model.url);
    const remove = iconButton(Trash2, "close", () => void this.remove(model.url, remove));
    for (const place of ["data-say-label", "data-say-title"]) remove.removeAttribute(place);
    for (const place of ["aria-label", "title"]) setAttribute(remove, place, w.remove(name));
    remove.dataset.delete = model.url;
    const used = new Date(model.used).toLocaleDateString(w.code, { dateStyle: "medium" });
    return h("li", {}, h("div", {}, h("strong", {}, name), h("p", { class: "rest" }, `${size(model.bytes)} · ${w.used(used)}`)), remove);
  }

  private async remove(url: string, button: HTMLButtonElement): Promise<void> {
    if (!(await confirmed("deleteTitle", "deleteRest", "deleteAct"))) return;
    const at = [...this.cache.querySelectorAll("button")].indexOf(button);
    await this.parts.engine.cache.delete(url).catch(() => {});
    await this.refreshCache();
    const left = this.cache.querySelectorAll("button");
    (left[Math.min(at, left.length - 1)] ?? this.cache).focus();
  }
}

const FIT = { yes: "fits", tight: "tight", no: "doesNotFit" } as const;

function deviceWords({ device }: State): HTMLElement[] {
  const wanted = new URL(location.href).searchParams.get("device") ?? "auto";
  const link = (value: string, words: string) => {
    const address = new URL(location.href);
    if (value === "auto") address.searchParams.delete("device");
    else address.searchParams.set("device", value);
    return h("a", { href: address.href, "data-device": value, "aria-current": wanted === value ? "true" : undefined }, words);
  };
  const words = device === null ? [w.notKnown] : [deviceWhy(device)];
  const name = device === null ? [] : [h("strong", {}, deviceName(device))];
  return [...name, h("p", {}, ...words), h("p", { class: "choices" }, link("auto", w.automatic), link("webgpu", "GPU"), link("cpu", "CPU"))];
}

function modelWords({ model, ui, online }: State): HTMLElement[] {
  if (model.phase === "loading") {
    const { what, figures } = loading(model.totals, { online: online || model.folder === true });
    return [h("p", {}, what), h("p", { class: "rest figures" }, figures)];
  }
  if (model.phase !== "ready") return [h("p", {}, w.notLoaded)];
  const { info } = model;
  const { parameters, licence, source } = info.index;
  const figures = [size(info.bytes), w.parameters(count(parameters))];
  if (licence !== null) figures.push(licence);
  const words = [h("strong", {}, modelName(info.url)), h("p", { class: "rest" }, figures.join(" · ")), ...stageBar(info.index)];
  if (ui?.about !== undefined) words.push(h("p", { lang: languageOf(ui.about) }, ui.about));
  if (source !== null) words.push(h("p", { class: "rest" }, w.from(source)));
  const card = ui?.licence_url === undefined ? null : safeLink(ui.licence_url, info.url);
  if (card !== null) words.push(h("p", {}, h("a", { href: card, target: "_blank", rel: "noopener noreferrer" }, w.modelCard)));
  return words;
}

/** What of a model is for what, as large as it is. */
function stageBar({ stages }: IndexFacts): HTMLElement[] {
  const parts = STAGES.filter(stage => stages[stage] > 0);
  const segment = (bytes: number) => {
    const element = h("i");
    element.style.setProperty("--bytes", String(bytes));
    return element;
  };
  const bar = h("div", { class: "stages", "aria-hidden": "true" }, ...inOrder(stages).map(segment));
  const legend = parts.map(stage => h("li", {}, `${w.stageDoes[stage]} `, h("span", { class: "figures" }, size(stages[stage]))));
  return [bar, h("ul", { class: "legend rest" }, ...legend)];
}

/** The address in a model's index is a stranger's: it may lead to a page, and may not run anything. */
function safeLink(address: string, base: string): string | null {
  if (!URL.canParse(address, base)) return null;
  const url = new URL(address, base);
  return url.protocol === "https:" || url.protocol === "http:" ? url.href : null;
}
