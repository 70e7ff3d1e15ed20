/** One model, two devices: the words are the same. And without a wish the page takes the CPU where the only adapter is software. */

import { answer, ask, BASE, caption, type DeviceKind, expect, open, ready, samples, test } from "./house.js";

test("the CPU and WebGPU say the same", async ({ visitor: page, site }) => {
  const said: Record<DeviceKind, string[]> = { cpu: [], webgpu: [] };
  const [picture = ""] = samples().slice(-1);
  for (const device of ["cpu", "webgpu"] as const) {
    await open(page, site, device);
    await page.locator("#file").setInputFiles(picture);
    said[device].push(await caption(page));
    for (const question of ["what is this?", "what color is the background?"]) said[device].push(await answer(await ask(page, question)));
  }
  expect(said.webgpu).toEqual(said.cpu);
  expect(said.cpu.every(words => words !== "")).toBe(true);
});

test("by itself the page takes the CPU on a machine without a GPU, and never fetches the other build", async ({ visitor: page, site }) => {
  await page.goto(`${site.origin}${BASE}`);
  await ready(page, "cpu");
  expect(site.count(/blip2_cpu_bg\.wasm$/)).toBe(1);
  expect(site.count(/blip2_webgpu_bg\.wasm$/)).toBe(0);
});
