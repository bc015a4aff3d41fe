/**
 * The life of a sandbox on a node: starting → idle ⇄ busy → stopping → gone. Its process may end in any state; that is the crash
 * edge to `gone`. Wiring only: what follows from a change (slots, warmth, errors) is the agent's, which is told by `entered`.
 */
import { setup } from 'xstate';

/** The states of a sandbox. */
export type SandboxStateName = 'starting' | 'idle' | 'busy' | 'stopping' | 'gone';

/** Why a sandbox is ended on purpose. */
export type SandboxStopCause = 'keepAliveExpired' | 'evicted' | 'draining' | 'cancelled' | 'timedOut' | 'memoryExceeded' | 'startFailed' | 'protocolBroke';

/** Whom the machine tells. */
export interface SandboxContext {
  /** Called on every state but the first, with the event that led there. */
  readonly entered: (state: SandboxStateName, event: SandboxEvent) => void;
}

/** Facts about a sandbox. */
export type SandboxEvent =
  /** Its process said that the function is loaded. */
  | { readonly type: 'READY' }
  /** An invocation was handed to it. */
  | { readonly type: 'INVOKED' }
  /** The handler returned or threw. `reusable`: it may serve another one. */
  | { readonly type: 'RETURNED'; readonly reusable: boolean }
  /** The agent began to end it. */
  | { readonly type: 'STOPPED'; readonly cause: SandboxStopCause }
  /** Its process ended, wanted or not. */
  | { readonly type: 'EXITED'; readonly exitCode: number | undefined; readonly signal: string };

export const sandboxMachine = setup({
  types: { context: {} as SandboxContext, events: {} as SandboxEvent, input: {} as SandboxContext },
  guards: {
    isReusable: ({ event }) => event.type === 'RETURNED' && event.reusable,
  },
  actions: {
    enterIdle: ({ context, event }) => context.entered('idle', event),
    enterBusy: ({ context, event }) => context.entered('busy', event),
    enterStopping: ({ context, event }) => context.entered('stopping', event),
    enterGone: ({ context, event }) => context.entered('gone', event),
  },
}).createMachine({
  id: 'sandbox',
  context: ({ input }) => input,
  initial: 'starting',
  states: {
    starting: {
      description: 'Its process starts, or is handed over by a zygote; the function is being loaded.',
      on: { READY: { target: 'idle' }, STOPPED: { target: 'stopping' }, EXITED: { target: 'gone' } },
    },
    idle: {
      description: 'Warm: the function is loaded and nothing runs.',
      entry: 'enterIdle',
      on: { INVOKED: { target: 'busy' }, STOPPED: { target: 'stopping' }, EXITED: { target: 'gone' } },
    },
    busy: {
      description: 'Runs one invocation.',
      entry: 'enterBusy',
      on: {
        RETURNED: [{ target: 'idle', guard: 'isReusable' }, { target: 'stopping' }],
        STOPPED: { target: 'stopping' },
        EXITED: { target: 'gone' },
      },
    },
    stopping: {
      description: 'Told to end, killed if it does not; gets nothing more.',
      entry: 'enterStopping',
      on: { EXITED: { target: 'gone' } },
    },
    gone: { description: 'Its process has ended and its files are removed.', entry: 'enterGone', type: 'final' },
  },
});
