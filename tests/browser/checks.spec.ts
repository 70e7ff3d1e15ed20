/** Every operation against its plain reference (`ops::checks`), on the device that they are for. */

import { chromium } from "@playwright/test";
import { tools } from "../../scripts/bootstrap.mjs";
import { launchOptions } from "../../scripts/chromium.mjs";
import { onPage, parityPage } from "../../scripts/parity.mjs";
import { serve } from "../../scripts/serve.mjs";
import { expect, test } from "./house.js";

for (const device of ["cpu", "webgpu"] as const) {
  test(`operations agree with their references (${device})`, async () => {
    const site = await serve({ mounts: { "/": await parityPage(await tools({ tests: true }), device) } });
    const browser = await chromium.launch(await launchOptions());
    try {
      const outcomes: { name: string; error: unknown }[] = [];
      const end = await onPage(browser, `${site.origin}/?device=${device}&checks`, (line: string) => outcomes.push(JSON.parse(line)));
      console.log(`${device}: ${end.adapter}, ${end.dispatches} dispatches, ${outcomes.length} checks`);
      expect(end.error).toBeNull();
      expect(outcomes.filter(outcome => outcome.error !== null)).toEqual([]);
      expect(outcomes.length).toBeGreaterThan(20);
      if (device === "webgpu") expect(end.dispatches).toBeGreaterThan(0);
    } finally {
      await browser.close();
      await site.close();
    }
  });
}
