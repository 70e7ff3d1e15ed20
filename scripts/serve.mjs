// A static file server for development and tests: correct types, ranges, nothing outside its folders, and a count of what was asked for.

import { createReadStream, existsSync, readFileSync } from "node:fs";
import { realpath, stat } from "node:fs/promises";
import { createServer } from "node:http";
import { extname, join, sep } from "node:path";
import { isMain, main, say, Stop } from "./common.mjs";

export const TYPES = {
  ".html": "text/html; charset=utf-8",
  ".js": "text/javascript; charset=utf-8",
  ".mjs": "text/javascript; charset=utf-8",
  ".css": "text/css; charset=utf-8",
  ".json": "application/json; charset=utf-8",
  ".map": "application/json; charset=utf-8",
  ".txt": "text/plain; charset=utf-8",
  ".md": "text/markdown; charset=utf-8",
  ".wasm": "application/wasm",
  ".safetensors": "application/octet-stream",
  ".png": "image/png",
  ".jpg": "image/jpeg",
  ".jpeg": "image/jpeg",
  ".webp": "image/webp",
  ".gif": "image/gif",
  ".bmp": "image/bmp",
  ".svg": "image/svg+xml",
  ".ico": "image/x-icon",
  ".webmanifest": "application/manifest+json",
};

/**
 * Serves `mounts` ({"/": folder, "/models/": folder}; the longest prefix wins) and `made` ({"/path": () => string | Buffer}).
 * A mounted folder's `_headers` file is obeyed as some static hosts do, but for `plain`. `transform(path, bytes)` may return other bytes: tests damage files with it.
 * `instead(path, request, response)` sees a request first, and answers it itself where it returns true.
 * @param {{ mounts?: Record<string, string>, made?: Record<string, () => string | Buffer>, port?: number, host?: string, plain?: boolean,
 *   transform?: (path: string, bytes: Buffer) => Buffer,
 *   instead?: (path: string, request: import("node:http").IncomingMessage, response: import("node:http").ServerResponse) => boolean }} [options]
 * Returns { origin, port, requests, count(pattern), forget(), close() }; requests is a list of the paths asked for, in order.
 */
export async function serve({ mounts = {}, made = {}, port = 0, host = "localhost", transform, instead, plain: bare = false } = {}) {
  const requests = [];
  const places = [];
  for (const [prefix, folder] of Object.entries(mounts)) {
    if (!existsSync(folder)) throw new Stop(`there is no ${folder} to serve`);
    places.push({ prefix, folder: await realpath(folder), rules: bare ? [] : headerRules(join(folder, "_headers")) });
  }
  places.sort((a, b) => b.prefix.length - a.prefix.length);

  const server = createServer((request, response) => {
    answer(request, response).catch(error => {
      if (!response.headersSent) plain(response, 500, String(error));
      else response.destroy();
    });
  });

  async function answer(request, response) {
    const asked = decode(request.url ?? "/");
    if (asked === null) return plain(response, 400, "bad request");
    requests.push(asked);
    if (instead?.(asked, request, response)) return;
    if (request.method !== "GET" && request.method !== "HEAD") return plain(response, 405, "only GET and HEAD", { allow: "GET, HEAD" });
    if (Object.hasOwn(made, asked))
      return send(request, response, { body: Buffer.from(await made[asked]()), headers: { "content-type": typeOf(asked) } });
    const place = places.find(({ prefix }) => asked.startsWith(prefix) || `${asked}/` === prefix);
    if (!place) return plain(response, 404, "not found");
    const inside = asked.slice(place.prefix.length);
    let path = await within(place.folder, inside);
    let facts = path && (await stat(path));
    if (facts?.isDirectory()) {
      if (!asked.endsWith("/")) return plain(response, 308, "moved", { location: `${encodeURI(asked)}/` });
      path = await within(place.folder, join(inside, "index.html"));
      facts = path && (await stat(path));
    }
    if (!facts?.isFile()) return plain(response, 404, "not found");
    const headers = { "content-type": typeOf(path), ...matching(place.rules, `/${inside}`) };
    if (transform) {
      const before = readFileSync(path);
      const body = transform(asked, before) ?? before;
      return send(request, response, { body, headers });
    }
    headers.etag = `"${facts.size.toString(36)}-${Math.floor(facts.mtimeMs).toString(36)}"`;
    return send(request, response, { path, length: facts.size, headers });
  }

  await new Promise((done, failed) => {
    server.once("error", error => failed(error.code === "EADDRINUSE" ? new Stop(`port ${port} is taken: choose another with PORT=…`) : error));
    server.listen(port, host, done);
  });
  const bound = server.address().port;
  return {
    port: bound,
    origin: `http://localhost:${bound}`,
    requests,
    count: pattern => requests.filter(path => pattern.test(path)).length,
    forget: () => requests.splice(0),
    close: () =>
      new Promise(done => {
        server.closeAllConnections();
        server.close(done);
      }),
  };
}

