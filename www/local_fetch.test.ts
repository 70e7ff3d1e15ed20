import assert from "node:assert/strict";
import { afterEach, test } from "node:test";
import { answerLocally } from "./local_fetch.js";

const network = globalThis.fetch;
afterEach(() => {
  globalThis.fetch = network;
  Reflect.deleteProperty(globalThis, "location");
});

/** What reached the network instead. */
function heard(): unknown[] {
  const all: unknown[] = [];
  globalThis.fetch = async input => {
    all.push(input);
    return new Response("from the network");
  };
  return all;
}

test("a file is answered as a server would, and one that is to be there and is not by 404", async () => {
  const passed = heard();
  answerLocally(async ({ pathname }) => (pathname === "/a.wasm" ? new Blob(["wasm"]) : null));
  const found = await fetch("https://disk.invalid/a.wasm");
  assert.deepEqual([found.status, found.url, await found.text()], [200, "https://disk.invalid/a.wasm", "wasm"]);
  assert.deepEqual([found.headers.get("content-type"), found.headers.get("content-length")], ["application/wasm", "4"]);
  assert.equal((await fetch(new Request("https://disk.invalid/b"))).status, 404);
  assert.deepEqual(passed, []);
});

test("what the network has is asked for as it was written, also by a path alone", async () => {
  const passed = heard();
  Object.defineProperty(globalThis, "location", { value: new URL("https://example.org/_next/worker.js"), configurable: true });
  const asked: string[] = [];
  answerLocally(async ({ href }) => {
    asked.push(href);
    return undefined;
  });
  assert.equal(await (await fetch("/_next/static/a.wasm")).text(), "from the network");
  assert.deepEqual([asked, passed], [["https://example.org/_next/static/a.wasm"], ["/_next/static/a.wasm"]]);
});
