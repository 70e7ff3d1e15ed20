/** Finding pictures by words, as transformers finds them, and what two models of one engine share. */

import { readFileSync } from "node:fs";
import { expect, SHARD } from "./house.js";
import { openLibrary, test } from "./library.js";

interface Search {
  readonly text: string;
  readonly files: readonly string[];
  readonly cosines: readonly number[];
  readonly first_matches: number;
}

const gallery: { file: string }[] = JSON.parse(readFileSync("demo/gallery/index.json", "utf8"));
const { searches }: { searches: Search[] } = JSON.parse(readFileSync("demo/gallery/expected.q8.json", "utf8"));
/** Of the gallery's Q8 weights in f32, as the Rust tests hold them. */
const COSINE = 2e-3;

test("a gallery is ordered as by transformers (cpu)", async ({ visitor, shelf }) => {
  await openLibrary(visitor, shelf, "cpu");
  const asked = searches.map(({ text }) => text);
  const files = gallery.map(({ file }) => file);
  const found = await visitor.evaluate(
    async ({ files, asked }) => {
      const blip2 = await library.createEngine({ device: "cpu" }).load("models/retrieval", { arithmetic: "exact" });
      const images: Awaited<ReturnType<typeof blip2.encode>>[] = [];
      for (const file of files) images.push(await blip2.encode(`gallery/${file}`));
      const orders = [];
      for (const text of asked) {
        const ranked = await blip2.rank(images, text);
        const [best] = ranked;
        const matched = best ? await best.image.match([text]) : [];
        orders.push({ ranked: ranked.map(({ image, itc }) => ({ file: files[images.indexOf(image)], itc })), match: matched[0] });
      }
      return { can: blip2.info.can, class: blip2.info.class, orders };
    },
    { files, asked },
  );
  expect(found.class).toBe("Blip2ForImageTextRetrieval");
  expect(found.can).toEqual(["rank", "match", "embed", "attention"]);
  for (const [place, search] of searches.entries()) {
    const order = found.orders[place];
    expect(order?.ranked.length).toBe(gallery.length);
    for (const [rank, cosine] of search.cosines.entries()) {
      // The n-th best cosine is the expected one, and belongs to the expected picture unless its neighbours are as close.
      expect(Math.abs((order?.ranked[rank]?.itc ?? 9) - cosine), `${search.text}, ${rank}`).toBeLessThan(COSINE);
      const own = order?.ranked.find(({ file }) => file === search.files[rank]);
      expect(Math.abs((own?.itc ?? 9) - cosine), `${search.text}, ${search.files[rank]}`).toBeLessThan(COSINE);
    }
    if (order?.ranked[0]?.file === search.files[0]) expect(Math.abs((order?.match ?? 9) - search.first_matches)).toBeLessThan(5e-3);
  }
});

