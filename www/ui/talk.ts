/** What is said about the picture that is shown: its caption, its questions and answers, and suggestions. */

import { AnswerView } from "./answer.js";
import { Composer, type ComposerEvents } from "./composer.js";
import { byId, h, Keyed } from "./dom.js";
import { type Answer, currentPicture, isBroken, type Job, type Picture, sameJob, type State, suggestions, type Turn } from "./state.js";

export interface TalkEvents extends ComposerEvents {
  suggest(question: string): void;
  again(job: Job): void;
}

export class Talk {
  private readonly section = byId("talk", HTMLElement);
  private readonly scroller = byId("words", HTMLElement);
  private readonly caption: AnswerView;
  private readonly turns: Keyed<Turn>;
  private readonly chips: Keyed<string>;
  private readonly composer: Composer;
  private state: State | null = null;
  private shown: number | null = null;
  private turnCount = 0;

  constructor(events: TalkEvents) {
    this.composer = new Composer(events);
    this.caption = new AnswerView({
      box: byId("caption", HTMLElement),
      words: byId("caption-text", HTMLElement),
      where: "picture",
      again: () => this.shown !== null && events.again({ picture: this.shown, turn: null }),
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
        const button = h("button", { type: "button", class: "chip", onclick: () => events.suggest(words) }, words);
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
    this.caption.update(picture.caption, this.doing(picture.caption, { picture: picture.id, turn: null }, "Looking…"));
    this.turns.render(picture.turns);
    this.chips.render(suggestions(state, picture));
    this.composer.render(picture.draft, state.running?.picture === picture.id, !isBroken(picture));
    this.follow(picture, other);
  }

  focus(): void {
    this.composer.focus();
  }

  private doing(answer: Answer, job: Job, active: string): string {
    if (answer.status === "streaming" || (this.state !== null && sameJob(this.state.running, job))) return active;
    if (this.state?.model.phase !== "ready") return "";
    return "In a moment…";
  }

  private turn(turn: Turn, events: TalkEvents) {
    const answer = h("p", { class: "answer" });
    const element = h("li", { class: "turn" }, h("p", { class: "question" }, turn.question), answer);
    const job = (): Job => ({ picture: this.shown ?? 0, turn: turn.id });
    const view = new AnswerView({ box: element, words: answer, where: "answer", again: () => events.again(job()) });
    const update = (now: Turn) => view.update(now, this.doing(now, job(), "Thinking…") || "Waits for the model");
    return { element, update };
  }

  // The newest words stay in sight, unless the visitor has scrolled away to read.
  private follow({ turns }: Picture, other: boolean): void {
    const added = turns.length > this.turnCount && !other;
    this.turnCount = turns.length;
    const { scrollTop, scrollHeight, clientHeight } = this.scroller;
    if (other || added || scrollHeight - scrollTop - clientHeight < 80) this.scroller.scrollTop = scrollHeight;
    // In one column it is the page that scrolls.
    const last = byId("turns", HTMLElement).lastElementChild;
    const streams = this.state?.running?.picture === this.shown && last?.getAttribute("data-status") === "streaming";
    const below = last === null ? 0 : last.getBoundingClientRect().bottom - window.innerHeight;
    if (added || (streams && Math.abs(below) < 100)) last?.scrollIntoView({ block: "nearest" });
  }
}
