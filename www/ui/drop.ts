/** Pictures from outside: dropped anywhere on the page, pasted, or chosen. */

import { byId, setAttribute } from "./dom.js";

export function listenForPictures(take: (files: File[]) => void): { choose(): void } {
  const root = document.documentElement;
  const input = byId("file", HTMLInputElement);
  const takeAll = (list: FileList | undefined) => {
    if (list !== undefined && list.length > 0) take([...list]);
  };

  input.addEventListener("change", () => {
    takeAll(input.files ?? undefined);
    input.value = ""; // the same file may be chosen again
  });
  window.addEventListener("paste", event => takeAll(event.clipboardData?.files));
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
    takeAll(event.dataTransfer.files);
  });

  return { choose: () => input.click() };
}
