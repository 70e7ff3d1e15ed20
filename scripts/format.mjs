// npm run format: formats everything, and applies the lints' safe fixes.

import { main, must, nodeModule } from "./common.mjs";
import { tools } from "./bootstrap.mjs";

await main(async () => {
  await tools();
  await must("cargo", ["fmt", "--all"]);
  await must(process.execPath, [nodeModule("@biomejs", "biome", "bin", "biome"), "check", "--write"]);
});
