// Every state of the page, and the way there: for photographs, and for what axe-core says of each.

import { readFileSync } from "node:fs";
import { at } from "../common.mjs";
import { serve } from "../serve.mjs";

export const WIDTHS = { 390: 844, 820: 1180, 1440: 900 };
const SHARD = /model-[0-9a-f]+\.safetensors$/;
const index = JSON.parse(readFileSync(at("demo", "model", "model.safetensors.index.json"), "utf8"));
const SPEAKS = new RegExp(
  `(${Object.keys(index.files)
    .filter(name => index.files[name].stage === "language")
    .join("|")})$`,
);
const sample = name => at("demo", "samples", name);
const many = ["10-cup_of_coffee-star.png", "01-bee.png", "03-smiley_face.png", "11-cactus-owl.png"].map(sample);

const ready = page => page.waitForSelector('html[data-model="ready"]');
const drop = (page, ...files) => page.setInputFiles("#file", files);
const captioned = page => page.waitForSelector('#caption[data-status="done"]');
const failed = page => page.waitForSelector('#caption[data-status="failed"]');

async function asked(page, ...questions) {
  for (const [index, question] of questions.entries()) {
    await page.fill("#question", question);
    await page.keyboard.press("Enter");
    await page.waitForSelector(`#turns li:nth-child(${index + 1})[data-status="done"]`);
  }
}

async function found(page, words, fitted = true) {
  await page.waitForSelector('#find[data-phase="ready"]');
  await page.waitForFunction(() => Number(document.querySelector("#find")?.getAttribute("data-seen")) >= 72);
  if (words === null) return;
  await page.fill("#find-field", words);
  if (fitted) await page.waitForSelector('#find[data-fitting="done"]');
}

/** Files as a drop brings them, made in the page: `make` runs there. */
const dropMade = (page, make, argument) =>
  page.evaluate(
    async ([source, argument]) => {
      const transfer = new DataTransfer();
      const files = await new Function(`return (${source})(arguments[0])`)(argument);
      for (const file of files) transfer.items.add(file);
      document.body.dispatchEvent(new DragEvent("drop", { dataTransfer: transfer, bubbles: true, cancelable: true }));
    },
    [String(make), argument],
  );

async function hugePicture() {
  const canvas = new OffscreenCanvas(12_500, 8000);
  const context = canvas.getContext("2d");
  const sky = context.createLinearGradient(0, 0, 0, 8000);
  sky.addColorStop(0, "#9fd3ff");
  sky.addColorStop(1, "#fff3d6");
  context.fillStyle = sky;
  context.fillRect(0, 0, 12_500, 8000);
  context.fillStyle = "#f5b301";
  context.beginPath();
  context.arc(6200, 4000, 2400, 0, 7);
  context.fill();
  return [new File([await canvas.convertToBlob({ type: "image/jpeg" })], "100 megapixels.jpg", { type: "image/jpeg" })];
}

async function manyPictures(count) {
  const files = [];
  for (let i = 0; i < count; i++) {
    const canvas = new OffscreenCanvas(96, 96);
    const context = canvas.getContext("2d");
    context.fillStyle = `hsl(${(i * 47) % 360} 60% 82%)`;
    context.fillRect(0, 0, 96, 96);
    context.fillStyle = `hsl(${(i * 47 + 180) % 360} 70% 45%)`;
    context.arc(30 + (i % 5) * 9, 30 + (i % 7) * 6, 18, 0, 7);
    context.fill();
    files.push(new File([await canvas.convertToBlob()], `picture-${i}.png`, { type: "image/png" }));
  }
  return files;
}

/** The page is kept by its service worker, and the engine with it. */
async function controlled(page) {
  for (;;) {
    const kept = await page.evaluate(async () => {
      const keys = await Promise.all((await caches.keys()).map(async name => (await caches.open(name)).keys()));
      return navigator.serviceWorker.controller !== null && keys.flat().some(({ url }) => url.endsWith("_bg.wasm"));
    });
    if (kept) return;
    await page.waitForTimeout(100);
  }
}

/** A model folder that was open on the last visit; for this one the browser wants to be asked. */
async function folderOfLastVisit(page) {
  await ready(page);
  await page.addInitScript(() => {
    Object.assign(FileSystemHandle.prototype, { queryPermission: async () => "prompt", requestPermission: async () => "granted" });
  });
  await page.evaluate(async () => {
    const handle = await (await navigator.storage.getDirectory()).getDirectoryHandle("my model", { create: true });
    const request = indexedDB.open("blip2-models", 1);
    request.onupgradeneeded = () => request.result.createObjectStore("handles");
    await new Promise(done => request.addEventListener("success", done));
    const transaction = request.result.transaction("handles", "readwrite");
    transaction.objectStore("handles").put(handle, "ask");
    await new Promise(done => transaction.addEventListener("complete", done));
    request.result.close();
    localStorage.setItem("blip2-model", "folder:my model");
  });
  await page.reload();
  await page.waitForSelector('html[data-model="offered"]');
}

