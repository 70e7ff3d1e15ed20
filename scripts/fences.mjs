// The code that the guides show: between fences, in tables, and in their sentences. Tests try it: docs.test.mjs what can be tried from a checkout,
// tests/browser/docs.spec.ts the rest with the packed package.

import { readdirSync, readFileSync } from "node:fs";
import { at, Stop } from "./common.mjs";

export const GUIDES = [
  "README.md",
  "README.ko.md",
  ...readdirSync(at("docs"))
    .filter(name => name.endsWith(".md"))
    .map(name => `docs/${name}`),
];

/** Every piece of code of a guide: { guide, line (of its first line), language, code }. */
export function fences(guide, text = readFileSync(at(guide), "utf8")) {
  const found = [];
  let open = null;
  for (const [place, line] of text.split("\n").entries()) {
    const mark = /^( *)(`{3,}|~{3,})(.*)$/.exec(line);
    if (open === null && mark) open = { end: mark[1] + mark[2], guide, line: place + 2, language: mark[3].trim(), lines: [] };
    else if (open !== null && line.trimEnd() === open.end) {
      const { guide, line, language, lines } = open;
      found.push({ guide, line, language, code: lines.join("\n") });
      open = null;
    } else open?.lines.push(line);
  }
  if (open !== null) throw new Stop(`${guide}:${open.line - 1}: a fence that does not end`);
  return found;
}

export const allFences = () => GUIDES.flatMap(guide => fences(guide));

/** The lines of a guide that stand between no fences: { guide, line, text }. */
export function prose(guide, text = readFileSync(at(guide), "utf8")) {
  const lines = text.split("\n").map((text, place) => ({ guide, line: place + 1, text }));
  const inside = new Set(fences(guide, text).flatMap(({ line, code }) => ["", ...code.split("\n"), ""].map((_, place) => line - 1 + place)));
  return lines.filter(({ line }) => !inside.has(line));
}

/** What a text has between backticks. */
export const codes = text => [...text.matchAll(/`([^`]+)`/g)].map(([, code]) => code.replaceAll("\\|", "|"));

/** Every table of a guide: { guide, line (of its head), head, rows: [{ guide, line, cells }] }. */
export function tables(guide, text = readFileSync(at(guide), "utf8")) {
  const found = [];
  let before = null;
  for (const { line, text: row } of prose(guide, text)) {
    const cells = cellsOf(row.trim());
    const table = found.at(-1);
    if (before !== null && cells?.every(cell => /^:?-+:?$/.test(cell))) found.push({ guide, line: line - 1, head: before, rows: [] });
    else if (cells !== null && table?.line + table?.rows.length + 2 === line) table.rows.push({ guide, line, cells });
    before = cells;
  }
  return found;
}

const cellsOf = row => {
  if (!/^\|.*\|$/.test(row)) return null;
  const cells = row.slice(1, -1).split(/(?<!\\)\|/);
  return cells.map(cell => cell.trim());
};

/** The commands of a piece of shell, as words: comments are left out, a line that ends in \ goes on in the next. */
export const commands = code =>
  code
    .replace(/\\\n\s*/g, "")
    .split("\n")
    .map(line => [...line.matchAll(/"([^"]*)"|(#).*|([^\s"]+)/g)].filter(([, , comment]) => !comment).map(([, quoted, , plain]) => quoted ?? plain))
    .filter(words => words.length > 0);

/** `name rest;` and `name rest { … }`, as nginx reads them: [{ name, args, block }], block being such a list or null. */
export function directives(text) {
  const tokens = [...text.matchAll(/#.*|"([^"]*)"|([{};])|((?:[^\s{};"]|\{\d)+)/g)].filter(([token]) => !token.startsWith("#"));
  let place = 0;
  const list = inside => {
    const found = [];
    let words = [];
    while (place < tokens.length) {
      const [token, quoted, mark] = tokens[place++];
      if (mark === undefined) words.push(quoted ?? token);
      else if (mark === "}" && inside && words.length === 0) return found;
      else if (mark === "}" || words.length === 0) throw new Stop(`nginx: ${token} where a directive was expected`);
      else {
        const [name, ...args] = words;
        found.push({ name, args, block: mark === "{" ? list(true) : null });
        words = [];
      }
    }
    if (inside || words.length > 0) throw new Stop("nginx: it ends within a directive");
    return found;
  };
  return list(false);
}
