import assert from "node:assert/strict";
import { test } from "node:test";
import {
  Blip2Error,
  Blip2ForConditionalGeneration,
  Blip2ForImageTextRetrieval,
  Blip2Model,
  Blip2Config,
  Blip2Processor,
  Blip2QFormerConfig,
  Blip2VisionConfig,
  Blip2QFormerModel,
  Blip2TextModelWithProjection,
  Blip2VisionModel,
  Blip2VisionModelWithProjection,
} from "./index.js";
import { DEAD, MODEL, RETRIEVAL, turn, turns, withWorkers } from "./fake_worker.js";
import type { Processed, Tensor } from "./protocol.js";

const SOURCE = "http://localhost/models/demo";
const ADDRESS = `${SOURCE}/`;
const tensor = (...shape: number[]): Tensor => ({ data: new Float32Array(shape.reduce((a, b) => a * b, 1)), shape });
const pixel_values = tensor(1, 3, 2, 2);
const picture = (last: number) => new Blob([new Uint8Array([0x89, 0x50, 0x4e, 0x47, last])]);

for (const [name, from] of [
  ["Blip2ForConditionalGeneration", Blip2ForConditionalGeneration.from_pretrained],
  ["Blip2Model", Blip2Model.from_pretrained],
  ["Blip2ForImageTextRetrieval", Blip2ForImageTextRetrieval.from_pretrained],
  ["Blip2TextModelWithProjection", Blip2TextModelWithProjection.from_pretrained],
  ["Blip2VisionModelWithProjection", Blip2VisionModelWithProjection.from_pretrained],
  ["Blip2VisionModel", Blip2VisionModel.from_pretrained],
  ["Blip2QFormerModel", Blip2QFormerModel.from_pretrained],
] as const) {
  test(`${name} asks for its own class, and refuses and frees a model of another`, async () => {
    const other = name === "Blip2VisionModel" ? "Blip2QFormerModel" : "Blip2VisionModel";
    let found: string = name;
    const { engine, last } = withWorkers({ load: () => ({ model: 4, info: { ...MODEL, class: found } }) });
    const kept = await from(SOURCE, { engine });
    assert.equal(kept.blip2.info.class, name);
    found = other;
    await assert.rejects(
      from(SOURCE, { engine, integrity: "sha256-x" }),
      (error: unknown) =>
        error instanceof Blip2Error && error.is("input-invalid") && error.facts.reason.includes(other) && error.facts.reason.includes(name),
    );
    assert.deepEqual(last().paramsOf("load"), [
      { url: ADDRESS, as: name },
      { url: ADDRESS, integrity: "sha256-x", as: name },
    ]);
    assert.deepEqual(last().paramsOf("release"), [{ kind: "model", handle: 4 }]);
  });
}

test("the two classes with the same weights and the same forward serve as each other, and no others do", async () => {
  let found = "Blip2ForConditionalGeneration";
  const { engine } = withWorkers({ load: () => ({ model: 1, info: { ...MODEL, class: found } }) });
  await Blip2Model.from_pretrained(SOURCE, { engine });
  await assert.rejects(Blip2ForImageTextRetrieval.from_pretrained(SOURCE, { engine }));
  found = "Blip2Model";
  await Blip2ForConditionalGeneration.from_pretrained(SOURCE, { engine });
});

test("forward hands its inputs over as they are, and gives the tensors of its class and what came besides", async () => {
  const output = {
    logits_per_image: tensor(1, 2),
    logits_per_text: tensor(2, 1),
    image_embeds: tensor(1, 2, 4),
    text_embeds: tensor(2, 4),
    extra: 1,
  };
  const { engine, last } = withWorkers({ load: () => ({ model: 1, info: RETRIEVAL }), call: () => output });
  const model = await Blip2ForImageTextRetrieval.from_pretrained(SOURCE, { engine });
  const inputs = {
    pixel_values,
    input_ids: [[1, 2]],
    attention_mask: { data: new Int32Array([1, 1]), shape: [1, 2] },
    use_image_text_matching_head: true,
  };
  const { logits_per_image, extra } = await model.forward(inputs);
  assert.deepEqual([logits_per_image, extra], [output.logits_per_image, 1]);
  assert.deepEqual(last().paramsOf("call"), [{ model: 1, method: "forward", inputs }]);
});

test("an output without the tensors of its class is an error that names what came", async () => {
  for (const output of [{ logits: [1] }, { logits: { data: [1], shape: [1] } }, { last_hidden_state: tensor(1) }]) {
    const { engine } = withWorkers({ call: () => output });
    const model = await Blip2ForConditionalGeneration.from_pretrained(SOURCE, { engine });
    await assert.rejects(model.forward({ pixel_values, input_ids: [[1]] }), new RegExp(Object.keys(output).join()));
  }
});

test("generate hands its options over untouched, and gives ids, or what is known of them", async () => {
  const ids = [
    [1, 2],
    [1, 3],
  ];
  const result = { ids, sequences_scores: [-0.5, -1], finish: "length" } as const;
  const { engine, last } = withWorkers({ generateIds: () => result });
  const model = await Blip2ForConditionalGeneration.from_pretrained(SOURCE, { engine });
  const { signal } = new AbortController();
  const options = { num_beams: 3, num_return_sequences: 2, early_stopping: "never", length_penalty: -1, bad_words_ids: [[5]] } as const;
  const inputs = { pixel_values, input_ids: [[1, 2]] };
  assert.deepEqual(await model.generate(inputs, { ...options, signal }), ids);
  const { sequences, sequences_scores, finish } = await model.generate(inputs, { ...options, return_dict_in_generate: true });
  assert.deepEqual([sequences, sequences_scores, finish], [ids, [-0.5, -1], "length"]);
  assert.deepEqual(last().paramsOf("generateIds"), [
    { model: 1, inputs, options },
    { model: 1, inputs, options },
  ]);
});

