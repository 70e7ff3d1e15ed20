// Licences of everything that is inside what we ship: the crates compiled into the wasm, and the npm packages bundled into the page.

import { readdirSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { at, hash, must, nodeModule, recall } from "./common.mjs";
import { DEVICES, TARGET } from "./wasm.mjs";

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

/** The crates that the two wasm builds link, with what their authors ask to be passed on: licence, its text, where the source is. */
async function crates(tools) {
  const names = new Set();
  const facts = new Map();
  for (const device of DEVICES) {
    const chosen = ["--no-default-features", "--features", device];
    // tree knows what is linked (metadata also lists what only tests, build scripts and features that are off would use).
    const tree = ["tree", "--edges", "normal,no-proc-macro", "--target", TARGET, ...chosen, "--prefix", "none", "--format", "{p}"];
    for (const line of (await cargo(tools, tree)).split("\n")) {
      const [, name, version] = /^(\S+) v(\S+)/.exec(line) ?? [];
      if (name) names.add(`${name} ${version}`);
    }
    const { packages } = JSON.parse(await cargo(tools, ["metadata", "--format-version", "1", "--filter-platform", TARGET, ...chosen]));
    for (const one of packages) if (one.source !== null) facts.set(`${one.name} ${one.version}`, one);
  }
  const linked = [...names].sort().flatMap(name => facts.get(name) ?? []);
  return [
    { title: "The Rust standard library", licence: "MIT OR Apache-2.0", texts: [] },
    ...linked.map(one => ({
      title: `${one.name} ${one.version}`,
      licence: [one.license ?? "see its files", one.repository].filter(Boolean).join(", "),
      texts: licenceFiles(dirname(one.manifest_path)),
    })),
  ];
}

const cargo = async (tools, args) => (await must(tools.wasm.cargo, args, { env: tools.wasm.env, onLine: () => {} }, `cargo ${args[0]}`)).output;

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
