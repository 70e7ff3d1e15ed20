// What the guides in docs/ must not forget.

import assert from "node:assert/strict";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { test } from "node:test";
import { at } from "./common.mjs";

test("every error code has its place in docs/errors.md, in the order of src/error.rs", () => {
  const list = /pub const CODES: &\[&str\] = &\[([^\]]+)\]/.exec(readFileSync(at("src", "error.rs"), "utf8"));
  const codes = [...(list?.[1] ?? "").matchAll(/"([^"]+)"/g)].map(([, code]) => code);
  const headings = [...readFileSync(at("docs", "errors.md"), "utf8").matchAll(/^## `([^`]+)`$/gm)].map(([, code]) => code);
  assert.ok(codes.length > 10);
  assert.deepEqual(headings, codes);
});

test("guides lead to files that are there", () => {
  for (const guide of [
    "README.md",
    "README.ko.md",
    "ARCHITECTURE.md",
    "CONTRIBUTING.md",
    ...readdirSync(at("docs"))
      .filter(name => name.endsWith(".md"))
      .map(name => `docs/${name}`),
    "examples/web/README.md",
  ]) {
    const folder = guide.includes("/") ? guide.slice(0, guide.lastIndexOf("/")) : "";
    for (const [, path] of readFileSync(at(guide), "utf8").matchAll(/\]\((?!https?:|#)([^)#]+)(?:#[^)]*)?\)/g)) {
      assert.ok(existsSync(at(folder, path)), `${guide}: ${path}`);
    }
  }
});
