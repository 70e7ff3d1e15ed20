// Licences of everything that is inside what we ship: the crates compiled into the wasm, and the npm packages bundled into the page.

import { readdirSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { at, hash, must, nodeModule, recall } from "./common.mjs";

const LICENCE = /^(licen[cs]e|copying|notice|copyright|unlicense)/i;

/** The text of THIRD_PARTY_NOTICES.txt. Identical licence texts are printed once, under the names of all who use them. */
export async function notices(tools, npmPackages) {
  const parts = [...(await crates(tools)), ...npmPackages.map(npmPackage)];
  const texts = new Map();
  for (const part of parts) {
    for (const { name, text } of part.texts) {
      const clean = text.replace(/\r\n/g, "\n").trim();
      const key = hash(clean.replace(/\s+/g, " "));
      const entry = texts.get(key) ?? { name, text: clean, users: [] };
      entry.users.push(part.title);
      texts.set(key, entry);
    }
  }
  const lines = ["What blip2-web is built with, and under which terms.", ""];
  for (const { title, licence } of parts) lines.push(`${title}: ${licence}`);
  for (const { name, text, users } of texts.values()) lines.push("", "=".repeat(100), `${name} of ${[...new Set(users)].join(", ")}`, "", text);
  return `${lines.join("\n")}\n`;
}

/** The crates that the two wasm builds link: normal dependencies for wasm32, without those that only run while compiling. */
async function crates(tools) {
  const found = new Map();
  for (const device of ["cpu", "webgpu"]) {
    const args = ["metadata", "--format-version", "1", "--filter-platform", "wasm32-unknown-unknown", "--no-default-features", "--features", device];
    const { output } = await must(tools.wasm.cargo, args, { env: tools.wasm.env, onLine: () => {} }, "cargo metadata");
    for (const one of linked(JSON.parse(output))) found.set(one.id, one);
  }
  const library = {
    title: "The Rust standard library",
    licence: "MIT OR Apache-2.0",
    texts: [],
  };
  const list = [...found.values()].sort((a, b) => a.name.localeCompare(b.name) || a.version.localeCompare(b.version));
  return [
    library,
    ...list.map(one => ({
      title: `${one.name} ${one.version}`,
      licence: one.license ?? `see ${one.license_file ?? "its files"}`,
      texts: licenceFiles(dirname(one.manifest_path)),
    })),
  ];
}

function linked({ packages, resolve }) {
  const nodes = new Map(resolve.nodes.map(node => [node.id, node]));
  const byId = new Map(packages.map(one => [one.id, one]));
  const seen = new Set();
  const waiting = [resolve.root];
  while (waiting.length > 0) {
    const id = waiting.pop();
    if (seen.has(id)) continue;
    seen.add(id);
    for (const dep of nodes.get(id)?.deps ?? []) {
      const macro = byId.get(dep.pkg)?.targets.some(target => target.kind.includes("proc-macro"));
      if (!macro && dep.dep_kinds.some(({ kind }) => kind === null)) waiting.push(dep.pkg);
    }
  }
  seen.delete(resolve.root);
  return [...seen].map(id => byId.get(id));
}

function npmPackage(name) {
  const facts = recall(nodeModule(name, "package.json"));
  return { title: `${name} ${facts?.version ?? ""}`, licence: facts?.license ?? "see its files", texts: licenceFiles(nodeModule(name)) };
}

const licenceFiles = folder =>
  readdirSync(folder, { withFileTypes: true })
    .filter(entry => entry.isFile() && LICENCE.test(entry.name))
    .map(({ name }) => ({ name, text: readFileSync(join(folder, name), "utf8") }));

/** Our own licences, for every folder that leaves the repository. */
export const ownLicences = () => ["LICENSE-MIT", "LICENSE-APACHE"].map(name => ({ name, content: readFileSync(at(name)) }));
