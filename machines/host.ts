/**
 * Hosts machines as genuine XState actors: compiled ("table", the default) or interpreted ("xstate"). All actors of one
 * host share one silent parent, which halves their cost and keeps them in one actor system.
 */
import { createActor, fromTransition, type ActorRefFrom, type AnyActorLogic, type AnyStateMachine, type EventObject, type InspectionEvent } from 'xstate';
import { compileMachine } from './compile.ts';
import { createMachineFlow, edgesOf, type MachineFlow } from './flow.ts';

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
  /** How many of its machines are where, and what they did. */
  readonly flow: MachineFlow;
  start(input: I): HostedMachine<E>;
}

/** A host for `machine` on `engine`. Compiling happens here, once; it throws on what cannot be compiled. */
export function createMachineHost<I, E extends EventObject>(machine: AnyStateMachine, engine: Engine): MachineHost<I, E> {
  const flow = createMachineFlow(machine);
  // It hears of every end and must not think about it: an interpreted machine here would cost more than the children. But a
  // child that threw in a guard or action broke an invariant: thrown on, it becomes an uncaught exception.
  const parent = createActor(fromTransition((state: undefined, event: EventObject & { readonly error?: unknown }) => {
    if (event.error !== undefined) throw event.error;
    return state;
  }, undefined), engine === 'table' ? {} : { inspect: countMicrosteps(machine, flow) });
  parent.start();
  const logic: AnyActorLogic = engine === 'table' ? compileMachine<I, object, E>(machine, flow) : machine;
  const initial = Object.keys(machine.root.states).indexOf(machine.root.initial.target[0]?.key ?? '');
  return {
    engine,
    flow,
    start(input) {
      flow.counts[initial] = (flow.counts[initial] ?? 0) + 1;
      const actor = createActor(logic, { input, parent } as never) as ActorRefFrom<AnyActorLogic>;
      actor.start();
      return actor as unknown as HostedMachine<E>;
    },
  };
}

/** What the compiled machine counts by itself, of an interpreted one: it tells of every microstep. */
function countMicrosteps(machine: AnyStateMachine, { counts, taken }: MachineFlow): (event: InspectionEvent) => void {
  const edges = edgesOf(machine);
  const numbers = new Map(edges.map(({ definition }, number) => [definition, number]));
  return (event) => {
    if (event.type !== '@xstate.microstep') return;
    for (const transition of event._transitions) {
      const number = numbers.get(transition);
      const edge = number === undefined ? undefined : edges[number];
      if (number === undefined || edge === undefined) continue; // the first step, into the initial state
      taken[number] = (taken[number] ?? 0) + 1;
      if (edge.to < 0) continue;
      counts[edge.from] = (counts[edge.from] ?? 0) - 1;
      counts[edge.to] = (counts[edge.to] ?? 0) + 1;
    }
  };
}
