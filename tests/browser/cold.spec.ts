/** The first visit: what it downloads, how soon it paints, that nothing jumps, and that nobody else hears of it. */

import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { chromium, type Page } from "@playwright/test";
import { BUDGETS, isShrunk, packed } from "../../scripts/budgets.mjs";
import { launchOptions } from "../../scripts/chromium.mjs";
import { serve } from "../../scripts/serve.mjs";
import { answer, ask, BASE, caption, expect, open, ready, samples, SHARD, siteFolder, test } from "./house.js";

const sizeOf = (names: readonly string[]): number => packed(names.map(name => readFileSync(join(siteFolder, name))));

/** Counts from now on what the browser calls a layout shift. */
async function watchShifts(page: Page): Promise<() => Promise<number>> {
  await page.addInitScript(() => {
    const seen = { shift: 0 };
    Object.assign(window, { seen });
    new PerformanceObserver(list => {
      for (const entry of list.getEntries()) {
        const value: unknown = Reflect.get(entry, "value");
        if (typeof value === "number") seen.shift += value;
      }
    }).observe({ type: "layout-shift", buffered: true });
  });
  return () =>
    page.evaluate(() => {
      const seen: unknown = Reflect.get(window, "seen");
      const shift: unknown = typeof seen === "object" && seen !== null ? Reflect.get(seen, "shift") : null;
      return Number(shift);
    });
}

for (const [width, height] of [
  [390, 844],
  [1440, 900],
] as const) {
  test(`a cold visit is light, paints at once on a slow line and does not move (${width} px)`, async ({ visitor: page, site }) => {
    await page.setViewportSize({ width, height });
    const asked: string[] = [];
    page.on("request", request => request.serviceWorker() === null && asked.push(new URL(request.url()).pathname.slice(BASE.length)));
    const client = await page.context().newCDPSession(page);
    await client.send("Network.enable");
    await client.send("Network.emulateNetworkConditions", { offline: false, latency: 150, downloadThroughput: 200e3, uploadThroughput: 94e3 });
    const shifted = await watchShifts(page);
    await page.goto(`${site.origin}${BASE}?device=cpu`);
    await expect(page.locator("#samples button")).toHaveCount(6);
    await page.waitForTimeout(1000);
    const paint = await page.evaluate(() => performance.getEntriesByName("first-contentful-paint")[0]?.startTime ?? Number.POSITIVE_INFINITY);
    await client.send("Network.emulateNetworkConditions", { offline: false, latency: 0, downloadThroughput: -1, uploadThroughput: -1 });
    await ready(page, "cpu");
    await page.waitForTimeout(500);
    const shift = await shifted();
    const scripts = [...new Set(asked.filter(path => /^[^/]+\.js$/.test(path)))];
    const own = scripts.filter(path => !/^(worker|sw)\.js$/.test(path));
    const document = sizeOf(["index.html", "style.css"]);
    console.log(
      `paint ${Math.round(paint)} ms, shift ${shift.toFixed(4)}, HTML and CSS ${document} B, page ${sizeOf(own)} B, with its worker ${sizeOf(scripts)} B`,
    );
    expect(paint).toBeLessThan(1500);
    expect(shift).toBeLessThanOrEqual(0.02);
    expect(document).toBeLessThanOrEqual(BUDGETS.document.limit);
    expect(sizeOf(own)).toBeLessThanOrEqual(BUDGETS.script.limit);
    expect(
      own.some(path => /^(find|batch|models|ko|settings_sheet)-/.test(path)),
      "what is not opened is not fetched",
    ).toBe(false);
    expect(site.count(/\.wasm$/), "one engine, once").toBe(1);
    expect(site.count(/blip2_cpu_bg\.wasm$/)).toBe(1);
  });
}

