// What a first visit may download, compressed. A number that is passed is a decision, taken here and in the open.

import { gzipSync } from "node:zlib";

export const BUDGETS = {
  document: { what: "the first paint (HTML, CSS)", limit: 14e3 },
  script: { what: "the page's script, and its worker's", limit: 60e3 },
  // docs/performance.md says what it is made of; brotli, where a host has it, makes less.
  cpu: { what: "the wasm of the CPU", limit: 1.8e6 },
  webgpu: { what: "the wasm of WebGPU", limit: 4.2e6 },
};

/** Bytes of these, each compressed as most hosts do it. */
export const packed = contents => contents.reduce((sum, content) => sum + gzipSync(content, { level: 9 }).length, 0);

/** What wasm-opt has been over has no names any more. That is what visitors get, and what the limits are for. */
export const isShrunk = async wasm => WebAssembly.Module.customSections(await WebAssembly.compile(wasm), "name").length === 0;
