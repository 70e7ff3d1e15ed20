/** For everybody: axe-core on the way through the page, every flow by keyboard alone, what screen readers hear, nothing that moves unasked. */

import type { Locator, Page } from "@playwright/test";
import { clean } from "./axe.js";
import { answer, ask, BASE, caption, expect, open, ready, samples, test, watch } from "./house.js";

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

/** By Tab alone, as far as it takes. */
async function tabTo(page: Page, target: Locator): Promise<void> {
  for (let i = 0; i < 60; i++) {
    if (await target.evaluate(element => element === document.activeElement)) return;
    await page.keyboard.press("Tab");
  }
  await expect(target, "reached by Tab").toBeFocused();
}

test("by keyboard alone: other captions, a question in other words, where it looks, the next picture, and one that is removed", async ({
  visitor: page,
  site,
}) => {
  await open(page, site, "cpu");
  await page.locator("#file").setInputFiles(samples().slice(0, 2));
  await caption(page);
  const box = page.locator("#caption");
  await tabTo(page, box.getByRole("button", { name: "Other ways to say it" }));
  await page.keyboard.press("Enter");
  await expect(box.locator(".others li").first()).toBeVisible();
  await tabTo(page, page.locator("#question"));
  await page.keyboard.type("What is this?");
  await page.keyboard.press("Enter");
  await answer(page.locator("#turns li").first());
  await page.locator("#drop, #main").last().focus();
  await tabTo(page, page.getByRole("button", { name: "Ask it in other words" }));
  await page.keyboard.press("Enter");
  await page.keyboard.press("End");
  await page.keyboard.type(" Really?");
  await page.keyboard.press("Enter");
  await expect(page.locator("#turns .branches .figures")).toHaveText("2/2");
  await answer(page.locator("#turns li").first());
  await page.locator("#main").focus();
  await tabTo(page, page.locator("#look-toggle"));
  await page.keyboard.press("Enter");
  await tabTo(page, page.locator("#caption-text .word").first());
  await page.keyboard.press("Enter");
  await expect(page.locator("#look-note")).toContainText("Where it looks for");
  await page.locator("#main").focus();
  await tabTo(page, page.locator('#filmstrip [aria-current="true"]'));
  await page.keyboard.press("ArrowRight");
  await expect(page.locator("#caption-text")).toContainText("bicycle");
  await page.keyboard.press("Delete");
  await expect(page.locator("#filmstrip [data-picture]")).toHaveCount(1);
  await expect(page.locator('#filmstrip [aria-current="true"]')).toBeFocused();
});

test("by keyboard alone: a batch is chosen, run, edited and cleared; settings and models are changed and closed", async ({ visitor: page, site }) => {
  await open(page, site, "cpu");
  await tabTo(page, page.getByRole("link", { name: "Batch" }));
  await page.keyboard.press("Enter");
  await tabTo(page, page.getByRole("button", { name: "Try the samples" }));
  await page.keyboard.press("Enter");
  await expect(page.locator("#batch-table tbody tr")).toHaveCount(12);
  await page.locator("#main").focus();
  await tabTo(page, page.getByRole("radio", { name: "Captions" }));
  await page.keyboard.press("ArrowRight");
  await expect(page.getByRole("radio", { name: "Alt text" })).toBeChecked();
  await tabTo(page, page.locator("#batch-run"));
  await page.keyboard.press("Enter");
  await expect(page.locator("#batch")).toHaveAttribute("data-run", "done");
  const first = page.locator("#batch-table textarea").first();
  await page.locator("#main").focus();
  await tabTo(page, first);
  await page.keyboard.press("End");
  await page.keyboard.type(", drawn");
  await expect(first).toHaveValue(/, drawn$/);
  await page.locator("#main").focus();
  await tabTo(page, page.locator('#batch [data-format="csv"]'));
  const [download] = await Promise.all([page.waitForEvent("download"), page.keyboard.press("Enter")]);
  expect(download.suggestedFilename()).toBe("captions.csv");
  await page.locator("#main").focus();
  await tabTo(page, page.getByRole("button", { name: "Clear all" }));
  await page.keyboard.press("Enter");
  await expect(page.locator("#confirm").getByRole("button", { name: "Cancel" }), "what is lost takes one more step").toBeFocused();
  await page.keyboard.press("Tab");
  await page.keyboard.press("Enter");
  await expect(page.locator("#batch .empty")).toBeVisible();

  await page.locator("#views a").first().focus();
  await tabTo(page, page.locator("#open-settings"));
  await page.keyboard.press("Enter");
  await expect(page.locator("#settings")).toBeVisible();
  await tabTo(page, page.getByRole("radio", { name: "The likeliest word" }));
  await page.keyboard.press("ArrowDown");
  await expect(page.locator("#set-beams")).toBeVisible();
  await page.keyboard.press("Escape");
  await expect(page.locator("#open-settings")).toBeFocused();
  await tabTo(page, page.locator("#status"));
  await page.keyboard.press("Enter");
  await tabTo(page, page.locator("#details .known button").first());
  await page.keyboard.press("Enter");
  await expect(page.locator("#use-model")).toBeVisible();
  await tabTo(page, page.locator("#use-model"));
  await page.keyboard.press("Escape");
  await expect(page.locator("#status")).toBeFocused();
});

