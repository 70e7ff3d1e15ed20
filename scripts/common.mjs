// What every script needs: where things are, how a command is run, how a thing is known to be unchanged.

import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { homedir } from "node:os";
import { delimiter, dirname, isAbsolute, join, relative, resolve, sep } from "node:path";
import { fileURLToPath } from "node:url";

export const root = resolve(dirname(fileURLToPath(import.meta.url)), "..");
export const at = (...parts) => join(root, ...parts);

/** What is worth keeping between checkouts: tools that were compiled, wasm that was shrunk. */
export const cache = (...parts) => join(process.env.XDG_CACHE_HOME || join(homedir(), ".cache"), "blip2-web", ...parts);

/** Cargo's target directory; the wasm builds have one of their own inside, since their flags differ. */
export const targetDir = (...parts) => join(resolve(root, process.env.CARGO_TARGET_DIR || "target"), ...parts);

const colour = process.stdout.isTTY && !process.env.NO_COLOR;
export const bold = text => (colour ? `\x1b[1m${text}\x1b[0m` : text);

/** A line about what a script is doing. */
export const say = line => speak(line);
let speak = console.log;

/** From now on standard output is for a script's result alone, which a program reads. */
export function sayOnStderr() {
  speak = console.error;
}

/** A failure whose message is all that the reader needs: no stack. */
export class Stop extends Error {}

/** Runs a script's main function. A Stop prints its message, anything else its stack; both end with exit code 1. */
export async function main(run) {
  try {
    process.exitCode = (await run(process.argv.slice(2))) ?? 0;
  } catch (error) {
    console.error(error instanceof Stop ? `\n${error.message}` : error);
    process.exitCode = 1;
  }
}

/** Whether the module is the script that node was asked to run. */
export const isMain = meta => process.argv[1] !== undefined && resolve(process.argv[1]) === fileURLToPath(meta.url);

/**
 * Runs a command in the repository's root and waits for its end.
 * `env` is added to the environment (undefined removes a name); `quiet` keeps the output from the terminal; `onLine` sees standard output line by line
 * instead of the terminal; `timeout` ends it after so many milliseconds without a word from it.
 * Returns { code, output }, output being what `quiet` or `onLine` caught.
 */
export function run(command, args, { env = {}, quiet = false, onLine, cwd = root, timeout } = {}) {
  return new Promise(done => {
    const stdio = ["ignore", quiet || onLine ? "pipe" : "inherit", quiet ? "pipe" : "inherit"];
    const child = spawn(command, args, { cwd, env: environment(env), stdio });
    let output = "";
    let rest = "";
    let clock;
    const wind = () => {
      clearTimeout(clock);
      if (timeout) clock = setTimeout(() => child.kill("SIGKILL"), timeout);
    };
    const take = text => {
      wind();
      output += text;
      if (!onLine) return;
      const lines = (rest + text).split(/\r?\n/);
      rest = lines.pop() ?? "";
      for (const line of lines) onLine(line);
    };
    wind();
    for (const stream of [child.stdout, child.stderr]) stream?.setEncoding("utf8").on("data", take);
    child.on("error", error => {
      clearTimeout(clock);
      done({ code: 127, output: `${output}${error.message}` });
    });
    child.on("close", code => {
      clearTimeout(clock);
      if (onLine && rest !== "") onLine(rest);
      done({ code: code ?? 137, output });
    });
  });
}

/** The same, where a failure ends the script with `why`. */
export async function must(command, args, options = {}, why = `${command} ${args.join(" ")}`) {
  const result = await run(command, args, options);
  if (result.code !== 0) throw new Stop(`${why}: failed with exit code ${result.code}${options.quiet ? `\n${result.output}` : ""}`);
  return result;
}

/** Standard output of a command, trimmed, or null where it fails or does not exist. */
export async function ask(command, args, options = {}) {
  const { code, output } = await run(command, args, { ...options, quiet: true });
  return code === 0 ? output.trim() : null;
}

