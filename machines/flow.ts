/**
 * How many machines of one kind are in each state, and how often each edge was taken: three numbers per transition, written by the
 * machines themselves, so that nobody has to be told. States and edges stand in the order of the machine's definition.
 */
import type { AnyStateMachine } from 'xstate';

/** The counts of one kind of machine. Only the host of the machines writes. */
export interface MachineFlow {
  /** By state: how many are in it now; of a final state, how many ended there. */
  readonly counts: Int32Array;
  /** By edge: how often it was taken since the start. */
  readonly taken: Float64Array;
}

/** One way out of a state, as the definition has it. */
export interface DefinedEdge {
  readonly from: number;
  /** −1: stays. */
  readonly to: number;
  /** The object of the definition that it comes from: what an interpreted machine says it took. */
  readonly definition: object;
}

/** All edges of a flat machine: state by state, event by event, in the order in which they are tried. */
export function edgesOf(machine: AnyStateMachine): DefinedEdge[] {
  const names = Object.keys(machine.root.states);
  const edges: DefinedEdge[] = [];
  names.forEach((name, from) => {
    for (const definitions of machine.root.states[name]?.transitions.values() ?? []) {
      for (const definition of definitions) edges.push({ from, to: names.indexOf(definition.target?.[0]?.key ?? ''), definition });
    }
  });
  return edges;
}

/** Counts for a machine that start at nothing. */
export function createMachineFlow(machine: AnyStateMachine): MachineFlow {
  return { counts: new Int32Array(Object.keys(machine.root.states).length), taken: new Float64Array(edgesOf(machine).length) };
}
