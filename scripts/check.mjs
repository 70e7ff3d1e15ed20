// npm run check: what a commit needs, cheapest first.

import { tools } from "./bootstrap.mjs";
import { main, options, say } from "./common.mjs";
import * as steps from "./steps.mjs";

const USAGE = "npm run check -- [rustfmt|biome|clippy|wasm|types|docs|sizes…]   all of them by default";

await main(async args => {
  const { rest, help } = options(args, { help: false }, USAGE);
  if (help) return say(USAGE);
  const found = await tools();
  const all = [
    { name: "rustfmt", what: "cargo fmt", run: () => steps.formatRust() },
    { name: "biome", what: "formats and lints of what is not Rust", run: () => steps.formatWeb() },
    { name: "clippy", what: "all targets, warnings denied", run: () => steps.clippy() },
    { name: "docs", what: "cargo doc, warnings denied", run: () => steps.docs() },
    { name: "wasm", what: "the wasm builds, warnings denied", run: () => steps.wasmBuilds(found) },
    { name: "types", what: "tsc for page, worker, tests and package", run: () => steps.types() },
    { name: "sizes", what: "what visitors and developers download", run: () => steps.shipped().then(() => steps.sizes()) },
  ];
  return steps.runSteps(all, rest);
});
