/**
 * blip2-web: captions and answers about pictures, wholly in the browser.
 *
 * ```ts
 * const blip2 = await load("models/demo");
 * const image = await blip2.encode(file);
 * for await (const piece of image.caption()) show(piece);
 * const { text } = await image.ask("what colour is the car?");
 * ```
 */

import { type Blip2, Engine, type EngineOptions, type LoadOptions, type Source } from "./engine.js";

export type { WorkerLike } from "./client.js";
export type {
  AskOptions,
  Blip2,
  Blip2Image,
  CaptionOptions,
  Engine,
  EngineOptions,
  InspectOptions,
  LoadOptions,
  ModelCache,
  Source,
} from "./engine.js";
export { Blip2Error, CODES, type Code, type Facts } from "./error.js";
export type { Generation } from "./generation.js";
export type { ImageInput } from "./image.js";
export type {
  CachedModel,
  CacheReport,
  DeviceKind,
  DeviceReason,
  DeviceReport,
  DeviceWish,
  Generated,
  GenerationOptions,
  IndexFacts,
  Inspection,
  ModelInfo,
  Progress,
  Quant,
  RequestOptions,
  Stage,
  StorageKind,
  Timings,
  Totals,
  Ui,
} from "./protocol.js";

/** An engine of its own: its device, worker and storage. Nothing is started before its first call. */
export const createEngine = (options?: EngineOptions): Engine => new Engine(options);

let shared: Engine | undefined;

/** Loads a model into the engine that everybody shares. */
export function load(source: Source, options?: LoadOptions): Promise<Blip2> {
  shared ??= createEngine();
  return shared.load(source, options);
}
