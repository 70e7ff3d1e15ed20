/** Hours of use in minutes: what a picture takes is given back. */

import { execFileSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type BrowserContext, chromium, type Page } from "@playwright/test";
import { launchOptions } from "../../scripts/chromium.mjs";
import { at } from "../../scripts/common.mjs";
import { serve } from "../../scripts/serve.mjs";
import { answer, ask, BASE, caption, expect, ready, siteFolder } from "./house.js";
import { test } from "./package.js";

const EARLY = 50;
const ALL = 200;
/** What a small model does not give back, a large one does not either: WebGPU's adapter is software here, where the demo would take an hour. */
const RUNS = [
  { model: "demo", device: "cpu" },
  { model: "opt", device: "cpu" },
  { model: "opt", device: "webgpu" },
  { model: "demo", device: "webgpu" },
] as const;

/** Before the worker's own code: the engine's memory, and the buffers of its GPU that are still there, are put where a test finds them. */
const SHOW_MEMORY = `for (const way of ["instantiate", "instantiateStreaming"]) {
  const own = WebAssembly[way];
  WebAssembly[way] = async (...args) => {
    const made = await own.apply(WebAssembly, args);
    self.engineMemory = (made.instance ?? made).exports.memory;
    return made;
  };
}
if ("GPUDevice" in self) {
  const alive = new Set();
  const own = { create: GPUDevice.prototype.createBuffer, destroy: GPUBuffer.prototype.destroy };
  GPUDevice.prototype.createBuffer = function (...args) {
    const buffer = own.create.apply(this, args);
    const one = new WeakRef(buffer);
    one.size = buffer.size;
    // Those that the CPU may read or write are for bytes on their way.
    one.passing = (buffer.usage & (GPUBufferUsage.MAP_READ | GPUBufferUsage.MAP_WRITE)) !== 0;
    buffer.one = one;
    alive.add(one);
    return buffer;
  };
  GPUBuffer.prototype.destroy = function () {
    alive.delete(this.one);
    return own.destroy.apply(this);
  };
  self.gpuBytes = async () => {
    for (let i = 0; i < 3; i++) {
      gc();
      await new Promise(resolve => setTimeout(resolve, 100));
    }
    const there = [...alive].filter(one => one.deref() !== undefined);
    const bytes = passing => there.filter(one => one.passing === passing).reduce((sum, { size }) => sum + size, 0);
    return [bytes(false), bytes(true), there.length];
  };
}
`;

/** Pages of 64 KiB of the engine's memory; bytes of buffers on the GPU, and of those through which bytes come and go; how many both are. */
async function held(page: Page): Promise<{ pages: number; gpu: number; passing: number; buffers: number }> {
  const [worker] = page.workers();
  if (worker === undefined) throw new Error("the page has no worker");
  return worker.evaluate(async () => {
    const memory: unknown = Reflect.get(self, "engineMemory");
    const gpuBytes: unknown = Reflect.get(self, "gpuBytes");
    const [gpu, passing, buffers] = typeof gpuBytes === "function" ? await gpuBytes() : [0, 0, 0];
    return {
      pages: memory instanceof WebAssembly.Memory ? memory.buffer.byteLength / 65_536 : 0,
      gpu: Number(gpu),
      passing: Number(passing),
      buffers: Number(buffers),
    };
  });
}

