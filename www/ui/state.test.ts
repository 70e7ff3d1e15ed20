import assert from "node:assert/strict";
import { test } from "node:test";
import { type Action, currentPicture, isBroken, nextJob, type Problem, reduce, START, type State, suggestions, thread, versions } from "./state.js";

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
  assert.deepEqual(currentPicture(streaming)?.caption, { status: "streaming", text: "a red", problem: null, more: null });
  assert.deepEqual(streaming.running, job);
  const ended = reduce(streaming, done(1));
  assert.deepEqual(currentPicture(ended)?.caption, { status: "done", text: "a red car", problem: null, more: null });
  assert.equal(ended.running, null);
  assert.equal(ended.rate, 40);
});

test("stop keeps the text so far", () => {
  const job = { picture: 1, turn: 5 };
  const state = after(add(1), done(1), ask(1, 5), { type: "begin", job }, { type: "text", job, text: "a re" });
  const byEngine = reduce(state, { type: "end", job, result: { text: "a re", finish: "stopped" }, rate: null });
  const beforeIt = reduce(state, { type: "stopped", job });
  for (const { pictures, running } of [byEngine, beforeIt]) {
    assert.deepEqual(pictures[0]?.turns[0], { id: 5, question: "q5", parent: null, status: "stopped", text: "a re", problem: null, more: null });
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
  assert.deepEqual(state.pictures[0]?.caption, { status: "waiting", text: "", problem: null, more: null });
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

const shown = (state: State): number[] => thread(currentPicture(state) ?? assert.fail()).map(({ id }) => id);

test("questions follow each other; one that is edited begins a branch, and the one it left is still there", () => {
  const asked = after(add(1), ask(1, 5), ask(1, 6), ask(1, 7));
  assert.deepEqual(shown(asked), [5, 6, 7]);
  const edited = reduce(asked, { type: "ask", picture: 1, turn: 8, question: "q6, better", own: true, after: 5 });
  assert.deepEqual(shown(edited), [5, 8]);
  const picture = currentPicture(edited) ?? assert.fail();
  const turn = picture.turns.find(({ id }) => id === 8) ?? assert.fail();
  assert.deepEqual(
    versions(picture, turn).map(({ id }) => id),
    [6, 8],
  );
  const back = reduce(edited, { type: "branch", picture: 1, turn: 6 });
  assert.deepEqual(shown(back), [5, 6, 7], "with what came after it");
  assert.deepEqual(shown(reduce(back, ask(1, 9))), [5, 6, 7, 9]);
});

test("the first question can be edited too, and an edit leaves the draft alone", () => {
  const asked = after(add(1), ask(1, 5), { type: "draft", picture: 1, draft: "and" });
  const edited = reduce(asked, { type: "ask", picture: 1, turn: 6, question: "q", own: true, after: null });
  assert.deepEqual(shown(edited), [6]);
  assert.equal(currentPicture(edited)?.draft, "and");
});

test("other ways to say it wait behind what was not said at all, and leave the text as it is", () => {
  const job = { picture: 1, turn: null, more: true } as const;
  let state = after(add(1), done(1), ask(1, 5), { type: "more", job });
  assert.deepEqual(nextJob(state), { picture: 1, turn: 5 });
  state = reduce(state, done(1, 5));
  assert.deepEqual(nextJob(state), job);
  state = reduce(reduce(state, { type: "begin", job }), { type: "candidates", job, candidates: [{ text: "a bus", score: -1 }] });
  assert.equal(currentPicture(state)?.caption.text, "a red car");
  assert.equal(currentPicture(state)?.caption.more?.candidates[0]?.text, "a bus");
  assert.equal(state.running, null);
  assert.equal(nextJob(state), null);
});

test("other ways that failed or were stopped leave the text as it is", () => {
  const job = { picture: 1, turn: null, more: true } as const;
  const begun = after(add(1), done(1), { type: "more", job }, { type: "begin", job });
  for (const action of [
    { type: "stopped", job },
    { type: "failed", job, problem: problem("out-of-memory") },
  ] satisfies Action[]) {
    const state = reduce(begun, action);
    assert.equal(currentPicture(state)?.caption.text, "a red car");
    assert.equal(currentPicture(state)?.caption.status, "done");
    assert.equal(state.running, null);
    assert.equal(nextJob(state), null);
  }
});

test("what a model has looked at before it could speak counts for that model alone", () => {
  const seen = after(add(1, 2), { type: "ahead", picture: 2, ahead: "done" });
  assert.deepEqual(
    seen.pictures.map(({ ahead }) => ahead),
    ["no", "done"],
  );
  const other = reduce(seen, { type: "model", model: { phase: "starting" } });
  assert.deepEqual(
    other.pictures.map(({ ahead }) => ahead),
    ["no", "no"],
  );
});
