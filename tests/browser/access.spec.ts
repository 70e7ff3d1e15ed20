/** What axe-core finds in each state, in both themes, and every flow by keyboard alone. */

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import type { Page } from "@playwright/test";
import { BASE, caption, expect, open, ready, samples, test } from "./house.js";

const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

interface Finding {
  readonly id: string;
  readonly nodes: readonly { readonly html: string; readonly failureSummary?: string }[];
}

/** Nothing at all, in the page as it is now. Run past the page's policy, which forbids scripts from elsewhere. */
async function clean(page: Page, state: string): Promise<void> {
  // Colours are measured when they have arrived.
  await page.evaluate(() => Promise.all(document.getAnimations().map(animation => animation.finished.catch(() => {}))).then(() => {}));
  await page.evaluate(axe);
  const { found, passed }: { found: Finding[]; passed: number } = await page.evaluate(async () => {
    const engine: unknown = Reflect.get(window, "axe");
    if (typeof engine !== "object" || engine === null) throw new Error("axe is not there");
    const { violations, passes } = await Reflect.get(engine, "run").call(engine, document, { resultTypes: ["violations"] });
    const found = violations.map(({ id, nodes }: Finding) => ({ id, nodes: nodes.map(({ html, failureSummary }) => ({ html, failureSummary })) }));
    return { found, passed: passes.length };
  });
  expect(passed, "rules that were looked at").toBeGreaterThan(15);
  expect(found, state).toEqual([]);
}

for (const scheme of ["light", "dark"] as const) {
  test(`nothing stands in the way of anybody (${scheme})`, async ({ visitor: page, site }) => {
    await page.emulateMedia({ colorScheme: scheme, reducedMotion: "reduce" });
    await open(page, site, "cpu");
    await clean(page, "welcome");
    await page.locator("#file").setInputFiles(samples().slice(0, 2));
    await caption(page);
    await page.locator("#chips button").first().click();
    await expect(page.locator("#turns li")).toHaveAttribute("data-status", "done");
    await page.locator("#look-toggle").click();
    await page.locator("#caption").getByRole("button", { name: "Other ways to say it" }).click();
    await expect(page.locator("#caption .others li").first()).toBeVisible();
    await page.mouse.move(5, 5);
    await clean(page, "a chat, with attention and other captions");
    await page.locator("#look-toggle").click();
    await page.locator("#open-settings").click();
    await clean(page, "settings");
    await page.keyboard.press("Escape");
    await page.locator("#status").click();
    await expect(page.locator("#cache li").first()).toBeVisible();
    await clean(page, "models");
    await page.keyboard.press("Escape");
    await page.getByRole("link", { name: "Find" }).click();
    await expect(page.locator("#find .cell").first()).toBeVisible();
    await expect(page.locator("#find")).toHaveAttribute("data-phase", "ready");
    await page.locator("#find-field").fill("a cat");
    await expect(page.locator("#find-note")).not.toBeEmpty();
    await clean(page, "find");
    await page.getByRole("link", { name: "Batch" }).click();
    await clean(page, "batch, empty");
    await page.getByRole("button", { name: "Try the samples" }).click();
    await page.locator("#batch-run").click();
    await expect(page.locator("#batch")).toHaveAttribute("data-run", "done");
    await clean(page, "batch, done");
  });
}

test("by keyboard alone: from the skip link to a sample, a question, its answer, the sheet and back", async ({ visitor: page, site }) => {
  await page.goto(`${site.origin}${BASE}?device=cpu`);
  await ready(page, "cpu");
  await page.keyboard.press("Tab");
  await expect(page.getByRole("link", { name: "To the pictures" })).toBeFocused();
  await page.keyboard.press("Enter");
  await page.keyboard.press("Tab");
  await expect(page.locator("#drop")).toBeFocused();
  for (let i = 0; i < 3; i++) await page.keyboard.press("Tab");
  await expect(page.locator("#samples button").first()).toBeFocused();
  await page.keyboard.press("Enter");
  await caption(page);
  await expect(page.locator("#question")).toBeFocused();
  await page.keyboard.type("What is this?");
  await page.keyboard.press("Enter");
  await expect(page.locator("#turns li")).toHaveAttribute("data-status", "done");
  await expect(page.locator("#live")).not.toBeEmpty();
  await expect(page.locator("#question")).toBeFocused();
  await page.keyboard.press("Shift+Tab");
  await page.locator("#status").focus();
  await page.keyboard.press("Enter");
  await expect(page.locator("#details")).toBeVisible();
  await page.keyboard.press("Escape");
  await expect(page.locator("#status")).toBeFocused();
});
