/**
 * blip2-web: captions, answers and searches of pictures, wholly in the browser.
 *
 * ```ts
 * const blip2 = await load("models/demo");
 * const image = await blip2.encode(file);
 * for await (const piece of image.caption()) show(piece);
 * const { text } = await image.ask("what colour is the car?");
 *
 * const retrieval = await load("models/retrieval");
 * const [best] = await retrieval.rank(await Promise.all(files.map(file => retrieval.encode(file))), "a red car");
 * ```
 */

import { type Blip2, Engine, type EngineOptions, type LoadOptions, sharedEngine, type Source } from "./engine.js";

export type { Chat, Turn } from "./chat.js";
export type { Resolve, WorkerLike } from "./client.js";
export type {
  AttentionOptions,
  Blip2,
  Blip2Image,
  CaptionOptions,
  Engine,
  EngineOptions,
  InspectOptions,
  LoadOptions,
  ModelCache,
  Ranked,
  RankOptions,
  Source,
} from "./engine.js";
export { Blip2Error, CODES, type Code, type Facts } from "./error.js";
export type { AskOptions, CallOptions, Generation } from "./generation.js";
export {
  Blip2ForConditionalGeneration,
  Blip2ForImageTextRetrieval,
  Blip2Model,
  Blip2Processor,
  Blip2QFormerModel,
  Blip2TextModelWithProjection,
  Blip2VisionModel,
  Blip2VisionModelWithProjection,
  type ConditionalInputs,
  type DecodeOptions,
  type GenerateInputs,
  type GenerateOptions,
  type GenerateOutput,
  type Ids,
  type ImageTextRetrievalInputs,
  type LanguageInputs,
  type Output,
  type PretrainedOptions,
  type ProcessorImages,
  type ProcessorOptions,
  type ProcessorText,
  type QFormerInputs,
  type TextInputs,
  type VisionInputs,
} from "./hf.js";
export { Blip2Config, Blip2QFormerConfig, Blip2VisionConfig, type ConfigOptions } from "./hf_config.js";
export type { ImageInput } from "./image.js";
export type { Picked } from "./picked.js";
export type {
  Arithmetic,
  Attention,
  CachedModel,
  CacheReport,
  Candidate,
  DeviceKind,
  DeviceReason,
  DeviceReport,
  DeviceWish,
  Finish,
  FloatTensor,
  Generated,
  GenerationOptions,
  IndexFacts,
  Inspection,
  ModelInfo,
  Processed,
  Progress,
  Quant,
  Ready,
  RequestOptions,
  Scores,
  Stage,
  StorageDriver,
  StorageKind,
  StorageRoom,
  Task,
  Tensor,
  TextOptions,
  Timings,
  Totals,
  Ui,
} from "./protocol.js";

/** An engine of its own: its device, worker and storage. Nothing is started before its first call. */
export const createEngine = (options?: EngineOptions): Engine => new Engine(options);

/** Loads a model into the engine that everybody shares. */
export const load = (source: Source, options?: LoadOptions): Promise<Blip2> => sharedEngine().load(source, options);
