import assert from "node:assert/strict";
import { test } from "node:test";
import { CODES, type DeviceReport, type Totals } from "../index.js";
import { START } from "./state.js";
import { count, deviceWhy, duration, explain, loading, modelName, size, statusLine, waitingFor, type Where } from "./words.js";
import { en } from "./words/en.js";

const TOTALS: Totals = { loaded: 3.1e6, total: 11.9e6, cached: 0, rate: 4.05e6, eta: 2.2, stage: "vision" };

test("sizes, times and counts as people say them", () => {
  assert.deepEqual([0, 999, 12_300, 5_940_000, 11_900_000, 1_930_000_000].map(size), ["1 kB", "1 kB", "12 kB", "5.9 MB", "12 MB", "1.9 GB"]);
  assert.deepEqual([0.2, 4.4, 89, 600].map(duration), ["1 s", "4 s", "89 s", "10 min"]);
  assert.deepEqual([86_000, 10_457_088, 120_000_000, 3_744_679_936].map(count), ["86 thousand", "10.5 million", "120 million", "3.7 billion"]);
});

test("loading says the part in words, bytes, rate and time, and nothing that it does not know", () => {
  assert.deepEqual(loading(TOTALS), { what: "Loading the part that sees", figures: "3.1 MB of 12 MB · 4.0 MB/s · about 2 s left" });
  assert.deepEqual(loading({ ...TOTALS, rate: 0, eta: null, stage: null }), { what: "Loading the model", figures: "3.1 MB of 12 MB" });
  assert.match(loading(TOTALS, { online: false }).figures, /^3.1 MB of 12 MB · waits for a connection$/);
  for (const online of [true, false]) assert.match(loading({ ...TOTALS, cached: 3.1e6 }, { online }).figures, /^3.1 MB of 12 MB · here already/);
  assert.deepEqual(loading(null), { what: "Getting ready", figures: "" });
});

test("every code has its words for every place, without jargon", () => {
  for (const code of CODES) {
    for (const where of ["model", "picture", "answer", "notice"] satisfies Where[]) {
      const { happened, rest } = explain({ code, message: "", retryable: false }, where);
      assert.match(happened, /^[A-Z].*\.$/);
      assert.match(rest, /^[A-Z].*\.$/);
      assert.doesNotMatch(`${happened} ${rest}`, /shard|tensor|SHA|wasm|undefined/i);
    }
  }
});

test("a failed download is told by what was downloaded", () => {
  const problem = { code: "network", message: "", retryable: true } as const;
  assert.notEqual(explain(problem, "picture").happened, explain(problem, "model").happened);
});

test("what was kept is said also where more is known than the code", () => {
  const problem = { code: "network", message: "", retryable: true } as const;
  const { happened, rest } = explain({ ...problem, about: "noModelThere" }, "model");
  assert.equal(happened, en.problemAbout.noModelThere.happened);
  assert.equal(rest, `${en.kept.model} ${en.problemAbout.noModelThere.rest}`);
});

test("a model is called by the last folder of its address", () => {
  assert.equal(modelName("https://a.example/x/models/demo/"), "demo");
  assert.equal(modelName("https://a.example/blip2%20opt?sig=1"), "blip2 opt");
  assert.equal(modelName("https://a.example/"), "model");
});

test("every reason for a device has its sentence", () => {
  const base: DeviceReport = { kind: "cpu", name: "CPU", backend: "flex", software: false, reason: "asked", detail: "" };
  for (const reason of ["asked", "insecure", "no-webgpu", "no-adapter", "software-adapter", "start-failed"] as const) {
    assert.match(deviceWhy({ ...base, reason }), /^On the CPU/);
  }
  const gpu = { ...base, kind: "webgpu", name: "NVIDIA" } as const;
  assert.equal(deviceWhy({ ...gpu, reason: "gpu", detail: "nvidia turing" }), "On the GPU (nvidia turing).");
  assert.match(deviceWhy({ ...gpu, reason: "asked", software: true }), /software/);
});

test("the status line says what is known", () => {
  assert.equal(statusLine(START), "Starting");
  assert.equal(statusLine({ ...START, online: false }), "Offline · Starting");
  assert.equal(
    statusLine({ ...START, model: { phase: "loading", totals: TOTALS, stages: [], elsewhere: false }, rate: 3.14 }),
    "Loading · 3.1 tokens/s",
  );
});

test("a waiting picture says what it waits for until the model is there", () => {
  const loading = { phase: "loading", totals: null, stages: [], elsewhere: false } as const;
  assert.notEqual(waitingFor(loading), "");
  assert.match(waitingFor({ ...loading, elsewhere: true }), /another tab/i);
  assert.notEqual(waitingFor({ phase: "offered", bytes: 1, arrived: 0, closed: null }), "");
});
