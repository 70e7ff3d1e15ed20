import assert from "node:assert/strict";
import { test } from "node:test";
import { likeness, rank, refined } from "./rank.js";

const looks = (...rows: number[][]) => ({ data: Float32Array.from(rows.flat()), width: rows[0]?.length ?? 0 });
const text = Float32Array.from([1, 0]);

test("the row that fits best decides", () => {
  assert.equal(likeness(text, looks([0, 1], [1, 0], [-1, 0])), 1);
  assert.equal(likeness(text, looks([-1, 0])), -1);
});

test("best first, and nothing that was not looked at", () => {
  const items = [
    { name: "far", looks: looks([0, 1]) },
    { name: "unseen", looks: null },
    { name: "near", looks: looks([0.6, 0.8]) },
    { name: "same", looks: looks([1, 0]) },
  ];
  assert.deepEqual(
    rank(items, text).map(({ item }) => item.name),
    ["same", "near", "far"],
  );
});

test("what was looked at again comes first, by both scores together", () => {
  const [a, b, c] = ["a", "b", "c"].map(name => ({ name, looks: looks([1, 0]) }));
  const ranked = [a, b, c].flatMap(item => (item === undefined ? [] : [{ item, itc: 1, itm: null }]));
  const again = new Map(ranked.slice(1).map(({ item }, i) => [item, i === 0 ? 0.2 : 0.9]));
  assert.deepEqual(
    refined(ranked, again).map(({ item, itm }) => [item.name, itm]),
    [
      ["c", 0.9],
      ["b", 0.2],
      ["a", null],
    ],
  );
});

test("two thousand pictures of full size are ranked between two keystrokes", () => {
  const items = Array.from({ length: 2000 }, (_, i) => ({ looks: { data: new Float32Array(32 * 256).fill(Math.sin(i) / 16), width: 256 } }));
  const query = new Float32Array(256).fill(1 / 16);
  const times = Array.from({ length: 9 }, () => {
    const start = performance.now();
    assert.equal(rank(items, query).length, 2000);
    return performance.now() - start;
  });
  // The least of them: other work may be going on here.
  assert.ok(Math.min(...times) <= 50, `${Math.min(...times)} ms`);
});
