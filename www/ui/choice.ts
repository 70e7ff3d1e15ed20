/** Which model a view works with: what a link names, what the visitor has chosen, or the page's own. */

import { Blip2Error, type Source } from "../index.js";
import { PICKED } from "../picked.js";
import { allowed } from "./files.js";
import { keep, kept } from "./kept.js";
import type { Folder } from "./models/folders.js";
import type { Problem, Route } from "./state.js";
import { missing, problemOf } from "./writer.js";

/** Batch writes with the model of Ask. */
export type View = Exclude<Route, "batch">;
/** An address, or a folder of the visitor's disk. */
export type Choice = URL | Folder;

/** The <meta> of the page's own model, and where it is without one. */
const OWN = { ask: ["blip2-model", "models/demo/"], find: ["blip2-retrieval", "models/demo-retrieval/"] } as const;
const KEYS = { ask: "blip2-model", find: "blip2-find-model" } as const;
/** Kept in the place of an address: the folder itself is in the browser's database. */
const FOLDER = "folder:";
const INDEX = "model.safetensors.index.json";

const ofThisVisit = new Map<View, Choice>();

/** From now on, and on the next visit as far as the browser can; null: the page's own. */
export async function choose(view: View, choice: Choice | null): Promise<void> {
  if (choice === null) ofThisVisit.delete(view);
  else ofThisVisit.set(view, choice);
  if (choice === null || choice instanceof URL) {
    const before = kept(KEYS[view]);
    keep(KEYS[view], choice?.href ?? null);
    if (before?.startsWith(FOLDER)) await (await import("./models/folders.js")).forgetFolder(view);
    return;
  }
  const { rememberFolder } = await import("./models/folders.js");
  keep(KEYS[view], (await rememberFolder(view, choice)) ? keyOf(choice) : null);
}

/** A link may name only what this site serves. Errors: input-invalid. */
export async function chosen(view: View): Promise<Choice> {
  const linked = view === "ask" ? new URLSearchParams(location.search).get("model") : null;
  if (linked !== null) return ofThisSite(linked);
  const choice = ofThisVisit.get(view) ?? (await ofLastVisit(view));
  if (choice === null) return ownModel(view);
  ofThisVisit.set(view, choice);
  return choice;
}

async function ofLastVisit(view: View): Promise<Choice | null> {
  const text = kept(KEYS[view]);
  if (text?.startsWith(FOLDER)) return (await import("./models/folders.js")).rememberedFolder(view);
  return text !== null && URL.canParse(text, document.baseURI) ? new URL(text, document.baseURI) : null;
}

function ofThisSite(text: string): URL {
  const address = new URL(text, document.baseURI);
  if (address.origin === location.origin) return address;
  const reason = "this page loads models from its own site only";
  throw new Blip2Error("input-invalid", { argument: "model", reason }, { message: `model: ${reason}`, hint: "", retryable: false });
}

export function ownModel(view: View): URL {
  const [name, folder] = OWN[view];
  return new URL(document.querySelector<HTMLMetaElement>(`meta[name="${name}"]`)?.content ?? folder, document.baseURI);
}

export const sourceOf = (choice: Choice): Source => (choice instanceof URL ? choice : choice.picked);

/** Names it among others. */
export const keyOf = (choice: Choice): string => (choice instanceof URL ? choice.href : FOLDER + choice.name);

/** The index of a model, as JSON. Errors: those of `fetch`, of the browser's files and of JSON. */
export async function indexOf(choice: Choice): Promise<unknown> {
  if (choice instanceof URL) return (await fetch(inFolder(choice, INDEX))).json();
  const { picked } = choice;
  const file = "kind" in picked ? await (await picked.getFileHandle(INDEX)).getFile() : picked.find(({ name }) => name === INDEX);
  return JSON.parse((await file?.text()) ?? "null");
}

/** As the engine finds it: also without a slash at the end, and with a signature, which is of each file. */
function inFolder({ href }: URL, file: string): URL {
  const address = new URL(href);
  address.pathname = `${address.pathname.replace(/\/$/, "")}/${file}`;
  return address;
}

/** The name of a folder that may not be read yet. `ask`: the visitor is asked for it, which needs a click. */
export async function closedFolder(choice: Choice, ask: boolean): Promise<string | null> {
  if (choice instanceof URL || !("kind" in choice.picked)) return null;
  return (await allowed(choice.picked, ask)) ? null : choice.name;
}

/** An error as the page shows it. What a folder lacks was not downloaded, and no connection helps. */
export function problemWith(error: unknown, choice: Choice | null): Problem {
  const problem = problemOf(error);
  // The engine or a part of the model may be what is missing.
  if (missing(error)?.split("?")[0]?.endsWith(`/${INDEX}`)) return { ...problem, about: "noModelThere" };
  if (choice === null || choice instanceof URL || !(error instanceof Blip2Error)) return problem;
  if (error.is("file")) return { ...problem, about: error.facts.path === INDEX ? "noModel" : "folder" };
  return error.is("network") && error.facts.url.startsWith(PICKED) ? { ...problem, about: "folder" } : problem;
}
