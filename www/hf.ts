/** BLIP-2 under the names of Hugging Face transformers: its classes, and its options in snake_case, handed on as they are. */

import { type Blip2, type Engine, type LoadOptions, sharedEngine, type Source } from "./engine.js";
import { broken, inputInvalid } from "./error.js";
import type { CallOptions } from "./generation.js";
import { imageBytes, type ImageInput } from "./image.js";
import type { Finish, GenerationOptions, Processed, Tensor, TextOptions } from "./protocol.js";

export interface PretrainedOptions extends Omit<LoadOptions, "as"> {
  /** The engine to load it into; the shared one if absent. */
  readonly engine?: Engine;
}

/** Ids, or a mask: [B, S]. */
export type Ids = readonly (readonly number[])[] | Tensor;

/** What `forward` gives: under HF's names, these tensors and whatever the class has besides. */
export type Output<N extends string> = { readonly [One in N]: Tensor } & Readonly<Record<string, unknown>>;

/** Classes with the same weights and the same forward: either serves as the other. */
const SAME: readonly string[] = ["Blip2ForConditionalGeneration", "Blip2Model"];

async function pretrained(name: string, source: Source, { engine = sharedEngine(), ...options }: PretrainedOptions = {}): Promise<Blip2> {
  const blip2 = await engine.load(source, { ...options, as: name });
  const found = blip2.info.class;
  if (found === name || (SAME.includes(found) && SAME.includes(name))) return blip2;
  await blip2.dispose();
  throw inputInvalid("source", `${blip2.info.url} is a ${found}, and no ${name} can be made of it`);
}

/** A model under one of HF's names. */
class Pretrained {
  /** The same model in this library's own words. */
  readonly blip2: Blip2;

  /** @internal */
  constructor(blip2: Blip2) {
    this.blip2 = blip2;
  }

  async dispose(): Promise<void> {
    await this.blip2.dispose();
  }

  protected run<N extends string>(inputs: object, names: readonly N[], options: CallOptions): Promise<Output<N>> {
    return this.call("forward", inputs, names, options);
  }

  protected async call<N extends string>(method: string, inputs: object, names: readonly N[], { signal }: CallOptions): Promise<Output<N>> {
    const { connection, model } = await this.blip2.whole([], signal);
    const output = await connection.call("call", { model, method, inputs: { ...inputs } }, { signal });
    if (!hasTensors(output, names)) throw broken(`${method} gave ${Object.keys(output).join(", ")}, which lacks one of ${names.join(", ")}`);
    return output;
  }
}

export interface ConditionalInputs {
  /** [B, 3, H, W] */
  readonly pixel_values: Tensor;
  /** With the image tokens in their places. */
  readonly input_ids: Ids;
  readonly attention_mask?: Ids;
  /** Of T5. */
  readonly decoder_input_ids?: Ids;
  /** Makes a `loss`; −100 does not count. */
  readonly labels?: Ids;
  readonly interpolate_pos_encoding?: boolean;
  /** Adds `hidden_states` of the language model, a tensor a layer. */
  readonly output_hidden_states?: boolean;
  /** Adds its `attentions`, of T5 `cross_attentions` too. */
  readonly output_attentions?: boolean;
}

export interface GenerateInputs {
  /** [B, 3, H, W] */
  readonly pixel_values: Tensor;
  /** With the image tokens in their places; a caption where absent. */
  readonly input_ids?: Ids;
  /** Instead of input_ids: [B, S, width]. Only new ids come back. */
  readonly inputs_embeds?: Tensor;
  readonly attention_mask?: Ids;
  readonly interpolate_pos_encoding?: boolean;
}
export type GenerateOptions = GenerationOptions &
  CallOptions & {
    /** Gives the sequences with what is known of them, not alone. */
    readonly return_dict_in_generate?: boolean;
  };
/** sequences_scores: of beams alone. */
export interface GenerateOutput {
  readonly sequences: number[][];
  readonly sequences_scores: readonly number[] | null;
  readonly finish: Finish;
}

/** Captions and answers. */
export class Blip2ForConditionalGeneration extends Pretrained {
  static async from_pretrained(source: Source, options?: PretrainedOptions): Promise<Blip2ForConditionalGeneration> {
    return new Blip2ForConditionalGeneration(await pretrained("Blip2ForConditionalGeneration", source, options));
  }

  forward(inputs: ConditionalInputs, options: CallOptions = {}): Promise<Output<"logits">> {
    return this.run(inputs, ["logits"], options);
  }

  /** The ids of each row: image tokens, prompt and new ones; of T5 those of its decoder. */
  generate(inputs: GenerateInputs, options: GenerateOptions & { readonly return_dict_in_generate: true }): Promise<GenerateOutput>;
  generate(inputs: GenerateInputs, options?: GenerateOptions & { readonly return_dict_in_generate?: false }): Promise<number[][]>;
  async generate(
    inputs: GenerateInputs,
    { signal, return_dict_in_generate = false, ...options }: GenerateOptions = {},
  ): Promise<GenerateOutput | number[][]> {
    const { connection, model } = await this.blip2.whole([], signal);
    const { ids, sequences_scores, finish } = await connection.call("generateIds", { model, inputs: { ...inputs }, options }, { signal });
    const sequences = ids.map(row => [...row]);
    return return_dict_in_generate ? { sequences, sequences_scores, finish } : sequences;
  }
}