/** Before the worker's own code: a disk without room. */
const FULL = 'IDBObjectStore.prototype.put = () => { throw new DOMException("no room", "QuotaExceededError"); };\n';

/** Before the worker's own code: a GPU that is lost with every answer but the first. */
const LOST = `{
  const post = postMessage.bind(self);
  const error = { code: "device-lost", message: "the GPU was lost", hint: "", retryable: true, facts: {} };
  let answers = 0;
  postMessage = (reply, ...rest) =>
    reply?.kind === "done" && reply.call === "generate" && ++answers > 1 ? post({ kind: "error", id: reply.id, error }) : post(reply, ...rest);
}
`;

/**
 * Each state: how the browser is set up (`context`, `insecure`: over plain http, `after`: behind another tab, where these paths never arrive), what the server
 * holds back (`hold`: paths that never arrive here) or changes
 * (`change`), where it begins (`hash`, `query`), and the way there.
 */
export const STATES = {
  "cold-start": { hold: /\.(js|json|wasm)$/, go: page => page.waitForTimeout(300) },
  "loading-nothing-dropped": {
    hold: SHARD,
    go: page => page.waitForSelector('html[data-model="loading"]'),
  },
  "loading-picture-waiting": {
    hold: SHARD,
    async go(page) {
      await page.waitForSelector('html[data-model="loading"]');
      await drop(page, many[0]);
      await page.waitForSelector("#waiting:not(:empty)");
    },
  },
  "picture-looked-at": {
    hold: SPEAKS,
    async go(page) {
      await page.waitForSelector('html[data-model="loading"]');
      await drop(page, many[0]);
      await page.waitForSelector('#waiting[data-ahead="done"]');
    },
  },
  "no-connection": {
    hold: SPEAKS,
    async go(page, { context }) {
      await page.waitForSelector('html[data-model="loading"]');
      await drop(page, many[0]);
      await page.waitForSelector('#waiting[data-ahead="done"]');
      const before = await page.textContent("#loading-figures");
      await context.setOffline(true);
      await page.waitForFunction(before => document.querySelector("#loading-figures")?.textContent !== before, before);
    },
  },
  "engine-on-its-way": {
    hold: /\.wasm$/,
    async go(page) {
      const before = await page.textContent("#loading-what");
      await page.waitForFunction(before => document.querySelector("#loading-what")?.textContent !== before, before);
    },
  },
  "folder-to-open": { go: folderOfLastVisit },
  "folder-gone": {
    async go(page) {
      await folderOfLastVisit(page);
      await page.evaluate(async () => (await navigator.storage.getDirectory()).removeEntry("my model"));
      await page.click("#model-actions button");
      await page.waitForSelector('html[data-model="failed"]');
    },
  },
  "part-missing": {
    context: { serviceWorkers: "block" },
    async go(page) {
      await ready(page);
      await page.route(/find-[^/]+\.js$/, route => route.abort());
      await page.click('#views a[href="#/find"]');
      await page.waitForSelector("#update");
    },
  },
  "another-tab": {
    // The first tab's files never arrive, and this one waits for its turn.
    after: SHARD,
    async go(page) {
      await page.waitForSelector('html[data-model="loading"]');
      await drop(page, many[0]);
      const waiting = await page.waitForSelector("#waiting:not(:empty)");
      const before = await waiting.textContent();
      await page.waitForFunction(before => document.querySelector("#waiting")?.textContent !== before, before);
    },
  },
  welcome: { go: ready },
  "caption-streaming": {
    // At the CPU's speed a caption is over before the camera is there: the last words are held back.
    async go(page) {
      await ready(page);
      await drop(page, many[0]);
      await captioned(page);
      await page.evaluate(() => {
        const words = document.querySelector("#caption-text");
        words.textContent = words.textContent.split(" ").slice(0, 6).join(" ");
        document.querySelector("#caption").setAttribute("data-status", "streaming");
        for (const button of document.querySelectorAll("#caption .actions button")) button.hidden = true;
        document.querySelector("#send").hidden = true;
        document.querySelector("#stop").hidden = false;
      });
    },
  },
  "chat-of-five": {
    async go(page) {
      await ready(page);
      await drop(page, ...many);
      await captioned(page);
      await asked(
        page,
        "What is this?",
        "What color is the background?",
        "Is there a star?",
        "What color is the star?",
        "How many things are there?",
      );
    },
  },
  stopped: {
    async go(page) {
      await ready(page);
      await drop(page, many[1]);
      await captioned(page);
      await asked(page, "What is this?");
      // As above: at this speed nobody could have stopped it.
      await page.evaluate(() => {
        const turn = document.querySelector("#turns li");
        turn.setAttribute("data-status", "stopped");
        turn.querySelector(".answer").textContent = "a";
        turn.querySelector(".state").textContent = "Stopped";
      });
    },
  },
  "other-captions": {
    async go(page) {
      await ready(page);
      await drop(page, many[0]);
      await captioned(page);
      await page.click("#caption .actions button:last-child");
      await page.waitForSelector("#caption .others li");
    },
  },
  "attention-on": {
    async go(page) {
      await ready(page);
      await drop(page, many[0]);
      await captioned(page);
      await page.click("#look-toggle");
      await page.click("#caption-text .word:nth-of-type(4)");
      await page.waitForFunction(() => /coffee/.test(document.querySelector("#look-note")?.textContent ?? ""));
    },
  },
  settings: {
    async go(page) {
      await ready(page);
      await page.click("#open-settings");
      await page.waitForSelector("#settings[open]");
    },
  },
  "find-encoding": {
    hash: "#/find",
    async go(page) {
      await page.waitForSelector('#find[data-phase="ready"]');
      await page.waitForFunction(() => Number(document.querySelector("#find")?.getAttribute("data-seen")) >= 6);
    },
  },
  "find-gallery": { hash: "#/find", go: page => found(page, null) },
  "find-results": { hash: "#/find", go: page => found(page, "a red car") },
  "find-none": { hash: "#/find", go: page => found(page, "a dentist in a submarine") },
  "batch-empty": {
    hash: "#/batch",
    async go(page) {
      await ready(page);
      await page.waitForSelector("#batch .empty");
    },
  },
  "batch-running": {
    hash: "#/batch",
    async go(page) {
      await ready(page);
      const [chooser] = await Promise.all([page.waitForEvent("filechooser"), page.click("#batch .empty button:first-child")]);
      const broken = { name: "broken.png", mimeType: "image/png", buffer: Buffer.from("no picture") };
      const files = [many[0], many[1], null, many[2], many[3], ...Array(40).fill(many).flat()]; // so many that it is not over too soon
      await chooser.setFiles(
        files.map(path => (path === null ? broken : { name: path.split("/").at(-1), mimeType: "image/png", buffer: readFileSync(path) })),
      );
      await page.click("#batch-run:enabled");
      await page.waitForSelector('#batch-table tr:nth-child(4)[data-status="done"]');
    },
  },
  "batch-done": {
    hash: "#/batch",
    async go(page) {
      await ready(page);
      await page.click("#batch .empty button:last-child");
      await page.click("#batch-run:enabled");
      await page.waitForSelector('#batch[data-run="done"]');
    },
  },
  "batch-cleared": {
    hash: "#/batch",
    async go(page) {
      await STATES["batch-done"].go(page);
      await page.click("#batch .view-tools button:last-child");
      await page.waitForSelector("#confirm[open]");
    },
  },
  models: {
    async go(page) {
      await ready(page);
      await page.click("#status");
      await page.waitForSelector("#cache li");
      await page.click("#details .known button");
      await page.waitForSelector("#use-model");
    },
  },
  "no-webgpu": {
    query: "",
    async go(page) {
      await ready(page);
      await page.click("#status");
      await page.waitForSelector("#cache li");
    },
  },
  offline: {
    async go(page, { context }) {
      await ready(page);
      await controlled(page);
      await context.setOffline(true);
      await page.reload();
      await ready(page);
      // A page that was loaded meanwhile is told of changes alone.
      await context.setOffline(false);
      await context.setOffline(true);
      await drop(page, many[2]);
      await captioned(page);
    },
  },
  "update-ready": {
    // The worker's file differs each time it is asked for, as it does with a new version.
    change: (path, bytes) => (path.endsWith("/sw.js") ? Buffer.concat([bytes, Buffer.from(`\n// ${process.hrtime.bigint()}`)]) : bytes),
    async go(page) {
      await ready(page);
      await controlled(page);
      await page.reload();
      await ready(page);
      await page.waitForSelector("#update");
    },
  },
  "no-room": {
    change: (path, bytes) => (path.endsWith("/worker.js") ? Buffer.concat([Buffer.from(FULL), bytes]) : bytes),
    async go(page) {
      await ready(page);
      await page.waitForSelector("#model-problem:not([hidden])");
    },
  },
  "model-damaged": {
    // The smallest, which is soon fetched and refused.
    change: (path, bytes) => (SHARD.test(path) && bytes.length < 1e5 ? Buffer.from(bytes).fill(7, 5000, 5100) : bytes),
    go: page => page.waitForSelector('html[data-model="failed"]'),
  },
  "camera-denied": {
    async go(page) {
      await ready(page);
      await page.click("#ways-in button");
      await page.waitForSelector("#camera .problem:not([hidden])");
    },
  },
  "device-recovering": {
    context: { serviceWorkers: "block" },
    async go(page, { context }) {
      await ready(page);
      await drop(page, many[1]);
      await captioned(page);
      await context.route(/\.wasm$/, () => {}); // the engine that starts anew is on its way for ever
      for (const worker of page.workers()) await worker.evaluate(() => void Promise.reject(new WebAssembly.RuntimeError("unreachable")));
      await page.fill("#question", "What is this?");
      await page.keyboard.press("Enter");
      const state = await page.waitForSelector("#turns .state:not(:empty)");
      const before = await state.textContent(); // that it thinks; then that it takes its time
      await page.waitForFunction(before => document.querySelector("#turns .state")?.textContent !== before, before);
    },
  },
  "device-lost": {
    change: (path, bytes) => (path.endsWith("/worker.js") ? Buffer.concat([Buffer.from(LOST), bytes]) : bytes),
    async go(page) {
      await ready(page);
      await drop(page, many[1]);
      await captioned(page);
      await page.fill("#question", "What is this?");
      await page.keyboard.press("Enter");
      await page.waitForSelector('#turns li[data-status="failed"]');
    },
  },
  "model-for-find": {
    query: "?device=cpu&model=models/demo-retrieval/",
    go: page => page.waitForSelector('html[data-model="failed"]'),
  },
  "broken-picture": {
    async go(page) {
      await ready(page);
      await page.setInputFiles("#file", [{ name: "holiday.png", mimeType: "image/png", buffer: Buffer.from("no picture") }]);
      await failed(page);
    },
  },
  "five-hundred": {
    context: { bypassCSP: true },
    async go(page) {
      await ready(page);
      await dropMade(page, manyPictures, 500);
      await captioned(page);
    },
  },
  "plain-http": {
    insecure: true,
    query: "",
    async go(page) {
      await ready(page);
      await page.click("#status");
      await page.waitForSelector("#details[open]");
    },
  },
  "huge-picture": {
    context: { bypassCSP: true }, // the picture is made in the page
    async go(page) {
      await ready(page);
      await dropMade(page, hugePicture);
      await page.waitForSelector('#caption:is([data-status="done"], [data-status="failed"])');
    },
  },
};

