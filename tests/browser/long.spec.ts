/** Hours of use in minutes: what a picture takes is given back. */

import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type { BrowserContext, Page } from "@playwright/test";
import { serve } from "../../scripts/serve.mjs";
import { answer, ask, BASE, caption, expect, ready, siteFolder, test } from "./house.js";

const PICTURES = 200;
const EARLY = 50;

/** Before the worker's own code: the engine's memory is put where a test finds it. */
const SHOW_MEMORY = `for (const way of ["instantiate", "instantiateStreaming"]) {
  const own = WebAssembly[way];
  WebAssembly[way] = async (...args) => {
    const made = await own.apply(WebAssembly, args);
    self.engineMemory = (made.instance ?? made).exports.memory;
    return made;
  };
}
`;

/** Of 64 KiB each. */
async function pages(page: Page): Promise<number> {
  const [worker] = page.workers();
  if (worker === undefined) throw new Error("the page has no worker");
  return worker.evaluate(() => {
    const memory: unknown = Reflect.get(self, "engineMemory");
    return memory instanceof WebAssembly.Memory ? memory.buffer.byteLength / 65_536 : 0;
  });
}

/** Of the processes that run pages, in MB, as the system counts it: the median of five, each after a collection. */
async function resident(page: Page, profile: BrowserContext): Promise<number> {
  const browser = await profile.browser()?.newBrowserCDPSession();
  const client = await profile.newCDPSession(page);
  const sizes: number[] = [];
  for (let i = 0; i < 5; i++) {
    await client.send("HeapProfiler.collectGarbage");
    await page.waitForTimeout(500);
    const { processInfo } = (await browser?.send("SystemInfo.getProcessInfo")) ?? { processInfo: [] };
    const renderers = processInfo.filter(({ type }) => type === "renderer");
    sizes.push(renderers.reduce((sum, { id }) => sum + Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${id}/status`, "utf8"))?.[1] ?? 0), 0));
  }
  await client.detach();
  await browser?.detach();
  return (sizes.sort((a, b) => a - b)[2] ?? 0) / 1024;
}

test("two hundred pictures and as many questions take no more memory than fifty @long", async ({ visitor: page, profile }) => {
  const site = await serve({
    mounts: { [BASE]: siteFolder },
    transform: (path, bytes) => (path.endsWith("/worker.js") ? Buffer.concat([Buffer.from(SHOW_MEMORY), bytes]) : bytes),
  });
  try {
    await page.goto(`${site.origin}${BASE}?device=cpu`);
    await ready(page, "cpu");
    const gallery = readdirSync("demo/gallery").filter(name => name.endsWith(".png"));
    let early = { pages: 0, resident: 0 };
    for (let i = 1; i <= PICTURES; i++) {
      const buffer = readFileSync(join("demo/gallery", gallery[i % gallery.length] ?? ""));
      await page.locator("#file").setInputFiles({ name: `${i}.png`, mimeType: "image/png", buffer });
      await expect(page.locator("#filmstrip [data-picture]")).toHaveCount(i);
      await page.locator("#filmstrip [data-picture]").last().click();
      expect(await caption(page), `picture ${i}`).not.toBe("");
      expect(await answer(await ask(page, "What is this?")), `picture ${i}`).not.toBe("");
      if (i === EARLY) early = { pages: await pages(page), resident: await resident(page, profile) };
    }
    const late = { pages: await pages(page), resident: await resident(page, profile) };
    console.log(
      `after ${EARLY} pictures ${early.pages} wasm pages and ${Math.round(early.resident)} MB, after ${PICTURES} ${late.pages} and ${Math.round(late.resident)} MB`,
    );
    expect(early.pages).toBeGreaterThan(0);
    expect(late.pages).toBe(early.pages);
    expect(late.resident).toBeLessThan(early.resident * 1.1);
  } finally {
    await site.close();
  }
});
