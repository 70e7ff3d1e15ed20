// dist/: a static site that can be copied to any host, under any path.

import { existsSync, mkdirSync, readFileSync, rmSync } from "node:fs";
import { basename, join } from "node:path";
import { bundle } from "./bundle.mjs";
import { at, filesUnder, say, Stop, write } from "./common.mjs";
import { notices, ownLicences } from "./notices.mjs";

/** What the page may do. `origins`: other hosts that models may come from. A worker obeys its own response's headers, hence both places. */
export const policy = (origins = []) =>
  [
    "default-src 'none'",
    "script-src 'self' 'wasm-unsafe-eval'",
    "worker-src 'self'",
    "style-src 'self'",
    "img-src 'self' blob:",
    `connect-src ${["'self'", ...origins].join(" ")}`,
    "manifest-src 'self'",
    "base-uri 'none'",
    "form-action 'none'",
  ].join("; ");

const headers = origins => `/*
  Content-Security-Policy: ${policy(origins)}
  X-Content-Type-Options: nosniff
  Referrer-Policy: no-referrer
  Cache-Control: no-cache
`;

/** Writes dist/. `built` is what `wasm()` returned; `dir` may be another folder. */
export async function site(tools, built, { dir = at("dist"), minify = false, origins = [] } = {}) {
  for (const origin of origins) {
    if (!/^https?:\/\/[^\s;,'"]+$/.test(origin)) throw new Stop(`${origin}: not an origin like https://models.example.org`);
  }
  const bundles = at("build", "bundle");
  rmSync(bundles, { recursive: true, force: true });
  mkdirSync(bundles, { recursive: true });
  const entries = { main: at("www", "ui", "main.ts"), worker: at("www", "worker.ts"), style: at("www", "ui", "style.css") };
  const packages = await bundle(entries, bundles, { minify });

  const files = new Map();
  for (const name of filesUnder(bundles)) files.set(name, readFileSync(join(bundles, name)));
  for (const { path } of built) files.set(`wasm/${basename(path)}`, readFileSync(path));
  for (const [from, to] of [
    ["demo/model", "models/demo"],
    ["demo/samples", "samples"],
  ]) {
    const names = filesUnder(at(from));
    if (names.length === 0) say(`site: ${from}/ is missing, so the page has no ${to}/: it starts without a model or without samples`);
    for (const name of names) files.set(`${to}/${name}`, readFileSync(at(from, name)));
  }
  const icon = at("www", "ui", "icon.svg");
  if (existsSync(icon)) files.set("icon.svg", readFileSync(icon));
  files.set("index.html", withPolicy(readFileSync(at("index.html"), "utf8"), origins));
  files.set("_headers", headers(origins));
  files.set("THIRD_PARTY_NOTICES.txt", await notices(tools, packages));
  for (const { name, content } of ownLicences()) files.set(name, content);
  mirror(dir, files);
  return { dir, files, packages };
}

function withPolicy(html, origins) {
  const charset = /<meta charset="[^"]*"\s*\/?>/i;
  if (!charset.test(html)) throw new Stop("index.html has no <meta charset>: the policy is put behind it");
  if (/http-equiv="Content-Security-Policy"/i.test(html)) throw new Stop("index.html holds a policy of its own: the build writes it");
  return html.replace(charset, found => `${found}\n    <meta http-equiv="Content-Security-Policy" content="${policy(origins)}" />`);
}

/** Makes a folder hold these files and no others; what is the same already is left alone. */
export function mirror(dir, files) {
  for (const name of filesUnder(dir)) if (!files.has(name)) rmSync(join(dir, name));
  for (const [name, content] of files) write(join(dir, name), content);
}
