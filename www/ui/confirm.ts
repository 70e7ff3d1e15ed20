/** Asks before something is lost that took its time. */

import { h, say, wordButton } from "./dom.js";
import { Sheet } from "./sheet.js";
import type { Said } from "./words.js";

export function confirmed(title: Said, rest: Said, act: Said): Promise<boolean> {
  return new Promise(resolve => {
    let sure = false;
    const yes = () => {
      sure = true;
      sheet.close();
    };
    const no = wordButton("cancel", () => sheet.close());
    const buttons = h("div", { class: "row-of-buttons" }, no, wordButton(act, yes, "plain main"));
    const sheet = new Sheet("confirm", title, "box", say(h("p", {}), rest), buttons);
    sheet.dialog.addEventListener("close", () => {
      sheet.dialog.remove();
      resolve(sure);
    });
    sheet.open();
    no.focus();
  });
}
