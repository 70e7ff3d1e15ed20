/** The page: a user of blip2-web like any other. Wires events to state, state to view, and gives the engine what it has to do. */

import { createEngine, type DeviceWish } from "../index.js";
import { type Choice, choose } from "./choice.js";
import { translate } from "./dom.js";
import { listenForPictures } from "./drop.js";
import { type Found, fromFiles } from "./files.js";
import { Loader } from "./loader.js";
import { fetched, keepForOffline, takeHandedPictures } from "./offline.js";
import { Routes } from "./routes.js";
import { keep, load, type Settings } from "./settings.js";
import { type Action, reduce, type Route, type Sample, START, type State, type Turn } from "./state.js";
import { View } from "./view.js";
import { chooseLanguage, type Language, speak, w } from "./words.js";
import { Writer } from "./writer.js";

await chooseLanguage();
translate(document);

const query = new URLSearchParams(location.search);
const engine = createEngine({ device: wantedDevice() });
let state: State = { ...START, settings: load() };
let nextId = 1;

const page = {
  get state() {
    return state;
  },
  dispatch,
  announce: (sentence: string, language?: string | null) => view.announce(sentence, language),
};
const writer = new Writer(page);
const loader = new Loader(engine, page, writer);

const view = new View({
  choose: () => files.choose(),
  camera: () => void openCamera(),
  address: () => void openAddress(),
  sample: sample => addSources([{ name: sample.file, source: new URL(sample.file, new URL("samples/", document.baseURI)) }]),
  show: picture => {
    dispatch({ type: "show", picture });
    void writer.work();
  },
  remove,
  unshowable: picture => dispatch({ type: "unshowable", picture }),
  draft: draft => state.current !== null && dispatch({ type: "draft", picture: state.current, draft }),
  ask: question => ask(question, true),
  suggest: question => ask(question, false),
  edit: ({ parent }: Turn, question) => ask(question, true, parent),
  branch: turn => state.current !== null && dispatch({ type: "branch", picture: state.current, turn }),
  again: job => {
    dispatch({ type: "again", job });
    void writer.work();
  },
  more: job => {
    dispatch({ type: "more", job });
    void writer.work();
  },
  attention: (job, text) => writer.attention(job, text),
  stop: () => writer.stop(state.current),
  load: () => void loader.load(true),
  cancelLoad: () => loader.cancel(),
  models: () => void openModels(),
  settings: () => void openSettings(),
});

const routes = new Routes({
  engine,
  announce: page.announce,
  loader,
  captioner: () => writer.blip2,
  ask: found => {
    add(found);
    routes.go("ask");
  },
  entered: (route: Route) => dispatch({ type: "route", route }),
});
const files = listenForPictures({
  take: found => void routes.take(found).then(taken => taken || add(found)),
  address: url => void addAddress(url),
});

function dispatch(action: Action): void {
  state = reduce(state, action);
  view.show(state);
  routes.changed(state);
  models?.render(state);
}

const add = (found: readonly Found[]): void => addSources(found.map(({ file, path }) => ({ name: path.split("/").at(-1) ?? path, source: file })));

function addSources(pictures: readonly { readonly name: string; readonly source: File | URL }[]): void {
  const added = pictures.map(({ name, source }) => {
    const id = nextId++;
    writer.add(id, source);
    return { id, name, address: source instanceof URL ? source.href : URL.createObjectURL(source) };
  });
  dispatch({ type: "add", pictures: added });
  void writer.work();
}

/** Fetched here, as a picture of another origin is not shown by its address. What cannot be fetched is told where its caption would be. */
async function addAddress(url: URL): Promise<void> {
  const name = decodeURIComponent(url.pathname.split("/").at(-1) || url.host);
  try {
    const response = await fetch(url);
    const blob = await response.blob();
    if (response.ok) return add(fromFiles([new File([blob], name, { type: blob.type })]));
  } catch {
    // The engine says why, when it tries.
  }
  addSources([{ name, source: url }]);
}

