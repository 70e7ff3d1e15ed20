import assert from "node:assert/strict";
import { test } from "node:test";
import { choose } from "../choice.js";

/** The browser's database, as far as handles need it: each request is done at once, and its transaction a turn later. */
function withStorage() {
  const handles = new Map<string, unknown>();
  const texts = new Map<string, string>();
  const objectStore = () => ({
    put: (value: unknown, key: string) => ({ result: handles.set(key, value) }),
    delete: (key: string) => ({ result: handles.delete(key) }),
  });
  const transaction = () => {
    const made = { objectStore, oncomplete: () => {} };
    queueMicrotask(() => made.oncomplete());
    return made;
  };
  const open = () => {
    const made = { result: { transaction }, onsuccess: () => {} };
    queueMicrotask(() => made.onsuccess());
    return made;
  };
  Object.defineProperty(globalThis, "indexedDB", { value: { open }, configurable: true });
  const localStorage = {
    getItem: (key: string) => texts.get(key) ?? null,
    setItem: (key: string, text: string) => void texts.set(key, text),
    removeItem: (key: string) => void texts.delete(key),
  };
  Object.defineProperty(globalThis, "localStorage", { value: localStorage, configurable: true });
  return { handles, texts };
}

test("a folder's handle is kept until something else is chosen in its place", async () => {
  const { handles, texts } = withStorage();
  const handle: FileSystemDirectoryHandle = Object.create({ kind: "directory", name: "mine" });
  const folder = { name: "mine", picked: handle };
  for (const other of [null, new URL("http://localhost/models/other/"), { name: "files", picked: [] }]) {
    await choose("ask", folder);
    await choose("find", folder);
    assert.deepEqual([...handles.keys()].sort(), ["ask", "find"]);
    assert.equal(texts.get("blip2-model"), "folder:mine");
    await choose("ask", other);
    assert.deepEqual([...handles.keys()], ["find"]);
    assert.equal(texts.get("blip2-model"), other instanceof URL ? other.href : undefined);
  }
});
