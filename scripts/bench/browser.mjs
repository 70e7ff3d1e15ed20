// A Chromium that is told where to go and listened to, and not looked into. Playwright asks for everything that a page downloads, which the page's process then
// keeps for it, up to 200 MB: a third of what a load takes beside its weights.

import { spawn } from "node:child_process";

const END = "\0";

/**
 * Starts Chromium on a profile and opens an empty page. `onLine(text)` gets what pages write to the console, `onEnd(reason)` that a page has thrown or is gone.
 * Returns { product, go(address), close() }.
 */
export async function openBrowser(executable, profile, flags, { onLine, onEnd }) {
  const args = [...flags, "--headless", "--no-default-browser-check", "--no-startup-window", "--remote-debugging-pipe", `--user-data-dir=${profile}`];
  const child = spawn(executable, args, { stdio: ["ignore", "ignore", "ignore", "pipe", "pipe"] });
  const [, , , input, output] = child.stdio;
  const exited = new Promise(done => child.once("exit", done).once("error", done));
  const waiting = new Map();
  let rest = "";
  let closing = false;

  const hear = ({ id, result, error, method, params }) => {
    const caller = waiting.get(id);
    waiting.delete(id);
    if (caller) return error ? caller.reject(new Error(error.message)) : caller.resolve(result);
    if (method === "Runtime.consoleAPICalled") onLine(params.args.map(({ value }) => String(value)).join(" "));
    else if (method === "Runtime.exceptionThrown") onEnd(params.exceptionDetails.exception?.description ?? params.exceptionDetails.text);
    else if (method === "Target.targetCrashed") onEnd("the page crashed");
  };
  output.setEncoding("utf8").on("data", text => {
    const messages = (rest + text).split(END);
    rest = messages.pop();
    for (const message of messages) hear(JSON.parse(message));
  });
  // Who still waits when the browser is gone waits for nothing.
  input.on("error", () => {});
  exited.then(() => {
    for (const { reject } of waiting.values()) reject(new Error("the browser ended"));
    if (!closing) onEnd("the browser ended");
  });
  let calls = 0;
  const call = (method, params = {}, sessionId = undefined) =>
    new Promise((resolve, reject) => {
      waiting.set(++calls, { resolve, reject });
      input.write(JSON.stringify({ id: calls, method, params, sessionId }) + END);
    });

  const close = async () => {
    closing = true;
    const clock = setTimeout(() => child.kill("SIGKILL"), 5000);
    await call("Browser.close").catch(() => {});
    await exited;
    clearTimeout(clock);
  };
  try {
    const { product } = await call("Browser.getVersion");
    await call("Target.setDiscoverTargets", { discover: true });
    const { targetId } = await call("Target.createTarget", { url: "about:blank" });
    const { sessionId } = await call("Target.attachToTarget", { targetId, flatten: true });
    await call("Runtime.enable", {}, sessionId);
    const go = async url => {
      const { errorText } = await call("Page.navigate", { url }, sessionId);
      if (errorText) throw new Error(`${url}: ${errorText}`);
    };
    return { product, go, close };
  } catch (error) {
    await close();
    throw error;
  }
}
