import assert from "node:assert/strict";
import { test } from "node:test";
import { MODEL, RETRIEVAL, turns, withWorkers } from "../../fake_worker.js";
import { Seer } from "./seer.js";

const picture = (name: string) => new File([new Uint8Array([0x89, 0x50, 0x4e, 0x47])], name);

test("pictures are given back before the model that saw them, and one that cannot be encoded is no hindrance", async () => {
  let encoded = 0;
  const { engine, last } = withWorkers({
    load: (_, id) => ({ model: id, info: encoded === 0 ? RETRIEVAL : MODEL }),
    encode: (_, id) => (++encoded === 3 ? undefined : { image: id, width: 4, height: 3 }),
    matches: () => Float32Array.of(0.5),
  });
  const { signal } = new AbortController();
  const seer = new Seer(engine, new URL("http://localhost/models/finds/"));
  await seer.load(signal, () => {});
  for (const name of ["a.png", "b.png"]) assert.equal(await seer.match(picture(name), "a bee", signal), 0.5);
  await engine.load("http://localhost/models/answers/");
  const broken = seer.match(picture("c.png"), "a bee", signal);
  await turns();

  const gone = seer.dispose();
  const facts = { reason: "no picture" };
  last().say({ kind: "error", id: last().idOf("encode"), error: { code: "image-undecodable", message: "", hint: "", retryable: false, facts } });
  await assert.rejects(broken);
  await gone;
  await turns();
  assert.equal(last().terminated, false);
  assert.deepEqual(
    last()
      .paramsOf("release")
      .map(({ kind }) => kind),
    ["image", "image", "model"],
  );
});
