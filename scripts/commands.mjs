// The commands that guides tell to type: whether they are there, with the options that they are given. Nothing of them is run but `--help` of scripts.
// This folder is `../blip2-web` in the README, and three levels up in examples/web/.

import { existsSync, readdirSync, readFileSync } from "node:fs";
import { ask, at, recall } from "./common.mjs";

/** Programs of others, whose options are not ours to check. */
const OTHERS = { hf: "downloads from Hugging Face's hub", aws: "uploads to S3" };

const HERE = /^\.\.\/(blip2-web|\.\.\/\.\.)\//;

/** What is wrong with a command, or null. `scripts`: what `npm run` knows where it is typed. */
export async function fault([program, ...args], scripts = recall(at("package.json")).scripts) {
  if (Object.hasOwn(OTHERS, program)) return null;
  const [first, ...rest] = args;
  if (program === "npm" && first === "install") return rest.every(isTarball) ? null : "npm pack makes another file";
  if (program === "mkdir") return null;
  if (program === "cp") return HERE.test(rest[0]) && existsSync(at(rest[0].replace(HERE, ""))) ? null : `there is no ${rest[0]}`;
  if (program === "npm" && first !== "run") return Object.hasOwn(scripts, first) ? null : "package.json has no such script";
  if (program === "npm")
    return Object.hasOwn(scripts, rest[0]) ? unknown(options(rest.slice(1)), await optionsOfScript(rest[0])) : `no script ${rest[0]}`;
  if (program === "npx")
    return first === "blip2-web" && rest[0] === "convert" ? unknown(options(rest), told(readFileSync(at("www", "cli.ts"), "utf8"))) : "none";
  if (program === "blip2") return faultOfBlip2(first, rest);
  if (program === "cargo") return faultOfCargo(first, rest);
  return "no test knows this program";
}

/** What `npm pack` calls the package, in this folder. */
function isTarball(path) {
  const { name, version } = recall(at("package.json"));
  return HERE.test(path) && path.replace(HERE, "") === `${name}-${version}.tgz`;
}

const options = words => words.filter(word => /^--./.test(word)).map(word => word.slice(2).split("=")[0]);
const told = help => [...help.matchAll(/--([a-z][a-z-]*)/g)].map(([, name]) => name);
const unknown = (asked, known) => {
  const strange = asked.filter(name => !known.includes(name));
  return strange.length > 0 ? `there is no --${strange.join(", --")}` : null;
};

/** `convert` hands everything on to the crate's program; the others tell of themselves. */
async function optionsOfScript(name) {
  if (name === "convert") return optionsIn(program("convert"), "Arguments");
  return told((await ask(process.execPath, [at("scripts", `${name}.mjs`), "--help"])) ?? "");
}

const program = name => readFileSync(at("src", "bin", `${name}.rs`), "utf8");

/** The long options that clap makes of a struct (or of a variant of an enum), and of those that it holds flattened. */
function optionsIn(source, name) {
  const body = new RegExp(`\\b${name} \\{\\n([\\s\\S]*?)\\n\\s*\\}`).exec(source)?.[1] ?? "";
  const own = [...body.matchAll(/#\[arg\(([^\]]*)\)\]\s*(\w+):/g)].filter(([, how]) => /\blong\b/.test(how));
  const held = [...body.matchAll(/#\[command\(flatten\)\]\s*\w+: (\w+)/g)].flatMap(([, type]) => optionsIn(source, `struct ${type}`));
  return [...own.map(([, how, field]) => /long = "([^"]+)"/.exec(how)?.[1] ?? field.replaceAll("_", "-")), ...held];
}

function faultOfBlip2(command = "", args) {
  const name = command.charAt(0).toUpperCase() + command.slice(1);
  const known = optionsIn(program("blip2"), name);
  if (known.length === 0) return `blip2 has no ${command}`;
  const generation = args.flatMap((word, i) => (args[i - 1] === "--option" ? [word.split("=")[0]] : []));
  const names = readFileSync(at("docs", "api.md"), "utf8");
  const strange = generation.find(name => !new RegExp(`readonly ${name}\\?:`).test(names));
  return unknown(options(args), known) ?? (strange === undefined ? null : `generate has no ${strange}`);
}

function faultOfCargo(command, args) {
  const manifest = readFileSync(at("Cargo.toml"), "utf8");
  const feature = args[args.indexOf("--features") + 1];
  const there = new RegExp(`^${feature} = (\\[|.*optional = true)`, "m");
  if (args.includes("--features") && !there.test(manifest)) return `no feature ${feature}`;
  const filter = args[args.indexOf("--") + 1];
  if (command !== "bench") return "no test knows this command of cargo";
  if (!args.includes("--")) return null;
  const benches = readdirSync(at("benches")).map(name => readFileSync(at("benches", name), "utf8"));
  return filter.split("/").every(part => benches.some(text => text.includes(part))) ? null : `no bench is called ${filter}`;
}
