// `npx blip2-web convert` against the native program: the same folders to the byte, and the same refusals.

import { closeSync, copyFileSync, existsSync, mkdirSync, openSync, readFileSync, rmSync, truncateSync, writeFileSync, writeSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { tools } from "./bootstrap.mjs";
import { at, filesUnder, must, run, say, targetDir } from "./common.mjs";
import { convertWasm } from "./wasm.mjs";

const FIXTURES = at("tests", "fixtures");
const QUANTS = ["f32", "f16", "q8", "q4"];

/** The package's program, with its wasm beside it. */
async function packaged(found) {
  const { build } = await import("esbuild");
  const { path } = await convertWasm(found);
  const folder = at("build", "npx");
  mkdirSync(join(folder, "wasm"), { recursive: true });
  await build({
    entryPoints: [at("www", "cli.ts")],
    outfile: join(folder, "cli.js"),
    bundle: true,
    format: "esm",
    platform: "node",
    target: "node20",
  });
  copyFileSync(path, join(folder, "wasm", basename(path)));
  // Beside it there is no package.json that says so.
  writeFileSync(join(folder, "package.json"), '{ "type": "module" }\n');
  return join(folder, "cli.js");
}

/** Every checkpoint of the fixtures, by its path there. */
const checkpoints = () =>
  filesUnder(FIXTURES, name => /(^|\/)model\.safetensors(\.index\.json)?$/.test(name))
    .map(dirname)
    .filter((name, place, all) => all.indexOf(name) === place && existsSync(join(FIXTURES, name, "config.json")));

/** A file that differs, or is in one folder alone; undefined where there is none. */
function difference(one, other) {
  const names = [...new Set([...filesUnder(one), ...filesUnder(other)])];
  if (names.length === 0) return "both are empty";
  return names.find(name => {
    const [a, b] = [join(one, name), join(other, name)];
    return !existsSync(a) || !existsSync(b) || !readFileSync(a).equals(readFileSync(b));
  });
}

/** Returns { passed, failed }. */
export async function npx() {
  const found = await tools();
  await must("cargo", ["build", "--bin", "convert"], {}, "cargo build");
  const native = targetDir("debug", process.platform === "win32" ? "convert.exe" : "convert");
  const script = await packaged(found);
  const scratch = at("build", "npx", "folders");
  const count = { passed: 0, failed: 0 };
  const tell = (what, wrong) => {
    count[wrong ? "failed" : "passed"] += 1;
    if (wrong) say(`FAIL ${what}: ${wrong}`);
  };
  const both = async (src, { args = [], before = () => {} } = {}) => {
    rmSync(scratch, { recursive: true, force: true });
    const results = [];
    for (const name of ["native", "npx"]) {
      const dst = join(scratch, name);
      before(dst);
      const command = name === "native" ? [native] : [process.execPath, script, "convert"];
      results.push({ dst, ...(await run(command[0], [...command.slice(1), src, dst, ...args], { quiet: true })) });
    }
    return results;
  };

  const list = checkpoints();
  const same = [...list.flatMap(name => QUANTS.map(quant => [join(FIXTURES, name), ["--quant", quant]])), ...mixed()];
  for (const [src, args] of same) {
    const [one, other] = await both(src, { args });
    const ended = [one, other].find(({ code }) => code !== 0);
    const wrong = ended ? ended.output.trim() : one.output === other.output ? difference(one.dst, other.dst) : `says ${other.output}`;
    tell(`${src} ${args.join(" ")}`, wrong);
  }
  say(`${same.length} conversions of ${list.length} checkpoints`);

  for (const [what, code, src, options] of refusals()) {
    const [one, other] = await both(src, options);
    const status = one.code === other.code && one.code !== 0;
    const first = ({ output }) => /^error\[[a-z-]+\]/m.exec(output)?.[0];
    const left = filesUnder(scratch, name => name.includes("unfinished")).length > 0;
    const told = code === null || (first(one) === code && first(other) === code);
    tell(
      what,
      status && told && !left
        ? null
        : `${one.code} ${one.output.trim()}\n  ${other.code} ${other.output.trim()}${left ? "\n  a folder was left" : ""}`,
    );
  }
  rmSync(scratch, { recursive: true, force: true });
  rmSync(at("build", "npx", "large"), { recursive: true, force: true });
  return list.length > 4 ? count : { ...count, failed: count.failed + 1 };
}

/** A checkpoint whose weights lie behind the first 4 GiB: in front of them is a buffer that no model needs, and that takes no room on the disk. */
function large() {
  const [opt, folder] = [join(FIXTURES, "opt"), at("build", "npx", "large")];
  const gap = 9 * 2 ** 29;
  const source = readFileSync(join(opt, "model.safetensors"));
  const end = 8 + Number(source.readBigUInt64LE());
  const header = JSON.parse(source.subarray(8, end));
  for (const tensor of Object.values(header)) if (tensor.data_offsets) tensor.data_offsets = tensor.data_offsets.map(place => place + gap);
  header["language_model.position_ids"] = { dtype: "U8", shape: [gap / 2 ** 20, 2 ** 20], data_offsets: [0, gap] };
  const json = Buffer.from(JSON.stringify(header));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(json.length));
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
  copyFileSync(join(opt, "config.json"), join(folder, "config.json"));
  const file = openSync(join(folder, "model.safetensors"), "w");
  writeSync(file, Buffer.concat([length, json]));
  writeSync(file, source, end, source.length - end, 8 + json.length + gap);
  closeSync(file);
  return folder;
}

/** Every other option, and a file larger than WebAssembly's memory. */
const mixed = () => {
  const stages = ["--quant", "q4", "--quant-vision", "f16", "--quant-qformer", "q8", "--quant-projection", "f32", "--quant-language", "q8"];
  const words = ["--ui", at("demo", "ui.json"), "--source", "here", "--licence", "MIT"];
  return [
    [join(FIXTURES, "opt"), [...stages, ...words]],
    [large(), []],
    [join(FIXTURES, "itm"), ["--as", "Blip2VisionModelWithProjection", "--force"]],
  ];
};

/** [what, the code that both tell (null: clap has its own words natively), SRC, how] */
function refusals() {
  const opt = join(FIXTURES, "opt");
  const spoiled = at("build", "npx", "spoiled");
  rmSync(spoiled, { recursive: true, force: true });
  mkdirSync(spoiled, { recursive: true });
  for (const name of ["config.json", "model.safetensors"]) copyFileSync(join(opt, name), join(spoiled, name));
  truncateSync(join(spoiled, "model.safetensors"), 100_000);
  const full = dst => {
    mkdirSync(dst, { recursive: true });
    writeFileSync(join(dst, "kept"), "kept");
  };
  return [
    ["no checkpoint", "error[file]", at("build", "npx", "missing"), {}],
    ["no weights", "error[file]", at("tests", "fixtures", "images"), {}],
    ["a cut file", "error[weight-invalid]", spoiled, {}],
    ["a folder that is there", "error[file]", opt, { before: full }],
    ["weights of another class", "error[weight-missing]", opt, { args: ["--as", "Blip2ForImageTextRetrieval"] }],
    ["layers of a checkpoint", "error[input-invalid]", opt, { args: ["--layers", "1"] }],
    ["no such shapes", "error[input-invalid]", "synthetic:blip3", {}],
    ["words that are no words", "error[config-invalid]", opt, { args: ["--ui", at("Cargo.toml")] }],
    ["no such file of words", "error[file]", opt, { args: ["--ui", at("build", "npx", "missing.json")] }],
  ];
}
