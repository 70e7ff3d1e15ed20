// npm run parity: fixture folders made with HF transformers, against this crate, natively and in Chromium. A line a case.

import { copyFileSync, existsSync, mkdirSync, readFileSync, renameSync, rmSync, statSync } from "node:fs";
import { basename, dirname, join, resolve } from "node:path";
import { nativeEnv, tools } from "./bootstrap.mjs";
import { bundle } from "./bundle.mjs";
import { flags } from "./chromium.mjs";
import { at, bold, filesUnder, hash, isMain, main, must, options, recall, run, say, Stop, targetDir } from "./common.mjs";
import { serve } from "./serve.mjs";
import { putWorkbench } from "./wasm.mjs";

const TARGETS = ["native-cpu", "native-wgpu", "browser-cpu", "browser-webgpu"];
const USAGE = `npm run parity -- DIR… [--target ${TARGETS.join(",")}] [--quant f32|q8|q4]
  DIR       a folder with expected.json, or a folder of such folders
  --target  where to run; all four by default
  --quant   how convert stores the weights; f32 by default. Quantized, results are held to f32 arithmetic on the dequantized weights`;

// The slowest step of a fixture on a software GPU takes well under a minute; whoever is silent for so long hangs.
const SILENCE = 10 * 60_000;

/** Runs the folders on the targets. Returns { passed, failed, notYet, waiting }, the last being { fixture, name } of each `not yet`; prints as it goes. */
export async function parity(dirs, { targets = TARGETS, quant = "f32" } = {}) {
  const fixtures = dirs.flatMap(findFixtures);
  if (fixtures.length === 0) throw new Stop(`no expected.json in ${dirs.join(", ")}`);
  const found = await tools({ tests: true });
  const programs = await nativePrograms(found);
  const models = new Map();
  for (const fixture of fixtures) models.set(fixture, await converted(programs, fixture, quant));

  const total = { passed: 0, failed: 0, notYet: 0, waiting: [] };
  // What a seed draws, on the first target that was run: the others have to draw the same.
  const drawn = new Map();
  for (const target of targets) {
    const tally = new Tally(target, quant, drawn);
    const runner = target.startsWith("native")
      ? nativeRunner(found, programs, target, quant)
      : await browserRunner(found, target, quant, fixtures, models);
    try {
      for (const fixture of fixtures) await runFixture(runner, tally, fixture, models.get(fixture));
    } finally {
      await runner.close();
    }
    tally.finish();
    for (const name of ["passed", "failed", "notYet"]) total[name] += tally[name];
    total.waiting.push(...tally.waiting);
  }
  return total;
}

/** Folders with an expected.json, at any depth. */
function findFixtures(dir) {
  const path = resolve(dir);
  if (!existsSync(path)) throw new Stop(`${dir}: there is no such folder`);
  return filesUnder(path, name => basename(name) === "expected.json" && !name.includes("node_modules/")).map(name => dirname(join(path, name)));
}

async function nativePrograms(found) {
  await must("cargo", ["build", "--bin", "convert", "--bin", "parity"], { env: nativeEnv(found) }, "cargo build");
  const ending = process.platform === "win32" ? ".exe" : "";
  return { convert: targetDir("debug", `convert${ending}`), parity: targetDir("debug", `parity${ending}`) };
}

/**
 * The fixture's checkpoint as a model folder: { dir, error, pending }. dir is null where there is no checkpoint (`images`), or where convert refused it;
 * `pending` says that it did so because nobody implements such a model yet. Kept by what went in: the program and the files.
 */
async function converted(programs, fixture, quant) {
  if (!existsSync(join(fixture, "config.json"))) return { dir: null, error: null, pending: false };
  const names = filesUnder(fixture);
  const facts = names.map(name => {
    const { size, mtimeMs } = statSync(join(fixture, name));
    return `${name} ${size} ${mtimeMs}`;
  });
  const dir = at("build", "parity", hash(readFileSync(programs.convert), fixture, quant, ...facts).slice(0, 24));
  if (existsSync(dir)) return { dir, error: null, pending: false };
  const draft = `${dir}.${process.pid}.part`;
  rmSync(draft, { recursive: true, force: true });
  mkdirSync(dirname(draft), { recursive: true });
  // A fixture may hold checkpoints of other classes in folders of their own.
  const checkpoints = names.filter(name => basename(name) === "config.json" && holdsWeights(join(fixture, dirname(name)))).map(dirname);
  for (const place of checkpoints.sort()) {
    const args = [join(fixture, place), join(draft, place), "--quant", quant];
    const { code, output } = await run(programs.convert, args, { quiet: true, timeout: SILENCE });
    if (code !== 0) {
      rmSync(draft, { recursive: true, force: true });
      return { dir: null, error: output.trim() || `convert ended with exit code ${code}`, pending: output.includes("error[model-unsupported]") };
    }
  }
  renameSync(draft, dir);
  return { dir, error: null, pending: false };
}

