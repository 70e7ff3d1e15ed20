/** What Batch knows, and how each event changes it. Pure. */

import type { Problem } from "../state.js";

export type Task = "caption" | "alt" | "question";

export interface Row {
  readonly id: number;
  readonly path: string;
  readonly name: string;
  readonly status: "waiting" | "running" | "done" | "failed";
  /** As it stands in the table: the model's words, or the visitor's. */
  readonly text: string;
  /** The visitor has changed it: it is not written over without being asked. */
  readonly edited: boolean;
  readonly question: string | null;
  readonly problem: Problem | null;
}

export interface Batch {
  readonly task: Task;
  readonly question: string;
  readonly prefix: string;
  readonly suffix: string;
  readonly rows: readonly Row[];
  readonly running: boolean;
  /** It ran, and was stopped or came to its end. */
  readonly began: boolean;
}

export const EMPTY: Batch = { task: "caption", question: "", prefix: "", suffix: "", rows: [], running: false, began: false };

export type Event =
  | { readonly type: "set"; readonly how: Partial<Pick<Batch, "task" | "question" | "prefix" | "suffix">> }
  | { readonly type: "add"; readonly rows: readonly { readonly id: number; readonly path: string; readonly name: string }[] }
  | { readonly type: "remove"; readonly row: number }
  | { readonly type: "clear" }
  | { readonly type: "run" }
  /** All of it once more, but for what the visitor has written. */
  | { readonly type: "rerun" }
  | { readonly type: "stop" }
  | { readonly type: "retry"; readonly row: number }
  | { readonly type: "begin"; readonly row: number }
  | { readonly type: "done"; readonly row: number; readonly text: string; readonly question: string | null }
  | { readonly type: "back"; readonly row: number }
  | { readonly type: "failed"; readonly row: number; readonly problem: Problem }
  | { readonly type: "edit"; readonly row: number; readonly text: string };

export function reduce(state: Batch, event: Event): Batch {
  switch (event.type) {
    case "set":
      return { ...state, ...event.how };
    case "add": {
      const added = event.rows.map(row => ({ ...row, status: "waiting", text: "", edited: false, question: null, problem: null }) satisfies Row);
      return { ...state, rows: [...state.rows, ...added] };
    }
    case "remove":
      return { ...state, rows: state.rows.filter(({ id }) => id !== event.row) };
    case "clear":
      return { ...state, rows: [], running: false, began: false };
    case "run":
      return { ...state, running: true, began: true };
    case "rerun":
      return {
        ...state,
        running: true,
        began: true,
        rows: state.rows.map(row => (row.edited ? row : { ...row, status: "waiting", problem: null })),
      };
    case "stop":
      return { ...state, running: false };
    case "retry":
      return change(state, event.row, row => ({ ...row, status: "waiting", edited: false, problem: null }));
    case "begin":
      return change(state, event.row, row => ({ ...row, status: "running" }));
    case "done":
      return change(state, event.row, row =>
        row.edited ? { ...row, status: "done" } : { ...row, status: "done", text: event.text, question: event.question },
      );
    case "back":
      return change(state, event.row, row => ({ ...row, status: "waiting" }));
    case "failed":
      return change(state, event.row, row => ({ ...row, status: "failed", problem: event.problem }));
    case "edit":
      return change(state, event.row, row => ({
        ...row,
        text: event.text,
        edited: true,
        status: row.status === "failed" ? "done" : row.status,
        problem: null,
      }));
  }
}

const change = (state: Batch, id: number, how: (row: Row) => Row): Batch => ({
  ...state,
  rows: state.rows.map(row => (row.id === id ? how(row) : row)),
});

export const next = ({ rows }: Batch): Row | undefined => rows.find(({ status }) => status === "waiting");

export interface Counts {
  readonly all: number;
  readonly done: number;
  readonly failed: number;
  readonly left: number;
}
export function counts({ rows }: Batch): Counts {
  const of = (status: Row["status"]): number => rows.filter(row => row.status === status).length;
  return { all: rows.length, done: of("done"), failed: of("failed"), left: of("waiting") + of("running") };
}

/** Whether there is all that a run needs. */
export const canRun = ({ task, question, rows }: Batch): boolean => rows.length > 0 && (task !== "question" || question.trim() !== "");

/** The words in the table, with what comes before and after each. */
export const framed = ({ prefix, suffix }: Pick<Batch, "prefix" | "suffix">, text: string): string =>
  text === "" ? "" : `${prefix}${text}${suffix}`;
