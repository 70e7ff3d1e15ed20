/** The bench page: does the task in `task.json` beside it, in a worker. Whoever drives it reads the console. */

import type { Message, Task } from "./messages.js";

const task: Task = await (await fetch(new URL("task.json", document.baseURI))).json();
const worker = new Worker(new URL("./worker.js", import.meta.url), { type: "module" });
worker.addEventListener("message", (event: MessageEvent<Message>) => {
  const message = event.data;
  switch (message.kind) {
    case "phase":
      say("phase", message.phase);
      break;
    case "line":
      say("line", message.line);
      break;
    case "end":
      end(JSON.stringify(message.outcome));
      break;
  }
});
// A trap inside a callback of the browser's comes here rather than to a promise.
worker.addEventListener("error", event => end(JSON.stringify({ error: event.message || "the worker failed" })));
worker.postMessage(task);

function end(outcome: string): void {
  say("end", outcome);
  worker.terminate();
}

/** The console carries each line behind a word that says what it is. */
function say(kind: "phase" | "line" | "end", text: string): void {
  console.log(`bench ${kind} ${text}`);
  document.getElementById("lines")?.append(`${text}\n`);
}
