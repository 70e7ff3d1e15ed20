import assert from "node:assert/strict";
import { test } from "node:test";
import { Blip2Error, type Blip2Image } from "./index.js";
import { DEAD, generated, MODEL, RETRIEVAL, turn, turns, withWorkers } from "./fake_worker.js";
import type { Attention } from "./protocol.js";

const FOLDER = "http://localhost/models/retrieval";
const refused = (argument: string) => (error: unknown) =>
  error instanceof Blip2Error && error.is("input-invalid") && error.facts.argument === argument;

/** A retrieval model that has seen so many pictures, each of other bytes. */
async function withPictures(count: number, answers: Parameters<typeof withWorkers>[0] = {}) {
  let next = 1;
  const all = withWorkers({ load: () => ({ model: next++, info: RETRIEVAL }), ...answers });
  const blip2 = await all.engine.load(FOLDER);
  const images: Blip2Image[] = [];
  for (let i = 0; i < count; i++) images.push(await blip2.encode(new Blob([new Uint8Array([0x89, 0x50, 0x4e, 0x47, i])])));
  return { ...all, blip2, images };
}

test("rank gives the pictures themselves, in the worker's order, also where one is given twice", async () => {
  const { blip2, images, last } = await withPictures(2);
  const [one, two] = images;
  assert.ok(one !== undefined && two !== undefined);
  const ranking = blip2.rank([one, two, one], "a red car", { rerank: 2 });
  await turns();
  assert.deepEqual(last().paramsOf("rank"), [{ model: 1, images: [1, 2, 1], text: "a red car", rerank: 2 }]);
  const scores = [
    { image: 2, itc: 0.5, itm: 0.9 },
    { image: 1, itc: 0.6, itm: 0.1 },
    { image: 1, itc: 0.6, itm: null },
  ];
  last().say({ kind: "done", call: "rank", id: last().idOf("rank"), result: scores });
  const ranked = await ranking;
  assert.deepEqual(
    ranked.map(({ itc, itm }) => [itc, itm]),
    [
      [0.5, 0.9],
      [0.6, 0.1],
      [0.6, null],
    ],
  );
  assert.ok(ranked[0]?.image === two && ranked[1]?.image === one && ranked[2]?.image === one);
});

test("rank leaves the number that is looked at again to the engine where nobody says one", async () => {
  const { blip2, images, last } = await withPictures(1, { rank: () => [] });
  assert.deepEqual(await blip2.rank(images, "a"), []);
  assert.deepEqual(last().paramsOf("rank"), [{ model: 1, images: [1], text: "a" }]);
});

test("after a death rank shows the new worker each lost picture once, one after the other, and asks about those", async () => {
  const { blip2, images, workers, last } = await withPictures(3);
  last().say(DEAD);
  const ranking = blip2.rank(images, "a red car");
  await turns(12);
  assert.equal(workers.length, 2);
  assert.deepEqual(
    last().heard.map(({ kind }) => kind),
    ["start", "load", "encode", "encode", "encode", "rank"],
  );
  assert.deepEqual(
    last()
      .paramsOf("encode")
      .map(({ bytes }) => bytes[4]),
    [0, 1, 2],
  );
  const handles = last().paramsOf("rank")[0]?.images ?? [];
  assert.equal(handles.length, 3);
  last().say({ kind: "done", call: "rank", id: last().idOf("rank"), result: handles.toReversed().map(image => ({ image, itc: 0, itm: null })) });
  const found = (await ranking).map(({ image }) => image);
  assert.ok(found.every((image, i) => image === images[2 - i]));
});

test("a death while pictures are shown again fails that call alone, and asks no third worker", async () => {
  let shown = 0;
  const encode = () => (++shown > 2 ? undefined : { image: shown, width: 1, height: 1 });
  const { blip2, images, workers, last } = await withPictures(2, { encode });
  last().say(DEAD);
  const ranking = blip2.rank(images, "a red car");
  await turns();
  last().say(DEAD);
  await assert.rejects(ranking, (error: unknown) => error instanceof Blip2Error && error.code === "device-lost");
  await turns();
  assert.equal(workers.length, 2);
});

test("an aborted rank rejects with the signal's reason and tells the worker; one aborted before wakes nothing", async () => {
  const { blip2, images, workers, last } = await withPictures(2);
  const controller = new AbortController();
  const ranking = blip2.rank(images, "a red car", { signal: controller.signal });
  await turns();
  const reason = { why: "another text" };
  controller.abort(reason);
  await assert.rejects(ranking, error => error === reason);
  await turn();
  assert.equal(last().idOf("abort"), last().idOf("rank"));
  await assert.rejects(blip2.rank(images, "late", { signal: controller.signal }), error => error === reason);
  assert.equal(last().count("rank"), 1);
  last().say(DEAD);
  await assert.rejects(blip2.rank(images, "late", { signal: controller.signal }));
  await assert.rejects(async () => images[0]?.attention({ for: "late", signal: controller.signal }));
  assert.equal(workers.length, 1);
});

