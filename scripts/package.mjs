// package/: the npm package. tsc for the modules, esbuild for the worker alone (one file, as bundlers want it), wasm beside them.

import { mkdirSync, readFileSync, rmSync } from "node:fs";
import { basename, join, posix } from "node:path";
import { bundle } from "./bundle.mjs";
import { at, filesUnder, must, nodeModule, recall } from "./common.mjs";
import { GUIDES } from "./fences.mjs";
import { notices, ownLicences } from "./notices.mjs";
import { mirror } from "./site.mjs";
import { CONVERTER, convertWasm, crate, DEVICES, glueDir } from "./wasm.mjs";

/** `built` is what `wasm()` returned; `dir` may be another folder. Returns the files by name. */
export async function npmPackage(tools, built, { dir = at("package") } = {}) {
  const draft = at("build", "package");
  rmSync(draft, { recursive: true, force: true });
  mkdirSync(draft, { recursive: true });
  const converter = await convertWasm(tools);
  await must(
    process.execPath,
    [nodeModule("typescript", "bin", "tsc"), "--project", "tsconfig.package.json", "--outDir", draft],
    {},
    "tsc for the package",
  );
  const { packages } = await bundle({ worker: at("www", "worker.ts") }, draft);

  const files = new Map();
  for (const name of filesUnder(draft, name => /\.(js|d\.ts)$/.test(name))) files.set(name, withoutMap(readFileSync(join(draft, name), "utf8")));
  for (const { path } of [...built, converter]) files.set(`wasm/${basename(path)}`, readFileSync(path));
  for (const glue of [...DEVICES.map(crate), CONVERTER]) {
    for (const name of [`${glue}.js`, `${glue}.d.ts`]) files.set(`wasm/${name}`, readFileSync(join(glueDir, name)));
  }
  files.set("package.json", `${JSON.stringify(manifest(), null, 2)}\n`);
  for (const guide of GUIDES) files.set(guide, withoutDeadLinks(guide, readFileSync(at(guide), "utf8")));
  files.set("THIRD_PARTY_NOTICES.txt", await notices(tools, packages));
  for (const { name, content } of ownLicences()) files.set(name, content);
  mirror(dir, files);
  return files;
}

/** The maps stay here: they would double the package. */
const withoutMap = text => text.replace(/^\/\/# sourceMappingURL=.*\n?/gm, "");

/** The package holds the guides and nothing else that they lead to: links to other files of this repository are told by their words alone. */
const withoutDeadLinks = (guide, text) =>
  text.replace(/!?\[([^\]]*)\]\((?!https?:|#)([^)#]+)(?:#[^)]*)?\)/g, (link, words, path) =>
    GUIDES.includes(posix.join(posix.dirname(guide), path)) ? link : words,
  );

function manifest() {
  const own = recall(at("package.json"));
  return {
    name: own.name,
    version: own.version,
    description: own.description,
    license: own.license,
    type: "module",
    engines: own.engines,
    types: "./index.d.ts",
    bin: { [own.name]: "./cli.js" },
    exports: {
      ".": { node: { types: "./node.d.ts", default: "./node.js" }, types: "./index.d.ts", default: "./index.js" },
      "./react": { types: "./react.d.ts", default: "./react.js" },
      // There is nothing to import from it: `new Worker` wants its address.
      "./worker": "./worker.js",
      "./wasm": { types: `./wasm/${crate("cpu")}.d.ts`, default: `./wasm/${crate("cpu")}.js` },
      "./wasm/*": "./wasm/*",
      "./package.json": "./package.json",
    },
    peerDependencies: { react: ">=18" },
    // For ./react alone.
    peerDependenciesMeta: { react: { optional: true } },
    // Importing a worker starts it, and node.js says where engines run: bundlers that drop unused imports must keep those.
    sideEffects: ["./worker.js", "./node_worker.js", "./node.js", "./cli.js"],
  };
}