test("what is painted before the script stays where it is to the pixel, which no count of shifts tells", async ({ visitor: page, site }) => {
  let release = (): void => {};
  const released = new Promise<void>(resolve => {
    release = resolve;
  });
  await page.route(/\.js$/, async route => {
    await released;
    await route.continue();
  });
  await page.route(
    url => SHARD.test(url.pathname),
    () => {},
  );
  await page.goto(`${site.origin}${BASE}?device=cpu`, { waitUntil: "commit" });
  await expect(page.locator("#samples img")).toHaveCount(6);
  const parts = page.locator("h1, #views, #drop, #ways-in, #samples, #bar");
  await expect(parts).toHaveCount(6);
  // A sheet is on this list once it is there; the document does not wait for it where scripts are held back.
  const sheets = () => page.evaluate(() => [...document.styleSheets].map(({ href }) => href));
  await expect.poll(sheets).toContain(`${site.origin}${BASE}style.css`);
  const places = () => parts.evaluateAll(all => all.map(part => `${part.id || part.tagName} ${part.getBoundingClientRect().top}`));
  const before = await places();
  release();
  await expect(page.locator("html")).toHaveAttribute("data-model", "loading");
  await expect(page.locator("#loading-figures")).not.toBeEmpty();
  expect(await places()).toEqual(before);
});

test("with every other host unresolvable all of it works, and another origin hears nothing", async () => {
  const elsewhere = await serve({ mounts: { "/": siteFolder } });
  const foreign = elsewhere.origin.replace("localhost", "127.0.0.1");
  // Its models name the other origin wherever an index can name one.
  const naming = (path: string, bytes: Buffer): Buffer => {
    if (!path.endsWith("/model.safetensors.index.json")) return bytes;
    const index: unknown = JSON.parse(bytes.toString());
    if (typeof index !== "object" || index === null) return bytes;
    const ui: unknown = Reflect.get(index, "ui");
    const named = {
      ...index,
      source: `${foreign}/model`,
      licence: foreign,
      ui: { ...Object(ui), licence_url: `${foreign}/card.html`, about: `See ${foreign}/about` },
    };
    return Buffer.from(JSON.stringify(named));
  };
  const site = await serve({ mounts: { [BASE]: siteFolder }, transform: naming });
  const folder = mkdtempSync(join(tmpdir(), "blip2-profile-"));
  const options = await launchOptions();
  const alone = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE 127.0.0.1";
  const profile = await chromium.launchPersistentContext(folder, { ...options, args: [...options.args, alone] });
  try {
    const page = await profile.newPage();
    const hosts = new Set<string>();
    profile.on("request", request => {
      const { protocol, host } = new URL(request.url());
      if (protocol.startsWith("http")) hosts.add(host);
    });
    await open(page, site, "cpu");
    const [picture = ""] = samples();
    await page.locator("#file").setInputFiles(picture);
    expect(await caption(page)).toContain("bee");
    await answer(await ask(page, "What is this?"));
    await page.locator("#status").click();
    await expect(page.locator("#details")).toContainText(foreign);
    await page.locator("#details .known button").first().click();
    await expect(page.locator("#use-model")).toBeVisible();
    await page.keyboard.press("Escape");
    await page.getByRole("link", { name: "Find" }).click();
    await expect(page.locator("#find")).toHaveAttribute("data-phase", "ready");
    await page.locator("#find-field").fill("a red car");
    await expect(page.locator("#find")).toHaveAttribute("data-fitting", "done");
    await page.getByRole("link", { name: "Batch" }).click();
    await page.getByRole("button", { name: "Try the samples" }).click();
    await page.locator("#batch-run").click();
    await expect(page.locator("#batch")).toHaveAttribute("data-run", "done");
    expect([...hosts]).toEqual([new URL(site.origin).host]);
    // An address of the other origin is refused by the page's policy, not by chance.
    await page.getByRole("link", { name: "Ask", exact: true }).click();
    await page.getByRole("button", { name: "From an address" }).first().click();
    await page.locator("dialog[open] input").fill(`${foreign}/samples/01-bee.png`);
    await page.keyboard.press("Enter");
    await expect(page.locator("#caption")).toHaveAttribute("data-status", "failed");
    expect(elsewhere.requests).toEqual([]);
  } finally {
    await profile.close();
    await site.close();
    await elsewhere.close();
    rmSync(folder, { recursive: true, force: true });
  }
});

for (const device of ["cpu", "webgpu"] as const) {
  test(`the engine for ${device} is small once it is shrunk`, async () => {
    const wasm = readFileSync(join(siteFolder, "wasm", `blip2_${device}_bg.wasm`));
    const shrunk = await isShrunk(wasm);
    const size = packed([wasm]);
    console.log(`${device}: ${size} B, ${shrunk ? "" : "not "}shrunk`);
    expect(size).toBeLessThanOrEqual(BUDGETS[device].limit * (shrunk ? 1 : 1.5));
  });
}
