import assert from "node:assert/strict";
import { test } from "node:test";
import type { Attention } from "../../index.js";
import { heat, stretches } from "./maps.js";

/** Each token looks at the patch of its own number. */
const attention = (tokens: readonly string[], rows: number, columns: number): Attention => {
  const size = rows * columns;
  const map = new Float32Array(tokens.length * size);
  for (const index of tokens.keys()) map[index * size + index] = 1;
  return { tokens, map, queries: null, patches: new Float32Array(), shape: { tokens: tokens.length, queries: 0, rows, columns } };
};

test("words are what lies between spaces", () => {
  assert.deepEqual(stretches("a  red car"), [
    { from: 0, to: 1 },
    { from: 3, to: 6 },
    { from: 7, to: 10 },
  ]);
  assert.deepEqual(stretches(""), []);
});

test("a word of several tokens is looked at where they are; its neighbours are not", () => {
  const told = attention([" a", " sun", "flow", "er", " here"], 2, 3);
  const found = heat(told, "a sunflower here", { from: 2, to: 11 });
  assert.deepEqual([found?.rows, found?.columns], [2, 3]);
  assert.deepEqual([...(found?.values ?? [])], [0, 1, 1, 1, 0, 0]);
  assert.deepEqual([...(heat(told, "a sunflower here", { from: 12, to: 16 })?.values ?? [])], [0, 0, 0, 0, 1, 0]);
});

test("the whole text is looked at everywhere that a word is", () => {
  const told = attention([" a", " bee"], 1, 4);
  assert.deepEqual([...(heat(told, "a bee", { from: 0, to: 5 })?.values ?? [])], [1, 1, 0, 0]);
});

test("what every word looks at is no word's own", () => {
  const told = attention([" a", " bee", " here"], 1, 4);
  const map = told.map.map((value, i) => (i % 4 === 3 ? 5 : value));
  assert.deepEqual([...(heat({ ...told, map }, "a bee here", { from: 2, to: 5 })?.values ?? [])], [0, 1, 0, 0]);
});

test("a text of one word has nothing beside it: what it looks at is shown as it is", () => {
  assert.deepEqual([...(heat(attention([" bee"], 1, 3), "bee", { from: 0, to: 3 })?.values ?? [])], [1, 0, 0]);
});

test("a text that was not explained has no map", () => {
  assert.equal(heat(attention([" a", " bee"], 1, 2), "a wasp", { from: 2, to: 6 }), null);
});

test("what looks nowhere in particular is dark, not bright", () => {
  const even = { ...attention([" a"], 2, 2), map: new Float32Array([0.25, 0.25, 0.25, 0.25]) };
  assert.deepEqual([...(heat(even, "a", { from: 0, to: 1 })?.values ?? [])], [0, 0, 0, 0]);
});
