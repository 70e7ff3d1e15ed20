import assert from "node:assert/strict";
import { test } from "node:test";
import { type Blip2, Engine } from "./engine.js";
import { IDLE, Lease, leaseKey } from "./lease.js";

/** An engine whose loads end when they are told to. */
class Held extends Engine {
  readonly loads: { readonly signal: AbortSignal | undefined; end(blip2: Blip2): void; fail(error: Error): void }[] = [];
  override load(...[, options]: Parameters<Engine["load"]>): Promise<Blip2> {
    return new Promise((end, fail) => {
      options?.signal?.addEventListener("abort", () => fail(new Error("aborted")));
      this.loads.push({ signal: options?.signal, end, fail });
    });
  }
}

const turn = () => new Promise(resolve => setTimeout(resolve, 5));

function model(): { readonly blip2: Blip2; readonly disposed: () => number } {
  let disposed = 0;
  const blip2: Blip2 = Object.create({
    dispose: async () => {
      disposed += 1;
    },
  });
  return { blip2, disposed: () => disposed };
}

const lease = (engine: Engine, source = "models/demo") => Lease.of(engine, leaseKey(source, {}), source, {});

test("users of one source share one load, and the last one to go disposes of the model", async () => {
  const engine = new Held();
  const { blip2, disposed } = model();
  let heard = 0;
  const leave = [lease(engine), lease(engine)].map(each => each.subscribe(() => heard++));
  assert.equal(engine.loads.length, 1);
  assert.equal(lease(engine).snapshot().status, "loading");
  engine.loads[0]?.end(blip2);
  await turn();
  assert.equal(lease(engine).snapshot().blip2, blip2);
  assert.ok(heard > 0);
  leave[0]?.();
  await turn();
  assert.equal(disposed(), 0);
  leave[1]?.();
  await turn();
  assert.equal(disposed(), 1);
  assert.deepEqual(lease(engine).snapshot(), { ...IDLE, status: "loading" });
});

test("who is about to use it sees it loading, before anything is loaded", () => {
  const engine = new Held();
  assert.deepEqual(lease(engine).snapshot(), { ...IDLE, status: "loading" });
  assert.equal(engine.loads.length, 0);
});

test("who leaves and comes back at once keeps the load, as StrictMode does", async () => {
  const engine = new Held();
  const held = lease(engine);
  held.subscribe(() => {})();
  const leave = held.subscribe(() => {});
  await turn();
  assert.equal(engine.loads.length, 1);
  assert.equal(engine.loads[0]?.signal?.aborted, false);
  leave();
  await turn();
  assert.equal(engine.loads[0]?.signal?.aborted, true);
});

test("a model that comes after everybody has left is disposed of, and another user loads anew", async () => {
  const engine = new Held();
  const held = lease(engine);
  held.subscribe(() => {})();
  await turn();
  const { blip2, disposed } = model();
  engine.loads[0]?.end(blip2);
  await turn();
  // The abort came first: the load had failed already.
  assert.equal(disposed(), 0);
  held.subscribe(() => {});
  assert.equal(engine.loads.length, 2);
  assert.equal(held.snapshot().status, "loading");
});

test("an error stays until someone asks for another try", async () => {
  const engine = new Held();
  const held = lease(engine);
  held.subscribe(() => {});
  const gone = new Error("gone");
  engine.loads[0]?.fail(gone);
  await turn();
  assert.deepEqual(held.snapshot(), { status: "error", blip2: null, progress: null, error: gone });
  held.retry();
  assert.equal(engine.loads.length, 2);
  assert.equal(held.snapshot().status, "loading");
  held.retry();
  assert.equal(engine.loads.length, 2);
});

test("other options are another model", () => {
  const engine = new Held();
  assert.notEqual(lease(engine, "a"), lease(engine, "b"));
  assert.notEqual(leaseKey("a", { arithmetic: "exact" }), leaseKey("a", {}));
});
