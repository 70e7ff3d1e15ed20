// What the page has measured → the report: JSON of one shape, and the same as a table.

import { size } from "../common.mjs";
import { median, ratio, summary } from "./statistics.mjs";
import { products as productsOf, share, work } from "./work.mjs";

/** Of the shape below. A change that a reader could stumble over counts it up. */
export const VERSION = 1;

/** Milliseconds each, in the order in which a visitor meets them. */
const FIGURES = ["load", "load_cached", "prepare", "encode", "first_word", "token", "second_word", "rank_100", "match"];

/**
 * One model on one device: { device, adapter, browser, model, rounds, figures, counts, cpu_ms, context, memory, machine, shares, products, unfused, load, error }.
 * `figures` are { median, q1, q3, iqr, min, max, runs } in milliseconds, and null where the model has no such thing; so is whatever could not be measured.
 */
export function runReport(name, { device, context }, outcome, { config, index, products }) {
  const { samples = {}, cpu = {}, counts = {}, limits = null, error } = outcome;
  const figures = Object.fromEntries(FIGURES.map(figure => [figure, summary(samples[figure] ?? [])]));
  const machine = limits && Object.fromEntries(Object.entries(limits).map(([limit, values]) => [limit, summary(values)]));
  const did = work(config, index, context);
  return {
    device,
    adapter: outcome.adapter ?? null,
    browser: outcome.browser ?? null,
    model: { name, ...(outcome.model ?? {}) },
    rounds: outcome.rounds ?? 0,
    figures,
    tokens_per_second: figures.token && 1000 / figures.token.median,
    second_over_first_word: ratio(
      samples.second_word ?? [],
      (samples.first_word ?? []).map((ms, round) => ms + (samples.encode?.[round] ?? Number.NaN)),
    ),
    counts: { encode: counts.encode ?? null, first_word: counts.first_word ?? null, token: counts.token ?? null, rank_100: counts.rank_100 ?? null },
    cpu_ms: { encode: median(cpu.encode ?? []), token: median(cpu.token ?? []) },
    context: contextReport(samples),
    memory: memoryReport(outcome),
    machine,
    shares: {
      encode: shareOf(did.encode, computing(samples), device, index.quantization.vision, machine),
      token: shareOf(did.token, figures.token?.median, device, index.quantization.language, machine),
    },
    products: (outcome.products ?? []).map((ms, place) => productReport(products[place], ms, device, machine)),
    unfused: unfusedReport(samples),
    load: loadReport(device, outcome, figures),
    error: error ?? null,
  };
}

/** Of an encode that without the picture's decoding and resizing. */
const computing = ({ encode = [], prepare = [] }) => median(encode.map((ms, round) => ms - (prepare[round] ?? 0)));

/** On the CPU, packed weights are multiplied as eight-bit numbers: that is the arithmetic to be held against. */
function limitsOf(device, quant, machine, fromCache) {
  if (!machine) return null;
  const packed = device === "cpu" && (quant === "q8" || quant === "q4");
  const bandwidth = fromCache ? machine.bytes_per_second_of_weights : machine.bytes_per_second;
  const arithmetic = packed ? machine.int8_per_second : machine.flop_per_second;
  return { bytes_per_second: bandwidth?.median, flop_per_second: arithmetic?.median };
}

const shareOf = (did, ms, device, quant, machine) => share(did, ms, limitsOf(device, quant, machine, true));

function productReport({ stage, rows, out, columns, quant, count }, ms, device, machine) {
  const blocks = { f32: 4, f16: 2, q8: 34 / 32, q4: 18 / 32 }[quant];
  const did = { flop: 2 * rows * out * columns, bytes: out * columns * blocks };
  return { stage, rows, out, columns, quant, count, ms, ...share(did, ms, limitsOf(device, quant, machine, true)) };
}

function memoryReport({ memory, wasm_memory = 0, model }) {
  if (!memory) return null;
  const { empty, peaks } = memory;
  const above = name => (empty === null || peaks[name] === undefined ? null : peaks[name] - empty);
  const load = above("load");
  return {
    empty_page: empty,
    load,
    work: above("work"),
    load_again: above("load again"),
    wasm: wasm_memory,
    load_over_weights: load === null || !model ? null : load / model.device_bytes,
  };
}

