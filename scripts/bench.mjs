// npm run bench: what a visitor waits for, in Chromium, and how near it comes to what the machine can do. docs/performance.md says how to read it.

import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync } from "node:fs";
import { arch, cpus, platform, release } from "node:os";
import { basename, dirname, join, resolve } from "node:path";
import { benchPage, runTask } from "./bench/page.mjs";
import { productsOf, runReport, table, VERSION } from "./bench/report.mjs";
import { tools } from "./bootstrap.mjs";
import { at, filesUnder, hash, hashFiles, isMain, main, must, options, recall, say, sayOnStderr, Stop, targetDir } from "./common.mjs";

const DEVICES = ["cpu", "webgpu"];
const USAGE = `npm run bench -- [--json] [--model DIR|synthetic:NAME] [--device ${DEVICES.join(",")}] [--load] [--layers N]
  --json     one line of JSON, the last of what is printed, instead of a table
  --model    a model folder, or a real model's shapes with made-up weights (see npm run convert -- --help); the two of demo/ by default
  --device   where to run; both by default
  --load     loads over and over, from the server and from the cache, and says where the time goes
  --layers   of a synthetic model: so many layers of each part
  --quant    of a synthetic model: f32, f16, q8 or q4 (by default)
  --tokens   of an answer; 32 by default
  --rounds   at most; 25 by default, and none begins behind --seconds (20) if there were three
  --kernels  also each shape of a product by itself
  --context  also a token behind 64 and behind 1024 positions (OPT's models)
  --quick    one round, nothing warmed up, wasm as the compiler leaves it: says whether it runs, not how fast`;

const FLAGS = {
  json: false,
  model: true,
  device: true,
  load: false,
  layers: true,
  quant: true,
  tokens: true,
  rounds: true,
  seconds: true,
  kernels: false,
  context: false,
  quick: false,
  help: false,
};

const INDEX = "model.safetensors.index.json";
/** Burn's own way needs all weights in f32 in wasm's memory, beside the engine. */
const MOST_UNFUSED = 350e6;

/**
 * Measures models on devices, and returns the report.
 * @param {{ model?: string | undefined, devices?: string[], load?: boolean, layers?: number | undefined, quant?: string, tokens?: number, rounds?: number,
 *   seconds?: number, kernels?: boolean, context?: boolean, quick?: boolean }} [wanted]
 */
export async function bench(wanted = {}) {
  const { devices = DEVICES, load = false, tokens = 32, rounds = 25, seconds = 20, kernels = false, context = false, quick = false } = wanted;
  const found = await tools({ tests: true });
  const models = await modelsOf(wanted);
  const pictures = readdirSync(at("demo", "samples"))
    .filter(name => name.endsWith(".png"))
    .sort()
    .map(name => at("demo", "samples", name));
  const runs = [];
  for (const device of devices) {
    const page = await benchPage(found, device, { own: device === "cpu" || kernels || context || load, optimize: !quick });
    for (const { name, dir } of models) {
      say(`bench: ${name} on ${device}`);
      const facts = factsOf(dir);
      const products = kernels ? productsOf(facts.config, facts.index) : [];
      const task = {
        device,
        rounds,
        seconds,
        quick,
        tokens,
        loads: load,
        products,
        context: context && isOpt(facts) ? (facts.index.quantization.language ?? "f32") : null,
        questions: questionsOf(facts),
        unfused: unfusedFits(device, facts),
      };
      const outcome = await runTask(found, page, task, { model: dir, pictures }, line => say(`  ${line}`));
      if (outcome.error) say(`bench: ${name} on ${device} ended early: ${outcome.error}`);
      const positions = (facts.config.num_query_tokens ?? 32) + 10 + tokens / 2;
      runs.push(runReport(name, { device, context: positions }, outcome, { ...facts, products }));
    }
  }
  const [cpu] = cpus();
  return { version: VERSION, machine: { cpu: cpu?.model.trim() ?? arch(), cores: cpus().length, system: `${platform()} ${release()}` }, runs };
}

