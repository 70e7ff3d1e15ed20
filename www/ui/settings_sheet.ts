/** The sheet for how answers are made, and for the page's language. What is changed holds at once, for what is written from now on. */

import type { Ui } from "../index.js";
import { h, say, setAttribute, wordButton } from "./dom.js";
import { DEFAULTS, type Settings } from "./settings.js";
import { part, Sheet } from "./sheet.js";
import { LANGUAGES, type Language, type Said, w } from "./words.js";

export interface SettingsEvents {
  change(settings: Settings): void;
  speak(language: Language): void;
}

const WAYS = [
  ["greedy", "wayGreedy", "wayGreedyWhy"],
  ["beams", "wayBeams", "wayBeamsWhy"],
  ["draw", "wayDraw", "wayDrawWhy"],
] as const;

export class SettingsSheet {
  private readonly events: SettingsEvents;
  private readonly sheet: Sheet;
  private readonly ways = new Map<Settings["way"], HTMLInputElement>();
  private readonly beams = number("beams", { min: 2, max: 16, step: 1 });
  private readonly temperature = number("temperature", { min: 0.1, max: 3, step: 0.1 });
  private readonly topP = number("topP", { min: 0.05, max: 1, step: 0.05 });
  private readonly length = number("length", { min: 1, max: 500, step: 1 });
  private readonly prompt = text("prompt");
  private readonly template = text("template");
  private readonly remember = h("input", { type: "checkbox", id: "set-remember" });
  private readonly languages = new Map<Language, HTMLButtonElement>();
  private readonly reset: HTMLButtonElement;

  constructor(events: SettingsEvents) {
    this.events = events;
    const ways = WAYS.map(([way, name, why]) => {
      const radio = h("input", { type: "radio", name: "way", value: way });
      this.ways.set(way, radio);
      return h("label", { class: "way" }, radio, h("span", {}, say(h("strong", {}), name), say(h("span", { class: "rest" }), why)));
    });
    for (const [language, name] of LANGUAGES) {
      this.languages.set(language, h("button", { type: "button", lang: language, onclick: () => events.speak(language) }, name));
    }
    this.reset = wordButton("asItWas", () => events.change(DEFAULTS));
    const form = h(
      "form",
      {},
      part(
        "ways",
        say(h("div", { class: "ways", role: "radiogroup" }, ...ways), "ways", "label"),
        row("beams", this.beams),
        row("temperature", this.temperature),
        row("topP", this.topP),
      ),
      part(
        "lengthAndWords",
        row("length", this.length),
        row("prompt", this.prompt),
        row("template", this.template),
        check("remember", this.remember),
      ),
      h("div", { class: "row-of-buttons" }, this.reset),
    );
    form.addEventListener("submit", event => event.preventDefault());
    form.addEventListener("change", () => this.changed());
    const languages = say(h("div", { class: "choices", role: "group" }, ...this.languages.values()), "language", "label");
    this.sheet = new Sheet("settings", "settings", "sheet", form, part("language", languages));
  }

  open(settings: Settings, ui: Ui | null): void {
    this.render(settings, ui);
    this.sheet.open();
  }

  render(settings: Settings, ui: Ui | null): void {
    for (const [way, radio] of this.ways) radio.checked = way === settings.way;
    show(this.beams, settings.way === "beams");
    show(this.temperature, settings.way === "draw");
    show(this.topP, settings.way === "draw");
    put(this.beams, String(settings.beams));
    put(this.temperature, String(settings.temperature));
    put(this.topP, String(settings.topP));
    put(this.length, settings.length === null ? "" : String(settings.length));
    put(this.prompt, settings.prompt ?? "");
    put(this.template, settings.template ?? "");
    setAttribute(this.length, "placeholder", w.modelsChoice);
    setAttribute(this.prompt, "placeholder", ui?.caption_prompt || w.nothing);
    setAttribute(this.template, "placeholder", ui?.question_template ?? "{question}");
    this.remember.checked = settings.remember;
    this.reset.disabled = JSON.stringify(settings) === JSON.stringify(DEFAULTS);
    for (const [language, button] of this.languages) setAttribute(button, "aria-pressed", String(language === w.code));
  }

  private changed(): void {
    const template = this.template.value.trim();
    const lacks = template !== "" && !template.includes("{question}");
    this.template.setCustomValidity(lacks ? w.templateLacks : "");
    if ([this.beams, this.temperature, this.topP, this.length, this.template].some(field => !field.hidden && !field.reportValidity())) return;
    const way = WAYS.find(([one]) => this.ways.get(one)?.checked)?.[0] ?? DEFAULTS.way;
    this.events.change({
      way,
      length: this.length.value === "" ? null : this.length.valueAsNumber,
      beams: this.beams.valueAsNumber,
      temperature: this.temperature.valueAsNumber,
      topP: this.topP.valueAsNumber,
      prompt: this.prompt.value.trim() === "" ? null : this.prompt.value,
      template: template === "" ? null : this.template.value,
      remember: this.remember.checked,
    });
  }
}

type Field = "beams" | "temperature" | "topP" | "length" | "prompt" | "template" | "remember";

function number(name: Field, { min, max, step }: { min: number; max: number; step: number }): HTMLInputElement {
  return h("input", { type: "number", class: "field", id: `set-${name}`, min, max, step, inputmode: step < 1 ? "decimal" : "numeric" });
}
const text = (name: Field): HTMLInputElement =>
  h("input", { type: "text", class: "field", id: `set-${name}`, autocomplete: "off", spellcheck: "false" });

const row = (name: Said & Field, field: HTMLInputElement): HTMLElement =>
  h("div", { class: "setting" }, say(h("label", { for: field.id }), name), field);

const check = (name: Said & Field, field: HTMLInputElement): HTMLElement => h("label", { class: "check" }, field, say(h("span", {}), name));

function show(field: HTMLInputElement, shown: boolean): void {
  field.hidden = !shown;
  if (field.parentElement !== null) field.parentElement.hidden = !shown;
}

/** Not under the fingers of somebody who types there. */
function put(field: HTMLInputElement, value: string): void {
  if (document.activeElement !== field && field.value !== value) field.value = value;
}