const holdsWeights = folder => ["model.safetensors", "model.safetensors.index.json"].some(name => existsSync(join(folder, name)));

/** Counts the cases of one target, and prints them. */
class Tally {
  passed = 0;
  failed = 0;
  notYet = 0;
  dispatches = 0;
  adapters = new Set();
  /** The folder that is run: two may have one name. */
  path = "";
  /** The cases that are not yet claimed to work. */
  waiting = [];

  constructor(target, quant, drawn) {
    this.target = target;
    this.drawn = drawn;
    this.title = quant === "f32" ? target : `${target} ${quant}`;
    say(`\n${bold(this.title)}`);
  }

  /** A line of a runner: `pass NAME …`, `FAIL NAME …`, `not yet NAME …`. Whatever else it says is shown, and counts for nothing. */
  line(fixture, text) {
    if (text.startsWith("pass ")) this.passed += 1;
    else if (text.startsWith("FAIL ")) this.failed += 1;
    else if (text.startsWith("not yet ")) {
      this.notYet += 1;
      this.waiting.push({ fixture, name: text.slice("not yet ".length).trim() });
    }
    say(`${this.title} ${fixture}: ${text}`);
    const [, name, ids] = /^pass (sample\.\S+) (.*)$/.exec(text) ?? [];
    if (name) this.compare(fixture, name, ids);
  }

  /** A seed draws the same on every target. */
  compare(fixture, name, ids) {
    const first = this.drawn.get(`${this.path} ${name}`);
    if (!first) this.drawn.set(`${this.path} ${name}`, { target: this.target, ids });
    else if (first.ids !== ids) {
      // Passed by itself, it fails beside the other.
      this.passed -= 1;
      this.line(fixture, `FAIL ${name} differs from ${first.target}: ${first.ids}`);
    }
  }

  finish() {
    const gpu = /gpu$/.test(this.target);
    const ran = this.passed + this.failed;
    if (gpu && ran > 0 && this.dispatches === 0) this.line("all", "FAIL dispatches: nothing was launched on the GPU");
    const cases = `${this.passed} of ${this.passed + this.failed} cases${this.notYet > 0 ? `, ${this.notYet} not yet` : ""}`;
    const adapter = [...this.adapters].join(", ") || "none";
    say(bold(`${this.title}: ${cases}; adapter ${adapter}, ${this.dispatches} dispatches`));
  }
}

/** Every end but a clean one is a failed case: a crash, silence, a count that does not agree, no case at all. */
async function runFixture(runner, tally, path, model) {
  const fixture = basename(path);
  tally.path = path;
  if (model.pending) {
    for (const name of casesOf(path)) tally.line(fixture, `not yet ${name}`);
    return;
  }
  if (model.error) {
    tally.line(fixture, `FAIL convert: ${model.error}`);
    return;
  }
  const before = tally.passed + tally.failed + tally.notYet;
  const failed = tally.failed;
  const { error, adapter, dispatches, heard = [] } = await runner.run(path, model.dir, text => tally.line(fixture, text));
  if (adapter) tally.adapters.add(adapter);
  tally.dispatches += dispatches;
  if (error) tally.line(fixture, `FAIL run: ${error}`);
  else if (tally.passed + tally.failed + tally.notYet === before) tally.line(fixture, "FAIL run: no case was run");
  // One cause is often told many times over: the first few are the ones to read.
  if (tally.failed > failed) for (const text of heard.slice(0, 5)) say(`${tally.title} ${fixture}: console: ${text}`);
}

/** The names of a fixture's cases, without running any: entries of expected.json's lists, and the tensors of expected.safetensors. */
function casesOf(fixture) {
  const names = [];
  for (const [list, entries] of Object.entries(recall(join(fixture, "expected.json")) ?? {})) {
    if (!Array.isArray(entries) || entries.some(entry => typeof entry !== "object")) continue;
    for (const [place, entry] of entries.entries()) names.push(`${list}.${entry.name ?? place}`);
  }
  const path = join(fixture, "expected.safetensors");
  if (!existsSync(path)) return names;
  const bytes = readFileSync(path);
  const header = JSON.parse(bytes.subarray(8, 8 + Number(bytes.readBigUInt64LE())).toString());
  return [...names, ...Object.keys(header).filter(name => name !== "__metadata__")];
}

