import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { Blip2Error, broken, CODES, factsOf, fromFacts, isErrorFacts, toFacts, unreachable } from "./error.js";

const rust = readFileSync("src/error.rs", "utf8");
const camel = (name: string) => name.replace(/_(\w)/g, (_, letter: string) => letter.toUpperCase());
const kebab = (name: string) => name.replace(/(?<!^)[A-Z]/g, letter => `-${letter}`).toLowerCase();

test("the codes are those of src/error.rs, in its order", () => {
  const list = /CODES: &\[&str\] = &\[([^\]]*)\]/.exec(rust)?.[1] ?? "";
  assert.deepEqual(
    CODES,
    [...list.matchAll(/"([^"]+)"/g)].map(match => match[1]),
  );
});

test("the facts of each code are the fields of its variant in src/error.rs", () => {
  const variants = /pub enum Error \{([\s\S]*?)\n\}/.exec(rust)?.[1] ?? "";
  const found = [...variants.matchAll(/^ {4}(\w+) \{([^}]*)\}/gm)].map(([, name = "", fields = ""]) => [
    kebab(name),
    [...fields.matchAll(/(\w+):/g)].map(([, field = ""]) => camel(field)),
  ]);
  assert.deepEqual(
    CODES.map(code => [code, factsOf(code)]),
    found,
  );
});

test("an error crosses the worker with its code, facts and words", () => {
  const plain = {
    code: "weight-shape",
    message: "weight a has shape [3], expected [2]",
    hint: "Convert it again.",
    retryable: false,
    facts: { key: "a", expected: [2], found: [3] },
  };
  const error = fromFacts(structuredClone(plain));
  assert.ok(error instanceof Blip2Error && error instanceof Error);
  assert.equal(error.name, "Blip2Error");
  assert.ok(error.is("weight-shape"));
  assert.deepEqual(error.facts.expected, [2]);
  assert.deepEqual(toFacts(error), plain);
});

test("a fact that Rust leaves open may be null or absent", () => {
  for (const facts of [
    { url: "u", reason: "r" },
    { url: "u", reason: "r", status: null },
  ]) {
    const error = fromFacts({ code: "network", message: "", hint: "", retryable: true, facts });
    assert.ok(error.is("network"));
    assert.equal(error.facts.status, null);
  }
});

test("a code of another version, or facts that do not fit theirs, are told as a broken engine and keep their words", () => {
  const words = { message: "something new", hint: "", retryable: false };
  for (const plain of [
    { ...words, code: "from-the-future", facts: {} },
    { ...words, code: "weight-missing", facts: { key: 3 } },
  ]) {
    const error = fromFacts(plain);
    assert.equal(error.code, "kernel");
    assert.match(error.message, /something new/);
  }
});

test("only plain data with all five parts is an error's", () => {
  assert.ok(isErrorFacts({ code: "aborted", message: "", hint: "", retryable: false, facts: {} }));
  for (const value of [null, "x", new Error("x"), { code: "aborted" }, { code: 1, message: "", hint: "", retryable: false, facts: {} }]) {
    assert.ok(!isErrorFacts(value));
  }
});

test("what a trap says tells no memory and a lost device from a bug; all may be tried again", () => {
  const said = [
    ["RuntimeError: memory access out of bounds", "out-of-memory"],
    ["panicked at alloc.rs: memory allocation failed", "out-of-memory"],
    ["the device was lost: Destroyed", "device-lost"],
    ["RuntimeError: unreachable", "kernel"],
  ] as const;
  for (const [reason, code] of said) {
    assert.equal(broken(reason).code, code);
    assert.ok(broken(reason).retryable);
  }
});

test("what the compiler proved impossible is an error when it happens", () => {
  assert.throws(() => Reflect.apply(unreachable, null, [{ kind: "?" }]), Blip2Error);
});
