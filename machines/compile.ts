/**
 * Compiles a flat XState machine to a transition table that genuine XState actors can host: one array look-up instead of
 * the interpreter's walk (measured 10–25× cheaper, `npm run bench -- decision`). The machine stays the only definition. Whatever this
 * file does not understand exactly, it refuses at start: nested, parallel, history and `always`, `after`, `invoke`,
 * built-in actions such as assign, output, and wildcard events. It reads fields of xstate's StateNode that are visible but not a
 * documented contract: xstate is pinned exactly and test/machines/differential.test.ts holds both forms against each other.
 */
import type { ActorLogic, AnyActorScope, AnyStateMachine, EventObject, Snapshot } from 'xstate';
import { createMachineFlow, type MachineFlow } from './flow.ts';

/** The snapshot of a compiled machine. One object per actor, changed in place: do not keep it, read it. */
export interface CompiledSnapshot<C> {
  status: 'active' | 'done' | 'error' | 'stopped';
  value: string;
  context: C;
  output: undefined;
  error: undefined;
}

/** Logic for createActor, with what tests and diagrams want to know. */
export interface CompiledLogic<I, C, E extends EventObject> extends ActorLogic<CompiledSnapshot<C> & Snapshot<undefined>, E, I> {
  readonly states: readonly string[];
  readonly events: readonly string[];
}

interface Args<C, E> {
  context: C;
  event: E;
}
type Action<C, E> = (args: Args<C, E>, params: unknown) => void;
type Guard<C, E> = (args: Args<C, E>, params: unknown) => boolean;

interface Branch<C, E> {
  readonly guard: Guard<C, E> | undefined;
  readonly guardParams: unknown;
  /** Index of the next state; -1: stays, without leaving or entering. */
  readonly target: number;
  readonly actions: readonly Action<C, E>[];
  readonly params: readonly unknown[];
  /** Its place in MachineFlow.taken. */
  readonly edge: number;
}

