/** The table as files. Pure. */

export interface Line {
  readonly path: string;
  readonly text: string;
  /** Null where no question was asked. */
  readonly question: string | null;
  /** Why there is no text. */
  readonly problem: string | null;
}

export type Format = "csv" | "jsonl" | "json";

export const MIME: Record<Format, string> = { csv: "text/csv", jsonl: "application/x-ndjson", json: "application/json" };

export function written(format: Format, lines: readonly Line[]): string {
  switch (format) {
    case "csv":
      return csv(lines);
    case "jsonl":
      return lines.map(line => `${JSON.stringify(record(line))}\n`).join("");
    case "json":
      return `${JSON.stringify(lines.map(record), null, 2)}\n`;
  }
}

/** Names as datasets have them. */
function record({ path, text, question, problem }: Line): Record<string, string> {
  return { file_name: path, ...(question !== null && { question }), text, ...(problem !== null && { error: problem }) };
}

function csv(lines: readonly Line[]): string {
  const asked = lines.some(({ question }) => question !== null);
  const failed = lines.some(({ problem }) => problem !== null);
  const head = ["file_name", ...(asked ? ["question"] : []), "text", ...(failed ? ["error"] : [])];
  const rows = lines.map(({ path, question, text, problem }) => [path, ...(asked ? [question ?? ""] : []), text, ...(failed ? [problem ?? ""] : [])]);
  // The mark at the start tells spreadsheets that it is UTF-8; lines end as RFC 4180 has it.
  return `\ufeff${[head, ...rows].map(row => row.map(field).join(",")).join("\r\n")}\r\n`;
}

/** A spreadsheet takes what begins so for a formula, and would run it: a quote before it makes it words. */
const FORMULA = /^[=+\-@\t\r]/;

function field(value: string): string {
  const safe = FORMULA.test(value) ? `'${value}` : value;
  return /[",\r\n']/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}

/** `alt="…"`, ready for HTML. */
export const altAttribute = (text: string): string =>
  `alt="${text.replaceAll("&", "&amp;").replaceAll('"', "&quot;").replaceAll("<", "&lt;").replaceAll(">", "&gt;")}"`;

/** A caption as alternative text: a sentence, as screen readers pause at its end. */
export function asSentence(text: string): string {
  const words = text.trim();
  if (words === "") return "";
  const sentence = words.charAt(0).toLocaleUpperCase() + words.slice(1);
  return /[.!?…]$/.test(sentence) ? sentence : `${sentence}.`;
}

/** What trainers of image models look for: the picture's name with another ending. */
export const textName = (name: string): string => `${name.replace(/\.[^./]+$/, "")}.txt`;
