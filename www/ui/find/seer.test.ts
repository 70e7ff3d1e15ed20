import assert from "node:assert/strict";
import { test } from "node:test";
import { RETRIEVAL, turns, withWorkers } from "../../fake_worker.js";
import { Seer } from "./seer.js";

test("with its model the pictures go that were looked at again: each holds the weights", async () => {
  let next = 1;
  const { engine, last } = withWorkers({
    load: () => ({ model: next++, info: RETRIEVAL }),
    encode: () => ({ image: next++, width: 4, height: 3 }),
    matches: () => Float32Array.of(0.5),
  });
  // Of another view: with the last model the worker would go, and all that it holds.
  const other = await engine.load("http://localhost/models/other");
  const seer = new Seer(engine, new URL("http://localhost/models/retrieval/"));
  const { signal } = new AbortController();
  await seer.load(signal, () => {});
  for (const name of ["a.png", "b.png"]) {
    const file = new File([new Uint8Array([0x89, 0x50, 0x4e, 0x47]), name], name, { type: "image/png" });
    assert.equal(await seer.match(file, "a cat", signal), 0.5);
  }
  await seer.dispose();
  await turns();
  const released = last().paramsOf("release");
  assert.deepEqual(
    released.filter(({ kind }) => kind === "image").map(({ handle }) => handle),
    [3, 4],
  );
  assert.equal(released.filter(({ kind }) => kind === "model").length, 1);
  assert.ok(other.inUse);
});
