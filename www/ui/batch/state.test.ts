import assert from "node:assert/strict";
import { test } from "node:test";
import { type Batch, canRun, counts, EMPTY, type Event, framed, next, reduce } from "./state.js";

const after = (...events: Event[]): Batch => events.reduce(reduce, EMPTY);
const add = (...ids: number[]): Event => ({ type: "add", rows: ids.map(id => ({ id, path: `${id}.png`, name: `${id}.png` })) });
const done = (row: number, text = "a car"): Event => ({ type: "done", row, text, question: null });
const problem = { code: "image-undecodable", message: "no", retryable: false } as const;

test("rows are written in order; what failed does not hold up the others", () => {
  const state = after(add(1, 2, 3), { type: "run" }, done(1), { type: "failed", row: 2, problem });
  assert.equal(next(state)?.id, 3);
  assert.deepEqual(counts(state), { all: 3, done: 1, failed: 1, left: 1 });
});

test("a failed row is tried again alone", () => {
  const state = after(add(1, 2), done(1), { type: "failed", row: 2, problem }, { type: "retry", row: 2 });
  assert.equal(next(state)?.id, 2);
  assert.equal(state.rows[1]?.problem, null);
});

test("stopped, what was being written waits again, and a run goes on from there", () => {
  const state = after(add(1, 2), { type: "run" }, done(1), { type: "begin", row: 2 }, { type: "back", row: 2 }, { type: "stop" });
  assert.equal(state.running, false);
  assert.equal(next(state)?.id, 2);
  assert.equal(reduce(state, { type: "run" }).rows[0]?.text, "a car");
});

test("the visitor's words stay, also when all is run again", () => {
  const edited = after(add(1, 2), done(1), done(2), { type: "edit", row: 1, text: "my car" }, { type: "rerun" });
  assert.equal(next(edited)?.id, 2);
  assert.equal(edited.rows[0]?.text, "my car");
  const asked = reduce(reduce(edited, { type: "retry", row: 1 }), done(1, "a bus"));
  assert.equal(asked.rows[0]?.text, "a bus");
});

test("words typed while the row is being written are not lost", () => {
  const state = after(add(1), { type: "begin", row: 1 }, { type: "edit", row: 1, text: "mine" }, done(1));
  assert.equal(state.rows[0]?.text, "mine");
});

test("a question has to be there to be asked", () => {
  assert.equal(canRun(after()), false);
  assert.equal(canRun(after(add(1))), true);
  assert.equal(canRun(after(add(1), { type: "set", how: { task: "question", question: " " } })), false);
  assert.equal(canRun(after(add(1), { type: "set", how: { task: "question", question: "what?" } })), true);
});

test("what comes before and after is put around words, not around nothing", () => {
  assert.equal(framed({ prefix: "photo of ", suffix: ", film" }, "a car"), "photo of a car, film");
  assert.equal(framed({ prefix: "photo of ", suffix: "" }, ""), "");
});
