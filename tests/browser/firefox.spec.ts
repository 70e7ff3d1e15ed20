/** The page in a Firefox without WebGPU, on the CPU. Part of the long suite, as it needs a second browser (Debian: firefox-esr; FIREFOX names another). */

import { BASE, expect, test } from "./house.js";
import { startFirefox } from "./marionette.js";

/** In the page: waits until the selector is there. */
const UNTIL = `const until = async selector => {
  for (let i = 0; i < 600; i++) {
    const found = document.querySelector(selector);
    if (found !== null) return found;
    await new Promise(resolve => setTimeout(resolve, 100));
  }
  throw new Error(selector + " is not there");
};`;

test("in Firefox a picture is captioned, a question answered, others found by words, on the CPU @long", async ({ site }) => {
  const firefox = await startFirefox(process.env.FIREFOX ?? "firefox-esr");
  try {
    await firefox.open(`${site.origin}${BASE}`);
    const device = await firefox.run(`${UNTIL}
      await until('html[data-model="ready"]');
      return [document.documentElement.dataset.device, navigator.userAgent];`);
    console.log(String(device));
    expect(device).toEqual(["cpu", expect.stringContaining("Firefox")]);
    const caption = await firefox.run(`${UNTIL}
      (await until("#samples button")).click();
      await until('#caption[data-status="done"]');
      return document.querySelector("#caption-text").innerText;`);
    expect(caption).toContain("bee");
    const answer = await firefox.run(`${UNTIL}
      const field = await until("#question");
      field.value = "What is this?";
      field.dispatchEvent(new Event("input", { bubbles: true }));
      document.querySelector("#ask").requestSubmit();
      await until('#turns [data-status="done"]');
      return document.querySelector("#turns .answer").innerText;`);
    expect(answer).toContain("bee");
    const best = await firefox.run(`${UNTIL}
      document.querySelector('#views a[href="#/find"]').click();
      await until('#find[data-phase="ready"][data-seen="72"]');
      const field = await until("#find-field");
      field.value = "a bicycle";
      field.dispatchEvent(new Event("input", { bubbles: true }));
      await until('#find[data-fitting="done"]');
      return document.querySelector("#find .cell .name").textContent;`);
    expect(best).toContain("bicycle");
    expect(site.count(/blip2_webgpu_bg\.wasm$/)).toBe(0);
  } finally {
    await firefox.close();
  }
});
