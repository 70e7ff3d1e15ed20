/** What an installed app has: it opens without a network, takes new versions when the visitor agrees, and is handed pictures by the system. */

import type { DeviceKind } from "../index.js";
import { h, say, wordButton } from "./dom.js";
import type { Said } from "./words.js";
import { type Found, fromFiles } from "./files.js";

/** Does nothing where the site has no service worker: in development, and on plain http. */
export async function keepForOffline(device: () => Promise<DeviceKind>): Promise<void> {
  const script = document.querySelector<HTMLMetaElement>('meta[name="blip2-offline"]')?.content;
  if (script === undefined || !("serviceWorker" in navigator)) return;
  try {
    const registration = await navigator.serviceWorker.register(new URL(script, document.baseURI));
    watchForUpdates(registration);
    const { active } = await navigator.serviceWorker.ready;
    active?.postMessage(`wasm/blip2_${await device()}_bg.wasm`);
  } catch {
    return; // a browser that refuses it shows the page all the same
  }
}

/** A page and an engine of two versions would not understand each other: so the visitor says when. */
function watchForUpdates(registration: ServiceWorkerRegistration): void {
  const offer = () => {
    const { waiting } = registration;
    if (waiting === null || navigator.serviceWorker.controller === null) return;
    const take = () => {
      navigator.serviceWorker.addEventListener("controllerchange", () => location.reload(), { once: true });
      waiting.postMessage("take over");
    };
    offerReload("updateReady", take);
  };
  const follow = () => {
    const { installing } = registration;
    installing?.addEventListener("statechange", () => installing.state === "installed" && offer());
  };
  offer();
  follow(); // it may be on its way already
  registration.addEventListener("updatefound", follow);
}

/** A bar over the page, in the place of one that is there: what is told now is what the visitor has just met. */
function offerReload(why: Said, reload: () => void): void {
  document.getElementById("update")?.remove();
  const bar = h("div", { id: "update", role: "status" }, say(h("p", {}), why));
  bar.append(
    wordButton("later", () => bar.remove(), "text"),
    wordButton("reload", reload, "plain main"),
  );
  document.body.append(bar);
}

/** A part of the page that is fetched when it is first wanted; null where that fails. The browser does not try again by itself: only a new page does. */
export async function fetched<T>(part: Promise<T>): Promise<T | null> {
  try {
    return await part;
  } catch (error) {
    console.error(error); // for developers: it may be something else than the connection
    offerReload("partMissing", () => location.reload());
    return null;
  }
}

interface LaunchQueue {
  setConsumer(consumer: (launch: { readonly files?: readonly FileSystemFileHandle[] }) => void): void;
}
const isLaunchQueue = (value: unknown): value is LaunchQueue =>
  typeof value === "object" && value !== null && "setConsumer" in value && typeof value.setConsumer === "function";

/** Pictures that were shared with the app, or opened with it. */
export async function takeHandedPictures(take: (found: Found[]) => void): Promise<void> {
  const queue: unknown = Reflect.get(window, "launchQueue");
  if (isLaunchQueue(queue)) {
    queue.setConsumer(({ files = [] }) => {
      if (files.length > 0) void Promise.all(files.map(handle => handle.getFile())).then(opened => take(fromFiles(opened)));
    });
  }
  if (!("caches" in window)) return; // plain http
  const name = `blip2 ${new URL("./", document.baseURI).pathname} shared`;
  if (!(await caches.has(name))) return;
  const cache = await caches.open(name);
  const shared: File[] = [];
  for (const request of await cache.keys()) {
    const response = await cache.match(request);
    await cache.delete(request);
    if (response === undefined) continue;
    const blob = await response.blob();
    shared.push(new File([blob], decodeURIComponent(response.headers.get("x-name") ?? "picture"), { type: blob.type }));
  }
  if (shared.length > 0) take(fromFiles(shared));
}
