// The least that an image and a token cost, from config.json and the index: multiply-adds, and bytes of weights that have to be read.

/** Bytes of a packed weight, as the kernels read it: blocks of 32 with a scale of two bytes. */
const BYTES = { f32: 4, f16: 2, q8: 34 / 32, q4: 18 / 32 };

/** transformers' defaults of what a file may leave out. */
const VISION = { hidden_size: 1408, intermediate_size: 6144, num_hidden_layers: 39, num_attention_heads: 16, image_size: 224, patch_size: 14 };
const QFORMER = {
  hidden_size: 768,
  intermediate_size: 3072,
  num_hidden_layers: 12,
  cross_attention_frequency: 2,
};
const OPT = { hidden_size: 768, ffn_dim: 3072, num_hidden_layers: 12, vocab_size: 50272, num_attention_heads: 12 };
const T5 = { d_model: 512, d_kv: 64, d_ff: 2048, num_layers: 6, num_heads: 8, vocab_size: 32128, feed_forward_proj: "relu" };

/**
 * { encode, token }, each { flop, weights, bytes }: two for every multiply-add; weights that are gone over once, and their bytes as they are packed.
 * `token`: one more token behind `context` positions; null for a model that says nothing.
 */
export function work(config, index, context) {
  const quant = stage => BYTES[index.quantization[stage] ?? "f32"];
  return { encode: encode(config, quant), token: token(config, quant("language"), context) };
}

function encode(config, quant) {
  const vision = { ...VISION, ...config.vision_config };
  const qformer = { ...QFORMER, ...config.qformer_config };
  const queries = config.num_query_tokens ?? 32;
  const patches = Math.floor(vision.image_size / vision.patch_size) ** 2;
  const [positions, wide] = [patches + 1, vision.hidden_size];

  const layer = 4 * wide * wide + 2 * wide * vision.intermediate_size;
  const patchWeights = 3 * vision.patch_size ** 2 * wide;
  const visionWeights = vision.num_hidden_layers * layer + patchWeights;
  const visionFlop = 2 * (vision.num_hidden_layers * (layer * positions + 2 * positions * positions * wide) + patchWeights * patches);

  const width = qformer.hidden_size;
  const crossing = Math.ceil(qformer.num_hidden_layers / qformer.cross_attention_frequency);
  const own = 4 * width * width + 2 * width * qformer.intermediate_size;
  const [asked, seen] = [2 * width * width, 2 * wide * width];
  const qformerWeights = qformer.num_hidden_layers * own + crossing * (asked + seen);
  const scores = 2 * width * queries;
  const qformerFlop =
    2 * (qformer.num_hidden_layers * (own * queries + scores * queries) + crossing * (asked * queries + seen * positions + scores * positions));

  const out = hasLanguageModel(config) ? languageWidth(config.text_config ?? {}) : (config.image_text_hidden_size ?? 256);
  const projection = width * out;
  return {
    flop: visionFlop + qformerFlop + 2 * projection * queries,
    weights: visionWeights + qformerWeights + projection,
    bytes: visionWeights * quant("vision") + qformerWeights * quant("qformer") + projection * quant("projection"),
  };
}

const hasLanguageModel = config => /ConditionalGeneration|Blip2Model$/.test(config.architectures?.[0] ?? "Blip2ForConditionalGeneration");

const languageWidth = text => (text.model_type === "t5" ? { ...T5, ...text }.d_model : { ...OPT, ...text }.hidden_size);

function token(config, bytesOf, context) {
  const text = config.text_config ?? {};
  if (!hasLanguageModel(config) || !["opt", "t5", undefined].includes(text.model_type)) return null;
  const { weights, attention } = text.model_type === "t5" ? t5({ ...T5, ...text }, context) : opt({ ...OPT, ...text }, context);
  return { flop: 2 * (weights + attention), weights, bytes: weights * bytesOf };
}

function opt(text, context) {
  const wide = text.hidden_size;
  const embedding = text.word_embed_proj_dim ?? wide;
  const outer = embedding === wide ? 0 : 2 * embedding * wide;
  const weights = text.num_hidden_layers * (4 * wide * wide + 2 * wide * text.ffn_dim) + outer + text.vocab_size * embedding;
  return { weights, attention: text.num_hidden_layers * 2 * wide * context };
}

/** The decoder; what it looks at in the encoder's output is computed once a question. */
function t5(text, context) {
  const [wide, inner] = [text.d_model, text.num_heads * text.d_kv];
  const layers = text.num_decoder_layers ?? text.num_layers;
  const gated = text.is_gated_act ?? text.feed_forward_proj.startsWith("gated-");
  const weights = layers * (6 * wide * inner + (gated ? 3 : 2) * wide * text.d_ff) + text.vocab_size * wide;
  return { weights, attention: layers * 4 * inner * context };
}

/**
 * Each shape of a product that an image or a token asks for, and how many such matrices there are: { stage, rows, out, columns, quant, count }.
 * Of packed models alone: in one of f32 nothing tells a matrix from a table.
 */
export function products(config, index) {
  const vision = { ...VISION, ...config.vision_config };
  const positions = Math.floor(vision.image_size / vision.patch_size) ** 2 + 1;
  const queries = config.num_query_tokens ?? 32;
  const keys = Object.keys(index.tensors);
  const hasHead = keys.some(key => key.endsWith("lm_head.weight"));
  const found = new Map();
  for (const [key, { shape, quant }] of Object.entries(index.tensors)) {
    const stage = stageOf(key);
    // Looked up by rows: no product. A decoder's own embedding is one where it is the head, too.
    const isTable = key.includes("embeddings.word") || (key.includes("embed_tokens") && hasHead);
    if (quant === "f32" || stage === null || isTable) continue;
    const [out, columns] = [shape[0], shape.slice(1).reduce((all, one) => all * one, 1)];
    const seesImage = stage === "qformer" && columns === vision.hidden_size && /crossattention\.attention\.(key|value)/.test(key);
    const rows = { vision: positions, qformer: seesImage ? positions : queries, projection: queries, language: 1 }[stage];
    const name = [stage, rows, out, columns, quant].join(" ");
    const before = found.get(name);
    found.set(name, { stage, rows, out, columns, quant, count: (before?.count ?? 0) + 1 });
  }
  return [...found.values()];
}

/** As the index puts keys to stages; null of what is computed once a question (T5's encoder). */
function stageOf(key) {
  if (key.startsWith("language_model.encoder.")) return null;
  const [first] = key.split(".");
  const stages = { vision_model: "vision", qformer: "qformer", language_projection: "projection", language_model: "language" };
  return stages[first] ?? null;
}

/**
 * How near a time comes to what the machine can do. `did` { flop, bytes } in `ms`; `limits` { bytes_per_second, flop_per_second }.
 * Returns { bytes_per_second, flop_per_second, of_bandwidth, of_arithmetic, bound, share }: `bound` says which of the two would take longer by itself,
 * `share` how much of it was reached. Null where something was not measured.
 */
export function share(did, ms, limits) {
  if (!did || !ms || !limits?.bytes_per_second || !limits.flop_per_second) return null;
  const [bytes_per_second, flop_per_second] = [did.bytes / (ms / 1e3), did.flop / (ms / 1e3)];
  const of_bandwidth = bytes_per_second / limits.bytes_per_second;
  const of_arithmetic = flop_per_second / limits.flop_per_second;
  const bound = of_bandwidth >= of_arithmetic ? "bandwidth" : "arithmetic";
  return { bytes_per_second, flop_per_second, of_bandwidth, of_arithmetic, bound, share: Math.max(of_bandwidth, of_arithmetic) };
}
