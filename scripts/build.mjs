// npm run build: dist/ (the site) and package/ (the npm package), from what is stale.

import { relative } from "node:path";
import { tools } from "./bootstrap.mjs";
import { at, isMain, main, options, root, say, size } from "./common.mjs";
import { npmPackage } from "./package.mjs";
import { site } from "./site.mjs";
import { wasm } from "./wasm.mjs";

const USAGE = `npm run build -- [--quick] [--model-origins "https://a.example https://b.example"]
  --quick          build/site/ alone, without wasm-opt and minified code: what npm start serves
  --model-origins  other hosts that the page may load models from (its Content-Security-Policy)`;

/** `offline`: whether the page is kept by a service worker. Returns { dir, files, built }: the site's folder, its files by name, and the wasm in it with the compiler's warnings. */
export async function build({ quick = false, offline = true, origins = [] } = {}) {
  const found = await tools();
  const built = await wasm(found, { optimize: !quick });
  const made = await site(found, built, { dir: at(...(quick ? ["build", "site"] : ["dist"])), minify: !quick, offline, origins });
  if (!quick) await npmPackage(found, built);
  return { ...made, built };
}

if (isMain(import.meta)) {
  await main(async args => {
    const { quick = false, "model-origins": list = "", help } = options(args, { quick: false, "model-origins": true, help: false }, USAGE);
    if (help) return say(USAGE);
    const { dir, files } = await build({ quick, origins: list.split(/\s+/).filter(Boolean) });
    const bytes = [...files.values()].reduce((sum, content) => sum + Buffer.byteLength(content), 0);
    say(`${relative(root, dir)}/: ${files.size} files, ${size(bytes)}${quick ? "" : "; package/ beside it"}`);
  });
}
