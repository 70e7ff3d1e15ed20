/** The way of a visitor with a GPU: drop, read along, ask, stop. On WebGPU, where words take long enough to be seen coming. */

import type { Page } from "@playwright/test";
import { answer, ask, caption, drop, expect, open, samples, test, watch } from "./house.js";

test("a dropped picture is captioned word by word, a question answered, another one stopped", async ({ visitor: page, site }) => {
  const [picture = ""] = samples();
  await open(page, site, "webgpu");

  const shown = await watch(page, "#caption-text");
  await drop(page, picture);
  const words = await caption(page);
  await expect.poll(() => shown.at(-1)).toBe(words);
  expect(new Set(shown).size, `the caption was shown as ${JSON.stringify(shown)}`).toBeGreaterThanOrEqual(3);
  for (const [index, text] of shown.entries()) expect(text.startsWith(shown[index - 1] ?? ""), "text is never taken back").toBe(true);

  expect(await answer(await ask(page, "what is this?"))).not.toBe("");

  await stopAtFirstPiece(page);
  const stopped = await ask(page, "what is in the picture?");
  await expect(stopped).toHaveAttribute("data-status", "stopped");
  const kept = (await stopped.locator(".answer").innerText()).trim();
  expect(kept, "what was said before Stop stays").not.toBe("");
  await expect(page.locator("#send")).toBeVisible();

  // The engine is free again, and what was stopped stays as it is.
  expect(await answer(await ask(page, "what is this?"))).not.toBe("");
  expect((await stopped.locator(".answer").innerText()).trim()).toBe(kept);
  await expect(page.locator("html")).toHaveAttribute("data-device", "webgpu");
});

/** Clicks Stop from within the page as soon as the next answer begins: from outside the click could come too late. */
async function stopAtFirstPiece(page: Page): Promise<void> {
  await page.evaluate(() => {
    const before = document.querySelectorAll("#turns li").length;
    const observer = new MutationObserver(() => {
      const turn = document.querySelectorAll("#turns li")[before];
      const text = turn?.querySelector(".answer")?.textContent?.trim() ?? "";
      if (text === "" || turn?.getAttribute("data-status") !== "streaming") return;
      observer.disconnect();
      document.querySelector<HTMLButtonElement>("#stop")?.click();
    });
    observer.observe(document.documentElement, { subtree: true, childList: true, characterData: true, attributes: true });
  });
}
