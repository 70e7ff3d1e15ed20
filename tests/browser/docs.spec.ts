/** The code of the guides, held to the packed package: all of it compiles against its types, and does what the guide says where that can be run. */

import { execFile, execFileSync, spawnSync } from "node:child_process";
import { copyFileSync, cpSync, mkdirSync, mkdtempSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { promisify } from "node:util";
import type { Page } from "@playwright/test";
import { build, transformSync } from "esbuild";
import { at } from "../../scripts/common.mjs";
import { allFences, codes, commands, GUIDES, prose, tables } from "../../scripts/fences.mjs";
import { serve } from "../../scripts/serve.mjs";
import { CALLS, NAMED, type Setting, SETTINGS } from "./docs/settings.js";
import { expect, samples } from "./house.js";
import { copyExample, type Project, putBeside, test } from "./package.js";

interface Fence {
  readonly guide: string;
  readonly line: number;
  readonly language: string;
  readonly code: string;
}
const FENCES: readonly Fence[] = allFences();
const where = ({ guide, line }: Pick<Fence, "guide" | "line">): string => `${guide}:${line}`;
const REFERENCE = "docs/api.md";
const PICTURES = samples().map(path => basename(path));
const MODELS = { "/models/demo/": "demo/model", "/models/itm/": "demo/retrieval", "/samples/": "demo/samples" };

/** What runs, with what stands around it. A translated guide shows the same code with other comments: that is run once. */
const shown = FENCES.filter(({ guide, language }) => /^[jt]sx?$/.test(language) && guide !== REFERENCE);
const essence = ({ code }: Fence): string => code.replace(/\s*\/\/ .*$/gm, "");
const pieces = [...new Set(shown.map(essence))].map((code): Piece => {
  const settings = SETTINGS.filter(({ has }) => code.includes(has));
  return { fences: shown.filter(fence => essence(fence) === code), setting: settings.length === 1 ? settings[0] : undefined };
});
interface Piece {
  readonly fences: readonly Fence[];
  readonly setting: Setting | undefined;
}

/** The name of a file for it. */
const fileOf = ({ fences: [fence], setting }: Piece): string =>
  fence === undefined ? "" : `${where(fence).replace(/\W+/g, "-")}.${setting?.runs === "react" ? "tsx" : "ts"}`;

const TELL = {
  page: "const tell = (...words: unknown[]): void => { document.body.append(JSON.stringify(words)); };",
  node: "const tell = (...words: unknown[]): void => { process.stdout.write(JSON.stringify(words)); };",
};
const PICTURE = `const picture = async (place: number): Promise<File> => {
  const name = ${JSON.stringify(PICTURES)}[place];
  return new File([await (await fetch("samples/" + name)).blob()], String(name));
};`;

/** The code within its setting: a module of TypeScript. */
function whole({ fences: [fence], setting }: Piece): string {
  if (fence === undefined || setting === undefined) throw new Error("nothing says how this is run");
  const { runs, given, behind } = setting;
  if (runs !== "react") return [TELL[runs], runs === "page" ? PICTURE : "", given, fence.code, behind, "export {};"].join("\n");
  const imports = fence.code.match(/^import .*$/gm) ?? [];
  return `import { createElement, StrictMode, useEffect } from "react";
import { createRoot } from "react-dom/client";
${imports.join("\n")}
${TELL.page}
function Shown() {
${fence.code.replace(/^import .*$/gm, "")}
${behind}
}
createRoot(document.body.appendChild(document.createElement("div"))).render(createElement(StrictMode, null, createElement(Shown)));`;
}

test("every piece of code has one setting to be run in, and every setting its code", () => {
  expect(pieces.filter(({ setting }) => setting === undefined).map(({ fences }) => fences.map(where))).toEqual([]);
  expect(SETTINGS.filter(one => !pieces.some(({ setting }) => setting === one)).map(({ has }) => has)).toEqual([]);
  expect(pieces.length).toBe(SETTINGS.length);
});

/** What TypeScript says of files in the project's folder. */
function compiled(installed: Project, files: readonly string[], ...more: string[]): string {
  const options = ["--noEmit", "--strict", "--jsx", "react-jsx", "--module", "esnext", "--moduleResolution", "bundler", "--target", "es2022"];
  const libraries = ["--lib", "es2023,dom,dom.iterable,dom.asynciterable", "--types", "react,node", "--skipLibCheck"];
  const tsc = [at("node_modules", "typescript", "bin", "tsc"), ...options, ...libraries, ...more, ...files];
  return spawnSync(process.execPath, tsc, { cwd: installed.folder, encoding: "utf8" }).stdout;
}

test("what is shown compiles against the package's types", ({ installed }) => {
  mkdirSync(join(installed.folder, "shown"), { recursive: true });
  const inNode = (piece: Piece) => piece.setting?.runs === "node";
  for (const piece of pieces) writeFileSync(join(installed.folder, "shown", fileOf(piece)), whole(piece));
  const files = (some: readonly Piece[]) => some.map(piece => join("shown", fileOf(piece)));
  expect(compiled(installed, files(pieces.filter(piece => !inNode(piece))))).toBe("");
  expect(compiled(installed, files(pieces.filter(inNode)), "--customConditions", "node")).toBe("");
});

interface Row {
  readonly guide: string;
  readonly line: number;
  readonly cells: readonly string[];
}
interface Table {
  readonly head: readonly string[];
  readonly rows: readonly Row[];
}
const TABLES: readonly Table[] = GUIDES.flatMap(guide => tables(guide));

/** What stands between backticks in the last column. */
const shownBy = ({ cells }: Row): readonly string[] => codes(cells.at(-1));
const isCommand = (code: string): boolean => code.startsWith("npx ");

/** Tables that show calls of another library, and beside them those here: code, or a command. */
const callTables = TABLES.filter(({ head }) => head.at(-1) === "blip2-web");
const callRows = callTables.flatMap(({ rows }) => rows);
const calls = ({ rows }: Table) =>
  rows.flatMap(row =>
    shownBy(row)
      .filter(code => !isCommand(code))
      .map(code => ({ place: where(row), code })),
  );

/** A module that makes the calls of a table, each for itself, and tells what went wrong and how many were made. */
function called(table: Table): string {
  const made = calls(table).map(({ place, code }) => {
    const statement = /^(const|for) /.test(code) ? code : `await (${code})`;
    return `await (async () => {
  ${statement};
})().then(() => { made += 1; }, error => { wrong.push("${place}: " + error); });`;
  });
  const [other = ""] = table.head;
  const counting = "const wrong: string[] = []; let made = 0; const show = (_: unknown): void => {};";
  return [TELL.page, PICTURE, counting, CALLS[other], ...made, "tell(wrong, made); export {};"].join("\n");
}

test("every row of a table of calls has one of ours, and what they take for given is known", () => {
  expect(tables("docs/moving.md")).toEqual(callTables);
  expect(callTables.map(({ head: [other] }) => other)).toEqual(Object.keys(CALLS));
  expect(callRows.length).toBeGreaterThan(20);
  expect(callRows.filter(row => shownBy(row).length === 0).map(where)).toEqual([]);
});

for (const table of callTables) {
  const [other = ""] = table.head;
  test(`the calls for those who come from ${other} compile, and do something`, async ({ visitor, installed }) => {
    const module = called(table);
    writeFileSync(join(installed.folder, `from-${other}.ts`), module);
    expect(compiled(installed, [`from-${other}.ts`])).toBe("");
    expect(await inPage(installed, visitor, module)).toBe(JSON.stringify([[], calls(table).length]));
  });
}

/** Code in a sentence that names something of the package. */
const OURS = /^(?:await )?(load|createEngine|folderStorage|blip2|engine|image)([.(].*)?$/;

test("what sentences name of the package is there", ({ installed }) => {
  const inTables = callRows.map(where);
  const sentences = GUIDES.filter(guide => guide !== REFERENCE).flatMap(guide => prose(guide).filter(line => !inTables.includes(where(line))));
  const named = sentences.flatMap(line =>
    codes(line.text)
      .filter(code => OURS.test(code))
      .map(code => `void (async () => ${code}); // ${where(line)}`),
  );
  expect(named.length).toBeGreaterThan(20);
  writeFileSync(join(installed.folder, "named.ts"), [NAMED, ...named, "export {};"].join("\n"));
  expect(compiled(installed, ["named.ts"], "--customConditions", "node")).toBe("");
});

test("classes have the members that the table of classes gives them", ({ installed }) => {
  const rows = TABLES.filter(({ head }) => head[0] === "Hugging Face").flatMap(({ rows }) => rows);
  expect(rows.length).toBeGreaterThan(8);
  const checks = rows.map(row => {
    const classes: readonly string[] = codes(row.cells[0]);
    const owners = ["all.Blip2", "all.Blip2Image", "typeof all", ...classes.flatMap(name => [`all.${name}`, `typeof all.${name}`])];
    return `${JSON.stringify(shownBy(row))} satisfies (${owners.map(owner => `keyof ${owner}`).join(" | ")})[]; // ${where(row)}`;
  });
  writeFileSync(join(installed.folder, "classes.ts"), ['import type * as all from "blip2-web";', ...checks].join("\n"));
  expect(compiled(installed, ["classes.ts"])).toBe("");
});

/** What page and worker say to each other: the reference leaves it out, since whoever brings a worker hands it on unread. */
const PROTOCOL = ["Call", "CallRequest", "Control", "Reply"];

test("the reference shows the types that the package has", ({ installed }) => {
  const declared = FENCES.filter(({ guide }) => guide === REFERENCE).map(fence => {
    const [, kind = "", name = "", parameters = ""] = /^(class|interface|type|const|function) (\w+)(<[^>]*>)?/.exec(fence.code) ?? [];
    return { fence, kind, name, generic: parameters !== "" && !parameters.includes("=") };
  });
  const [index = "", node = "", react = ""] = ["index", "node", "react"].map(name => readFileSync(join(installed.installed, `${name}.d.ts`), "utf8"));
  const isExported = (name: string, text: string) => new RegExp(`\\b${name}\\b`).test(text.replace(/\/\*[\s\S]*?\*\//g, ""));
  const entryOf = (name: string) => (isExported(name, index + node) ? "blip2-web" : isExported(name, react) ? "blip2-web/react" : null);
  const hidden = declared.filter(({ name }) => entryOf(name) === null);
  expect(hidden.map(({ name }) => name)).toEqual(["Look", "FactOf", "FACTS", "ErrorFacts", "Pretrained", "Values", "PretrainedConfig", "Milestone"]);

  mkdirSync(join(installed.folder, "reference"), { recursive: true });
  const ambient = (code: string) => (/^(interface|type)/.test(code) ? code : `declare ${code}`);
  // Names that differ in case alone would be one file on some disks.
  const fileOf = (name: string) => join("reference", `${declared.findIndex(other => other.name === name)}-${name}.ts`);
  for (const { fence, kind, name, generic } of declared) {
    const others = declared.filter(other => other.name !== name && entryOf(other.name) !== null);
    const imports = (entry: string) =>
      `import type { ${others.filter(other => entryOf(other.name) === entry).map(other => other.name)} } from "${entry}";`;
    const value = kind === "const" || kind === "function";
    const [own, real] = value ? [`typeof ${name}`, `typeof real.${name}`] : [name, `real.${name}`].map(type => (generic ? `${type}<string>` : type));
    // Private members make a class like no other: what the reference shows of it is compared.
    const publicly = (type: string) => (kind === "class" ? `Pick<${type}, keyof ${own}>` : type);
    const lines = [
      ...[imports("blip2-web"), imports("blip2-web/react"), `import type { ${PROTOCOL} } from "../node_modules/blip2-web/protocol.js";`],
      ...hidden.filter(other => other.name !== name).map(other => ambient(other.fence.code)),
      ambient(fence.code),
      "type Fits<A, B> = [A] extends [B] ? true : false;",
    ];
    if (entryOf(name) !== null) {
      lines.push(`import type * as real from "${entryOf(name)}";`);
      for (const [a = "", b = ""] of [
        [own, real],
        [real, own],
      ])
        lines.push(`export const _${lines.length}: Fits<${publicly(a)}, ${publicly(b)}> = true;`);
    }
    writeFileSync(join(installed.folder, fileOf(name)), `${lines.join("\n")}\nexport {};\n`);
  }
  const files = declared.map(({ name }) => fileOf(name));
  // Under this condition it is Node's entry, which has all that the other has.
  expect(compiled(installed, files, "--customConditions", "node")).toBe("");
});

/** Waits for what the page tells. */
async function told(page: Page, address: string): Promise<string> {
  await page.goto(address);
  await expect(page.locator("body")).toHaveText(/\S/);
  return page.locator("body").innerText();
}

const PAGE = `<!doctype html><title>shown</title>
  <script type="importmap">{ "imports": { "blip2-web": "./blip2-web/index.js" } }</script>
  <body><script type="module">import("./shown.js").catch(error => document.body.append(String(error)));</script></body>`;

/** A module script, with the package beside it as a folder. */
async function inPage(installed: Project, page: Page, module: string): Promise<string> {
  const { code } = transformSync(module, { loader: "ts", target: "es2022" });
  const site = await serve({
    mounts: { "/blip2-web/": installed.installed, ...MODELS },
    made: { "/index.html": () => PAGE, "/shown.js": () => code },
  });
  try {
    return await told(page, `${site.origin}/index.html`);
  } finally {
    await site.close();
  }
}

/** Bundled, since React is no module of the browser's. */
async function inReact(installed: Project, page: Page, module: string): Promise<string> {
  const folder = mkdtempSync(join(installed.folder, "react-"));
  writeFileSync(join(folder, "shown.tsx"), module);
  const how = { bundle: true, format: "esm", define: { "process.env.NODE_ENV": '"development"' }, logLevel: "warning" } as const;
  await build({ entryPoints: [join(folder, "shown.tsx")], outfile: join(folder, "shown.js"), ...how });
  putBeside(installed.installed, folder);
  writeFileSync(join(folder, "index.html"), PAGE);
  const site = await serve({ mounts: { "/": folder, ...MODELS } });
  try {
    return await told(page, `${site.origin}/index.html`);
  } finally {
    await site.close();
  }
}

/** In a folder with a model and a picture; HUB leads to CDN for everything. */
async function inNode(installed: Project, module: string): Promise<string> {
  const folder = mkdtempSync(join(installed.folder, "node-"));
  mkdirSync(join(folder, "models"));
  symlinkSync(at("demo", "model"), join(folder, "models", "demo"));
  copyFileSync(at("demo", "samples", PICTURES[0] ?? ""), join(folder, "picture.png"));
  writeFileSync(join(folder, "shown.mjs"), transformSync(module, { loader: "ts", target: "es2022" }).code);
  const cdn = await serve({ mounts: { "/": "demo/model" } });
  const hub = await serve({
    instead: (path, _, response) => {
      response.writeHead(302, { location: `${cdn.origin}/${basename(path)}` }).end();
      return true;
    },
  });
  try {
    const env = { ...process.env, HUB: hub.origin, CDN: cdn.origin };
    return (await promisify(execFile)(process.execPath, ["shown.mjs"], { cwd: folder, env })).stdout;
  } finally {
    await Promise.all([hub.close(), cdn.close()]);
  }
}

for (const piece of pieces) {
  const { fences, setting } = piece;
  test(`${fences.map(where).join(", ")}: ${setting?.has}`, async ({ visitor, installed }) => {
    const module = whole(piece);
    const runs = setting?.runs ?? "page";
    const all = {
      page: () => inPage(installed, visitor, module),
      react: () => inReact(installed, visitor, module),
      node: () => inNode(installed, module),
    };
    expect(await all[runs]()).toMatch(setting?.tells ?? /./);
  });
}

/** A whole page, or the headers of one: it captions the picture that it is given. */
async function captions(page: Page, folder: string): Promise<Readonly<Record<string, string>>> {
  const site = await serve({ mounts: { "/": folder, "/models/demo/": "demo/model" } });
  try {
    const response = await page.goto(`${site.origin}/index.html`);
    await page.locator("input[type=file]").setInputFiles(samples()[0] ?? "");
    await expect(page.locator("output")).toHaveText(/a bee/);
    return response?.headers() ?? {};
  } finally {
    await site.close();
  }
}

for (const fence of FENCES.filter(({ language }) => language === "html")) {
  test(`${where(fence)}: the page captions a picture`, async ({ visitor, installed }) => {
    const folder = mkdtempSync(join(installed.folder, "page-"));
    cpSync(installed.installed, join(folder, "node_modules", "blip2-web"), { recursive: true });
    writeFileSync(join(folder, "index.html"), fence.code);
    await captions(visitor, folder);
  });
}

for (const fence of FENCES.filter(({ language }) => language === "http")) {
  test(`${where(fence)}: a page works under these headers`, async ({ visitor, installed }) => {
    const folder = mkdtempSync(join(installed.folder, "headers-"));
    copyExample("plain", folder);
    cpSync(installed.installed, join(folder, "blip2-web"), { recursive: true });
    const index = join(folder, "index.html");
    writeFileSync(index, readFileSync(index, "utf8").replace(/<meta\s+http-equiv="Content-Security-Policy"[^>]*>/, ""));
    const lines = fence.code.split("\n");
    writeFileSync(join(folder, "_headers"), ["/*", ...lines.map(line => `  ${line}`)].join("\n"));
    const headers = await captions(visitor, folder);
    for (const line of lines) {
      const [name = "", ...value] = line.split(": ");
      expect(headers[name.toLowerCase()]).toBe(value.join(": "));
    }
  });
}

const inRows = callRows.map(row => ({ ...row, code: shownBy(row).filter(isCommand).join("\n") }));
for (const shell of [...FENCES.filter(({ language }) => language === "sh"), ...inRows]) {
  for (const [, , ...args] of commands(shell.code).filter(([program = ""]: string[]) => program === "npx")) {
    test(`${where(shell)}: npx blip2-web ${args.join(" ")}`, async ({ installed }) => {
      const folder = mkdtempSync(join(installed.folder, "converted-"));
      // A checkpoint of the fixtures stands for the one that is named.
      const [command = "", , , ...options] = args;
      const said = execFileSync(
        process.execPath,
        [join(installed.installed, "cli.js"), command, at("tests", "fixtures", "opt"), join(folder, "model"), ...options],
        {
          encoding: "utf8",
        },
      );
      expect(said).toContain("parameters; ");
    });
  }
}
