/**
 * The life of an invocation: arriving → classified → delaying → dispatched → completed | failed | cancelled | timedOut.
 * The one definition. At start it is compiled to a table (machines/compile.ts); this interpreted form stays selectable
 * and is the oracle of the differential test. Wiring only: guards and actions are functions of src/core/invocation.ts.
 */
import { setup } from 'xstate';
import {
  CANCELLED, CLASSIFIED, COMPLETED, DELAYING, DISPATCHED, FAILED, TIMED_OUT,
  assignNode, assignTarget, endedByCancel, endedByTime, enterState, keepOutcome, mayRunAgain, namesNode, noteCancelWish, noteStarted, releaseNode, succeeded, waitForCapacity,
  type Invocation, type InvocationEvent,
} from '../src/core/invocation.ts';

/** One level of indirection, because xstate copies what it is given as context, and the record must stay one. */
export interface InvocationContext {
  readonly invocation: Invocation;
}

export const invocationMachine = setup({
  types: {
    context: {} as InvocationContext,
    events: {} as InvocationEvent,
    input: {} as Invocation,
  },
  guards: {
    namesNode: ({ context: { invocation }, event }) => namesNode(invocation, event),
    succeeded: ({ context: { invocation }, event }) => succeeded(invocation, event),
    endedByCancel: ({ context: { invocation }, event }) => endedByCancel(invocation, event),
    endedByTime: ({ context: { invocation }, event }) => endedByTime(invocation, event),
    mayRunAgain: ({ context: { invocation }, event }) => mayRunAgain(invocation, event),
  },
  actions: {
    enterClassified: ({ context: { invocation }, event }) => enterState(invocation, CLASSIFIED, event),
    enterDelaying: ({ context: { invocation }, event }) => enterState(invocation, DELAYING, event),
    enterDispatched: ({ context: { invocation }, event }) => enterState(invocation, DISPATCHED, event),
    enterCompleted: ({ context: { invocation }, event }) => enterState(invocation, COMPLETED, event),
    enterFailed: ({ context: { invocation }, event }) => enterState(invocation, FAILED, event),
    enterCancelled: ({ context: { invocation }, event }) => enterState(invocation, CANCELLED, event),
    enterTimedOut: ({ context: { invocation }, event }) => enterState(invocation, TIMED_OUT, event),
    assignNode: ({ context: { invocation }, event }) => assignNode(invocation, event),
    assignTarget: ({ context: { invocation }, event }) => assignTarget(invocation, event),
    waitForCapacity: ({ context: { invocation }, event }) => waitForCapacity(invocation, event),
    releaseNode: ({ context: { invocation }, event }) => releaseNode(invocation, event),
    noteStarted: ({ context: { invocation }, event }) => noteStarted(invocation, event),
    noteCancelWish: ({ context: { invocation }, event }) => noteCancelWish(invocation, event),
    keepOutcome: ({ context: { invocation }, event }) => keepOutcome(invocation, event),
  },
}).createMachine({
  id: 'invocation',
  context: ({ input }) => ({ invocation: input }),
  initial: 'arriving',
  states: {
    arriving: {
      description: 'Accepted; its execution times are being predicted.',
      on: {
        PREDICTED: { target: 'classified' },
        CANCEL: { target: 'cancelled', actions: 'keepOutcome' },
        EXPIRE: { target: 'timedOut', actions: 'keepOutcome' },
        FAIL: { target: 'failed', actions: 'keepOutcome' },
      },
    },
    classified: {
      description: 'Every node is local, fallback or neither; the policy decides now.',
      entry: 'enterClassified',
      on: {
        DISPATCH: { target: 'dispatched', guard: 'namesNode', actions: 'assignNode' },
        DELAY: { target: 'delaying', actions: 'assignTarget' },
        CANCEL: { target: 'cancelled', actions: 'keepOutcome' },
        EXPIRE: { target: 'timedOut', actions: 'keepOutcome' },
        FAIL: { target: 'failed', actions: 'keepOutcome' },
      },
    },
    delaying: {
      description: 'Waiting for a better node (locality) or for any room (capacity), never past its slack.',
      entry: 'enterDelaying',
      on: {
        NODE_RELEASED: { target: 'dispatched', guard: 'namesNode', actions: 'assignNode' },
        SLACK_EXHAUSTED: [
          { target: 'dispatched', guard: 'namesNode', actions: 'assignNode' },
          { actions: 'waitForCapacity' },
        ],
        TARGET_LOST: { target: 'classified' },
        CLASSIFY: { target: 'classified' },
        CANCEL: { target: 'cancelled', actions: 'keepOutcome' },
        EXPIRE: { target: 'timedOut', actions: 'keepOutcome' },
        FAIL: { target: 'failed', actions: 'keepOutcome' },
      },
    },
    dispatched: {
      description: 'Sent to a node: fetching, initialising or running there.',
      entry: 'enterDispatched',
      on: {
        STARTED: { actions: 'noteStarted' },
        RESULT: [
          { target: 'completed', guard: 'succeeded', actions: 'keepOutcome' },
          { target: 'cancelled', guard: 'endedByCancel', actions: 'keepOutcome' },
          { target: 'timedOut', guard: 'endedByTime', actions: 'keepOutcome' },
          { target: 'classified', guard: 'mayRunAgain', actions: 'releaseNode' },
          { target: 'failed', actions: 'keepOutcome' },
        ],
        REJECTED: [
          { target: 'classified', guard: 'mayRunAgain', actions: 'releaseNode' },
          { target: 'cancelled', guard: 'endedByCancel', actions: 'keepOutcome' },
          { target: 'timedOut', guard: 'endedByTime', actions: 'keepOutcome' },
          { target: 'failed', actions: 'keepOutcome' },
        ],
        NODE_LOST: [
          { target: 'classified', guard: 'mayRunAgain', actions: 'releaseNode' },
          { target: 'cancelled', guard: 'endedByCancel', actions: 'keepOutcome' },
          { target: 'timedOut', guard: 'endedByTime', actions: 'keepOutcome' },
          { target: 'failed', actions: 'keepOutcome' },
        ],
        CANCEL: { actions: 'noteCancelWish' },
        EXPIRE: { actions: 'noteCancelWish' },
      },
    },
    completed: { description: 'Ended with a result.', entry: 'enterCompleted', type: 'final' },
    failed: { description: 'Ended with an error.', entry: 'enterFailed', type: 'final' },
    cancelled: { description: 'Ended because somebody cancelled it.', entry: 'enterCancelled', type: 'final' },
    timedOut: { description: 'Ended because its time was up.', entry: 'enterTimedOut', type: 'final' },
  },
});
