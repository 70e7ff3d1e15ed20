/** BLIP-2's configurations under the names of Hugging Face transformers: what a file leaves out has the default of its class. */

import { type Engine, type InspectOptions, loadParams, sharedEngine, type Source } from "./engine.js";
import type { ConfigParams, ConfigPart } from "./protocol.js";

export interface ConfigOptions extends InspectOptions {
  /** The engine that reads it; the shared one if absent. */
  readonly engine?: Engine;
}

type Values = Readonly<Record<string, unknown>>;

async function read(params: ConfigParams, engine: Engine, { signal, resolve: locate }: InspectOptions): Promise<Values> {
  return engine.connect().call("config", params, { signal, locate });
}

async function ofFolder(part: ConfigPart, source: Source, { engine = sharedEngine(), ...options }: ConfigOptions = {}): Promise<Values> {
  return read({ kind: "folder", part, ...(await loadParams(source, options)) }, engine, options);
}

const ofValues = (part: ConfigPart, values: Values, { engine = sharedEngine(), ...options }: ConfigOptions = {}): Promise<Values> =>
  read({ kind: "json", part, json: JSON.stringify(values) }, engine, options);

class PretrainedConfig {
  private readonly values: Values;

  /** @internal */
  constructor(values: Values) {
    this.values = values;
  }

  /** Every field, by its name. */
  to_dict(): Record<string, unknown> {
    return structuredClone({ ...this.values });
  }

  /** As `save_pretrained` writes it. */
  to_json_string(): string {
    return `${JSON.stringify(this.values, null, 2)}\n`;
  }
}

/** The vision tower's. */
export class Blip2VisionConfig extends PretrainedConfig {
  /** Of a vision tower alone, or nested in a whole model's. */
  static async from_pretrained(source: Source, options?: ConfigOptions): Promise<Blip2VisionConfig> {
    return new Blip2VisionConfig(await ofFolder("Blip2VisionConfig", source, options));
  }

  static async from_dict(values: Values, options?: ConfigOptions): Promise<Blip2VisionConfig> {
    return new Blip2VisionConfig(await ofValues("Blip2VisionConfig", values, options));
  }
}

/** The Q-Former's. */
export class Blip2QFormerConfig extends PretrainedConfig {
  /** Of a Q-Former alone, or nested in a whole model's. */
  static async from_pretrained(source: Source, options?: ConfigOptions): Promise<Blip2QFormerConfig> {
    return new Blip2QFormerConfig(await ofFolder("Blip2QFormerConfig", source, options));
  }

  static async from_dict(values: Values, options?: ConfigOptions): Promise<Blip2QFormerConfig> {
    return new Blip2QFormerConfig(await ofValues("Blip2QFormerConfig", values, options));
  }
}

/** A whole model's. */
export class Blip2Config extends PretrainedConfig {
  static async from_pretrained(source: Source, options?: ConfigOptions): Promise<Blip2Config> {
    return new Blip2Config(await ofFolder("Blip2Config", source, options));
  }

  static async from_dict(values: Values, options?: ConfigOptions): Promise<Blip2Config> {
    return new Blip2Config(await ofValues("Blip2Config", values, options));
  }

  /** Without a text config it is OPT's, with its class's defaults. */
  static async from_vision_qformer_text_configs(
    vision: Blip2VisionConfig,
    qformer: Blip2QFormerConfig,
    text?: Values,
    { engine = sharedEngine(), ...options }: ConfigOptions = {},
  ): Promise<Blip2Config> {
    const parts = { vision: vision.to_json_string(), qformer: qformer.to_json_string(), ...(text && { text: JSON.stringify(text) }) };
    return new Blip2Config(await read({ kind: "parts", ...parts }, engine, options));
  }
}
