// TypeScript to what browsers and Node run, by esbuild. Types are checked elsewhere, by tsc.

import { at, filesUnder } from "./common.mjs";

const common = { bundle: true, format: "esm", target: "es2022", charset: "utf8", legalComments: "none", metafile: true, logLevel: "warning" };

/**
 * Bundles each entry (name → source) into a folder, one file each, with its map; what an entry imports only when it is needed (`import()`) lies in further
 * files beside it. Returns the names of the npm packages that went in, and for each entry the files that it needs at once.
 * `define`: constants by name, as JSON.
 * `only`: the glue of this device stands for both, so that the other need not be built.
 */
export async function bundle(entries, outdir, { minify = false, only, define = {} } = {}) {
  const { build } = await import("esbuild");
  const packages = new Set();
  const needs = {};
  for (const [name, source] of Object.entries(entries)) {
    // One run an entry: a run of several would share code between them in further files.
    const result = await build({
      ...common,
      entryPoints: { [name]: source },
      outdir,
      minify,
      define,
      splitting: !source.endsWith(".css"),
      chunkNames: "[name]-[hash]",
      sourcemap: "linked",
      platform: "browser",
      plugins: only ? [oneGlue(only)] : [],
    });
    for (const input of Object.keys(result.metafile.inputs)) {
      const found = /node_modules\/((?:@[^/]+\/)?[^/]+)\//.exec(input);
      if (found) packages.add(found[1]);
    }
    needs[name] = neededAtOnce(result.metafile.outputs, name);
  }
  return { packages: [...packages].sort(), needs };
}

/** Files that the entry's own imports lead to, and theirs. */
function neededAtOnce(outputs, name) {
  const base = path => path.slice(path.lastIndexOf("/") + 1);
  const by = new Map(Object.entries(outputs).map(([path, output]) => [base(path), output]));
  const found = new Set();
  const walk = file => {
    for (const { path, kind } of by.get(file)?.imports ?? []) {
      if (kind !== "import-statement" || found.has(base(path))) continue;
      found.add(base(path));
      walk(base(path));
    }
  };
  walk(`${name}.js`);
  return [...found].sort();
}

const oneGlue = device => ({
  name: "one-glue",
  setup: build => build.onResolve({ filter: /\/wasm\/blip2_(cpu|webgpu)\.js$/ }, () => ({ path: at("www", "wasm", `blip2_${device}.js`) })),
});

/** The unit tests beside the sources, made ready for `node --test`. Returns the files. */
export async function bundleTests(outdir) {
  const { build } = await import("esbuild");
  const tests = filesUnder(at("www"), name => name.endsWith(".test.ts"));
  const entryPoints = Object.fromEntries(tests.map(name => [name.replace(/\.ts$/, ""), at("www", name)]));
  await build({ ...common, entryPoints, outdir, outExtension: { ".js": ".mjs" }, platform: "node", target: "node20", sourcemap: "inline" });
  return Object.keys(entryPoints).map(name => `${outdir}/${name}.mjs`);
}
