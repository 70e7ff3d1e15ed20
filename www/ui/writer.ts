/** Gives the model one job at a time: captions, answers, other ways to say them; and tells where it looked. */

import { type Attention, type Blip2, type Blip2Image, Blip2Error, type Generated, type Generation } from "../index.js";
import { moreOptions, options } from "./settings.js";
import { languageOf } from "./words.js";
import { type Action, answerOf, isOfPicture, type Job, nextJob, type Problem, type State, thread } from "./state.js";

/** Pictures whose encoding is kept in the engine; the others are encoded anew when they are asked about. */
const ENCODED_KEPT = 12;

export interface Page {
  readonly state: State;
  dispatch(action: Action): void;
  announce(sentence: string, language?: string | null): void;
}

export class Writer {
  /** Set once it is loaded; another one makes all encodings of the last one worthless. */
  private model: Blip2 | null = null;
  /** Sees pictures already, while its language model is on the way. */
  private early: Blip2 | null = null;
  private readonly page: Page;
  private readonly sources = new Map<number, File | URL>();
  private readonly encoded = new Map<number, Promise<Blip2Image>>();
  private readonly looks = new Map<string, Promise<Attention | null>>();
  /** What each answer continues. */
  private readonly prompts = new Map<string, string>();
  private readonly retried = new Set<string>();
  private running: { readonly job: Job; stop(): void } | null = null;

  constructor(page: Page) {
    this.page = page;
  }

  get blip2(): Blip2 | null {
    return this.model;
  }

  /** Shows it the picture that waits, so that its words come the sooner; null: it does not come after all. */
  prepare(early: Blip2 | null): void {
    if (this.early !== early) this.forgetAll();
    this.early = early;
    void this.work();
  }

  use(model: Blip2): void {
    if (this.early !== model) this.forgetAll();
    this.early = null;
    this.model = model;
    void this.work();
  }

  add(picture: number, source: File | URL): void {
    this.sources.set(picture, source);
  }

  source(picture: number): File | URL | undefined {
    return this.sources.get(picture);
  }

  remove(picture: number): void {
    if (this.running?.job.picture === picture) this.running.stop();
    this.sources.delete(picture);
    this.forget(picture);
  }

  stop(picture: number | null): void {
    if (this.running?.job.picture === picture) this.running.stop();
  }

  async work(): Promise<void> {
    if (this.model === null && this.early !== null) {
      const job = nextJob(this.page.state);
      if (job !== null && !this.encoded.has(job.picture)) await this.lookAhead(job.picture, this.early);
      return;
    }
    while (this.running === null && this.model !== null) {
      const job = nextJob(this.page.state);
      if (job === null) return;
      await this.run(job, this.model);
    }
  }

  /** A picture that cannot be read is told of at once; whatever else goes wrong, when its turn comes. */
  private async lookAhead(picture: number, model: Blip2): Promise<void> {
    const { dispatch } = this.page;
    // Of another model by now, what it saw is nobody's news.
    const tell = (ahead: "done" | "no") => (this.early === model || this.model === model) && dispatch({ type: "ahead", picture, ahead });
    dispatch({ type: "ahead", picture, ahead: "now" });
    try {
      await this.encode(picture, model, new AbortController().signal);
      tell("done");
    } catch (error) {
      tell("no");
      if (this.early !== model || !isOfPicture(problemOf(error))) return;
      this.fail({ picture, turn: null }, error);
      void this.work();
    }
  }

  /** Once for each text, when somebody wants to know. */
  attention(job: Job, text: string): Promise<Attention | null> {
    const { model } = this;
    if (model === null || !model.can("attention")) return Promise.resolve(null);
    const key = `${keyOf(job)}/${text}`;
    const known = this.looks.get(key);
    if (known !== undefined) return known;
    const look = async () => {
      const image = await this.encode(job.picture, model, new AbortController().signal);
      const prompt = this.prompts.get(keyOf(job));
      return image.attention({ for: text, ...(prompt !== undefined && { prompt }) });
    };
    const looking = look().catch(() => {
      this.looks.delete(key); // another time it may work
      return null;
    });
    this.looks.set(key, looking);
    return looking;
  }

  private async run(job: Job, model: Blip2): Promise<void> {
    const { dispatch } = this.page;
    const abort = new AbortController();
    this.running = { job, stop: () => abort.abort() };
    dispatch({ type: "begin", job });
    try {
      const image = await this.encode(job.picture, model, abort.signal);
      const writing = this.write(job, image, abort.signal);
      if (job.more) {
        const { candidates } = await writing;
        dispatch({ type: "candidates", job, candidates: candidates.map(({ text, score }) => ({ text: text.trim(), score })) });
        return;
      }
      this.running = { job, stop: () => writing.stop() };
      let text = "";
      for await (const piece of writing) {
        text = (text + piece).trimStart();
        dispatch({ type: "text", job, text });
      }
      this.end(job, await writing);
    } catch (error) {
      if (abort.signal.aborted) dispatch({ type: "stopped", job });
      else this.fail(job, error);
    } finally {
      this.running = null;
    }
  }