/** A token behind 64 positions, behind 1024, and how much longer that takes, round by round. */
function contextReport({ token_behind_64: few = [], token_behind_1024: many = [] }) {
  return many.length === 0 ? null : { behind_64: summary(few), behind_1024: summary(many), ratio: ratio(many, few) };
}

/** Burn's operations one by one in f32: what they take, and our time over theirs, round by round. */
function unfusedReport({ unfused_encode = [], unfused_token = [], encode = [], prepare = [], token = [] }) {
  if (unfused_encode.length === 0) return null;
  const computed = encode.map((ms, round) => ms - (prepare[round] ?? 0));
  return {
    encode: summary(unfused_encode),
    token: summary(unfused_token),
    encode_ratio: ratio(computed, unfused_encode),
    token_ratio: ratio(token, unfused_token),
  };
}

/** Where a load's time goes. Shares need not add up to 1: parts overlap, and what is left is unpacking and the turns of the event loop. */
function loadReport(device, outcome, { load: network, load_cached: cached }) {
  const { samples = {}, model, hash_bytes_per_second = null } = outcome;
  if (!samples.storage || !cached || !network || !model) return null;
  const per = ms => model.bytes / (ms / 1e3);
  const hashing = hash_bytes_per_second === null ? null : (model.bytes / hash_bytes_per_second) * 1e3;
  return {
    network_bytes_per_second: per(network.median),
    cached_bytes_per_second: per(cached.median),
    of_cached: {
      storage: ratio(samples.storage, samples.load_cached),
      hash: hashing === null ? null : hashing / cached.median,
      upload: ratio(samples.upload, samples.load_cached),
    },
    memory: boundsReport(device, outcome),
  };
}

const MIB = 1 << 20;
/** What a load may take above an empty page, renderer and GPU process together: so many times the weights as they lie on the device, and so many bytes. */
const PEAK = { cpu: { times: 1.05, bytes: 250 * MIB }, webgpu: { times: 1.15, bytes: 200 * MIB } };
/** And of that wasm's own memory, where the weights lie elsewhere. */
const WASM = { cpu: null, webgpu: 256 * MIB };

/** What loads took at most, from the server and from the cache, and what they may take. */
function boundsReport(device, outcome) {
  const { load = null, load_again = null, wasm } = memoryReport(outcome) ?? {};
  const peaks = [load, load_again].filter(peak => peak !== null);
  if (peaks.length === 0) return null;
  const { times, bytes } = PEAK[device];
  const peak = Math.max(...peaks);
  const [bound, wasm_bound] = [Math.round(outcome.model.device_bytes * times + bytes), WASM[device]];
  return { peak, bound, wasm, wasm_bound, within: peak <= bound && (wasm_bound === null || wasm <= wasm_bound) };
}

export { productsOf };

// --- the table ---------------------------------------------------------------------------------------------------------------------------------

const NAMES = {
  load: "load, from the server",
  load_cached: "load, from the cache",
  prepare: "decode and resize a picture",
  encode: "encode it (with that)",
  first_word: "first word",
  token: "each further token",
  second_word: "first word of a second question",
  rank_100: "rank 100 pictures",
  match: "match a text with a picture",
};

/** A number to three places. */
const digits = value =>
  Number.isInteger(value) || value >= 100 ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value >= 1 ? value.toFixed(2) : value.toFixed(3);
const percent = part => (part === null || part === undefined ? "–" : `${Math.round(part * 100)} %`);
const giga = value => `${digits(value / 1e9)} G`;

export function table({ machine, runs }) {
  const lines = [`${machine.cpu}, ${machine.cores} cores; ${machine.system}`];
  for (const run of runs) lines.push("", ...runTable(run));
  return lines.join("\n");
}

