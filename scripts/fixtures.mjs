// npm run fixtures: makes the golden fixtures again with HF transformers. Same seed and versions give the same bytes, so git shows what changed.

import { existsSync } from "node:fs";
import { join } from "node:path";
import { at, cache, main, must, run, say, which, Stop } from "./common.mjs";

await main(async args => {
  if (!which("python3")) throw new Stop("python3 is missing: the fixtures are made with Python, PyTorch and transformers");
  const venv = cache("fixtures-venv");
  const python = join(venv, process.platform === "win32" ? "Scripts/python.exe" : "bin/python");
  const ready = existsSync(python) && (await run(python, ["-c", "import torch, transformers, PIL"], { quiet: true })).code === 0;
  if (!ready) {
    say("python: installing PyTorch and transformers (about 540 MB)");
    await must("sh", [at("tests", "fixtures", "setup_env.sh"), venv]);
  }
  const made = at("tests", "fixtures");
  const commands = [
    [join(made, "make_fixtures.py"), "--out", made, "--seed", "0", ...args],
    [join(made, "make_attention.py"), made],
  ];
  for (const command of commands) {
    say(`${python} ${command.join(" ")}`);
    await must(python, command);
  }
  await run("git", ["status", "--short", "--", "tests/fixtures"]);
});