test("the best are matched again, a word is traced to the picture, and nothing of a language model is fetched (webgpu)", async ({
  visitor,
  shelf,
}) => {
  await openLibrary(visitor, shelf, "webgpu");
  const files = gallery.slice(0, 4).map(({ file }) => file);
  const found = await visitor.evaluate(async files => {
    const engine = library.createEngine({ device: "webgpu" });
    const blip2 = await engine.load("models/retrieval");
    const images: Awaited<ReturnType<typeof blip2.encode>>[] = [];
    for (const file of files) images.push(await blip2.encode(`gallery/${file}`));
    const plain = await blip2.rank(images, "a bird");
    const ranked = await blip2.rank(images, "a bird", { rerank: 2 });
    const similar = await blip2.similarities(images, ["a bird", "a car"]);
    const [first] = images;
    if (!first) throw new Error("no picture");
    const [words, looks] = [await blip2.embed(["a bird", "a car"]), await first.embed()];
    const width = words.shape.at(-1) ?? 0;
    const dot = (a: Float32Array, b: Float32Array) => a.reduce((sum, value, at) => sum + value * (b[at] ?? 0), 0);
    const queries = Array.from({ length: looks.shape[0] ?? 0 }, (_, query) => looks.data.subarray(query * width, (query + 1) * width));
    const own = [0, 1].map(text => Math.max(...queries.map(query => dot(query, words.data.subarray(text * width, (text + 1) * width)))));
    const { tokens, map, shape } = await first.attention({ for: "a red bird" });
    const sums = tokens.map((_, token) =>
      map.slice(token * shape.rows * shape.columns, (token + 1) * shape.rows * shape.columns).reduce((a, b) => a + b, 0),
    );
    const device = (await engine.device()).kind;
    return {
      device,
      plain: plain.map(({ image, itc, itm }) => ({ at: images.indexOf(image), itc, itm })),
      ranked: ranked.map(({ image, itc, itm }) => ({ at: images.indexOf(image), itc, itm })),
      similar: { data: [...similar.data], shape: similar.shape },
      own,
      tokens,
      shape,
      sums,
    };
  }, files);
  expect(found.device).toBe("webgpu");
  expect(found.plain.every(({ itm }) => itm === null)).toBe(true);
  expect(found.ranked.map(({ itm }) => itm !== null)).toEqual([true, true, false, false]);
  expect(new Set(found.ranked.slice(0, 2).map(({ at }) => at))).toEqual(new Set(found.plain.slice(0, 2).map(({ at }) => at)));
  expect(found.similar.shape).toEqual([2, files.length]);
  // One's own index of vectors says the same.
  expect(found.own).toHaveLength(2);
  for (const [text, cosine] of found.own.entries()) expect(cosine).toBeCloseTo(found.similar.data[text * files.length] ?? 9, 5);
  for (const { at, itc } of found.plain) expect(found.similar.data[at]).toBeCloseTo(itc, 5);
  expect(found.tokens.join("").trim()).toBe("a red bird");
  expect(found.shape.rows * found.shape.columns).toBe(64);
  for (const sum of found.sums) expect(sum).toBeCloseTo(1, 4);
  const parts = JSON.parse(readFileSync("demo/retrieval/model.safetensors.index.json", "utf8")).files;
  expect(Object.values<{ stage?: string }>(parts).some(({ stage }) => stage === "language")).toBe(false);
});

test("two models of one engine share the tower that sees", async ({ visitor, shelf }) => {
  await openLibrary(visitor, shelf, "cpu");
  const shared = await visitor.evaluate(async () => {
    const engine = library.createEngine({ device: "cpu" });
    const captioner = await engine.load("models/demo");
    const retrieval = await engine.load("models/retrieval");
    const seen = await retrieval.encode("samples/01-bee.png");
    const [best] = await retrieval.rank([seen], "a bee");
    // The tower outlives the model that brought it.
    await captioner.dispose();
    const again = await retrieval.encode("samples/01-bee.png");
    const [same] = await retrieval.rank([again], "a bee");
    const exact = await engine.load("models/retrieval", { arithmetic: "exact" });
    const [exactly] = await exact.rank([await exact.encode("samples/01-bee.png")], "a bee");
    return {
      first: captioner.info.shared,
      second: retrieval.info.shared,
      third: exact.info.shared,
      arithmetic: [captioner, retrieval, exact].map(({ info }) => info.arithmetic),
      best: best?.itc,
      same: same?.itc,
      exact: exactly?.itc,
    };
  });
  expect(shared.arithmetic, "what a CPU takes by itself").toEqual(["int8", "int8", "exact"]);
  expect(shared.third, "a tower in another arithmetic is another").toEqual([]);
  expect(Math.abs((shared.exact ?? 9) - (shared.best ?? 0)), "8-bit activations are about 1 % off").toBeLessThan(0.05);
  expect(shared.first).toEqual([]);
  expect(shared.second).toEqual(["vision"]);
  expect(shared.best).toBeGreaterThan(0.5);
  expect(shared.same).toBe(shared.best);
  // One file serves both: the second time it comes from the cache.
  const shards = shelf.requests.filter(path => SHARD.test(path)).map(path => path.split("/").at(-1));
  expect(shards.length).toBeGreaterThan(0);
  expect(new Set(shards).size, `asked for ${shards.join(", ")}`).toBe(shards.length);
});
