/** From where the model looked for each token to where it looked for a word. Pure. */

import type { Attention } from "../../index.js";

/** A stretch of text: from, to (exclusive), in UTF-16 units. */
export interface Stretch {
  readonly from: number;
  readonly to: number;
}

/** Row by row, 0 to 1. */
export interface Heat {
  readonly rows: number;
  readonly columns: number;
  readonly values: Float32Array;
}

export const stretches = (text: string): Stretch[] =>
  [...text.matchAll(/\S+/g)].map(({ 0: word, index }) => ({ from: index, to: index + word.length }));

/**
 * Where the model looked for a stretch of the text more than for the rest of it. Some patches are looked at for every token and hold nothing of the
 * picture; what a word's own patches have beyond the mean of all is what tells them apart. Null where no token is in it: the text is not what was explained.
 */
export function heat({ tokens, map, shape: { rows, columns } }: Attention, text: string, { from, to }: Stretch): Heat | null {
  const told = tokens.join("");
  const shift = told.indexOf(text.trim());
  if (shift < 0) return null;
  const start = shift + from - (text.length - text.trimStart().length);
  const end = start + to - from;
  const mine: number[] = [];
  let at = 0;
  for (const [index, token] of tokens.entries()) {
    const begin = at + (token.length - token.trimStart().length);
    at += token.length;
    if (begin < end && at > start && begin < at) mine.push(index);
  }
  if (mine.length === 0) return null;
  const size = rows * columns;
  const of = (token: number): Float32Array => map.subarray(token * size, (token + 1) * size);
  const all = mean([...tokens.keys()].map(of), size);
  // Of several words each has its own: the mean of what they have beyond the rest, not what is beyond their mean.
  const own = mean(
    mine.map(token => of(token).map((value, i) => Math.max(0, value - (all[i] ?? 0)))),
    size,
  );
  const plain = own.every(value => value < 1e-6);
  return { rows, columns, values: stretched(plain ? mean(mine.map(of), size) : own) };
}

function mean(maps: readonly Float32Array[], size: number): Float32Array {
  const sum = new Float32Array(size);
  for (const map of maps) for (let i = 0; i < size; i++) sum[i] = (sum[i] ?? 0) + (map[i] ?? 0) / maps.length;
  return sum;
}

/** Lowest to 0, all but the strongest hundredth below 1. */
function stretched(values: Float32Array): Float32Array {
  const sorted = values.toSorted();
  const low = sorted[0] ?? 0;
  const high = sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * 0.99))] ?? 1;
  const range = high - low;
  return range > 0 ? values.map(value => Math.min(1, (value - low) / range)) : values.fill(0);
}