test("an aborted generate rejects with the signal's reason and tells the worker", async () => {
  const { engine, last } = withWorkers();
  const model = await Blip2ForConditionalGeneration.from_pretrained(SOURCE, { engine });
  const controller = new AbortController();
  const ids = model.generate({ pixel_values }, { signal: controller.signal });
  await turns();
  controller.abort(new Error("no"));
  await assert.rejects(ids, /no/);
  await turn();
  assert.equal(last().idOf("abort"), last().idOf("generateIds"));
});

test("a processor asks for its folder without weights, and hands its arguments on", async () => {
  const processed: Processed = { pixel_values, input_ids: [[7, 1]], attention_mask: [[1, 1]] };
  const { engine, last } = withWorkers({
    load: () => ({ model: 6, info: MODEL }),
    process: () => processed,
    decode: ({ rows }) => rows.map(row => row.join("-")),
  });
  const processor = await Blip2Processor.from_pretrained(SOURCE, { engine });
  assert.deepEqual(last().paramsOf("load"), [{ url: ADDRESS, as: "Blip2Processor" }]);
  const options = { padding: "max_length", padding_side: "left", truncation: true, max_length: 40 } as const;
  assert.deepEqual(await processor.call({ images: [picture(1), picture(2)], text: "a", ...options }), processed);
  assert.deepEqual(await processor.call({ images: picture(3) }), processed);
  assert.deepEqual(await processor.call({ text: ["a", "b"], padding: true }), processed);
  const asked = last().paramsOf("process");
  assert.deepEqual(
    asked.map(({ images }) => images?.map(bytes => bytes[4]) ?? null),
    [[1, 2], [3], null],
  );
  assert.deepEqual(
    asked.map(({ model, text, options }) => ({ model, text, options })),
    [
      { model: 6, text: ["a"], options },
      { model: 6, text: null, options: {} },
      { model: 6, text: ["a", "b"], options: { padding: true } },
    ],
  );
  assert.deepEqual(await processor.batch_decode([[1, 2], [3]], { skip_special_tokens: true }), ["1-2", "3"]);
  assert.equal(await processor.decode([4, 5]), "4-5");
  assert.deepEqual(last().paramsOf("decode"), [
    { model: 6, rows: [[1, 2], [3]], skip_special_tokens: true },
    { model: 6, rows: [[4, 5]], skip_special_tokens: false },
  ]);
  assert.equal(last().count("load"), 1);
});

test("what a processor gives is what generate takes, and what that gives is what it decodes", async () => {
  const processed = { pixel_values, input_ids: [[7, 1]], attention_mask: [[1, 1]] };
  const { engine, last } = withWorkers({
    process: () => processed,
    generateIds: () => ({ ids: [[7, 1, 9]], sequences_scores: null, finish: "eos" }),
    decode: ({ rows }) => rows.map(row => row.join("-")),
  });
  const processor = await Blip2Processor.from_pretrained(SOURCE, { engine });
  const model = await Blip2ForConditionalGeneration.from_pretrained(SOURCE, { engine });
  const ids = await model.generate(await processor.call({ images: picture(1), text: "what?" }));
  assert.deepEqual(last().paramsOf("generateIds")[0]?.inputs, processed);
  assert.deepEqual(await processor.batch_decode(ids), ["7-1-9"]);
});

test("a processor alone loads its folder once, keeps working after a death, and frees what it loaded", async () => {
  const { engine, workers, last } = withWorkers({ load: () => ({ model: 6, info: MODEL }), decode: () => ["a"] });
  const processor = await Blip2Processor.from_pretrained(SOURCE, { engine, integrity: "sha256-x" });
  assert.deepEqual(await Promise.all([processor.decode([1]), processor.decode([2])]), ["a", "a"]);
  assert.deepEqual(last().paramsOf("load"), [{ url: ADDRESS, integrity: "sha256-x", as: "Blip2Processor" }]);
  last().say(DEAD);
  assert.equal(await processor.decode([1]), "a");
  assert.equal(workers.length, 2);
  await processor.dispose();
  assert.ok(last().terminated);
});

test("a configuration is read by the engine: of a folder, of values, of parts", async () => {
  const { engine, last } = withWorkers({ config: params => ({ ...params }) });
  const folder = await Blip2Config.from_pretrained(SOURCE, { engine, integrity: "sha256-x" });
  assert.deepEqual(folder.to_dict(), { kind: "folder", part: "Blip2Config", url: ADDRESS, integrity: "sha256-x" });
  const vision = await Blip2VisionConfig.from_dict({ image_size: 364 }, { engine });
  assert.deepEqual(last().paramsOf("config")[1], { kind: "json", part: "Blip2VisionConfig", json: '{"image_size":364}' });
  const qformer = await Blip2QFormerConfig.from_dict({}, { engine });
  const whole = await Blip2Config.from_vision_qformer_text_configs(vision, qformer, { model_type: "t5" }, { engine });
  assert.deepEqual(whole.to_dict(), {
    kind: "parts",
    vision: vision.to_json_string(),
    qformer: qformer.to_json_string(),
    text: '{"model_type":"t5"}',
  });
});
