import assert from "node:assert/strict";
import { mock, test } from "node:test";
import { Blip2Error } from "../index.js";
import { PICKED } from "../picked.js";
import { indexOf, problemWith } from "./choice.js";
import { problemOfPicture } from "./writer.js";

const FOLDER = new URL("https://a.example/models/demo/");
const INDEX = `${FOLDER}model.safetensors.index.json`;
const WORDS = { message: "", hint: "", retryable: true };
const network = (url: string, status: number | null) => new Blip2Error("network", { url, status, reason: "" }, WORDS);

test("a model is missing at its address where its index is, not where a part of it or the engine is", () => {
  for (const index of [INDEX, `${INDEX}?signature=1`]) {
    for (const status of [404, 410]) assert.equal(problemWith(network(index, status), FOLDER).about, "noModelThere");
    for (const status of [403, 500, null]) assert.equal(problemWith(network(index, status), FOLDER).about, undefined);
  }
  for (const url of [`${FOLDER}model-1.safetensors`, "https://a.example/wasm/blip2_cpu_bg.wasm"])
    assert.deepEqual(problemWith(network(url, 404), FOLDER), { code: "network", message: "", retryable: true });
  assert.equal(problemOfPicture(network("https://a.example/cat.png", 404)).about, "missing");
});

test("of a folder on disk is said what it lacks; the engine is downloaded all the same", () => {
  const folder = { name: "demo", picked: [] };
  const file = (path: string) => new Blip2Error("file", { path, reason: "" }, WORDS);
  const about = (error: Blip2Error) => problemWith(error, folder).about;
  assert.equal(about(file("model.safetensors.index.json")), "noModel");
  assert.equal(about(file("demo")), "folder");
  for (const status of [404, null]) {
    assert.equal(about(network(`${PICKED}1/demo/model-1.safetensors`, status)), "folder");
    assert.equal(about(network("https://a.example/wasm/blip2_cpu_bg.wasm", status)), undefined);
  }
});

test("the index is read in the model's folder, as the engine reads it", async () => {
  const asked = mock.method(globalThis, "fetch", async () => Response.json({ files: {} }));
  try {
    for (const [folder, index] of [
      [FOLDER.href, INDEX],
      ["https://a.example/models/demo", INDEX],
      ["https://a.example/models/demo/?signature=a%2Fb", `${INDEX}?signature=a%2Fb`],
      ["https://a.example", "https://a.example/model.safetensors.index.json"],
    ] as const) {
      assert.deepEqual(await indexOf(new URL(folder)), { files: {} });
      assert.equal(String(asked.mock.calls.at(-1)?.arguments[0]), index);
    }
  } finally {
    asked.mock.restore();
  }
});
