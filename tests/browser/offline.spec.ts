/** The page as an app: without a network, in a new version, and with pictures from elsewhere. */

import { mkdtempSync, cpSync, rmSync, readFileSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Page } from "@playwright/test";
import { serve } from "../../scripts/serve.mjs";
import { answer, ask, BASE, caption, expect, open, ready, samples, siteFolder, test } from "./house.js";

/** The worker is there, and has the engine too. */
const keptForOffline = (page: Page) =>
  expect
    .poll(() =>
      page.evaluate(async () => {
        const keys = await Promise.all((await caches.keys()).map(async name => (await caches.open(name)).keys()));
        return navigator.serviceWorker.controller !== null && keys.flat().some(({ url }) => url.endsWith("_bg.wasm"));
      }),
    )
    .toBe(true);

test("after one visit it works without a network: captions, questions, the sample gallery's search", async ({ visitor: page, site, profile }) => {
  await open(page, site, "cpu");
  await keptForOffline(page);
  await profile.setOffline(true);
  await page.reload();
  await ready(page, "cpu");
  const [picture = ""] = samples();
  await page.locator("#file").setInputFiles(picture);
  expect(await caption(page)).toContain("bee");
  expect(await answer(await ask(page, "What is this?"))).not.toBe("");
  await page.getByRole("link", { name: "Batch" }).click();
  await expect(page.locator("#batch .empty")).toBeVisible();
  await page.getByRole("link", { name: "Ask", exact: true }).click();
  await page.locator("#open-settings").click();
  await page.getByRole("button", { name: "한국어" }).click();
  await expect(page.locator("html")).toHaveAttribute("lang", "ko");
});

test("a part of the page that cannot be fetched is told of, with the way to have it", async ({ visitor: page, site }) => {
  // A service worker would have it.
  await page.addInitScript(() => void Reflect.deleteProperty(Navigator.prototype, "serviceWorker"));
  await page.route(/\/find-[^/]+\.js$/, route => route.abort());
  await open(page, site, "cpu");
  await page.getByRole("link", { name: "Find" }).click();
  await expect(page.locator("#update")).toContainText("This part of the page could not be fetched.");
  await page.locator("#update").getByRole("button", { name: "Later" }).click();
  await expect(page.locator("#update")).toBeHidden();
  await page.getByRole("link", { name: "Find" }).click();
  await expect(page.locator("#update"), "it is tried again").toBeVisible();
  await page.unrouteAll();
  await page.locator("#update").getByRole("button", { name: "Reload" }).click();
  await expect(page.locator("#find")).toHaveAttribute("data-phase", "ready");
});

test("a new version waits until the visitor takes it, and never mixes with the old one", async ({ visitor: page }) => {
  const folder = mkdtempSync(join(tmpdir(), "blip2-site-"));
  cpSync(siteFolder, folder, { recursive: true });
  const site = await serve({ mounts: { [BASE]: folder } });
  try {
    await page.goto(`${site.origin}${BASE}?device=cpu`);
    await keptForOffline(page);
    for (const [name, from, to] of [
      ["index.html", "Ask your pictures</title>", "Another version</title>"],
      ["sw.js", /version:\s*"[0-9a-f]+"|"version":\s*"[0-9a-f]+"/, 'version:"another"'],
    ] as const) {
      const path = join(folder, name);
      writeFileSync(path, readFileSync(path, "utf8").replace(from, to));
    }
    await page.reload();
    await expect(page.locator("#update")).toBeVisible();
    await expect(page).toHaveTitle("Ask your pictures");
    await page.locator("#update").getByRole("button", { name: "Reload" }).click();
    await expect(page).toHaveTitle("Another version");
    await ready(page, "cpu");
  } finally {
    await site.close();
    rmSync(folder, { recursive: true, force: true });
  }
});

test("a picture that another app shares is captioned", async ({ visitor: page, site }) => {
  await open(page, site, "cpu");
  await keptForOffline(page);
  const [picture = ""] = samples();
  const base64 = readFileSync(picture).toString("base64");
  await page.evaluate(async base64 => {
    const form = new FormData();
    form.append("pictures", new File([Uint8Array.from(atob(base64), c => c.charCodeAt(0))], "shared bee.png", { type: "image/png" }));
    await fetch("share", { method: "POST", body: form, redirect: "manual" });
  }, base64);
  await page.reload();
  expect(await caption(page)).toContain("bee");
  await expect(page.locator("#filmstrip [aria-current]")).toHaveAttribute("title", "shared bee.png");
  await page.reload();
  await ready(page, "cpu");
  await expect(page.locator("html"), "once").toHaveAttribute("data-view", "welcome");
});
