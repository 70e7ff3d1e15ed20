import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { at, recall } from "../common.mjs";
import { openBrowser } from "./browser.mjs";
import { runReport, table, VERSION } from "./report.mjs";
import { median, ratio, summary } from "./statistics.mjs";
import { products, share, work } from "./work.mjs";

const near = (found, expected, part = 1e-9) => assert.ok(Math.abs(found - expected) <= part * Math.abs(expected), `${found} is not near ${expected}`);

const demo = name => ({
  config: recall(at("demo", name, "config.json")),
  index: JSON.parse(readFileSync(at("demo", name, "model.safetensors.index.json"), "utf8")),
});

/** The shapes of blip2-opt-2.7b; what its file leaves out is transformers' default. */
const OPT_27B = {
  config: {
    architectures: ["Blip2ForConditionalGeneration"],
    text_config: {
      model_type: "opt",
      hidden_size: 2560,
      ffn_dim: 10240,
      num_hidden_layers: 32,
      num_attention_heads: 32,
      vocab_size: 50304,
      word_embed_proj_dim: 2560,
    },
  },
  index: { quantization: { vision: "q4", qformer: "q4", projection: "q4", language: "q4" }, tensors: {} },
};

test("a summary is the middle and the quarters, whatever the order", () => {
  assert.deepEqual(summary([4, 1, 3, 2, 5]), { median: 3, q1: 2, q3: 4, iqr: 2, min: 1, max: 5, runs: 5 });
  assert.deepEqual(summary([1, 2]), { median: 1.5, q1: 1.25, q3: 1.75, iqr: 0.5, min: 1, max: 2, runs: 2 });
  assert.equal(summary([]), null);
  assert.equal(median([7]), 7);
});

test("a ratio is of the same rounds: what slows a round slows both", () => {
  assert.equal(ratio([1, 10, 2], [2, 20, 4]), 0.5);
  assert.equal(ratio([1, 1], [2]), 0.5);
  assert.equal(ratio([], [2]), null);
});

test("a token of opt-2.7b goes over every weight of its layers and its head once", () => {
  const { token, encode } = work(OPT_27B.config, OPT_27B.index, 64);
  assert.equal(token.weights, 32 * (4 * 2560 ** 2 + 2 * 2560 * 10240) + 50304 * 2560);
  assert.equal(token.bytes, (token.weights * 18) / 32);
  assert.equal(token.flop, 2 * (token.weights + 32 * 2 * 2560 * 64));
  // ViT-g has about a billion weights, and each meets 257 positions.
  assert.ok(encode.weights > 0.95e9 && encode.weights < 1.15e9, String(encode.weights));
  assert.ok(encode.flop > 2 * 257 * 0.95e9, String(encode.flop));
});

test("what a token reads of the demo model is what its index holds of it", () => {
  const { config, index } = demo("model");
  const { token } = work(config, index, 16);
  const matrices = products(config, index).filter(({ stage }) => stage === "language");
  assert.equal(
    token.weights,
    matrices.reduce((sum, { out, columns, count }) => sum + out * columns * count, 0),
  );
});

test("T5's decoder counts its gate, its two attentions and its head, and not its encoder", () => {
  const text = { model_type: "t5", d_model: 8, d_kv: 2, num_heads: 3, d_ff: 16, num_layers: 2, vocab_size: 10, feed_forward_proj: "gated-gelu" };
  const { token } = work({ text_config: text }, { quantization: {}, tensors: {} }, 0);
  assert.equal(token.weights, 2 * (6 * 8 * 6 + 3 * 8 * 16) + 80);
  assert.equal(token.bytes, 4 * token.weights);
});

test("a share is held against what would take longer", () => {
  const limits = { bytes_per_second: 100, flop_per_second: 1000 };
  const slow = share({ bytes: 50, flop: 100 }, 1000, limits);
  assert.equal(slow.bound, "bandwidth");
  near(slow.share, 0.5);
  assert.equal(share({ bytes: 1, flop: 900 }, 1000, limits).bound, "arithmetic");
  assert.equal(share(null, 1, limits), null);
  assert.equal(share({ bytes: 1, flop: 1 }, 1, { bytes_per_second: 1 }), null);
});

