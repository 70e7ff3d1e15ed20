import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { serve } from "./serve.mjs";

let folder;
let server;
const get = (path, headers = {}) => fetch(server.origin + path, { headers, redirect: "manual" });

before(async () => {
  folder = mkdtempSync(join(tmpdir(), "blip2-serve-"));
  mkdirSync(join(folder, "site", "deep"), { recursive: true });
  writeFileSync(join(folder, "secret.txt"), "secret");
  writeFileSync(join(folder, "site", "index.html"), "<p>home");
  writeFileSync(join(folder, "site", "deep", "index.html"), "<p>deep");
  writeFileSync(join(folder, "site", "ten.bin"), "0123456789");
  writeFileSync(join(folder, "site", "a b.wasm"), "wasm");
  writeFileSync(join(folder, "site", "empty.json"), "");
  writeFileSync(join(folder, "site", "_headers"), "/*\n  X-All: yes\n/ten.*\n  X-Ten: yes\n");
  symlinkSync(join(folder, "secret.txt"), join(folder, "site", "link.txt"));
  server = await serve({ mounts: { "/sub/": join(folder, "site") }, made: { "/sub/made.json": () => "[1]" } });
});
after(async () => {
  await server.close();
  rmSync(folder, { recursive: true });
});

test("files have their types, folders their index", async () => {
  const home = await get("/sub/");
  assert.equal(await home.text(), "<p>home");
  assert.equal(home.headers.get("content-type"), "text/html; charset=utf-8");
  assert.equal((await get("/sub/a%20b.wasm")).headers.get("content-type"), "application/wasm");
  const made = await get("/sub/made.json?query");
  assert.deepEqual(await made.json(), [1]);
  const moved = await get("/sub/deep");
  assert.equal(moved.status, 308);
  assert.equal(moved.headers.get("location"), "/sub/deep/");
  assert.equal((await get("/sub/empty.json")).status, 200);
});

test("ranges are cut as HTTP says", async () => {
  const cases = [
    ["bytes=2-4", 206, "234", "bytes 2-4/10"],
    ["bytes=7-", 206, "789", "bytes 7-9/10"],
    ["bytes=-3", 206, "789", "bytes 7-9/10"],
    ["bytes=8-99", 206, "89", "bytes 8-9/10"],
    ["bytes=10-", 416, "", "bytes */10"],
    ["bytes=-0", 416, "", "bytes */10"],
    ["bytes=4-2", 200, "0123456789", null],
    ["lines=1-2", 200, "0123456789", null],
  ];
  for (const [range, status, body, contentRange] of cases) {
    const response = await get("/sub/ten.bin", { range });
    assert.equal(response.status, status, range);
    assert.equal(await response.text(), body, range);
    assert.equal(response.headers.get("content-range"), contentRange, range);
  }
});

test("what has not changed is not sent again", async () => {
  const etag = (await get("/sub/ten.bin")).headers.get("etag");
  assert.equal((await get("/sub/ten.bin", { "if-none-match": etag })).status, 304);
});

test("nothing outside of the folder can be read", async () => {
  for (const path of [
    "/sub/link.txt",
    "/sub/..%2fsecret.txt",
    "/sub/%2e%2e/secret.txt",
    "/secret.txt",
    "/sub/a%00b",
    "/sub/%zz",
    "/sub/..%5csecret.txt",
  ]) {
    const response = await get(path);
    assert.ok(response.status === 404 || response.status === 400, `${path}: ${response.status}`);
    assert.ok(!(await response.text()).includes("secret"), path);
  }
  // fetch tidies a path before it sends it; a socket does not.
  const raw = await new Promise(done => {
    let text = "";
    const socket = connect(server.port, "localhost", () => socket.end("GET /sub/../secret.txt HTTP/1.0\r\n\r\n"));
    socket.on("data", data => {
      text += data;
    });
    socket.on("close", () => done(text));
  });
  assert.match(raw, /^HTTP\/1.1 400 /);
});

test("a _headers file is obeyed, and requests are counted", async () => {
  server.forget();
  const ten = await get("/sub/ten.bin");
  assert.equal(ten.headers.get("x-all"), "yes");
  assert.equal(ten.headers.get("x-ten"), "yes");
  assert.equal((await get("/sub/")).headers.get("x-ten"), null);
  assert.equal(server.count(/\.bin$/), 1);
  assert.deepEqual(server.requests, ["/sub/ten.bin", "/sub/"]);
});

test("bytes can be damaged on their way, and the folder's headers left out", async () => {
  const other = await serve({ mounts: { "/": join(folder, "site") }, plain: true, transform: (_, bytes) => bytes.subarray(1) });
  const response = await fetch(`${other.origin}/ten.bin`);
  assert.equal(await response.text(), "123456789");
  assert.equal(response.headers.get("x-all"), null);
  await other.close();
});
