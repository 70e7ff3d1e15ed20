/** What the specs of a load need: a page that holds the library alone, a host with faults, and what a load came to. */

import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type BrowserContext, chromium, expect, type Page } from "@playwright/test";
import { launchOptions } from "../../scripts/chromium.mjs";
import { serve } from "../../scripts/serve.mjs";
import { type Fault, type FaultyHost, faultyHost, SHARD } from "./faults.js";
import { type Site, test as base } from "./house.js";
import { page as libraryPage } from "./library.js";

export const MODEL = "demo/model";
export const index: { files: Record<string, { bytes: number; stage?: string; sha256: string }> } = JSON.parse(
  readFileSync(join(MODEL, "model.safetensors.index.json"), "utf8"),
);
export const shards = Object.keys(index.files).filter(name => SHARD.test(name));
/** The largest shard: what goes wrong goes wrong with it. */
export const VICTIM = shards.reduce((a, b) => ((index.files[b]?.bytes ?? 0) > (index.files[a]?.bytes ?? 0) ? b : a));
export const victim = new RegExp(`^${VICTIM.replaceAll(".", "\\.")}$`);
export const HALF = Math.floor((index.files[VICTIM]?.bytes ?? 0) / 2);

/** A name that is not this machine's to the browser: no secure context. */
export const PLAIN = "plain.test";

// One browser for all; each test has a site on a port of its own, and so a storage of its own.
export const test = base.extend<
  { host: FaultyHost; home: Site; visitor: Page; well: (outcome: Outcome) => void },
  { browserProfile: BrowserContext; pageFolder: string; words: string }
>({
  browserProfile: [
    // biome-ignore lint/correctness/noEmptyPattern: the runner reads the names of what a fixture needs from this pattern
    async ({}, use) => {
      const folder = mkdtempSync(join(tmpdir(), "blip2-profile-"));
      const options = await launchOptions();
      const args = [...options.args, `--host-resolver-rules=MAP ${PLAIN} localhost`];
      const context = await chromium.launchPersistentContext(folder, { ...options, args });
      await use(context);
      await context.close();
      rmSync(folder, { recursive: true, force: true });
    },
    { scope: "worker" },
  ],
  // biome-ignore lint/correctness/noEmptyPattern: as above
  pageFolder: [async ({}, use) => use(await libraryPage()), { scope: "worker" }],
  // biome-ignore lint/correctness/noEmptyPattern: as above
  host: async ({}, use) => {
    const host = await faultyHost(MODEL);
    await use(host);
    await host.close();
  },
  home: async ({ pageFolder }, use) => {
    const site = await serve({ mounts: { "/": pageFolder, "/samples/": "demo/samples" } });
    await use(site);
    await site.close();
  },
  visitor: async ({ browserProfile, home }, use) => {
    const page = await tab(browserProfile, home);
    await use(page);
    await page.close();
  },
  // What the model says of the picture when nothing goes wrong.
  words: [
    async ({ browserProfile, pageFolder }, use) => {
      const site = await serve({ mounts: { "/": pageFolder, "/samples/": "demo/samples" } });
      const host = await faultyHost(MODEL);
      const page = await tab(browserProfile, site);
      const { text } = await load(page, host.folder);
      await page.close();
      await host.close();
      await site.close();
      expect(text).not.toBe("");
      await use(text);
    },
    { scope: "worker" },
  ],
  well: async ({ words }, use) => use(outcome => expect(outcome).toMatchObject({ code: "", text: words, kept: true, storageError: null })),
});

export async function tab(profile: BrowserContext, site: Site, origin = site.origin): Promise<Page> {
  const page = await profile.newPage();
  await page.goto(`${origin}/`);
  await page.waitForFunction(() => "library" in globalThis);
  return page;
}

export interface Outcome {
  readonly code: string;
  readonly facts: Readonly<Record<string, unknown>>;
  readonly text: string;
  readonly cached: number;
  readonly bytes: number;
  readonly kept: boolean;
  readonly storageError: string | null;
  readonly ms: number;
}

/** Loads the model and captions a picture; `code` is "" when that worked. */
export const load = (page: Page, url: string, request: object = {}): Promise<Outcome> =>
  page.evaluate(
    async ([url, request]) => {
      const start = performance.now();
      const nothing = { code: "", facts: {}, text: "", cached: 0, bytes: 0, kept: false, storageError: null, ms: 0 };
      const engine = library.createEngine({ device: "cpu" });
      try {
        const blip2 = await engine.load(url, { request });
        const ms = performance.now() - start;
        const { text } = await (await blip2.encode("samples/10-cup_of_coffee-star.png")).caption();
        const { cached, bytes, kept } = blip2.info;
        return { ...nothing, text, cached, bytes, kept, storageError: blip2.storageError?.message ?? null, ms };
      } catch (error) {
        if (!(error instanceof library.Blip2Error)) throw error;
        return { ...nothing, code: error.code, facts: { ...error.facts }, ms: performance.now() - start };
      } finally {
        await engine.dispose();
      }
    },
    [url, request] as const,
  );

/** The names of the shards that the site's storage holds. */
export async function kept(page: Page): Promise<string[]> {
  const keys = await page.evaluate(() =>
    new Promise<string[]>((done, failed) => {
      const request = indexedDB.open("blip2-web");
      request.onerror = () => failed(request.error);
      // There was none: it must not come into being without its store.
      request.onupgradeneeded = () => request.transaction?.abort();
      request.onsuccess = () => {
        const all = request.result.transaction("files").objectStore("files").getAllKeys();
        all.onsuccess = () => {
          request.result.close();
          done(all.result.map(String));
        };
      };
    }).catch(() => []),
  );
  return shards.filter(name => keys.some(key => key.startsWith(`content/${index.files[name]?.sha256}.`)));
}

export const once = (host: FaultyHost, fault: Fault, times = 1) => host.plan({ file: victim, fault, times });
export const froms = (host: FaultyHost) => host.of(victim).map(({ from }) => from);
