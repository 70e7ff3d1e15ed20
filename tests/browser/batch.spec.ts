/** Many pictures at once: a preview, a table that fills, a row that fails, words of one's own, files to take away. */

import { readFileSync } from "node:fs";
import type { Page } from "@playwright/test";
import { BASE, expect, ready, samples, test } from "./house.js";

async function begin(page: Page, origin: string): Promise<void> {
  await page.goto(`${origin}${BASE}?device=cpu#/batch`);
  await ready(page, "cpu");
  await page.locator("#batch .empty").waitFor();
}
const rows = (page: Page) => page.locator("#batch-table tbody tr");

async function choose(page: Page, files: Parameters<Page["setInputFiles"]>[1]): Promise<void> {
  const [chooser] = await Promise.all([page.waitForEvent("filechooser"), page.getByRole("button", { name: "Choose pictures" }).click()]);
  await chooser.setFiles(files);
}

test("captions are previewed, written, edited and exported; a failed row says why and is tried again alone", async ({ visitor: page, site }) => {
  await begin(page, site.origin);
  const broken = { name: "=broken.png", mimeType: "image/png", buffer: Buffer.from("no picture") };
  const read = (path: string) => ({ name: path.split("/").at(-1) ?? "", mimeType: "image/png", buffer: readFileSync(path) });
  await choose(page, [...samples().slice(0, 3).map(read), broken]);
  await expect(rows(page)).toHaveCount(4);
  await expect(page.locator("#batch .preview-text")).toContainText("bee");
  await page.locator("#batch-run").click();
  await expect(page.locator("#batch")).toHaveAttribute("data-run", "done");
  await expect(rows(page).nth(3)).toHaveAttribute("data-status", "failed");
  await expect(rows(page).nth(3).locator('[data-error-code="image-undecodable"]')).toBeVisible();
  await expect(rows(page).locator("textarea").first()).toHaveValue(/bee/);
  await rows(page).nth(3).getByRole("button", { name: "Try again" }).click();
  await expect(rows(page).nth(3)).toHaveAttribute("data-status", "failed");

  const mine = 'my "own" words';
  await rows(page).nth(1).locator("textarea").fill(mine);
  await page.locator("#batch-prefix").fill("photo of ");
  const take = async (format: string) => {
    const [download] = await Promise.all([page.waitForEvent("download"), page.locator(`[data-format="${format}"]`).click()]);
    return readFileSync(await download.path(), "utf8");
  };
  const csv = await take("csv");
  expect(csv).toContain('"photo of my ""own"" words"');
  expect(csv).toContain(`"'=broken.png"`);
  const lines = (await take("jsonl"))
    .trimEnd()
    .split("\n")
    .map(line => JSON.parse(line));
  expect(lines).toHaveLength(4);
  expect(lines[0]).toMatchObject({ file_name: "01-bee.png", text: expect.stringMatching(/^photo of .*bee/) });
  expect(lines[3].error).not.toBe("");

  // Once more, but for what was written by hand.
  await page.getByRole("radio", { name: "Alt text" }).check({ force: true });
  await page.locator("#batch-prefix").fill("");
  await page.getByRole("button", { name: "Run again" }).click();
  await expect(page.locator("#batch")).toHaveAttribute("data-run", "done");
  await expect(rows(page).locator("textarea").first()).toHaveValue(/^A .*\.$/);
  await expect(rows(page).nth(1).locator("textarea")).toHaveValue(mine);
});

test("a run is stopped and goes on where it was; leaving is warned of only meanwhile; answers carry their question", async ({
  visitor: page,
  site,
}) => {
  await begin(page, site.origin);
  const many = Array.from({ length: 2 }, () => samples()).flat();
  await choose(page, many);
  await page.getByRole("radio", { name: "Answers" }).check({ force: true });
  await expect(page.locator("#batch-run")).toBeDisabled();
  await page.locator("#batch-question").fill("What is this?");
  const guarded = () =>
    page.evaluate(() => {
      const event = new Event("beforeunload", { cancelable: true });
      window.dispatchEvent(event);
      return event.defaultPrevented;
    });
  expect(await guarded()).toBe(false);
  await page.locator("#batch-run").click();
  await expect(rows(page).first()).toHaveAttribute("data-status", "done");
  expect(await guarded()).toBe(true);
  await page.locator("#batch-stop").click();
  await expect(page.locator("#batch")).toHaveAttribute("data-run", "stopped");
  expect(await guarded()).toBe(false);
  const done = await page.locator('#batch-table tr[data-status="done"]').count();
  expect(done).toBeLessThan(many.length);
  await expect(page.locator("#batch-run")).toContainText("Resume");
  await page.locator("#batch-run").click();
  await expect(page.locator("#batch")).toHaveAttribute("data-run", "done");
  await expect(page.locator('#batch-table tr[data-status="done"]')).toHaveCount(many.length);
  const [download] = await Promise.all([page.waitForEvent("download"), page.locator('[data-format="json"]').click()]);
  const [first] = JSON.parse(readFileSync(await download.path(), "utf8"));
  expect(first).toMatchObject({ question: "What is this?" });
});
