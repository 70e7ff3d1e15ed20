import assert from "node:assert/strict";
import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { Blip2Error, createEngine, type StorageDriver } from "./index.js";
import { FakeWorker, generated, MODEL, turn, turns, withWorkers } from "./fake_worker.js";
import { folderStorage } from "./folder_storage.js";
import type { Question } from "./protocol.js";

const DEMO = "http://localhost/models/demo";
const PNG = new Blob([new Uint8Array([0x89, 0x50, 0x4e, 0x47])]);
const LOADED = { model: 7, info: { ...MODEL, kept: false } };
const WHOLE = { model: 7, info: { ...MODEL, cached: 5 } };

test("a picture is encoded when all that sees is there, and answered when the language model is", async () => {
  const { engine, last } = withWorkers({ load: () => undefined });
  const loading = engine.load(DEMO, { until: "vision" });
  await turn();
  const id = last().idOf("load");
  last().say({ kind: "milestone", id, milestone: "vision", loaded: LOADED });
  const blip2 = await loading;
  assert.equal(blip2.info.kept, false);
  const encoding = blip2.encode(PNG);
  await turns();
  assert.equal(last().count("encode"), 0);
  last().say({ kind: "milestone", id, milestone: "retrieval", loaded: LOADED });
  const image = await encoding;
  assert.equal(last().paramsOf("encode")[0]?.model, 7);
  const caption = image.caption();
  await turns();
  assert.equal(last().count("generate"), 0);
  last().say({ kind: "done", call: "load", id, result: WHOLE });
  await blip2.ready();
  await turns();
  assert.equal(blip2.info.cached, 5);
  last().say({ kind: "done", call: "generate", id: last().idOf("generate"), result: generated("a car") });
  assert.equal((await caption).text, "a car");
  assert.equal(last().count("load"), 1);
});

test("what fails behind `until` is told to whoever waits for it, and the next call tries again", async () => {
  const { engine, last } = withWorkers({ load: () => undefined });
  const loading = engine.load(DEMO, { until: "retrieval" });
  await turn();
  const id = last().idOf("load");
  last().say({ kind: "milestone", id, milestone: "retrieval", loaded: LOADED });
  const blip2 = await loading;
  const ready = blip2.ready();
  last().say({
    kind: "error",
    id,
    error: { code: "network", message: "", hint: "", retryable: true, facts: { url: "", status: 500, reason: "" } },
  });
  await assert.rejects(ready, error => error instanceof Blip2Error && error.code === "network");
  const again = blip2.ready();
  await turn();
  assert.equal(last().count("load"), 2);
  last().say({ kind: "done", call: "load", id: last().idOf("load"), result: WHOLE });
  await again;
});

test("the signal ends also what is still to come, and so does dispose", async () => {
  const { engine, last } = withWorkers({ load: () => undefined });
  const begin = async (signal?: AbortSignal) => {
    const loading = engine.load(DEMO, { until: "vision", ...(signal && { signal }) });
    await turn();
    const id = last().idOf("load");
    last().say({ kind: "milestone", id, milestone: "vision", loaded: LOADED });
    return { blip2: await loading, id };
  };
  const controller = new AbortController();
  const first = await begin(controller.signal);
  controller.abort("enough");
  await assert.rejects(first.blip2.ready(), error => error === "enough");
  const second = await begin();
  await second.blip2.dispose();
  await turn();
  assert.deepEqual(
    last().heard.filter(({ kind }) => kind === "abort"),
    [first, second].map(({ id }) => ({ kind: "abort", id })),
  );
});

