/** What the parity page and its worker say to each other. Types only. */

export type DeviceKind = "cpu" | "webgpu";

export interface Task {
  readonly device: DeviceKind;
  /** Runs the checks of src/ops; otherwise the cases of a fixture folder. */
  readonly checks: boolean;
  /** Address of the converted model folder; empty where the fixture has no model. */
  readonly model: string;
  readonly fixture: string;
}

export interface Outcome {
  readonly adapter: string;
  readonly dispatches: number;
  /** Why the task ended before its end; null where it did not. A case that fails is no such reason. */
  readonly error: string | null;
}

export type Message = { readonly kind: "line"; readonly line: string } | { readonly kind: "end"; readonly outcome: Outcome };
