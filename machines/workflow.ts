/**
 * The life of a workflow run: running → completed | failed, or by way of cancelling and expiring to cancelled and timedOut.
 * Wiring only: which calls are made is src/workflow/run.ts, when to send which event is the daemon's.
 */
import { setup } from 'xstate';

/** Whom to tell that the run ended, with the name of the final state. */
export interface WorkflowContext {
  readonly ended: (state: 'completed' | 'failed' | 'cancelled' | 'timedOut') => void;
}

/** Facts about a run. */
export type WorkflowEvent =
  | { readonly type: 'STEPS_COMPLETED' }
  | { readonly type: 'STEP_FAILED' }
  | { readonly type: 'CANCEL_REQUESTED' }
  | { readonly type: 'DEADLINE_PASSED' }
  | { readonly type: 'CALLS_ENDED' };

export const workflowMachine = setup({
  types: { context: {} as WorkflowContext, events: {} as WorkflowEvent, input: {} as WorkflowContext },
  actions: {
    enterCompleted: ({ context }) => context.ended('completed'),
    enterFailed: ({ context }) => context.ended('failed'),
    enterCancelled: ({ context }) => context.ended('cancelled'),
    enterTimedOut: ({ context }) => context.ended('timedOut'),
  },
}).createMachine({
  id: 'workflow',
  context: ({ input }) => input,
  initial: 'running',
  states: {
    running: {
      description: 'Steps are called as their predecessors end.',
      on: {
        STEPS_COMPLETED: { target: 'completed' },
        STEP_FAILED: { target: 'failed' },
        CANCEL_REQUESTED: { target: 'cancelling' },
        DEADLINE_PASSED: { target: 'expiring' },
      },
    },
    cancelling: {
      description: 'Somebody cancelled the run; the calls under way are being stopped.',
      on: { CALLS_ENDED: { target: 'cancelled' }, STEP_FAILED: { target: 'cancelled' }, STEPS_COMPLETED: { target: 'completed' } },
    },
    expiring: {
      description: 'The time of the run is up; the calls under way are being stopped.',
      on: { CALLS_ENDED: { target: 'timedOut' }, STEP_FAILED: { target: 'timedOut' }, STEPS_COMPLETED: { target: 'completed' } },
    },
    completed: { description: 'All steps ended with a result.', entry: 'enterCompleted', type: 'final' },
    failed: { description: 'A step failed.', entry: 'enterFailed', type: 'final' },
    cancelled: { description: 'Somebody cancelled it.', entry: 'enterCancelled', type: 'final' },
    timedOut: { description: 'Its time was up.', entry: 'enterTimedOut', type: 'final' },
  },
});
