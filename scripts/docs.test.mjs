// What the guides in docs/ must not forget, and what they tell to type into a shell or to write into a host's settings.

import assert from "node:assert/strict";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { test } from "node:test";
import { fault } from "./commands.mjs";
import { at, recall, Stop } from "./common.mjs";
import { allFences, codes, commands, directives, fences, GUIDES, prose, tables } from "./fences.mjs";
import { TYPES } from "./serve.mjs";

const EXAMPLES = "examples/web/README.md";

test("every error code has its place in docs/errors.md, in the order of src/error.rs", () => {
  const list = /pub const CODES: &\[&str\] = &\[([^\]]+)\]/.exec(readFileSync(at("src", "error.rs"), "utf8"));
  const codes = [...(list?.[1] ?? "").matchAll(/"([^"]+)"/g)].map(([, code]) => code);
  const headings = [...readFileSync(at("docs", "errors.md"), "utf8").matchAll(/^## `([^`]+)`$/gm)].map(([, code]) => code);
  assert.ok(codes.length > 10);
  assert.deepEqual(headings, codes);
});

test("guides lead to files that are there", () => {
  for (const guide of [...GUIDES, "ARCHITECTURE.md", "CONTRIBUTING.md", EXAMPLES]) {
    const folder = guide.includes("/") ? guide.slice(0, guide.lastIndexOf("/")) : "";
    for (const [, path] of readFileSync(at(guide), "utf8").matchAll(/\]\((?!https?:|#)([^)#]+)(?:#[^)]*)?\)/g)) {
      assert.ok(existsSync(at(folder, path)), `${guide}: ${path}`);
    }
  }
});

const HERE = "scripts/docs.test.mjs";
const PACKED = "tests/browser/docs.spec.ts";
/** Who tries code of this language. */
const TRIED = { sh: HERE, nginx: HERE, ts: PACKED, tsx: PACKED, html: PACKED, http: PACKED };

test("fences are found as they stand, and one without an end is told", () => {
  const text = "a\n```ts\nlet a;\n\nlet b;\n```\n\n- b\n  ~~~~sh\n  ```\n  ~~~~\n";
  assert.deepEqual(
    fences("x.md", text).map(({ line, language, code }) => [line, language, code]),
    [
      [3, "ts", "let a;\n\nlet b;"],
      [10, "sh", "  ```"],
    ],
  );
  assert.throws(() => fences("x.md", "```ts\nlet a;\n"), Stop);
});

test("tables are found as they stand, and not between fences", () => {
  const text = "| a | b |\n|---|:-:|\n| `x\\|y` | |\n| 3 | 4 |\n\n```md\n| c |\n|---|\n| 5 |\n```\n| d |\n|---|\nnone";
  assert.deepEqual(
    tables("x.md", text).map(({ line, head, rows }) => [line, head, rows.map(({ line, cells }) => [line, ...cells])]),
    [
      [
        1,
        ["a", "b"],
        [
          [3, "`x\\|y`", ""],
          [4, "3", "4"],
        ],
      ],
      [11, ["d"], []],
    ],
  );
  assert.deepEqual(codes("`x\\|y` and `z`"), ["x|y", "z"]);
  assert.deepEqual(
    prose("x.md", text).map(({ line }) => line),
    [1, 2, 3, 4, 5, 11, 12, 13],
  );
});

test("all code of the guides is of a language that a test tries", () => {
  const all = allFences();
  assert.ok(all.length > 90);
  for (const { guide, line, language } of all) assert.ok(Object.hasOwn(TRIED, language), `${guide}:${line}: nothing tries ${language || "it"}`);
});

test("every command of the guides exists, with the options that it is given", async () => {
  const all = allFences().filter(({ language }) => language === "sh");
  const found = all.flatMap(({ guide, line, code }) => commands(code).map(words => ({ where: `${guide}:${line}: ${words.join(" ")}`, words })));
  assert.ok(found.length > 15);
  for (const { where, words } of found) {
    const wrong = await fault(words);
    assert.equal(wrong, null, `${where}: ${wrong}`);
  }
  const usages = tables("README.md")
    .find(({ head }) => head[0] === "command")
    .rows.map(({ cells }) => codes(cells[0]).join());
  assert.ok(usages.length >= 10);
  for (const usage of usages) assert.equal(await fault(commands(usage.replace(/[[\]…]/g, " ")).flat()), null, usage);
  // And what is wrong is seen.
  const broken = `npm run nothing
    npm run bench -- --nothing
    npm run convert -- A B --nothing q4
    npm install ../blip2-web/blip2-web-0.0.0.tgz
    cp -r ../blip2-web/demo/nothing models/demo
    cp -r demo/model models/demo
    npx blip2-web nothing
    npx blip2-web convert A B --nothing
    blip2 nothing
    blip2 caption --rerank 3
    blip2 caption --option nothing=3
    cargo bench --features nothing
    cargo bench -- frobnicate/cpu
    frobnicate`;
  for (const words of commands(broken)) assert.notEqual(await fault(words), null, words.join(" "));
});

test("the examples take what the tests build them with, and know the commands that their guide tells", async () => {
  const { name, version, devDependencies } = recall(at("package.json"));
  const tested = { ...devDependencies, [name]: version };
  const manifests = readdirSync(at("examples", "web")).map(folder => at("examples", "web", folder, "package.json"));
  const examples = manifests.filter(path => existsSync(path)).map(recall);
  assert.ok(examples.length >= 4);
  const told = fences(EXAMPLES).flatMap(({ code }) => commands(code));
  assert.ok(told.length >= 4);
  for (const { dependencies, devDependencies = {}, scripts } of examples) {
    for (const [name, wanted] of Object.entries({ ...dependencies, ...devDependencies })) assert.equal(wanted, tested[name], name);
    for (const words of told) assert.equal(await fault(words, scripts), null, words.join(" "));
  }
});

test("nginx's settings are well-formed, know the types of all that is served, and tell shards from what may change", () => {
  const settings = allFences().filter(({ language }) => language === "nginx");
  assert.equal(settings.length, 1);
  const locations = directives(settings[0].code);
  assert.ok(locations.every(({ name, block }) => name === "location" && block !== null));
  const within = ({ block }, name) => block.filter(directive => directive.name === name);

  const all = locations.find(({ args }) => args[0] === "/");
  const [types] = within(all, "types");
  const given = Object.fromEntries(types.block.flatMap(({ name, args }) => args.map(ending => [`.${ending}`, name])));
  for (const [ending, type] of Object.entries(given)) assert.equal(type, TYPES[ending].split(";")[0], ending);
  for (const ending of [".html", ".js", ".css", ".wasm", ".json", ".webmanifest", ".png", ".svg", ".txt", ".md"]) assert.ok(given[ending], ending);
  const [compressed] = within(all, "gzip_types");
  for (const type of compressed.args) assert.ok(Object.values(given).includes(type), type);

  const shards = locations.find(({ args }) => args[0] === "~");
  const pattern = new RegExp(shards.args[1]);
  for (const name of readdirSync(at("demo", "model"))) assert.equal(pattern.test(`/models/demo/${name}`), name.endsWith(".safetensors"), name);
  const [forever] = within(shards, "add_header");
  assert.deepEqual(forever.args, ["Cache-Control", "public, max-age=31536000, immutable"]);
  for (const text of ["location / { root a;", "location / root a; }", "{ }", "root a"]) assert.throws(() => directives(text), Stop, text);
});