test("an abort while lost pictures are shown again ends there: the rest are not shown", async () => {
  const { blip2, images, last } = await withPictures(3);
  last().say(DEAD);
  const controller = new AbortController();
  const ranking = blip2.rank(images, "a red car", { signal: controller.signal });
  controller.abort(new Error("no"));
  await assert.rejects(ranking, /no/);
  await turns();
  assert.equal(last().count("encode"), 0);
  assert.equal(last().count("rank"), 0);
});

test("pictures of another model are refused before the worker is asked", async () => {
  const { engine, blip2, images, last } = await withPictures(1);
  const other = await engine.load(FOLDER);
  await assert.rejects(other.rank(images, "a"), refused("images"));
  await assert.rejects(other.similarities(images, ["a"]), refused("images"));
  assert.equal(last().count("rank") + last().count("similarities"), 0);
  await blip2.dispose();
  await assert.rejects(blip2.rank(images, "a"), refused("model"));
});

test("similarities and matches ask about the pictures with all texts, and give the worker's numbers", async () => {
  const cosines = { data: new Float32Array([0.1, 0.2]), shape: [2, 1] };
  const { blip2, images, last } = await withPictures(1, { similarities: () => cosines, matches: () => new Float32Array([0.75, 0.25]) });
  assert.deepEqual(await blip2.similarities(images, ["a", "b"]), cosines);
  assert.deepEqual(last().paramsOf("similarities"), [{ model: 1, images: [1], texts: ["a", "b"] }]);
  assert.deepEqual(await images[0]?.match(["a", "b"]), new Float32Array([0.75, 0.25]));
  assert.deepEqual(last().paramsOf("matches"), [{ model: 1, image: 1, texts: ["a", "b"] }]);
});

test("texts and pictures are vectors for whoever keeps them", async () => {
  const [words, looks] = [
    { data: new Float32Array([1, 0, 0, 1]), shape: [2, 2] },
    { data: new Float32Array([0, 1]), shape: [1, 2] },
  ];
  const { blip2, images, last } = await withPictures(1, { embedTexts: () => words, embedImage: () => looks });
  assert.deepEqual(await blip2.embed(["a", "b"]), words);
  assert.deepEqual(last().paramsOf("embedTexts"), [{ model: 1, texts: ["a", "b"] }]);
  assert.deepEqual(await images[0]?.embed(), looks);
  assert.deepEqual(last().paramsOf("embedImage"), [{ image: 1 }]);
});

test("what a model cannot do rejects at once, with the task's name, and the worker is not asked", async () => {
  const { blip2, images, last } = await withPictures(1);
  const [image] = images;
  assert.ok(image !== undefined && blip2.can("match") && !blip2.can("caption"));
  const before = last().heard.length;
  await assert.rejects(async () => image.caption(), refused("caption"));
  await assert.rejects(async () => image.ask("what?"), refused("ask"));
  await assert.rejects(async () => image.chat().say("what?"), refused("chat"));
  assert.equal(last().heard.length, before);
  const { engine } = withWorkers();
  const captioner = await engine.load(FOLDER);
  const seen = await captioner.encode(new Blob([new Uint8Array([0x89, 0x50, 0x4e, 0x47])]));
  await assert.rejects(captioner.rank([seen], "a"), refused("rank"));
  await assert.rejects(captioner.similarities([seen], ["a"]), refused("rank"));
  await assert.rejects(captioner.embed(["a"]), refused("rank"));
  await assert.rejects(seen.embed(), refused("rank"));
  await assert.rejects(seen.match(["a"]), refused("match"));
});

const SEEN: Attention = {
  tokens: ["a"],
  queries: null,
  patches: new Float32Array([1]),
  map: new Float32Array([1]),
  shape: { tokens: 1, queries: 1, rows: 1, columns: 1 },
};

test("attention explains a text behind the caption's prompt, or another; a model without prompts is given none", async () => {
  const { engine, last } = withWorkers({ attention: () => SEEN });
  const image = await (await engine.load(FOLDER)).encode(new Blob([new Uint8Array([0x89, 0x50, 0x4e, 0x47])]));
  assert.deepEqual(await image.attention({ for: "a" }), SEEN);
  await image.attention({ for: "a", prompt: "Question: what? Answer:" });
  assert.deepEqual(last().paramsOf("attention"), [
    { image: 2, text: "a", prompt: MODEL.index.ui.caption_prompt },
    { image: 2, text: "a", prompt: "Question: what? Answer:" },
  ]);
  const retrieval = await withPictures(1, { attention: () => SEEN });
  await retrieval.images[0]?.attention({ for: "a" });
  assert.deepEqual(retrieval.last().paramsOf("attention"), [{ image: 1, text: "a" }]);
});

