/** Every way to generate, in a browser, and the same words on both devices. HF's classes beside it. */

import { expect } from "./house.js";
import { openLibrary, test } from "./library.js";

/** What is asked of one device; plain values, so that two devices can be compared. */
async function everyWay(device: "cpu" | "webgpu") {
  const blip2 = await library.createEngine({ device }).load("models/demo", { arithmetic: "exact" });
  const image = await blip2.encode("samples/10-cup_of_coffee-star.png");
  const question = "What is this?";
  const text = async (options: object) => (await image.caption(options)).text;
  const drawn = { do_sample: true, top_k: 20, temperature: 1.2, max_new_tokens: 8 };
  const beams = await image.caption({ num_beams: 4, num_return_sequences: 3, max_new_tokens: 12 });
  const pieces: string[] = [];
  for await (const piece of image.caption({ num_beams: 2 })) pieces.push(piece);
  const chat = image.chat();
  const first = await chat.say(question);
  const second = await chat.say("What color is the background?");
  const refused: Record<string, unknown> = {};
  for (const [name, options] of Object.entries({ unknown: { beams: 3 }, alone: { temperature: 0.5 }, range: { do_sample: true, top_p: 2 } })) {
    refused[name] = await image.caption(options).then(
      () => "answered",
      (error: unknown) => (error instanceof library.Blip2Error ? error.code : String(error)),
    );
  }
  const attention = await image.attention({ for: beams.text });
  return {
    device: blip2.info.device,
    greedy: await text({}),
    beams: beams.candidates.map(({ text }) => text),
    descending: beams.candidates.every(({ score }, place, all) => score !== null && score <= (all[place - 1]?.score ?? Number.POSITIVE_INFINITY)),
    best: beams.text,
    pieces,
    drawn: [
      await text({ ...drawn, seed: 7 }),
      await text({ ...drawn, seed: 7 }),
      await text({ ...drawn, seed: 8 }),
      await text({ ...drawn, seed: 9 }),
    ],
    stopped: await image.caption({ stop_strings: [" a"], max_new_tokens: 12 }),
    chat: { turns: chat.turns, ids: [first.ids.length, second.ids.length] },
    refused,
    words: attention.tokens.join(""),
  };
}

test("beams, draws, stop strings and chat say the same on the CPU and on WebGPU", async ({ visitor, shelf }) => {
  await openLibrary(visitor, shelf, "cpu");
  const cpu = await visitor.evaluate(everyWay, "cpu" as const);
  const webgpu = await visitor.evaluate(everyWay, "webgpu" as const);
  expect([cpu.device, webgpu.device]).toEqual(["cpu", "webgpu"]);

  expect(new Set(cpu.beams).size).toBe(3);
  expect(cpu.beams[0]).toBe(cpu.best);
  expect(cpu.descending).toBe(true);
  expect(cpu.pieces.length, "beams have nothing certain before their end").toBe(1);
  expect(cpu.drawn[0]).toBe(cpu.drawn[1]);
  expect(new Set(cpu.drawn).size).toBeGreaterThan(1);
  expect(cpu.stopped.finish).toBe("stop");
  expect(cpu.stopped.text.endsWith("a") || cpu.stopped.text.includes(" a")).toBe(true);
  expect(cpu.chat.turns.map(({ answer }) => answer !== "")).toEqual([true, true]);
  expect(cpu.chat.ids[1] ?? 0, "the second question is asked behind the first").toBeGreaterThan((cpu.chat.ids[0] ?? 0) + 5);
  expect(cpu.refused).toEqual({ unknown: "option-unsupported", alone: "option-unsupported", range: "input-invalid" });
  expect(cpu.words).toBe(cpu.best);

  const { device: _, stopped: onCpu, ...rest } = cpu;
  const { device: __, stopped: onGpu, ...same } = webgpu;
  expect(same).toEqual(rest);
  expect([onGpu.text, onGpu.ids]).toEqual([onCpu.text, onCpu.ids]);
});

test("halves on a GPU, and processors that only lower scores, say what the CPU says exactly", async ({ visitor, shelf }) => {
  await openLibrary(visitor, shelf, "cpu");
  const said = ([device, arithmetic]: readonly ["cpu", "exact"] | readonly ["webgpu", "f16"]) =>
    visitor.evaluate(
      async ({ device, arithmetic }) => {
        const blip2 = await library.createEngine({ device }).load("models/demo", { arithmetic });
        const image = await blip2.encode("samples/10-cup_of_coffee-star.png");
        const text = async (options: object) => (await image.caption(options)).text;
        return {
          arithmetic: blip2.info.arithmetic,
          texts: [
            await text({}),
            await text({ repetition_penalty: 1.5, max_new_tokens: 12 }),
            await text({ no_repeat_ngram_size: 1, min_new_tokens: 10, max_new_tokens: 12 }),
            await text({ num_beams: 2, max_new_tokens: 12 }),
          ],
        };
      },
      { device, arithmetic },
    );
  const [exact, halves] = [await said(["cpu", "exact"]), await said(["webgpu", "f16"])];
  expect([exact.arithmetic, halves.arithmetic]).toEqual(["exact", "f16"]);
  expect(exact.texts[2], "it says other things where nothing may come again").not.toBe(exact.texts[0]);
  expect(halves.texts).toEqual(exact.texts);
});

