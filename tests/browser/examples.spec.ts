/** The examples of examples/web/, with the packed package installed: built, and served for development where their bundler does that. */

import { spawn } from "node:child_process";
import { cpSync, mkdirSync, mkdtempSync, symlinkSync } from "node:fs";
import { join } from "node:path";
import type { Page } from "@playwright/test";
import { at, must } from "../../scripts/common.mjs";
import { serve } from "../../scripts/serve.mjs";
import { expect, samples } from "./house.js";
import { type Project, REACT, test } from "./package.js";

/** A copy of the example's folder with what it has installed, and a model where it expects one. Dev servers serve nothing from outside of it. */
function copied(installed: Project, name: string, site: string): string {
  const folder = mkdtempSync(join(installed.folder, `${name}-`));
  cpSync(at("examples", "web", name), folder, { recursive: true });
  cpSync(installed.installed, join(folder, "node_modules", "blip2-web"), { recursive: true });
  for (const name of REACT) symlinkSync(at("node_modules", name), join(folder, "node_modules", name));
  mkdirSync(join(folder, site, "models"), { recursive: true });
  symlinkSync(at("demo", "model"), join(folder, site, "models", "demo"));
  return folder;
}

const program = (name: string, ...path: string[]): string => at("node_modules", name, ...path);

async function captions(page: Page, address: string): Promise<void> {
  const [picture] = samples();
  if (picture === undefined) throw new Error("there are no sample pictures");
  await page.goto(address);
  await page.getByLabel("A picture:").setInputFiles(picture);
  await expect(page.locator("output")).toHaveText(/a bee/);
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
    const server = spawn(process.execPath, [program("vite", "bin", "vite.js"), "--host", "localhost", "--port", "0"], {
      cwd: folder,
      env: { ...process.env, NO_COLOR: "1", FORCE_COLOR: "0" },
    });
    try {
      const address = await new Promise<string>((resolve, reject) => {
        let said = "";
        server.stdout.on("data", data => {
          said += String(data);
          const found = /http:\/\/localhost:\d+\//.exec(said);
          if (found) resolve(found[0]);
        });
        server.on("exit", () => reject(new Error(`the dev server ended: ${said}`)));
      });
      await captions(visitor, address);
    } finally {
      server.kill();
    }
  });
}

test("webpack: built", async ({ visitor, installed }) => {
  const folder = copied(installed, "webpack", "public");
  await must(process.execPath, [program("webpack-cli", "bin", "cli.js")], { cwd: folder, onLine: () => {} }, "webpack");
  cpSync(join(folder, "index.html"), join(folder, "dist", "index.html"));
  await captionsFrom(visitor, join(folder, "dist"));
});
