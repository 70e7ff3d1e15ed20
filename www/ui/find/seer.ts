/** The model that finds: pictures to vectors that can be kept, words to a vector, and a second look at both together. */

import { type Blip2, Blip2ForImageTextRetrieval, type Blip2Image, type Engine, type Inspection, type Progress, type Ui } from "../../index.js";
import { type Choice, indexOf, keyOf, sourceOf } from "../choice.js";
import type { Looks } from "./rank.js";

/** Pictures kept in the engine for a second look: each holds what the tower saw. */
const KEPT = 24;

export class Seer {
  private readonly engine: Engine;
  private readonly choice: Choice;
  private loaded: Blip2 | null = null;
  private readonly images = new Map<File, Promise<Blip2Image>>();
  private readonly texts = new Map<string, Promise<Float32Array>>();

  constructor(engine: Engine, choice: Choice) {
    this.engine = engine;
    this.choice = choice;
  }

  get ready(): boolean {
    return this.loaded !== null;
  }

  get ui(): Ui | null {
    return this.loaded?.info.index.ui ?? null;
  }

  inspect(signal: AbortSignal): Promise<Inspection> {
    return this.engine.inspect(sourceOf(this.choice), { signal });
  }

  async load(signal: AbortSignal, onProgress: (progress: Progress) => void): Promise<void> {
    const { engine, choice } = this;
    this.loaded = (await Blip2ForImageTextRetrieval.from_pretrained(sourceOf(choice), { engine, signal, onProgress })).blip2;
  }

  /**
   * Names what decides a picture's vector: the content of the parts that see. Files are named by their content,
   * so the names are enough. Errors: those of `fetch`, of folders and of JSON.
   */
  async tower(): Promise<string> {
    const index: unknown = await indexOf(this.choice);
    if (typeof index !== "object" || index === null || !("files" in index) || typeof index.files !== "object" || index.files === null)
      return keyOf(this.choice);
    const stages = Object.entries(index.files).filter(([, facts]) => typeof facts === "object" && facts !== null && "stage" in facts);
    return stages
      .map(([name]) => name.replace(/^model-|\.safetensors$/g, ""))
      .sort()
      .join("+");
  }

  async see(file: File, signal: AbortSignal): Promise<Looks> {
    const image = await this.needed().encode(file, { signal });
    try {
      const { data, shape } = await image.embed({ signal });
      return { data, width: shape.at(-1) ?? 0 };
    } finally {
      // What else it saw is needed for the few that are looked at again.
      void image.dispose();
    }
  }

  /** The text's vector, of length 1. */
  read(text: string): Promise<Float32Array> {
    const known = this.texts.get(text);
    if (known !== undefined) return known;
    const reading = this.readNow(text);
    if (this.texts.size > 200) this.texts.clear();
    this.texts.set(text, reading);
    reading.catch(() => this.texts.delete(text));
    return reading;
  }

  private async readNow(text: string): Promise<Float32Array> {
    const { data } = await this.needed().embed([text]);
    return data;
  }

  /** The probability that the text is of the picture. */
  async match(file: File, text: string, signal: AbortSignal): Promise<number> {
    const image = await this.image(file);
    signal.throwIfAborted();
    const [probability = 0] = await image.match([text], { signal });
    return probability;
  }

  private async image(file: File): Promise<Blip2Image> {
    const { images } = this;
    const image = images.get(file) ?? this.needed().encode(file);
    images.delete(file);
    images.set(file, image); // last in the map: used last
    image.catch(() => images.delete(file));
    const [oldest] = images.keys();
    if (images.size > KEPT && oldest !== undefined) {
      const gone = images.get(oldest);
      images.delete(oldest);
      if (gone !== undefined) void giveBack(gone);
    }
    return image;
  }

  /** Gives back what it holds. */
  async dispose(): Promise<void> {
    const { loaded } = this;
    this.loaded = null;
    const images = [...this.images.values()];
    this.images.clear();
    // Each keeps its model's weights.
    await Promise.all(images.map(giveBack));
    await loaded?.dispose();
  }

  private needed(): Blip2 {
    if (this.loaded === null) throw new Error("the model that finds is not loaded");
    return this.loaded;
  }
}

/** One that could not be encoded holds nothing. */
const giveBack = (image: Promise<Blip2Image>): Promise<void> => image.then(one => one.dispose()).catch(() => {});
