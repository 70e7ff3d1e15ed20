import { defineConfig } from "@playwright/test";

/** WebGPU runs on the CPU here, some hundred times slower than on a GPU: hence one test at a time, and patience. */
export default defineConfig({
  testDir: ".",
  outputDir: "../../test-results",
  workers: 1,
  timeout: 10 * 60_000,
  expect: { timeout: 4 * 60_000 },
  forbidOnly: true,
  reporter: [["list"], ["json", { outputFile: "../../build/browser-tests.json" }]],
});
