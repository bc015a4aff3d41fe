import { and, assign, createActor, enqueueActions, raise, setup, type AnyActorLogic, type AnyStateMachine } from 'xstate';
import { describe, expect, it } from 'vitest';
import { compileMachine, type CompiledLogic } from '../../machines/compile.ts';

interface Context {
  readonly calls: string[];
}
type Event = { readonly type: 'GO' } | { readonly type: 'STAY' } | { readonly type: 'AGAIN' } | { readonly type: 'REENTER' } | { readonly type: 'WITH'; readonly amount: number };

const kit = setup({
  types: { context: {} as Context, events: {} as Event, input: {} as Context },
  actions: { note: ({ context }, params: { what: string }) => void context.calls.push(params.what), bump: assign({ calls: ({ context }) => context.calls }) },
  guards: { isLarge: ({ event }, params: { limit: number }) => event.type === 'WITH' && event.amount > params.limit },
});
const context = ({ input }: { input: Context }): Context => ({ calls: input.calls });

const refuses = (machine: unknown): string => {
  try {
    compileMachine(machine as AnyStateMachine); // each test makes a machine of another type
  } catch (error) {
    return (error as Error).message;
  }
  return 'nothing was refused';
};

/** Sends the events to both forms and gives back what each called and where it ended. */
function run(given: unknown, events: readonly Event[]): { table: string[]; xstate: string[] } {
  const machine = given as AnyStateMachine; // each test makes a machine of another type
  const follow = (logic: AnyActorLogic): string[] => {
    const calls: string[] = [];
    const actor = createActor(logic, { input: { calls } } as never);
    actor.start();
    for (const event of events) actor.send(event);
    calls.push(`in ${String((actor.getSnapshot() as { value?: unknown }).value)}`);
    return calls;
  };
  return { table: follow(compileMachine(machine) as AnyActorLogic), xstate: follow(machine) };
}

describe('compileMachine refuses', () => {
  it('nested states', () => {
    const machine = kit.createMachine({ id: 'm', context, initial: 'a', states: { a: {}, b: { initial: 'c', states: { c: {} } } } });
    expect(refuses(machine)).toBe('machine "m" cannot be compiled: state "b" is compound');
  });

  it('a parallel machine', () => {
    expect(refuses(kit.createMachine({ id: 'm', context, type: 'parallel', states: { a: {}, b: {} } }))).toBe('machine "m" cannot be compiled: it is parallel');
  });

  it('parallel states', () => {
    const machine = kit.createMachine({ id: 'm', context, initial: 'a', states: { a: {}, b: { type: 'parallel', states: { c: {}, d: {} } } } });
    expect(refuses(machine)).toContain('state "b" is parallel');
  });

  it('history states', () => {
    const machine = kit.createMachine({ id: 'm', context, initial: 'a', states: { a: {}, past: { type: 'history', target: 'a' } } });
    expect(refuses(machine)).toContain('state "past" is history');
  });

  it('always', () => {
    expect(refuses(kit.createMachine({ id: 'm', context, initial: 'a', states: { a: {}, b: { always: 'a' } } }))).toContain('state "b" has always');
  });

  it('after', () => {
    expect(refuses(kit.createMachine({ id: 'm', context, initial: 'a', states: { a: {}, b: { after: { 100: 'a' } } } }))).toContain('state "b" has after');
  });

  it('invoke', () => {
    const machine = setup({ types: { context: {} as Context, input: {} as Context } }).createMachine({ id: 'm', context, initial: 'a', states: { a: {}, b: { invoke: { src: 'worker' } } } } as never);
    expect(refuses(machine)).toContain('state "b" invokes');
  });

  it('assign, by name and in place', () => {
    expect(refuses(kit.createMachine({ id: 'm', context, initial: 'a', states: { a: { on: { GO: { target: 'a', actions: 'bump' } } } } }))).toContain('state "a", event GO: built-in action "bump"');
    expect(refuses(kit.createMachine({ id: 'm', context, initial: 'a', states: { a: {}, b: { exit: assign({}), on: { GO: 'a' } } } }))).toContain('state "b", exit: built-in action "xstate.assign"');
  });

  it('raise and enqueueActions', () => {
    expect(refuses(kit.createMachine({ id: 'm', context, initial: 'a', states: { a: { on: { GO: { actions: raise({ type: 'STAY' }) } } } } }))).toContain('state "a", event GO: built-in action "xstate.raise"');
    expect(refuses(kit.createMachine({ id: 'm', context, initial: 'a', states: { a: { on: { GO: { actions: enqueueActions(() => {}) } } } } }))).toContain('state "a", event GO: built-in action');
  });

  it('wildcard events', () => {
    expect(refuses(kit.createMachine({ id: 'm', context, initial: 'a', states: { a: { on: { '*': 'a' } } } }))).toContain('state "a" has wildcard or empty event "*"');
    expect(refuses(kit.createMachine({ id: 'm', context, initial: 'a', states: { a: { on: { 'node.*': 'a' } } } } as never))).toContain('wildcard or empty event "node.*"');
  });

  it('combined guards and unknown names', () => {
    expect(refuses(kit.createMachine({ id: 'm', context, initial: 'a', states: { a: { on: { GO: { target: 'a', guard: and([() => true]) } } } } }))).toContain('state "a", event GO: guard');
    expect(refuses(kit.createMachine({ id: 'm', context, initial: 'a', states: { a: { on: { GO: { actions: 'nobody' } } } } } as never))).toContain('state "a", event GO: action "nobody" has no implementation');
    expect(refuses(kit.createMachine({ id: 'm', context, initial: 'a', states: { a: { on: { GO: { guard: 'nobody', target: 'a' } } } } } as never))).toContain('state "a", event GO: guard "nobody" is not a plain function');
  });

  it('dynamic params', () => {
    const machine = kit.createMachine({ id: 'm', context, initial: 'a', states: { a: { on: { GO: { actions: { type: 'note', params: () => ({ what: 'x' }) } } } } } });
    expect(refuses(machine)).toContain('state "a", event GO has dynamic params');
  });

  it('what stands at the root: transitions, entry actions, output', () => {
    expect(refuses(kit.createMachine({ id: 'm', context, initial: 'a', on: { GO: '.a' }, states: { a: {} } }))).toContain('the root has transitions');
    expect(refuses(kit.createMachine({ id: 'm', context, initial: 'a', entry: () => {}, states: { a: {} } }))).toContain('the root has entry or exit actions');
    expect(refuses(kit.createMachine({ id: 'm', context, initial: 'a', states: { a: { type: 'final' } }, output: () => 1 }))).toContain('it has output');
  });

  it('entry actions of the first state, and a context that is not made from the input', () => {
    expect(refuses(kit.createMachine({ id: 'm', context, initial: 'a', states: { a: { entry: () => {} } } }))).toContain('the initial state "a" has entry actions');
    expect(refuses(setup({}).createMachine({ id: 'm', context: {}, initial: 'a', states: { a: {} } }))).toContain('its context is not made from its input');
  });
});

