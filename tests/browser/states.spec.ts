/** axe-core finds nothing in any state that is photographed: each in one theme and width here, in all of them in the long suite. */

import { type Browser, chromium, type Page } from "@playwright/test";
import { flags, launchOptions } from "../../scripts/chromium.mjs";
import { OWN, STATES, visit } from "../../scripts/photograph/states.mjs";
import { clean } from "./axe.js";
import { siteFolder, test } from "./house.js";

let browser: Browser;
test.beforeAll(async () => {
  browser = await chromium.launch({ ...(await launchOptions()), args: [...flags, ...OWN] });
});
test.afterAll(() => browser.close());

const LOOKS = [
  { width: 390, scheme: "light" },
  { width: 1440, scheme: "dark" },
  { width: 820, scheme: "light" },
  { width: 390, scheme: "dark" },
  { width: 1440, scheme: "light" },
  { width: 820, scheme: "dark" },
] as const;

for (const [index, state] of Object.keys(STATES).entries()) {
  for (const [at, { width, scheme }] of LOOKS.entries()) {
    test(`nothing stands in the way in ${state} (${width} px, ${scheme})${at === index % LOOKS.length ? "" : " @long"}`, async () => {
      await visit(browser, siteFolder, { state, width, scheme, language: "en-US" }, (page: Page) => clean(page, state));
    });
  }
}
