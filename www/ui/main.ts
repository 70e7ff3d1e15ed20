/** The page: a user of blip2-web like any other. Wires events to state, state to view, and gives the engine one job at a time. */

import { type Blip2, type Blip2Image, Blip2Error, createEngine, type DeviceWish, type Generated } from "../index.js";
import { listenForPictures } from "./drop.js";
import { type Action, type Job, nextJob, type Problem, reduce, type Sample, START, type State } from "./state.js";
import { View } from "./view.js";

/** More than this is fetched only after a click. */
const UNASKED = 50e6;
/** Pictures whose encoding is kept in the engine; the others are encoded anew when they are asked about. */
const ENCODED_KEPT = 12;

const query = new URLSearchParams(location.search);
const engine = createEngine({ device: wantedDevice() });
const sources = new Map<number, File | URL>();
const encoded = new Map<number, Promise<Blip2Image>>();
const retried = new Set<string>();
let state: State = START;
let blip2: Blip2 | null = null;
let loadAbort = new AbortController();
let nextId = 1;
let running: { readonly job: Job; stop(): void } | null = null;

const view = new View({
  choose: () => files.choose(),
  sample: sample => add([sampleSource(sample)]),
  show: picture => dispatch({ type: "show", picture }),
  remove,
  unshowable: picture => dispatch({ type: "unshowable", picture }),
  draft: draft => state.current !== null && dispatch({ type: "draft", picture: state.current, draft }),
  ask: question => ask(question, true),
  suggest: question => ask(question, false),
  again: job => {
    dispatch({ type: "again", job });
    void work();
  },
  stop,
  load: () => void loadModel(true),
  cancelLoad: () => loadAbort.abort(),
  cache: () => engine.cache.report(),
  deleteModel: url => engine.cache.delete(url),
});
const files = listenForPictures(dropped => add(dropped.map(file => ({ name: file.name, source: file }))));

function dispatch(action: Action): void {
  state = reduce(state, action);
  view.show(state);
}

function add(pictures: readonly { readonly name: string; readonly source: File | URL }[]): void {
  const added = pictures.map(({ name, source }) => {
    const id = nextId++;
    sources.set(id, source);
    return { id, name, address: source instanceof URL ? source.href : URL.createObjectURL(source) };
  });
  dispatch({ type: "add", pictures: added });
  void work();
}

const sampleSource = ({ file }: Sample) => ({ name: file, source: new URL(file, new URL("samples/", document.baseURI)) });

function remove(picture: number): void {
  if (running?.job.picture === picture) running.stop();
  const address = state.pictures.find(({ id }) => id === picture)?.address;
  if (address?.startsWith("blob:")) URL.revokeObjectURL(address);
  sources.delete(picture);
  forget(picture);
  dispatch({ type: "remove", picture });
}

function ask(question: string, own: boolean): void {
  if (state.current === null) return;
  dispatch({ type: "ask", picture: state.current, turn: nextId++, question, own });
  void work();
}

function stop(): void {
  if (running?.job.picture === state.current) running?.stop();
}

async function work(): Promise<void> {
  if (running !== null || blip2 === null) return;
  const job = nextJob(state);
  if (job === null) return;
  await run(job, blip2);
  await work();
}

async function run(job: Job, model: Blip2): Promise<void> {
  const abort = new AbortController();
  running = { job, stop: () => abort.abort() };
  dispatch({ type: "begin", job });
  try {
    const image = await encode(job.picture, model, abort.signal);
    const question = answerQuestion(job);
    const writing = question === null ? image.caption({ signal: abort.signal }) : image.ask(question, { signal: abort.signal });
    running = { job, stop: () => writing.stop() };
    let text = "";
    for await (const piece of writing) {
      text = (text + piece).trimStart();
      dispatch({ type: "text", job, text });
    }
    end(job, await writing);
  } catch (error) {
    if (abort.signal.aborted) dispatch({ type: "stopped", job });
    else fail(job, error);
  } finally {
    running = null;
  }
}

function answerQuestion({ picture, turn }: Job): string | null {
  const turns = state.pictures.find(({ id }) => id === picture)?.turns;
  return turns?.find(({ id }) => id === turn)?.question ?? null;
}

function end(job: Job, result: Generated): void {
  const text = result.text.trim();
  dispatch({ type: "end", job, result: { text, finish: result.finish }, rate: tokensPerSecond(result) });
  if (job.picture === state.current && text !== "") view.announce(text);
}

