import assert from "node:assert/strict";
import { test } from "node:test";
import { altAttribute, asSentence, type Line, textName, written } from "./export.js";

const line = (path: string, text: string, more: Partial<Line> = {}): Line => ({ path, text, question: null, problem: null, ...more });

test("CSV quotes what needs it, and nothing in it is a formula", () => {
  const lines = [line("a.png", 'a "red", car'), line("b.png", "=HYPERLINK(1)"), line("c.png", "-1"), line("@d.png", "two\nlines"), line("e.png", "")];
  assert.equal(
    written("csv", lines),
    '\ufefffile_name,text\r\na.png,"a ""red"", car"\r\nb.png,"\'=HYPERLINK(1)"\r\nc.png,"\'-1"\r\n"\'@d.png","two\nlines"\r\ne.png,\r\n',
  );
});

test("CSV has columns for questions and for what went wrong where there are any", () => {
  const lines = [line("a.png", "red", { question: "what color?" }), line("b.png", "", { question: "what color?", problem: "too large" })];
  assert.equal(written("csv", lines), "\ufefffile_name,question,text,error\r\na.png,what color?,red,\r\nb.png,what color?,,too large\r\n");
});

test("JSON and JSON lines hold the same", () => {
  const lines = [line("a.png", "a car", { question: "what?" }), line("b/c.png", "", { problem: "no" })];
  const jsonl = written("jsonl", lines)
    .trimEnd()
    .split("\n")
    .map(one => JSON.parse(one));
  assert.deepEqual(jsonl, JSON.parse(written("json", lines)));
  assert.deepEqual(jsonl, [
    { file_name: "a.png", question: "what?", text: "a car" },
    { file_name: "b/c.png", text: "", error: "no" },
  ]);
});

test("alternative text is a sentence, and safe in an attribute", () => {
  assert.equal(asSentence("a red car"), "A red car.");
  assert.equal(asSentence("Is it? Yes!"), "Is it? Yes!");
  assert.equal(asSentence(" "), "");
  assert.equal(altAttribute('a "red" <car> & more'), 'alt="a &quot;red&quot; &lt;car&gt; &amp; more"');
});

test("a text file has the picture's name", () => {
  assert.deepEqual(["a.png", "a.b.jpeg", "noending", "x/y.webp"].map(textName), ["a.txt", "a.b.txt", "noending.txt", "x/y.txt"]);
});
