/** The life of a load: where it is kept, who shares it, how it ends, and what is there after its tab, worker or device has died. */

import { type BrowserContext, expect } from "@playwright/test";
import { index, kept, load, MODEL, type Outcome, PLAIN, shards, tab, test, VICTIM, victim } from "./delivery.js";
import { type FaultyHost, faultyHost, SHARD } from "./faults.js";
import type { Site } from "./house.js";

test("where there is no room the model works uncached, and says so", async ({ visitor, host, home, browserProfile, well, words }) => {
  const session = await browserProfile.newCDPSession(visitor);
  await session.send("Storage.overrideQuotaForOrigin", { origin: home.origin, quotaSize: 5e6 });
  expect(await load(visitor, host.folder)).toMatchObject({ code: "", text: words, kept: false, storageError: expect.stringMatching(/room|quota/i) });
  await session.send("Storage.overrideQuotaForOrigin", { origin: home.origin });
  well(await load(visitor, host.folder));
});

test("a storage that is deleted under a running page is made anew", async ({ visitor, host, well }) => {
  const deleted = await visitor.evaluate(async url => {
    const engine = library.createEngine({ device: "cpu" });
    await engine.load(url);
    const deleted = await new Promise<string>(done => {
      const request = indexedDB.deleteDatabase("blip2-web");
      for (const type of ["success", "error"]) request.addEventListener(type, () => done(type));
    });
    const again = await engine.load(url);
    const { cached, kept } = again.info;
    await engine.dispose();
    return { deleted, cached, kept };
  }, host.folder);
  expect(deleted).toEqual({ deleted: "success", cached: 0, kept: true });
  expect(host.sent()).toHaveLength(2 * shards.length);
  host.renew();
  well(await load(visitor, host.folder));
  expect(host.sent()).toEqual([]);
});

test("of two tabs one downloads, and the other waits and reads", async ({ visitor, host, home, browserProfile, well }) => {
  host.plan({ file: SHARD, fault: { slow: 1 << 18, pause: 20 }, times: 99 });
  const other = await tab(browserProfile, home);
  const both = await Promise.all([load(visitor, host.folder), load(other, host.folder)]);
  await other.close();
  for (const outcome of both) well(outcome);
  expect(host.sent().sort()).toEqual([...shards].sort());
});

test("a tab that waits goes on where the tab that downloaded was closed", async ({ visitor, host, home, browserProfile, well }) => {
  host.plan({ file: SHARD, fault: { slow: 1 << 16, pause: 50 }, times: 4 });
  const first = await tab(browserProfile, home);
  const lost = load(first, host.folder).catch(() => null);
  await expect.poll(() => host.of(SHARD).length).toBeGreaterThanOrEqual(shards.length);
  const second = load(visitor, host.folder);
  await first.close();
  await lost;
  well(await second);
});

test("plain http on another name than localhost has no GPU and no locks, and works", async ({ host, home, browserProfile, well }) => {
  const page = await tab(browserProfile, home, `http://${PLAIN}:${home.port}`);
  expect(await page.evaluate(() => [isSecureContext, "locks" in navigator])).toEqual([false, false]);
  well(await load(page, host.folder));
  host.renew();
  well(await load(page, host.folder));
  expect(host.sent()).toEqual([]);
  const reason = await page.evaluate(async () => (await library.createEngine().device()).reason);
  expect(reason).toBe("insecure");
  await page.close();
});

test("an abort ends the transfers within 100 ms and keeps the shards that are whole", async ({ visitor, host, well }) => {
  host.plan({ file: victim, fault: { slow: 1 << 14, pause: 50 }, times: 1 });
  const result = await visitor.evaluate(async url => {
    const engine = library.createEngine({ device: "cpu" });
    const controller = new AbortController();
    let [done, aborted] = [0, 0];
    const onProgress = ({ status, file }: { status: string; file?: string }) => {
      if (status === "done" && file?.endsWith(".safetensors") && ++done === 3) {
        setTimeout(() => {
          aborted = performance.now();
          controller.abort("enough");
        }, 300);
      }
    };
    const reason: unknown = await engine.load(url, { signal: controller.signal, onProgress }).catch((error: unknown) => error);
    return { reason, ms: performance.now() - aborted };
  }, host.folder);
  const rejected = performance.now();
  expect(result.reason).toBe("enough");
  expect(result.ms).toBeLessThan(100);
  await expect.poll(() => host.open(), { intervals: [5] }).toBe(0);
  expect(performance.now() - rejected).toBeLessThan(100);
  const whole = await kept(visitor);
  expect(whole).toHaveLength(shards.length - 1);
  host.renew();
  well(await load(visitor, host.folder));
  expect(host.sent()).toEqual([VICTIM]);
});