/** As the page ends. */
const outcome = {
  adapter: { name: "CPU", backend: "flex", software: false },
  browser: "Chrome 1",
  model: { class: "Blip2ForConditionalGeneration", parameters: 10e6, quantization: { language: "q8" }, bytes: 11e6, device_bytes: 11e6 },
  samples: {
    load: [100],
    load_cached: [50, 60, 55],
    prepare: [1, 1, 1],
    encode: [21, 23, 22],
    first_word: [3, 3, 3],
    second_word: [1.2, 1.2, 1.2],
    token: [0.5, 0.4, 0.6],
    unfused_encode: [40, 44, 42],
    unfused_token: [1, 0.8, 1.2],
  },
  cpu: { encode: [20], token: [0.5] },
  counts: { token: { dispatches: 0, submits: 0, readbacks: 1, bytes: 0, weights: 0, replays: 0, all_dispatches: 0 } },
  limits: { bytes_per_second: [10e9], bytes_per_second_of_weights: [20e9], flop_per_second: [40e9], int8_per_second: [80e9] },
  products: [0.1],
  hash_bytes_per_second: null,
  wasm_memory: 2e7,
  rounds: 3,
  error: null,
  memory: { empty: 1e8, peaks: { load: 1.5e8, work: 1.6e8 } },
};

const reported = changes => {
  const facts = demo("model");
  const [product] = products(facts.config, facts.index);
  return runReport("demo/model", { device: "cpu", context: 42 }, { ...outcome, ...changes }, { ...facts, products: [product] });
};

test("a report holds medians, ratios of the same rounds, shares and memory above an empty page's", () => {
  const report = reported({});
  assert.equal(report.figures.encode.median, 22);
  assert.equal(report.figures.rank_100, null);
  assert.equal(report.tokens_per_second, 2000);
  near(report.second_over_first_word, 1.2 / 25);
  near(report.unfused.encode_ratio, 0.5);
  near(report.unfused.token_ratio, 0.5);
  assert.equal(report.memory.load, 0.5e8);
  assert.equal(report.memory.work, 0.6e8);
  assert.equal(report.memory.load_again, null);
  // Q8 on the CPU is eight-bit arithmetic, and the weights are read from where they lie.
  near(report.shares.token.of_bandwidth, report.shares.token.bytes_per_second / 20e9);
  near(report.shares.token.of_arithmetic, report.shares.token.flop_per_second / 80e9);
  assert.equal(report.error, null);
});

test("a report of a run that broke off says why, and holds what there is", () => {
  const report = runReport("x", { device: "webgpu", context: 1 }, { error: "the page crashed" }, { ...demo("model"), products: [] });
  assert.equal(report.error, "the page crashed");
  assert.equal(report.figures.encode, null);
  assert.equal(report.memory, null);
  assert.match(table({ machine: { cpu: "?", cores: 1, system: "?" }, runs: [report] }), /ENDED EARLY: the page crashed/);
});

test("a load says how fast it was and which part took how much of it", () => {
  const { load } = reported({ samples: { load: [100], load_cached: [50, 100], storage: [25, 50], upload: [5, 10] }, hash_bytes_per_second: 440e6 });
  near(load.network_bytes_per_second, 11e6 / 0.1);
  near(load.cached_bytes_per_second, 11e6 / 0.075);
  near(load.of_cached.storage, 0.5);
  near(load.of_cached.upload, 0.1);
  near(load.of_cached.hash, 25 / 75);
  assert.deepEqual(load.memory, { peak: 0.5e8, bound: Math.round(11e6 * 1.05 + 250 * 2 ** 20), wasm: 2e7, wasm_bound: null, within: true });
});