export interface LanguageInputs {
  readonly input_ids: Ids;
  readonly attention_mask?: Ids;
  /** Of T5. */
  readonly decoder_input_ids?: Ids;
}

/** The same weights and the same forward, without `generate`, and with the parts on the way to it. */
export class Blip2Model extends Pretrained {
  static async from_pretrained(source: Source, options?: PretrainedOptions): Promise<Blip2Model> {
    return new Blip2Model(await pretrained("Blip2Model", source, options));
  }

  forward(inputs: ConditionalInputs, options: CallOptions = {}): Promise<Output<"logits">> {
    return this.run(inputs, ["logits"], options);
  }

  /** The vision tower's output. */
  get_image_features(inputs: VisionInputs, options: CallOptions = {}): Promise<Output<"last_hidden_state" | "pooler_output">> {
    return this.call("get_image_features", inputs, ["last_hidden_state", "pooler_output"], options);
  }

  /** The Q-Former's output for its own queries. */
  get_qformer_features(inputs: VisionInputs, options: CallOptions = {}): Promise<Output<"last_hidden_state" | "pooler_output">> {
    return this.call("get_qformer_features", inputs, ["last_hidden_state", "pooler_output"], options);
  }

  /** The language model's output for text alone. */
  get_text_features(inputs: LanguageInputs, options: CallOptions = {}): Promise<Output<"logits">> {
    return this.call("get_text_features", inputs, ["logits"], options);
  }
}

export interface ImageTextRetrievalInputs {
  /** [B, 3, H, W] */
  readonly pixel_values: Tensor;
  readonly input_ids: Ids;
  readonly attention_mask?: Ids;
  /** ITM, which looks at each image with its own text, instead of ITC, which compares all with all. */
  readonly use_image_text_matching_head?: boolean;
}

/** Which text is of which image. */
export class Blip2ForImageTextRetrieval extends Pretrained {
  static async from_pretrained(source: Source, options?: PretrainedOptions): Promise<Blip2ForImageTextRetrieval> {
    return new Blip2ForImageTextRetrieval(await pretrained("Blip2ForImageTextRetrieval", source, options));
  }

  forward(
    inputs: ImageTextRetrievalInputs,
    options: CallOptions = {},
  ): Promise<Output<"logits_per_image" | "logits_per_text" | "image_embeds" | "text_embeds">> {
    return this.run(inputs, ["logits_per_image", "logits_per_text", "image_embeds", "text_embeds"], options);
  }
}

export interface TextInputs {
  readonly input_ids: Ids;
  readonly attention_mask?: Ids;
  readonly position_ids?: Ids;
}

/** Texts to vectors: a `Blip2ForImageTextRetrieval`'s, too. */
export class Blip2TextModelWithProjection extends Pretrained {
  static async from_pretrained(source: Source, options?: PretrainedOptions): Promise<Blip2TextModelWithProjection> {
    return new Blip2TextModelWithProjection(await pretrained("Blip2TextModelWithProjection", source, options));
  }

  forward(inputs: TextInputs, options: CallOptions = {}): Promise<Output<"text_embeds" | "last_hidden_state">> {
    return this.run(inputs, ["text_embeds", "last_hidden_state"], options);
  }
}

/** Images to vectors: a `Blip2ForImageTextRetrieval`'s, too. */
export class Blip2VisionModelWithProjection extends Pretrained {
  static async from_pretrained(source: Source, options?: PretrainedOptions): Promise<Blip2VisionModelWithProjection> {
    return new Blip2VisionModelWithProjection(await pretrained("Blip2VisionModelWithProjection", source, options));
  }

  forward(inputs: { readonly pixel_values: Tensor }, options: CallOptions = {}): Promise<Output<"image_embeds" | "last_hidden_state">> {
    return this.run(inputs, ["image_embeds", "last_hidden_state"], options);
  }
}

export interface VisionInputs {
  /** [B, 3, H, W] */
  readonly pixel_values: Tensor;
  readonly interpolate_pos_encoding?: boolean;
  readonly output_hidden_states?: boolean;
  readonly output_attentions?: boolean;
}

/** The vision tower. */
export class Blip2VisionModel extends Pretrained {
  static async from_pretrained(source: Source, options?: PretrainedOptions): Promise<Blip2VisionModel> {
    return new Blip2VisionModel(await pretrained("Blip2VisionModel", source, options));
  }

  forward(inputs: VisionInputs, options: CallOptions = {}): Promise<Output<"last_hidden_state" | "pooler_output">> {
    return this.run(inputs, ["last_hidden_state", "pooler_output"], options);
  }
}