test("ten times loaded and disposed, no worker is left and nothing was fetched twice", async ({ visitor, host }) => {
  for (let time = 0; time < 10; time++) {
    await visitor.evaluate(async url => {
      const engine = library.createEngine({ device: "cpu" });
      await (await engine.load(url)).dispose();
    }, host.folder);
    await expect.poll(() => visitor.workers().length).toBe(0);
  }
  expect(host.sent()).toHaveLength(shards.length);
});

test("a worker that traps in mid-answer is replaced from the cache, without the network, and the answer goes on where it was", async ({
  visitor,
  host,
}) => {
  const trap = () => setTimeout(() => Promise.reject(new WebAssembly.RuntimeError("unreachable")), 0);
  await visitor.exposeFunction("trap", async () => {
    for (const worker of visitor.workers()) await worker.evaluate(trap);
  });
  const answer = (trapped: boolean) =>
    visitor.evaluate(
      async ([url, trapped]) => {
        const engine = library.createEngine({ device: "cpu" });
        const blip2 = await engine.load(url);
        const image = await blip2.encode("samples/10-cup_of_coffee-star.png");
        const pieces: string[] = [];
        const generation = image.caption({ do_sample: true, seed: 5, min_new_tokens: 100, max_new_tokens: 100 });
        for await (const piece of generation) {
          pieces.push(piece);
          const trap: unknown = Reflect.get(globalThis, "trap");
          if (trapped && pieces.length === 3 && typeof trap === "function") await trap();
        }
        const { text } = await generation;
        await engine.dispose();
        return { shown: pieces.join(""), text };
      },
      [host.folder, trapped] as const,
    );
  const whole = await answer(false);
  host.renew();
  const replayed = await answer(true);
  expect(replayed).toEqual(whole);
  expect(host.sent()).toEqual([]);
  expect(host.asked.length).toBeLessThanOrEqual(2);
});

test("a picture is encoded while the language model is on its way, and answered when it is there", async ({ visitor, host, words }) => {
  const language = shards.filter(name => index.files[name]?.stage === "language");
  expect(language.length).toBeGreaterThan(0);
  host.plan({ file: new RegExp(`^(${language.join("|")})$`), fault: { slow: 1 << 16, pause: 50 }, times: 99 });
  const found = await visitor.evaluate(async url => {
    const engine = library.createEngine({ device: "cpu" });
    const order: string[] = [];
    const blip2 = await engine.load(url, { until: "vision" });
    const early = blip2.info.kept;
    const whole = blip2.ready().then(() => order.push("whole"));
    const image = await blip2.encode("samples/10-cup_of_coffee-star.png");
    order.push("encoded");
    const { text } = await image.caption();
    await whole;
    const { kept, bytes } = blip2.info;
    await engine.dispose();
    return { order, text, early, kept, bytes };
  }, host.folder);
  expect(found).toMatchObject({ order: ["encoded", "whole"], text: words, early: false, kept: true });
  expect(host.sent().sort()).toEqual([...shards].sort());
});

test("an abort behind `until` ends what is still coming", async ({ visitor, host }) => {
  const language = shards.filter(name => index.files[name]?.stage === "language");
  host.plan({ file: new RegExp(`^(${language.join("|")})$`), fault: { slow: 1 << 12, pause: 50 }, times: 99 });
  const reason = await visitor.evaluate(async url => {
    const engine = library.createEngine({ device: "cpu" });
    const controller = new AbortController();
    const blip2 = await engine.load(url, { until: "retrieval", signal: controller.signal });
    controller.abort("enough");
    return blip2.ready().catch((error: unknown) => error);
  }, host.folder);
  expect(reason).toBe("enough");
  await expect.poll(() => host.open()).toBe(0);
});

