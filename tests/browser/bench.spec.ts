/** `npm run bench` runs, and what it says is whole. One round and a few tokens: how fast they were is nobody's business here. */

import { bench } from "../../scripts/bench.mjs";
import { expect, test } from "./house.js";

for (const device of ["cpu", "webgpu"] as const) {
  test(`the bench measures the demo models (${device})`, async () => {
    const { version, machine, runs } = await bench({ devices: [device], quick: true, tokens: 4 });
    expect(version).toBe(1);
    expect(machine.cores).toBeGreaterThan(0);
    expect(runs.map(run => run.error)).toEqual([null, null]);
    const [asked, ranked] = runs;
    for (const figure of ["load", "load_cached", "prepare", "encode", "first_word", "token", "second_word"]) {
      expect(asked?.figures[figure]?.median, figure).toBeGreaterThan(0);
    }
    for (const figure of ["encode", "rank_100", "match"]) expect(ranked?.figures[figure]?.median, figure).toBeGreaterThan(0);
    expect(asked?.adapter?.name).not.toBe("");
    expect(asked?.tokens_per_second).toBeGreaterThan(0);
    expect(asked?.shares.token?.share).toBeGreaterThan(0);
    // A kernel that was refused would seem to be done at once.
    for (const limit of ["bytes_per_second", "flop_per_second"]) {
      const found = asked?.machine?.[limit]?.median;
      expect(found, limit).toBeGreaterThan(1e8);
      expect(found, limit).toBeLessThan(1e15);
    }
    expect(asked?.memory?.wasm).toBeGreaterThan(0);

    if (device === "cpu") {
      expect(asked?.unfused?.token_ratio).toBeGreaterThan(0);
      expect(asked?.counts.token).toMatchObject({ dispatches: 0, submits: 0, all_dispatches: 0 });
    } else {
      for (const count of [asked?.counts.encode, asked?.counts.token, ranked?.counts.rank_100]) {
        expect(count?.dispatches).toBeGreaterThan(0);
        expect(count?.all_dispatches).toBeGreaterThanOrEqual(count?.dispatches ?? 0);
        expect(count?.weights).toBeGreaterThan(0);
        expect(count?.bytes).toBeGreaterThan(0);
      }
      // A token goes over each weight once, so that what was bound is more; a picture's rows go over them several times.
      expect(asked?.counts.token?.bytes).toBeGreaterThan(asked?.counts.token?.weights ?? 0);
      expect(asked?.counts.token?.submits).toBeGreaterThan(0);
      expect(asked?.counts.token?.readbacks).toBeGreaterThan(0);
    }
  });
}
