import assert from "node:assert/strict";
import { afterEach, type TestContext, test } from "node:test";
import { Intake } from "./intake.js";
import { Library } from "./library.js";

afterEach(() => Reflect.deleteProperty(globalThis, "document"));

/** An intake before a library without a model, and a site whose gallery has a bee, but tells so only when it is `served`. */
function intakeOf({ mock }: TestContext, tower: string) {
  Object.defineProperty(globalThis, "document", { value: { baseURI: "https://example.org/" }, configurable: true });
  let served = (): void => {};
  const waits = new Promise<void>(resolve => {
    served = resolve;
  });
  mock.method(globalThis, "fetch", async () => {
    await waits;
    return Response.json([{ file: "bee.png" }]);
  });
  const seer = { ready: false, see: () => Promise.reject(new Error("there is no model")) };
  const store = { shelf: async () => null, seen: async () => null, keepSeen: async () => {}, keepShelf: async () => {}, clear: async () => {} };
  const library = new Library(seer, store, () => {});
  library.use(tower);
  const intake = new Intake(library, { changed() {}, emptied() {} });
  return { intake, served, names: () => library.items.map(({ name }) => name) };
}

const own = [{ file: new File(["a"], "own.png", { type: "image/png" }), path: "own.png", folder: null }];

test("the gallery makes way for the visitor's own pictures", async t => {
  const { intake, served, names } = intakeOf(t, "tower");
  served();
  await intake.openGallery();
  assert.deepEqual(names(), ["bee.png"]);
  await intake.add(own, null);
  assert.deepEqual(names(), ["own.png"]);
});

test("a gallery that comes later than the visitor's own pictures stays away", async t => {
  const { intake, served, names } = intakeOf(t, "tower");
  const opening = intake.openGallery();
  await intake.add(own, null);
  served();
  await opening;
  assert.deepEqual(names(), ["own.png"]);
});

test("so it does where these still wait for the tower to be known", async t => {
  const { intake, served, names } = intakeOf(t, "");
  const opening = intake.openGallery();
  await intake.add(own, null);
  served();
  await opening;
  assert.equal(intake.waiting, 1);
  assert.deepEqual(names(), []);
});
