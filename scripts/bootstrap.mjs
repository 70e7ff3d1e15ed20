// Brings a bare machine to where the other scripts work, and says each thing it does. Run again it looks and does nothing.
//
//   tools()                 npm packages, Rust for wasm32, wasm-bindgen
//   tools({ tests: true })  and Chromium, and a Vulkan driver that runs on the CPU
//
// Rust for wasm32 comes from rustup where it can; elsewhere from Debian's packages, whose standard library is compiled for wasm32 once.

import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ask, at, cache, filesUnder, hash, isMain, main, must, nodeModule, note, recall, run, say, Stop, which } from "./common.mjs";

const TARGET = "wasm32-unknown-unknown";
const STAMP = at("build", "bootstrap.json");
const linux = process.platform === "linux";
const asRoot = process.getuid?.() === 0;

/**
 * The tools, installed where they were missing:
 * { wasm: { cargo, env, id }, wasmBindgen, chromium?, lavapipe? }. `wasm.id` names the compiler; `env` is what its cargo needs.
 */
export async function tools({ tests = false } = {}) {
  const key = await stampKey();
  const earlier = recall(STAMP);
  const known = earlier?.key === key && existing(earlier.tools) ? earlier.tools : null;
  if (known && (!tests || known.chromium)) return known;

  checkNode();
  await npmPackages();
  await nativeRust();
  const found = known ?? { wasm: await wasmRust(), wasmBindgen: await wasmBindgen() };
  if (tests) Object.assign(found, { chromium: await chromium(), lavapipe: await lavapipe() });
  note(STAMP, { key: await stampKey(), tools: found });
  return found;
}

/** Changes when any of what was looked at may have: this script, the locked versions, the Rust toolchain, what is on the PATH. */
async function stampKey() {
  const lock = nodeModule(".package-lock.json");
  const files = [at("scripts", "bootstrap.mjs"), at("package-lock.json"), at("Cargo.lock"), lock].map(path =>
    existsSync(path) ? readFileSync(path) : "",
  );
  const programs = ["cargo", "rustup", "wasm-bindgen"].map(name => which(name) ?? "");
  return hash(...files, ...programs, process.env.CHROMIUM ?? "", (await ask("rustc", ["-vV"])) ?? "", process.version);
}

const existing = found => [found.wasm.cargo, found.wasmBindgen, found.chromium ?? found.wasmBindgen].every(path => existsSync(path));

function checkNode() {
  const major = Number(process.versions.node.split(".")[0]);
  if (major < 20) throw new Stop(`Node ${process.versions.node} is too old: 20 or later is needed`);
}

async function npmPackages() {
  const installed = recall(nodeModule(".blip2-web.json"));
  const lock = hash(readFileSync(at("package-lock.json")));
  if (installed?.lock === lock && installed.platform === process.platform) return;
  say("npm: installing the packages of package-lock.json");
  const npm = process.platform === "win32" ? "npm.cmd" : "npm";
  await must(npm, ["ci", "--no-audit", "--no-fund"], { env: { npm_config_loglevel: "error" } }, "npm ci");
  note(nodeModule(".blip2-web.json"), { lock, platform: process.platform });
}

async function nativeRust() {
  if (!which("cargo")) throw new Stop("cargo is missing: install Rust 1.95 or later with rustup, then run this again");
  const version = /(\d+)\.(\d+)/.exec((await ask("rustc", ["--version"])) ?? "");
  if (!version || Number(version[1]) * 1000 + Number(version[2]) < 1095) {
    throw new Stop(`Rust 1.95 or later is needed, found ${version?.[0] ?? "none"}: run "rustup update stable"`);
  }
  // cargo links with the system's C compiler, and some crates compile C.
  if (linux && !which("cc", "gcc", "clang")) await apt("gcc", "libc6-dev");
}

// --- Rust for wasm32 ---------------------------------------------------------------------------------------------------------------------------

