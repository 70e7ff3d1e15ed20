/** The examples of examples/web/, with the packed package installed: built, and served for development where their bundler does that. */

import { spawn } from "node:child_process";
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { chromium, type Page } from "@playwright/test";
import { launchOptions } from "../../scripts/chromium.mjs";
import { at, must } from "../../scripts/common.mjs";
import { serve } from "../../scripts/serve.mjs";
import { expect, samples } from "./house.js";
import { copyExample, type Project, REACT, test } from "./package.js";

/** A copy of the example's folder with what it has installed, and a model where it expects one. Dev servers serve nothing from outside of it. */
function copied(installed: Project, name: string, site: string): string {
  const folder = mkdtempSync(join(installed.folder, `${name}-`));
  copyExample(name, folder);
  cpSync(installed.installed, join(folder, "node_modules", "blip2-web"), { recursive: true });
  for (const name of REACT) symlinkSync(at("node_modules", name), join(folder, "node_modules", name));
  mkdirSync(join(folder, site, "models"), { recursive: true });
  symlinkSync(at("demo", "model"), join(folder, site, "models", "demo"));
  return folder;
}

/** The same below this repository, whose packages are the project's: Next.js reads nothing from outside the folder that its lock file is in. */
function within(installed: Project, name: string): { readonly folder: string; remove(): void } {
  mkdirSync(at("build"), { recursive: true });
  const folder = mkdtempSync(at("build", `${name}-`));
  copyExample(name, folder);
  cpSync(installed.installed, join(folder, "node_modules", "blip2-web"), { recursive: true });
  cpSync(at("demo", "model"), join(folder, "public", "models", "demo"), { recursive: true });
  return { folder, remove: () => rmSync(folder, { recursive: true, force: true }) };
}

/** No colours in what servers say, and no word from them to anybody else. */
const QUIET = { NO_COLOR: "1", FORCE_COLOR: "0", NEXT_TELEMETRY_DISABLED: "1" };

const program = (name: string, ...path: string[]): string => at("node_modules", name, ...path);

async function captions(page: Page, address: string): Promise<void> {
  const [picture] = samples();
  if (picture === undefined) throw new Error("there are no sample pictures");
  await page.goto(address);
  await page.getByLabel("A picture:").setInputFiles(picture);
  await expect(page.locator("output")).toHaveText(/a bee/);
}

/** Starts a bundler's server, and ends it behind `work`, which gets the address that it tells. */
async function served(command: readonly string[], folder: string, work: (address: string) => Promise<void>): Promise<void> {
  // A group of its own: such servers start further processes, which end along with it.
  const server = spawn(process.execPath, command, {
    cwd: folder,
    env: { ...process.env, ...QUIET },
    detached: true,
  });
  const ended = new Promise<void>(resolve => server.on("close", () => resolve()));
  let said = "";
  try {
    const address = await new Promise<string>((resolve, reject) => {
      const hear = (data: Buffer) => {
        said += String(data);
        // What follows has to be there: a piece of the output may end within the port.
        const found = /http:\/\/localhost:\d+(?=[/\s])/.exec(said);
        if (found) resolve(`${found[0]}/`);
      };
      server.stdout.on("data", hear);
      server.stderr.on("data", hear);
      server.on("exit", () => reject(new Error(`the dev server ended: ${said}`)));
    });
    await work(address);
  } finally {
    if (server.pid !== undefined && server.exitCode === null && server.signalCode === null) process.kill(-server.pid);
    // It must not write into a folder that is being removed.
    await ended;
  }
}

async function captionsFrom(page: Page, folder: string): Promise<void> {
  // A bundler copies what a link leads to, or leaves the link: models are mounted in any case.
  const site = await serve({ mounts: { "/": folder, "/models/demo/": "demo/model" } });
  try {
    await captions(page, `${site.origin}/index.html`);
  } finally {
    await site.close();
  }
}

test("plain: no build, under a strict policy", async ({ visitor, installed }) => {
  const folder = copied(installed, "plain", ".");
  cpSync(installed.installed, join(folder, "blip2-web"), { recursive: true });
  await captionsFrom(visitor, folder);
});

for (const name of ["vite", "react"]) {
  test(`${name}: built by Vite`, async ({ visitor, installed }) => {
    const folder = copied(installed, name, "public");
    await must(process.execPath, [program("vite", "bin", "vite.js"), "build"], { cwd: folder, onLine: () => {} }, "vite build");
    await captionsFrom(visitor, join(folder, "dist"));
  });

  test(`${name}: from Vite's dev server`, async ({ visitor, installed }) => {
    const folder = copied(installed, name, "public");
    const command = [program("vite", "bin", "vite.js"), "--host", "localhost", "--port", "0"];
    await served(command, folder, address => captions(visitor, address));
  });
}

const WEBPACK = program("webpack-cli", "bin", "cli.js");
const DEVELOPMENT = ["--mode", "development"];

for (const [name, options] of [
  ["built", []],
  ["built for development", DEVELOPMENT],
] as const) {
  test(`webpack: ${name}`, async ({ visitor, installed }) => {
    const folder = copied(installed, "webpack", "public");
    await must(process.execPath, [WEBPACK, ...options], { cwd: folder, onLine: () => {} }, "webpack");
    await captionsFrom(visitor, join(folder, "public"));
  });
}

test("webpack: from its dev server", async ({ visitor, installed }) => {
  const folder = copied(installed, "webpack", "public");
  const command = [WEBPACK, "serve", ...DEVELOPMENT, "--host", "localhost", "--port", "0"];
  await served(command, folder, address => captions(visitor, address));
});

const NEXT = program("next", "dist", "bin", "next");

