import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import type { Item } from "./library.js";
import { Search } from "./search.js";

const file = new File(["a"], "a.png", { type: "image/png" });

const picture = (name: string, ...vector: [number, number]): Item => ({
  id: 0,
  path: name,
  name,
  key: name,
  address: null,
  file,
  folder: null,
  ratio: 1,
  thumb: null,
  looks: { data: Float32Array.from(vector), width: 2 },
  state: "seen",
});

/** A search over pictures that have been looked at, a field, and a clock that stands still. Words look like [1, 0]. */
function searching({ mock }: TestContext, items: Item[]) {
  mock.timers.enable({ apis: ["setTimeout"] });
  const heard = { read: [] as string[], matched: [] as string[], ordered: [] as boolean[], best: [] as string[], failed: [] as unknown[] };
  const field = { value: "" };
  const looks = { match: async (_: string): Promise<number> => 0.5 };
  const seer = {
    ready: true,
    read: async (text: string) => {
      heard.read.push(text);
      return Float32Array.of(1, 0);
    },
    match: async (_: File, text: string) => {
      heard.matched.push(text);
      return looks.match(text);
    },
  };
  const library = {
    items,
    get progress() {
      return { done: items.length, all: items.length, failed: 0, rate: null, busy: false, paused: false };
    },
    file: async ({ file }: Item) => file,
  };
  const search = new Search(seer, library, {
    words: () => field.value,
    changed() {},
    ordered: anew => heard.ordered.push(anew),
    refined: ({ name }) => heard.best.push(name),
    failed: error => heard.failed.push(error),
  });
  const type = (text: string): void => {
    field.value = text;
    search.typed();
  };
  const later = async (ms: number): Promise<void> => {
    mock.timers.tick(ms);
    for (let i = 0; i < 50; i++) await Promise.resolve();
  };
  const names = () => search.found?.map(({ item }) => item.name);
  return { search, heard, field, looks, type, later, names };
}

test("what is typed is looked for a moment after the last letter, and the best are looked at again when it rests", async t => {
  const { search, heard, type, later, names } = searching(t, [picture("far", 0, 1), picture("near", 1, 0)]);
  for (const text of ["a", "a b", " a bee "]) {
    type(text);
    await later(50);
  }
  assert.deepEqual(heard.read, []);
  await later(50);
  assert.deepEqual(heard.read, ["a bee"]);
  assert.deepEqual(names(), ["near", "far"]);
  assert.equal(search.fitting, "no");
  await later(900);
  assert.equal(search.fitting, "done");
  assert.deepEqual(heard.matched, ["a bee", "a bee"]);
  assert.deepEqual(heard.best, ["near"]);
  type("");
  await later(100);
  assert.equal(search.found, null);
  assert.deepEqual(heard.failed, []);
});

test("no more than eight are looked at again, and none once other words are typed", async t => {
  const items = Array.from({ length: 20 }, (_, i) => picture(`${i}`, 1, 0));
  const { search, heard, type, later } = searching(t, items);
  type("a bee");
  await later(100);
  await search.refine();
  assert.equal(heard.matched.length, 8);
  type("a bee on a flower");
  await later(100);
  const looking = search.refine();
  type("a bee on");
  await looking;
  assert.equal(search.fitting, "now");
  assert.equal(heard.matched.length, 9);
  assert.equal(heard.best.length, 1);
});

test("a picture that is looked at later takes its place, but not while the view is away", async t => {
  const items = [picture("far", 0, 1)];
  const { search, heard, type, later, names } = searching(t, items);
  search.enter();
  type("a bee");
  await later(100);
  items.push(picture("near", 1, 0));
  search.heedNews();
  await later(500);
  assert.deepEqual(names(), ["near", "far"]);
  search.leave();
  items.push(picture("middle", 0.7, 0.7));
  search.heedNews();
  await later(5000);
  assert.deepEqual(names(), ["near", "far"]);
  search.enter();
  await later(500);
  assert.deepEqual(names(), ["near", "middle", "far"]);
  assert.deepEqual(heard.ordered, [true, false, false]);
});

test("of many found some are shown, until all are asked for; other words show some again", async t => {
  const items = Array.from({ length: 200 }, (_, i) => picture(`${i}`, 1, 0));
  const { search, field, type, later } = searching(t, items);
  const shown = () => search.shown?.length;
  assert.equal(shown(), undefined);
  type("a bee");
  await later(100);
  assert.equal(shown(), 96);
  search.showAll();
  assert.equal(shown(), 200);
  field.value = "a cat";
  await search.start();
  assert.equal(shown(), 96);
});

test("pictures that are taken away during the second look do not come back with its end", async t => {
  const { search, heard, looks, type, later } = searching(t, [picture("far", 0, 1), picture("near", 1, 0)]);
  let matched = (_: number): void => {};
  looks.match = () =>
    new Promise(resolve => {
      matched = resolve;
    });
  type("a bee");
  await later(100);
  await later(900);
  assert.equal(search.fitting, "now");
  search.forget();
  assert.equal(search.fitting, "no");
  matched(0.5);
  await later(5000);
  assert.equal(search.found, null);
  assert.equal(search.fitting, "no");
  assert.deepEqual(heard.best, []);
});

test("a second look that fails leaves the order as it was, and tells no best", async t => {
  const { search, heard, looks, type, later, names } = searching(t, [picture("far", 0, 1), picture("near", 1, 0)]);
  const lost = new Error("the device is lost");
  looks.match = () => (heard.matched.length === 1 ? Promise.resolve(0) : Promise.reject(lost));
  type("a bee");
  await later(100);
  await later(900);
  assert.deepEqual(heard.failed, [lost]);
  assert.equal(search.fitting, "no");
  assert.deepEqual(names(), ["near", "far"]);
  assert.equal(search.found?.[0]?.itm, null);
  assert.deepEqual(heard.best, []);
});

test("while the view is away nothing is looked for, and nothing looked at again: that follows when it is back", async t => {
  const { search, heard, field, type, later, names } = searching(t, [picture("near", 1, 0)]);
  type("a bee");
  search.leave();
  await later(5000);
  assert.deepEqual(heard.read, []);
  search.enter();
  await later(0);
  assert.deepEqual(heard.read, ["a bee"]);
  assert.deepEqual(names(), ["near"]);
  field.value = "a cat";
  const reading = search.start();
  search.leave();
  await reading;
  await later(5000);
  assert.deepEqual(heard.matched, []);
  search.enter();
  await later(1000);
  assert.deepEqual(heard.matched, ["a cat"]);
  assert.deepEqual(heard.best, ["near"]);
});

test("nothing follows the end", async t => {
  const { search, heard, type, later } = searching(t, [picture("near", 1, 0)]);
  type("a bee");
  search.end();
  await later(5000);
  assert.deepEqual(heard.read, []);
  assert.equal(search.found, null);
});
