// npm test: everything, from a bare checkout. Steps run in this order and all of them, whatever the ones before said.

import { tools } from "./bootstrap.mjs";
import { main, options, say } from "./common.mjs";
import * as steps from "./steps.mjs";

const USAGE = `npm test -- [STEP…] [--quick] [--full]
  STEP     format, lint, rust, wasm, site, sizes, types, unit, convert, parity, parity-q8, parity-q4, browser; all of them by default
  --quick  browser tests on build/site/ (without wasm-opt and minified code) instead of dist/; no sizes
  --full   long suites whole: npm run test:full`;

const add = (a, b) => ({ passed: a.passed + b.passed, failed: a.failed + b.failed });

await main(async args => {
  const { rest, quick = false, full = false, help } = options(args, { quick: false, full: false, help: false }, USAGE);
  if (help) return say(USAGE);
  const found = await tools({ tests: true });
  const all = [
    { name: "format", what: "cargo fmt, biome", run: async () => add(await steps.formatRust(), await steps.formatWeb()) },
    { name: "lint", what: "clippy on all targets, warnings denied", run: () => steps.clippy() },
    { name: "rust", what: "cargo test, on the CPU and on WebGPU", run: () => steps.rust(found, { full }) },
    { name: "wasm", what: "the wasm builds, warnings denied", run: () => steps.wasmBuilds(found) },
    { name: "site", what: quick ? "build/site/" : "dist/ and package/", run: () => steps.shipped({ quick }) },
    // The quick build is neither minified nor shrunk: nobody downloads it.
    ...(quick ? [] : [{ name: "sizes", what: "what visitors and developers download", run: () => steps.sizes() }]),
    { name: "types", what: "tsc for page, worker, tests and package", run: () => steps.types() },
    { name: "unit", what: "TypeScript tests in Node", run: () => steps.unit() },
    { name: "convert", what: "npx blip2-web convert against the native program, to the byte", run: () => steps.converters() },
    { name: "parity", what: "fixtures on four targets, f32", run: () => steps.fixtures("f32") },
    { name: "parity-q8", what: "fixtures on four targets, Q8", run: () => steps.fixtures("q8") },
    { name: "parity-q4", what: "fixtures on four targets, Q4", run: () => steps.fixtures("q4") },
    { name: "browser", what: "specs in Chromium", run: () => steps.browser(found, { quick, full }) },
  ];
  steps.missingDemo();
  return steps.runSteps(all, rest);
});
