/** A page that imports the library, beside both demo models and the gallery. */

import { copyFileSync, mkdirSync } from "node:fs";
import { basename, join } from "node:path";
import type { Page } from "@playwright/test";
import { tools } from "../../scripts/bootstrap.mjs";
import { bundle } from "../../scripts/bundle.mjs";
import { serve } from "../../scripts/serve.mjs";
import { wasm } from "../../scripts/wasm.mjs";
import { type DeviceKind, type Site, test as base } from "./house.js";

declare global {
  /** What library/page.ts puts there. */
  var library: typeof import("../../www/index.js");
}
export const test = base.extend<{ shelf: Site }>({
  // biome-ignore lint/correctness/noEmptyPattern: the runner reads the names of what a fixture needs from this pattern
  shelf: async ({}, use) => {
    const mounts = {
      "/models/demo/": "demo/model",
      "/models/retrieval/": "demo/retrieval",
      "/gallery/": "demo/gallery",
      "/samples/": "demo/samples",
    };
    const site = await serve({ mounts: { "/": await page(), ...mounts } });
    await use(site);
    await site.close();
  },
});

/** The page's folder, with both builds of the wasm that `npm test` made before. */
export async function page(): Promise<string> {
  const folder = join("build", "library-page");
  await bundle({ page: join("tests", "browser", "library", "page.ts"), worker: join("www", "worker.ts") }, folder);
  copyFileSync(join("tests", "browser", "library", "index.html"), join(folder, "index.html"));
  mkdirSync(join(folder, "wasm"), { recursive: true });
  for (const { path } of await wasm(await tools({ tests: true }))) copyFileSync(path, join(folder, "wasm", basename(path)));
  return folder;
}

/** Opens the page; `library` is there afterwards. */
export async function openLibrary(visitor: Page, shelf: Site, device: DeviceKind): Promise<void> {
  await visitor.goto(`${shelf.origin}/?device=${device}`);
  await visitor.waitForFunction(() => "library" in globalThis);
}
