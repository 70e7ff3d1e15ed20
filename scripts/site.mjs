// dist/: a static site that can be copied to any host, under any path.

import { existsSync, mkdirSync, readFileSync, rmSync } from "node:fs";
import { basename, join } from "node:path";
import { bundle } from "./bundle.mjs";
import { at, filesUnder, hash, recall, say, Stop, write } from "./common.mjs";
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

/** The first is there before the first paint; the others come with their views. */
const STYLES = { style: ["style.css"], find: ["find", "find.css"], batch: ["batch", "batch.css"], models: ["models", "models.css"] };

/** Writes dist/. `built` is what `wasm()` returned; `dir` may be another folder; `offline`: with a service worker, which keeps the page. */
export async function site(tools, built, { dir = at("dist"), minify = false, offline = true, origins = [] } = {}) {
  for (const origin of origins) {
    if (!/^https?:\/\/[^\s;,'"]+$/.test(origin)) throw new Stop(`${origin}: not an origin like https://models.example.org`);
  }
  const bundles = at("build", "bundle");
  rmSync(bundles, { recursive: true, force: true });
  mkdirSync(bundles, { recursive: true });
  const styles = Object.entries(STYLES).map(([name, source]) => [name, at("www", "ui", ...source)]);
  const entries = { main: at("www", "ui", "main.ts"), worker: at("www", "worker.ts"), ...Object.fromEntries(styles) };
  const { packages, needs } = await bundle(entries, bundles, { minify });

  const files = new Map();
  for (const name of filesUnder(bundles)) files.set(name, readFileSync(join(bundles, name)));
  for (const { path } of built) files.set(`wasm/${basename(path)}`, readFileSync(path));
  addModel(files, "model", "demo");
  addModel(files, "retrieval", "demo-retrieval");
  addPictures(files, "samples", "expected.json");
  addPictures(files, "gallery", "index.json");
  for (const name of filesUnder(at("www", "ui"), name => /^(icon.*\.(svg|png)|app\.webmanifest)$/.test(name))) {
    files.set(name, readFileSync(at("www", "ui", name)));
  }
  const html = withSamples(withPreloads(withPolicy(readFileSync(at("index.html"), "utf8"), origins), needs.main), files.get("samples/index.json"));
  files.set("index.html", offline ? withMeta(html, "blip2-offline", "sw.js") : html);
  files.set("_headers", headers(origins));
  files.set("THIRD_PARTY_NOTICES.txt", await notices(tools, packages));
  for (const { name, content } of ownLicences()) files.set(name, content);
  if (offline) files.set("sw.js", await serviceWorker(files, { minify }));
  mirror(dir, files);
  return { dir, files, packages };
}

/** A converted model of demo/ under models/, and beside it the card that its index points to. */
function addModel(files, folder, name) {
  const from = at("demo", folder);
  const names = filesUnder(from);
  if (names.length === 0) say(`site: demo/${folder}/ is missing (a converted demo model): the page will find nothing in models/${name}/`);
  for (const file of names) files.set(`models/${name}/${file}`, readFileSync(join(from, file)));
  const card = recall(join(from, "model.safetensors.index.json"))?.ui?.licence_url;
  if (card && existsSync(at("demo", card))) files.set(`models/${name}/${card}`, readFileSync(at("demo", card)));
}

/** Pictures of demo/, and their list with a description of each: what the recipe that drew them says that they show. */
function addPictures(files, folder, list) {
  const found = recall(at("demo", folder, list));
  if (!found) say(`site: demo/${folder}/ is missing: the page will show no pictures from there`);
  const pictures = (found ?? []).map(({ file, caption }) => ({ file, alt: caption }));
  for (const { file } of pictures) files.set(`${folder}/${file}`, readFileSync(at("demo", folder, file)));
  files.set(`${folder}/index.json`, `${JSON.stringify(pictures, null, 2)}\n`);
  const notice = at("demo", folder, "NOTICE.md");
  if (existsSync(notice)) files.set(`${folder}/NOTICE.md`, readFileSync(notice));
}

const CHARSET = /<meta charset="[^"]*"\s*\/?>/i;

function withPolicy(html, origins) {
  if (!CHARSET.test(html)) throw new Stop("index.html has no <meta charset>: the policy is put behind it");
  if (/http-equiv="Content-Security-Policy"/i.test(html)) throw new Stop("index.html holds a policy of its own: the build writes it");
  return html.replace(CHARSET, found => `${found}\n<meta http-equiv="Content-Security-Policy" content="${policy(origins)}">`);
}

const withMeta = (html, name, content) => html.replace("<title>", found => `<meta name="${name}" content="${content}">\n${found}`);

/** What a visitor without a network needs before anything is asked. Pictures and engines are kept once they are used; models keep themselves. */
const SHELL = /^(index\.html|[^/]+\.(js|css|svg|png|webmanifest)|(samples|gallery)\/index\.json)$/;

async function serviceWorker(files, { minify }) {
  const version = hash(...[...files].flat()).slice(0, 16);
  const shell = { version, files: [...files.keys()].filter(name => SHELL.test(name)) };
  const folder = at("build", "sw");
  await bundle({ sw: at("www", "sw.ts") }, folder, { minify, define: { SHELL: JSON.stringify(shell) } });
  return readFileSync(join(folder, "sw.js"), "utf8").replace(/^\/\/# sourceMappingURL=.*\n?/gm, "");
}

/** What the page's script imports is fetched along with it, not after it. */
function withPreloads(html, files) {
  const script = '<script type="module" src="main.js">';
  if (!html.includes(script)) throw new Stop(`index.html has no ${script}`);
  return html.replace(script, found => [...files.map(file => `<link rel="modulepreload" href="${file}">`), found].join("\n"));
}

/** As many as the page begins with (SAMPLES_AT_START in www/ui/view.ts): they are there before its script is, which then takes their place. */
const SAMPLES = 6;

function withSamples(html, list) {
  const place = /(<ul id="samples"[^>]*>)(<\/ul>)/;
  if (!place.test(html)) throw new Stop('index.html has no empty <ul id="samples">');
  const pictures = JSON.parse(list).slice(0, SAMPLES);
  const tiles = pictures.map(({ file }) => `<li class="thumb"><img src="samples/${encodeURIComponent(file)}" alt=""></li>`);
  return html.replace(place, (_, start, end) => start + tiles.join("") + end);
}

/** Makes a folder hold these files and no others; what is the same already is left alone. */
export function mirror(dir, files) {
  for (const name of filesUnder(dir)) if (!files.has(name)) rmSync(join(dir, name));
  for (const [name, content] of files) write(join(dir, name), content);
}
