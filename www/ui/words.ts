/** The page's sentences: short, without jargon. Errors say what happened, what was kept, and what to do. */

import type { Code, DeviceReport, Stage, Totals } from "../index.js";
import type { Model, Problem, State } from "./state.js";

export function size(bytes: number): string {
  if (bytes < 1e6) return `${Math.max(1, Math.round(bytes / 1e3))} kB`;
  if (bytes < 1e9) return `${(bytes / 1e6).toFixed(bytes < 1e7 ? 1 : 0)} MB`;
  return `${(bytes / 1e9).toFixed(1)} GB`;
}

export function duration(seconds: number): string {
  if (seconds < 90) return `${Math.max(1, Math.round(seconds))} s`;
  return `${Math.round(seconds / 60)} min`;
}

export function count(number: number): string {
  if (number < 1e6) return `${Math.round(number / 1e3)} thousand`;
  if (number < 1e9) return `${(number / 1e6).toFixed(number < 1e8 ? 1 : 0)} million`;
  return `${(number / 1e9).toFixed(1)} billion`;
}

const STAGES: Record<Stage, string> = {
  vision: "the part that sees",
  qformer: "the part that picks out what matters",
  projection: "the part that translates",
  language: "the part that speaks",
};

/** "Loading the part that sees", and the figures beside it. */
export function loading(totals: Totals | null): { what: string; figures: string } {
  if (totals === null) return { what: "Getting ready", figures: "" };
  const { loaded, total, cached, rate, eta, stage } = totals;
  const what = stage === null ? "Loading the model" : `Loading ${STAGES[stage]}`;
  const figures = [`${size(loaded)} of ${size(total)}`];
  if (cached >= loaded && cached > 0) figures.push("kept from last time");
  else if (rate > 0) figures.push(`${size(rate)}/s`);
  if (eta !== null && eta >= 1) figures.push(`about ${duration(eta)} left`);
  return { what, figures: figures.join(" · ") };
}

/** What a picture waits for. */
export function waitingFor(model: Model): string {
  switch (model.phase) {
    case "starting":
    case "loading":
      return "The caption comes by itself, as soon as the model is here.";
    case "offered":
      return "The picture waits for the model.";
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
      if (kind === "cpu") return "On the CPU, as asked.";
      return software ? `On WebGPU, as asked, though it is only imitated in software here${adapter}: slow.` : `On the GPU, as asked${adapter}.`;
    case "gpu":
      return `On the GPU${adapter}.`;
    case "insecure":
      return "On the CPU: browsers offer WebGPU only to pages served over https.";
    case "no-webgpu":
      return "On the CPU: this browser has no WebGPU.";
    case "no-adapter":
      return `On the CPU: the browser has WebGPU but offers no GPU${adapter}.`;
    case "software-adapter":
      return `On the CPU: the GPU here is only imitated in software${adapter}, which is slower.`;
    case "start-failed":
      return `On the CPU: the GPU could not be started${adapter}.`;
  }
}

/** "demo · 12 MB · CPU · 41 tokens/s" */
export function statusLine({ model, device, rate }: State): string {
  const parts: string[] = [];
  if (model.phase === "ready") parts.push(modelName(model.info.url), size(model.info.bytes));
  else parts.push({ starting: "Starting", offered: "No model yet", loading: "Loading", failed: "No model" }[model.phase]);
  if (device !== null) parts.push(deviceName(device));
  if (rate !== null) parts.push(`${rate < 10 ? rate.toFixed(1) : Math.round(rate)} tokens/s`);
  return parts.join(" · ");
}

export type Where = "model" | "picture" | "answer" | "notice";

const HAPPENED: Record<Code, string> = {
  "webgpu-unavailable": "WebGPU is not available here.",
  "device-lost": "The GPU was taken away.",
  "out-of-memory": "There was not enough memory.",
  "config-invalid": "The model's settings cannot be read.",
  "input-invalid": "This cannot be asked.",
  "option-unsupported": "This is not supported yet.",
  "image-undecodable": "This file is not a picture that can be read.",
  "image-too-large": "This picture is too large.",
  "tokenizer-invalid": "The model's vocabulary cannot be read.",
  "model-unsupported": "This model cannot run here.",
  "weight-missing": "The model is incomplete.",
  "weight-shape": "The model does not fit its own description.",
  "weight-invalid": "The model is damaged.",
  "checksum-mismatch": "A part of the model arrived damaged.",
  "size-mismatch": "A part of the model arrived incomplete.",
  network: "The download failed.",
  "storage-quota": "There is no room to keep the model.",
  "storage-unavailable": "The model could not be kept.",
  file: "This file could not be read.",
  aborted: "It was cancelled.",
  kernel: "The engine stopped.",
};

const KEPT: Record<Where, string> = {
  model: "What has arrived is kept, and your pictures stay here.",
  picture: "Your other pictures are untouched.",
  answer: "Everything said before is still here.",
  notice: "It works all the same, and is downloaded again next time.",
};

const TO_DO: Partial<Record<Code, string>> = {
  "webgpu-unavailable": "Use the CPU instead.",
  "device-lost": "Try again: the model is read from the cache.",
  "out-of-memory": "Close other tabs, then try again.",
  "input-invalid": "Try other words.",
  "image-undecodable": "PNG, JPEG, WebP, GIF and BMP can be read.",
  "image-too-large": "Make it smaller, and drop it again.",
  "checksum-mismatch": "Try again; if it stays so, the file on the server is damaged.",
  "size-mismatch": "Try again; if it stays so, the file on the server is damaged.",
  network: "Check the connection, then try again.",
  "storage-quota": "Delete other models to make room.",
  file: "Folders cannot be dropped; files that have moved are to be dropped again.",
  kernel: "Try again; if it stays so, use the CPU.",
};

export function explain({ code }: Problem, where: Where): { happened: string; rest: string } {
  const happened = code === "network" && where === "picture" ? "The picture could not be fetched." : HAPPENED[code];
  return { happened, rest: [KEPT[where], TO_DO[code] ?? ""].filter(part => part !== "").join(" ") };
}