test("transformers' classes give transformers' tensors", async ({ visitor, shelf }) => {
  await openLibrary(visitor, shelf, "cpu");
  const found = await visitor.evaluate(async () => {
    const engine = library.createEngine({ device: "cpu" });
    const processor = await library.Blip2Processor.from_pretrained("models/demo", { engine });
    const model = await library.Blip2ForConditionalGeneration.from_pretrained("models/demo", { engine });
    const picture = await (await fetch("samples/01-bee.png")).blob();
    const asked = "Question: What is this? Answer:";
    const { pixel_values, input_ids, attention_mask } = await processor.call({ images: [picture], text: [asked] });
    if (!pixel_values || !input_ids || !attention_mask) throw new Error("the processor left something out");
    const ids = await model.generate({ pixel_values, input_ids, attention_mask }, { max_new_tokens: 10 });
    const [text = ""] = await processor.batch_decode(ids, { skip_special_tokens: true });
    const forward = await model.forward({ pixel_values, input_ids, attention_mask, output_attentions: true });
    const image = await model.blip2.encode(picture);
    const own = await image.ask("What is this?", { max_new_tokens: 10 });

    const config = await library.Blip2Config.from_pretrained("models/demo", { engine });
    const small = await library.Blip2VisionConfig.from_dict({ hidden_size: 64, num_attention_heads: 4 }, { engine });
    const qformer = await library.Blip2QFormerConfig.from_pretrained("models/demo", { engine });
    const joined = await library.Blip2Config.from_vision_qformer_text_configs(small, qformer, undefined, { engine });
    const parts = await library.Blip2Model.from_pretrained("models/demo", { engine });
    const pooled = await parts.get_image_features({ pixel_values });
    const queries = await parts.get_qformer_features({ pixel_values });
    const read = await parts.get_text_features({ input_ids: [[2, 9, 11]] });

    const half = await library.Blip2QFormerModel.from_pretrained("models/demo", { engine });
    const width = queries.last_hidden_state.shape[2] ?? 0;
    const wave = (positions: number, across: number) => ({
      data: Float32Array.from({ length: positions * across }, (_, place) => Math.sin(place)),
      shape: [1, positions, across],
    });
    const given = { query_embeds: wave(3, width), encoder_hidden_states: wave(4, pooled.last_hidden_state.shape[2] ?? 0) };
    const ones = await half.forward({ ...given, attention_mask: [[1, 1, 1]] });
    const table = await half.forward({
      ...given,
      attention_mask: [
        [
          [1, 1, 1],
          [1, 1, 1],
          [1, 1, 1],
        ],
      ],
    });
    const causal = await half.forward({
      ...given,
      attention_mask: [
        [
          [1, 0, 0],
          [1, 1, 0],
          [1, 1, 1],
        ],
      ],
    });
    const same = (a: { data: ArrayLike<number> }, b: { data: ArrayLike<number> }) =>
      JSON.stringify([...Array.from(a.data)]) === JSON.stringify([...Array.from(b.data)]);

    const vision = await library.Blip2VisionModelWithProjection.from_pretrained("models/retrieval", { engine });
    const seen = await vision.forward({ pixel_values });
    const wrong = await library.Blip2ForImageTextRetrieval.from_pretrained("models/demo", { engine }).then(
      () => "loaded",
      (error: unknown) => (error instanceof library.Blip2Error ? error.code : String(error)),
    );
    const lengths = Array.from({ length: seen.image_embeds.shape[1] ?? 0 }, (_, query) => {
      const width = seen.image_embeds.shape[2] ?? 0;
      return Math.hypot(...seen.image_embeds.data.slice(query * width, (query + 1) * width));
    });
    return {
      text,
      asked,
      own: own.text,
      ids: input_ids.length === 1 ? input_ids[0] : [],
      pixels: pixel_values.shape,
      logits: forward.logits.shape,
      attentions: Object.entries(forward).find(([name]) => name === "attentions")?.[1],
      embeds: seen.image_embeds.shape,
      lengths,
      wrong,
      masks: [same(ones.last_hidden_state, table.last_hidden_state), same(ones.last_hidden_state, causal.last_hidden_state)],
      config: config.to_dict(),
      joined: joined.to_dict(),
      features: [pooled.pooler_output.shape.length, queries.last_hidden_state.shape[1], read.logits.shape[1]],
    };
  });
  expect(found.text.startsWith(found.asked), `said ${found.text}`).toBe(true);
  expect(found.text.slice(found.asked.length).trim()).toBe(found.own);
  expect(found.pixels).toEqual([1, 3, 128, 128]);
  expect(found.logits.slice(0, 2)).toEqual([1, found.ids?.length]);
  expect(Array.isArray(found.attentions) && found.attentions.length > 0).toBe(true);
  expect(found.embeds.slice(0, 2)).toEqual([1, found.lengths.length]);
  for (const length of found.lengths) expect(length).toBeCloseTo(1, 4);
  expect(found.wrong).toBe("weight-missing");
  expect(found.config).toMatchObject({ model_type: "blip-2", num_query_tokens: 16, vision_config: { image_size: 128, layer_norm_eps: 1e-6 } });
  expect(found.joined).toMatchObject({
    vision_config: { hidden_size: 64 },
    qformer_config: { encoder_hidden_size: 64 },
    text_config: { model_type: "opt" },
  });
  expect(found.features).toEqual([2, 16, 3]);
  expect(found.masks, "a mask of three dimensions, all ones and not").toEqual([true, false]);
});
