/** Writes row after row; keeps the screen awake and guards against leaving, but only meanwhile. */

import type { Blip2 } from "../../index.js";
import type { Found } from "../files.js";
import { options, type Settings } from "../settings.js";
import { problemOfPicture } from "../writer.js";
import { asSentence } from "./export.js";
import { type Batch, type Event, next, type Task } from "./state.js";

export interface Desk {
  readonly state: Batch;
  dispatch(event: Event): void;
  file(row: number): File | undefined;
  model(): Blip2 | null;
  settings(): Settings;
}

export class Runner {
  private readonly desk: Desk;
  private abort: AbortController | null = null;
  private lock: WakeLockSentinel | null = null;
  private readonly stay = (event: BeforeUnloadEvent): void => event.preventDefault();

  constructor(desk: Desk) {
    this.desk = desk;
    // The browser takes the lock away from a hidden tab.
    document.addEventListener("visibilitychange", () => {
      if (document.visibilityState === "visible" && this.abort !== null) void this.keepAwake();
    });
  }

  /** Until all rows are written, or somebody stops it. */
  async run(): Promise<void> {
    const { desk } = this;
    const model = desk.model();
    if (this.abort !== null || model === null) return;
    const abort = new AbortController();
    this.abort = abort;
    window.addEventListener("beforeunload", this.stay);
    void this.keepAwake();
    for (let row = next(desk.state); row !== undefined && !abort.signal.aborted; row = next(desk.state)) {
      const { id } = row;
      desk.dispatch({ type: "begin", row: id });
      const { task, question } = desk.state;
      const asked = task === "question" ? question.trim() : null;
      try {
        const text = await this.write(id, task, asked, model, abort.signal);
        desk.dispatch({ type: "done", row: id, text, question: asked });
      } catch (error) {
        if (abort.signal.aborted) desk.dispatch({ type: "back", row: id });
        else desk.dispatch({ type: "failed", row: id, problem: problemOfPicture(error) });
      }
    }
    this.abort = null;
    window.removeEventListener("beforeunload", this.stay);
    await this.lock?.release().catch(() => {});
    this.lock = null;
    desk.dispatch({ type: "stop" });
  }

  stop(): void {
    this.abort?.abort();
  }

  /** What a row would say. */
  async preview(row: number, signal: AbortSignal): Promise<string> {
    const { desk } = this;
    const model = desk.model();
    if (model === null) return "";
    const { task, question } = desk.state;
    return this.write(row, task, task === "question" ? question.trim() : null, model, signal);
  }

  private async write(row: number, task: Task, question: string | null, model: Blip2, signal: AbortSignal): Promise<string> {
    const { desk } = this;
    const file = desk.file(row);
    if (file === undefined) throw new DOMException("the picture was removed", "AbortError");
    const settings = desk.settings();
    const image = await model.encode(file, { signal });
    try {
      const how = { ...options(settings), signal };
      const { text } = await (question === null
        ? image.caption({ ...how, ...(settings.prompt !== null && { prompt: settings.prompt }) })
        : settings.template === null
          ? image.ask(question, how)
          : image.caption({ ...how, prompt: settings.template.replace("{question}", () => question) }));
      return task === "alt" ? asSentence(text) : text.trim();
    } finally {
      await image.dispose();
    }
  }

  private async keepAwake(): Promise<void> {
    try {
      this.lock = await navigator.wakeLock.request("screen");
      if (this.abort === null) await this.lock.release();
    } catch {
      return; // not every browser has it, and none on an empty battery
    }
  }
}

/** Text files into the folders that the pictures came from. Needs a click, for the permission. */
export async function writeBeside(
  files: readonly { readonly found: Found; readonly name: string; readonly text: string }[],
): Promise<{ wrote: number; failed: number }> {
  let wrote = 0;
  for (const { found, name, text } of files) {
    try {
      const handle = await found.folder?.getFileHandle(name, { create: true });
      const stream = await handle?.createWritable();
      await stream?.write(text);
      await stream?.close();
      if (stream !== undefined) wrote += 1;
    } catch {}
  }
  return { wrote, failed: files.length - wrote };
}

/** Hands a file to the visitor. */
export function download(name: string, type: string, content: string): void {
  const address = URL.createObjectURL(new Blob([content], { type: `${type};charset=utf-8` }));
  const link = document.createElement("a");
  link.href = address;
  link.download = name;
  link.click();
  // Not before the browser has begun to read it.
  setTimeout(() => URL.revokeObjectURL(address), 60_000);
}
