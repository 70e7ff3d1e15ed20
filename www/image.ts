/** Whatever a page has of a picture → the bytes of an image file that the engine decodes. Nothing here touches the DOM at import. */

import { fileUnreadable, imageUndecodable, inputInvalid, networkFailed } from "./error.js";
import { host } from "./host.js";

/** An address (fetched), a file, or pixels. */
export type ImageInput = Blob | string | URL | ImageBitmap | ImageData | HTMLCanvasElement | OffscreenCanvas;

export interface ImageBytes {
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** Who turned the file into pixels. What the browser decodes (HEIC, AVIF, …) may differ by a shade from one browser to the next. */
  readonly decodedBy: "engine" | "browser";
}

/** Errors: image-undecodable, file, network, input-invalid; an aborted call rejects with the signal's reason. */
export async function imageBytes(input: ImageInput, signal?: AbortSignal): Promise<ImageBytes> {
  signal?.throwIfAborted();
  const read = await readInput(input, signal);
  signal?.throwIfAborted();
  return read;
}

async function readInput(input: ImageInput, signal: AbortSignal | undefined): Promise<ImageBytes> {
  if (typeof input === "string" || input instanceof URL) return readFile(await download(input, signal), String(input));
  if (input instanceof Blob) return readFile(input, input instanceof File ? input.name : "picture");
  if (is(globalThis.ImageData, input)) return { bytes: bitmapFile(input), decodedBy: "engine" };
  if (is(globalThis.ImageBitmap, input)) return { bytes: await png(paint(input)), decodedBy: "browser" };
  if (is(globalThis.OffscreenCanvas, input)) return { bytes: await png(input), decodedBy: "browser" };
  if (is(globalThis.HTMLCanvasElement, input)) return { bytes: await png(paint(input)), decodedBy: "browser" };
  throw inputInvalid("image", "expected a File, Blob, address, ImageBitmap, ImageData or canvas");
}

/** instanceof, where the class may not exist (Node, workers). */
function is<T>(kind: (abstract new (...args: never[]) => T) | undefined, value: unknown): value is T {
  return kind !== undefined && value instanceof kind;
}

async function download(address: string | URL, signal: AbortSignal | undefined): Promise<Blob> {
  const url = String(address);
  let response: Response;
  try {
    response = await host().fetch(url, signal === undefined ? {} : { signal });
  } catch (error) {
    signal?.throwIfAborted();
    throw networkFailed(url, null, String(error));
  }
  if (!response.ok) throw networkFailed(url, response.status, `the server answered ${response.status}`);
  try {
    return await response.blob();
  } catch (error) {
    signal?.throwIfAborted();
    throw networkFailed(url, response.status, String(error));
  }
}

async function readFile(file: Blob, name: string): Promise<ImageBytes> {
  let bytes: Uint8Array<ArrayBuffer>;
  try {
    bytes = new Uint8Array(await file.arrayBuffer());
  } catch (error) {
    // A folder, a file that is gone by now, or one that may not be read.
    throw fileUnreadable(name, String(error));
  }
  if (bytes.length === 0) throw imageUndecodable("the file is empty");
  if (engineReads(bytes) || typeof createImageBitmap !== "function" || typeof OffscreenCanvas !== "function") return { bytes, decodedBy: "engine" };
  return { bytes: await decodedByBrowser(file), decodedBy: "browser" };
}

async function decodedByBrowser(file: Blob): Promise<Uint8Array<ArrayBuffer>> {
  let bitmap: ImageBitmap;
  try {
    bitmap = await createImageBitmap(file);
  } catch {
    throw imageUndecodable("neither the engine nor this browser knows its format");
  }
  try {
    return await png(paint(bitmap));
  } finally {
    bitmap.close();
  }
}

/** Formats by their first bytes: names and MIME types lie. */
export function engineReads(bytes: Uint8Array): boolean {
  const starts = (text: string, at = 0): boolean => [...text].every((letter, i) => bytes[at + i] === letter.charCodeAt(0));
  return starts("\x89PNG") || starts("\xff\xd8\xff") || starts("GIF8") || starts("BM") || (starts("RIFF") && starts("WEBP", 8));
}

function paint(picture: ImageBitmap | HTMLCanvasElement): OffscreenCanvas {
  if (picture.width === 0 || picture.height === 0) throw imageUndecodable("it has no pixels");
  const canvas = new OffscreenCanvas(picture.width, picture.height);
  const context = canvas.getContext("2d");
  if (context === null) throw imageUndecodable("the browser gave no canvas to draw it on");
  context.drawImage(picture, 0, 0);
  return canvas;
}

async function png(canvas: OffscreenCanvas): Promise<Uint8Array<ArrayBuffer>> {
  try {
    const blob = await canvas.convertToBlob({ type: "image/png" });
    return new Uint8Array(await blob.arrayBuffer());
  } catch (error) {
    // A canvas that another origin's picture was drawn on may not be read.
    throw imageUndecodable(String(error));
  }
}

/**
 * Pixels as a BMP file of 24 bits, alpha dropped as PIL's `convert("RGB")` drops it. Not through a canvas: that multiplies colours
 * by alpha and back, and loses some.
 */
function bitmapFile({ width, height, data }: ImageData): Uint8Array<ArrayBuffer> {
  const header = 54;
  const row = (width * 3 + 3) & ~3;
  const bytes = new Uint8Array(header + row * height);
  const view = new DataView(bytes.buffer);
  bytes.set([0x42, 0x4d]);
  view.setUint32(2, bytes.length, true);
  view.setUint32(10, header, true);
  view.setUint32(14, 40, true);
  view.setInt32(18, width, true);
  view.setInt32(22, -height, true); // negative: the first row is the top one
  view.setUint16(26, 1, true);
  view.setUint16(28, 24, true);
  view.setUint32(34, row * height, true);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const from = (y * width + x) * 4;
      const to = header + y * row + x * 3;
      bytes[to] = data[from + 2] ?? 0;
      bytes[to + 1] = data[from + 1] ?? 0;
      bytes[to + 2] = data[from] ?? 0;
    }
  }
  return bytes;
}
