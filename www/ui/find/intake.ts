/** How pictures come to the library: chosen, dropped, out of the folders of the last visit, or from the gallery that the site brings along. */

import { chooseFiles, chooseFolder, type Found, fromFiles, isPicture } from "../files.js";
import type { Library } from "./library.js";

export class Intake {
  /** Folders of the last visit that are not where they were. */
  gone: readonly string[] = [];
  private readonly library: Library;
  private readonly changed: () => void;
  private readonly emptied: () => void;
  /** Pictures that were given before the tower was known. */
  private early: { found: readonly Found[]; root: FileSystemDirectoryHandle | null }[] = [];

  /** `emptied`: all pictures have been taken away. */
  constructor(library: Library, { changed, emptied }: { changed(): void; emptied(): void }) {
    this.library = library;
    this.changed = changed;
    this.emptied = emptied;
  }

  /** How many pictures were given before the tower was known. */
  get waiting(): number {
    return this.early.flatMap(({ found }) => found).filter(({ file }) => isPicture(file)).length;
  }

  async add(found: readonly Found[], root: FileSystemDirectoryHandle | null): Promise<void> {
    // The pictures of the sample gallery make way for the visitor's own.
    if (this.library.items.length > 0 && this.library.items.every(({ address }) => address !== null)) await this.takeAway({ forget: false });
    if (this.library.knowsTower) return this.library.add(found, root);
    this.early.push({ found, root });
    this.changed();
  }

  /** What was given before the tower was known. */
  async addEarly(): Promise<void> {
    for (const { found, root } of this.early.splice(0)) await this.library.add(found, root);
  }

  async choose(): Promise<void> {
    await this.add(fromFiles(await chooseFiles()), null);
  }

  async chooseFolder(): Promise<void> {
    const chosen = await chooseFolder();
    if (chosen !== null) await this.add(chosen.found, chosen.handle);
  }

  /** The folders of the last visit. Needs a click. */
  async reopen(): Promise<void> {
    this.gone = await this.library.reopen();
    this.changed();
  }

  async openGallery(): Promise<void> {
    try {
      const folder = new URL("gallery/", document.baseURI);
      const response = await fetch(new URL("index.json", folder));
      const list: unknown = await response.json();
      // The visitor's own may have come meanwhile: they take its place.
      if (!Array.isArray(list) || this.library.items.length > 0 || this.waiting > 0) return;
      const files = list.flatMap((one: unknown) =>
        typeof one === "object" && one !== null && "file" in one && typeof one.file === "string" ? [one.file] : [],
      );
      await this.library.addAddresses(files.map(file => ({ path: file, address: new URL(file, folder).href })));
    } catch {
      return; // a site without a gallery is whole without it
    }
  }

  /** `forget`: what was seen of them, too. */
  async takeAway(how: { readonly forget: boolean }): Promise<void> {
    this.early = [];
    const cleared = this.library.clear(how);
    // What is kept takes its time to go; the pictures are gone at once.
    this.emptied();
    await cleared;
  }
}
