/** The npm package from its tarball alone: what linters of packages say, in a plain module script, and in React. */

import { execFile, execFileSync, spawnSync } from "node:child_process";
import { copyFileSync, existsSync, readFileSync, writeFileSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { promisify } from "node:util";
import { build } from "esbuild";
import { at } from "../../scripts/common.mjs";
import { serve } from "../../scripts/serve.mjs";
import { expect, SHARD, samples } from "./house.js";
import { type Project, putBeside, test } from "./package.js";

const MODELS = { "/models/demo/": "demo/model", "/samples/": "demo/samples" };
const [PICTURE = ""] = samples().map(path => basename(path));

test("publint and attw have nothing to say", ({ installed }) => {
  const said = execFileSync(process.execPath, [at("node_modules", "publint", "src", "cli.js"), "run", installed.installed, "--strict"], {
    encoding: "utf8",
  });
  expect(said).toContain("All good!");
  // The worker is started by its address and has no types; Node's older resolution and require() are not for modules alone.
  const attw = [
    at("node_modules", "@arethetypeswrong", "cli", "dist", "index.js"),
    installed.tarball,
    "--profile",
    "esm-only",
    "--exclude-entrypoints",
    "./worker",
    "--no-color",
  ];
  // It fails where it has found a problem.
  expect(execFileSync(process.execPath, attw, { encoding: "utf8" })).toContain('"blip2-web/react"');
});

test("its guides lead to files that it has", ({ installed }) => {
  const guides = ["README.md", "README.ko.md", "docs/api.md", "docs/moving.md"];
  for (const guide of guides) {
    const text = readFileSync(join(installed.installed, guide), "utf8");
    const links = [...text.matchAll(/\]\((?!https?:|#)([^)#]+)/g)].map(([, path = ""]) => join(installed.installed, dirname(guide), path));
    expect(links.filter(path => !existsSync(path))).toEqual([]);
    expect(links.length).toBeGreaterThan(0);
  }
});

test("an app in strict TypeScript compiles against its types, which are checked too", ({ installed }) => {
  copyFileSync(at("tests", "browser", "package", "app.tsx"), join(installed.folder, "app.tsx"));
  const options = ["--noEmit", "--strict", "--jsx", "react-jsx", "--module", "esnext", "--moduleResolution", "bundler", "--target", "es2022"];
  const libraries = ["--lib", "es2023,dom,dom.iterable,dom.asynciterable", "--types", "react", "--skipLibCheck", "false"];
  const tsc = [at("node_modules", "typescript", "bin", "tsc"), ...options, ...libraries, "app.tsx"];
  const { status, stdout } = spawnSync(process.execPath, tsc, { cwd: installed.folder, encoding: "utf8" });
  expect(stdout).toBe("");
  expect(status).toBe(0);
});

/** What transformers says of the sample pictures with the same weights. */
interface Expected {
  readonly samples: readonly { readonly file: string; readonly caption: { readonly text: string } }[];
}

/** What a module says in Node, in the project's folder. */
const inNode = (installed: Project, script: string): string =>
  execFileSync(process.execPath, ["--input-type=module", "--eval", script], { cwd: installed.folder, encoding: "utf8" }).trim();

test("Node imports it, and what renders on a server with it", ({ installed }) => {
  const script = `
    import { createEngine, Blip2Error } from "blip2-web";
    import { useBlip2 } from "blip2-web/react";
    import { createElement } from "react";
    import { renderToString } from "react-dom/server";
    createEngine();
    console.log(typeof Blip2Error, renderToString(createElement(() => useBlip2("/models/demo").status)));`;
  expect(inNode(installed, script)).toBe("function idle");
});

test("Node captions a picture and answers, from folders on disk and from a server", async ({ installed }) => {
  const [model, picture] = [at("demo", "model"), at("demo", "samples", PICTURE)];
  const script = (source: string) => `
    import { load, Blip2Error } from "blip2-web";
    const blip2 = await load(${JSON.stringify(source)}, { arithmetic: "exact" });
    const image = await blip2.encode(${JSON.stringify(picture)});
    const pieces = [];
    for await (const piece of image.caption()) pieces.push(piece);
    const { text } = await image.ask("what is this?");
    const missing = await load(${JSON.stringify(`${source}/missing`)}).catch(error => error instanceof Blip2Error && error.code);
    console.log(JSON.stringify({ caption: pieces.join("").trim(), pieces: pieces.length, text, missing }));`;
  const expected: Expected = JSON.parse(readFileSync(at("demo", "samples", "expected.q8.json"), "utf8"));
  const site = await serve({ mounts: { "/models/demo/": model } });
  try {
    // The same process cannot serve while it waits for another.
    const fromServer = promisify(execFile)(process.execPath, ["--input-type=module", "--eval", script(`${site.origin}/models/demo`)], {
      cwd: installed.folder,
    });
    for (const said of [inNode(installed, script(model)), (await fromServer).stdout]) {
      const found = JSON.parse(said);
      expect(found.pieces).toBeGreaterThan(2);
      expect(found.caption).toBe(expected.samples.find(({ file }) => file === PICTURE)?.caption.text);
      expect(found.text.length).toBeGreaterThan(0);
      expect(found.missing).toBe("network");
    }
  } finally {
    await site.close();
  }
});

test("its program converts a checkpoint, and the package runs what it wrote", ({ installed }) => {
  const manifest: { readonly bin: Readonly<Record<string, string>> } = JSON.parse(readFileSync(join(installed.installed, "package.json"), "utf8"));
  const program = join(installed.installed, manifest.bin["blip2-web"] ?? "");
  const folder = join(installed.folder, "converted");
  const convert = [program, "convert", at("tests", "fixtures", "opt"), folder, "--quant", "q8"];
  expect(execFileSync(process.execPath, convert, { encoding: "utf8" })).toContain("parameters; ");
  const again = spawnSync(process.execPath, convert, { encoding: "utf8" });
  expect([again.status, again.stderr.split(":")[0]]).toEqual([1, "error[file]"]);
  const script = `
    import { load } from "blip2-web";
    const blip2 = await load(${JSON.stringify(folder)});
    const image = await blip2.encode(${JSON.stringify(at("demo", "samples", PICTURE))});
    console.log((await image.caption({ max_new_tokens: 3 })).finish);`;
  expect(["length", "eos"]).toContain(inNode(installed, script));
});

test("a plain module script captions a picture", async ({ visitor, installed }) => {
  const page = `<!doctype html><title>plain</title><p></p><script type="module">
    import { load } from "./blip2-web/index.js";
    const blip2 = await load("models/demo");
    const image = await blip2.encode("samples/${PICTURE}");
    for await (const piece of image.caption()) document.querySelector("p").append(piece);
    document.title = "done";
  </script>`;
  const site = await serve({ mounts: { "/blip2-web/": installed.installed, ...MODELS }, made: { "/index.html": () => page } });
  try {
    await visitor.goto(`${site.origin}/index.html`);
    await expect(visitor).toHaveTitle("done");
    expect(((await visitor.locator("p").textContent()) ?? "").length).toBeGreaterThan(5);
  } finally {
    await site.close();
  }
});

test("React: one worker and one request a shard under StrictMode, and nothing is left behind the last component", async ({ visitor, installed }) => {
  copyFileSync(at("tests", "browser", "package", "app.tsx"), join(installed.folder, "app.tsx"));
  await build({
    entryPoints: [join(installed.folder, "app.tsx")],
    outfile: join(installed.folder, "app.js"),
    ...{ bundle: true, format: "esm", jsx: "automatic", define: { "process.env.NODE_ENV": '"development"' }, logLevel: "warning" },
  });
  putBeside(installed.installed, installed.folder);
  writeFileSync(
    join(installed.folder, "index.html"),
    '<!doctype html><title>React</title><div id="root"></div><script type="module" src="app.js"></script>',
  );
  const site = await serve({ mounts: { "/": installed.folder, ...MODELS } });
  try {
    await visitor.goto(`${site.origin}/`);
    const captions = visitor.locator("p.ready");
    await expect(captions).toHaveCount(2);
    for (const place of [0, 1]) await expect(captions.nth(place)).toHaveText(/\w+ \w+/);
    expect(visitor.workers().length).toBe(1);
    expect(site.count(/^\/worker\.js$/)).toBe(1);
    const shards = site.requests.filter(path => SHARD.test(path));
    expect(shards.length).toBeGreaterThan(0);
    expect(new Set(shards).size).toBe(shards.length);

    await visitor.getByRole("button", { name: "hide" }).click();
    await expect.poll(() => visitor.workers().length).toBe(0);
    await visitor.getByRole("button", { name: "show" }).click();
    for (const place of [0, 1]) await expect(captions.nth(place)).toHaveText(/\w+ \w+/);
    expect(site.requests.filter(path => SHARD.test(path)).length).toBe(shards.length);
  } finally {
    await site.close();
  }
});
