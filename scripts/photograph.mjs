// npm run photograph: the page's states as pictures, in both themes and three widths, into build/photographs/. For eyes, not for tests.

import { mkdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { tools } from "./bootstrap.mjs";
import { build } from "./build.mjs";
import { flags } from "./chromium.mjs";
import { at, main, options, say, Stop } from "./common.mjs";
import { OWN, STATES, visit, WIDTHS } from "./photograph/states.mjs";

const USAGE = `npm run photograph -- [STATE…] [--site FOLDER] [--width 390] [--scheme dark] [--language ko]
  STATE    some states instead of all; --list names them
  --site   a site that is built already
  --readme the pictures of the README alone, into docs/`;

/** Where the README has a state's picture. */
const README = { "chat-of-five": "page.png", "find-results": "find.png", "batch-done": "batch.png" };

await main(async args => {
  const flagsOf = { list: false, site: true, width: true, scheme: true, language: true, readme: false, help: false };
  const { rest, list, site, width, scheme, language = "en-US", readme, help } = options(args, flagsOf, USAGE);
  if (help) return say(USAGE);
  if (list) return say(Object.keys(STATES).join("\n"));
  const unknown = rest.filter(name => !Object.hasOwn(STATES, name));
  if (unknown.length > 0) throw new Stop(`unknown state ${unknown.join(", ")}\n${USAGE}`);
  const { chromium: executablePath } = await tools({ tests: true });
  const folder = site ?? (await build({ quick: true })).dir;
  const wanted = {
    states: rest.length > 0 ? rest : Object.keys(STATES),
    widths: width ? [Number(width)] : Object.keys(WIDTHS).map(Number),
    schemes: scheme ? [scheme] : ["light", "dark"],
  };
  const out = at("build", "photographs");
  if (rest.length === 0 && !readme) rmSync(out, { recursive: true, force: true });
  mkdirSync(out, { recursive: true });
  if (readme) Object.assign(wanted, { states: Object.keys(README), widths: [1440], schemes: ["light"] });
  const { chromium } = await import("playwright-core");
  const browser = await chromium.launch({ executablePath, args: [...flags, ...OWN], headless: true });
  let failures = 0;
  try {
    for (const state of wanted.states) {
      for (const one of wanted.widths) {
        for (const theme of wanted.schemes) {
          const path = readme ? at("docs", README[state]) : join(out, `${state}-${one}-${theme}.png`);
          const failed = await visit(browser, folder, { state, width: one, scheme: theme, language }, page => page.screenshot({ path })).then(
            () => "",
            error => String(error).split("\n")[0],
          );
          if (failed) failures += 1;
          say(`${state}-${one}-${theme}${failed ? `: ${failed}` : ""}`);
        }
      }
    }
  } finally {
    await browser.close();
  }
  return failures > 0 ? 1 : 0;
});