describe('a compiled machine', () => {
  it('knows its states and events by name', () => {
    const logic: CompiledLogic<Context, Context, Event> = compileMachine(kit.createMachine({ id: 'm', context, initial: 'a', states: { a: { on: { GO: 'b' } }, b: { on: { STAY: {} } } } }));
    expect(logic.states).toEqual(['a', 'b']);
    expect(logic.events).toEqual(['GO', 'STAY']);
  });

  it('leaves and enters a state that is its own target only with reenter, as xstate does', () => {
    const note = (what: string) => ({ type: 'note', params: { what } }) as const;
    const machine = kit.createMachine({
      id: 'm', context, initial: 'start',
      states: {
        start: { on: { GO: 'a' } },
        a: { entry: note('enter'), exit: note('exit'), on: { AGAIN: { target: 'a', actions: note('again') }, REENTER: { target: 'a', reenter: true, actions: note('reenter') }, STAY: { actions: note('stay') }, GO: 'b' } },
        b: {},
      },
    });
    const { table, xstate } = run(machine, [{ type: 'GO' }, { type: 'AGAIN' }, { type: 'STAY' }, { type: 'REENTER' }, { type: 'GO' }]);
    expect(table).toEqual(xstate);
    expect(table).toEqual(['enter', 'again', 'stay', 'exit', 'reenter', 'enter', 'exit', 'in b']);
  });

  it('takes the first branch whose guard holds, with static params, and ignores events it does not know', () => {
    const machine = kit.createMachine({
      id: 'm', context, initial: 'a',
      states: { a: { on: { WITH: [{ target: 'large', guard: { type: 'isLarge', params: { limit: 10 } } }, { target: 'middle', guard: { type: 'isLarge', params: { limit: 5 } } }] } }, middle: {}, large: {} },
    });
    for (const [amount, end] of [[20, 'in large'], [7, 'in middle'], [1, 'in a']] as const) {
      const { table, xstate } = run(machine, [{ type: 'GO' }, { type: 'WITH', amount }]);
      expect(table).toEqual(xstate);
      expect(table).toEqual([end]);
    }
  });

  it('takes nothing more once it has ended', () => {
    const machine = kit.createMachine({ id: 'm', context, initial: 'a', states: { a: { on: { GO: 'end' } }, end: { type: 'final', entry: { type: 'note', params: { what: 'ended' } } } } });
    const logic = compileMachine<Context, Context, Event>(machine);
    const calls: string[] = [];
    const snapshot = logic.getInitialSnapshot(undefined as never, { calls });
    const end = logic.transition(snapshot, { type: 'GO' }, undefined as never);
    expect(end.status).toBe('done');
    expect(logic.transition(end, { type: 'GO' }, undefined as never).value).toBe('end');
    expect(calls).toEqual(['ended']);
  });

  it('does not mix up actors whose actions make one another move', () => {
    const order: string[] = [];
    interface Pair { readonly name: string; readonly other: () => { send(event: { type: 'GO' | 'ECHO' }): void } }
    const machine = setup({
      types: { context: {} as Pair, events: {} as { type: 'GO' | 'ECHO' }, input: {} as Pair },
      actions: {
        poke: ({ context: { name, other } }) => {
          order.push(`${name} pokes`);
          other().send({ type: 'ECHO' });
        },
        after: ({ context: { name }, event }) => void order.push(`${name} after ${event.type}`),
      },
    }).createMachine({ id: 'pair', context: ({ input }) => input, initial: 'a', states: { a: { on: { GO: { actions: ['poke', 'after'] }, ECHO: { actions: 'after' } } } } });
    const logic = compileMachine<Pair, Pair, { type: 'GO' | 'ECHO' }>(machine) as AnyActorLogic;
    const right = createActor(logic, { input: { name: 'right', other: () => left } } as never);
    const left: { send(event: { type: 'GO' | 'ECHO' }): void; start(): unknown } = createActor(logic, { input: { name: 'left', other: () => right } } as never);
    left.start();
    right.start();
    left.send({ type: 'GO' });
    expect(order).toEqual(['left pokes', 'right after ECHO', 'left after GO']);
  });
});