  private write(job: Job, image: Blip2Image, signal: AbortSignal): Generation<Generated> {
    const { settings } = this.page.state;
    const how = { signal, ...(job.more ? moreOptions(settings) : options(settings)) };
    const { ui } = image.blip2.info.index;
    const question = this.question(job);
    if (question === null) {
      const prompt = settings.prompt ?? ui.caption_prompt;
      this.prompts.set(keyOf(job), prompt);
      return image.caption({ ...how, prompt });
    }
    const template = settings.template ?? ui.question_template;
    const before = settings.remember ? this.before(job) : [];
    const prompt = template.replace("{question}", () => question.trim());
    this.prompts.set(keyOf(job), prompt);
    if (before.length > 0) return image.chat(before).say(question, how);
    return settings.template === null ? image.ask(question, how) : image.caption({ ...how, prompt });
  }

  private question({ picture, turn }: Job): string | null {
    const turns = this.page.state.pictures.find(({ id }) => id === picture)?.turns;
    return turns?.find(({ id }) => id === turn)?.question ?? null;
  }

  /** What was said before on the same branch. */
  private before({ picture, turn }: Job): { question: string; answer: string }[] {
    const found = this.page.state.pictures.find(({ id }) => id === picture);
    if (found === undefined || turn === null) return [];
    return thread({ ...found, tip: turn })
      .slice(0, -1)
      .filter(({ text }) => text !== "")
      .map(({ question, text }) => ({ question, answer: text }));
  }

  private end(job: Job, result: Generated): void {
    const { page } = this;
    const text = result.text.trim();
    page.dispatch({ type: "end", job, result: { text, finish: result.finish }, rate: tokensPerSecond(result) });
    if (job.picture === page.state.current && text !== "") page.announce(text, languageOf(text));
  }

  private fail(job: Job, error: unknown): void {
    const { page } = this;
    const problem = problemOfPicture(error);
    const key = keyOf(job);
    // The engine comes back by itself on a new device; once, nobody needs to be troubled.
    if (problem.code === "device-lost" && !this.retried.has(key)) {
      this.retried.add(key);
      page.dispatch({ type: "requeue", job });
      return;
    }
    page.dispatch({ type: "failed", job, problem });
    if (job.picture === page.state.current && answerOf(page.state, job) !== undefined) page.announce(problem.message);
  }

  private async encode(picture: number, model: Blip2, signal: AbortSignal): Promise<Blip2Image> {
    const { encoded } = this;
    const source = this.sources.get(picture);
    if (source === undefined) throw new DOMException("the picture was removed", "AbortError");
    const image = encoded.get(picture) ?? model.encode(source, { signal });
    encoded.delete(picture);
    encoded.set(picture, image); // last in the map: used last
    try {
      await image;
    } catch (error) {
      encoded.delete(picture);
      throw error;
    }
    const [oldest] = encoded.keys();
    if (encoded.size > ENCODED_KEPT && oldest !== undefined) this.forget(oldest);
    return image;
  }

  private forgetAll(): void {
    for (const picture of [...this.encoded.keys()]) this.forget(picture);
    this.looks.clear();
  }

  private forget(picture: number): void {
    this.encoded.get(picture)?.then(
      image => image.dispose(),
      () => {},
    );
    this.encoded.delete(picture);
    for (const key of [...this.looks.keys()]) if (key.startsWith(`${picture}/`)) this.looks.delete(key);
  }
}

const keyOf = ({ picture, turn }: Job): string => `${picture}/${turn}`;

/** Of the decode alone: the first token waits for the picture and the prompt. */
function tokensPerSecond({ timings: { first_token_ms, total_ms, tokens } }: Generated): number | null {
  const milliseconds = total_ms - first_token_ms;
  return tokens > 1 && milliseconds > 0 ? ((tokens - 1) * 1000) / milliseconds : null;
}

export function problemOf(error: unknown): Problem {
  if (error instanceof Blip2Error) return { code: error.code, message: error.message, retryable: error.retryable };
  return { code: "kernel", message: String(error), retryable: true };
}

export const problemOfPicture = (error: unknown): Problem => ({ ...problemOf(error), ...(missing(error) !== null && { about: "missing" }) });

/** The address where the server has nothing; null for whatever else went wrong. */
export function missing(error: unknown): string | null {
  if (!(error instanceof Blip2Error && error.is("network"))) return null;
  const { status, url } = error.facts;
  return status === 404 || status === 410 ? url : null;
}
