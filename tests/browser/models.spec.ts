/** The sheet of models: what each is and takes, what it is for, what is kept; folders on disk; and tabs that take turns. */

import { readFileSync } from "node:fs";
import type { Page } from "@playwright/test";
import { BASE, caption, expect, open, picker, ready, samples, SHARD, test } from "./house.js";

test("the sheet says what runs and what it is made of, and deletes what is kept", async ({ visitor: page, site }) => {
  await open(page, site, "cpu");
  await page.locator("#status").click();
  const sheet = page.locator("#details");
  await expect(sheet).toContainText("parameters");
  await expect(sheet.locator(".stages i")).toHaveCount(4);
  await expect(sheet.locator(".legend")).toContainText(/sees [\d.]+ MB.*speaks [\d.]+ MB/);
  await expect(sheet).toContainText("On the CPU, as asked.");
  await page.locator("#model-address").fill(`${site.origin}${BASE}models/none/`);
  await page.keyboard.press("Enter");
  await expect(page.locator("#model-offer")).toContainText("There is no model at its address.");
  await expect(sheet.locator("#cache li")).toHaveCount(1);
  await sheet.getByRole("button", { name: "Delete demo" }).click();
  await page.locator("#confirm").getByRole("button", { name: "Delete it" }).click();
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

test("while the part that speaks is on its way, a picture is looked at, and one that cannot be read is told of", async ({ visitor: page, site }) => {
  const index: { files: Record<string, { stage?: string }> } = JSON.parse(readFileSync("demo/model/model.safetensors.index.json", "utf8"));
  const held: (() => void)[] = [];
  let free = false;
  await page.route(
    url => index.files[url.pathname.split("/").at(-1) ?? ""]?.stage === "language",
    async route => {
      if (!free) await new Promise<void>(resolve => held.push(resolve));
      await route.continue();
    },
  );
  await page.goto(`${site.origin}${BASE}?device=cpu`);
  const [picture = ""] = samples();
  const files = [readFileSync(picture), Buffer.from("no picture")].map((buffer, at) => ({ name: `${at}.png`, mimeType: "image/png", buffer }));
  await page.locator("#file").setInputFiles(files);
  await expect(page.locator("#waiting")).toContainText("It has been looked at");
  await page.locator("#filmstrip [data-picture]").nth(1).click();
  await expect(page.locator("#caption")).toContainText("This file is not a picture that can be read.");
  await expect(page.locator("#waiting")).toBeEmpty();
  await page.locator("#filmstrip [data-picture]").first().click();
  await expect(page.locator("html")).toHaveAttribute("data-model", "loading");
  free = true;
  for (const release of held.splice(0)) release();
  expect(await caption(page)).toContain("bee");
});

test("a download that lost its network says so, and goes on by itself when there is one again", async ({ visitor: page, site, profile }) => {
  let held = true;
  await page.route(
    url => SHARD.test(url.pathname),
    async route => (held ? route.abort() : route.continue()),
  );
  await page.goto(`${site.origin}${BASE}?device=cpu`);
  await expect(page.locator("html")).toHaveAttribute("data-model", "loading");
  await profile.setOffline(true);
  await expect(page.locator("#loading-figures")).toContainText("waits for a connection");
  await expect(page.locator("html")).toHaveAttribute("data-model", "failed");
  held = false;
  await profile.setOffline(false);
  await ready(page, "cpu");
});

test("the status line says when there is no network, and when there is one again", async ({ visitor: page, site, profile }) => {
  await open(page, site, "cpu");
  await profile.setOffline(true);
  await expect(page.locator("#status")).toContainText("Offline");
  await expect(page.locator("#live")).toHaveText("Offline: everything that is here works.");
  await profile.setOffline(false);
  await expect(page.locator("#status")).not.toContainText("Offline");
});

const fill = (page: Page) =>
  page.evaluate(async () => {
    const folder = await (await navigator.storage.getDirectory()).getDirectoryHandle("my model", { create: true });
    const fetched = (file: string) => fetch(new URL(`models/demo/${file}`, document.baseURI)).then(response => response.blob());
    const index: { files: object } = JSON.parse(await (await fetched("model.safetensors.index.json")).text());
    for (const name of ["model.safetensors.index.json", ...Object.keys(index.files)]) {
      const writable = await (await folder.getFileHandle(name, { create: true })).createWritable();
      await writable.write(await fetched(name));
      await writable.close();
    }
  });

test("a folder on disk is told of before it is loaded, nothing of it is fetched or kept, and a click opens it again on the next visit", async ({
  visitor: page,
  site,
}) => {
  await picker(page, "my model");
  await open(page, site, "cpu");
  await page.locator("#status").click();
  await expect(page.locator("#cache li")).toHaveCount(1);
  await page.getByRole("button", { name: "Delete demo" }).click();
  await page.locator("#confirm").getByRole("button", { name: "Delete it" }).click();
  await expect(page.locator("#cache")).toContainText("No models.");
  await fill(page);
  const before = site.count(SHARD);
  await page.getByRole("button", { name: "A folder on this disk…" }).click();
  await expect(page.locator("#model-offer")).toContainText("parameters");
  await page.locator("#use-model").click();
  await expect(page.locator("#status")).toContainText("my model ·");
  await ready(page, "cpu");
  await expect(page.locator("#cache"), "a folder of one's own is not copied").toContainText("No models.");

  await page.reload();
  await expect(page.locator("html")).toHaveAttribute("data-model", "offered");
  const [picture = ""] = samples();
  await page.locator("#file").setInputFiles(picture);
  await expect(page.locator("#waiting")).not.toBeEmpty();
  await page.getByRole("button", { name: "Open “my model” again" }).click();
  await ready(page, "cpu");
  expect(await caption(page)).toContain("bee");
  expect(site.count(SHARD), "shards that were fetched for it").toBe(before);
});

test("a folder that is gone, or holds no model, is told of in words; and there is a way out", async ({ visitor: page, site }) => {
  await picker(page, "my model");
  await open(page, site, "cpu");
  await page.locator("#status").click();
  await page.evaluate(async () => void (await (await navigator.storage.getDirectory()).getDirectoryHandle("my model", { create: true })));
  await page.getByRole("button", { name: "A folder on this disk…" }).click();
  await expect(page.locator("#model-offer")).toContainText("This folder holds no model.");
  await fill(page);
  await page.getByRole("button", { name: "A folder on this disk…" }).click();
  await page.locator("#use-model").click();
  await expect(page.locator("#status")).toContainText("my model ·");

  await page.evaluate(async () => (await navigator.storage.getDirectory()).removeEntry("my model", { recursive: true }));
  await page.reload();
  await page.getByRole("button", { name: "Open “my model” again" }).click();
  await expect(page.locator("#model-problem")).toContainText("The model’s folder cannot be read.");
  await page.locator("#model-actions").getByRole("button", { name: "Other models" }).click();
  await page.locator("#details .known").first().getByRole("button", { name: "Look at it" }).click();
  await page.locator("#use-model").click();
  await expect(page.locator("html")).not.toHaveAttribute("data-model", "failed");
  await ready(page, "cpu");
  await page.reload();
  await ready(page, "cpu");
  await expect(page.locator("#status")).toContainText("demo ·");
});

test("where the browser gives no handles, a folder's files are taken, for this visit", async ({ visitor: page, site }) => {
  await page.addInitScript(() => void Reflect.deleteProperty(window, "showDirectoryPicker"));
  await open(page, site, "cpu");
  await page.locator("#status").click();
  const [chooser] = await Promise.all([page.waitForEvent("filechooser"), page.getByRole("button", { name: "A folder on this disk…" }).click()]);
  await chooser.setFiles("demo/model");
  await expect(page.locator("#model-offer")).toContainText("choose it again on your next visit");
  await page.locator("#use-model").click();
  await expect(page.locator("#status")).toContainText("model ·");
  await ready(page, "cpu");
  await page.keyboard.press("Escape");
  const [picture = ""] = samples();
  await page.locator("#file").setInputFiles(picture);
  expect(await caption(page)).toContain("bee");
  await page.reload();
  await ready(page, "cpu");
  await expect(page.locator("#status")).toContainText("demo ·");
});
