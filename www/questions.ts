/** What a worker asks of its page, and how the page answers: the caller's own storage, and the caller's word on where files are. */

import type { Resolve } from "./client.js";
import { Blip2Error, type ErrorFacts, inputInvalid, messageOf, toFacts, unreachable } from "./error.js";
import type { Answer, Question, StorageDriver } from "./protocol.js";

interface Answering {
  readonly driver: StorageDriver | null;
  readonly locate: Resolve | undefined;
}

export async function asked(question: Question, { driver, locate }: Answering): Promise<Answer> {
  if (question.of === "resolve") {
    if (locate === undefined) throw inputInvalid("resolve", "the load is over");
    return String(await locate(question.file));
  }
  if (driver === null) throw inputInvalid("storage", "there is no driver");
  switch (question.of) {
    case "get":
      return driver.get(question.name);
    case "put":
      await driver.put(question.name, question.bytes);
      return null;
    case "delete":
      await driver.delete(question.name);
      return null;
    case "list":
      return driver.list();
    case "estimate":
      return driver.estimate();
    default:
      return unreachable(question);
  }
}

/** Why there is no answer: whatever the caller's code has thrown. */
export function refusal(error: unknown): ErrorFacts {
  if (error instanceof Blip2Error) return toFacts(error);
  const message = messageOf(error);
  const full = error instanceof Error && error.name === "QuotaExceededError";
  return full
    ? { code: "storage-quota", message, hint: "", retryable: false, facts: { what: message } }
    : { code: "storage-unavailable", message, hint: "", retryable: false, facts: { reason: message } };
}
