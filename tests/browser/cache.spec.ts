/** What was downloaded once stays: by content, in the browser's storage. */

import { caption, expect, open, ready, SHARD, samples, test } from "./house.js";

for (const device of ["cpu", "webgpu"] as const) {
  test(`after a reload the model comes from the cache (${device})`, async ({ visitor: page, site }) => {
    await open(page, site, device);
    expect(site.count(SHARD)).toBeGreaterThan(0);
    site.forget();
    await page.reload();
    await ready(page, device);
    expect(site.count(SHARD), "shards asked for after the reload").toBe(0);
    expect(Number(await page.locator("html").getAttribute("data-model-cached"))).toBeGreaterThan(0);
    const [picture = ""] = samples();
    await page.locator("#file").setInputFiles(picture);
    expect(await caption(page)).not.toBe("");
  });
}