function runTable(run) {
  const { model, adapter, figures, counts, machine } = run;
  const stages = Object.entries(model.quantization ?? {}).map(([stage, quant]) => `${stage} ${quant}`);
  const kinds = new Set(Object.values(model.quantization ?? {}));
  const stored = kinds.size === 1 ? [...kinds][0] : stages.join(", ");
  const lines = [
    `${model.name} on ${run.device}: ${adapter ? `${adapter.name} (${adapter.backend})${adapter.software ? ", software" : ""}` : "no adapter"}, ${run.browser}`,
  ];
  if (model.parameters) lines.push(`  ${(model.parameters / 1e6).toFixed(1)} M parameters, ${stored}, ${size(model.bytes)}; ${run.rounds} rounds`);
  if (run.error) lines.push(`  ENDED EARLY: ${run.error}`);
  for (const [name, figure] of Object.entries(figures)) {
    if (!figure) continue;
    const spread = figure.runs > 1 ? `± ${digits(figure.iqr / 2)}` : "";
    lines.push(`  ${NAMES[name].padEnd(34)}${`${digits(figure.median)} ms`.padStart(12)}  ${spread}`);
  }
  if (run.tokens_per_second) lines.push(`  ${"tokens a second".padEnd(34)}${digits(run.tokens_per_second).padStart(9)}`);
  if (run.unfused) {
    const { encode_ratio, token_ratio } = run.unfused;
    const token = token_ratio === null ? "" : `, token ${digits(token_ratio)} ×`;
    lines.push(`  of Burn's unfused f32, in the same rounds: encode ${digits(encode_ratio)} ×${token}`);
  }
  for (const [name, count] of Object.entries(counts)) {
    // On the CPU there is nothing to count.
    if (!count || run.device === "cpu") continue;
    lines.push(
      `  ${name}: ${digits(count.dispatches)} dispatches (${digits(count.all_dispatches)} with Burn's), ${digits(count.submits)} submits, ` +
        `${digits(count.readbacks)} readbacks, ${size(Math.round(count.bytes))} bound, ${size(Math.round(count.weights))} of weights`,
    );
  }
  const { encode, token } = run.cpu_ms;
  if (encode !== null)
    lines.push(`  the worker's thread: ${digits(encode)} ms for an encode${token === null ? "" : `, ${digits(token)} ms for a token`}`);
  if (machine?.bytes_per_second) {
    const { bytes_per_second, bytes_per_second_of_weights, flop_per_second, int8_per_second } = machine;
    const int8 = int8_per_second ? `, ${giga(int8_per_second.median)}OP/s in int8` : "";
    lines.push(
      `  the machine: ${giga(bytes_per_second.median)}B/s, ${giga(bytes_per_second_of_weights.median)}B/s of so many weights, ` +
        `${giga(flop_per_second.median)}FLOP/s${int8}`,
    );
  }
  for (const [name, reached] of Object.entries(run.shares)) {
    if (reached)
      lines.push(
        `  ${name}: ${giga(reached.bytes_per_second)}B/s, ${giga(reached.flop_per_second)}FLOP/s: ${percent(reached.share)} of ${reached.bound}`,
      );
  }
  for (const product of run.products) {
    const shape = `${product.rows} × ${product.columns} → ${product.out}`;
    const reached = product.bound ? `${percent(product.share)} of ${product.bound}` : "";
    lines.push(`    ${product.stage} ${product.quant} ${shape} (${product.count} such): ${digits(product.ms)} ms  ${reached}`);
  }
  if (run.context) {
    const { behind_64, behind_1024, ratio: longer } = run.context;
    lines.push(`  a token behind 64 positions: ${digits(behind_64.median)} ms, behind 1024: ${digits(behind_1024.median)} ms (${digits(longer)} ×)`);
  }
  if (run.memory && run.memory.load !== null) {
    const { load, work, wasm, load_over_weights } = run.memory;
    const working = work === null ? "" : `, at work ${size(work)}`;
    lines.push(
      `  memory above an empty page's: loading ${size(load)} (${digits(load_over_weights ?? 0)} × the weights)${working}; wasm ${size(wasm)}`,
    );
  }
  if (run.load) {
    const { network_bytes_per_second, cached_bytes_per_second, of_cached, memory } = run.load;
    lines.push(
      `  load: ${giga(network_bytes_per_second)}B/s from the server, ${giga(cached_bytes_per_second)}B/s from the cache; of the latter ` +
        `IndexedDB ${percent(of_cached.storage)}, SHA-256 ${percent(of_cached.hash)}, upload ${percent(of_cached.upload)}`,
    );
    if (memory) {
      const wasm = memory.wasm_bound === null ? "" : `; wasm ${size(memory.wasm)} of ${size(memory.wasm_bound)}`;
      lines.push(`  of the memory that it may take: ${size(memory.peak)} of ${size(memory.bound)}${wasm}: ${memory.within ? "within" : "OVER"}`);
    }
  }
  return lines;
}
