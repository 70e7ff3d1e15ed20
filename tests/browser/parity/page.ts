/** The parity page: `?device=cpu&fixture=…&model=…`, or `?device=webgpu&checks`. Whoever drives it reads the console; whoever opens it reads the page. */

import type { Message, Outcome, Task } from "./messages.js";

const query = new URLSearchParams(location.search);
const absolute = (name: string): string => {
  const address = query.get(name) ?? "";
  return address === "" ? "" : new URL(address, document.baseURI).href;
};
const task: Task = {
  device: query.get("device") === "webgpu" ? "webgpu" : "cpu",
  checks: query.has("checks"),
  model: absolute("model"),
  fixture: absolute("fixture"),
};

const worker = new Worker(new URL("./worker.js", import.meta.url), { type: "module" });
worker.addEventListener("message", (event: MessageEvent<Message>) => {
  const message = event.data;
  if (message.kind === "line") say("line", message.line);
  else end(message.outcome);
});
// A trap inside a callback of the browser's comes here rather than to a promise.
worker.addEventListener("error", event => end({ adapter: "", dispatches: 0, error: event.message || "the worker failed" }));
worker.postMessage(task);

function end(outcome: Outcome): void {
  say("end", JSON.stringify(outcome));
  worker.terminate();
}

/** The console carries each line behind a word that says what it is. */
function say(kind: "line" | "end", text: string): void {
  console.log(`parity ${kind} ${text}`);
  document.getElementById("lines")?.append(`${text}\n`);
}
