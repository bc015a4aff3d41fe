/**
 * The life of a workflow run: running → completed, or by way of cancelling → failed | cancelled | timedOut. Which calls are made and
 * what they get is src/workflow/run.ts. Wiring only: the runner is told by `entered` and cancels the calls when it hears `cancelling`.
 */
import { setup } from 'xstate';
import type { ErrorRecord } from '../src/core/errors.ts';

/** The states of a workflow run. */
export type WorkflowStateName = 'running' | 'cancelling' | 'completed' | 'failed' | 'cancelled' | 'timedOut';

/** What the machine remembers of a run, and whom it tells. One object per run, changed in place. */
export interface WorkflowLife {
  /** Why it is being cancelled; the first cause counts. '': it is not. */
  cause: '' | 'failed' | 'cancelled' | 'timedOut';
  /** Called on every state but the first, with the event that led there. */
  readonly entered: (state: WorkflowStateName, event: WorkflowEvent) => void;
}

/** One level of indirection, because xstate copies what it is given as context. */
export interface WorkflowContext {
  readonly life: WorkflowLife;
}

/** Facts about a workflow run. */
export type WorkflowEvent =
  /** Every step has its results. */
  | { readonly type: 'STEPS_COMPLETED' }
  /** A step failed for good, or its input could not be made. */
  | { readonly type: 'STEP_FAILED'; readonly error: ErrorRecord }
  /** The caller cancelled the run or went away. */
  | { readonly type: 'CANCEL' }
  /** The run's hard limit passed. */
  | { readonly type: 'EXPIRE' }
  /** No call of the run is under way any more. */
  | { readonly type: 'CALLS_ENDED' };

export const workflowMachine = setup({
  types: { context: {} as WorkflowContext, events: {} as WorkflowEvent, input: {} as WorkflowLife },
  guards: {
    hadFailed: ({ context }) => context.life.cause === 'failed',
    wasCancelled: ({ context }) => context.life.cause === 'cancelled',
  },
  actions: {
    noteFailure: ({ context }) => void (context.life.cause = 'failed'),
    noteCancel: ({ context }) => void (context.life.cause = 'cancelled'),
    noteExpiry: ({ context }) => void (context.life.cause = 'timedOut'),
    enterCancelling: ({ context, event }) => context.life.entered('cancelling', event),
    enterCompleted: ({ context, event }) => context.life.entered('completed', event),
    enterFailed: ({ context, event }) => context.life.entered('failed', event),
    enterCancelled: ({ context, event }) => context.life.entered('cancelled', event),
    enterTimedOut: ({ context, event }) => context.life.entered('timedOut', event),
  },
}).createMachine({
  id: 'workflow',
  context: ({ input }) => ({ life: input }),
  initial: 'running',
  states: {
    running: {
      description: 'Steps run as their predecessors complete.',
      on: {
        STEPS_COMPLETED: { target: 'completed' },
        STEP_FAILED: { target: 'cancelling', actions: 'noteFailure' },
        CANCEL: { target: 'cancelling', actions: 'noteCancel' },
        EXPIRE: { target: 'cancelling', actions: 'noteExpiry' },
      },
    },
    cancelling: {
      description: 'It cannot complete any more; the calls that are under way are being cancelled.',
      entry: 'enterCancelling',
      on: {
        CALLS_ENDED: [
          { target: 'failed', guard: 'hadFailed' },
          { target: 'cancelled', guard: 'wasCancelled' },
          { target: 'timedOut' },
        ],
      },
    },
    completed: { description: 'Ended with the result of its last steps.', entry: 'enterCompleted', type: 'final' },
    failed: { description: 'Ended because a step failed for good.', entry: 'enterFailed', type: 'final' },
    cancelled: { description: 'Ended because somebody cancelled it.', entry: 'enterCancelled', type: 'final' },
    timedOut: { description: 'Ended because its hard limit passed.', entry: 'enterTimedOut', type: 'final' },
  },
});
