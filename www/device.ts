/** Which build to fetch. Decided before either is: the WebGPU one is several times larger, and useless without a GPU. */

import { webgpuUnavailable } from "./error.js";
import type { DeviceKind, DeviceReason, DeviceWish } from "./protocol.js";

export interface Choice {
  readonly kind: DeviceKind;
  readonly reason: DeviceReason;
  readonly detail: string;
}

/** The part of a browser that the choice looks at. */
export interface Surroundings {
  readonly isSecureContext: boolean;
  readonly navigator: object;
}

const SOFTWARE = ["swiftshader", "llvmpipe", "lavapipe", "basic render", "warp", "software"];

/** Errors: webgpu-unavailable, when it is asked for and there is none. A software adapter is taken when WebGPU is asked for by name. */
export async function chooseDevice(wish: DeviceWish, around: Surroundings): Promise<Choice> {
  if (wish === "cpu") return { kind: "cpu", reason: "asked", detail: "" };
  const found = await lookForGpu(around);
  if (wish === "auto") return found.reason === "gpu" ? { kind: "webgpu", ...found } : { kind: "cpu", ...found };
  if (found.reason === "gpu" || found.reason === "software-adapter") return { kind: "webgpu", reason: "asked", detail: found.detail };
  throw webgpuUnavailable(found.detail || WHY[found.reason]);
}

type Missing = "insecure" | "no-webgpu" | "no-adapter";
const WHY: Record<Missing, string> = {
  insecure: "the page is not served over https",
  "no-webgpu": "this browser has none",
  "no-adapter": "the browser offers no adapter",
};

async function lookForGpu({ isSecureContext, navigator }: Surroundings): Promise<{ reason: Missing | "software-adapter" | "gpu"; detail: string }> {
  const gpu: unknown = Reflect.get(navigator, "gpu");
  if (!hasRequestAdapter(gpu)) return { reason: isSecureContext ? "no-webgpu" : "insecure", detail: "" };
  let adapter: unknown;
  try {
    adapter = await gpu.requestAdapter({ powerPreference: "high-performance" });
  } catch (error) {
    return { reason: "no-adapter", detail: String(error) };
  }
  if (typeof adapter !== "object" || adapter === null) return { reason: "no-adapter", detail: "" };
  const info: unknown = Reflect.get(adapter, "info");
  const detail = describe(info);
  const fallback = isTrue(adapter, "isFallbackAdapter") || isTrue(info, "isFallbackAdapter");
  const software = SOFTWARE.some(name => detail.toLowerCase().includes(name));
  return { reason: fallback || software ? "software-adapter" : "gpu", detail };
}

interface Gpu {
  requestAdapter(options: { powerPreference: "high-performance" }): Promise<unknown>;
}
function hasRequestAdapter(gpu: unknown): gpu is Gpu {
  return typeof gpu === "object" && gpu !== null && typeof Reflect.get(gpu, "requestAdapter") === "function";
}

// `isFallbackAdapter` moved from the adapter to its info, and some browsers leave fields of info out: so everything is read by name.
const isTrue = (holder: unknown, name: string): boolean => typeof holder === "object" && holder !== null && Reflect.get(holder, name) === true;

function describe(info: unknown): string {
  if (typeof info !== "object" || info === null) return "";
  const words = ["vendor", "architecture", "device", "description"].map(name => {
    const word: unknown = Reflect.get(info, name);
    return typeof word === "string" ? word.trim() : "";
  });
  return [...new Set(words.filter(word => word !== ""))].join(" ");
}
