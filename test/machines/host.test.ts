import { setup } from 'xstate';
import { describe, expect, it } from 'vitest';
import { createMachineHost, type Engine } from '../../machines/host.ts';

const fragile = setup({
  types: { context: {} as { readonly name: string }, events: {} as { readonly type: 'BREAK' } | { readonly type: 'END' }, input: {} as { readonly name: string } },
  actions: {
    throws: ({ context }) => {
      throw new Error(`${context.name} broke an invariant`);
    },
  },
}).createMachine({
  id: 'fragile', context: ({ input }) => input, initial: 'whole',
  states: { whole: { on: { BREAK: { actions: 'throws' }, END: { target: 'over' } } }, over: { type: 'final' } },
});

describe.each<Engine>(['table', 'xstate'])('a host on engine %s', (engine) => {
  it('runs machines that end by themselves, without a trace in one another', () => {
    const host = createMachineHost<{ name: string }, { type: 'BREAK' } | { type: 'END' }>(fragile, engine);
    expect(host.engine).toBe(engine);
    const first = host.start({ name: 'first' }), second = host.start({ name: 'second' });
    first.send({ type: 'END' });
    expect(first.getSnapshot()).toMatchObject({ value: 'over', status: 'done' });
    expect(second.getSnapshot()).toMatchObject({ value: 'whole', status: 'active' });
  });

  it('lets a broken invariant crash the process instead of swallowing it', async () => {
    const host = createMachineHost<{ name: string }, { type: 'BREAK' } | { type: 'END' }>(fragile, engine);
    const machine = host.start({ name: 'this' });
    const others = process.listeners('uncaughtException');
    process.removeAllListeners('uncaughtException');
    try {
      const crash = new Promise<Error>((resolve) => process.once('uncaughtException', resolve));
      machine.send({ type: 'BREAK' });
      expect((await crash).message).toBe('this broke an invariant');
    } finally {
      for (const listener of others) process.on('uncaughtException', listener);
    }
  });
});
