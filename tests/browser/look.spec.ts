/** Where the model looked: for a word under the pointer, one that has the focus, one that was tapped. */

import { caption, expect, open, samples, test } from "./house.js";
import type { Page } from "@playwright/test";

/** The middle of what is light in the map, 0 to 1 from left to right; null where nothing is painted. */
const lightAt = (page: Page): Promise<number | null> =>
  page.evaluate(() => {
    const canvas = document.querySelector("canvas#look");
    if (!(canvas instanceof HTMLCanvasElement) || canvas.width < 32) return null;
    const { data, width } = canvas.getContext("2d")?.getImageData(0, 0, canvas.width, canvas.height) ?? { data: [], width: 1 };
    let light = 0;
    let sum = 0;
    for (let i = 0; i < data.length; i += 4) {
      // The veil is dark; where it looked there is only the tint, which is green.
      const green = data[i + 1] ?? 0;
      const weight = green > 100 ? 1 : 0;
      light += weight;
      sum += weight * (((i / 4) % width) / width);
    }
    return light === 0 ? null : sum / light;
  });

test("a word that is hovered, focused or tapped shows where it is in the picture", async ({ visitor: page, site }) => {
  await open(page, site, "cpu");
  const picture = samples().find(name => name.includes("cup_of_coffee-star")) ?? "";
  await page.locator("#file").setInputFiles(picture);
  expect(await caption(page)).toContain("cup of coffee to the left of");
  const html = page.locator("html");
  const word = (text: string) => page.locator("#caption-text .word", { hasText: new RegExp(`^${text}$`) });

  await word("coffee").hover();
  await expect(html).toHaveAttribute("data-looking", "");
  await expect(page.locator("#look-note")).toContainText("coffee");
  expect(await lightAt(page)).toBeLessThan(0.5);
  await word("star").hover();
  await expect(page.locator("#look-note")).toContainText("star");
  expect(await lightAt(page)).toBeGreaterThan(0.5);
  await page.mouse.move(5, 5);
  await expect(html).not.toHaveAttribute("data-looking", "");

  // Without a pointer: the toggle makes words of the text that can be reached and tapped.
  await page.locator("#look-toggle").click();
  await expect(page.locator("#look-toggle")).toHaveAttribute("aria-pressed", "true");
  await expect(html).toHaveAttribute("data-looking", "");
  await word("star").click();
  await expect(word("star")).toHaveAttribute("aria-pressed", "true");
  await expect(page.locator("#look-note")).toContainText("star");
  await page.keyboard.press("Home");
  await page.keyboard.press("ArrowRight");
  await expect(word("cup")).toBeFocused();
  await expect(page.locator("#look-note")).toContainText("cup");
  await page.keyboard.press("Escape");
  await expect(html).not.toHaveAttribute("data-looking", "");
  await expect(page.locator("#caption-text .word[role]")).toHaveCount(0);
});

test("on WebGPU too it looks to the left for what is on the left", async ({ visitor: page, site }) => {
  await open(page, site, "webgpu");
  await page.locator("#file").setInputFiles(samples().find(name => name.includes("cup_of_coffee-star")) ?? "");
  expect(await caption(page)).toContain("cup of coffee to the left of");
  const word = (text: string) => page.locator("#caption-text .word", { hasText: new RegExp(`^${text}$`) });
  await page.locator("#look-toggle").click();
  await word("coffee").click();
  await expect(page.locator("#look-note")).toContainText("coffee");
  expect(await lightAt(page)).toBeLessThan(0.5);
  await word("star").click();
  await expect(page.locator("#look-note")).toContainText("star");
  expect(await lightAt(page)).toBeGreaterThan(0.5);
});
