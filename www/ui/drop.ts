/** Pictures from outside: dropped anywhere on the page, pasted, or chosen. */

import { byId, h, say, setAttribute } from "./dom.js";
import { type Found, fromDrop, fromFiles } from "./files.js";

export interface DropEvents {
  take(found: Found[]): void;
  /** An address was pasted where no text is written. */
  address(url: URL): void;
}

export function listenForPictures({ take, address }: DropEvents): { choose(): void } {
  const root = document.documentElement;
  const input = byId("file", HTMLInputElement);
  const takeAll = (found: Found[]) => {
    if (found.length > 0) take(found);
  };

  input.addEventListener("change", () => {
    takeAll(fromFiles(input.files ?? []));
    input.value = ""; // the same file may be chosen again
  });
  window.addEventListener("paste", event => {
    const { clipboardData } = event;
    takeAll(fromFiles(clipboardData?.files ?? []));
    if (event.target instanceof HTMLInputElement || event.target instanceof HTMLTextAreaElement) return;
    const url = httpAddress(clipboardData?.getData("text/plain") ?? "");
    if (url !== null) address(url);
  });
  window.addEventListener("dragover", event => {
    if (!event.dataTransfer?.types.includes("Files")) return;
    event.preventDefault();
    event.dataTransfer.dropEffect = "copy";
    setAttribute(root, "data-dragging", "");
  });
  window.addEventListener("dragleave", event => {
    if (event.relatedTarget === null) setAttribute(root, "data-dragging", null);
  });
  window.addEventListener("drop", event => {
    setAttribute(root, "data-dragging", null);
    if (!event.dataTransfer?.types.includes("Files")) return; // text into the question field
    event.preventDefault();
    void fromDrop(event.dataTransfer).then(takeAll);
  });

  return { choose: () => input.click() };
}

/** What a view without pictures asks for: fingers drop nothing. */
export const emptyTitle = (): HTMLElement =>
  h("h2", {}, say(h("span", { class: "by-mouse" }), "dropPictures"), say(h("span", { class: "by-touch" }), "choosePicturesOrFolder"));

/** The address that a text is; null for anything else. */
export function httpAddress(text: string): URL | null {
  const words = text.trim();
  if (!/^https?:\/\/\S+$/i.test(words) || !URL.canParse(words)) return null;
  return new URL(words);
}
