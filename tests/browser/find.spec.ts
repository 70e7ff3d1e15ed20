/** Pictures found by words: the sample gallery on a first visit, one's own, and a second visit that needs no second look. */

import { expect, BASE, samples, test } from "./house.js";
import type { Page } from "@playwright/test";

const seen = (page: Page, count: number) =>
  expect.poll(async () => Number(await page.locator("#find").getAttribute("data-seen")), { timeout: 120_000 }).toBe(count);
const names = (page: Page): Promise<string[]> => page.locator("#find .cell .name").allTextContents();

test("one's own pictures are seen once, found while typing, opened in Ask; and known on the next visit", async ({ visitor: page, site }) => {
  await page.goto(`${site.origin}${BASE}?device=cpu#/find`);
  await expect(page.locator("#find .cell").first()).toBeVisible();
  // The gallery is there by itself; pictures of one's own take its place.
  const [chooser] = await Promise.all([
    page.waitForEvent("filechooser"),
    page.locator("#find").getByRole("button", { name: "Add pictures" }).click(),
  ]);
  const pictures = samples();
  await chooser.setFiles(pictures);
  await expect(page.locator("#find .cell")).toHaveCount(pictures.length);
  await seen(page, pictures.length);

  await page.locator("#find-field").pressSequentially("a bicycle");
  await expect.poll(async () => (await names(page))[0]).toContain("bicycle");
  await expect(page.locator("#find")).toHaveAttribute("data-fitting", "done");
  expect((await names(page))[0]).toContain("bicycle");
  await page.locator("#find-field").fill("a moon");
  await expect.poll(async () => (await names(page))[0]).toContain("moon");
  await page.keyboard.press("Enter");
  await expect(page.locator("#find")).toHaveAttribute("data-fitting", "done");

  // By keyboard alone: down into the pictures, open, and back.
  await page.keyboard.press("ArrowDown");
  await page.keyboard.press("ArrowRight");
  await page.keyboard.press("ArrowLeft");
  await page.keyboard.press("Enter");
  await expect(page.locator("html")).toHaveAttribute("data-view", "ask");
  await expect(page.locator("#caption")).toHaveAttribute("data-status", "done");
  await expect(page.locator("#caption-text")).toContainText("moon");
  await page.goBack();
  await expect(page.locator("#find-field")).toHaveValue("a moon");

  await page.reload();
  await expect(page.locator("#find")).toHaveAttribute("data-phase", "ready");
  await expect(page.locator("#find .cell")).toHaveCount(pictures.length);
  await seen(page, pictures.length);
  await page.locator("#find-field").fill("a crown");
  await expect.poll(async () => (await names(page))[0]).toContain("crown");
});

test("the gallery is encoded in the background, with a pause; and Back returns to where one was", async ({ visitor: page, site }) => {
  await page.setViewportSize({ width: 900, height: 600 });
  await page.goto(`${site.origin}${BASE}?device=cpu#/find`);
  await expect(page.locator("#find")).toHaveAttribute("data-phase", "ready");
  await expect(page.locator("#find .cell")).toHaveCount(72);
  await page.locator("#find").getByRole("button", { name: "Pause" }).click();
  await expect(page.locator("#find-progress")).toContainText("Paused");
  const count = Number(await page.locator("#find").getAttribute("data-seen"));
  await page.waitForTimeout(700);
  expect(Number(await page.locator("#find").getAttribute("data-seen"))).toBeLessThanOrEqual(count + 1);

  await page.locator("#find .cell button").nth(30).scrollIntoViewIfNeeded();
  const at = await page.evaluate(() => window.scrollY);
  expect(at).toBeGreaterThan(300);
  await page.locator("#find .cell button").nth(30).click();
  await expect(page.locator("html")).toHaveAttribute("data-view", "ask");
  await page.goBack();
  await expect(page.locator("html")).toHaveAttribute("data-view", "find");
  await expect.poll(() => page.evaluate(() => window.scrollY)).toBe(at);
});

test("two thousand pictures: found by the browser's own search, reached by keyboard, and scrolled without laying all of them out", async ({
  visitor: page,
  site,
}) => {
  await page.goto(`${site.origin}${BASE}?device=cpu#/find`);
  await expect(page.locator("#find")).toHaveAttribute("data-phase", "ready");
  await page.locator("#find").getByRole("button", { name: "Pause" }).click();
  await page.evaluate(async () => {
    const canvas = new OffscreenCanvas(48, 32);
    canvas.getContext("2d")?.fillRect(0, 0, 24, 32);
    const bytes = await (await canvas.convertToBlob()).arrayBuffer();
    const transfer = new DataTransfer();
    for (let i = 0; i < 2000; i++) transfer.items.add(new File([bytes], `picture-${i}.png`, { type: "image/png", lastModified: i }));
    document.body.dispatchEvent(new DragEvent("drop", { dataTransfer: transfer, bubbles: true, cancelable: true }));
  });
  await expect(page.locator("#find .cell")).toHaveCount(2000);
  expect(await page.evaluate(() => Reflect.get(window, "find").call(window, "picture-1987"))).toBe(true);
  const usual = await page.evaluate(async () => {
    const gaps: number[] = [];
    let last = performance.now();
    const end = last + 1500;
    for (let y = 0; performance.now() < end; y += 60) {
      window.scrollTo(0, y);
      await new Promise(requestAnimationFrame);
      gaps.push(performance.now() - last);
      last = performance.now();
    }
    return gaps.sort((a, b) => a - b)[Math.floor(gaps.length / 2)] ?? 0;
  });
  expect(usual, "the median frame, on a machine that paints with its CPU").toBeLessThan(100);
  await page.locator("#find .cell button").first().focus();
  await page.keyboard.press("End");
  await expect(page.locator("#find .cell button").last()).toBeFocused();
});
