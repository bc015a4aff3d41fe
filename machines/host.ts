/**
 * Hosts machines as genuine XState actors: compiled ("table", the default) or interpreted ("xstate"). All actors of one
 * host share one silent parent, which halves their cost and keeps them in one actor system.
 */
import { createActor, fromTransition, type ActorRefFrom, type AnyActorLogic, type AnyStateMachine, type EventObject } from 'xstate';
import { compileMachine } from './compile.ts';

/** Which form of the machine runs. */
export type Engine = 'table' | 'xstate';

/** A running machine. It ends by reaching a final state; xstate lets nobody but the parent stop it before. */
export interface HostedMachine<E extends EventObject> {
  send(event: E): void;
  getSnapshot(): { readonly value: unknown; readonly status: string };
}

/** Starts machines of one kind. */
export interface MachineHost<I, E extends EventObject> {
  readonly engine: Engine;
  start(input: I): HostedMachine<E>;
}

/** A host for `machine` on `engine`. Compiling happens here, once; it throws on what cannot be compiled. */
export function createMachineHost<I, E extends EventObject>(machine: AnyStateMachine, engine: Engine): MachineHost<I, E> {
  // It hears of every end and must not think about it: an interpreted machine here would cost more than the children. But a
  // child that threw in a guard or action broke an invariant: thrown on, it becomes an uncaught exception.
  const parent = createActor(fromTransition((state: undefined, event: EventObject & { readonly error?: unknown }) => {
    if (event.error !== undefined) throw event.error;
    return state;
  }, undefined));
  parent.start();
  const logic: AnyActorLogic = engine === 'table' ? compileMachine<I, object, E>(machine) : machine;
  return {
    engine,
    start(input) {
      const actor = createActor(logic, { input, parent } as never) as ActorRefFrom<AnyActorLogic>;
      actor.start();
      return actor as unknown as HostedMachine<E>;
    },
  };
}
