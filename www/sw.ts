/**
 * The service worker: the page works without a network. It keeps the page, one version of it as a whole; models are none of its business, they are in
 * the engine's storage. It also takes what other apps share.
 */

export {}; // a module to the type checker; the built file is a classic script

/** Written by the build. version: a hash of every file of the site. files: the page without pictures, engines and models. */
declare const SHELL: { readonly version: string; readonly files: readonly string[] };
declare const self: ServiceWorkerGlobalScope;

const scope = new URL(self.registration.scope);
const PREFIX = `blip2 ${scope.pathname} `;
const CACHE = PREFIX + SHELL.version;
/** What was shared and not yet fetched by the page, whatever its version. */
const SHARED = `${PREFIX}shared`;
/** Of the same version as the page, and too large to be fetched before somebody needs them. */
const KEPT_WHEN_FETCHED = /^(wasm|samples|gallery)\//;

self.addEventListener("install", event => event.waitUntil(install()));
self.addEventListener("activate", event => event.waitUntil(activate()));
self.addEventListener("fetch", event => {
  const { request } = event;
  const url = new URL(request.url);
  if (url.origin !== scope.origin || !url.pathname.startsWith(scope.pathname)) return;
  const path = url.pathname.slice(scope.pathname.length);
  if (request.method === "POST" && path === "share") event.respondWith(share(request));
  if (request.method !== "GET") return;
  // A part of a file cannot be told from a whole one once it is kept.
  if (request.headers.has("range")) return;
  if (request.mode === "navigate" && (path === "" || path === "index.html")) event.respondWith(kept("index.html", request));
  else if (SHELL.files.includes(path)) event.respondWith(kept(path, request));
  else if (KEPT_WHEN_FETCHED.test(decodeURIComponent(path))) event.respondWith(fetched(path, request));
});
self.addEventListener("message", event => {
  const wish: unknown = event.data;
  // The visitor has agreed to the new version.
  if (wish === "take over") event.waitUntil(self.skipWaiting());
  // Fetched before this worker was there: the browser has it still.
  else if (typeof wish === "string" && KEPT_WHEN_FETCHED.test(wish)) event.waitUntil(keep(wish));
});

/** All of it or nothing: half a version would be none. */
async function install(): Promise<void> {
  const cache = await caches.open(CACHE);
  await cache.addAll(SHELL.files.map(file => new Request(new URL(file, scope), { cache: "no-cache" })));
}

async function activate(): Promise<void> {
  for (const name of await caches.keys()) if (name.startsWith(PREFIX) && name !== CACHE && name !== SHARED) await caches.delete(name);
  await self.clients.claim();
}

async function kept(path: string, request: Request): Promise<Response> {
  const cache = await caches.open(CACHE);
  return (await cache.match(new URL(path, scope))) ?? fetch(request);
}

async function fetched(path: string, request: Request): Promise<Response> {
  const cache = await caches.open(CACHE);
  const address = new URL(path, scope);
  const known = await cache.match(address);
  if (known !== undefined) return known;
  const response = await fetch(request);
  if (response.status === 200) await cache.put(address, response.clone()).catch(() => {}); // no room: it works with a network
  return response;
}

async function keep(path: string): Promise<void> {
  const cache = await caches.open(CACHE);
  const address = new URL(path, scope);
  if ((await cache.match(address)) !== undefined) return;
  const response = await fetch(address, { cache: "force-cache" }).catch(() => null);
  if (response?.status === 200) await cache.put(address, response).catch(() => {});
}

/** Pictures from another app: the page finds them when it opens. */
async function share(request: Request): Promise<Response> {
  const cache = await caches.open(SHARED);
  const form = await request.formData();
  for (const [index, file] of form.getAll("pictures").entries()) {
    if (!(file instanceof File)) continue;
    const headers = { "content-type": file.type, "x-name": encodeURIComponent(file.name) };
    await cache.put(new URL(`shared/${Date.now()}-${index}`, scope), new Response(file, { headers }));
  }
  return Response.redirect(scope.href, 303);
}