/** The path that was asked for, or null where it is none: broken escapes, NUL, backslashes, steps upwards. */
function decode(url) {
  try {
    const path = decodeURIComponent(url.split(/[?#]/, 1)[0]);
    const bad = !path.startsWith("/") || path.includes("\0") || path.includes("\\") || path.split("/").includes("..");
    return bad ? null : path;
  } catch {
    return null;
  }
}

/** The file's real path, or null where there is none or a link leads out of the folder. */
async function within(folder, name) {
  const path = await realpath(join(folder, name)).catch(() => null);
  return path !== null && (path === folder || path.startsWith(folder.endsWith(sep) ? folder : folder + sep)) ? path : null;
}

const typeOf = path => TYPES[extname(path).toLowerCase()] ?? "application/octet-stream";

function plain(response, status, text, headers = {}) {
  response.writeHead(status, { "content-type": "text/plain; charset=utf-8", "content-length": Buffer.byteLength(text), ...headers }).end(text);
}

function send(request, response, { body, path, length = body.length, headers }) {
  const common = { "accept-ranges": "bytes", "cache-control": "no-cache", "x-content-type-options": "nosniff", ...headers };
  if (common.etag && request.headers["if-none-match"] === common.etag) return response.writeHead(304, common).end();
  const range = rangeOf(request.headers.range, length);
  if (range === "unsatisfiable") return response.writeHead(416, { ...common, "content-range": `bytes */${length}`, "content-length": 0 }).end();
  const { start, end } = range ?? { start: 0, end: length - 1 };
  if (range) common["content-range"] = `bytes ${start}-${end}/${length}`;
  response.writeHead(range ? 206 : 200, { ...common, "content-length": end - start + 1 });
  if (request.method === "HEAD" || length === 0) return response.end();
  if (body) return response.end(body.subarray(start, end + 1));
  return createReadStream(path, { start, end })
    .on("error", () => response.destroy())
    .pipe(response);
}

/** One range of bytes; null for none, and for what HTTP says to ignore (several ranges, other units). */
function rangeOf(header, length) {
  const found = /^bytes=(\d*)-(\d*)$/.exec(header ?? "");
  if (!found || (found[1] === "" && found[2] === "")) return null;
  if (found[1] === "") {
    const tail = Math.min(Number(found[2]), length);
    return tail === 0 ? "unsatisfiable" : { start: length - tail, end: length - 1 };
  }
  const start = Number(found[1]);
  const end = found[2] === "" ? length - 1 : Math.min(Number(found[2]), length - 1);
  if (start >= length) return "unsatisfiable";
  return start > end ? null : { start, end };
}

/** A `_headers` file: a path pattern with `*`, then its headers, indented. */
function headerRules(path) {
  if (!existsSync(path)) return [];
  const rules = [];
  for (const line of readFileSync(path, "utf8").split(/\r?\n/)) {
    const header = /^\s+([^:\s]+):\s*(.*)$/.exec(line);
    if (header) rules.at(-1)?.headers.push([header[1].toLowerCase(), header[2]]);
    else if (line.startsWith("/")) {
      const pattern = line
        .trim()
        .replace(/[.+?^${}()|[\]\\]/g, "\\$&")
        .replaceAll("*", ".*");
      rules.push({ pattern: new RegExp(`^${pattern}$`), headers: [] });
    }
  }
  return rules;
}
const matching = (rules, path) => Object.fromEntries(rules.filter(rule => rule.pattern.test(path)).flatMap(rule => rule.headers));

if (isMain(import.meta)) {
  await main(async ([folder = "dist"]) => {
    const { origin } = await serve({ mounts: { "/": folder }, port: Number(process.env.PORT ?? 8000) });
    say(`serving ${folder} at ${origin}/`);
  });
}
