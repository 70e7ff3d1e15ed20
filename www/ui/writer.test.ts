import assert from "node:assert/strict";
import { test } from "node:test";
import type { Blip2 } from "../index.js";
import { turns, withWorkers } from "../fake_worker.js";
import { fakePage } from "./fake_page.js";
import { Writer } from "./writer.js";

/** A page with a picture that waits for its model, whose engine leaves open what it sees until the test says it. */
async function lookingAhead() {
  const page = fakePage();
  const { engine, last } = withWorkers({ encode: () => undefined });
  const early: Blip2 = await engine.load("http://localhost/models/demo/");
  const writer = new Writer(page);
  writer.add(1, new File([new Uint8Array([0x89, 0x50, 0x4e, 0x47])], "bee.png", { type: "image/png" }));
  page.dispatch({ type: "add", pictures: [{ id: 1, name: "bee.png", address: "blob:1" }] });
  writer.prepare(early);
  await turns();
  const seen = async () => {
    last().say({ kind: "done", call: "encode", id: last().idOf("encode"), result: { image: 9, width: 4, height: 3 } });
    await turns();
  };
  return { page, writer, seen, ahead: () => page.state.pictures[0]?.ahead };
}

test("a picture that waits is looked at ahead, and said to be", async () => {
  const { seen, ahead } = await lookingAhead();
  assert.equal(ahead(), "now");
  await seen();
  assert.equal(ahead(), "done");
});

test("what the last model saw is not said of the next", async () => {
  const { page, writer, seen, ahead } = await lookingAhead();
  page.dispatch({ type: "model", model: { phase: "starting" } });
  writer.prepare(null);
  await seen();
  assert.equal(ahead(), "no");
});
