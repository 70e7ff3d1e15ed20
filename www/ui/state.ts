/** What the page knows, and how each event changes it. Pure: no DOM, no engine. */

import type { Candidate, Code, DeviceReport, Generated, ModelInfo, Totals, Ui } from "../index.js";
import { DEFAULTS, type Settings } from "./settings.js";

/** What the page shows: one of three things that a visitor does with pictures. */
export type Route = "ask" | "find" | "batch";

/** An error as the page shows it. */
export interface Problem {
  /**
   * What the code alone does not say: a model for Find was to caption; a folder of the disk is gone or was changed; it holds no model;
   * a model's address has none; a picture's has nothing.
   */
  readonly about?: "finder" | "folder" | "noModel" | "noModelThere" | "missing";
  readonly code: Code;
  readonly message: string;
  readonly retryable: boolean;
}

export type Model =
  /** slow: long enough that it can only be the engine, which is on its way. */
  | { readonly phase: "starting"; readonly slow?: true }
  /** Too large to be fetched unasked. arrived: bytes that are here already. closed: the name of a folder that the visitor has to open again. */
  | { readonly phase: "offered"; readonly bytes: number; readonly arrived: number; readonly closed: string | null }
  /** stages: bytes of each part. elsewhere: nothing comes, since another tab is fetching it. folder: it is read from the visitor's disk. */
  | {
      readonly phase: "loading";
      readonly totals: Totals | null;
      readonly stages: readonly number[];
      readonly elsewhere: boolean;
      readonly folder?: boolean;
    }
  | { readonly phase: "ready"; readonly info: ModelInfo; readonly notKept: Problem | null }
  | { readonly phase: "failed"; readonly problem: Problem };

export type AnswerStatus = "waiting" | "streaming" | "done" | "stopped" | "failed";

export interface Answer {
  readonly status: AnswerStatus;
  readonly text: string;
  readonly problem: Problem | null;
  /** Other ways to say it, once somebody has asked for them. */
  readonly more: More | null;
}

export interface More {
  readonly status: "waiting" | "working" | "done" | "failed";
  readonly candidates: readonly Candidate[];
  readonly problem: Problem | null;
}

/** parent: the turn that it came after. A question that was edited has the same as the one that it replaces. */
export interface Turn extends Answer {
  readonly id: number;
  readonly question: string;
  readonly parent: number | null;
}

export interface Picture {
  readonly id: number;
  readonly name: string;
  /** What an <img> shows. */
  readonly address: string;
  readonly caption: Answer;
  /** All of them, in the order asked: `thread` gives those that are shown. */
  readonly turns: readonly Turn[];
  /** The last turn that is shown. */
  readonly tip: number | null;
  /** What is typed and not yet sent. */
  readonly draft: string;
  /** The browser cannot show it (the engine may still read it). */
  readonly hidden: boolean;
  /** Whether the model looks at it, or has, before it can speak. */
  readonly ahead: "no" | "now" | "done";
}

/** What is to be written: the caption of a picture, or the answer of one of its turns; or more of what they might say. */
export interface Job {
  readonly picture: number;
  readonly turn: number | null;
  readonly more?: true;
}

export interface Sample {
  readonly file: string;
  readonly alt: string;
}

export interface State {
  readonly route: Route;
  readonly settings: Settings;
  readonly device: DeviceReport | null;
  readonly online: boolean;
  readonly model: Model;
  readonly ui: Ui | null;
  /** Null until it is known whether there are any. */
  readonly samples: readonly Sample[] | null;
  readonly pictures: readonly Picture[];
  readonly current: number | null;
  readonly running: Job | null;
  /** Questions the visitor thought of: after two the suggestions have done their work. */
  readonly own: number;
  /** Tokens a second of the latest answer. */
  readonly rate: number | null;
}

export const START: State = {
  route: "ask",
  settings: DEFAULTS,
  device: null,
  online: true,
  model: { phase: "starting" },
  ui: null,
  samples: null,
  pictures: [],
  current: null,
  running: null,
  own: 0,
  rate: null,
};

