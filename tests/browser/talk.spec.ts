/** A conversation on the CPU: other ways to say it, questions that are edited, what is kept for the next visit, Korean input. */

import { answer, ask, BASE, caption, expect, open, ready, samples, test } from "./house.js";

test("other captions come with scores while the caption stands, and an edited question is a branch", async ({ visitor: page, site }) => {
  await open(page, site, "cpu");
  const [picture = ""] = samples();
  await page.locator("#file").setInputFiles(picture);
  const words = await caption(page);
  await page.locator("#caption").hover();
  await page.locator("#caption").getByRole("button", { name: "Other ways to say it" }).click();
  const others = page.locator("#caption .others li");
  await expect(others).toHaveCount(4);
  expect((await page.locator("#caption-text").innerText()).trim()).toBe(words);
  for (const title of await others.evaluateAll(rows => rows.map(row => row.getAttribute("title")))) expect(title).toMatch(/^−\d\.\d{3}$/);
  const bars = await others.locator("meter").evaluateAll(bars => bars.map(bar => Number(bar.getAttribute("value"))));
  expect(bars).toEqual([...bars].sort((a, b) => b - a));

  const first = await ask(page, "What is this?");
  const before = await answer(first);
  await answer(await ask(page, "What color is it?"));
  await first.hover();
  await first.getByRole("button", { name: "Ask it in other words" }).click();
  await page.getByRole("textbox", { name: "The question", exact: true }).fill("What color is the background?");
  await page.keyboard.press("Enter");
  const turns = page.locator("#turns li.turn");
  await expect(turns).toHaveCount(1);
  expect(await answer(turns.first())).not.toBe(before);
  await expect(turns.first().locator(".branches .figures")).toHaveText("2/2");
  await turns.first().getByRole("button", { name: "Earlier version" }).click();
  await expect(turns).toHaveCount(2);
  await expect(turns.first().locator(".answer")).toHaveText(before);
});

test("settings hold at once and for the next visit, and go back to the defaults", async ({ visitor: page, site }) => {
  await open(page, site, "cpu");
  const [picture = ""] = samples();
  await page.locator("#file").setInputFiles(picture);
  const long = await caption(page);
  await page.locator("#open-settings").click();
  await page.locator("#set-length").fill("2");
  await page.locator("#set-length").blur();
  await page.keyboard.press("Escape");
  await page.locator("#caption").hover();
  await page.locator("#caption").getByRole("button", { name: "Again" }).click();
  await expect(page.locator("#caption-text")).not.toHaveText(long);
  const short = await caption(page);
  expect(long.startsWith(short)).toBe(true);
  await page.reload();
  await ready(page, "cpu");
  await page.locator("#file").setInputFiles(picture);
  expect(await caption(page)).toBe(short);
  await page.locator("#open-settings").click();
  await page.getByRole("button", { name: "Back to the defaults" }).click();
  await expect(page.locator("#set-length")).toHaveValue("");
});

test("a picture comes from an address of this site; one that is not there is told of in its place", async ({ visitor: page, site }) => {
  await open(page, site, "cpu");
  const box = page.locator("#address");
  await page.getByRole("button", { name: "From an address" }).click();
  await box.getByRole("textbox").fill(`${site.origin}${BASE}samples/01-bee.png`);
  await page.keyboard.press("Enter");
  expect(await caption(page)).toContain("bee");
  await page.locator("#filmstrip").getByRole("button", { name: "From an address" }).click();
  await box.getByRole("textbox").fill(`${site.origin}${BASE}samples/none.png`);
  await page.keyboard.press("Enter");
  await expect(page.locator("#caption")).toHaveAttribute("data-status", "failed");
  await expect(page.locator('#caption [data-error-code="network"]')).toContainText("There is nothing at this address.");
  await expect(page.locator("#caption").getByRole("button", { name: "Try again" }), "it would not help").toBeHidden();

  // A server that is in trouble may answer the next time.
  let trouble = true;
  await page.route("**/trouble.png", route => route.fulfill(trouble ? { status: 503 } : { path: samples()[1] ?? "" }));
  await page.locator("#filmstrip").getByRole("button", { name: "From an address" }).click();
  await box.getByRole("textbox").fill(`${site.origin}${BASE}trouble.png`);
  await page.keyboard.press("Enter");
  await expect(page.locator("#caption")).toContainText("The picture could not be fetched.");
  trouble = false;
  await page.locator("#caption").getByRole("button", { name: "Try again" }).click();
  expect(await caption(page)).toContain("bicycle");
});

test("without a camera, or leave to use it, the page says so", async ({ visitor: page, site }) => {
  await page.goto(`${site.origin}${BASE}?device=cpu`);
  await page.getByRole("button", { name: "From the camera" }).click();
  await expect(page.locator("#camera .problem")).toBeVisible();
  await page.keyboard.press("Escape");
  await expect(page.getByRole("button", { name: "From the camera" })).toBeFocused();
});

test("Korean: the page, and Enter while a syllable is composed", async ({ visitor: page, site }) => {
  await open(page, site, "cpu");
  const [picture = ""] = samples();
  await page.locator("#file").setInputFiles(picture);
  await caption(page);
  await page.locator("#open-settings").click();
  await page.getByRole("button", { name: "한국어" }).click();
  await expect(page.locator("html")).toHaveAttribute("lang", "ko");
  await page.keyboard.press("Escape");
  await expect(page.locator("#question")).toHaveAttribute("placeholder", /[가-힣]/);
  // The caption is what the model said, in its own language.
  await expect(page.locator("#caption-text")).toHaveAttribute("lang", "en");
  const client = await page.context().newCDPSession(page);
  await page.locator("#question").focus();
  await client.send("Input.imeSetComposition", { text: "뭐야", selectionStart: 2, selectionEnd: 2 });
  // What an input method does with Enter: the key goes to it, then the composition ends.
  await page.locator("#question").evaluate(field => {
    field.dispatchEvent(
      new KeyboardEvent("keydown", { key: "Enter", code: "Enter", keyCode: 229, isComposing: true, bubbles: true, cancelable: true }),
    );
  });
  await expect(page.locator("#turns li")).toHaveCount(0);
  await client.send("Input.insertText", { text: "뭐야" });
  await expect(page.locator("#turns li")).toHaveCount(1);
  await expect(page.locator("#turns .question")).toHaveText("뭐야");
  await page.reload();
  await expect(page.locator("html")).toHaveAttribute("lang", "ko");
});
