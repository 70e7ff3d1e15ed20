// npm run fuzz: ten thousand broken inputs a parser, under one seed after another, until the time is up or one of them is taken wrongly.

import { main, options, run, say, seconds } from "./common.mjs";

const USAGE = `npm run fuzz -- [--seconds N] [--seed S]
  --seconds  no new seed after this time; 600 by itself
  --seed     the first one; another each day by itself`;

await main(async args => {
  const { seconds: limit = 600, seed = Math.floor(Date.now() / 86_400_000), help } = options(args, { seconds: true, seed: true, help: false }, USAGE);
  if (help) return say(USAGE);
  const start = performance.now();
  for (let turn = 0; turn === 0 || performance.now() - start < limit * 1000; turn++) {
    const now = Number(seed) + turn * 1000;
    const test = ["test", "--test", "hostile", "--", "--ignored", "ten_thousand_inputs_of_each_parser"];
    const { code } = await run("cargo", test, { env: { HOSTILE_SEED: String(now) } });
    if (code !== 0) return code;
    say(`seed ${now}: ten thousand inputs of each parser, ${seconds(start)} so far`);
  }
  return 0;
});
