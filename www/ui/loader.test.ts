import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";
import { Blip2Error, type DeviceReport, type Inspection } from "../index.js";
import { fakePage } from "./fake_page.js";
import { Loader } from "./loader.js";

const FOLDER = "https://a.example/models/demo/";
const DEVICE: DeviceReport = { kind: "cpu", name: "CPU", backend: "flex", software: false, reason: "asked", detail: "" };
const SMALL = 12e6;
const LARGE = 4e9;

const inspection = (bytes: number): Inspection => ({
  url: FOLDER,
  bytes,
  cached: 0,
  memory: bytes,
  fits: "yes",
  index: {
    parameters: 1,
    quantization: {},
    source: null,
    licence: null,
    ui: { caption_prompt: "", question_template: "{question}", suggestions: [] },
    stages: { vision: bytes / 2, qformer: 0, projection: 0, language: bytes / 2 },
    deviceBytes: bytes,
  },
});

function unreachable(): Promise<never> {
  const facts = { url: `${FOLDER}model.safetensors.index.json`, status: null, reason: "no network" };
  return Promise.reject(new Blip2Error("network", facts, { message: "", hint: "", retryable: true }));
}

/** A loader of a model of so many bytes, on a network that comes and goes, and what the page knows by it. */
function withModel(bytes: number) {
  const found = { online: true, loads: 0 };
  const engine = {
    device: () => Promise.resolve(DEVICE),
    inspect: () => (found.online ? Promise.resolve(inspection(bytes)) : unreachable()),
    load: () => {
      found.loads += 1;
      return unreachable();
    },
  };
  const page = fakePage();
  const loader = new Loader(engine, page, { prepare: () => {}, use: () => {} });
  return { loader, found, phase: () => page.state.model.phase };
}

beforeEach(() => {
  const document = { baseURI: "https://a.example/", querySelector: () => null };
  const globals = { document, location: new URL("https://a.example/"), navigator: {} };
  for (const [name, value] of Object.entries(globals)) Object.defineProperty(globalThis, name, { value, configurable: true });
});

test("with the network back, a large model that nobody asked for is offered", async () => {
  const { loader, found, phase } = withModel(LARGE);
  found.online = false;
  await loader.load(false);
  assert.equal(phase(), "failed");
  found.online = true;
  await loader.resume();
  assert.equal(phase(), "offered");
  assert.equal(found.loads, 0);
});

test("with the network back, what was asked for goes on, also where it broke off before its first byte, and again", async () => {
  const { loader, found } = withModel(LARGE);
  found.online = false;
  await loader.load(true);
  await loader.resume();
  assert.equal(found.loads, 0);
  found.online = true;
  await loader.resume();
  assert.equal(found.loads, 1);
  await loader.resume();
  assert.equal(found.loads, 2);
});

test("with the network back, a small model comes unasked", async () => {
  const { loader, found } = withModel(SMALL);
  found.online = false;
  await loader.load(false);
  found.online = true;
  await loader.resume();
  assert.equal(found.loads, 1);
});
