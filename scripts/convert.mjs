// npm run convert -- SRC DST …: the crate's program of that name. Paths are those of the shell that npm was called from.

import { targetDir, main, must, run } from "./common.mjs";

await main(async args => {
  await must("cargo", ["build", "--bin", "convert"]);
  const program = targetDir("debug", process.platform === "win32" ? "convert.exe" : "convert");
  return (await run(program, args, { cwd: process.env.INIT_CWD ?? process.cwd() })).code;
});
