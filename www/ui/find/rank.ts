/** Which pictures look like a text: cosines of vectors that were made once. Pure. */

/** What a picture looks like: [queries, width], each row of length 1. */
export interface Looks {
  readonly data: Float32Array;
  readonly width: number;
}

/** As ITC does it: the row that fits best decides. −1 to 1. */
export function likeness(text: Float32Array, { data, width }: Looks): number {
  let best = -1;
  const fours = width - (width % 4);
  for (let row = 0; row + width <= data.length; row += width) {
    // Four sums side by side: one alone would wait for each of its additions.
    let [a, b, c, d] = [0, 0, 0, 0];
    for (let i = 0; i < fours; i += 4) {
      const at = row + i;
      a += (text[i] ?? 0) * (data[at] ?? 0);
      b += (text[i + 1] ?? 0) * (data[at + 1] ?? 0);
      c += (text[i + 2] ?? 0) * (data[at + 2] ?? 0);
      d += (text[i + 3] ?? 0) * (data[at + 3] ?? 0);
    }
    for (let i = fours; i < width; i++) a += (text[i] ?? 0) * (data[row + i] ?? 0);
    const sum = a + b + c + d;
    if (sum > best) best = sum;
  }
  return best;
}

/** From this probability on, words and picture belong together. */
export const FITS = 0.5;

export interface Scored<T> {
  readonly item: T;
  readonly itc: number;
  /** The probability that the words are of the picture, where both were looked at together. */
  readonly itm: number | null;
}

/** Best first. What was not looked at yet is left out. */
export function rank<T extends { readonly looks: Looks | null }>(items: readonly T[], text: Float32Array): Scored<T>[] {
  const scored: Scored<T>[] = [];
  for (const item of items) if (item.looks !== null) scored.push({ item, itc: likeness(text, item.looks), itm: null });
  return scored.sort((a, b) => b.itc - a.itc);
}

/**
 * Those that were looked at again come first, by both scores together. A model that is sure says 0 or 1 and decides by it alone; one that is not
 * (the demo) leaves most of the order to the likeness, which it knows better.
 */
export function refined<T>(ranked: readonly Scored<T>[], itm: ReadonlyMap<T, number>): Scored<T>[] {
  const again = ranked.flatMap(one => {
    const probability = itm.get(one.item);
    return probability === undefined ? [] : [{ ...one, itm: probability }];
  });
  return [...again.sort((a, b) => b.itc + b.itm / 2 - a.itc - a.itm / 2), ...ranked.filter(({ item }) => !itm.has(item))];
}