export interface QFormerInputs {
  /** Queries, queries followed by text, or text: [B, S, hidden]. */
  readonly query_embeds: Tensor;
  /** How many of the first positions are queries. */
  readonly query_length?: number;
  /** [B, S], or [B, S, S] with a row for each position. */
  readonly attention_mask?: Ids | readonly (readonly (readonly number[])[])[];
  /** What the queries look at: [B, P, encoder_hidden_size]. */
  readonly encoder_hidden_states?: Tensor;
  readonly output_hidden_states?: boolean;
  readonly output_attentions?: boolean;
}

/** The Q-Former. */
export class Blip2QFormerModel extends Pretrained {
  static async from_pretrained(source: Source, options?: PretrainedOptions): Promise<Blip2QFormerModel> {
    return new Blip2QFormerModel(await pretrained("Blip2QFormerModel", source, options));
  }

  forward(inputs: QFormerInputs, options: CallOptions = {}): Promise<Output<"last_hidden_state" | "pooler_output">> {
    return this.run(inputs, ["last_hidden_state", "pooler_output"], options);
  }
}

export interface ProcessorImages {
  readonly images: ImageInput | readonly ImageInput[];
}
export interface ProcessorText {
  readonly text: string | readonly string[];
}
export type ProcessorOptions = TextOptions & CallOptions;
export interface DecodeOptions extends CallOptions {
  readonly skip_special_tokens?: boolean;
}

/** Images and text to what the models take, and ids back to text. */
export class Blip2Processor {
  private readonly engine: Engine;
  private readonly source: Source;
  private readonly options: Omit<LoadOptions, "as">;
  private own: Promise<Blip2> | null = null;

  private constructor(engine: Engine, source: Source, options: Omit<LoadOptions, "as">) {
    this.engine = engine;
    this.source = source;
    this.options = options;
  }

  /** Fetches configs and tokenizer, and nothing of the weights. */
  static async from_pretrained(
    source: Source,
    { engine = sharedEngine(), ...options }: Omit<PretrainedOptions, "onProgress"> = {},
  ): Promise<Blip2Processor> {
    const processor = new Blip2Processor(engine, source, options);
    await processor.loaded();
    return processor;
  }

  /** HF's `__call__`: pixel_values of the images, ids of the texts; with both, image tokens are put before each text. */
  call(inputs: ProcessorImages & ProcessorText & ProcessorOptions): Promise<Required<Processed>>;
  call(inputs: ProcessorImages & ProcessorOptions): Promise<Pick<Required<Processed>, "pixel_values">>;
  call(inputs: ProcessorText & ProcessorOptions): Promise<Pick<Required<Processed>, "input_ids" | "attention_mask">>;
  async call({ images, text, signal, ...options }: Partial<ProcessorImages & ProcessorText> & ProcessorOptions): Promise<Processed> {
    const inputs = images === undefined ? null : isList(images) ? images : [images];
    const files: Uint8Array<ArrayBuffer>[] = [];
    for (const input of inputs ?? []) files.push((await imageBytes(input, signal)).bytes);
    const texts = text === undefined ? null : typeof text === "string" ? [text] : text;
    const { connection, model } = await (await this.loaded()).whole([], signal);
    const params = { model, images: inputs && files, text: texts, options };
    return connection.call("process", params, { signal, transfer: files.map(({ buffer }) => buffer) });
  }

  async batch_decode(ids: readonly (readonly number[])[], { skip_special_tokens = false, signal }: DecodeOptions = {}): Promise<string[]> {
    const { connection, model } = await (await this.loaded()).whole([], signal);
    return [...(await connection.call("decode", { model, rows: ids, skip_special_tokens }, { signal }))];
  }

  async decode(ids: readonly number[], options?: DecodeOptions): Promise<string> {
    const [text = ""] = await this.batch_decode([ids], options);
    return text;
  }

  /** Frees it. */
  async dispose(): Promise<void> {
    const { own } = this;
    this.own = null;
    await own?.then(blip2 => blip2.dispose()).catch(() => {});
  }

  private loaded(): Promise<Blip2> {
    if (this.own !== null) return this.own;
    const own = this.engine.load(this.source, { ...this.options, as: "Blip2Processor" });
    this.own = own;
    own.catch(() => {
      if (this.own === own) this.own = null;
    });
    return own;
  }
}

// Array.isArray makes any[] of a readonly list.
const isList = (images: ImageInput | readonly ImageInput[]): images is readonly ImageInput[] => Array.isArray(images);

function hasTensors<N extends string>(output: Readonly<Record<string, unknown>>, names: readonly N[]): output is Output<N> {
  return names.every(name => isTensor(output[name]));
}

function isTensor(value: unknown): value is Tensor {
  if (typeof value !== "object" || value === null || !("data" in value && "shape" in value)) return false;
  return (value.data instanceof Float32Array || value.data instanceof Int32Array) && Array.isArray(value.shape);
}