test("what has the focus and goes away hands it on, to where one would go next", async ({ visitor: page, site }) => {
  await open(page, site, "cpu");
  await page.locator("#file").setInputFiles(samples().slice(0, 1));
  await caption(page);
  await page.locator("#remove").focus();
  await page.keyboard.press("Enter");
  await expect(page.locator("#drop")).toBeFocused();

  await page.goto(`${site.origin}${BASE}?device=cpu#/find`);
  await ready(page, "cpu");
  // One that is looked at later might take the first place.
  await expect(page.locator("#find")).toHaveAttribute("data-seen", "72");
  await page.locator("#find-field").fill("a cat");
  await expect(page.locator("#find .cell button").first()).toHaveAttribute("title", /likeness/);
  await page.keyboard.press("ArrowDown");
  await expect(page.locator("#find .cell button").first()).toBeFocused();
  await expect(page.locator("#find")).toHaveAttribute("data-fitting", "done");
  await expect(page.locator("#find .cell button:focus"), "also while the pictures change places").toHaveCount(1);
  await page.keyboard.press("Home");
  await page.keyboard.press("ArrowUp");
  await expect(page.locator("#find-field")).toBeFocused();
  await page.locator("#find").getByRole("button", { name: "Forget these pictures" }).focus();
  await page.keyboard.press("Enter");
  await expect(page.locator("#find .empty button").first()).toBeFocused();

  await page.getByRole("link", { name: "Batch" }).click();
  await page.getByRole("button", { name: "Try the samples" }).focus();
  await page.keyboard.press("Enter");
  await expect(page.locator("#batch-run")).toBeFocused();
  await page.keyboard.press("Enter");
  await expect(page.locator("#batch")).toHaveAttribute("data-run", "done");
  await expect(page.getByRole("button", { name: "Run again" })).toBeFocused();
  const removes = page.locator("#batch-table").getByRole("button", { name: "Remove" });
  await removes.nth(1).focus();
  await page.keyboard.press("Enter");
  await expect(removes).toHaveCount(11);
  await expect(removes.nth(1)).toBeFocused();

  await page.locator("#status").click();
  const deletes = page.locator("#cache").getByRole("button");
  await expect(deletes).toHaveCount(2);
  await deletes.first().focus();
  await page.keyboard.press("Enter");
  await expect(page.locator("#confirm").getByRole("button", { name: "Cancel" })).toBeFocused();
  await page.keyboard.press("Tab");
  await page.keyboard.press("Enter");
  await expect(deletes).toHaveCount(1);
  await expect(deletes.first()).toBeFocused();
});

test("screen readers hear finished sentences, in the language that they are in", async ({ visitor: page, site }) => {
  await page.addInitScript(() => localStorage.setItem("blip2-language", "ko"));
  await open(page, site, "cpu");
  await expect(page.locator("html")).toHaveAttribute("lang", "ko");
  const heard = await watch(page, "#live");
  const [picture = ""] = samples();
  await page.locator("#file").setInputFiles(picture);
  const words = await caption(page);
  const answered = await answer(await ask(page, "What is this?"));
  await expect.poll(() => heard).toEqual([words, answered]);
  for (const place of ["#live", "#caption-text", "#turns .answer", "#turns .question"])
    await expect(page.locator(place)).toHaveAttribute("lang", "en");
  for (const region of await page.locator("[aria-live], [role=status], [role=alert]").all()) {
    expect(
      await region.evaluate(element => element.querySelector("#caption-text, .answer, progress"), "words that stream are in no live region"),
    ).toBeNull();
  }
});

test("nothing moves for those who wish so", async ({ visitor: page, site }) => {
  await page.emulateMedia({ reducedMotion: "reduce" });
  await page.addInitScript(() => {
    const moved: string[] = [];
    Object.assign(window, { moved });
    const own = Element.prototype.animate;
    Element.prototype.animate = function (...args) {
      moved.push(this.className);
      return own.apply(this, args);
    };
    for (const kind of ["transitionrun", "animationstart"])
      document.addEventListener(kind, ({ target }) => moved.push(`${kind} ${target instanceof Element ? target.id : ""}`), true);
  });
  await open(page, site, "cpu");
  await page.locator("#file").setInputFiles(samples().slice(0, 2));
  await caption(page);
  await page.locator("#look-toggle").click();
  await page.locator("#open-settings").click();
  await expect(page.locator("#settings")).toBeVisible();
  await page.keyboard.press("Escape");
  await page.getByRole("link", { name: "Find" }).click();
  await expect(page.locator("#find")).toHaveAttribute("data-phase", "ready");
  await expect.poll(async () => Number(await page.locator("#find").getAttribute("data-seen"))).toBeGreaterThan(20);
  await page.locator("#find-field").fill("a cat");
  await expect(page.locator("#find")).toHaveAttribute("data-fitting", "done");
  expect(await page.evaluate(() => Reflect.get(window, "moved"))).toEqual([]);
});
