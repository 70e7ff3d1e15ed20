/** What hosts do to a site: serve it from anywhere, without headers of its own, and now and then damage it. */

import { BASE, caption, expect, ready, SHARD, samples, siteFolder, test } from "./house.js";
import { serve } from "../../scripts/serve.mjs";

test("plain files on a sub-path are enough", async ({ visitor: page }) => {
  const site = await serve({ mounts: { "/a/b c/": siteFolder }, plain: true });
  try {
    const outside: string[] = [];
    page.on("request", request => {
      if (/^https?:/.test(request.url()) && !request.url().startsWith(`${site.origin}/a/b%20c/`)) outside.push(request.url());
    });
    await page.goto(`${site.origin}/a/b c/?device=cpu`);
    await ready(page, "cpu");
    const [picture = ""] = samples();
    await page.locator("#file").setInputFiles(picture);
    expect(await caption(page)).not.toBe("");
    expect(outside, "requests outside of the site").toEqual([]);
  } finally {
    await site.close();
  }
});

test("a damaged shard is refused, and the page says so", async ({ visitor: page }) => {
  let damaged = "";
  const site = await serve({
    mounts: { [BASE]: siteFolder },
    transform: (path: string, bytes: Buffer) => {
      if (!SHARD.test(path)) return bytes;
      damaged ||= path;
      if (path !== damaged) return bytes;
      const copy = Buffer.from(bytes);
      const middle = Math.floor(copy.length / 2);
      copy.writeUInt8(copy.readUInt8(middle) ^ 1, middle);
      return copy;
    },
  });
  try {
    await page.goto(`${site.origin}${BASE}?device=cpu`);
    await expect(page.locator("html")).toHaveAttribute("data-model", "failed");
    await expect(page.locator("html")).toHaveAttribute("data-device", "cpu");
    await expect(page.locator('[data-error-code="checksum-mismatch"]')).toBeVisible();
    expect(damaged).not.toBe("");
  } finally {
    await site.close();
  }
});
