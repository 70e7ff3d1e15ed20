/** A conversation about a picture, in the words that its model was trained with. */

import { inputInvalid } from "./error.js";
import type { AskOptions, Generation } from "./generation.js";
import type { Generated } from "./protocol.js";

/** A question, and what was answered. */
export interface Turn {
  readonly question: string;
  readonly answer: string;
}

/** Answers a prompt that is asked for when its turn comes. */
type Generate = (prompt: () => Promise<string>, options: AskOptions) => Generation<Generated>;

/**
 * Each question is asked behind the earlier ones and their answers. One that was stopped is remembered with the text so far; one without an answer is not.
 * A conversation that has grown longer than the model can read rejects with `input-invalid`: `clear()` it.
 */
export class Chat {
  private readonly template: string;
  private readonly generate: Generate;
  private said: Turn[];
  private last: Promise<unknown> = Promise.resolve();

  /** @internal */
  constructor(template: string, generate: Generate, said: readonly Turn[] = []) {
    this.template = template;
    this.generate = generate;
    this.said = [...said];
  }

  /** Oldest first. */
  get turns(): readonly Turn[] {
    return [...this.said];
  }

  /** Waits for the answers to what was said before. */
  say(question: string, options: AskOptions = {}): Generation<Generated> {
    const { last, said } = this;
    const prompt = async () => {
      await last;
      return conversation(this.template, said, question);
    };
    const answer = this.generate(prompt, options);
    // Before anybody else hears of it, as nobody else has it yet.
    const remember = ({ text }: Generated) => {
      if (text !== "") said.push({ question: question.trim(), answer: text });
    };
    this.last = answer.then(remember, () => {});
    return answer;
  }

  /** Forgets what was said, and what is being answered now. */
  clear(): void {
    this.said = [];
    this.last = Promise.resolve();
  }
}

/** The question in the template's words. Errors: input-invalid. */
export function inWords(template: string, question: string): string {
  const asked = question.trim();
  if (asked === "") throw inputInvalid("question", "it is empty");
  return template.replace("{question}", () => asked);
}

/** As LAVIS shows it: "Question: q1 Answer: a1. Question: q2 Answer:". An answer that ends as a sentence gets no second full stop. */
function conversation(template: string, turns: readonly Turn[], question: string): string {
  const told = turns.map(turn => {
    const asked = inWords(template, turn.question);
    const between = /\s$/.test(asked) ? "" : " ";
    return `${asked}${between}${turn.answer}${/[.!?]$/.test(turn.answer) ? " " : ". "}`;
  });
  return told.join("") + inWords(template, question);
}