function environment(changes) {
  const env = { ...process.env };
  for (const [name, value] of Object.entries(changes)) {
    if (value === undefined) delete env[name];
    else env[name] = value;
  }
  return env;
}

/** The first of these programs that is on the PATH, as a path. */
export function which(...names) {
  const endings = process.platform === "win32" ? [".exe", ".cmd", ""] : [""];
  for (const name of names) {
    if (isAbsolute(name)) {
      if (existsSync(name)) return name;
      continue;
    }
    for (const folder of (process.env.PATH ?? "").split(delimiter)) {
      for (const ending of endings) {
        const path = join(folder, name + ending);
        if (folder !== "" && existsSync(path)) return path;
      }
    }
  }
  return null;
}

/** npm's own programs are started by node itself: the same on every system. */
export const nodeModule = (...parts) => at("node_modules", ...parts);

/** All files below a folder, as paths with / relative to it, sorted. A folder that is not there has none. */
export function filesUnder(folder, keep = () => true) {
  if (!existsSync(folder)) return [];
  const found = [];
  const walk = inside => {
    for (const entry of readdirSync(inside, { withFileTypes: true })) {
      const path = join(inside, entry.name);
      if (entry.isDirectory()) walk(path);
      else if (entry.isFile()) {
        const name = relative(folder, path).split(sep).join("/");
        if (keep(name)) found.push(name);
      }
    }
  };
  walk(folder);
  return found.sort();
}

/** SHA-256, in hex, of strings and buffers in a row; each is counted with its length, so that none runs into the next. */
export function hash(...parts) {
  const sum = createHash("sha256");
  for (const part of parts) {
    const bytes = Buffer.from(part);
    sum.update(`${bytes.length}\n`).update(bytes);
  }
  return sum.digest("hex");
}

/** SHA-256 of files with their names: changes when any of them does. */
export const hashFiles = (folder, names) => hash(...names.flatMap(name => [name, readFileSync(join(folder, name))]));

/** Writes whole or not at all, and leaves a file alone that holds this already (so that its time stays). Returns whether it wrote. */
export function write(path, content) {
  const bytes = Buffer.from(content);
  if (existsSync(path) && readFileSync(path).equals(bytes)) return false;
  mkdirSync(dirname(path), { recursive: true });
  const draft = `${path}.${process.pid}.part`;
  writeFileSync(draft, bytes);
  renameSync(draft, path);
  return true;
}

/** What was written down about an earlier run, or null. */
export function recall(path) {
  try {
    return JSON.parse(readFileSync(path, "utf8"));
  } catch {
    return null;
  }
}
export const note = (path, value) => write(path, `${JSON.stringify(value, null, 2)}\n`);

export function size(bytes) {
  if (bytes < 1000) return `${bytes} B`;
  return bytes < 1e6 ? `${(bytes / 1e3).toFixed(1)} kB` : `${(bytes / 1e6).toFixed(2)} MB`;
}
export const seconds = since => `${((performance.now() - since) / 1000).toFixed(1)} s`;

/**
 * Reads `--name value`, `--name=value` and `--name`: flags maps each known name to true (takes a value) or false (does not).
 * Returns { rest, ...values }. Unknown flags are refused with `usage`.
 */
export function options(args, flags, usage) {
  const values = { rest: [] };
  const waiting = [...args];
  while (waiting.length > 0) {
    const arg = waiting.shift();
    if (!arg.startsWith("--")) {
      values.rest.push(arg);
      continue;
    }
    const [name, inline] = arg.slice(2).split(/=(.*)/s, 2);
    if (!Object.hasOwn(flags, name)) throw new Stop(`unknown option ${arg}\n${usage}`);
    if (!flags[name]) values[name] = true;
    else {
      const value = inline ?? waiting.shift();
      if (value === undefined) throw new Stop(`${arg} needs a value\n${usage}`);
      values[name] = value;
    }
  }
  return values;
}