export type Action =
  | { readonly type: "route"; readonly route: Route }
  | { readonly type: "settings"; readonly settings: Settings }
  | { readonly type: "device"; readonly device: DeviceReport }
  | { readonly type: "online"; readonly online: boolean }
  | { readonly type: "model"; readonly model: Model }
  | { readonly type: "ui"; readonly ui: Ui | null }
  | { readonly type: "samples"; readonly samples: readonly Sample[] }
  | { readonly type: "add"; readonly pictures: readonly { readonly id: number; readonly name: string; readonly address: string }[] }
  | { readonly type: "show"; readonly picture: number }
  | { readonly type: "remove"; readonly picture: number }
  | { readonly type: "unshowable"; readonly picture: number }
  | { readonly type: "ahead"; readonly picture: number; readonly ahead: Picture["ahead"] }
  | { readonly type: "draft"; readonly picture: number; readonly draft: string }
  /** after: the turn that it follows; the last one shown if absent. */
  | {
      readonly type: "ask";
      readonly picture: number;
      readonly turn: number;
      readonly question: string;
      readonly own: boolean;
      readonly after?: number | null;
    }
  /** Shows the branch that this turn is on. */
  | { readonly type: "branch"; readonly picture: number; readonly turn: number }
  | { readonly type: "more"; readonly job: Job }
  | { readonly type: "candidates"; readonly job: Job; readonly candidates: readonly Candidate[] }
  | { readonly type: "again"; readonly job: Job }
  /** To be written once more, though nobody asked: what is shown stays meanwhile. */
  | { readonly type: "requeue"; readonly job: Job }
  | { readonly type: "begin"; readonly job: Job }
  | { readonly type: "text"; readonly job: Job; readonly text: string }
  | { readonly type: "end"; readonly job: Job; readonly result: Pick<Generated, "text" | "finish">; readonly rate: number | null }
  | { readonly type: "stopped"; readonly job: Job }
  | { readonly type: "failed"; readonly job: Job; readonly problem: Problem };

const WAITING: Answer = { status: "waiting", text: "", problem: null, more: null };

export function reduce(state: State, action: Action): State {
  switch (action.type) {
    case "route":
      return { ...state, route: action.route };
    case "settings":
      return { ...state, settings: action.settings };
    case "device":
      return { ...state, device: action.device };
    case "online":
      return { ...state, online: action.online };
    case "model":
      return { ...state, model: action.model, pictures: action.model.phase === "starting" ? unseen(state.pictures) : state.pictures };
    case "ui":
      return { ...state, ui: action.ui };
    case "samples":
      return { ...state, samples: action.samples };
    case "add": {
      const added = action.pictures.map(picture => ({
        ...picture,
        caption: WAITING,
        turns: [],
        tip: null,
        draft: "",
        hidden: false,
        ahead: "no" as const,
      }));
      return { ...state, pictures: [...state.pictures, ...added], current: added[0]?.id ?? state.current };
    }
    case "show":
      return { ...state, current: action.picture };
    case "remove":
      return remove(state, action.picture);
    case "unshowable":
      return change(state, action.picture, picture => ({ ...picture, hidden: true }));
    case "ahead":
      return change(state, action.picture, picture => ({ ...picture, ahead: action.ahead }));
    case "draft":
      return change(state, action.picture, picture => ({ ...picture, draft: action.draft }));
    case "ask": {
      const asked = change(state, action.picture, picture => ({
        ...picture,
        draft: action.own && action.after === undefined ? "" : picture.draft,
        turns: [
          ...picture.turns,
          { ...WAITING, id: action.turn, question: action.question, parent: action.after === undefined ? picture.tip : action.after },
        ],
        tip: action.turn,
      }));
      return { ...asked, own: state.own + (action.own ? 1 : 0) };
    }
    case "branch":
      return change(state, action.picture, picture => ({ ...picture, tip: newestAfter(picture, action.turn) }));
    case "more":
      return more(state, action.job, "waiting");
    case "candidates":
      return { ...more(state, action.job, "done", action.candidates), running: sameJob(state.running, action.job) ? null : state.running };
    case "again":
      return answer(state, action.job, () => WAITING);
    case "requeue":
      if (action.job.more) return { ...more(state, action.job, "waiting"), running: null };
      return ended(state, action.job, before => ({ ...before, status: "waiting" }));
    case "begin":
      if (action.job.more) return { ...more(state, action.job, "working"), running: action.job };
      return { ...answer(state, action.job, before => ({ ...before, status: "streaming", problem: null })), running: action.job };
    case "text":
      // Written anew after a lost device: what is shown stays until the new text is past it.
      return answer(state, action.job, before => (before.text.startsWith(action.text) ? before : { ...before, text: action.text }));
    case "end": {
      const { text, finish } = action.result;
      const status = finish === "stopped" ? "stopped" : "done";
      return { ...ended(state, action.job, before => ({ ...before, status, text, problem: null })), rate: action.rate ?? state.rate };
    }
    case "stopped":
      if (action.job.more) return { ...answer(state, action.job, before => ({ ...before, more: null })), running: null };
      return ended(state, action.job, before => ({ ...before, status: "stopped" }));
    case "failed":
      if (action.job.more) return { ...more(state, action.job, "failed", [], action.problem), running: null };
      return ended(state, action.job, before => ({ ...before, status: "failed", problem: action.problem }));
  }
}

