/** The sheet of models: what each is and takes, what it is for, what is kept; and tabs that take turns. */

import { BASE, caption, expect, open, ready, samples, SHARD, test } from "./house.js";

test("the sheet says what runs and what it is made of, and deletes what is kept", async ({ visitor: page, site }) => {
  await open(page, site, "cpu");
  await page.locator("#status").click();
  const sheet = page.locator("#details");
  await expect(sheet).toContainText("parameters");
  await expect(sheet.locator(".stages i")).toHaveCount(4);
  await expect(sheet.locator(".legend")).toContainText(/sees [\d.]+ MB.*speaks [\d.]+ MB/);
  await expect(sheet).toContainText("On the CPU, as asked.");
  await expect(sheet.locator("#cache li")).toHaveCount(1);
  await sheet.getByRole("button", { name: "Delete demo" }).click();
  await expect(sheet.locator("#cache")).toContainText("No models.");
  await page.reload();
  await ready(page, "cpu");
  await expect(page.locator("html")).toHaveAttribute("data-model-cached", "0");
});

test("a model for Find is refused where captions are written, with a sentence; in the sheet it is offered to Find, which then works with it", async ({
  visitor: page,
  site,
}) => {
  await page.goto(`${site.origin}${BASE}?device=cpu&model=models/demo-retrieval/`);
  await expect(page.locator("html")).toHaveAttribute("data-model", "failed");
  await expect(page.locator("#model-problem")).toContainText("This model finds pictures by words; it cannot describe them.");
  expect(site.count(SHARD), "nothing of it was fetched").toBe(0);

  await page.goto(`${site.origin}${BASE}?device=cpu#/find`);
  await expect(page.locator("#find")).toHaveAttribute("data-phase", "ready");
  await page.locator("#status").click();
  await page.locator("#model-address").fill(`${site.origin}${BASE}models/demo-retrieval/?again`);
  await page.keyboard.press("Enter");
  await expect(page.locator("#model-offer")).toContainText("it cannot describe them");
  await page.getByRole("button", { name: "Use it for Find" }).click();
  await expect(page.locator("#details")).toBeHidden();
  await expect(page.locator("#find")).toHaveAttribute("data-phase", "ready");
  await expect(page.locator("#find .cell")).toHaveCount(72);
  await page.locator("#find-field").fill("a cat");
  await expect(page.locator("#find")).toHaveAttribute("data-fitting", "done");
  await page.reload();
  await expect(page.locator("#find")).toHaveAttribute("data-phase", "ready");
  expect(await page.evaluate(() => localStorage.getItem("blip2-find-model"))).toContain("?again");
});

test("of two tabs one fetches, and the other says what it waits for", async ({ visitor: page, site, profile }) => {
  const first = await profile.newPage();
  const held: (() => void)[] = [];
  let free = false;
  await first.route(
    url => SHARD.test(url.pathname),
    async route => {
      if (!free) await new Promise<void>(resolve => held.push(resolve));
      await route.continue();
    },
  );
  await first.goto(`${site.origin}${BASE}?device=cpu`);
  await expect.poll(() => held.length).toBeGreaterThan(0);
  await page.goto(`${site.origin}${BASE}?device=cpu`);
  await expect(page.locator("#waiting")).toContainText("Another tab is loading the same model");
  const [picture = ""] = samples();
  await page.locator("#file").setInputFiles(picture);
  free = true;
  for (const release of held.splice(0)) release();
  await ready(page, "cpu");
  await expect(page.locator("#waiting")).toBeHidden();
  expect(await caption(page)).toContain("bee");
  await ready(first, "cpu");
});

test("the status line says when there is no network, and when there is one again", async ({ visitor: page, site, profile }) => {
  await open(page, site, "cpu");
  await profile.setOffline(true);
  await expect(page.locator("#status")).toContainText("Offline");
  await expect(page.locator("#live")).toHaveText("Offline: everything that is here works.");
  await profile.setOffline(false);
  await expect(page.locator("#status")).not.toContainText("Offline");
});
