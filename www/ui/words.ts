/** What the page says, in the visitor's language. Each language is one file of `words/`; this one chooses, and makes figures into words. */

import type { Code, DeviceReport, Stage, Totals } from "../index.js";
import { keep, kept } from "./kept.js";
import type { Model, Picture, Problem, State } from "./state.js";
import { en } from "./words/en.js";

export type Words = typeof en;
/** Keys of plain sentences. */
export type Said = { [K in keyof Words]: Words[K] extends string ? K : never }[keyof Words];
export type Language = "en" | "ko";

export const LANGUAGES: readonly (readonly [Language, string])[] = [
  ["en", "English"],
  ["ko", "한국어"],
];
const KEY = "blip2-language";

/** The words of now. */
export let w: Words = en;

/** What the visitor chose, or else the first language of the browser that there is. */
export async function chooseLanguage(): Promise<void> {
  const wanted = [kept(KEY), ...navigator.languages].map(tag => tag?.slice(0, 2).toLowerCase());
  const found = wanted.map(tag => LANGUAGES.find(([language]) => language === tag)).find(language => language !== undefined);
  // English where another language cannot be fetched: better than nothing.
  await use(found?.[0] ?? "en").catch(() => {});
}

export async function speak(language: Language): Promise<void> {
  await use(language);
  keep(KEY, language);
}

async function use(language: Language): Promise<void> {
  switch (language) {
    case "en":
      w = en;
      break;
    case "ko":
      w = (await import("./words/ko.js")).ko;
      break;
  }
  document.documentElement.lang = language;
}

/** Of a text that a model or a visitor wrote, by its script: what reads it aloud has to know. */
export function languageOf(text: string): string | null {
  if (/[\u1100-\u11ff\u3130-\u318f\uac00-\ud7af]/.test(text)) return "ko";
  if (/[\u3040-\u30ff]/.test(text)) return "ja";
  if (/[\u4e00-\u9fff]/.test(text)) return "zh";
  return /[a-z]/i.test(text) ? "en" : null;
}

export function size(bytes: number): string {
  if (bytes < 1e6) return `${Math.max(1, Math.round(bytes / 1e3))} kB`;
  if (bytes < 1e9) return `${(bytes / 1e6).toFixed(bytes < 1e7 ? 1 : 0)} MB`;
  return `${(bytes / 1e9).toFixed(1)} GB`;
}

export function duration(seconds: number): string {
  if (seconds < 90) return w.seconds(Math.max(1, Math.round(seconds)));
  return w.minutes(Math.round(seconds / 60));
}

/** Sizes in the order in which parts arrive, without those that a model lacks. */
export const inOrder = (stages: Readonly<Record<Stage, number>>): number[] => STAGES.map(stage => stages[stage]).filter(bytes => bytes > 0);

export const STAGES = ["vision", "qformer", "projection", "language"] as const satisfies readonly Stage[];

export const count = (number: number): string => w.large(number);

/** "Loading the part that sees", and the figures beside it. */
export function loading(totals: Totals | null, { slow = false, online = true } = {}): { what: string; figures: string } {
  if (totals === null) return { what: slow ? w.fetchingEngine : w.gettingReady, figures: "" };
  const { loaded, total, cached, rate, eta, stage } = totals;
  const what = stage === null ? w.loadingModel : w.loadingStage[stage satisfies Stage];
  const figures = [w.sizeOf(size(loaded), size(total))];
  const here = cached >= loaded && cached > 0;
  if (!online && !here) return { what, figures: [...figures, w.noConnection].join(" · ") };
  if (here) figures.push(w.hereAlready);
  else if (rate > 0) figures.push(`${size(rate)}/s`);
  if (eta !== null && eta >= 1) figures.push(w.left(duration(eta)));
  return { what, figures: figures.join(" · ") };
}

/** On the button that fetches a model, or opens its folder again. */
export const loadWords = (bytes: number, arrived: number, closed: string | null): string =>
  closed === null ? w.loadThis(size(bytes), arrived > 0 ? size(arrived) : null) : w.openAgain(closed);

/** What a picture waits for. */
export function waitingFor(model: Model, { ahead }: Pick<Picture, "ahead"> = { ahead: "no" }): string {
  switch (model.phase) {
    case "loading":
      return model.elsewhere ? w.fetchedElsewhere : { no: w.captionComes, now: w.lookedAtNow, done: w.lookedAt }[ahead];
    case "starting":
      return w.captionComes;
    case "offered":
      return w.pictureWaits;
    case "failed":
    case "ready":
      return "";
  }
}

/** A model's name: the last folder of its address. */
export function modelName(url: string): string {
  const folders = new URL(url).pathname.split("/").filter(folder => folder !== "");
  return decodeURIComponent(folders.at(-1) ?? "model");
}

export const deviceName = ({ kind, name }: DeviceReport): string => (kind === "cpu" ? "CPU" : name.trim() || "GPU");

/** Why it runs where it runs. */
export function deviceWhy({ kind, reason, detail, software }: DeviceReport): string {
  const adapter = detail === "" ? "" : ` (${detail})`;
  switch (reason) {
    case "asked":
      if (kind === "cpu") return w.cpuAsked;
      return software ? w.gpuAskedSoftware(adapter) : w.gpuAsked(adapter);
    case "gpu":
      return w.gpu(adapter);
    case "insecure":
      return w.cpuInsecure;
    case "no-webgpu":
      return w.cpuNoWebgpu;
    case "no-adapter":
      return w.cpuNoAdapter(adapter);
    case "software-adapter":
      return w.cpuSoftware(adapter);
    case "start-failed":
      return w.cpuStartFailed(adapter);
  }
}

/** "demo · 12 MB · CPU · 41 tokens/s" */
export function statusLine({ model, device, online, rate }: State): string {
  const parts: string[] = online ? [] : [w.offline];
  if (model.phase === "ready") parts.push(modelName(model.info.url), size(model.info.bytes));
  else parts.push(w.phase[model.phase]);
  if (device !== null) parts.push(deviceName(device));
  if (rate !== null) parts.push(w.tokensPerSecond(rate < 10 ? rate.toFixed(1) : String(Math.round(rate))));
  return parts.join(" · ");
}

export type Where = "model" | "picture" | "answer" | "notice";

export function explain({ code, about }: Problem, where: Where): { happened: string; rest: string } {
  const { happened, rest } = about === undefined ? ofCode(code, where) : w.problemAbout[about];
  return { happened, rest: [w.kept[where], rest].filter(part => part !== "").join(" ") };
}

function ofCode(code: Code, where: Where): { happened: string; rest: string } {
  const toDo: Partial<Record<Code, string>> = w.toDo;
  return { happened: code === "network" && where === "picture" ? w.pictureNotFetched : w.happened[code], rest: toDo[code] ?? "" };
}
