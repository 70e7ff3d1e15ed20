/** What is said about the picture that is shown: its caption, its questions and answers, and suggestions. */

import { Pencil } from "lucide";
import { AnswerView } from "./answer.js";
import { Composer, type ComposerEvents, sendsWithEnter } from "./composer.js";
import { byId, h, iconButton, Keyed, say, setText } from "./dom.js";
import type { Look } from "./look/look.js";
import {
  type Answer,
  currentPicture,
  isBroken,
  type Job,
  type Picture,
  sameJob,
  type State,
  suggestions,
  thread,
  type Turn,
  versions,
} from "./state.js";
import { languageOf, w } from "./words.js";

export interface TalkEvents extends ComposerEvents {
  suggest(question: string): void;
  again(job: Job): void;
  more(job: Job): void;
  /** The question in other words: the answers after it stay on the branch that is left. */
  edit(turn: Turn, question: string): void;
  branch(turn: number): void;
}

export class Talk {
  private readonly section = byId("talk", HTMLElement);
  private readonly scroller = byId("words", HTMLElement);
  private readonly caption: AnswerView;
  private readonly turns: Keyed<Turn>;
  private readonly chips: Keyed<string>;
  private readonly composer: Composer;
  private readonly look: Look;
  private state: State | null = null;
  private shown: number | null = null;
  private turnCount = 0;
  private failing = false;

  constructor(events: TalkEvents, look: Look) {
    this.look = look;
    this.composer = new Composer(events);
    const job = (): Job => ({ picture: this.shown ?? 0, turn: null });
    this.caption = new AnswerView({
      box: byId("caption", HTMLElement),
      words: byId("caption-text", HTMLElement),
      where: "picture",
      look,
      job,
      again: () => events.again(job()),
      more: () => events.more(job()),
    });
    this.turns = new Keyed(
      byId("turns", HTMLElement),
      ({ id }) => id,
      turn => this.turn(turn, events),
    );
    this.chips = new Keyed(
      byId("chips", HTMLElement),
      words => words,
      words => {
        const button = h("button", { type: "button", class: "chip", lang: languageOf(words), onclick: () => events.suggest(words) }, words);
        return { element: h("li", {}, button), update() {} };
      },
    );
  }

  render(state: State): void {
    this.state = state;
    const picture = currentPicture(state);
    this.section.hidden = picture === undefined;
    if (picture === undefined) return;
    const other = this.shown !== picture.id;
    this.shown = picture.id;
    if (other) this.look.forget();
    const turns = thread(picture);
    this.caption.update(picture.caption, this.doing(picture.caption, { picture: picture.id, turn: null }, w.looking));
    this.turns.render(turns);
    this.chips.render(suggestions(state, picture));
    this.composer.render(picture.draft, state.running?.picture === picture.id, !isBroken(picture));
    this.follow(turns.length, other);
  }

  private doing(answer: Answer, job: Job, active: string): string {
    if (answer.status === "streaming" || (this.state !== null && sameJob(this.state.running, job))) return active;
    if (this.state?.model.phase !== "ready") return "";
    return w.inAMoment;
  }

  private turn(turn: Turn, events: TalkEvents) {
    const answer = h("p", { class: "answer" });
    const question = h("p", { class: "question", lang: languageOf(turn.question) }, turn.question);
    const edit = iconButton(Pencil, "edit", () => openEditor(question, turn, events, edit));
    const branches = new Branches(events);
    const element = h("li", { class: "turn" }, h("div", { class: "asked" }, question, branches.element), answer);
    const job = (): Job => ({ picture: this.shown ?? 0, turn: turn.id });
    const view = new AnswerView({
      box: element,
      words: answer,
      where: "answer",
      look: this.look,
      actions: [edit],
      job,
      again: () => events.again(job()),
      more: () => events.more(job()),
    });
    const update = (now: Turn) => {
      view.update(now, this.doing(now, job(), w.thinking) || w.waitsForModel);
      const picture = this.state === null ? undefined : currentPicture(this.state);
      branches.update(picture, now);
    };
    return { element, update };
  }

  // The newest words stay in sight, unless the visitor has scrolled away to read.
  private follow(turns: number, other: boolean): void {
    const added = turns > this.turnCount && !other;
    this.turnCount = turns;
    const { scrollTop, scrollHeight, clientHeight } = this.scroller;
    if (other || added || scrollHeight - scrollTop - clientHeight < 80) this.scroller.scrollTop = scrollHeight;
    // In one column it is the page that scrolls.
    const last = byId("turns", HTMLElement).lastElementChild;
    const streams = this.state?.running?.picture === this.shown && last?.getAttribute("data-status") === "streaming";
    const below = last === null ? 0 : last.getBoundingClientRect().bottom - window.innerHeight;
    // What went wrong takes more room than the words did, and ends with what can be done.
    const failing = last?.getAttribute("data-status") === "failed";
    const failed = failing && !this.failing && !other;
    this.failing = failing;
    if (added || failed || (streams && Math.abs(below) < 100)) last?.scrollIntoView({ block: "nearest" });
  }
}

/** "‹ 2 of 3 ›": the versions of a question that was edited. */
class Branches {
  readonly element = h("span", { class: "branches", hidden: true });
  private readonly place = h("span", { class: "figures" });
  private before: number | undefined;
  private after: number | undefined;

  constructor(events: TalkEvents) {
    const button = (key: "earlierVersion" | "laterVersion", sign: string, to: () => number | undefined) => {
      const go = () => {
        const turn = to();
        if (turn !== undefined) events.branch(turn);
      };
      return say(h("button", { type: "button", class: "quiet", onclick: go }, sign), key, "label", "title");
    };
    this.element.append(
      button("earlierVersion", "‹", () => this.before),
      this.place,
      button("laterVersion", "›", () => this.after),
    );
  }

  update(picture: Picture | undefined, turn: Turn): void {
    const all = picture === undefined ? [] : versions(picture, turn);
    const at = all.findIndex(({ id }) => id === turn.id);
    this.element.hidden = all.length < 2;
    this.before = all[at - 1]?.id;
    this.after = all[at + 1]?.id;
    setText(this.place, `${at + 1}/${all.length}`);
  }
}

/** The question becomes a field: Enter asks anew, Escape leaves it as it was. Both lead back to `from`. */
function openEditor(question: HTMLElement, turn: Turn, events: TalkEvents, from: HTMLElement): void {
  const field = say(
    h("input", { type: "text", class: "field", value: turn.question, enterkeyhint: "send", autocomplete: "off" }),
    "editQuestion",
    "label",
  );
  let open = true;
  const close = () => {
    if (!open) return; // what has the focus is told of its end while it is being taken away
    open = false;
    field.replaceWith(question);
  };
  sendsWithEnter(field, () => {
    const words = field.value.trim();
    close();
    from.focus();
    if (words !== "") events.edit(turn, words);
  });
  field.addEventListener("keydown", event => {
    if (event.key !== "Escape" || event.isComposing) return;
    event.stopPropagation();
    close();
    from.focus();
  });
  field.addEventListener("blur", close);
  question.replaceWith(field);
  field.select();
  field.focus();
}
