import assert from "node:assert/strict";
import { afterEach, test } from "node:test";
import { Blip2Error, type Code } from "./error.js";
import { engineReads, imageBytes, type ImageInput } from "./image.js";

const PNG = new Uint8Array([0x89, 0x50, 0x4e, 0x47, 13, 10, 26, 10]);
const HEIC = new Uint8Array([0, 0, 0, 24, ...new TextEncoder().encode("ftypheic")]);
const code = (wanted: Code) => (error: unknown) => error instanceof Blip2Error && error.code === wanted;

const globals = new Map<string, unknown>();
function pretend(name: string, value: unknown): void {
  if (!globals.has(name)) globals.set(name, Reflect.get(globalThis, name));
  Reflect.set(globalThis, name, value);
}
afterEach(() => {
  for (const [name, value] of globals) Reflect.set(globalThis, name, value);
  globals.clear();
});

class FakeCanvas {
  static painted: unknown[] = [];
  readonly width: number;
  readonly height: number;
  constructor(width: number, height: number) {
    this.width = width;
    this.height = height;
  }
  getContext() {
    return { drawImage: (picture: unknown) => FakeCanvas.painted.push(picture) };
  }
  async convertToBlob() {
    return new Blob([PNG]);
  }
}

test("files that the engine decodes go to it byte for byte, whatever they are called", async () => {
  const file = new File([PNG], "holiday.heic", { type: "image/heic" });
  assert.deepEqual(await imageBytes(file), { bytes: PNG, decodedBy: "engine" });
});

test("formats are known by their first bytes", () => {
  const bytes = (text: string) => Uint8Array.from(text, letter => letter.charCodeAt(0));
  for (const known of ["\x89PNG\r\n", "\xff\xd8\xff\xe0", "GIF89a", "BM....", "RIFF....WEBPVP8 "]) assert.ok(engineReads(bytes(known)), known);
  for (const other of ["", "RIFF....WAVE", "\0\0\0\x18ftypavif", "<svg", "%PDF", "\x89PN"]) assert.ok(!engineReads(bytes(other)), other);
});

test("what the engine does not know is decoded by the browser, and marked", async () => {
  const bitmap = {
    width: 2,
    height: 2,
    closed: false,
    close() {
      this.closed = true;
    },
  };
  pretend("createImageBitmap", async () => bitmap);
  pretend("OffscreenCanvas", FakeCanvas);
  assert.deepEqual(await imageBytes(new Blob([HEIC])), { bytes: PNG, decodedBy: "browser" });
  assert.ok(bitmap.closed && FakeCanvas.painted.includes(bitmap));
});

test("what neither knows is image-undecodable; so is an empty file", async () => {
  pretend("createImageBitmap", async () => {
    throw new DOMException("no", "InvalidStateError");
  });
  pretend("OffscreenCanvas", FakeCanvas);
  await assert.rejects(imageBytes(new Blob([HEIC])), code("image-undecodable"));
  await assert.rejects(imageBytes(new Blob([])), code("image-undecodable"));
});

test("a file that cannot be read any more is told with its name", async () => {
  const gone = new File([PNG], "gone.png");
  Reflect.set(gone, "arrayBuffer", () => Promise.reject(new DOMException("it is gone", "NotFoundError")));
  await assert.rejects(imageBytes(gone), (error: unknown) => error instanceof Blip2Error && error.is("file") && error.facts.path === "gone.png");
});

test("addresses are fetched; what the server says is told", async () => {
  pretend("fetch", async (url: string) => (url.endsWith("missing") ? new Response("", { status: 404 }) : new Response(PNG)));
  assert.deepEqual(await imageBytes("https://a.example/p.png"), { bytes: PNG, decodedBy: "engine" });
  await assert.rejects(imageBytes(new URL("https://a.example/missing")), (error: unknown) => {
    return error instanceof Blip2Error && error.is("network") && error.facts.status === 404 && !error.retryable;
  });
  pretend("fetch", async () => {
    throw new TypeError("offline");
  });
  await assert.rejects(
    imageBytes("https://a.example/p.png"),
    (error: unknown) => error instanceof Blip2Error && error.is("network") && error.retryable,
  );
});

test("an abort rejects with the signal's own reason, before and during the fetch", async () => {
  const reason = new Error("changed my mind");
  await assert.rejects(imageBytes(new Blob([PNG]), AbortSignal.abort(reason)), error => error === reason);
  const controller = new AbortController();
  pretend(
    "fetch",
    (_: string, { signal }: { signal: AbortSignal }) => new Promise((_yes, no) => signal.addEventListener("abort", () => no(signal.reason))),
  );
  const reading = imageBytes("https://a.example/p.png", controller.signal);
  controller.abort(reason);
  await assert.rejects(reading, error => error === reason);
});

test("pixels become a BMP of the same pixels, alpha dropped, rows padded to four bytes", async () => {
  class FakeImageData {
    readonly width = 1;
    readonly height = 2;
    readonly colorSpace = "srgb";
    readonly data = new Uint8ClampedArray([1, 2, 3, 0, 4, 5, 6, 128]);
  }
  pretend("ImageData", FakeImageData);
  const pixels: ImageData = Reflect.construct(FakeImageData, []);
  const { bytes, decodedBy } = await imageBytes(pixels);
  assert.equal(decodedBy, "engine");
  assert.ok(engineReads(bytes));
  const view = new DataView(bytes.buffer);
  assert.deepEqual([view.getUint32(2, true), view.getInt32(18, true), view.getInt32(22, true)], [62, 1, -2]);
  assert.deepEqual([...bytes.subarray(54)], [3, 2, 1, 0, 6, 5, 4, 0]);
});

test("anything else is refused by name", async () => {
  const nothing: ImageInput = JSON.parse("{}");
  await assert.rejects(imageBytes(nothing), code("input-invalid"));
});