/** A name that is this machine, and no secure context. */
const HTTP = "pictures.test";
/** Flags of the browser: that name, and a camera which nobody has allowed. */
export const OWN = [`--host-resolver-rules=MAP ${HTTP} 127.0.0.1`, "--use-fake-device-for-media-stream"];

/** Opens the page of `folder` in a state and lets `look` have it. Returns what that returns. */
export async function visit(browser, folder, { state, width, scheme, language }, look) {
  const { context: how = {}, after, hold, change, hash = "", query = "?device=cpu", insecure = false, go } = STATES[state];
  const site = await serve({ mounts: { "/": folder }, ...(change && { transform: change }) });
  const touch = width < 1000;
  const context = await browser.newContext({
    ...how,
    viewport: { width, height: WIDTHS[width] },
    colorScheme: scheme,
    locale: language,
    hasTouch: touch,
    isMobile: touch,
    deviceScaleFactor: 1,
  });
  const page = await context.newPage();
  try {
    if (hold)
      await page.route(
        url => hold.test(url.pathname),
        () => {},
      );
    const origin = insecure ? site.origin.replace("localhost", HTTP) : site.origin;
    const address = `${origin}/${query}${hash}`;
    if (after) {
      const other = await context.newPage();
      await other.route(
        url => after.test(url.pathname),
        () => {},
      );
      await other.goto(address);
      await other.waitForSelector('html[data-model="loading"]');
    }
    await page.goto(address, { waitUntil: hold ? "commit" : "load" });
    page.setDefaultTimeout(60_000);
    await go(page, { context });
    await page.waitForTimeout(400); // what moves has arrived
    return await look(page);
  } finally {
    await context.close();
    await site.close();
  }
}
