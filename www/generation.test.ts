import assert from "node:assert/strict";
import { test } from "node:test";
import { Generation } from "./generation.js";

/** A generation whose pieces and end are the test's. */
function open() {
  let emit: (piece: string) => void = () => {};
  let resolve: (text: string) => void = () => {};
  let reject: (error: unknown) => void = () => {};
  let stops = 0;
  const generation = new Generation<string>(write => {
    emit = write;
    const done = new Promise<string>((yes, no) => {
      resolve = yes;
      reject = no;
    });
    return {
      done,
      stop: () => {
        stops += 1;
      },
    };
  });
  return {
    generation,
    emit: (piece: string) => emit(piece),
    resolve: (text: string) => resolve(text),
    reject: (error: unknown) => reject(error),
    stops: () => stops,
  };
}

async function collect(pieces: AsyncIterable<string>): Promise<string[]> {
  const all: string[] = [];
  for await (const piece of pieces) all.push(piece);
  return all;
}

test("pieces come in order, those from before the loop included, and then the result", async () => {
  const { generation, emit, resolve } = open();
  emit("a ");
  const reading = collect(generation);
  emit("red ");
  await Promise.resolve();
  emit("car");
  resolve("a red car");
  assert.deepEqual(await reading, ["a ", "red ", "car"]);
  assert.equal(await generation, "a red car");
});

test("two loops, and one begun after the end, each see every piece", async () => {
  const { generation, emit, resolve } = open();
  const two = Promise.all([collect(generation), collect(generation)]);
  emit("a");
  emit("b");
  resolve("ab");
  assert.deepEqual(await two, [
    ["a", "b"],
    ["a", "b"],
  ]);
  assert.deepEqual(await collect(generation), ["a", "b"]);
});

test("a failure reaches the loop after its pieces, and whoever awaits", async () => {
  const { generation, emit, reject } = open();
  const seen: string[] = [];
  const reading = (async () => {
    for await (const piece of generation) seen.push(piece);
  })();
  emit("a");
  reject(new Error("lost"));
  await assert.rejects(reading, /lost/);
  await assert.rejects(async () => generation, /lost/);
  assert.deepEqual(seen, ["a"]);
});

test("a failure that nobody listens to is not an unhandled rejection", async () => {
  const unhandled: unknown[] = [];
  const listen = (reason: unknown) => unhandled.push(reason);
  process.on("unhandledRejection", listen);
  open().reject(new Error("unheard"));
  await new Promise(resolve => setTimeout(resolve, 5));
  process.off("unhandledRejection", listen);
  assert.deepEqual(unhandled, []);
});

test("leaving the last loop stops the work; leaving one of two does not", async () => {
  const { generation, emit, stops } = open();
  const other = generation[Symbol.asyncIterator]();
  const first = other.next();
  emit("a");
  for await (const _ of generation) break;
  assert.equal(stops(), 0);
  await first;
  await other.return(undefined);
  assert.equal(stops(), 1);
});

test("stop is passed on once it means something, and never after the end", async () => {
  const { generation, resolve, stops } = open();
  generation.stop();
  assert.equal(stops(), 1);
  resolve("");
  await generation;
  generation.stop();
  assert.equal(stops(), 1);
});

test("it is a promise in all three ways", async () => {
  const { generation, resolve, reject } = open();
  let ended = false;
  const after = generation.finally(() => {
    ended = true;
  });
  resolve("x");
  assert.equal(await after, "x");
  assert.ok(ended);
  const failing = open();
  failing.reject(new Error("no"));
  assert.equal(await failing.generation.catch(() => "caught"), "caught");
  reject(new Error("too late"));
});
