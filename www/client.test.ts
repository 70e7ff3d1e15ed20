import assert from "node:assert/strict";
import { test } from "node:test";
import { createEngine, type Blip2Image, Blip2Error, load } from "./index.js";
import { DEAD, DEVICE, type FakeWorker, generated, MODEL, turn, withWorkers } from "./fake_worker.js";
import type { Code } from "./error.js";
import type { Progress, Reply } from "./protocol.js";

const DEMO = "http://localhost/models/demo";
const PNG = new Blob([new Uint8Array([0x89, 0x50, 0x4e, 0x47])]);
const code = (wanted: Code) => (error: unknown) => error instanceof Blip2Error && error.code === wanted;
async function withImage(): Promise<ReturnType<typeof withWorkers> & { image: Blip2Image }> {
  const all = withWorkers();
  const blip2 = await all.engine.load(DEMO);
  return { ...all, image: await blip2.encode(PNG) };
}

test("an engine starts nothing before its first call, and one worker for all of them", async () => {
  const { engine, workers, last } = withWorkers();
  assert.equal(workers.length, 0);
  assert.deepEqual(await engine.device(), DEVICE);
  await engine.load(DEMO);
  assert.equal(workers.length, 1);
  assert.deepEqual(
    last().heard.map(({ kind }) => kind),
    ["start", "load"],
  );
});

test("load sends the folder's absolute address, tells progress, and gives what the model says of itself", async () => {
  const { engine, last } = withWorkers({ load: () => undefined });
  const seen: Progress[] = [];
  const loading = engine.load(DEMO, { onProgress: progress => seen.push(progress), integrity: "sha256-x", request: { credentials: "include" } });
  await turn();
  const id = last().idOf("load");
  assert.deepEqual(last().heard.at(-1), {
    kind: "load",
    id,
    params: { url: "http://localhost/models/demo/", integrity: "sha256-x", request: { credentials: "include" } },
  });
  const totals = { loaded: 5, total: 10, cached: 0, rate: 1, eta: 5, stage: null };
  const progress: Progress = { status: "progress", name: "demo", file: "a", progress: 50, loaded: 5, total: 10, totals };
  last().say({ kind: "progress", id, progress }, { kind: "done", call: "load", id, result: { model: 7, info: MODEL } });
  assert.equal((await loading).info.bytes, 1000);
  assert.deepEqual(seen, [progress]);
});

test("an address that is none, or not http, is refused before a worker is asked", async () => {
  const { engine, workers } = withWorkers();
  for (const source of ["file:///etc/passwd", "data:,x", "http://"]) await assert.rejects(engine.load(source), code("input-invalid"));
  assert.equal(workers.length, 0);
});

test("a caption streams its pieces in order and resolves with the whole", async () => {
  const { image, last } = await withImage();
  const caption = image.caption({ max_new_tokens: 5 });
  await turn();
  const id = last().idOf("generate");
  assert.deepEqual(last().heard.at(-1), { kind: "generate", id, params: { image: 2, prompt: "a picture of", options: { max_new_tokens: 5 } } });
  last().say({ kind: "piece", id, text: "a " }, { kind: "piece", id, text: "red " }, { kind: "piece", id, text: "car" });
  last().say({ kind: "done", call: "generate", id, result: generated("a red car") });
  const pieces: string[] = [];
  for await (const piece of caption) pieces.push(piece);
  assert.deepEqual(pieces, ["a ", "red ", "car"]);
  assert.deepEqual(await caption, generated("a red car"));
});

test("every option of generate reaches the worker as it is, and every candidate comes back", async () => {
  const { image, last } = await withImage();
  const options = {
    do_sample: true,
    temperature: 0.7,
    top_k: 5,
    seed: 3,
    num_beams: 4,
    num_return_sequences: 2,
    early_stopping: "never",
    stop_strings: ["\n", "."],
  } as const;
  const answer = image.ask("what is this?", options);
  await turn();
  assert.deepEqual(last().paramsOf("generate")[0]?.options, options);
  const candidates = [
    { text: "a car.", score: -0.5 },
    { text: "cars.", score: -0.75 },
  ];
  last().say({ kind: "done", call: "generate", id: last().idOf("generate"), result: { ...generated("a car.", "stop"), candidates } });
  const { finish, candidates: found } = await answer;
  assert.deepEqual([finish, found], ["stop", candidates]);
});

test("a question is put into the model's own words, however it is written", async () => {
  const { image, last } = await withImage();
  for (const [asked, prompt] of [
    ["  what is this? ", "Question: what is this? Answer:"],
    ["$& or $1?", "Question: $& or $1? Answer:"],
  ] as const) {
    void image.ask(asked);
    await turn();
    const sent = last().heard.at(-1);
    assert.ok(sent?.kind === "generate" && sent.params.prompt === prompt);
  }
  await assert.rejects(async () => image.ask(" \n"), code("input-invalid"));
});

