/** The sheet behind the status line: what runs, where, and what is kept on this device. */

import { Trash2, X } from "lucide";
import { byId, h, iconButton } from "./dom.js";
import type { CachedModel, CacheReport } from "../index.js";
import type { State } from "./state.js";
import { count, deviceName, deviceWhy, modelName, size } from "./words.js";

export interface DetailsEvents {
  cache(): Promise<CacheReport>;
  deleteModel(url: string): Promise<void>;
}

export class Details {
  private readonly dialog = byId("details", HTMLDialogElement);
  private readonly device = h("div", { class: "group" });
  private readonly model = h("div", { class: "group" });
  private readonly cache = h("div", { class: "group", id: "cache" });
  private readonly events: DetailsEvents;
  private shown: State | null = null;

  constructor(events: DetailsEvents) {
    this.events = events;
    this.dialog.append(
      h(
        "header",
        {},
        h("h2", { id: "details-title" }, "What runs here"),
        iconButton(X, "Close", () => this.dialog.close()),
      ),
      h("section", {}, h("h3", {}, "Model"), this.model),
      h("section", {}, h("h3", {}, "Device"), this.device),
      h("section", {}, h("h3", {}, "Kept in this browser"), this.cache),
      h("p", { class: "rest promise" }, "Your pictures and questions never leave this tab."),
    );
    // A click on the backdrop meets the dialog itself, whose box its children fill.
    this.dialog.addEventListener("click", event => {
      if (event.target === this.dialog) this.dialog.close();
    });
  }

  async open(state: State): Promise<void> {
    this.render(state);
    this.dialog.showModal();
    await this.refreshCache();
  }

  render(state: State): void {
    const { device, model, ui } = state;
    // Written anew only with news: a link that is being tabbed to stays.
    if (this.shown?.device === device && this.shown.model === model && this.shown.ui === ui) return;
    this.shown = state;
    this.device.replaceChildren(...deviceWords(state));
    this.model.replaceChildren(...modelWords(state));
  }

  private async refreshCache(): Promise<void> {
    try {
      this.cache.replaceChildren(...this.cacheWords(await this.events.cache()));
    } catch (error) {
      this.cache.replaceChildren(h("p", { class: "rest" }, `This cannot be read now: ${error instanceof Error ? error.message : String(error)}`));
    }
  }

  private cacheWords(report: CacheReport): HTMLElement[] {
    if (report.storage === "memory") return [h("p", {}, "Nothing: this browser offers no storage here, so models are downloaded each time.")];
    const rows = report.models.map(model => this.cacheRow(model));
    const list = rows.length === 0 ? h("p", {}, "No models.") : h("ul", { class: "rows" }, ...rows);
    const free = report.quota !== null && report.usage !== null ? `${size(report.usage)} of ${size(report.quota)} used.` : "";
    const loose = report.loose > 0 ? `${size(report.loose)} of unfinished downloads.` : "";
    const rest = [free, loose].filter(words => words !== "").join(" ");
    return rest === "" ? [list] : [list, h("p", { class: "rest" }, rest)];
  }

  private cacheRow(model: CachedModel): HTMLElement {
    const name = modelName(model.url);
    const remove = iconButton(Trash2, `Delete ${name}`, () => void this.remove(model.url, remove));
    remove.dataset.delete = model.url;
    const used = new Date(model.used).toLocaleDateString(undefined, { dateStyle: "medium" });
    return h("li", {}, h("div", {}, h("strong", {}, name), h("p", { class: "rest" }, `${size(model.bytes)} · used ${used}`)), remove);
  }

  private async remove(url: string, button: HTMLButtonElement): Promise<void> {
    button.disabled = true;
    await this.events.deleteModel(url).catch(() => {});
    await this.refreshCache();
  }
}

function deviceWords({ device }: State): HTMLElement[] {
  const wanted = new URL(location.href).searchParams.get("device") ?? "auto";
  const link = (value: string, words: string) => {
    const address = new URL(location.href);
    if (value === "auto") address.searchParams.delete("device");
    else address.searchParams.set("device", value);
    return h("a", { href: address.href, "data-device": value, "aria-current": wanted === value ? "true" : undefined }, words);
  };
  const words = device === null ? ["Not known yet."] : [deviceWhy(device)];
  const name = device === null ? [] : [h("strong", {}, deviceName(device))];
  return [...name, h("p", {}, ...words), h("p", { class: "choices" }, link("auto", "Automatic"), link("webgpu", "GPU"), link("cpu", "CPU"))];
}

function modelWords({ model, ui }: State): HTMLElement[] {
  if (model.phase !== "ready") return [h("p", {}, "Not loaded yet.")];
  const { info } = model;
  const { parameters, licence, source } = info.index;
  const figures = [size(info.bytes), `${count(parameters)} parameters`];
  if (licence !== null) figures.push(licence);
  const words = [h("strong", {}, modelName(info.url)), h("p", { class: "rest" }, figures.join(" · "))];
  if (ui?.about !== undefined) words.push(h("p", {}, ui.about));
  if (source !== null) words.push(h("p", { class: "rest" }, `From ${source}`));
  const card = ui?.licence_url === undefined ? null : safeLink(ui.licence_url, info.url);
  if (card !== null)
    words.push(h("p", {}, h("a", { href: card, target: "_blank", rel: "noopener noreferrer" }, "About this model and its licences")));
  return words;
}

/** The address in a model's index is a stranger's: it may lead to a page, and may not run anything. */
function safeLink(address: string, base: string): string | null {
  if (!URL.canParse(address, base)) return null;
  const url = new URL(address, base);
  return url.protocol === "https:" || url.protocol === "http:" ? url.href : null;
}
