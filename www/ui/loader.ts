/** Brings the model that captions and answers: which one, whether it is fetched unasked, how far it is. */

import type { Blip2, DeviceReport, Engine, IndexFacts, Source, Totals } from "../index.js";
import { type Choice, choose, chosen, closedFolder, keyOf, problemWith, sourceOf } from "./choice.js";
import { keep, kept } from "./kept.js";
import type { Problem } from "./state.js";
import { taken } from "./turns.js";
import { inOrder, w } from "./words.js";
import { type Page, problemOf } from "./writer.js";

/** More than this is fetched only after a click. */
const UNASKED = 50e6;
/** Set while a large model is being loaded: found at the start, the tab died of it (iOS does that), and it is not tried again unasked. */
const MARK = "blip2-loading";
/** So long without a device, and the engine is still being fetched. */
const SLOW_MS = 2500;
/** So long without a byte, and the reason may be another tab. */
const QUIET_MS = 1500;

/** Whom a model is brought to. */
interface User {
  /** What sees pictures and cannot speak yet; null: it does not come. */
  prepare(early: Blip2 | null): void;
  use(model: Blip2): void;
}

export class Loader {
  private readonly engine: Pick<Engine, "device" | "inspect" | "load">;
  private readonly page: Page;
  private readonly user: User;
  private current: Blip2 | null = null;
  private abort = new AbortController();
  /** Whether it was asked for, or small enough to come unasked. */
  private wanted = false;

  constructor(engine: Pick<Engine, "device" | "inspect" | "load">, page: Page, user: User) {
    this.engine = engine;
    this.page = page;
    this.user = user;
  }

  /** Goes on with what broke off for want of a network: unasked where the visitor had not been asked yet. */
  resume(): Promise<void> {
    return this.load(this.wanted);
  }

  /** Loads the model of now, or says what it would take. */
  async load(asked: boolean): Promise<void> {
    this.wanted = asked;
    this.abort.abort();
    const abort = new AbortController();
    this.abort = abort;
    const { signal } = abort;
    const { dispatch } = this.page;
    dispatch({ type: "model", model: { phase: "starting" } });
    let choice: Choice | null = null;
    try {
      choice = await chosen("ask");
      const closed = await closedFolder(choice, asked);
      dispatch({ type: "device", device: await this.device() });
      if (closed !== null) return dispatch({ type: "model", model: { phase: "offered", bytes: 0, arrived: 0, closed } });
      const source = sourceOf(choice);
      const { bytes, cached, index } = await this.engine.inspect(source, { signal });
      dispatch({ type: "ui", ui: index.ui });
      const died = bytes > UNASKED && kept(MARK) === keyOf(choice);
      if (!asked && (bytes - cached > UNASKED || died))
        return dispatch({ type: "model", model: { phase: "offered", bytes, arrived: cached, closed: null } });
      if (finds(index)) return dispatch({ type: "model", model: { phase: "failed", problem: finder(choice) } });
      const stages = inOrder(index.stages);
      const folder = !(choice instanceof URL);
      const tell = (totals: Totals | null, elsewhere: boolean) =>
        dispatch({ type: "model", model: { phase: "loading", totals, stages, elsewhere, folder } });
      this.wanted = true;
      tell(null, false);
      keep(MARK, bytes > UNASKED ? keyOf(choice) : null);
      // For one that is downloaded by a click, the browser may be asked to keep it.
      if (asked && bytes > UNASKED && choice instanceof URL) void navigator.storage?.persist?.().catch(() => {});
      const blip2 = await this.fetch(source, signal, tell);
      keep(MARK, null);
      const { storageError } = blip2;
      dispatch({ type: "ui", ui: blip2.info.index.ui });
      dispatch({ type: "model", model: { phase: "ready", info: blip2.info, notKept: storageError === null ? null : problemOf(storageError) } });
      const { current } = this;
      this.current = blip2;
      this.user.use(blip2);
      await current?.dispose();
    } catch (error) {
      keep(MARK, null);
      if (this.abort !== abort) return; // another one is being loaded
      if (signal.aborted) return this.offerAgain();
      dispatch({ type: "model", model: { phase: "failed", problem: problemWith(error, choice) } });
      this.page.announce(w.modelFailed);
    }
  }

  private async device(): Promise<DeviceReport> {
    const clock = setTimeout(() => this.page.dispatch({ type: "model", model: { phase: "starting", slow: true } }), SLOW_MS);
    try {
      return await this.engine.device();
    } finally {
      clearTimeout(clock);
    }
  }

  private async fetch(source: Source, signal: AbortSignal, tell: (totals: Totals | null, elsewhere: boolean) => void): Promise<Blip2> {
    let latest: Totals | null = null;
    let heard = performance.now();
    const ask = async () => {
      if (performance.now() - heard < QUIET_MS || !(await taken()) || performance.now() - heard < QUIET_MS || signal.aborted) return;
      tell(latest, true);
    };
    const clock = setInterval(() => void ask(), QUIET_MS);
    try {
      const blip2 = await this.engine.load(source, {
        signal,
        until: "retrieval",
        onProgress: ({ totals }) => {
          latest = totals;
          heard = performance.now();
          tell(totals, false);
        },
      });
      // Where another model answers meanwhile, its pictures stay its own.
      if (this.current === null) this.user.prepare(blip2);
      try {
        await blip2.ready();
      } catch (error) {
        if (this.current === null) this.user.prepare(null);
        await blip2.dispose();
        throw error;
      }
      return blip2;
    } finally {
      clearInterval(clock);
      heard = Number.POSITIVE_INFINITY; // an answer that is still on its way comes too late
    }
  }

  cancel(): void {
    this.abort.abort();
  }

  /** Takes another model from now on; null: the page's own. */
  async choose(choice: Choice | null): Promise<void> {
    await choose("ask", choice);
    const here = new URL(location.href);
    here.searchParams.delete("model");
    history.replaceState(history.state, "", here);
    await this.load(true);
  }

  private offerAgain(): void {
    const { state, dispatch } = this.page;
    const totals = state.model.phase === "loading" ? state.model.totals : null;
    dispatch({ type: "model", model: { phase: "offered", bytes: totals?.total ?? 0, arrived: totals?.loaded ?? 0, closed: null } });
  }
}

/** A model without a part that speaks: for Find, and for nothing that is done here. */
export const finds = ({ stages }: IndexFacts): boolean => stages.language === 0;

const finder = (choice: Choice): Problem => ({
  code: "input-invalid",
  message: `${keyOf(choice)} has no language model`,
  retryable: false,
  about: "finder",
});
