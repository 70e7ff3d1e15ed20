import assert from "node:assert/strict";
import { afterEach, beforeEach, test } from "node:test";
import { askedOfExtension, ownFile } from "./extension.js";
import { MODEL, withWorkers } from "./fake_worker.js";

const network = globalThis.fetch;
const runIn = (address: string | undefined) =>
  Object.defineProperty(globalThis, "location", { value: address === undefined ? undefined : new URL(address), configurable: true });

beforeEach(() => runIn("chrome-extension://abcdef/panel.html"));
afterEach(() => {
  globalThis.fetch = network;
  runIn(undefined);
});

test("only addresses of the extension that runs are asked for under another name", () => {
  const asked = (address: string) => askedOfExtension(new URL(address)).href;
  assert.equal(asked("chrome-extension://abcdef/models/demo/"), "https://extension.invalid/models/demo/");
  for (const other of ["chrome-extension://other/models/demo/", "moz-extension://abcdef/models/", "https://example.org/models/demo/"]) {
    assert.equal(asked(other), other);
  }
  runIn("https://example.org/");
  assert.equal(asked("chrome-extension://abcdef/models/demo/"), "chrome-extension://abcdef/models/demo/");
  runIn(undefined);
  assert.equal(asked("chrome-extension://abcdef/models/demo/"), "chrome-extension://abcdef/models/demo/");
});

test("the worker reads the extension's own files, and nothing else under that name", async () => {
  const heard: string[] = [];
  globalThis.fetch = async input => {
    heard.push(String(input));
    if (String(input).endsWith("missing.json")) throw new TypeError("Failed to fetch");
    return new Response("{}");
  };
  const open = (address: string) => ownFile(new URL(address));
  assert.equal(await (await open("https://extension.invalid/models/demo/config.json"))?.text(), "{}");
  assert.equal(await open("https://extension.invalid/models/demo/missing.json"), null);
  assert.equal(await open("https://example.org/models/demo/config.json"), undefined);
  assert.deepEqual(heard, ["chrome-extension://abcdef/models/demo/config.json", "chrome-extension://abcdef/models/demo/missing.json"]);
  runIn("https://example.org/worker.js");
  assert.equal(await open("https://extension.invalid/models/demo/config.json"), undefined);
});

test("another extension's model is refused before a worker is asked, from a page of the web too", async () => {
  const { engine, workers } = withWorkers();
  const refused = { code: "input-invalid", facts: { argument: "source", reason: "chrome-extension: addresses cannot be loaded" } };
  await assert.rejects(engine.load("chrome-extension://other/models/demo"), refused);
  runIn("https://example.org/");
  await assert.rejects(engine.load("chrome-extension://abcdef/models/demo"), refused);
  assert.equal(workers.length, 0);
});

test("a model that an extension brings along is not copied into the browser's storage, unless that is asked for", async () => {
  const { engine, last } = withWorkers({ load: () => ({ model: 1, info: MODEL }) });
  await engine.load("chrome-extension://abcdef/models/demo");
  await engine.load("models/demo", { keep: true });
  await engine.load("https://example.org/models/demo");
  assert.deepEqual(last().paramsOf("load"), [
    { url: "https://extension.invalid/models/demo/", keep: false },
    { url: "https://extension.invalid/models/demo/", keep: true },
    { url: "https://example.org/models/demo/" },
  ]);
});
