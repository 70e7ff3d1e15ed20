/** How answers are made: what the visitor has set, and what the model does by itself. Kept in this browser. */

import type { GenerationOptions } from "../index.js";
import { kept, keep as keepText } from "./kept.js";

export interface Settings {
  /** greedy: the likeliest next word; beams: several texts side by side; draw: by chance. */
  readonly way: "greedy" | "beams" | "draw";
  /** New tokens at most; null is the model's own choice. */
  readonly length: number | null;
  readonly beams: number;
  readonly temperature: number;
  readonly topP: number;
  /** What a caption begins with; null is the model's own. */
  readonly prompt: string | null;
  /** Holds `{question}`; null is the model's own. */
  readonly template: string | null;
  /** Each question is asked with the ones before it and their answers. */
  readonly remember: boolean;
}

export const DEFAULTS: Settings = {
  way: "greedy",
  length: null,
  beams: 4,
  temperature: 1,
  topP: 0.9,
  prompt: null,
  template: null,
  remember: false,
};

/** How many other ways to say it are looked for. */
const MORE = 5;

const KEY = "blip2-settings";

/** The options that say this; the engine refuses those that would have no effect. */
export function options({ way, length, beams, temperature, topP }: Settings): GenerationOptions {
  const room = length === null ? {} : { max_new_tokens: length };
  switch (way) {
    case "greedy":
      return room;
    case "beams":
      return { ...room, num_beams: beams };
    case "draw":
      return { ...room, do_sample: true, temperature, top_p: topP };
  }
}

/** The same for several answers at once, each with its score. */
export function moreOptions({ length, beams, way }: Settings): GenerationOptions {
  const several = Math.max(MORE, way === "beams" ? beams : 0);
  return { ...(length !== null && { max_new_tokens: length }), num_beams: several, num_return_sequences: MORE };
}

/** What was kept, as far as it still makes sense. */
export function read(json: string | null): Settings {
  let kept: unknown;
  try {
    kept = JSON.parse(json ?? "");
  } catch {
    return DEFAULTS;
  }
  if (typeof kept !== "object" || kept === null) return DEFAULTS;
  const at = (name: keyof Settings): unknown => Reflect.get(kept, name);
  const number = (name: keyof Settings, from: number, to: number): number | null => {
    const value = at(name);
    return typeof value === "number" && value >= from && value <= to ? value : null;
  };
  const text = (name: keyof Settings): string | null => {
    const value = at(name);
    return typeof value === "string" && value.trim() !== "" ? value : null;
  };
  const length = number("length", 1, 500);
  const template = text("template");
  const way = (["greedy", "beams", "draw"] as const).find(one => one === at("way"));
  return {
    way: way ?? DEFAULTS.way,
    length: length === null ? null : Math.round(length),
    beams: Math.round(number("beams", 2, 16) ?? DEFAULTS.beams),
    temperature: number("temperature", 0.1, 3) ?? DEFAULTS.temperature,
    topP: number("topP", 0.05, 1) ?? DEFAULTS.topP,
    prompt: text("prompt"),
    template: template?.includes("{question}") ? template : null,
    remember: at("remember") === true,
  };
}

export function load(): Settings {
  return read(kept(KEY));
}

export function keep(settings: Settings): void {
  keepText(KEY, JSON.stringify(settings));
}