test("pieces of two answers do not mix", async () => {
  const { image, last } = await withImage();
  const [one, two] = [image.ask("one"), image.ask("two")];
  await turn();
  const [first, second] = last()
    .heard.filter(({ kind }) => kind === "generate")
    .map(({ id }) => id);
  assert.ok(first !== undefined && second !== undefined);
  last().say({ kind: "piece", id: second, text: "2" }, { kind: "piece", id: first, text: "1" });
  last().say(
    { kind: "done", call: "generate", id: second, result: generated("2") },
    { kind: "done", call: "generate", id: first, result: generated("1") },
  );
  assert.deepEqual([(await one).text, (await two).text], ["1", "2"]);
});

test("stop asks the worker once and resolves with the text so far", async () => {
  const { image, last } = await withImage();
  const answer = image.ask("what is this?");
  await turn();
  const id = last().idOf("generate");
  last().say({ kind: "piece", id, text: "a bi" });
  answer.stop();
  await turn();
  assert.equal(last().idOf("stop"), id);
  last().say({ kind: "done", call: "generate", id, result: generated("a bi", "stopped") });
  assert.deepEqual(await answer, generated("a bi", "stopped"));
  answer.stop();
  await turn();
  assert.equal(last().count("stop"), 1);
});

test("stop before the worker was asked ends with nothing, and the worker is not bothered", async () => {
  const { image, last } = await withImage();
  const answer = image.caption();
  answer.stop();
  assert.deepEqual(await answer, {
    text: "",
    ids: [],
    finish: "stopped",
    timings: { first_token_ms: 0, total_ms: 0, tokens: 0 },
    candidates: [],
  });
  assert.equal(last().count("generate"), 0);
});

test("an abort rejects at once with the signal's own reason, tells the worker, and what comes later is ignored", async () => {
  const { image, last } = await withImage();
  const controller = new AbortController();
  const caption = image.caption({ signal: controller.signal });
  await turn();
  const id = last().idOf("generate");
  const reason = { why: "another picture" };
  controller.abort(reason);
  await assert.rejects(
    async () => caption,
    error => error === reason,
  );
  await turn();
  assert.equal(last().idOf("abort"), id);
  last().say({ kind: "piece", id, text: "late" }, { kind: "done", call: "generate", id, result: generated("late") });
  const pieces: string[] = [];
  await assert.rejects(async () => {
    for await (const piece of caption) pieces.push(piece);
  });
  assert.deepEqual(pieces, []);
});

test("a signal that is aborted already sends nothing", async () => {
  const { engine, last, image } = await withImage();
  const signal = AbortSignal.abort(new Error("before"));
  await assert.rejects(engine.load(DEMO, { signal }), /before/);
  await assert.rejects(async () => image.caption({ signal }), /before/);
  assert.equal(last().count("load"), 1);
  assert.equal(last().count("generate"), 0);
});

test("a finished call leaves no listener on its signal", async () => {
  const { engine, last } = withWorkers();
  const controller = new AbortController();
  await engine.load(DEMO, { signal: controller.signal });
  controller.abort();
  await turn();
  assert.equal(last().count("abort"), 0);
});

test("what an aborted load made all the same is given back", async () => {
  const { engine, last } = withWorkers({ load: () => undefined });
  const controller = new AbortController();
  const loading = engine.load(DEMO, { signal: controller.signal });
  await turn();
  controller.abort(new Error("no"));
  await assert.rejects(loading, /no/);
  last().say({ kind: "done", call: "load", id: last().idOf("load"), result: { model: 9, info: MODEL } });
  await turn();
  const sent = last().heard.at(-1);
  assert.ok(sent?.kind === "release" && sent.params.kind === "model" && sent.params.handle === 9);
});

test("an error of the worker keeps its code and facts, and ends its own call alone", async () => {
  const { image, last } = await withImage();
  const [bad, good] = [image.ask("bad"), image.ask("good")];
  await turn();
  const [first = 0, second = 0] = last()
    .heard.filter(({ kind }) => kind === "generate")
    .map(({ id }) => id);
  const facts = { option: "num_beams", reason: "not yet" };
  last().say({ kind: "error", id: first, error: { code: "option-unsupported", message: "no", hint: "", retryable: false, facts } });
  last().say({ kind: "done", call: "generate", id: second, result: generated("fine") });
  await assert.rejects(
    async () => bad,
    (error: unknown) => error instanceof Blip2Error && error.is("option-unsupported") && error.facts.option === "num_beams",
  );
  assert.equal((await good).text, "fine");
});

test("options that cannot travel are refused, and the call is forgotten", async () => {
  const { image } = await withImage();
  const options: object = { max_new_tokens: () => 3 };
  await assert.rejects(async () => image.caption(options), code("input-invalid"));
});

