import assert from "node:assert/strict";
import { test } from "node:test";
import { hash, options, run, Stop, size } from "./common.mjs";

test("options are read in both ways of writing, and an unknown one is refused", () => {
  const flags = { target: true, quick: false };
  assert.deepEqual(options(["a", "--target", "x", "b", "--quick"], flags), { rest: ["a", "b"], target: "x", quick: true });
  assert.deepEqual(options(["--target=x=y"], flags), { rest: [], target: "x=y" });
  assert.throws(() => options(["--other"], flags, "usage"), Stop);
  assert.throws(() => options(["--target"], flags, "usage"), Stop);
});

test("a hash tells where one part ends", () => {
  assert.notEqual(hash("ab", "c"), hash("a", "bc"));
});

test("sizes are in decimal units", () => {
  assert.deepEqual([999, 1500, 2_500_000].map(size), ["999 B", "1.5 kB", "2.50 MB"]);
});

test("a command's lines come whole, and one that says nothing for too long is ended", async () => {
  const lines = [];
  const two = await run(process.execPath, ["-e", "process.stdout.write('a\\nb'); process.stdout.write('c')"], { onLine: line => lines.push(line) });
  assert.equal(two.code, 0);
  assert.deepEqual(lines, ["a", "bc"]);
  const endless = await run(process.execPath, ["-e", "setInterval(() => {}, 1000)"], { quiet: true, timeout: 500 });
  assert.notEqual(endless.code, 0);
  assert.equal((await run("no-such-program-at-all", [], { quiet: true })).code, 127);
});
