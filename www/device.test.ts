import assert from "node:assert/strict";
import { test } from "node:test";
import { chooseDevice } from "./device.js";
import { Blip2Error } from "./error.js";

const browser = (adapter: unknown, isSecureContext = true) => ({ isSecureContext, navigator: { gpu: { requestAdapter: async () => adapter } } });
const GPU = { info: { vendor: "nvidia", architecture: "turing", device: "", description: "" } };

test("auto takes WebGPU where there is a GPU, and says which", async () => {
  assert.deepEqual(await chooseDevice("auto", browser(GPU)), { kind: "webgpu", reason: "gpu", detail: "nvidia turing" });
});

test("auto takes the CPU where WebGPU is missing, and says why", async () => {
  const cases = [
    [{ isSecureContext: true, navigator: {} }, "no-webgpu"],
    [{ isSecureContext: false, navigator: {} }, "insecure"],
    [browser(null), "no-adapter"],
  ] as const;
  for (const [around, reason] of cases) assert.deepEqual(await chooseDevice("auto", around), { kind: "cpu", reason, detail: "" });
});

test("an adapter that cannot be asked for counts as none", async () => {
  const gpu = { requestAdapter: () => Promise.reject(new Error("blocked")) };
  assert.deepEqual(await chooseDevice("auto", { isSecureContext: true, navigator: { gpu } }), {
    kind: "cpu",
    reason: "no-adapter",
    detail: "Error: blocked",
  });
});

test("software adapters are known by the flag, old place or new, and by their names", async () => {
  const adapters = [
    { isFallbackAdapter: true },
    { info: { isFallbackAdapter: true } },
    { info: { vendor: "google", architecture: "swiftshader" } },
    { info: { vendor: "mesa", description: "llvmpipe (LLVM 19)" } },
    { info: { vendor: "microsoft", description: "Microsoft Basic Render Driver" } },
  ];
  for (const adapter of adapters) {
    const choice = await chooseDevice("auto", browser(adapter));
    assert.deepEqual([choice.kind, choice.reason], ["cpu", "software-adapter"], JSON.stringify(adapter));
  }
});

test("WebGPU by name takes a software adapter too, and never turns into the CPU", async () => {
  assert.equal((await chooseDevice("webgpu", browser({ info: { architecture: "swiftshader" } }))).kind, "webgpu");
  await assert.rejects(chooseDevice("webgpu", browser(null)), (error: unknown) => error instanceof Blip2Error && error.code === "webgpu-unavailable");
});

test("the CPU by name does not look at the GPU", async () => {
  const gpu = { requestAdapter: () => assert.fail("asked for an adapter") };
  assert.deepEqual(await chooseDevice("cpu", { isSecureContext: true, navigator: { gpu } }), { kind: "cpu", reason: "asked", detail: "" });
});