/** A compiler counts as able when it has compiled something: folders may be there and hold another version's library. */
async function compiles(rustc, env = {}) {
  const folder = join(tmpdir(), `blip2-web-probe-${process.pid}`);
  mkdirSync(folder, { recursive: true });
  try {
    const source = join(folder, "probe.rs");
    writeFileSync(source, "pub fn probe() -> String { String::new() }\n");
    const { code } = await run(rustc, ["--target", TARGET, "--crate-type", "lib", "--out-dir", folder, source], { env, quiet: true });
    return code === 0;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

async function wasmRust() {
  const own = async () => ({ cargo: which("cargo"), env: {}, id: await ask("rustc", ["-vV"]) });
  if (await compiles("rustc")) return own();
  if (which("rustup")) {
    say(`rust: asking rustup for ${TARGET}`);
    const { code } = await run("rustup", ["target", "add", TARGET], { quiet: true, timeout: 120_000 });
    if (code === 0 && (await compiles("rustc"))) return own();
    say("rust: rustup cannot add it here; trying the system's packages");
  }
  return debianRust();
}

const DEBIAN = {
  rustc: "/usr/bin/rustc",
  cargo: "/usr/bin/cargo",
  lib: `/usr/lib/rustlib/${TARGET}/lib`,
  source: "/usr/lib/rustlib/src/rust/library",
};

async function debianRust() {
  const toolchain = async () => ({
    cargo: DEBIAN.cargo,
    env: { RUSTC: DEBIAN.rustc, CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER: await wasmLinker() },
    id: await ask(DEBIAN.rustc, ["-vV"]),
  });
  if (existsSync(DEBIAN.cargo) && (await compiles(DEBIAN.rustc))) return toolchain();
  if (!linux || !which("apt-get")) {
    throw new Stop(`the Rust toolchain has no ${TARGET}: run "rustup target add ${TARGET}"`);
  }
  if (!existsSync(DEBIAN.rustc) || !existsSync(DEBIAN.cargo) || !existsSync(DEBIAN.source)) await apt("rustc-web", "cargo-web", "rust-web-src");
  if (!(await compiles(DEBIAN.rustc))) await standardLibrary();
  if (!(await compiles(DEBIAN.rustc)))
    throw new Stop(`${DEBIAN.rustc} does not compile for ${TARGET}, though its library was built: see ${DEBIAN.lib}`);
  return toolchain();
}

/** Compiles the standard library for wasm32 from Debian's source with Debian's compiler (another version's would not fit). */
async function standardLibrary() {
  if (!asRoot) throw new Stop(`the Rust standard library for ${TARGET} has to be put into /usr/lib/rustlib: run "npm run build" once as root`);
  say(`rust: compiling the standard library for ${TARGET} (about a minute, once per machine)`);
  const folder = cache("std");
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(join(folder, "src"), { recursive: true });
  writeFileSync(join(folder, "Cargo.toml"), '[package]\nname = "wasm_std"\nedition = "2024"\n[workspace]\n');
  writeFileSync(join(folder, "src", "lib.rs"), "");
  const env = {
    RUSTC_BOOTSTRAP: "1",
    RUSTC: DEBIAN.rustc,
    RUSTFLAGS: undefined,
    RUSTUP_TOOLCHAIN: undefined,
    CARGO_TARGET_DIR: join(folder, "target"),
  };
  await must(
    DEBIAN.cargo,
    ["build", "--quiet", "-Zbuild-std=std,panic_abort", "--target", TARGET, "--release"],
    { cwd: folder, env },
    "the standard library",
  );
  const built = join(folder, "target", TARGET, "release", "deps");
  const libraries = filesUnder(built, name => name.endsWith(".rlib") && !name.startsWith("libwasm_std"));
  // Put in place by one rename: an interrupted copy would look like a library.
  const draft = `${DEBIAN.lib}.part`;
  rmSync(draft, { recursive: true, force: true });
  rmSync(DEBIAN.lib, { recursive: true, force: true });
  mkdirSync(draft, { recursive: true });
  for (const name of libraries) writeFileSync(join(draft, name), readFileSync(join(built, name)));
  renameSync(draft, DEBIAN.lib);
  rmSync(folder, { recursive: true, force: true });
}

/** Debian's compiler names no linker for wasm: the LLD of a rustup toolchain, or the system's. */
async function wasmLinker() {
  const system = () =>
    which("wasm-ld") ??
    filesUnder("/usr/bin", name => /^wasm-ld-\d+$/.test(name))
      .map(name => join("/usr/bin", name))
      .at(-1);
  const sysroot = await ask("rustc", ["--print", "sysroot"]);
  const host = /^host: (.*)$/m.exec((await ask("rustc", ["-vV"])) ?? "")?.[1];
  const rustLld = sysroot && host ? join(sysroot, "lib", "rustlib", host, "bin", "rust-lld") : null;
  if (rustLld && existsSync(rustLld)) return rustLld;
  if (!system()) await apt("lld");
  return system();
}

// --- wasm-bindgen ------------------------------------------------------------------------------------------------------------------------------

/** Glue and crate must be of one version: the crate's, from Cargo.lock. */
async function wasmBindgen() {
  const version = /name = "wasm-bindgen"\nversion = "([^"]+)"/.exec(readFileSync(at("Cargo.lock"), "utf8"))?.[1];
  if (!version) throw new Stop("Cargo.lock names no wasm-bindgen");
  const folder = cache(`wasm-bindgen-${version}`);
  const program = process.platform === "win32" ? "wasm-bindgen.exe" : "wasm-bindgen";
  for (const path of [join(folder, "bin", program), which("wasm-bindgen")]) {
    if (path && existsSync(path) && (await ask(path, ["--version"])) === `wasm-bindgen ${version}`) return path;
  }
  say(`wasm-bindgen: compiling version ${version} (some minutes, once per machine)`);
  const target = join(folder, "target");
  // Without --locked: the versions it locks are older than some compilers accept.
  const args = ["install", "wasm-bindgen-cli", "--version", version, "--root", folder, "--force", "--quiet"];
  await must("cargo", args, { env: { CARGO_TARGET_DIR: target, RUSTFLAGS: undefined } }, "wasm-bindgen-cli");
  rmSync(target, { recursive: true, force: true });
  return join(folder, "bin", program);
}