test("next: built, as static files", async ({ visitor, installed }) => {
  const { folder, remove } = within(installed, "next");
  try {
    await must(process.execPath, [NEXT, "build"], { cwd: folder, env: QUIET, onLine: () => {} }, "next build");
    await captionsFrom(visitor, join(folder, "out"));
  } finally {
    remove();
  }
});

/** A route that captions on the server. */
const ROUTE = `export const dynamic = "force-dynamic";
export async function GET() {
  const { load } = await import(/* turbopackIgnore: true */ "blip2-web");
  const blip2 = await load("public/models/demo");
  return new Response((await (await blip2.encode("picture.png")).caption()).text);
}`;

test("next: built, and served by itself, where the server captions as well", async ({ visitor, installed }) => {
  const { folder, remove } = within(installed, "next");
  try {
    const config = join(folder, "next.config.mjs");
    writeFileSync(config, readFileSync(config, "utf8").replace('output: "export",', ""));
    mkdirSync(join(folder, "app", "caption"));
    writeFileSync(join(folder, "app", "caption", "route.js"), ROUTE);
    cpSync(samples()[0] ?? "", join(folder, "picture.png"));
    await must(process.execPath, [NEXT, "build"], { cwd: folder, env: QUIET, onLine: () => {} }, "next build");
    await served([NEXT, "start", "--hostname", "localhost", "--port", "0"], folder, async address => {
      await captions(visitor, address);
      expect(await (await fetch(new URL("caption", address))).text()).toMatch(/^a bee/);
    });
  } finally {
    remove();
  }
});

test("next: from its dev server, one worker under StrictMode", async ({ visitor, installed }) => {
  const { folder, remove } = within(installed, "next");
  try {
    await served([NEXT, "dev", "--hostname", "localhost", "--port", "0"], folder, async address => {
      await captions(visitor, address);
      expect(visitor.workers().length).toBe(1);
    });
  } finally {
    remove();
  }
});

/** Chromium with the example as an extension, changed by `change` first, in whose panel a picture is captioned. `work` gets that, and what was asked for. */
async function extended(installed: Project, change: (folder: string) => void, work: (panel: Page, asked: readonly string[]) => Promise<void>) {
  const folder = mkdtempSync(join(installed.folder, "extension-"));
  copyExample("extension", folder);
  cpSync(installed.installed, join(folder, "blip2-web"), { recursive: true });
  change(folder);
  const profile = mkdtempSync(join(tmpdir(), "blip2-profile-"));
  const { args, ...options } = await launchOptions();
  const only = [`--disable-extensions-except=${folder}`, `--load-extension=${folder}`];
  const context = await chromium.launchPersistentContext(profile, { ...options, args: [...args, ...only] });
  try {
    const background = context.serviceWorkers()[0] ?? (await context.waitForEvent("serviceworker"));
    const behaviour: unknown = await background.evaluate("chrome.sidePanel.getPanelBehavior()");
    expect(behaviour).toEqual({ openPanelOnActionClick: true });
    const asked: string[] = [];
    context.on("request", request => asked.push(request.url()));
    const panel = await context.newPage();
    await captions(panel, new URL("panel.html", background.url()).href);
    await work(panel, asked);
  } finally {
    await context.close();
    rmSync(profile, { recursive: true, force: true });
  }
}

/** Addresses of models in the browser's storage, by the package that the panel has. */
const KEPT = `import("./blip2-web/index.js")
  .then(({ createEngine }) => createEngine({ device: "cpu" }).cache.report())
  .then(({ models }) => models.map(({ url }) => url))`;

test("extension: a model of its own is read from it and kept nowhere else, and a dropped picture does as well", async ({ installed }) => {
  const withModel = (folder: string) => cpSync(at("demo", "model"), join(folder, "models", "demo"), { recursive: true });
  await extended(installed, withModel, async (panel, asked) => {
    const own = new URL("/", panel.url()).href;
    expect(asked).toContain(`${own}panel.js`);
    expect(asked.filter(url => !url.startsWith(own) && !url.startsWith("data:"))).toEqual([]);
    expect(await panel.evaluate(KEPT)).toEqual([]);

    const [, picture = ""] = samples();
    const bytes = readFileSync(picture).toString("base64");
    await panel.evaluate(base64 => {
      const dataTransfer = new DataTransfer();
      dataTransfer.items.add(new File([Uint8Array.from(atob(base64), c => c.charCodeAt(0))], "picture.png"));
      document.body.dispatchEvent(new DragEvent("drop", { dataTransfer, bubbles: true, cancelable: true }));
    }, bytes);
    await expect(panel.locator("output")).toHaveText(/bicycle/);
  });
});

test("extension: a model comes from a host that the manifest names, which need not know of extensions", async ({ installed }) => {
  const site = await serve({ mounts: { "/models/demo/": "demo/model" } });
  const withAddress = (folder: string) => {
    const edit = (name: string, before: string, after: string) => {
      const text = readFileSync(join(folder, name), "utf8");
      expect(text).toContain(before);
      writeFileSync(join(folder, name), text.replace(before, after));
    };
    edit("panel.js", 'MODEL = "models/demo"', `MODEL = "${site.origin}/models/demo"`);
    edit("manifest.json", "connect-src 'self'", `connect-src 'self' ${site.origin}`);
    edit("manifest.json", '"permissions"', '"host_permissions": ["http://localhost/*"],\n  "permissions"');
  };
  try {
    await extended(installed, withAddress, async panel => {
      expect(await panel.evaluate(KEPT)).toEqual([`${site.origin}/models/demo/`]);
      expect(site.requests.length).toBeGreaterThan(5);
    });
  } finally {
    await site.close();
  }
});
