import assert from "node:assert/strict";
import { test } from "node:test";
import { type Action, currentPicture, isBroken, nextJob, type Problem, reduce, START, type State, suggestions } from "./state.js";

const after = (...actions: Action[]): State => actions.reduce(reduce, START);
const add = (...ids: number[]): Action => ({ type: "add", pictures: ids.map(id => ({ id, name: `${id}.png`, address: `blob:${id}` })) });
const caption = (picture: number) => ({ picture, turn: null });
const ask = (picture: number, turn: number, own = true): Action => ({ type: "ask", picture, turn, question: `q${turn}`, own });
const done = (picture: number, turn: number | null = null): Action => ({
  type: "end",
  job: { picture, turn },
  result: { text: "a red car", finish: "eos" },
  rate: 40,
});
const problem = (code: Problem["code"]): Problem => ({ code, message: "", retryable: false });

test("of the pictures dropped last the first is shown", () => {
  assert.equal(after(add(1, 2, 3)).current, 1);
  assert.equal(after(add(1), add(2, 3)).current, 2);
  assert.equal(after(add(1), add()).current, 1);
});

test("what is looked at comes first; a picture's caption before its questions; then the others in order", () => {
  const asked = after(add(1, 2, 3), ask(2, 9), { type: "show", picture: 2 });
  const order = [];
  let state = asked;
  for (let job = nextJob(state); job !== null; job = nextJob(state)) {
    order.push(`${job.picture}/${job.turn}`);
    state = reduce(reduce(state, { type: "begin", job }), done(job.picture, job.turn));
  }
  assert.deepEqual(order, ["2/null", "2/9", "1/null", "3/null"]);
});

test("an answer streams, ends with the whole text, and tells how fast it was", () => {
  const job = caption(1);
  const streaming = after(add(1), { type: "begin", job }, { type: "text", job, text: "a red" });
  assert.deepEqual(currentPicture(streaming)?.caption, { status: "streaming", text: "a red", problem: null });
  assert.deepEqual(streaming.running, job);
  const ended = reduce(streaming, done(1));
  assert.deepEqual(currentPicture(ended)?.caption, { status: "done", text: "a red car", problem: null });
  assert.equal(ended.running, null);
  assert.equal(ended.rate, 40);
});

test("stop keeps the text so far", () => {
  const job = { picture: 1, turn: 5 };
  const state = after(add(1), done(1), ask(1, 5), { type: "begin", job }, { type: "text", job, text: "a re" });
  const byEngine = reduce(state, { type: "end", job, result: { text: "a re", finish: "stopped" }, rate: null });
  const beforeIt = reduce(state, { type: "stopped", job });
  for (const { pictures, running } of [byEngine, beforeIt]) {
    assert.deepEqual(pictures[0]?.turns[0], { id: 5, question: "q5", status: "stopped", text: "a re", problem: null });
    assert.equal(running, null);
  }
});

test("a failure keeps what was said, and ends no other answer", () => {
  const job = { picture: 1, turn: 5 };
  const state = after(add(1), done(1), ask(1, 5), { type: "begin", job }, { type: "failed", job, problem: problem("out-of-memory") });
  assert.equal(state.pictures[0]?.caption.text, "a red car");
  assert.equal(state.pictures[0]?.turns[0]?.problem?.code, "out-of-memory");
  assert.equal(nextJob(state), null);
});

test("written once more after a lost device, the text never goes back", () => {
  const job = caption(1);
  let state = after(add(1), { type: "begin", job }, { type: "text", job, text: "a red car in" }, { type: "requeue", job });
  assert.deepEqual(nextJob(state), job);
  const seen = [];
  for (const text of ["a", "a red car", "a red car in front"]) {
    state = reduce(reduce(state, { type: "begin", job }), { type: "text", job, text });
    seen.push(state.pictures[0]?.caption.text);
  }
  assert.deepEqual(seen, ["a red car in", "a red car in", "a red car in front"]);
});

test("asked again, an answer begins from nothing", () => {
  const state = after(add(1), done(1), { type: "again", job: caption(1) });
  assert.deepEqual(state.pictures[0]?.caption, { status: "waiting", text: "", problem: null });
});

test("a removed picture makes way for its neighbour; the last one for the beginning", () => {
  const state = after(add(1, 2, 3), { type: "show", picture: 2 });
  assert.equal(reduce(state, { type: "remove", picture: 2 }).current, 3);
  assert.equal(reduce(state, { type: "remove", picture: 3 }).current, 2);
  assert.equal(reduce(after(add(1, 2), { type: "show", picture: 2 }), { type: "remove", picture: 2 }).current, 1);
  assert.equal(reduce(after(add(1)), { type: "remove", picture: 1 }).current, null);
});

test("what comes for a removed picture changes nothing", () => {
  const state = reduce(after(add(1, 2)), { type: "remove", picture: 1 });
  assert.deepEqual(reduce(state, { type: "text", job: caption(1), text: "late" }).pictures, state.pictures);
});

test("typed words stay with their picture, and are gone when they are asked", () => {
  const typed = after(add(1, 2), { type: "draft", picture: 1, draft: "what is" }, { type: "show", picture: 2 }, { type: "show", picture: 1 });
  assert.equal(currentPicture(typed)?.draft, "what is");
  assert.equal(currentPicture(reduce(typed, ask(1, 5)))?.draft, "");
  assert.equal(currentPicture(reduce(typed, ask(1, 5, false)))?.draft, "what is", "a suggestion leaves them alone");
});

test("suggestions that were asked go, and all go after two questions of one's own, or with a broken picture", () => {
  const ui = { caption_prompt: "", question_template: "{question}", suggestions: ["q5", "q6"] };
  const shown = (...actions: Action[]) => {
    const state = after({ type: "ui", ui }, add(1), ...actions);
    return suggestions(state, currentPicture(state) ?? assert.fail());
  };
  assert.deepEqual(shown(), ["q5", "q6"]);
  assert.deepEqual(shown(ask(1, 5, false)), ["q6"]);
  assert.deepEqual(shown(ask(1, 7), ask(1, 8)), []);
  assert.deepEqual(shown({ type: "failed", job: caption(1), problem: problem("image-undecodable") }), []);
});

test("only what is wrong with the picture itself makes it broken", () => {
  const failed = (code: Problem["code"]) => {
    const state = after(add(1), { type: "failed", job: caption(1), problem: problem(code) });
    return isBroken(currentPicture(state) ?? assert.fail());
  };
  assert.ok(failed("image-undecodable") && failed("image-too-large") && failed("file"));
  assert.ok(!failed("out-of-memory") && !failed("network"));
});
