#!/usr/bin/env node
/** `npx blip2-web convert`: status 0, 1 where the conversion failed, 2 where it was asked for wrongly. */

import { readFileSync, writeSync } from "node:fs";
import { parseArgs } from "node:util";
import { type Conversion, convertFolder, told } from "./convert.js";
import { Blip2Error, inputInvalid, messageOf } from "./error.js";

const USAGE = `Usage: blip2-web convert [OPTIONS] <SRC> <DST>

Converts a BLIP-2 checkpoint of Hugging Face transformers into a folder for blip2-web.

  <SRC>  Folder with config.json, the tokenizer's files and safetensors; or synthetic:NAME, which makes up weights in the shapes of
         a checkpoint of Salesforce, such as blip2-opt-2.7b
  <DST>  Folder to write

  --quant <QUANT>             How weight matrices are stored: f32, f16, q8 or q4 [default: q8]
  --quant-vision <QUANT>      Another choice for the vision tower
  --quant-qformer <QUANT>     Another choice for the Q-Former
  --quant-projection <QUANT>  Another choice for projections and heads
  --quant-language <QUANT>    Another choice for the language model
  --as <CLASS>                Another class that the checkpoint's weights hold, such as Blip2VisionModelWithProjection of a
                              Blip2ForImageTextRetrieval: only what it needs is written
  --layers <LAYERS>           Of synthetic weights: so many layers of each part at most
  --ui <UI>                   JSON with caption_prompt, question_template, suggestions, licence_url, about
  --source <SOURCE>           Where the checkpoint is from, for the index
  --licence <LICENCE>         Its licence, for the index
  --force                     Replace DST if it is there
  -h, --help                  Print help`;

const text = { type: "string" } as const;
const FLAGS = {
  quant: text,
  "quant-vision": text,
  "quant-qformer": text,
  "quant-projection": text,
  "quant-language": text,
  as: text,
  layers: text,
  ui: text,
  source: text,
  licence: text,
  force: { type: "boolean" },
  help: { type: "boolean", short: "h" },
} as const;

/** `null` where help is asked for. Errors: input-invalid, file. */
function asked(args: string[]): Omit<Conversion, "onProgress"> | null {
  const { values, positionals } = parsed(args);
  const [command, src, dst, ...more] = positionals;
  if (values.help || (command === undefined && args.length === 0)) return null;
  if (command !== "convert") throw inputInvalid("command", `${command ?? "none"}: there is convert`);
  if (src === undefined || dst === undefined || more.length > 0) throw inputInvalid("arguments", "convert takes SRC and DST");
  const { quant, as, source, licence } = values;
  const layers = values.layers === undefined ? undefined : Number(values.layers);
  if (layers !== undefined && !/^\d+$/.test(values.layers ?? "")) throw inputInvalid("--layers", `${values.layers} is no number`);
  const given = {
    quant,
    quant_vision: values["quant-vision"],
    quant_qformer: values["quant-qformer"],
    quant_projection: values["quant-projection"],
    quant_language: values["quant-language"],
    as,
    layers,
    ui: values.ui === undefined ? undefined : { file: values.ui, text: read(values.ui) },
    source,
    licence,
  };
  return { src, dst, force: values.force ?? false, ...present(given) };
}

function parsed(args: string[]) {
  try {
    return parseArgs({ args, options: FLAGS, allowPositionals: true });
  } catch (error) {
    throw inputInvalid("arguments", messageOf(error));
  }
}

const read = (file: string): string => told(file, () => readFileSync(file, "utf8"));

type Present<T> = { [K in keyof T]?: Exclude<T[K], undefined> };

/** Without what is undefined. */
function present<T extends object>(all: T): Present<T> {
  const found: Present<T> = { ...all };
  for (const key of Object.keys(all)) if (Reflect.get(all, key) === undefined) Reflect.deleteProperty(found, key);
  return found;
}

/** A line that is drawn anew, on a terminal alone. Work is not left for it: it is written at once. */
class Bar {
  private drawn = 0;

  readonly onProgress = (done: number, total: number, tensor: string): void => {
    if (!process.stderr.isTTY || performance.now() - this.drawn < 100) return;
    this.drawn = performance.now();
    const line = `${((100 * done) / Math.max(total, 1)).toFixed(0).padStart(3)} %  ${mebibytes(done)} of ${mebibytes(total)}  ${tensor}`;
    writeSync(2, `\r\x1b[K${line.slice(0, process.stderr.columns - 1)}`);
  };

  clear(): void {
    if (this.drawn > 0) writeSync(2, "\r\x1b[K");
  }
}

const mebibytes = (bytes: number): string => `${(bytes / (1 << 20)).toFixed(1)} MiB`;

/** A failure of the work itself has status 1, whatever its code. */
function complain(error: unknown, status = 1): number {
  if (!(error instanceof Blip2Error)) throw error;
  const { code, message, hint } = error;
  writeSync(2, `error[${code}]: ${message}\n${hint}\n`);
  return status;
}

function main(args: string[]): number {
  let conversion: ReturnType<typeof asked>;
  try {
    conversion = asked(args);
  } catch (error) {
    return complain(error, error instanceof Blip2Error && error.is("input-invalid") ? 2 : 1);
  }
  if (conversion === null) {
    console.log(USAGE);
    return 0;
  }
  const bar = new Bar();
  try {
    const summary = convertFolder({ ...conversion, onProgress: bar.onProgress });
    bar.clear();
    console.log(summary);
    return 0;
  } catch (error) {
    bar.clear();
    return complain(error);
  }
}

process.exitCode = main(process.argv.slice(2));
