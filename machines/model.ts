/**
 * The life of the prediction model: cold → bootstrapping → serving ⇄ updating, with degraded beside them. In every state somebody
 * answers: the forest in serving and updating, the moving averages otherwise. Wiring only: the predictor is told by `entered`.
 */
import { setup } from 'xstate';

/** The states of the model. */
export type ModelStateName = 'cold' | 'bootstrapping' | 'serving' | 'updating' | 'degraded';

/** Whom the machine tells. */
export interface ModelContext {
  /** Called on every state that is entered (not on the first, `cold`, at the start), with the event that led there. */
  readonly entered: (state: ModelStateName, event: ModelEvent) => void;
}

/** Facts about the model. */
export type ModelEvent =
  /** There are enough observations for the first forest. */
  | { readonly type: 'HISTORY_SUFFICED' }
  /** A stored model was read and is valid. */
  | { readonly type: 'SNAPSHOT_RESTORED'; readonly version: number }
  /** So many new observations came in that trees are to be replaced. */
  | { readonly type: 'UPDATE_DUE' }
  /** The residuals of a function or of a node shifted. */
  | { readonly type: 'DRIFT_DETECTED' }
  /** A new version can be read. */
  | { readonly type: 'VERSION_PUBLISHED'; readonly version: number }
  /** A training ended without a version. */
  | { readonly type: 'TRAINING_FAILED'; readonly message: string }
  /** A thread of the pool died and is not back yet. */
  | { readonly type: 'POOL_LOST' }
  /** Predictions came too late to be used. */
  | { readonly type: 'PREDICTIONS_LATE' }
  /** The pool answers in time again. */
  | { readonly type: 'POOL_RECOVERED' }
  /** An operator threw the model away. */
  | { readonly type: 'RESET' };

export const modelMachine = setup({
  types: { context: {} as ModelContext, events: {} as ModelEvent, input: {} as ModelContext },
  actions: {
    enterCold: ({ context, event }) => context.entered('cold', event),
    enterBootstrapping: ({ context, event }) => context.entered('bootstrapping', event),
    enterServing: ({ context, event }) => context.entered('serving', event),
    enterUpdating: ({ context, event }) => context.entered('updating', event),
    enterDegraded: ({ context, event }) => context.entered('degraded', event),
  },
}).createMachine({
  id: 'model',
  context: ({ input }) => input,
  initial: 'cold',
  states: {
    cold: {
      description: 'No forest that can be asked yet: moving averages answer.',
      on: { SNAPSHOT_RESTORED: { target: 'serving' }, HISTORY_SUFFICED: { target: 'bootstrapping' } },
    },
    bootstrapping: {
      description: 'The first forest is being trained, or its readers start: moving averages answer.',
      entry: 'enterBootstrapping',
      on: {
        VERSION_PUBLISHED: { target: 'serving' },
        TRAINING_FAILED: { target: 'cold', actions: 'enterCold' },
        POOL_LOST: { target: 'cold', actions: 'enterCold' },
        RESET: { target: 'cold', actions: 'enterCold' },
      },
    },
    serving: {
      description: 'The forest answers.',
      entry: 'enterServing',
      on: {
        UPDATE_DUE: { target: 'updating' },
        DRIFT_DETECTED: { target: 'updating' },
        POOL_LOST: { target: 'degraded' },
        PREDICTIONS_LATE: { target: 'degraded' },
        RESET: { target: 'cold', actions: 'enterCold' },
      },
    },
    updating: {
      description: 'The forest answers; its next version is being trained.',
      entry: 'enterUpdating',
      on: {
        VERSION_PUBLISHED: { target: 'serving' },
        TRAINING_FAILED: { target: 'serving' },
        POOL_LOST: { target: 'degraded' },
        PREDICTIONS_LATE: { target: 'degraded' },
        RESET: { target: 'cold', actions: 'enterCold' },
      },
    },
    degraded: {
      description: 'There is a forest, but it cannot be asked in time: moving averages answer.',
      entry: 'enterDegraded',
      on: { POOL_RECOVERED: { target: 'serving' }, RESET: { target: 'cold', actions: 'enterCold' } },
    },
  },
});
