// The steps that `npm run check` and `npm test` are made of. Each says what it runs and returns { passed, failed }.

import { existsSync, rmSync } from "node:fs";
import { firefox, nativeEnv } from "./bootstrap.mjs";
import { BUDGETS, packed } from "./budgets.mjs";
import { build } from "./build.mjs";
import { bundleTests } from "./bundle.mjs";
import { at, bold, filesUnder, must, nodeModule, recall, run, say, seconds, size, Stop } from "./common.mjs";
import { npx } from "./npx.mjs";
import { parity } from "./parity.mjs";
import { isCurrent } from "./reference.mjs";
import { convertWasm, DEVICES, wasm, workbenchWasm } from "./wasm.mjs";

const PASS = { passed: 1, failed: 0 };
const FAIL = { passed: 0, failed: 1 };
const sum = results => results.reduce((all, one) => ({ passed: all.passed + one.passed, failed: all.failed + one.failed }), { passed: 0, failed: 0 });

/** A step that one command decides. */
const command = async (program, args, options) => ((await run(program, args, options)).code === 0 ? PASS : FAIL);
const node = (parts, args, options) => command(process.execPath, [nodeModule(...parts), ...args], options);

export const formatRust = () => command("cargo", ["fmt", "--all", "--check"]);

/** Formats and lints of everything that is not Rust. */
export const formatWeb = () => node(["@biomejs", "biome", "bin", "biome"], ["check", "--error-on-warnings"]);

export const clippy = () => command("cargo", ["clippy", "--quiet", "--all-targets", "--", "--deny", "warnings"]);

export const docs = () => command("cargo", ["doc", "--quiet", "--no-deps", "--lib"], { env: { RUSTDOCFLAGS: "--deny warnings" } });

/** cargo test, all programs of it, also after one has failed. */
export async function rust(tools, { full = false } = {}) {
  let total = { passed: 0, failed: 0 };
  const onLine = line => {
    say(line);
    const found = /^test result: \w+\. (\d+) passed; (\d+) failed/.exec(line);
    if (found) total = sum([total, { passed: Number(found[1]), failed: Number(found[2]) }]);
  };
  // One thread: tests that wait for the GPU would otherwise wait for each other's work.
  const args = ["test", "--no-fail-fast", "--", "--test-threads", "1", ...(full ? ["--include-ignored"] : [])];
  const { code } = await run("cargo", args, { env: nativeEnv(tools), onLine });
  return code !== 0 && total.failed === 0 ? sum([total, FAIL]) : total;
}

/** All wasm builds; the compiler's warnings are denied here, since clippy does not look at them. */
export async function wasmBuilds(tools) {
  const built = [...(await wasm(tools)), await convertWasm(tools)];
  for (const device of DEVICES) built.push(await workbenchWasm(tools, device));
  return sum(
    built.map(({ device, warnings }) => {
      if (warnings > 0) say(`wasm: ${device}: ${warnings} warnings`);
      return warnings > 0 ? FAIL : PASS;
    }),
  );
}

/** The site (and, but for `quick`, the npm package). */
export async function shipped({ quick = false } = {}) {
  await build({ quick });
  return PASS;
}

/** What page, worker, tests and package see is checked apart: each has other globals. The reference in docs/ is held to the package's. */
export async function types() {
  const results = [];
  for (const project of ["tsconfig.json", "tsconfig.worker.json", "tsconfig.tests.json", "tsconfig.package.json"]) {
    say(`tsc --project ${project}`);
    results.push(await node(["typescript", "bin", "tsc"], ["--project", project, "--noEmit"]));
  }
  const current = await isCurrent();
  if (!current) say("docs/api.md is not what the types say: run npm run docs");
  return sum([...results, current ? PASS : FAIL]);
}

/** The tests that lie beside what they test, of www/ and of the scripts. */
export async function unit() {
  const folder = at("build", "unit");
  rmSync(folder, { recursive: true, force: true });
  const web = await bundleTests(folder);
  if (web.length === 0) throw new Stop("no unit test was found under www/");
  const files = [...web, ...filesUnder(at("scripts"), name => name.endsWith(".test.mjs")).map(name => at("scripts", name))];
  const counts = {};
  const onLine = line => {
    say(line);
    const found = /^# (pass|fail|cancelled|skipped|todo) (\d+)$/.exec(line);
    if (found) counts[found[1]] = Number(found[2]);
  };
  const { code } = await run(process.execPath, ["--test", "--test-reporter", "tap", ...files], { onLine });
  const result = { passed: counts.pass ?? 0, failed: (counts.fail ?? 0) + (counts.cancelled ?? 0) };
  return code !== 0 && result.failed === 0 ? sum([result, FAIL]) : result;
}