test("a load that takes more than it may says so: of the device's memory, or of wasm's", () => {
  const facts = demo("model");
  const loaded = changes => {
    const samples = { load: [100], load_cached: [50], storage: [25], upload: [5] };
    const run = runReport("x", { device: "webgpu", context: 1 }, { ...outcome, products: [], samples, ...changes }, { ...facts, products: [] });
    return { ...run.load.memory, said: table({ machine: { cpu: "?", cores: 1, system: "?" }, runs: [run] }) };
  };
  assert.equal(loaded({}).within, true);
  assert.match(loaded({}).said, /: within/);
  const bound = 11e6 * 1.15 + 200 * 2 ** 20;
  assert.equal(loaded({ memory: { empty: 1e8, peaks: { load: 1e8, "load again": 1e8 + bound + 1 } } }).within, false);
  const { within, said } = loaded({ wasm_memory: 257 * 2 ** 20 });
  assert.equal(within, false);
  assert.match(said, /: OVER/);
});

test("the shape of the JSON is a promise: what a reader could stumble over changes its version", () => {
  const shape = value =>
    value !== null && typeof value === "object" && !Array.isArray(value)
      ? Object.fromEntries(Object.keys(value).map(key => [key, shape(value[key])]))
      : "";
  const figure = { median: "", q1: "", q3: "", iqr: "", min: "", max: "", runs: "" };
  const reached = { bytes_per_second: "", flop_per_second: "", of_bandwidth: "", of_arithmetic: "", bound: "", share: "" };
  assert.equal(VERSION, 1);
  const loads = reported({ products: [], samples: { load: [100], load_cached: [50], storage: [25], upload: [5] } });
  assert.deepEqual(shape(loads.load), {
    ...{ network_bytes_per_second: "", cached_bytes_per_second: "", of_cached: { storage: "", hash: "", upload: "" } },
    memory: { peak: "", bound: "", wasm: "", wasm_bound: "", within: "" },
  });
  assert.deepEqual(shape(reported({ products: [] })), {
    ...{ device: "", adapter: { name: "", backend: "", software: "" }, browser: "", rounds: "", tokens_per_second: "", second_over_first_word: "" },
    model: { name: "", class: "", parameters: "", quantization: { language: "" }, bytes: "", device_bytes: "" },
    figures: {
      ...{ load: figure, load_cached: figure, prepare: figure, encode: figure, first_word: figure, token: figure, second_word: figure },
      ...{ rank_100: "", match: "" },
    },
    counts: {
      ...{ encode: "", first_word: "", rank_100: "" },
      token: { dispatches: "", submits: "", readbacks: "", bytes: "", weights: "", replays: "", all_dispatches: "" },
    },
    cpu_ms: { encode: "", token: "" },
    context: "",
    memory: { empty_page: "", load: "", work: "", load_again: "", wasm: "", load_over_weights: "" },
    machine: { bytes_per_second: figure, bytes_per_second_of_weights: figure, flop_per_second: figure, int8_per_second: figure },
    shares: { encode: reached, token: reached },
    products: "",
    unfused: { encode: figure, token: figure, encode_ratio: "", token_ratio: "" },
    load: "",
    error: "",
  });
});

test("a table names the model, the adapter, every figure with its spread, and how much of the machine was used", () => {
  const text = table({ machine: { cpu: "A CPU", cores: 2, system: "linux" }, runs: [reported({})] });
  for (const words of [/demo\/model on cpu: CPU \(flex\), Chrome 1/, /encode it .* 22 ms {2}± 0\.500/, /tokens a second +2000/])
    assert.match(text, words);
  for (const words of [
    /unfused f32.*encode 0\.500 ×, token 0\.500 ×/,
    /the worker's thread: 20 ms for an encode, 0\.500 ms for a token/,
    /% of (bandwidth|arithmetic)/,
  ])
    assert.match(text, words);
  assert.match(text, /loading 50\.00 MB/);
});

test("a browser that does not start says why, and nobody waits for it", async () => {
  const heard = [];
  // Node knows none of Chromium's options.
  const opening = openBrowser(process.execPath, "profile", [], { onLine: () => {}, onEnd: reason => heard.push(reason) });
  await assert.rejects(opening, /the browser ended: exit code 9: .*bad option/s);
  assert.equal(heard.length, 1);
});