/** Of the decode alone: the first token waits for the picture and the prompt. */
function tokensPerSecond({ timings: { first_token_ms, total_ms, tokens } }: Generated): number | null {
  const milliseconds = total_ms - first_token_ms;
  return tokens > 1 && milliseconds > 0 ? ((tokens - 1) * 1000) / milliseconds : null;
}

function fail(job: Job, error: unknown): void {
  const problem = problemOf(error);
  const key = `${job.picture}/${job.turn}`;
  // The engine comes back by itself on a new device; once, nobody needs to be troubled.
  if (problem.code === "device-lost" && !retried.has(key)) {
    retried.add(key);
    dispatch({ type: "requeue", job });
    return;
  }
  dispatch({ type: "failed", job, problem });
  if (job.picture === state.current) view.announce(problem.message);
}

async function encode(picture: number, model: Blip2, signal: AbortSignal): Promise<Blip2Image> {
  const source = sources.get(picture);
  if (source === undefined) throw new DOMException("the picture was removed", "AbortError");
  const image = encoded.get(picture) ?? model.encode(source, { signal });
  encoded.delete(picture);
  encoded.set(picture, image); // last in the map: used last
  try {
    await image;
  } catch (error) {
    encoded.delete(picture);
    throw error;
  }
  const [oldest] = encoded.keys();
  if (encoded.size > ENCODED_KEPT && oldest !== undefined) forget(oldest);
  return image;
}

function forget(picture: number): void {
  encoded.get(picture)?.then(
    image => image.dispose(),
    () => {},
  );
  encoded.delete(picture);
}

async function loadModel(asked: boolean): Promise<void> {
  loadAbort = new AbortController();
  const { signal } = loadAbort;
  dispatch({ type: "model", model: { phase: "starting" } });
  try {
    const address = modelAddress();
    dispatch({ type: "device", device: await engine.device() });
    const { bytes, cached, index } = await engine.inspect(address, { signal });
    dispatch({ type: "ui", ui: index.ui });
    if (!asked && bytes - cached > UNASKED) return dispatch({ type: "model", model: { phase: "offered", bytes, arrived: cached } });
    dispatch({ type: "model", model: { phase: "loading", totals: null } });
    blip2 = await engine.load(address, { signal, onProgress: ({ totals }) => dispatch({ type: "model", model: { phase: "loading", totals } }) });
    const { storageError } = blip2;
    dispatch({ type: "ui", ui: blip2.info.index.ui });
    dispatch({ type: "model", model: { phase: "ready", info: blip2.info, notKept: storageError === null ? null : problemOf(storageError) } });
    await work();
  } catch (error) {
    if (signal.aborted) return offerAgain();
    dispatch({ type: "model", model: { phase: "failed", problem: problemOf(error) } });
    view.announce("The model could not be loaded.");
  }
}

function offerAgain(): void {
  const totals = state.model.phase === "loading" ? state.model.totals : null;
  dispatch({ type: "model", model: { phase: "offered", bytes: totals?.total ?? 0, arrived: totals?.loaded ?? 0 } });
}

/** The page's own model, or one beside it: what a link may name is only what this site serves. */
function modelAddress(): URL {
  const own = document.querySelector<HTMLMetaElement>('meta[name="blip2-model"]')?.content ?? "models/demo/";
  const asked = query.get("model");
  if (asked === null) return new URL(own, document.baseURI);
  const address = new URL(asked, document.baseURI);
  if (address.origin === location.origin) return address;
  const reason = "this page loads models from its own site only";
  throw new Blip2Error("input-invalid", { argument: "model", reason }, { message: `model: ${reason}`, hint: "", retryable: false });
}

function wantedDevice(): DeviceWish {
  const wanted = query.get("device");
  return wanted === "webgpu" || wanted === "cpu" ? wanted : "auto";
}

function problemOf(error: unknown): Problem {
  if (error instanceof Blip2Error) return { code: error.code, message: error.message, retryable: error.retryable };
  return { code: "kernel", message: String(error), retryable: true };
}

async function loadSamples(): Promise<void> {
  try {
    const response = await fetch(new URL("samples/index.json", document.baseURI));
    const list: unknown = await response.json();
    if (Array.isArray(list)) dispatch({ type: "samples", samples: list.filter(isSample) });
  } catch {
    return; // a site without samples is whole without them
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
  if (event.key === "Escape" && !event.isComposing && document.querySelector("dialog[open]") === null) stop();
});

view.show(state);
void loadSamples();
void loadModel(false);