/** Compiles `machine`. Throws with the place when it finds what it does not support. Every transition is counted in `flow`. */
export function compileMachine<I, C extends object, E extends EventObject>(machine: AnyStateMachine, flow: MachineFlow = createMachineFlow(machine)): CompiledLogic<I, C, E> {
  const { counts, taken } = flow;
  let edges = 0;
  const where = `machine "${machine.id}"`;
  const refuse = (what: string): never => {
    throw new Error(`${where} cannot be compiled: ${what}`);
  };
  const root = machine.root;
  const names = Object.keys(root.states);
  if (names.length === 0) refuse('it has no states');
  if (root.type === 'parallel') refuse('it is parallel');
  if (root.invoke.length > 0 || root.after.length > 0 || (root.always?.length ?? 0) > 0) refuse('the root has invoke, after or always');
  if (root.transitions.size > 0) refuse('the root has transitions');
  if (root.entry.length > 0 || root.exit.length > 0) refuse('the root has entry or exit actions');
  if (root.output !== undefined) refuse('it has output');

  const action = (given: unknown, place: string): { run: Action<C, E>; params: unknown } => {
    const name = typeof given === 'string' ? given : (given as { type?: string }).type;
    const params = typeof given === 'object' && given !== null && 'params' in given ? given.params : undefined;
    if (typeof params === 'function') refuse(`${place} has dynamic params`);
    const found: unknown = typeof given === 'function' ? given : name === undefined ? undefined : machine.implementations.actions[name];
    if (typeof found !== 'function') return refuse(`${place}: action "${String(name)}" has no implementation`);
    // Built-in action creators (assign, raise, …) are functions that carry a resolve.
    if ('resolve' in found) return refuse(`${place}: built-in action "${String(name)}"`);
    return { run: found as Action<C, E>, params };
  };
  const guard = (given: unknown, place: string): { test: Guard<C, E> | undefined; params: unknown } => {
    if (given === undefined) return { test: undefined, params: undefined };
    const name = typeof given === 'string' ? given : (given as { type?: string }).type;
    const params = typeof given === 'object' && given !== null && 'params' in given ? given.params : undefined;
    if (typeof params === 'function') refuse(`${place} has dynamic params`);
    const found: unknown = typeof given === 'function' ? given : name === undefined ? undefined : machine.implementations.guards[name];
    if (typeof found !== 'function' || 'check' in found) return refuse(`${place}: guard "${String(name)}" is not a plain function`);
    return { test: found as Guard<C, E>, params };
  };

  const events = new Set<string>();
  for (const name of names) for (const type of root.states[name]?.transitions.keys() ?? []) events.add(type);
  const eventNames = [...events];
  const eventIndex = new Map(eventNames.map((type, i) => [type, i]));
  const width = eventNames.length;
  const table: (readonly Branch<C, E>[] | undefined)[] = new Array(names.length * width).fill(undefined);
  const final: boolean[] = [];

  const node = (name: string): (typeof root.states)[string] => root.states[name] ?? refuse(`state "${name}" is missing`);
  names.forEach((name, index) => {
    const state = node(name);
    const place = `state "${name}"`;
    if (state.type !== 'atomic' && state.type !== 'final') refuse(`${place} is ${state.type}`);
    if (state.invoke.length > 0) refuse(`${place} invokes`);
    if (state.after.length > 0) refuse(`${place} has after`);
    if ((state.always?.length ?? 0) > 0) refuse(`${place} has always`);
    if (state.output !== undefined) refuse(`${place} has output`);
    final.push(state.type === 'final');
    for (const [type, definitions] of state.transitions) {
      if (type === '' || type.includes('*')) refuse(`${place} has wildcard or empty event "${type}"`);
      const branches = definitions.map((definition): Branch<C, E> => {
        const at = `${place}, event ${type}`;
        const targets = definition.target ?? [];
        if (targets.length > 1) refuse(`${at} has several targets`);
        const target = targets[0];
        const next = target === undefined ? -1 : names.indexOf(target.key);
        if (target !== undefined && (next < 0 || target.parent !== root)) refuse(`${at} leads out of the machine`);
        // A state that is its own target is left and entered only with `reenter`.
        const leaves = target !== undefined && (target !== state || definition.reenter);
        const ran = [
          ...(leaves ? state.exit.map((entry) => action(entry, `${place}, exit`)) : []),
          ...definition.actions.map((entry) => action(entry, at)),
          ...(leaves ? node(target.key).entry.map((entry) => action(entry, `state "${target.key}", entry`)) : []),
        ];
        const tested = guard(definition.guard, at);
        return { guard: tested.test, guardParams: tested.params, target: next, actions: ran.map((entry) => entry.run), params: ran.map((entry) => entry.params), edge: edges++ };
      });
      table[index * width + (eventIndex.get(type) ?? 0)] = branches;
    }
  });

  const initialName = Object.keys(root.states).find((name) => root.initial.target[0]?.key === name) ?? refuse('the initial state is not a child of the root');
  if (root.initial.actions.length > 0) refuse('the initial transition has actions');
  const initial = names.indexOf(initialName);
  if (node(initialName).entry.length > 0) refuse(`the initial state "${initialName}" has entry actions`);
  const configured: unknown = machine.config.context;
  if (typeof configured !== 'function') refuse('its context is not made from its input');
  const contextOf = configured as (args: { input: I }) => C;
  const stateIndex = new Map(names.map((name, i) => [name, i]));
  const args: Args<C, E> = { context: undefined as unknown as C, event: undefined as unknown as E };

  type S = CompiledSnapshot<C> & Snapshot<undefined>;
  const fresh = (context: C, value: string): S =>
    ({ status: 'active', value, context, output: undefined, error: undefined }) as S;

  return {
    states: names,
    events: eventNames,
    transition(snapshot: S, event: E): S {
      const at = eventIndex.get(event.type);
      if (at === undefined) return snapshot;
      const from = stateIndex.get(snapshot.value) as number;
      const branches = table[from * width + at];
      if (branches === undefined || snapshot.status !== 'active') return snapshot;
      for (let b = 0; b < branches.length; b++) {
        const branch = branches[b] as Branch<C, E>;
        args.context = snapshot.context;
        args.event = event;
        if (branch.guard !== undefined && !branch.guard(args, branch.guardParams)) continue;
        taken[branch.edge] = (taken[branch.edge] as number) + 1;
        if (branch.target >= 0) {
          counts[from] = (counts[from] as number) - 1;
          counts[branch.target] = (counts[branch.target] as number) + 1;
          snapshot.value = names[branch.target] as string;
          if (final[branch.target] === true) (snapshot as CompiledSnapshot<C>).status = 'done';
        }
        for (let i = 0; i < branch.actions.length; i++) {
          // Set again for each: an action may make another actor of this logic move.
          args.context = snapshot.context;
          args.event = event;
          (branch.actions[i] as Action<C, E>)(args, branch.params[i]);
        }
        return snapshot;
      }
      return snapshot;
    },
    getInitialSnapshot: (_scope: AnyActorScope, input: I): S => fresh(contextOf({ input }), names[initial] as string),
    getPersistedSnapshot: (snapshot: S) => snapshot,
  };
}
