import assert from "node:assert/strict";
import { test } from "node:test";
import { Library } from "./library.js";
import type { Shelf } from "./store.js";

/** A library without a model, and the shelf that it finds. */
function withShelf(shelf: Shelf) {
  const seer = { ready: false, see: () => Promise.reject(new Error("there is no model")) };
  const store = {
    shelf: async () => shelf,
    seen: async () => null,
    keepSeen: async () => {},
    keepShelf: async () => {},
    clear: async () => {},
  };
  const library = new Library(seer, store, () => {});
  library.use("tower");
  return { library, names: () => library.items.map(({ name }) => name) };
}

const picture = (path: string) => ({ key: `tower|${path}|1|0`, path, address: null });

test("the pictures of the last visit come once, however often the model is tried", async () => {
  const { library, names } = withShelf({ tower: "tower", folders: [], pictures: [picture("zoo/bee.png"), picture("zoo/cat.png")] });
  await library.restore();
  await library.restore();
  assert.deepEqual(names(), ["bee.png", "cat.png"]);
});

test("a picture that was given before the last visit's come is not there twice", async () => {
  const { library, names } = withShelf({ tower: "tower", folders: [], pictures: [picture("zoo/bee.png"), picture("zoo/cat.png")] });
  const file = new File(["a"], "cat.png", { type: "image/png", lastModified: 0 });
  await library.add([{ file, path: "zoo/cat.png", folder: null }]);
  await library.restore();
  assert.deepEqual(names(), ["cat.png", "bee.png"]);
  assert.equal(library.items[0]?.file, file);
});

test("what another tower saw does not come", async () => {
  const { library, names } = withShelf({ tower: "another", folders: [], pictures: [picture("bee.png")] });
  await library.restore();
  assert.deepEqual(names(), []);
});
