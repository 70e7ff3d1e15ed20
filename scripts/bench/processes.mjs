// What a browser's processes take, as Linux tells it in /proc: memory of renderers and GPU process, time of the worker's thread.
// On another system there is nothing to ask, and every answer is null.

import { readdirSync, readFileSync } from "node:fs";

const read = path => {
  try {
    return readFileSync(path, "utf8");
  } catch {
    // A process may end between two looks.
    return "";
  }
};

const list = path => {
  try {
    return readdirSync(path).filter(name => /^\d+$/.test(name));
  } catch {
    return [];
  }
};

/** The renderers and the GPU process of the browser with this profile folder: { pid, type }. */
function processesOf(profile) {
  const parents = new Map();
  const types = new Map();
  let main = null;
  for (const pid of list("/proc")) {
    // Chromium's helpers write their command line anew, with spaces.
    const line = read(`/proc/${pid}/cmdline`).split(/[\0 ]/);
    if (line.length < 2) continue;
    const type = line.find(word => word.startsWith("--type="))?.slice("--type=".length);
    // The name in the line is in parentheses and may hold anything; what follows it is fixed.
    parents.set(pid, read(`/proc/${pid}/stat`).split(") ").at(-1)?.split(" ")[1]);
    if (type) types.set(pid, type);
    else if (line.includes(`--user-data-dir=${profile}`)) main = pid;
  }
  const isOurs = pid => {
    for (let at = pid; at && at !== "0"; at = parents.get(at)) if (at === main) return true;
    return false;
  };
  const wanted = [...types].filter(([, type]) => type === "renderer" || type === "gpu-process");
  return main === null ? [] : wanted.filter(([pid]) => isOurs(pid)).map(([pid, type]) => ({ pid, type }));
}

/** Bytes that a process has in memory. */
const resident = pid => Number(/^VmRSS:\s+(\d+) kB/m.exec(read(`/proc/${pid}/status`))?.[1] ?? 0) * 1024;

/** Looks at a browser's processes every so often, and keeps the peak of each phase. */
export class Watch {
  #profile;
  #clock = null;
  #pids = [];
  #looks = 0;
  /** The file that tells the time of the worker's thread. */
  #thread = null;
  /** The highest sum of resident bytes of each phase. */
  peaks = {};
  phase = "start";

  constructor(profile) {
    this.#profile = profile;
  }

  start(everyMs = 50) {
    this.#clock = setInterval(() => this.look(), everyMs);
  }

  stop() {
    clearInterval(this.#clock);
  }

  /** The sum of resident bytes now, or null. */
  look() {
    // Who the processes are changes seldom, and takes a walk through all of /proc.
    if (this.#looks++ % 20 === 0 || this.#pids.length === 0) this.#pids = processesOf(this.#profile).map(({ pid }) => pid);
    if (this.#pids.length === 0) return null;
    const bytes = this.#pids.reduce((sum, pid) => sum + resident(pid), 0);
    this.peaks[this.phase] = Math.max(this.peaks[this.phase] ?? 0, bytes);
    return bytes;
  }

  /** Nanoseconds that the worker's thread has run, or null. There is one worker. */
  workerTime() {
    const ran = this.#thread && read(this.#thread).split(" ")[0];
    if (ran) return Number(ran);
    this.#thread = this.#findWorker();
    return this.#thread === null ? null : Number(read(this.#thread).split(" ")[0]);
  }

  #findWorker() {
    for (const { pid } of processesOf(this.#profile).filter(({ type }) => type === "renderer")) {
      for (const task of list(`/proc/${pid}/task`)) {
        const folder = `/proc/${pid}/task/${task}`;
        // The kernel keeps fifteen letters of "DedicatedWorker thread".
        if (read(`${folder}/comm`).startsWith("DedicatedWorker") && read(`${folder}/schedstat`) !== "") return `${folder}/schedstat`;
      }
    }
    return null;
  }
}
