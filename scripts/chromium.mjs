// How tests start Chromium. The adapter is SwiftShader everywhere: WebGPU without a GPU, the same on every machine.

import { tools } from "./bootstrap.mjs";

export const flags = [
  "--no-sandbox",
  "--enable-unsafe-webgpu",
  "--use-webgpu-adapter=swiftshader",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];

/** Options for playwright's `launch` and `launchPersistentContext`. */
export async function launchOptions() {
  const { chromium } = await tools({ tests: true });
  return { executablePath: chromium, args: flags, headless: true };
}
