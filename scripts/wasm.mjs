// The crate as wasm: its two builds for browsers and the converter for Node. cargo, wasm-bindgen, the guard, wasm-opt.

import { copyFileSync, existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, statSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { at, bold, cache, filesUnder, hash, hashFiles, must, nodeModule, note, recall, run, say, seconds, size, Stop, targetDir } from "./common.mjs";

export const DEVICES = ["cpu", "webgpu"];
export const TARGET = "wasm32-unknown-unknown";

/** The glue that wasm-bindgen writes lies among the sources that import it; git ignores it. */
export const glueDir = at("www", "wasm");
export const crate = device => `blip2_${device}`;
export const CONVERTER = crate("convert");
export const wasmName = device => `${crate(device)}_bg.wasm`;

// In the shipped wasm the CPU's arithmetic is worth speed, the other's is on the GPU: there it is size that counts.
// precompute-propagate writes a constant vector where it is used instead of keeping it in a local, and V8 builds it anew each time: products with q4 weights
// are a quarter slower after it (docs/performance.md).
const OPT = { cpu: ["-O2", "--skip-pass=precompute-propagate"], webgpu: ["-Oz"] };
const FEATURES = [
  "--enable-simd",
  "--enable-bulk-memory",
  "--enable-nontrapping-float-to-int",
  "--enable-sign-ext",
  "--enable-mutable-globals",
  "--enable-multivalue",
  "--enable-reference-types",
  "--enable-extended-const",
];

/** What bench, parity and the checks of kernels alone need (cargo feature `workbench`) is a wasm of its own, so that nobody downloads it. */
const workbenchDir = at("build", "wasm-workbench");

/**
 * Compiles what is stale into www/wasm/ and returns { device, path, warnings } for each: `path` is the wasm to ship, shrunk when `optimize` is asked for;
 * `warnings` is the number of the compiler's.
 */
export async function wasm(tools, { optimize = false, devices = DEVICES } = {}) {
  const built = [];
  for (const device of devices) {
    const plain = join(glueDir, wasmName(device));
    const warnings = await compile(tools, { features: device, glue: join(glueDir, `${crate(device)}.js`) });
    built.push({ device, warnings, path: optimize ? await shrink(plain, device) : plain });
  }
  return built;
}

/** The engine and what measures it and holds it to its references: { device, glue, path, warnings }. On the CPU it can be made as fast as the shipped one. */
export async function workbenchWasm(tools, device, { optimize = false } = {}) {
  const glue = join(workbenchDir, `${crate(device)}_workbench.js`);
  mkdirSync(workbenchDir, { recursive: true });
  const warnings = await compile(tools, { features: `${device},workbench`, glue });
  const plain = glue.replace(/\.js$/, "_bg.wasm");
  return { device: `${device}, workbench`, glue, path: optimize && device === "cpu" ? await shrink(plain, device) : plain, warnings };
}

/** Puts glue and wasm of the workbench into a folder that is served. Returns the name of the glue. */
export async function putWorkbench(tools, device, folder, options) {
  const { glue, path } = await workbenchWasm(tools, device, options);
  mkdirSync(folder, { recursive: true });
  for (const file of [glue, path]) copyFileSync(file, join(folder, basename(file)));
  return basename(glue);
}

/** The converter alone (cargo feature `convert`), for Node: { device, path, warnings }. Small as it is, and never downloaded by a page, it is shipped as the compiler made it. */
export async function convertWasm(tools) {
  const glue = join(glueDir, `${CONVERTER}.js`);
  const warnings = await compile(tools, { features: "cpu,convert", glue });
  return { device: "convert", path: glue.replace(/\.js$/, "_bg.wasm"), warnings };
}

async function compile(tools, { features, glue }) {
  const [folder, name] = [dirname(glue), basename(glue, ".js")];
  const stamp = at("build", `wasm-${features.replace(",", "-")}.json`);
  const inputs = hash(
    hashFiles(at(), ["Cargo.toml", "Cargo.lock", "scripts/wasm.mjs"]),
    hashFiles(at("src"), filesUnder(at("src"))),
    tools.wasm.id,
    tools.wasmBindgen,
    features,
  );
  const earlier = recall(stamp);
  const outputs = [`${name}.js`, `${name}.d.ts`, `${name}_bg.wasm`].map(output => join(folder, output));
  if (earlier?.inputs === inputs && outputs.every(output => existsSync(output))) return earlier.warnings;

  say(bold(`wasm: compiling for ${features}`));
  const start = performance.now();
  const { artifact, warnings } = await cargo(tools, features);
  const args = ["--target", "web", "--out-dir", folder, "--out-name", name, "--omit-default-module-path", artifact];
  await must(tools.wasmBindgen, args, {}, "wasm-bindgen");
  const [script, , wasmFile] = outputs;
  guard(script);
  guard(wasmFile);
  note(stamp, { inputs, warnings });
  say(`wasm: ${features}, ${size(statSync(wasmFile).size)}, ${seconds(start)}`);
  return warnings;
}

/** The raw wasm and how many warnings the compiler gave for this crate (cargo repeats them when nothing had to be compiled). */
async function cargo(tools, features) {
  const args = ["build", "--release", "--lib", "--target", TARGET, "--no-default-features", "--features", features];
  const env = {
    ...tools.wasm.env,
    RUSTFLAGS: '-C target-feature=+simd128 --cfg getrandom_backend="wasm_js"',
    CARGO_TARGET_DIR: targetDir("wasm"),
  };
  let warnings = 0;
  let artifact = null;
  const onLine = line => {
    const message = line.startsWith("{") ? JSON.parse(line) : null;
    if (message?.reason === "compiler-message" && message.message.rendered) {
      process.stderr.write(message.message.rendered);
      if (message.message.level === "warning" && message.message.spans.length > 0) warnings += 1;
    }
    if (message?.reason === "compiler-artifact" && message.target.name === "blip2_web") {
      artifact = message.filenames.find(name => name.endsWith(".wasm")) ?? artifact;
    }
  };
  const result = await run(tools.wasm.cargo, [...args, "--message-format", "json-diagnostic-rendered-ansi"], { env, onLine });
  if (result.code !== 0 || !artifact) throw new Stop(`cargo ${args.join(" ")}: failed with exit code ${result.code}`);
  return { artifact, warnings };
}

/**
 * Where the linker has wrapped the exports, each call from JavaScript first runs every static constructor: half a millisecond a call, seconds a word.
 * The wrappers' names say so. They are left out when src/api calls `__wasm_call_ctors` itself, once, at the start.
 */
function guard(path) {
  if (!readFileSync(path).includes("command_export")) return;
  throw new Stop(`${path}: its exports are wrapped ("command_export"): the start function of src/api must call __wasm_call_ctors itself`);
}

/** wasm-opt takes minutes, so what it made of a wasm is kept by the content of that wasm, between checkouts too. */
async function shrink(path, device) {
  const options = [...OPT[device], ...FEATURES];
  const version = recall(nodeModule("binaryen", "package.json"))?.version;
  const folder = cache("wasm-opt");
  const shrunk = join(folder, `${device}-${hash(readFileSync(path), version, ...options).slice(0, 32)}.wasm`);
  if (!existsSync(shrunk)) {
    say(`wasm-opt ${OPT[device].join(" ")}: ${device} (some minutes; kept until the wasm changes)`);
    const start = performance.now();
    mkdirSync(folder, { recursive: true });
    const draft = `${shrunk}.${process.pid}.part`;
    await must(process.execPath, [nodeModule("binaryen", "bin", "wasm-opt"), path, ...options, "-o", draft], {}, "wasm-opt");
    renameSync(draft, shrunk);
    forget(folder, device);
    say(`wasm-opt: ${device}, ${size(statSync(path).size)} → ${size(statSync(shrunk).size)}, ${seconds(start)}`);
  }
  guard(shrunk);
  const shipped = at("build", "wasm", basename(path));
  mkdirSync(at("build", "wasm"), { recursive: true });
  copyFileSync(shrunk, shipped);
  return shipped;
}

/** Keeps the last six of a device. */
function forget(folder, device) {
  const kept = readdirSync(folder)
    .filter(name => name.startsWith(`${device}-`) && name.endsWith(".wasm"))
    .map(name => ({ name, time: statSync(join(folder, name)).mtimeMs }))
    .sort((a, b) => b.time - a.time);
  for (const { name } of kept.slice(6)) rmSync(join(folder, name));
}
