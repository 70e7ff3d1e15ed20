/** A page for tests: its state follows what is dispatched, and there is nothing to be seen. */

import { type Action, reduce, START, type State } from "./state.js";

export function fakePage() {
  let state: State = START;
  return {
    get state(): State {
      return state;
    },
    dispatch: (action: Action): void => {
      state = reduce(state, action);
    },
    announce: (): void => {},
  };
}
