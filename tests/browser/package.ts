/** The npm package as others get it: packed to a tarball, unpacked into a project of its own. */

import { execFileSync } from "node:child_process";
import { copyFileSync, cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { tools } from "../../scripts/bootstrap.mjs";
import { at } from "../../scripts/common.mjs";
import { npmPackage } from "../../scripts/package.mjs";
import { wasm } from "../../scripts/wasm.mjs";
import { test as base, siteFolder } from "./house.js";

/** What a project that uses React has beside it. */
export const REACT = ["react", "react-dom", "scheduler"];

/** The folder that is packed: what `npm run build` has made beside dist/, or the same with wasm as the compiler leaves it. */
async function unpackedPackage(): Promise<string> {
  if (siteFolder.endsWith("dist") && existsSync(at("package", "package.json"))) return at("package");
  const found = await tools({ tests: true });
  const dir = at("build", "package-quick");
  await npmPackage(found, await wasm(found), { dir });
  return dir;
}

/** A project that has installed the tarball and nothing else of ours; `react` comes from this repository. */
export interface Project {
  readonly folder: string;
  readonly tarball: string;
  /** Where the package lies in it. */
  readonly installed: string;
  remove(): void;
}

async function project(): Promise<Project> {
  const folder = mkdtempSync(join(tmpdir(), "blip2-project-"));
  const packed = execFileSync("npm", ["pack", "--silent", "--pack-destination", folder], { cwd: await unpackedPackage(), encoding: "utf8" });
  const tarball = join(folder, packed.trim());
  const modules = join(folder, "node_modules");
  mkdirSync(modules);
  execFileSync("tar", ["-xzf", tarball, "-C", modules]);
  renameSync(join(modules, "package"), join(modules, "blip2-web"));
  for (const name of [...REACT, "csstype", "@types"]) symlinkSync(at("node_modules", name), join(modules, name));
  return { folder, tarball, installed: join(modules, "blip2-web"), remove: () => rmSync(folder, { recursive: true, force: true }) };
}

/** A project for all tests of a worker: they leave what the package has installed as it is. */
export const test = base.extend<object, { installed: Project }>({
  installed: [
    // biome-ignore lint/correctness/noEmptyPattern: the runner reads the names of what a fixture needs from this pattern
    async ({}, use) => {
      const made = await project();
      await use(made);
      made.remove();
    },
    { scope: "worker" },
  ],
});

/** What a bundler that knows nothing of `new URL(…, import.meta.url)` leaves to whoever builds: the worker and its wasm go beside the bundle. */
export function putBeside(installed: string, folder: string): void {
  copyFileSync(join(installed, "worker.js"), join(folder, "worker.js"));
  mkdirSync(join(folder, "wasm"), { recursive: true });
  for (const name of readdirSync(join(installed, "wasm")).filter(name => name.endsWith(".wasm"))) {
    copyFileSync(join(installed, "wasm", name), join(folder, "wasm", name));
  }
}

/** Copies what is written of an example, kept by git already or not yet, and none of what installing, building and trying it left in its folder. */
export function copyExample(name: string, folder: string): void {
  const from = at("examples", "web", name);
  const listed = execFileSync("git", ["ls-files", "-z", "--cached", "--others", "--exclude-standard"], { cwd: from, encoding: "utf8" });
  const files = listed.split("\0").filter(file => file !== "" && existsSync(join(from, file)));
  for (const file of files) cpSync(join(from, file), join(folder, file));
}
