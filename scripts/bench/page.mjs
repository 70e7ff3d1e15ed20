// The bench page: made, served, opened in a Chromium of its own with an empty profile, and watched until it ends.

import { copyFileSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { bundle } from "../bundle.mjs";
import { flags } from "../chromium.mjs";
import { at } from "../common.mjs";
import { serve } from "../serve.mjs";
import { putWorkbench, wasm } from "../wasm.mjs";
import { openBrowser } from "./browser.mjs";
import { Watch } from "./processes.mjs";

/** A software GPU may need minutes for the shapes of a real model. */
const SILENCE = 30 * 60_000;

/** With these a page is isolated from others, and its clock tells microseconds instead of tenths of milliseconds. */
const HEADERS = `/*
  Cross-Origin-Opener-Policy: same-origin
  Cross-Origin-Embedder-Policy: require-corp
`;

/** The folder with the page and the wasm of one device; `optimize`: as it ships. `own`: also that with the bench's own functions. */
export async function benchPage(tools, device, { own, optimize }) {
  const source = at("tests", "browser", "bench");
  const dir = at("build", `bench-page-${device}`);
  rmSync(dir, { recursive: true, force: true });
  mkdirSync(join(dir, "wasm"), { recursive: true });
  const [{ path }] = await wasm(tools, { devices: [device], optimize });
  copyFileSync(path, join(dir, "wasm", basename(path)));
  const workbench = own ? await putWorkbench(tools, device, join(dir, "wasm"), { optimize }) : null;
  await bundle({ page: join(source, "page.ts"), worker: join(source, "worker.ts") }, dir, { only: device });
  for (const name of ["index.html", "empty.html"]) copyFileSync(join(source, name), join(dir, name));
  writeFileSync(join(dir, "_headers"), HEADERS);
  return { dir, own: workbench };
}

/**
 * Runs one task ({ device, … } as tests/browser/bench/messages.ts has it, less the addresses, which are made here) on a folder with a model.
 * Returns what the page ended with, and { browser, memory }: the browser's version, and resident bytes of its renderers and GPU process: of an empty page,
 * and the peak of each phase.
 */
export async function runTask(tools, { dir, own }, task, { model, pictures }, onLine) {
  const profile = mkdtempSync(join(tmpdir(), "blip2-bench-"));
  const watch = new Watch(profile);
  const files = new Map(pictures.map((path, place) => [`/pictures/${place}`, path]));
  let origin = "";
  const whole = () => ({
    ...task,
    model: `${origin}/model/`,
    pictures: [...files.keys()].map(name => `${origin}${name}/${basename(files.get(name))}`),
    own: own && `${origin}/wasm/${own}`,
    clock: `${origin}/clock.json`,
  });
  const server = await serve({
    mounts: { "/": dir, "/model/": model, ...Object.fromEntries(pictures.map((path, place) => [`/pictures/${place}/`, join(path, "..")])) },
    made: { "/task.json": () => JSON.stringify(whole()), "/clock.json": () => JSON.stringify(watch.workerTime()) },
  });
  origin = server.origin;
  const page = { onLine: () => {}, onEnd: () => {} };
  let browser = null;
  try {
    browser = await openBrowser(tools.chromium, profile, flags, { onLine: text => page.onLine(text), onEnd: reason => page.onEnd(reason) });
    await browser.go(`${origin}/empty.html`);
    await new Promise(done => setTimeout(done, 1000));
    const empty = watch.look();
    watch.start();
    const outcome = await ended(page, () => browser.go(`${origin}/`), watch, onLine);
    watch.stop();
    const name = /Chrome\/[\d.]+/.exec(browser.product)?.[0].replace("/", " ") ?? browser.product;
    return { ...outcome, browser: name, memory: { empty, peaks: watch.peaks } };
  } finally {
    watch.stop();
    await browser?.close();
    await server.close();
    rmSync(profile, { recursive: true, force: true });
  }
}

/** Opens the page and waits for its last word. */
function ended(page, open, watch, onLine) {
  return new Promise(done => {
    let clock;
    const end = outcome => {
      page.onLine = () => {};
      clearTimeout(clock);
      done(outcome);
    };
    const wind = () => {
      clearTimeout(clock);
      clock = setTimeout(() => end({ error: `no word for ${SILENCE / 60_000} minutes` }), SILENCE);
    };
    page.onLine = line => {
      wind();
      const [, kind, text] = /^bench (phase|line|end) (.*)$/s.exec(line) ?? [];
      if (kind === "phase") watch.phase = text;
      else if (kind === "end") end(JSON.parse(text));
      else onLine(text ?? line);
    };
    page.onEnd = reason => end({ error: reason });
    wind();
    open().catch(error => end({ error: String(error) }));
  });
}
