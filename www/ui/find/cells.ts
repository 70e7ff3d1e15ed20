/** What the grid shows of a picture, and what a search says of it there. */

import { w } from "../words.js";
import type { Cell, Mark } from "./grid.js";
import type { Item } from "./library.js";
import type { Scored } from "./rank.js";

export const cell = ({ id, name, ratio, thumb, address, state }: Item): Cell => ({ id, name, ratio, thumb: thumb ?? address, state });

/** By picture. The best fills its bar, the worst has none: how much better one is than the next is what can be seen. */
export function marks(found: readonly Scored<Item>[]): Map<number, Mark> {
  const best = found.reduce((high, { itc }) => Math.max(high, itc), -1);
  const worst = found.reduce((low, { itc }) => Math.min(low, itc), 1);
  const range = Math.max(best - worst, 1e-6);
  return new Map(
    found.map(({ item, itc, itm }) => {
      const likeness = w.scoreItc(itc.toFixed(3));
      const note = itm === null ? likeness : `${w.scoreItm(`${Math.round(itm * 100)} %`)} · ${likeness}`;
      return [item.id, { bar: (itc - worst) / range, note }];
    }),
  );
}