/** Folders to measure: { name, dir }. */
async function modelsOf({ model, layers, quant = "q4" }) {
  const isSynthetic = model?.startsWith("synthetic:") ?? false;
  if (layers !== undefined && !isSynthetic) throw new Stop(`--layers is of a synthetic model: other folders have the layers they have\n${USAGE}`);
  if (isSynthetic) return [await synthetic(model, layers, quant)];
  const dirs = model ? [resolve(process.env.INIT_CWD ?? ".", model)] : [at("demo", "model"), at("demo", "retrieval")];
  for (const dir of dirs) if (!existsSync(join(dir, INDEX))) throw new Stop(`${dir} is no model folder: it has no ${INDEX}`);
  return dirs.map(dir => ({ name: dir.startsWith(at("demo")) ? `demo/${basename(dir)}` : basename(dir), dir }));
}

/** Written once, and again when what writes it changes. */
async function synthetic(model, layers, quant) {
  const name = [model.slice("synthetic:".length), quant, ...(layers === undefined ? [] : [`${layers}-layers`])].join("-");
  const sources = ["convert", "weights", "models"].flatMap(folder => filesUnder(at("src", folder)).map(file => `src/${folder}/${file}`));
  const dir = at("build", "bench", `${name}-${hash(hashFiles(at(), sources)).slice(0, 12)}`);
  if (!existsSync(join(dir, INDEX))) {
    await must("cargo", ["build", "--bin", "convert"], {}, "cargo build");
    // What earlier sources wrote is of no more use, and large.
    for (const old of existsSync(dirname(dir)) ? readdirSync(dirname(dir)) : []) {
      if (old.startsWith(`${name}-`) && old.length === basename(dir).length) rmSync(join(dirname(dir), old), { recursive: true });
    }
    const draft = `${dir}.part`;
    rmSync(draft, { recursive: true, force: true });
    mkdirSync(dirname(dir), { recursive: true });
    const program = targetDir("debug", process.platform === "win32" ? "convert.exe" : "convert");
    const args = [model, draft, "--quant", quant, ...(layers === undefined ? [] : ["--layers", String(layers)])];
    await must(program, args, { onLine: say }, "convert");
    renameSync(draft, dir);
  }
  return { name, dir };
}

const factsOf = dir => ({ config: recall(join(dir, "config.json")) ?? {}, index: JSON.parse(readFileSync(join(dir, INDEX), "utf8")) });

function questionsOf({ index }) {
  const { question_template = "Question: {question} Answer:", suggestions = [] } = index.ui ?? {};
  const [first = "what is this?", second = "what colour is it?"] = suggestions;
  return [first, second].map(question => question_template.replace("{question}", question));
}

const isOpt = ({ config }) => (config.text_config?.model_type ?? "opt") === "opt" && (config.architectures?.[0] ?? "").includes("Generation");

function unfusedFits(device, { config, index }) {
  return device === "cpu" && isOpt({ config }) && index.parameters <= MOST_UNFUSED;
}

const number = (text, name) => {
  if (text === undefined) return undefined;
  if (!/^[1-9]\d*$/.test(text)) throw new Stop(`--${name} ${text}: a whole number is needed`);
  return Number(text);
};

if (isMain(import.meta)) {
  await main(async args => {
    const { rest, json, help, device, layers, tokens, rounds, seconds, ...others } = options(args, FLAGS, USAGE);
    if (help) return say(USAGE);
    const devices = device?.split(",") ?? DEVICES;
    const unknown = rest[0] ?? devices.find(name => !DEVICES.includes(name));
    if (unknown !== undefined) throw new Stop(`${unknown}: what is that?\n${USAGE}`);
    if (json) sayOnStderr();
    const counts = { layers, tokens, rounds, seconds };
    const wanted = Object.entries(counts).flatMap(([name, text]) => (text === undefined ? [] : [[name, number(text, name)]]));
    const report = await bench({ devices, ...Object.fromEntries(wanted), ...others });
    console.log(json ? JSON.stringify(report) : `\n${table(report)}`);
    return report.runs.some(run => run.error !== null) ? 1 : 0;
  });
}