test("where each file is may be the caller's word, asked when it is due", async ({ visitor, host, words }) => {
  const elsewhere = await faultyHost(MODEL);
  try {
    const found = await visitor.evaluate(
      async ([here, there]) => {
        const engine = library.createEngine({ device: "cpu" });
        const resolve = async (file: string) => `${file.endsWith(".safetensors") ? there : here}${file}?signed`;
        const blip2 = await engine.load(here, { resolve });
        const { text } = await (await blip2.encode("samples/10-cup_of_coffee-star.png")).caption();
        const failing = library.createEngine({ device: "cpu", storage: "memory" });
        const refuse = async () => Promise.reject(new Error("not signed"));
        const error: unknown = await failing.load(here, { resolve: refuse }).catch((error: unknown) => error);
        await Promise.all([engine.dispose(), failing.dispose()]);
        return { text, code: error instanceof library.Blip2Error ? [error.code, error.facts] : null };
      },
      [host.folder, elsewhere.folder] as const,
    );
    expect(found.text).toBe(words);
    expect(found.code).toMatchObject(["network", { reason: "not signed" }]);
    expect(host.sent()).toEqual([]);
    expect(elsewhere.sent().sort()).toEqual([...shards].sort());
  } finally {
    await elsewhere.close();
  }
});

test("a storage of the caller's own keeps a model, and nothing else does", async ({ visitor, host, words }) => {
  const found = await visitor.evaluate(async url => {
    const files = new Map<string, Uint8Array>();
    const storage = {
      get: async (name: string) => files.get(name) ?? null,
      put: async (name: string, bytes: Uint8Array) => void files.set(name, bytes),
      delete: async (name: string) => void files.delete(name),
      list: async () => [...files.keys()],
      estimate: async () => ({ usage: files.size, quota: null, persistent: true }),
    };
    const load = async () => {
      const engine = library.createEngine({ device: "cpu", storage });
      const blip2 = await engine.load(url);
      const { text } = await (await blip2.encode("samples/10-cup_of_coffee-star.png")).caption();
      const { storage: kind, models, usage } = await engine.cache.report();
      const { cached, bytes, kept } = blip2.info;
      await engine.dispose();
      return { text, cached, bytes, kept, kind, models: models.length, usage };
    };
    return { first: await load(), second: await load(), names: files.size };
  }, host.folder);
  expect(found.first).toMatchObject({ text: words, cached: 0, kept: true, kind: "custom", models: 1, usage: found.names });
  expect(found.second).toMatchObject({ text: words, cached: found.first.bytes, kept: true });
  expect(host.sent()).toHaveLength(shards.length);
  expect(await kept(visitor)).toEqual([]);
});

test("a folder that the user picks is loaded without the network, and not kept", async ({ visitor, host, words }) => {
  await visitor.evaluate(() => {
    const input = document.createElement("input");
    Object.assign(input, { type: "file", webkitdirectory: true });
    document.body.append(input);
  });
  await visitor.locator("input").setInputFiles(MODEL);
  const found = await visitor.evaluate(async () => {
    const files = document.querySelector("input")?.files;
    if (!files) throw new Error("nothing was picked");
    const engine = library.createEngine({ device: "cpu" });
    const { bytes } = await engine.inspect(files);
    const blip2 = await engine.load(files);
    const { text } = await (await blip2.encode("samples/10-cup_of_coffee-star.png")).caption();
    const { url, kept } = blip2.info;
    await engine.dispose();
    return { text, url, kept, whole: bytes === blip2.info.bytes };
  });
  expect(found).toEqual({ text: words, url: "https://picked.invalid/2/model/", kept: false, whole: true });
  expect(host.asked).toEqual([]);
  expect(await kept(visitor)).toEqual([]);
});

test("other tabs see which model is in use, as long as it is", async ({ visitor, host }) => {
  const used = () =>
    visitor.evaluate(async () => {
      const { held = [] } = await navigator.locks.query();
      return held.flatMap(({ name = "" }) => (name.includes("in use") ? [name] : []));
    });
  await visitor.evaluate(async url => {
    const engine = library.createEngine({ device: "cpu" });
    Object.assign(globalThis, { engine });
    await engine.load(url);
  }, host.folder);
  expect(await used()).toEqual([`blip2-web/in use/model/${host.folder}`]);
  await visitor.evaluate(async () => {
    const engine: unknown = Reflect.get(globalThis, "engine");
    if (typeof engine === "object" && engine !== null && "dispose" in engine && typeof engine.dispose === "function") await engine.dispose();
  });
  await expect.poll(used).toEqual([]);
});

