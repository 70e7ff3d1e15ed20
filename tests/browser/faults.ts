/** A host of model folders that does to a file what hosts and networks do, once or for ever, and counts what was asked of it. */

import { readFileSync } from "node:fs";
import type { IncomingMessage, ServerResponse } from "node:http";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { serve } from "../../scripts/serve.mjs";

/** What happens to one request for a file. */
export type Fault =
  /** A whole answer, of this status. */
  | { readonly status: number; readonly headers?: Readonly<Record<string, string>> }
  /** The first bytes of it; then the connection is cut, or held open without another byte. */
  | { readonly after: number; readonly ends: "reset" | "stall" }
  /** A whole answer of fewer bytes, as if these were all, or of more. */
  | { readonly bytes: (file: Buffer) => Buffer }
  /** Sent so many bytes at a time, with a pause after each. */
  | { readonly slow: number; readonly pause: number }
  | "no-cors"
  | "no-ranges"
  | "gzip"
  | { readonly redirect: string };

/** One more request than this and the file is as it should be. */
export interface Plan {
  readonly file: RegExp;
  readonly fault: Fault;
  readonly times: number;
}

export interface Asked {
  readonly path: string;
  /** Of the request's Range; 0 without one. */
  readonly from: number;
  readonly headers: IncomingMessage["headers"];
  /** Whether the whole answer was handed to the network. */
  whole: boolean;
  bytes: number;
}

export type FaultyHost = Awaited<ReturnType<typeof faultyHost>>;

/** Serves `folder` as `/model/` to every origin. */
export async function faultyHost(folder: string, plans: readonly Plan[] = []) {
  const asked: Asked[] = [];
  const open = new Set<ServerResponse>();
  const left = plans.map(plan => ({ ...plan }));
  const site = await serve({
    instead: (path, request, response) => {
      if (request.method === "OPTIONS") {
        response.writeHead(204, { ...CORS, "access-control-allow-headers": "range, authorization" }).end();
        return true;
      }
      if (!path.startsWith("/model/")) return false;
      const name = path.slice("/model/".length);
      const from = Number(/^bytes=(\d+)-$/.exec(request.headers.range ?? "")?.[1] ?? 0);
      const one: Asked = { path: name, from, headers: request.headers, whole: false, bytes: 0 };
      asked.push(one);
      open.add(response);
      response.on("close", () => open.delete(response));
      const plan = left.find(({ file, times }) => times > 0 && file.test(name));
      if (plan) plan.times -= 1;
      answer(join(folder, name), from, plan?.fault, one, response);
      return true;
    },
  });
  return {
    ...site,
    asked,
    folder: `${site.origin}/model/`,
    plan: (plan: Plan) => void left.push({ ...plan }),
    /** Files that were sent whole, in order, each as often as it was. */
    sent: (pattern = SHARD) => asked.filter(({ path, whole }) => whole && pattern.test(path)).map(({ path }) => path),
    /** Answers that are still being sent. */
    open: () => open.size,
    bytes: () => asked.reduce((all, { bytes }) => all + bytes, 0),
    of: (pattern: RegExp) => asked.filter(({ path }) => pattern.test(path)),
    /** As if it had never been asked; plans that are left are dropped. */
    renew: () => {
      asked.length = 0;
      left.length = 0;
    },
  };
}

export const SHARD = /^model-[0-9a-f]+\.safetensors$/;
const CORS = { "access-control-allow-origin": "*" };

function answer(path: string, from: number, fault: Fault | undefined, asked: Asked, response: ServerResponse): void {
  const file = readFileSync(path);
  const send = (status: number, headers: Readonly<Record<string, string | number>>, body: Buffer) => {
    response.on("finish", () => {
      asked.whole = true;
    });
    asked.bytes = body.length;
    response.writeHead(status, { ...CORS, "content-length": body.length, ...headers }).end(body);
  };
  const part = (bytes: Buffer) => {
    if (from === 0) return { status: 200, headers: {}, body: bytes };
    if (from >= bytes.length) return { status: 416, headers: {}, body: Buffer.alloc(0) };
    return { status: 206, headers: { "content-range": `bytes ${from}-${bytes.length - 1}/${bytes.length}` }, body: bytes.subarray(from) };
  };
  const { status, headers, body } = part(file);
  const withhold = (after: number, ends: "reset" | "stall") => {
    const first = body.subarray(0, after);
    asked.bytes = first.length;
    // What is written just before the cut may be lost with it.
    response.write(first, () => ends === "reset" && setTimeout(() => response.destroy(), 100));
  };
  if (fault === undefined) send(status, headers, body);
  else if (fault === "no-cors") response.writeHead(200, { "content-length": body.length }).end(body);
  else if (fault === "no-ranges") send(200, {}, file);
  else if (fault === "gzip") send(200, { "content-encoding": "gzip", "content-type": "application/json" }, gzipSync(file));
  else if ("status" in fault) send(fault.status, fault.headers ?? {}, Buffer.alloc(0));
  else if ("bytes" in fault) send(200, {}, fault.bytes(file));
  else if ("redirect" in fault) send(302, { location: fault.redirect }, Buffer.alloc(0));
  else {
    response.writeHead(status, { ...CORS, ...headers, "content-length": body.length });
    if ("slow" in fault) void trickle(body, fault, asked, response);
    else withhold(fault.after, fault.ends);
  }
}

async function trickle(body: Buffer, { slow, pause }: { slow: number; pause: number }, asked: Asked, response: ServerResponse): Promise<void> {
  for (let at = 0; at < body.length && !response.destroyed; at += slow) {
    const piece = body.subarray(at, at + slow);
    await new Promise<void>(done => response.write(piece, () => done()));
    asked.bytes += piece.length;
    await new Promise(done => setTimeout(done, pause));
  }
  asked.whole = !response.destroyed && asked.bytes === body.length;
  response.end();
}