test("attention of a lost picture shows it again first, and an abort of it reaches the worker", async () => {
  const { images, last } = await withPictures(1);
  last().say(DEAD);
  const controller = new AbortController();
  const attention = images[0]?.attention({ for: "a", signal: controller.signal });
  assert.ok(attention !== undefined);
  await turns();
  assert.equal(last().count("encode"), 1);
  controller.abort(new Error("no"));
  await assert.rejects(attention, /no/);
  await turn();
  assert.equal(last().idOf("abort"), last().idOf("attention"));
});

test("a class of the caller's choice is loaded again as that class", async () => {
  const { engine, last } = withWorkers({ encode: () => ({ image: 1, width: 1, height: 1 }) });
  const blip2 = await engine.load(FOLDER, { as: "Blip2VisionModelWithProjection" });
  const image = await blip2.encode(new Blob([new Uint8Array([0x89, 0x50, 0x4e, 0x47])]));
  last().say(DEAD);
  const caption = image.caption();
  await turns();
  assert.deepEqual(last().paramsOf("load"), [{ url: `${FOLDER}/`, as: "Blip2VisionModelWithProjection" }]);
  last().say({ kind: "done", call: "generate", id: last().idOf("generate"), result: generated("fine") });
  assert.equal((await caption).text, "fine");
});

/** A captioner that is writing, with what has been said of its answer. */
async function writing(options: object = {}) {
  const all = withWorkers({ encode: () => ({ image: 1, width: 1, height: 1 }) });
  const image = await (await all.engine.load(FOLDER)).encode(new Blob([new Uint8Array([0x89, 0x50, 0x4e, 0x47])]));
  const heard: string[] = [];
  const caption = image.caption(options);
  const listening = (async () => {
    for await (const piece of caption) heard.push(piece);
  })().catch(() => {});
  await turns();
  const say = (...pieces: string[]) => {
    for (const text of pieces) all.last().say({ kind: "piece", id: all.last().idOf("generate"), text });
  };
  const end = (text: string) => all.last().say({ kind: "done", call: "generate", id: all.last().idOf("generate"), result: generated(text) });
  return { ...all, image, caption, heard, listening, say, end };
}

test("an answer whose worker dies is said again, silently up to what was shown, and goes on", async () => {
  const { caption, heard, listening, say, end, workers, last } = await writing({ do_sample: true });
  say("a ", "red ");
  last().say(DEAD);
  await turns();
  assert.equal(workers.length, 2);
  const [first] = workers;
  assert.deepEqual(last().paramsOf("generate"), first?.paramsOf("generate"), "with the same draws");
  assert.equal(typeof last().paramsOf("generate")[0]?.options.seed, "number");
  say("a r", "ed ca", "r");
  end("a red car");
  assert.equal((await caption).text, "a red car");
  await listening;
  assert.deepEqual(heard, ["a ", "red ", "ca", "r"]);
});

test("an answer that goes otherwise, or dies once more, fails with what was shown", async () => {
  const other = await writing();
  other.say("a red");
  other.last().say(DEAD);
  await turns();
  other.say("a blue");
  await turns();
  assert.equal(other.last().count("stop"), 1);
  other.end("a blue car");
  await assert.rejects(
    async () => other.caption,
    (error: unknown) => error instanceof Blip2Error && error.is("device-lost") && error.partial === "a red",
  );
  assert.deepEqual(other.heard, ["a red"]);

  const twice = await writing();
  twice.say("a red");
  for (const _ of [1, 2]) {
    twice.last().say(DEAD);
    await turns();
  }
  await assert.rejects(
    async () => twice.caption,
    (error: unknown) => error instanceof Blip2Error && error.is("device-lost") && error.partial === "a red",
  );
  assert.equal(twice.workers.length, 2);
});

test("an answer is not said again when it was aborted, or its engine disposed", async () => {
  const controller = new AbortController();
  const aborted = await writing({ signal: controller.signal });
  controller.abort("enough");
  aborted.last().say(DEAD);
  await assert.rejects(
    async () => aborted.caption,
    error => error === "enough",
  );
  const disposed = await writing();
  await disposed.engine.dispose();
  await assert.rejects(
    async () => disposed.caption,
    (error: unknown) => error instanceof Blip2Error && error.code === "aborted",
  );
  await turns();
  assert.equal(aborted.workers.length + disposed.workers.length, 2);
});
