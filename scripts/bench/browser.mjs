// A Chromium that is told where to go and listened to, and not looked into. Playwright asks for everything that a page downloads, which the page's process then
// keeps for it, up to 200 MB: a third of what a load takes beside its weights.

import { spawn } from "node:child_process";

const END = "\0";
/** Characters of what Chromium says of itself that are told with its end. */
const LAST_WORDS = 500;

/**
 * Starts Chromium on a profile and opens an empty page. `onLine(text)` gets what the page and its workers write to the console, `onEnd(reason)` that one of them
 * has thrown or is gone. Returns { product, go(address), close() }.
 */
export async function openBrowser(executable, profile, flags, { onLine, onEnd }) {
  const args = [...flags, "--headless", "--no-default-browser-check", "--no-startup-window", "--remote-debugging-pipe", `--user-data-dir=${profile}`];
  const child = spawn(executable, args, { stdio: ["ignore", "ignore", "pipe", "pipe", "pipe"] });
  const [, , errors, input, output] = child.stdio;
  const waiting = new Map();
  let closing = false;
  let lastWords = "";
  let gone = null;
  const exited = new Promise(done => {
    const end = why => {
      if (gone) return;
      gone = new Error(`the browser ended: ${why}${lastWords && `: ${lastWords.trim()}`}`);
      for (const { reject } of waiting.values()) reject(gone);
      if (!closing) onEnd(gone.message);
      done();
    };
    child.once("error", error => end(error.message));
    child.once("close", (code, signal) => end(signal ?? `exit code ${code}`));
  });
  errors.setEncoding("utf8").on("data", text => {
    lastWords = (lastWords + text).slice(-LAST_WORDS);
  });

  let calls = 0;
  const call = (method, params = {}, sessionId = undefined) =>
    new Promise((resolve, reject) => {
      if (gone) return reject(gone);
      waiting.set(++calls, { resolve, reject });
      input.write(JSON.stringify({ id: calls, method, params, sessionId }) + END);
    });
  const hear = ({ id, result, error, method, params }) => {
    const caller = waiting.get(id);
    waiting.delete(id);
    if (caller) return error ? caller.reject(new Error(error.message)) : caller.resolve(result);
    if (method === "Runtime.consoleAPICalled") onLine(params.args.map(({ value, description }) => String(value ?? description)).join(" "));
    else if (method === "Runtime.exceptionThrown") onEnd(params.exceptionDetails.exception?.description ?? params.exceptionDetails.text);
    else if (method === "Target.targetCrashed") onEnd("the page crashed");
    // A worker, which may be gone again.
    else if (method === "Target.attachedToTarget") call("Runtime.enable", {}, params.sessionId).catch(() => {});
  };
  let rest = "";
  output.setEncoding("utf8").on("data", text => {
    const messages = (rest + text).split(END);
    rest = messages.pop();
    for (const message of messages) hear(JSON.parse(message));
  });
  // Its end is told by `exited`.
  input.on("error", () => {});

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
    await call("Target.setAutoAttach", { autoAttach: true, waitForDebuggerOnStart: false, flatten: true }, sessionId);
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
