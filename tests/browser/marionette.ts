/** Firefox as it comes, without a driver: its Marionette protocol is length-prefixed JSON over TCP, `[0, id, command, parameters]` and `[1, id, error, result]`. */

import { spawn } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { connect, createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";

export interface Firefox {
  open(address: string): Promise<void>;
  /** Runs a function's body in the page, and returns what it returns or resolves to, as JSON. */
  run(body: string): Promise<unknown>;
  close(): Promise<void>;
}

/** Starts it with a profile of its own. Errors: where there is none under this name. */
export async function startFirefox(program: string): Promise<Firefox> {
  const profile = mkdtempSync(join(tmpdir(), "blip2-firefox-"));
  const port = await freePort();
  writeFileSync(
    join(profile, "user.js"),
    `user_pref("marionette.port", ${port});\nuser_pref("datareporting.policy.dataSubmissionEnabled", false);\n`,
  );
  const child = spawn(program, ["--headless", "--marionette", "--no-remote", "--profile", profile], { stdio: "ignore" });
  const gone = new Promise<never>((_, reject) => {
    child.once("error", () => reject(new Error(`${program} cannot be started: install it (Debian: firefox-esr), or name another with FIREFOX`)));
    child.once("exit", code => reject(new Error(`${program} ended with ${code}`)));
  });
  gone.catch(() => {});
  const end = () => {
    child.kill("SIGKILL");
    rmSync(profile, { recursive: true, force: true, maxRetries: 5, retryDelay: 200 });
  };
  try {
    const wire = new Wire(await Promise.race([connected(port), gone]));
    await wire.send("WebDriver:NewSession", { capabilities: { alwaysMatch: {} } });
    await wire.send("WebDriver:SetTimeouts", { script: 120_000, pageLoad: 60_000 });
    return {
      open: async address => void (await wire.send("WebDriver:Navigate", { url: address })),
      run: async body => {
        const script = `const done = arguments[0]; (async () => { ${body} })().then(value => done({ value }), error => done({ error: String(error) }));`;
        const result = await wire.send("WebDriver:ExecuteAsyncScript", { script, args: [] });
        const { value, error } = Object(Object(result).value);
        if (error !== undefined) throw new Error(error);
        return value;
      },
      close: async () => {
        await wire.send("Marionette:Quit", { flags: ["eForceQuit"] }).catch(() => {});
        end();
      },
    };
  } catch (error) {
    end();
    throw error;
  }
}

class Wire {
  private readonly socket: Socket;
  private readonly waiting = new Map<number, { resolve(value: unknown): void; reject(error: Error): void }>();
  private heard = Buffer.alloc(0);
  private next = 1;

  constructor(socket: Socket) {
    this.socket = socket;
    socket.on("data", bytes => this.hear(bytes));
    socket.on("close", () => {
      for (const { reject } of this.waiting.values()) reject(new Error("Firefox has closed the connection"));
    });
  }

  send(command: string, parameters: Record<string, unknown>): Promise<unknown> {
    const id = this.next++;
    const message = JSON.stringify([0, id, command, parameters]);
    this.socket.write(`${Buffer.byteLength(message)}:${message}`);
    return new Promise((resolve, reject) => this.waiting.set(id, { resolve, reject }));
  }

  private hear(bytes: Buffer): void {
    this.heard = Buffer.concat([this.heard, bytes]);
    for (;;) {
      const colon = this.heard.indexOf(":");
      const length = Number(this.heard.subarray(0, Math.max(colon, 0)).toString());
      if (colon < 0 || this.heard.length < colon + 1 + length) return;
      const message: unknown = JSON.parse(this.heard.subarray(colon + 1, colon + 1 + length).toString());
      this.heard = this.heard.subarray(colon + 1 + length);
      if (!Array.isArray(message)) continue; // its greeting
      const [, id, error, result] = message;
      const waiting = this.waiting.get(id);
      this.waiting.delete(id);
      if (error === null) waiting?.resolve(result);
      else waiting?.reject(new Error(JSON.stringify(error)));
    }
  }
}

/** It takes its time to listen. */
async function connected(port: number): Promise<Socket> {
  for (let attempt = 0; ; attempt++) {
    try {
      return await new Promise((resolve, reject) => {
        const socket = connect(port, "127.0.0.1", () => resolve(socket));
        socket.once("error", reject);
      });
    } catch (error) {
      if (attempt === 150) throw error;
      await new Promise(resolve => setTimeout(resolve, 200));
    }
  }
}

function freePort(): Promise<number> {
  return new Promise(resolve => {
    const server = createServer().listen(0, "127.0.0.1", () => {
      const address = server.address();
      server.close(() => resolve(typeof address === "object" && address !== null ? address.port : 0));
    });
  });
}