// --- what tests need ---------------------------------------------------------------------------------------------------------------------------

const MAC = "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome";
const browser = () => which(process.env.CHROMIUM || "chromium", "chromium-browser", "google-chrome-stable", "google-chrome", "chrome", MAC);

async function chromium() {
  if (process.env.CHROMIUM && !which(process.env.CHROMIUM)) throw new Stop(`CHROMIUM=${process.env.CHROMIUM} is not there`);
  if (!browser() && linux && which("apt-get")) await apt("chromium");
  const path = browser();
  if (!path) throw new Stop("Chromium is missing: install it, or set CHROMIUM to its path");
  return path;
}

/** A second browser, which the long suite alone needs. */
export async function firefox() {
  const found = () => which(process.env.FIREFOX || "firefox-esr", "firefox");
  if (!found() && linux && which("apt-get")) await apt("firefox-esr");
  const path = found();
  if (!path) throw new Stop("Firefox is missing: install it, or set FIREFOX to its path");
  return path;
}

/** Whether native WebGPU tests run on Mesa's CPU driver: on Linux always, so that they say the same on every machine. Elsewhere they use the GPU. */
async function lavapipe() {
  if (!linux) return false;
  const there = () =>
    ["/usr/share/vulkan/icd.d", "/etc/vulkan/icd.d"].some(folder => filesUnder(folder).some(name => name.startsWith("lvp_icd"))) &&
    ["/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/usr/lib"].some(folder => existsSync(join(folder, "libvulkan.so.1")));
  if (!there()) await apt("mesa-vulkan-drivers", "libvulkan1");
  return true;
}

async function apt(...packages) {
  const command = `apt-get install -y ${packages.join(" ")}`;
  if (!which("apt-get")) throw new Stop(`these are missing (under their Debian names): ${packages.join(" ")}`);
  if (!asRoot) throw new Stop(`these packages are missing; install them and run this again:\n  sudo ${command}`);
  say(`apt: installing ${packages.join(" ")}`);
  const env = { DEBIAN_FRONTEND: "noninteractive" };
  const install = () => run("apt-get", ["install", "-y", "-qq", "--no-install-recommends", ...packages], { env, quiet: true });
  // The lists of a fresh machine are empty or old: they are fetched when the first try says so.
  let result = await install();
  if (result.code !== 0) {
    await run("apt-get", ["update", "-qq"], { env, quiet: true });
    result = await install();
  }
  if (result.code !== 0) throw new Stop(`${command}: failed\n${result.output}`);
}

/** The environment of native tests: those on WebGPU's interface choose Mesa's CPU driver where it is the one; it complains where it has no such folder. */
export const nativeEnv = found =>
  found.lavapipe ? { CUBECL_WGPU_DEFAULT_DEVICE: "Cpu", XDG_RUNTIME_DIR: process.env.XDG_RUNTIME_DIR ?? tmpdir() } : {};

if (isMain(import.meta)) {
  await main(async args => {
    const found = await tools({ tests: args.includes("--tests") });
    say(JSON.stringify(found, null, 2));
  });
}
