import assert from "node:assert/strict";
import { test } from "node:test";
import { type Blip2Image, Blip2Error } from "./index.js";
import { type FakeWorker, generated, MODEL, turns, withWorkers } from "./fake_worker.js";

async function withImage(template = MODEL.index.ui.question_template): Promise<{ image: Blip2Image; last(): FakeWorker }> {
  const index = { ...MODEL.index, ui: { ...MODEL.index.ui, question_template: template } };
  const { engine, last } = withWorkers({ load: () => ({ model: 1, info: { ...MODEL, index } }) });
  const blip2 = await engine.load("http://localhost/models/demo");
  return { image: await blip2.encode(new Blob([new Uint8Array([0x89, 0x50, 0x4e, 0x47])])), last };
}

/** Answers the latest question. */
async function reply(worker: FakeWorker, text: string, finish: "eos" | "stopped" = "eos"): Promise<void> {
  await turns();
  worker.say({ kind: "done", call: "generate", id: worker.idOf("generate"), result: generated(text, finish) });
}
const prompts = (worker: FakeWorker): string[] => worker.paramsOf("generate").map(({ prompt }) => prompt);

for (const [name, template, answers, prompt] of [
  [
    "LAVIS's",
    "Question: {question} Answer:",
    ["singapore", "a merlion"],
    "Question: q1 Answer: singapore. Question: q2 Answer: a merlion. Question: q3 Answer:",
  ],
  ["one that ends in a line", "Q: {question}\nA:\n", ["yes", "no"], "Q: q1\nA:\nyes. Q: q2\nA:\nno. Q: q3\nA:\n"],
  [
    "answers that are sentences",
    "Question: {question} Answer:",
    ["It is red.", "$&?"],
    "Question: q1 Answer: It is red. Question: q2 Answer: $&? Question: q3 Answer:",
  ],
] as const) {
  test(`each question comes behind the earlier ones and their answers: ${name}`, async () => {
    const { image, last } = await withImage(template);
    const chat = image.chat();
    for (const [i, answer] of answers.entries()) {
      const saying = chat.say(` q${i + 1} `);
      await reply(last(), answer);
      await saying;
    }
    const turnsThen = chat.turns;
    assert.deepEqual(turnsThen, [
      { question: "q1", answer: answers[0] },
      { question: "q2", answer: answers[1] },
    ]);
    void chat.say("q3");
    await turns();
    assert.equal(prompts(last()).at(-1), prompt);
  });
}

test("a question waits for the answer to the one before, and streams like any answer", async () => {
  const { image, last } = await withImage();
  const chat = image.chat();
  const [one, two] = [chat.say("one", { num_beams: 2 }), chat.say("two")];
  await turns();
  assert.deepEqual(last().paramsOf("generate"), [{ image: 1, prompt: "Question: one Answer:", options: { num_beams: 2 } }]);
  await reply(last(), "1");
  assert.equal((await one).text, "1");
  await turns();
  assert.equal(prompts(last())[1], "Question: one Answer: 1. Question: two Answer:");
  const id = last().idOf("generate");
  last().say({ kind: "piece", id, text: "2" }, { kind: "done", call: "generate", id, result: generated("2") });
  const pieces: string[] = [];
  for await (const piece of two) pieces.push(piece);
  assert.deepEqual(pieces, ["2"]);
  assert.equal(chat.turns.length, 2);
});

test("a stopped answer is remembered as far as it came; a failed, an aborted and an empty one are not", async () => {
  const { image, last } = await withImage();
  const chat = image.chat();
  const stopped = chat.say("one");
  await turns();
  stopped.stop();
  await reply(last(), "half an", "stopped");
  await stopped;
  const empty = chat.say("two");
  await reply(last(), "");
  await empty;
  const controller = new AbortController();
  const aborted = chat.say("three", { signal: controller.signal });
  await turns();
  controller.abort(new Error("no"));
  await assert.rejects(async () => aborted, /no/);
  await assert.rejects(
    async () => chat.say("  "),
    (error: unknown) => error instanceof Blip2Error && error.code === "input-invalid",
  );
  void chat.say("four");
  await turns();
  assert.equal(prompts(last()).at(-1), "Question: one Answer: half an. Question: four Answer:");
  assert.deepEqual(chat.turns, [{ question: "one", answer: "half an" }]);
});

test("an abort while the one before is being answered sends nothing", async () => {
  const { image, last } = await withImage();
  const chat = image.chat();
  const one = chat.say("one");
  const controller = new AbortController();
  const two = chat.say("two", { signal: controller.signal });
  await turns();
  controller.abort(new Error("no"));
  await assert.rejects(async () => two, /no/);
  await reply(last(), "1");
  await one;
  await turns();
  assert.equal(last().count("generate"), 1);
});

test("clear forgets what was said, and what is being answered as well; another chat never knew", async () => {
  const { image, last } = await withImage();
  const chat = image.chat();
  const one = chat.say("one");
  await reply(last(), "1");
  await one;
  const two = chat.say("two");
  await turns();
  chat.clear();
  await reply(last(), "2");
  await two;
  assert.deepEqual(chat.turns, []);
  void chat.say("three");
  void image.chat().say("four");
  await turns();
  assert.deepEqual(prompts(last()).slice(-2), ["Question: three Answer:", "Question: four Answer:"]);
});

test("a conversation goes on from an earlier one, which stays as it was", async () => {
  const { image, last } = await withImage();
  const earlier = [{ question: "q1", answer: "a merlion" }];
  const chat = image.chat(earlier);
  const saying = chat.say("q2");
  await reply(last(), "yes");
  await saying;
  assert.deepEqual(prompts(last()), ["Question: q1 Answer: a merlion. Question: q2 Answer:"]);
  assert.equal(chat.turns.length, 2);
  assert.equal(earlier.length, 1);
});