test("a device that is destroyed in mid-answer is replaced without the network, and the answer goes on where it was", async ({ visitor, host }) => {
  // The engine hands its device to nobody: it is seen where it is used.
  const watch = `{
    const { prototype } = GPUDevice;
    const create = prototype.createCommandEncoder;
    prototype.createCommandEncoder = function (...args) { globalThis.seen = this; return create.apply(this, args); };
  }`;
  await visitor.exposeFunction("watch", async () => {
    for (const worker of visitor.workers()) await worker.evaluate(watch);
  });
  await visitor.exposeFunction("destroy", async () => {
    for (const worker of visitor.workers()) await worker.evaluate("globalThis.seen.destroy()");
  });
  const answer = (destroyed: boolean) =>
    visitor.evaluate(
      async ([url, destroyed]) => {
        const call = async (name: string) => {
          const known: unknown = Reflect.get(globalThis, name);
          if (typeof known === "function") await known();
        };
        const engine = library.createEngine({ device: "webgpu" });
        const blip2 = await engine.load(url);
        const image = await blip2.encode("samples/10-cup_of_coffee-star.png");
        if (destroyed) await call("watch");
        const pieces: string[] = [];
        const generation = image.caption({ do_sample: true, seed: 5, min_new_tokens: 60, max_new_tokens: 60 });
        for await (const piece of generation) {
          pieces.push(piece);
          if (destroyed && pieces.length === 3) await call("destroy");
        }
        const { text } = await generation;
        await engine.dispose();
        return { shown: pieces.join(""), text };
      },
      [host.folder, destroyed] as const,
    );
  const whole = await answer(false);
  host.renew();
  const workers = new Set(visitor.workers());
  visitor.on("worker", worker => workers.add(worker));
  expect(await answer(true)).toEqual(whole);
  expect(workers.size, "a new worker took over").toBeGreaterThanOrEqual(2);
  expect(host.sent()).toEqual([]);
});

/** Positions that look random and are the same each time. */
function* positions(count: number, bytes: number): Generator<number> {
  let state = 20260;
  for (let i = 0; i < count; i++) {
    state = (state * 1103515245 + 12345) % 2 ** 31;
    yield Math.floor((state / 2 ** 31) * bytes);
  }
}

async function killedAt(
  position: number,
  profile: BrowserContext,
  home: Site,
  host: FaultyHost,
): Promise<{ readonly whole: number; readonly after: Outcome }> {
  host.plan({ file: SHARD, fault: { slow: 1 << 16, pause: 5 }, times: 99 });
  const doomed = await tab(profile, home);
  const lost = load(doomed, host.folder).catch(() => null);
  await expect.poll(() => host.bytes(), { intervals: [2] }).toBeGreaterThanOrEqual(position);
  await doomed.close({ runBeforeUnload: false });
  await lost;
  const page = await tab(profile, home);
  const whole = await kept(page);
  host.renew();
  const after = await load(page, host.folder);
  expect(host.sent().sort(), `killed at ${position}`).toEqual(shards.filter(name => !whole.includes(name)).sort());
  await page.evaluate(() => indexedDB.deleteDatabase("blip2-web"));
  await page.close();
  return { whole: whole.length, after };
}

for (const [count, tag] of [
  [8, ""],
  [50, " @long"],
] as const) {
  test(`killed at ${count} positions of a load, a visit goes on with the shards that are whole${tag}`, async ({
    host,
    home,
    browserProfile,
    well,
  }) => {
    const bytes = shards.reduce((all, name) => all + (index.files[name]?.bytes ?? 0), 0);
    let most = 0;
    for (const position of positions(count, bytes)) {
      const { whole, after } = await killedAt(position, browserProfile, home, host);
      well(after);
      most = Math.max(most, whole);
      host.renew();
    }
    expect(most, "shards that a killed load had finished").toBeGreaterThan(0);
  });
}