/** The fixtures on all four targets, with weights stored in one way. */
export async function fixtures(quant) {
  const { passed, failed, waiting } = await parity([at("tests", "fixtures")], { quant });
  for (const { fixture, name } of waiting) say(`${fixture}: ${name} is "not yet", but is known to work`);
  say(`${passed} of ${passed + failed} cases`);
  return passed === 0 ? FAIL : { passed, failed: failed + waiting.length };
}

/** `npx blip2-web convert` writes what the native program writes. */
export const converters = () => npx();

/** The specs in Chromium, on the site that was built. */
export async function browser(tools, { quick = false, full = false } = {}) {
  const report = at("build", "browser-tests.json");
  rmSync(report, { force: true });
  const args = ["test", "--config", at("tests", "browser", "playwright.config.ts"), ...(full ? [] : ["--grep-invert", "@long"])];
  const env = { CHROMIUM: tools.chromium, SITE: quick ? at("build", "site") : at("dist"), ...(full && { FIREFOX: await firefox() }) };
  const { code } = await run(process.execPath, [nodeModule("@playwright", "test", "cli.js"), ...args], { env });
  const stats = recall(report)?.stats;
  if (!stats) return FAIL;
  const result = { passed: stats.expected, failed: stats.unexpected + stats.flaky };
  return code !== 0 && result.failed === 0 ? sum([result, FAIL]) : result;
}

/** What the page's script needs before it runs: index.html says so. */
const preloaded = html => [...html.matchAll(/rel="modulepreload" href="([^"]+)"/g)].map(([, file]) => file);

export async function sizes() {
  const { files } = await build();
  const names = {
    document: ["index.html", "style.css"],
    script: ["main.js", ...preloaded(files.get("index.html")), "worker.js"],
    cpu: ["wasm/blip2_cpu_bg.wasm"],
    webgpu: ["wasm/blip2_webgpu_bg.wasm"],
  };
  const results = Object.entries(BUDGETS).map(([name, { what, limit }]) => {
    const bytes = packed(names[name].map(file => files.get(file)));
    say(`${what}: ${size(bytes)} compressed, at most ${size(limit)}`);
    return bytes <= limit ? PASS : FAIL;
  });
  const { output } = await must("npm", ["pack", "--dry-run", "--json"], { cwd: at("package"), onLine: () => {} }, "npm pack");
  const [{ size: bytes, entryCount }] = JSON.parse(output);
  const limit = 8e6;
  say(`the npm package: ${entryCount} files, ${size(bytes)} compressed, at most ${size(limit)}`);
  return sum([...results, bytes <= limit ? PASS : FAIL]);
}

/**
 * Runs steps ({ name, what, run }) one after the other; one that fails or cannot run does not keep the next from running.
 * `only` chooses by name. Prints a table, then `N passed, N failed` as the last line, and returns the exit code.
 */
export async function runSteps(steps, only = []) {
  const unknown = only.filter(name => !steps.some(step => step.name === name));
  if (unknown.length > 0) throw new Stop(`unknown step ${unknown.join(", ")}; there are: ${steps.map(step => step.name).join(", ")}`);
  const rows = [];
  for (const step of steps.filter(({ name }) => only.length === 0 || only.includes(name))) {
    say(`\n${bold(`── ${step.name}: ${step.what}`)}`);
    const start = performance.now();
    let result = FAIL;
    try {
      result = await step.run();
    } catch (error) {
      say(error instanceof Stop ? error.message : (error.stack ?? String(error)));
    }
    rows.push({ ...result, name: step.name, time: seconds(start) });
  }
  say("");
  for (const { name, passed, failed, time } of rows)
    say(`${failed > 0 ? "FAIL" : "ok  "} ${name.padEnd(10)} ${passed} passed, ${failed} failed, ${time}`);
  const { passed, failed } = sum(rows);
  say(`\n${passed} passed, ${failed} failed`);
  return failed > 0 || passed === 0 ? 1 : 0;
}

/** Told once, before anything runs: what the browser tests will lack. */
export function missingDemo() {
  if (!existsSync(at("demo", "model"))) say("demo/model/ is missing: the browser tests that caption pictures will fail");
}