function remove(picture: number): void {
  const shown = state.pictures.find(({ id }) => id === picture)?.address;
  if (shown?.startsWith("blob:")) URL.revokeObjectURL(shown);
  writer.remove(picture);
  dispatch({ type: "remove", picture });
}

function ask(question: string, own: boolean, after?: number | null): void {
  if (state.current === null) return;
  dispatch({ type: "ask", picture: state.current, turn: nextId++, question, own, ...(after !== undefined && { after }) });
  void writer.work();
}

function wantedDevice(): DeviceWish {
  const wanted = query.get("device");
  return wanted === "webgpu" || wanted === "cpu" ? wanted : "auto";
}

let camera: import("./camera.js").CameraBox | undefined;
async function openCamera(): Promise<void> {
  const part = await fetched(import("./camera.js"));
  if (part === null) return;
  camera ??= new part.CameraBox(file => add(fromFiles([file])));
  await camera.open();
}

let address: import("./camera.js").AddressBox | undefined;
async function openAddress(): Promise<void> {
  const part = await fetched(import("./camera.js"));
  if (part === null) return;
  address ??= new part.AddressBox(url => void addAddress(url));
  address.open();
}

let settings: import("./settings_sheet.js").SettingsSheet | undefined;
async function openSettings(): Promise<void> {
  const part = await fetched(import("./settings_sheet.js"));
  if (part === null) return;
  settings ??= new part.SettingsSheet({ change: changeSettings, speak: language => void changeLanguage(language) });
  settings.open(state.settings, state.ui);
}

function changeSettings(changed: Settings): void {
  keep(changed);
  dispatch({ type: "settings", settings: changed });
  settings?.render(changed, state.ui);
}

async function changeLanguage(language: Language): Promise<void> {
  if ((await fetched(speak(language).then(() => language))) === null) return;
  translate(document);
  view.show(state);
  routes.translated();
  settings?.render(state.settings, state.ui);
  models?.render(state);
}

let models: import("./models/models.js").ModelsSheet | undefined;
async function openModels(): Promise<void> {
  const part = await fetched(import("./models/models.js"));
  if (part === null) return;
  models ??= new part.ModelsSheet({ engine, loader, find: choice => void findWith(choice) });
  await models.open(state);
}

async function findWith(choice: Choice): Promise<void> {
  await choose("find", choice);
  await routes.renew("find");
  routes.go("find");
}

async function loadSamples(): Promise<void> {
  try {
    const response = await fetch(new URL("samples/index.json", document.baseURI));
    const list: unknown = await response.json();
    dispatch({ type: "samples", samples: Array.isArray(list) ? list.filter(isSample) : [] });
  } catch {
    dispatch({ type: "samples", samples: [] }); // a site without samples is whole without them
  }
}

function isSample(value: unknown): value is Sample {
  return (
    typeof value === "object" &&
    value !== null &&
    "file" in value &&
    typeof value.file === "string" &&
    "alt" in value &&
    typeof value.alt === "string"
  );
}

document.addEventListener("keydown", event => {
  if (event.key === "Escape" && !event.isComposing && document.querySelector("dialog[open]") === null) writer.stop(state.current);
});

for (const change of ["online", "offline"] as const) {
  window.addEventListener(change, () => {
    dispatch({ type: "online", online: change === "online" });
    if (change === "offline") view.announce(w.offlineNow);
    const { model } = state;
    // What had begun goes on by itself.
    if (change === "online" && model.phase === "failed" && model.problem.code === "network") void loader.resume();
  });
}

dispatch({ type: "online", online: navigator.onLine });
void loadSamples();
const loaded = loader.load(false);
void routes.start();
void takeHandedPictures(add);
// Once the visitor has what is needed now: the network is theirs first.
void loaded.then(() => keepForOffline(async () => (await engine.device()).kind));