test("the caller says where each file is, when it is due", async () => {
  const { engine, last } = withWorkers({ load: () => undefined });
  const asked: string[] = [];
  const resolve = async (file: string) => {
    asked.push(file);
    if (file === "b") throw new Error("no such file");
    return new URL(`https://cdn.example/${file}?signed`);
  };
  const loading = engine.load(DEMO, { resolve });
  await turn();
  const load = last().idOf("load");
  assert.deepEqual(last().paramsOf("load"), [{ url: `${DEMO}/`, resolves: true }]);
  for (const [id, file] of ["a", "b"].entries()) last().say({ kind: "ask", id, question: { of: "resolve", load, file } });
  await turns();
  const [answer, refusal] = last().heard.slice(-2);
  assert.deepEqual(answer, { kind: "answer", id: 0, result: "https://cdn.example/a?signed" });
  assert.ok(refusal?.kind === "refusal" && refusal.id === 1 && refusal.error.message === "no such file");
  assert.deepEqual(asked, ["a", "b"]);
  last().say({ kind: "done", call: "load", id: load, result: WHOLE });
  await loading;
});

test("a storage of the caller's own is asked, and its full disk is told as one", async () => {
  const kept = new Map<string, Uint8Array>();
  const storage: StorageDriver = {
    get: async name => kept.get(name) ?? null,
    put: async (name, bytes) => {
      if (bytes.length > 3) throw new DOMException("full", "QuotaExceededError");
      kept.set(name, bytes);
    },
    delete: async name => void kept.delete(name),
    list: async () => [...kept.keys()],
    estimate: async () => ({ usage: 1, quota: null, persistent: true }),
  };
  const worker = new FakeWorker();
  const engine = createEngine({ device: "cpu", worker: () => worker, storage });
  await engine.device();
  assert.equal(worker.paramsOf("start")[0]?.storage, "custom");
  const ask = async (question: Question) => {
    worker.say({ kind: "ask", id: 1, question });
    await turns();
    return worker.heard.at(-1);
  };
  assert.deepEqual(await ask({ of: "put", name: "a", bytes: new Uint8Array([1]) }), { kind: "answer", id: 1, result: null });
  assert.deepEqual(await ask({ of: "get", name: "a" }), { kind: "answer", id: 1, result: new Uint8Array([1]) });
  assert.deepEqual(await ask({ of: "list" }), { kind: "answer", id: 1, result: ["a"] });
  assert.deepEqual(await ask({ of: "estimate" }), { kind: "answer", id: 1, result: { usage: 1, quota: null, persistent: true } });
  const full = await ask({ of: "put", name: "b", bytes: new Uint8Array(4) });
  assert.ok(full?.kind === "refusal" && full.error.code === "storage-quota");
  assert.deepEqual(await ask({ of: "delete", name: "a" }), { kind: "answer", id: 1, result: null });
  assert.equal(kept.size, 0);
});

test("files that the user picked are handed over by their names, not kept unasked, and need an index among them", async () => {
  const { engine, last } = withWorkers();
  const file = (path: string) => Object.defineProperty(new File([path], path.split("/").at(-1) ?? ""), "webkitRelativePath", { value: path });
  await engine.load([file("models/demo/model.safetensors.index.json"), file("models/demo/config.json"), file("models/other.bin")]);
  const [params] = last().paramsOf("load");
  assert.match(params?.url ?? "", /^https:\/\/picked\.invalid\/\d+\/demo\/$/);
  assert.deepEqual([...(params?.files?.keys() ?? [])].sort(), ["config.json", "model.safetensors.index.json"]);
  assert.equal(params?.keep, false);
  await assert.rejects(engine.load([file("a/config.json")]), error => error instanceof Blip2Error && error.code === "file");
});

test("a folder of the disk keeps files under any name, whole", async () => {
  const folder = await mkdtemp(join(tmpdir(), "blip2-storage-"));
  try {
    const storage = folderStorage(join(folder, "models"));
    assert.deepEqual([await storage.list(), await storage.get("a")], [[], null]);
    const name = "model/https://host/a b/?ü";
    await storage.put(name, new Uint8Array([1, 2]));
    await storage.put(name, new Uint8Array([3]));
    assert.deepEqual([...((await storage.get(name)) ?? [])], [3]);
    assert.deepEqual(await storage.list(), [name]);
    assert.equal((await readdir(join(folder, "models"))).length, 1);
    await storage.delete(name);
    await storage.delete(name);
    assert.deepEqual(await storage.list(), []);
  } finally {
    await rm(folder, { recursive: true });
  }
});
