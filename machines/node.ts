/**
 * The life of a node: joining → ready ⇄ stale, draining, lost. Only a ready node gets work. Wiring only: what follows from
 * a change (waking, retrying) is the scheduler's, which is told by `entered`.
 */
import { setup } from 'xstate';
import { DRAINING, JOINING, LOST, READY, STALE } from '../src/scheduler/cluster-view.ts';

/** What the machine knows: which node, whom to tell, and whom to ask. */
export interface NodeContext {
  readonly node: number;
  readonly entered: (node: number, status: number) => void;
  /** Its streams stand and its last state is fresh. */
  readonly isHeard: (node: number) => boolean;
}

/** Facts about a node. */
export type NodeEvent =
  | { readonly type: 'STATE_ARRIVED' }
  | { readonly type: 'SILENT' }
  | { readonly type: 'CONNECTION_LOST' }
  | { readonly type: 'SILENT_TOO_LONG' }
  | { readonly type: 'REGISTERED' }
  | { readonly type: 'DRAIN' }
  | { readonly type: 'RESTORE' };

export const nodeMachine = setup({
  types: { context: {} as NodeContext, events: {} as NodeEvent, input: {} as NodeContext },
  guards: {
    isHeard: ({ context }) => context.isHeard(context.node),
  },
  actions: {
    enterJoining: ({ context }) => context.entered(context.node, JOINING),
    enterReady: ({ context }) => context.entered(context.node, READY),
    enterStale: ({ context }) => context.entered(context.node, STALE),
    enterDraining: ({ context }) => context.entered(context.node, DRAINING),
    enterLost: ({ context }) => context.entered(context.node, LOST),
  },
}).createMachine({
  id: 'node',
  context: ({ input }) => input,
  initial: 'announced',
  states: {
    announced: {
      description: 'An agent registered under this name; its streams are being opened.',
      on: { REGISTERED: { target: 'joining' }, STATE_ARRIVED: { target: 'ready' }, SILENT_TOO_LONG: { target: 'lost' } },
    },
    joining: {
      description: 'The streams are being opened; no state is there yet.',
      entry: 'enterJoining',
      on: { STATE_ARRIVED: { target: 'ready' }, SILENT_TOO_LONG: { target: 'lost' }, DRAIN: { target: 'draining' } },
    },
    ready: {
      description: 'Gets work.',
      entry: 'enterReady',
      on: { SILENT: { target: 'stale' }, CONNECTION_LOST: { target: 'stale' }, DRAIN: { target: 'draining' }, SILENT_TOO_LONG: { target: 'lost' } },
    },
    stale: {
      description: 'Silent for three intervals or disconnected: no new work, what runs there may still end.',
      entry: 'enterStale',
      on: { STATE_ARRIVED: { target: 'ready' }, SILENT_TOO_LONG: { target: 'lost' }, REGISTERED: { target: 'joining' }, DRAIN: { target: 'draining' } },
    },
    draining: {
      description: 'An operator drains it: no new work, what runs there ends normally.',
      entry: 'enterDraining',
      on: { RESTORE: [{ target: 'ready', guard: 'isHeard' }, { target: 'stale' }], SILENT_TOO_LONG: { target: 'lost' } },
    },
    lost: {
      description: 'Gone. Its work was retried where that is allowed.',
      entry: 'enterLost',
      on: { REGISTERED: { target: 'joining' }, STATE_ARRIVED: { target: 'ready' } },
    },
  },
});
