// npm start: from a bare checkout to the page, served at a printed address.

import { build } from "./build.mjs";
import { bold, main, say, Stop } from "./common.mjs";
import { serve } from "./serve.mjs";

await main(async () => {
  const port = Number(process.env.PORT || 8000);
  if (!Number.isInteger(port) || port < 0 || port > 65535) throw new Stop(`PORT=${process.env.PORT} is no port`);
  // Without a service worker: a page that is being changed is to be seen changed.
  const { dir } = await build({ quick: true, offline: false });
  const { origin } = await serve({ mounts: { "/": dir }, port });
  say(`\n${bold(`${origin}/`)}\nserves the page; Ctrl+C ends it`);
});