const deaths: [string, (worker: FakeWorker) => void, Code][] = [
  ["says so", worker => worker.say(DEAD), "device-lost"],
  ["throws", worker => worker.fail("Uncaught RuntimeError: unreachable"), "kernel"],
  ["runs out of memory", worker => worker.fail("Uncaught RangeError: WebAssembly.Memory(): could not allocate memory"), "out-of-memory"],
];
for (const [how, kill, expected] of deaths) {
  test(`a worker that ${how} ends every call under way with ${expected}, and is not asked again`, async () => {
    const { engine, image, last } = await withImage();
    const [answer, report] = [image.attention({ for: "what" }), engine.cache.report()];
    await turn();
    kill(last());
    await assert.rejects(async () => answer, code(expected));
    await assert.rejects(report, code(expected));
    assert.ok(last().terminated);
  });
}

test("after a death the next question starts a worker, loads the model and shows it the picture again", async () => {
  const { image, workers, last } = await withImage();
  last().say(DEAD);
  const answers = [image.ask("one"), image.ask("two")];
  for (let i = 0; i < 5; i++) await turn();
  assert.equal(workers.length, 2);
  assert.equal(last().count("load"), 1);
  assert.equal(last().count("encode"), 1);
  for (const { kind, id } of last().heard) if (kind === "generate") last().say({ kind: "done", call: "generate", id, result: generated("again") });
  for (const answer of answers) assert.equal((await answer).text, "again");
});

test("a model that cannot be loaded again fails that question, and the next one tries anew", async () => {
  let loads = 0;
  const { engine, last } = withWorkers({ load: () => (++loads === 2 ? undefined : { model: loads, info: MODEL }) });
  const image = await (await engine.load(DEMO)).encode(PNG);
  last().say(DEAD);
  const answer = image.ask("one");
  await turn();
  const error = { code: "network", message: "offline", hint: "", retryable: true, facts: { url: "u", reason: "offline" } };
  last().say({ kind: "error", id: last().idOf("load"), error });
  await assert.rejects(async () => answer, code("network"));
  const next = image.ask("two");
  for (let i = 0; i < 5; i++) await turn();
  last().say({ kind: "done", call: "generate", id: last().idOf("generate"), result: generated("here") });
  assert.equal((await next).text, "here");
});

test("a script that does not load is a network error that names it", async () => {
  const { engine, last } = withWorkers({ start: () => undefined, load: () => undefined });
  const loading = engine.load(DEMO);
  await turn();
  last().fail("");
  const named = (error: unknown) =>
    error instanceof Blip2Error && error.is("network") && error.facts.url === "worker.js" && error.hint.startsWith("Check the connection");
  await assert.rejects(loading, named);
});

test("a policy that forbids the worker is an error with a code too", async () => {
  const engine = createEngine({
    worker: () => {
      throw new DOMException("refused", "SecurityError");
    },
  });
  await assert.rejects(engine.device(), code("network"));
});

test("a device that cannot start fails every call, and the next one tries anew", async () => {
  const { engine, workers, last } = withWorkers({ start: () => undefined, load: () => undefined });
  const loading = engine.load(DEMO);
  await turn();
  const error = { code: "webgpu-unavailable", message: "none", hint: "", retryable: false, facts: { reason: "none" } };
  last().say({ kind: "error", id: last().idOf("start"), error });
  await assert.rejects(loading, code("webgpu-unavailable"));
  engine.device().catch(() => {});
  assert.equal(workers.length, 2);
});

test("a reply of another version ends the worker: none of its answers can be trusted", async () => {
  const { image, last } = await withImage();
  const answer = image.attention({ for: "what" });
  await turn();
  const strange: Reply = JSON.parse('{"kind":"telepathy","id":3}');
  last().say(strange);
  await assert.rejects(async () => answer, /telepathy/);
  assert.ok(last().terminated);
});

test("dispose ends the worker and what is under way; later calls are refused", async () => {
  const { engine, image, last } = await withImage();
  const answer = image.ask("what is this?");
  await turn();
  await engine.dispose();
  await assert.rejects(async () => answer, code("aborted"));
  assert.ok(last().terminated);
  await assert.rejects(engine.load(DEMO), code("input-invalid"));
});

test("with its last model the worker goes, and not before", async () => {
  const { engine, workers, last } = withWorkers();
  const [one, two] = [await engine.load(DEMO), await engine.load(`${DEMO}2`)];
  await one.dispose();
  assert.ok(!last().terminated);
  await two.dispose();
  assert.ok(last().terminated);
  await engine.load(DEMO);
  assert.equal(workers.length, 2);
});

test("a disposed picture is freed in the worker and answers no more", async () => {
  const { image, last } = await withImage();
  await image.dispose();
  await image.dispose();
  assert.equal(last().count("release"), 1);
  await assert.rejects(async () => image.caption(), code("input-invalid"));
});

test("importing and building an engine needs no browser; calling one says so", async () => {
  await assert.rejects(load("http://localhost/m"), code("input-invalid"));
});
