/** Hours of use in minutes: what a picture takes is given back. */

import { readFileSync } from "node:fs";
import { BASE, expect, ready, samples, test } from "./house.js";

const PICTURES = 200;

test("two hundred pictures take no more memory than fifty @long", async ({ visitor: page, site, profile }) => {
  await page.goto(`${site.origin}${BASE}?device=cpu#/batch`);
  await ready(page, "cpu");
  const browser = await profile.browser()?.newBrowserCDPSession();
  const client = await profile.newCDPSession(page);
  // Of the processes that run pages, in kB, as the system counts it; the least of three, each after a collection.
  const resident = async (): Promise<number> => {
    const sizes: number[] = [];
    for (let i = 0; i < 3; i++) {
      await client.send("HeapProfiler.collectGarbage");
      const { processInfo } = (await browser?.send("SystemInfo.getProcessInfo")) ?? { processInfo: [] };
      const pages = processInfo.filter(({ type }) => type === "renderer");
      sizes.push(pages.reduce((sum, { id }) => sum + Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${id}/status`, "utf8"))?.[1] ?? 0), 0));
    }
    return Math.min(...sizes);
  };
  const files = Array.from({ length: PICTURES }, (_, i) => {
    const [path = ""] = samples().slice(i % 12);
    return { name: `${i}.png`, mimeType: "image/png", buffer: readFileSync(path) };
  });
  const [chooser] = await Promise.all([page.waitForEvent("filechooser"), page.getByRole("button", { name: "Choose pictures" }).click()]);
  await chooser.setFiles(files);
  await page.locator("#batch-run").click();
  const written = page.locator('#batch-table tr[data-status="done"]');
  await expect.poll(() => written.count()).toBeGreaterThanOrEqual(50);
  const early = await resident();
  await expect(written).toHaveCount(PICTURES);
  const late = await resident();
  console.log(`after 50 pictures ${Math.round(early / 1024)} MB, after ${PICTURES} ${Math.round(late / 1024)} MB`);
  expect(late).toBeLessThan(early * 1.1);
});
