/** What axe-core says of a page. */

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { expect, type Page } from "@playwright/test";

const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

interface Finding {
  readonly id: string;
  readonly nodes: readonly { readonly html: string; readonly failureSummary?: string }[];
}

/** Nothing at all, in the page as it is now. Run past the page's policy, which forbids scripts from elsewhere. */
export async function clean(page: Page, state: string): Promise<void> {
  // Colours are measured when they have arrived. What breathes does so for ever.
  await page.evaluate(async () => {
    const ending = document.getAnimations().filter(({ effect }) => effect?.getComputedTiming().iterations !== Number.POSITIVE_INFINITY);
    await Promise.all(ending.map(animation => animation.finished.catch(() => {})));
  });
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
