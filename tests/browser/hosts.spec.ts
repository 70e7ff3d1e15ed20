/** A model's way over a network whose hosts fail in every way they do: in the hands of the library, on the CPU. */

import { expect } from "@playwright/test";
import { froms, HALF, kept, load, MODEL, once, shards, test, VICTIM } from "./delivery.js";
import { type Fault, faultyHost } from "./faults.js";

const short: Fault = { bytes: file => file.subarray(0, file.length - 100) };
const long: Fault = { bytes: file => Buffer.concat([file, Buffer.alloc(100)]) };
const wrong: Fault = {
  bytes: file => {
    const copy = Buffer.from(file);
    copy.writeUInt8(copy.readUInt8(HALF) ^ 1, HALF);
    return copy;
  },
};

for (const [what, fault, code] of [
  ["a truncated body", short, "size-mismatch"],
  ["a body of the wrong length", long, "size-mismatch"],
  ["a wrong byte", wrong, "checksum-mismatch"],
] as const) {
  test(`${what} is fetched once more, and then told`, async ({ visitor, host, well }) => {
    once(host, fault);
    well(await load(visitor, host.folder));
    expect(froms(host)).toEqual([0, 0]);
    await visitor.evaluate(() => indexedDB.deleteDatabase("blip2-web"));
    host.renew();
    once(host, fault, 2);
    const { code: found, facts } = await load(visitor, host.folder);
    expect([found, facts.file]).toEqual([code, VICTIM]);
    expect(facts.expected).not.toBe(facts.found);
    expect(froms(host)).toEqual([0, 0]);
    expect(await kept(visitor), "nothing of it is kept").not.toContain(VICTIM);
    well(await load(visitor, host.folder));
  });
}

test("a file that is not there is told at once", async ({ visitor, host }) => {
  once(host, { status: 404 }, 9);
  expect(await load(visitor, host.folder)).toMatchObject({ code: "network", facts: { status: 404 } });
  expect(froms(host)).toEqual([0]);
});

/** A reset throws away what the browser has not read yet. */
function takenUp(from: number | undefined): void {
  expect(from).toBeGreaterThan(0);
  expect(from).toBeLessThanOrEqual(HALF);
}

test("a reset connection is taken up from its last byte", async ({ visitor, host, well }) => {
  once(host, { after: HALF, ends: "reset" });
  well(await load(visitor, host.folder));
  const [first, then, ...more] = froms(host);
  expect([first, more]).toEqual([0, []]);
  takenUp(then);
});

test("a host that refuses the range is read from the start", async ({ visitor, host, well }) => {
  once(host, { after: HALF, ends: "reset" });
  once(host, { status: 416 });
  well(await load(visitor, host.folder));
  const [first, then, ...more] = froms(host);
  expect([first, more]).toEqual([0, [0]]);
  takenUp(then);
});

test("a host without ranges is read from the start", async ({ visitor, host, well }) => {
  once(host, { after: HALF, ends: "reset" });
  once(host, "no-ranges");
  well(await load(visitor, host.folder));
  const [first, then, ...more] = froms(host);
  expect([first, more]).toEqual([0, []]);
  takenUp(then);
});

test("a busy host is asked again when it said", async ({ visitor, host, well }) => {
  once(host, { status: 429, headers: { "retry-after": "2", "access-control-expose-headers": "retry-after" } });
  const outcome = await load(visitor, host.folder);
  well(outcome);
  expect(outcome.ms).toBeGreaterThan(2000);
  expect(froms(host)).toEqual([0, 0]);
});

test("a host that failed is asked again", async ({ visitor, host, well }) => {
  once(host, { status: 500 }, 2);
  well(await load(visitor, host.folder));
  expect(froms(host)).toEqual([0, 0, 0]);
});

test("a stalled transfer is taken up again", async ({ visitor, host, well }) => {
  once(host, { after: HALF, ends: "stall" });
  well(await load(visitor, host.folder));
  expect(froms(host)).toEqual([0, HALF]);
});

test("a redirect is followed on its own origin, and to others that were allowed, and to no more", async ({ visitor, host, well }) => {
  const elsewhere = await faultyHost(MODEL);
  try {
    const away: Fault = { redirect: `${elsewhere.folder}${VICTIM}` };
    once(host, away);
    const refused = await load(visitor, host.folder);
    expect(refused.code).toBe("network");
    expect(refused.facts.reason).toContain(elsewhere.origin);
    expect(await kept(visitor)).not.toContain(VICTIM);
    once(host, away);
    well(await load(visitor, host.folder, { origins: [elsewhere.origin] }));
    await visitor.evaluate(() => indexedDB.deleteDatabase("blip2-web"));
    once(host, { redirect: `${host.folder}${VICTIM}?again` });
    well(await load(visitor, host.folder));
  } finally {
    await elsewhere.close();
  }
});

test("secrets go to the model's own origin, and never along with a redirect", async ({ visitor, host, well }) => {
  const elsewhere = await faultyHost(MODEL);
  try {
    const headers = { authorization: "Bearer secret" };
    once(host, { redirect: `${elsewhere.folder}${VICTIM}` });
    expect((await load(visitor, host.folder, { headers, origins: [elsewhere.origin] })).code).toBe("network");
    expect(elsewhere.asked).toEqual([]);
    const addresses = { [VICTIM]: `${elsewhere.folder}${VICTIM}?signature=1` };
    well(await load(visitor, host.folder, { headers, addresses }));
    expect(elsewhere.asked.map(({ path, headers }) => [path, headers.authorization])).toEqual([[VICTIM, undefined]]);
    expect(host.asked.every(({ headers }) => headers.authorization === "Bearer secret")).toBe(true);
  } finally {
    await elsewhere.close();
  }
});

test("a host that other origins may not read is a network error", async ({ visitor, host }) => {
  once(host, "no-cors", 99);
  expect(await load(visitor, host.folder)).toMatchObject({ code: "network", facts: { status: null } });
  expect(froms(host).length).toBeGreaterThan(1);
});

test("what a host compresses on the way is what it was", async ({ visitor, host, well }) => {
  host.plan({ file: /./, fault: "gzip", times: 99 });
  well(await load(visitor, host.folder));
  expect(host.sent()).toHaveLength(shards.length);
});
