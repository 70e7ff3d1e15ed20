import assert from "node:assert/strict";
import { test } from "node:test";
import { DEFAULTS, moreOptions, options, read } from "./settings.js";

test("the defaults leave everything to the model", () => {
  assert.deepEqual(options(DEFAULTS), {});
});

test("each way has the options that have an effect, and no others", () => {
  const set = { ...DEFAULTS, length: 12, beams: 3, temperature: 0.7, topP: 0.8 };
  assert.deepEqual(options({ ...set, way: "greedy" }), { max_new_tokens: 12 });
  assert.deepEqual(options({ ...set, way: "beams" }), { max_new_tokens: 12, num_beams: 3 });
  assert.deepEqual(options({ ...set, way: "draw" }), { max_new_tokens: 12, do_sample: true, temperature: 0.7, top_p: 0.8 });
  assert.deepEqual(moreOptions({ ...set, way: "beams", beams: 8 }), { max_new_tokens: 12, num_beams: 8, num_return_sequences: 5 });
  assert.deepEqual(moreOptions({ ...DEFAULTS }), { num_beams: 5, num_return_sequences: 5 });
});

test("what was kept comes back", () => {
  const set = { ...DEFAULTS, way: "draw", length: 30, prompt: "a photo of", template: "Q: {question} A:", remember: true } as const;
  assert.deepEqual(read(JSON.stringify(set)), set);
});

test("what makes no sense is the default", () => {
  for (const json of [
    null,
    "",
    "nonsense",
    "null",
    "[]",
    '{"way":"fast","length":-3,"beams":900,"temperature":"hot","topP":2,"template":"no place","prompt":7}',
  ]) {
    assert.deepEqual(read(json), DEFAULTS);
  }
});
