// npm run docs: docs/api.md, from the package's own types. tsc writes every public declaration down with its comment; what is left is to sort them.

import { readFileSync, rmSync } from "node:fs";
import { at, isMain, main, must, nodeModule, options, say, Stop, write } from "./common.mjs";

const USAGE = `npm run docs -- [--check]
  --check  fails where docs/api.md is not what the types say`;
const FILE = at("docs", "api.md");
const DRAFT = at("build", "reference");

/** What the package exports, and the headings of its modules in their order. */
const ENTRIES = [
  { title: "`blip2-web`", file: "index" },
  { title: "`blip2-web`, in Node alone", file: "node" },
  { title: "`blip2-web/react`", file: "react" },
];
const MODULES = {
  index: "Beginning",
  engine: "Engines, models, pictures",
  generation: "Answers on their way",
  chat: "Conversations",
  image: "Pictures",
  picked: "Folders of the visitor's",
  error: "Errors",
  hf: "Hugging Face's classes",
  hf_config: "Configurations",
  protocol: "Plain data",
  client: "Workers",
  node: "Node",
  folder_storage: "Models on the disk",
  react: "React",
  lease: "The state of a model in React",
};

/** What exports are made of without being exported themselves; told in front of their modules. */
const BELOW = {
  error: ["Look", "FactOf", "FACTS", "ErrorFacts"],
  hf: ["Pretrained"],
  hf_config: ["Values", "PretrainedConfig"],
  protocol: ["Milestone"],
};

/** The text of docs/api.md. */
export async function reference() {
  rmSync(DRAFT, { recursive: true, force: true });
  const args = ["--project", "tsconfig.package.json", "--outDir", DRAFT, "--emitDeclarationOnly"];
  await must(process.execPath, [nodeModule("typescript", "bin", "tsc"), ...args], {}, "tsc for the reference");
  const lines = ["# Reference", "", "<!-- npm run docs writes this file from the types. -->", ""];
  lines.push("Every export with its type, as the compiler sees it. The [README](../README.md) shows how they go together.", "");
  const told = new Set();
  for (const { title, file } of ENTRIES) {
    lines.push(`## ${title}`, "");
    for (const [module, names] of exported(file)) {
      const fresh = names.filter(name => !told.has(name));
      if (fresh.length === 0) continue;
      const below = BELOW[module] ?? [];
      fresh.unshift(...below.filter(name => !told.has(name)));
      lines.push(`### ${MODULES[module]}`, "");
      const found = declarations(module);
      for (const name of fresh) {
        told.add(name);
        const declared = found.get(name);
        if (!declared) throw new Stop(`${module}.d.ts does not declare ${name}`);
        const comment = [declared.comment, below.includes(name) && "Not exported: what others stand on."].filter(Boolean).join("\n\n");
        lines.push(`#### \`${name}\``, "", ...(comment ? [comment, ""] : []), "```ts", declared.code, "```", "");
      }
    }
  }
  return `${lines.join("\n").trimEnd()}\n`;
}

const source = module => readFileSync(at("build", "reference", `${module}.d.ts`), "utf8");

/** The names that an entry exports, by the module that declares them, in the order of the headings. */
function exported(entry) {
  const modules = new Map([[entry, [...declarations(entry).keys()]]]);
  for (const [, list, module] of source(entry).matchAll(/^export (?:type )?\{([^}]*)\} from "\.\/([^"]+)\.js";/gm)) {
    const names = list.split(",").map(name => name.trim().replace(/^type /, ""));
    modules.set(module, [...(modules.get(module) ?? []), ...names.filter(Boolean)]);
  }
  const order = Object.keys(MODULES);
  const strange = [...modules.keys()].find(module => !order.includes(module));
  if (strange) throw new Stop(`scripts/reference.mjs has no heading for ${strange}.ts`);
  return [...modules].sort(([a], [b]) => order.indexOf(a) - order.indexOf(b));
}

/** What a module declares and exports, by its name: { comment, code }. */
function declarations(module) {
  const found = new Map();
  for (const statement of statements(source(module))) {
    const { comment, code } = split(statement);
    const name = /^(?:export )?(?:declare )?(?:abstract )?(?:class|interface|type|const|function) (\w+)/.exec(code)?.[1];
    if (name === undefined) continue;
    const earlier = found.get(name);
    found.set(name, { comment: earlier?.comment || prose(comment), code: [earlier?.code, publicly(code)].filter(Boolean).join("\n") });
  }
  return found;
}

/** A file of declarations, cut where a statement ends: behind a semicolon, or behind the body of a class or interface. */
function statements(text) {
  const found = [];
  let [start, depth] = [0, 0];
  for (const { index, 0: token } of text.matchAll(/\/\*[\s\S]*?\*\/|\/\/.*|"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|`[^`]*`|[{}()[\];]/g)) {
    if ("{([".includes(token)) depth += 1;
    if ("})]".includes(token)) depth -= 1;
    const body = token === "}" && /^(?:export )?(?:declare )?(?:abstract )?(?:class|interface) /.test(split(text.slice(start)).code);
    if (depth > 0 || !(token === ";" || body)) continue;
    found.push(text.slice(start, index + 1));
    start = index + 1;
  }
  return found;
}

/** The comment that stands before a statement (the last, if there are several), and the rest. */
function split(statement) {
  let [rest, comment] = [statement.trim(), ""];
  for (let before = /^\/\*[\s\S]*?\*\//.exec(rest); before; before = /^\/\*[\s\S]*?\*\//.exec(rest)) {
    comment = before[0];
    rest = rest.slice(comment.length).trim();
  }
  return { comment, code: rest };
}

/** A comment's text, as Markdown. */
const prose = comment =>
  comment
    .replace(/^\/\*\*?|\*\/$/g, "")
    .split("\n")
    .map(line => line.replace(/^\s*\* ?/, "").trimEnd())
    .join("\n")
    .trim();

/** Without what is nobody's business: private members, and those that are marked as internal. Two spaces a level. */
function publicly(code) {
  const shown = code
    .replace(/^(?:export )?(?:declare )?/, "")
    .replace(/^ {4}\/\*\*(?:(?!\*\/)[\s\S])*?@internal(?:(?!\*\/)[\s\S])*?\*\/\n(?: {4}(?! ).*\n(?: {5,}.*\n| {4}\}.*\n)*)/gm, "")
    .replace(/^(?: {4}\/\*\*(?:(?!\*\/)[\s\S])*?\*\/\n)? {4}(?:private|protected) .*\n/gm, "");
  return shown.replace(/^( {4})+/gm, spaces => " ".repeat(spaces.length / 2));
}

/** Whether docs/api.md is what the types say. */
export async function isCurrent() {
  const text = await reference();
  try {
    return readFileSync(FILE, "utf8") === text;
  } catch {
    return false;
  }
}

if (isMain(import.meta)) {
  await main(async args => {
    const { check = false, help } = options(args, { check: false, help: false }, USAGE);
    if (help) return say(USAGE);
    if (!check) write(FILE, await reference());
    else if (!(await isCurrent())) throw new Stop("docs/api.md is not what the types say: run npm run docs");
  });
}