/** The caption or answer that a job is about. */
export function answerOf(state: State, { picture, turn }: Job): Answer | undefined {
  const found = state.pictures.find(({ id }) => id === picture);
  return turn === null ? found?.caption : found?.turns.find(({ id }) => id === turn);
}

/** What to write next: what the visitor looks at before the rest, and a question never before its picture's caption. */
export function nextJob({ pictures, current }: State): Job | null {
  const shown = pictures.filter(({ id }) => id === current);
  for (const picture of [...shown, ...pictures]) {
    if (picture.caption.status === "waiting") return { picture: picture.id, turn: null };
    const turn = picture.turns.find(({ status }) => status === "waiting");
    if (turn !== undefined) return { picture: picture.id, turn: turn.id };
    if (picture.caption.more?.status === "waiting") return { picture: picture.id, turn: null, more: true };
    const wanted = picture.turns.find(turn => turn.more?.status === "waiting");
    if (wanted !== undefined) return { picture: picture.id, turn: wanted.id, more: true };
  }
  return null;
}

/** The turns that are shown, oldest first. */
export function thread({ turns, tip }: Picture): readonly Turn[] {
  const shown: Turn[] = [];
  for (let at = turns.find(({ id }) => id === tip); at !== undefined; at = turns.find(({ id }) => id === at?.parent)) shown.unshift(at);
  return shown;
}

/** The turns that stand in the same place, this one among them: what its question was before it was edited, and after. */
export const versions = ({ turns }: Picture, { parent }: Turn): readonly Turn[] => turns.filter(turn => turn.parent === parent);

function newestAfter({ turns }: Picture, id: number): number {
  let tip = id;
  for (let next = turns.findLast(({ parent }) => parent === tip); next !== undefined; next = turns.findLast(({ parent }) => parent === tip))
    tip = next.id;
  return tip;
}

export const currentPicture = (state: State): Picture | undefined => state.pictures.find(({ id }) => id === state.current);

/** Whether a picture cannot be asked about: the model could not be shown it. */
export const isBroken = ({ caption }: Picture): boolean => caption.status === "failed" && caption.problem !== null && isOfPicture(caption.problem);

/** It is the picture's own fault, whichever model looks at it. */
export const isOfPicture = ({ code }: Problem): boolean => ["image-undecodable", "image-too-large", "file"].includes(code);

/** Suggested questions that were not yet asked about this picture. */
export function suggestions({ ui, own }: State, picture: Picture): readonly string[] {
  if (own >= 2 || isBroken(picture)) return [];
  return (ui?.suggestions ?? []).filter(suggestion => picture.turns.every(({ question }) => question !== suggestion));
}

export const sameJob = (a: Job | null, b: Job | null): boolean => a?.picture === b?.picture && a?.turn === b?.turn && a?.more === b?.more;

/** Another model has looked at nothing yet. */
const unseen = (pictures: readonly Picture[]): Picture[] => pictures.map(picture => ({ ...picture, ahead: "no" }));

function change(state: State, id: number, how: (picture: Picture) => Picture): State {
  return { ...state, pictures: state.pictures.map(picture => (picture.id === id ? how(picture) : picture)) };
}

function answer(state: State, job: Job, how: (before: Answer) => Answer): State {
  return change(state, job.picture, picture => {
    if (job.turn === null) return { ...picture, caption: how(picture.caption) };
    return { ...picture, turns: picture.turns.map(turn => (turn.id === job.turn ? { ...turn, ...how(turn) } : turn)) };
  });
}

const more = (state: State, job: Job, status: More["status"], candidates: readonly Candidate[] = [], problem: Problem | null = null): State =>
  answer(state, job, before => ({ ...before, more: { status, candidates, problem } }));

const ended = (state: State, job: Job, how: (before: Answer) => Answer): State => ({
  ...answer(state, job, how),
  running: sameJob(state.running, job) ? null : state.running,
});

function remove(state: State, id: number): State {
  const at = state.pictures.findIndex(picture => picture.id === id);
  const pictures = state.pictures.filter(picture => picture.id !== id);
  const neighbour = pictures[Math.min(at, pictures.length - 1)]?.id ?? null;
  return { ...state, pictures, current: state.current === id ? neighbour : state.current };
}
