/** What every spec needs: the built site on a server that counts, Chromium with a profile of its own, and words for what a visitor does. */

import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test as base, type BrowserContext, chromium, expect, type Locator, type Page } from "@playwright/test";
import { launchOptions } from "../../scripts/chromium.mjs";
import { serve } from "../../scripts/serve.mjs";

export { expect };

export type DeviceKind = "cpu" | "webgpu";
export type Site = Awaited<ReturnType<typeof serve>>;

/** A path below a host's root, where project pages live: the site must not care. */
export const BASE = "/somewhere/blip2/";
export const SHARD = /\/model-[0-9a-f]+\.safetensors$/;

/** `npm test` says which build it made. */
export const siteFolder = process.env.SITE ?? "dist";

const SAMPLES = "demo/samples";
/** The sample pictures, in the order of their names. */
export const samples = (): string[] =>
  readdirSync(SAMPLES)
    .filter(name => /\.(png|jpe?g|webp)$/.test(name))
    .sort()
    .map(name => join(SAMPLES, name));

export const test = base.extend<{ profile: BrowserContext; visitor: Page; site: Site }>({
  // A profile on disk: the default one is like a private window, whose storage is small and in memory.
  // biome-ignore lint/correctness/noEmptyPattern: the runner reads the names of what a fixture needs from this pattern
  profile: async ({}, use) => {
    const folder = mkdtempSync(join(tmpdir(), "blip2-profile-"));
    const context = await chromium.launchPersistentContext(folder, await launchOptions());
    await use(context);
    await context.close();
    rmSync(folder, { recursive: true, force: true });
  },
  visitor: async ({ profile }, use) => {
    const page = await profile.newPage();
    const heard: string[] = [];
    page.on("console", message => heard.push(`${message.type()}: ${message.text()}`));
    page.on("pageerror", error => heard.push(`uncaught: ${error}`));
    await use(page);
    if (test.info().status !== test.info().expectedStatus) console.log(["the page's console:", ...heard].join("\n"));
  },
  // biome-ignore lint/correctness/noEmptyPattern: as above
  site: async ({}, use) => {
    const site = await serve({ mounts: { [BASE]: siteFolder } });
    await use(site);
    await site.close();
  },
});

/** Opens the page and waits until the model is ready on the device that was asked for. */
export async function open(page: Page, site: Site, device: DeviceKind): Promise<void> {
  await page.goto(`${site.origin}${BASE}?device=${device}`);
  await ready(page, device);
}

export async function ready(page: Page, device: DeviceKind): Promise<void> {
  const html = page.locator("html");
  await expect(html).toHaveAttribute("data-model", /^(ready|failed)$/);
  expect(await html.getAttribute("data-model"), await page.locator("[data-error-code]").allInnerTexts().then(String)).toBe("ready");
  await expect(html).toHaveAttribute("data-device", device);
}

/** Drops a file on the page, as the browser tells it: a DataTransfer with the file's bytes. */
export async function drop(page: Page, path: string): Promise<void> {
  const transfer = await page.evaluateHandle(
    ([base64, name]) => {
      const bytes = Uint8Array.from(atob(base64), c => c.charCodeAt(0));
      const transfer = new DataTransfer();
      transfer.items.add(new File([bytes], name, { type: "image/png" }));
      return transfer;
    },
    [readFileSync(path).toString("base64"), path.split("/").at(-1) ?? path] as const,
  );
  for (const kind of ["dragenter", "dragover", "drop"]) await page.dispatchEvent("#drop", kind, { dataTransfer: transfer });
}

/** The words of the caption once they are complete. */
export async function caption(page: Page): Promise<string> {
  await expect(page.locator("#caption")).toHaveAttribute("data-status", /^(done|failed)$/);
  await expect(page.locator("#caption")).toHaveAttribute("data-status", "done");
  return (await page.locator("#caption-text").innerText()).trim();
}

/** Asks, and returns the turn that will hold the answer. */
export async function ask(page: Page, question: string): Promise<Locator> {
  const turns = page.locator("#turns li[data-status]");
  const index = await turns.count();
  await page.locator("#question").fill(question);
  await page.locator("#send").click();
  await expect(turns).toHaveCount(index + 1);
  return turns.nth(index);
}

export async function answer(turn: Locator): Promise<string> {
  await expect(turn).toHaveAttribute("data-status", /^(done|failed)$/);
  await expect(turn).toHaveAttribute("data-status", "done");
  return (await turn.locator(".answer").innerText()).trim();
}

/** Every text that an element shows from now on, one after the other, also if it comes into being later. Empty ones are left out. */
export async function watch(page: Page, selector: string): Promise<string[]> {
  const texts: string[] = [];
  await page.exposeFunction("seen", (text: string) => texts.push(text));
  await page.evaluate(selector => {
    let last = "";
    const look = (): void => {
      const text = document.querySelector(selector)?.textContent?.trim() ?? "";
      if (text === last) return;
      last = text;
      const seen: unknown = Reflect.get(window, "seen");
      if (text !== "" && typeof seen === "function") seen(text);
    };
    new MutationObserver(look).observe(document.documentElement, { subtree: true, childList: true, characterData: true });
  }, selector);
  return texts;
}

/** In the place of the browser's own box, which no script can work: a folder that a test has made in the page, and that is locked until a click opens it. */
export const picker = (page: Page, name: string): Promise<unknown> =>
  page.addInitScript(name => {
    let open = false;
    Object.assign(window, { showDirectoryPicker: async () => (await navigator.storage.getDirectory()).getDirectoryHandle(name) });
    Object.assign(FileSystemHandle.prototype, {
      queryPermission: async () => (open ? "granted" : "prompt"),
      async requestPermission() {
        open ||= navigator.userActivation.isActive;
        return open ? "granted" : "denied";
      },
    });
  }, name);