/** Of the processes that run pages, in MB, as the system counts it: the median of five, each after a collection. */
async function resident(page: Page, profile: BrowserContext): Promise<number> {
  const browser = await profile.browser()?.newBrowserCDPSession();
  const client = await profile.newCDPSession(page);
  const sizes: number[] = [];
  for (let i = 0; i < 5; i++) {
    await client.send("HeapProfiler.collectGarbage");
    await page.waitForTimeout(500);
    const { processInfo } = (await browser?.send("SystemInfo.getProcessInfo")) ?? { processInfo: [] };
    const renderers = processInfo.filter(({ type }) => type === "renderer");
    sizes.push(renderers.reduce((sum, { id }) => sum + Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${id}/status`, "utf8"))?.[1] ?? 0), 0));
  }
  await client.detach();
  await browser?.detach();
  return (sizes.sort((a, b) => a - b)[2] ?? 0) / 1024;
}

for (const { model, device } of RUNS) {
  test(`${ALL} pictures and as many questions take no more memory than ${EARLY} (${model}, ${device}) @long`, async ({ installed }) => {
    test.setTimeout(30 * 60_000);
    const scratch = mkdtempSync(join(tmpdir(), "blip2-long-"));
    const mounts: Record<string, string> = { [BASE]: siteFolder };
    if (model !== "demo") {
      const folder = join(scratch, "model");
      execFileSync(process.execPath, [join(installed.installed, "cli.js"), "convert", at("tests", "fixtures", model), folder, "--quant", "q8"]);
      mounts[`${BASE}models/${model}/`] = folder;
    }
    const site = await serve({
      mounts,
      transform: (path, bytes) => (path.endsWith("/worker.js") ? Buffer.concat([Buffer.from(SHOW_MEMORY), bytes]) : bytes),
    });
    const options = await launchOptions();
    const profile = await chromium.launchPersistentContext(join(scratch, "profile"), {
      ...options,
      args: [...options.args, "--js-flags=--expose-gc"],
    });
    try {
      const page = await profile.newPage();
      await page.goto(`${site.origin}${BASE}?device=${device}&model=models/${model}/`);
      await ready(page, device);
      const gallery = readdirSync("demo/gallery").filter(name => name.endsWith(".png"));
      const measure = async () => ({ ...(await held(page)), resident: await resident(page, profile) });
      const before = { pages: 0, gpu: 0, passing: 0, buffers: 0, resident: 0 };
      const empty: string[] = [];
      for (let i = 1; i <= ALL; i++) {
        const drawn = gallery[i % gallery.length] ?? "";
        const buffer = readFileSync(join("demo/gallery", drawn));
        await page.locator("#file").setInputFiles({ name: `${i}.png`, mimeType: "image/png", buffer });
        await expect(page.locator("#filmstrip [data-picture]")).toHaveCount(i);
        await page.locator("#filmstrip [data-picture]").last().click();
        if ((await caption(page)) === "") empty.push(`caption ${i} (${drawn})`);
        if ((await answer(await ask(page, "What is this?"))) === "") empty.push(`answer ${i} (${drawn})`);
        if (i === EARLY) Object.assign(before, await measure());
      }
      const after = await measure();
      const words = ({ pages, gpu, passing, buffers, resident }: typeof after) =>
        `${pages} wasm pages, ${gpu} B on the GPU and ${passing} B on their way in ${buffers} buffers, ${Math.round(resident)} MB`;
      console.log(`${model}, ${device}: after ${EARLY} pictures ${words(before)}; after ${ALL} ${words(after)}; ${empty.length} texts empty`);
      // A random model may end where it begins.
      expect(empty.length, `empty: ${empty.join(", ")}`).toBeLessThanOrEqual(model === "demo" ? 0 : ALL);
      expect(before.pages).toBeGreaterThan(0);
      expect(before.gpu > 0).toBe(device === "webgpu");
      expect(after.pages).toBe(before.pages);
      // The engine's pools change a buffer for one of another size now and then. One that each picture left behind would be there as often.
      expect(after.buffers - before.buffers).toBeLessThan((ALL - EARLY) / 10);
      expect(after.gpu - before.gpu).toBeLessThan((ALL - EARLY) * 256);
      expect(after.passing - before.passing).toBeLessThan((ALL - EARLY) * 256);
      expect(after.resident).toBeLessThan(before.resident * 1.1);
    } finally {
      await profile.close();
      await site.close();
      rmSync(scratch, { recursive: true, force: true });
    }
  });
}