function nativeRunner(found, programs, target, quant) {
  return {
    async run(fixture, model, onCase) {
      const args = ["--target", target, "--fixture", fixture, ...(model ? ["--model", model] : []), ...(quant === "f32" ? [] : ["--dequantized"])];
      let summary = null;
      const counted = { passed: 0, failed: 0, not_yet: 0 };
      const onLine = line => {
        if (line.startsWith("summary ")) summary = JSON.parse(line.slice("summary ".length));
        else {
          if (line.startsWith("pass ")) counted.passed += 1;
          if (line.startsWith("FAIL ")) counted.failed += 1;
          if (line.startsWith("not yet ")) counted.not_yet += 1;
          onCase(line);
        }
      };
      const { code } = await run(programs.parity, args, { env: nativeEnv(found), onLine, timeout: SILENCE });
      const facts = { adapter: summary?.adapter ?? "", dispatches: summary?.dispatches ?? 0 };
      if (code !== 0) return { ...facts, error: `the runner ended with exit code ${code}` };
      if (!summary) return { ...facts, error: "the runner gave no summary" };
      const differs = Object.keys(counted).find(name => counted[name] !== summary[name]);
      return { ...facts, error: differs ? `the summary says ${summary[differs]} ${differs}, the lines ${counted[differs]}` : null };
    },
    close: async () => {},
  };
}

/** Builds the parity page with the wasm of one device; each fixture gets a new page, so that a crash takes nobody along. */
async function browserRunner(found, target, quant, fixtures, models) {
  const device = target.slice("browser-".length);
  const page = await parityPage(found, device);
  const mounts = { "/": page };
  const made = {};
  const address = new Map();
  for (const [index, fixture] of fixtures.entries()) {
    const place = `/fixtures/${index}/${basename(fixture)}/`;
    mounts[place] = fixture;
    address.set(fixture, place);
    // Fixtures share the pictures of the folder `images` beside them: the runner knows them as files of its own.
    const pictures = join(dirname(fixture), "images");
    const shared = pictures === fixture ? [] : filesUnder(pictures).map(name => `images/${name}`);
    if (shared.length > 0) mounts[`${place}images/`] = pictures;
    made[`${place}files.json`] = () => JSON.stringify([...filesUnder(fixture), ...shared]);
    const { dir } = models.get(fixture);
    if (dir) mounts[`/models/${index}/`] = dir;
  }
  const server = await serve({ mounts, made });
  const { chromium } = await import("playwright-core");
  const browser = await chromium.launch({ executablePath: found.chromium, args: flags });
  return {
    async run(fixture, model, onCase) {
      const query = new URLSearchParams({ device, fixture: address.get(fixture) });
      if (quant !== "f32") query.set("dequantized", "");
      if (model) query.set("model", `/models/${fixtures.indexOf(fixture)}/`);
      return onPage(browser, `${server.origin}/?${query}`, onCase);
    },
    async close() {
      await browser.close();
      await server.close();
    },
  };
}

/**
 * Opens the parity page and waits for its end. Returns what it ended with, { adapter, dispatches, error }, and `heard`: what else the console said
 * (the browser tells there, and nowhere else, what it finds wrong with a shader).
 */
export async function onPage(browser, address, onLine) {
  const page = await browser.newPage();
  const heard = new Set();
  try {
    const outcome = await new Promise(done => {
      let clock;
      const end = error => done({ adapter: "", dispatches: 0, error });
      const wind = () => {
        clearTimeout(clock);
        clock = setTimeout(() => end(`no word for ${SILENCE / 60_000} minutes`), SILENCE);
      };
      page.on("console", message => {
        wind();
        const [, kind, text] = /^parity (line|end) (.*)$/s.exec(message.text()) ?? [];
        if (kind === "line") onLine(text);
        else if (kind === "end") {
          clearTimeout(clock);
          done(JSON.parse(text));
        } else if (["error", "warning"].includes(message.type())) heard.add(message.text());
      });
      page.on("crash", () => end("the page crashed"));
      page.on("pageerror", error => end(String(error)));
      wind();
      page.goto(address).catch(error => end(String(error)));
    });
    return { ...outcome, heard: [...heard] };
  } finally {
    await page.close().catch(() => {});
  }
}

/** The folder with the parity page and the wasm of one device, which alone is built. */
export async function parityPage(found, device) {
  const source = at("tests", "browser", "parity");
  const dir = at("build", `parity-page-${device}`);
  await bundle({ page: join(source, "page.ts"), worker: join(source, "worker.ts") }, dir);
  copyFileSync(join(source, "index.html"), join(dir, "index.html"));
  await putWorkbench(found, device, join(dir, "wasm"));
  return dir;
}

if (isMain(import.meta)) {
  await main(async args => {
    const { rest, target, quant = "f32", help } = options(args, { target: true, quant: true, help: false }, USAGE);
    if (help) return say(USAGE);
    // Paths are those of the shell that npm was called from.
    const dirs = rest.map(dir => resolve(process.env.INIT_CWD ?? ".", dir));
    const targets = target ? target.split(",") : TARGETS;
    const unknown = targets.find(name => !TARGETS.includes(name));
    if (rest.length === 0 || unknown) throw new Stop(`${unknown ? `unknown target ${unknown}\n` : ""}${USAGE}`);
    const { passed, failed, notYet } = await parity(dirs, { targets, quant });
    if (notYet > 0) say(`\n${notYet} not yet`);
    say(`${passed} of ${passed + failed} cases`);
    return failed > 0 || passed === 0 ? 1 : 0;
  });
}
