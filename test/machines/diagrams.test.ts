import { mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setup, type AnyStateMachine } from 'xstate';
import { afterEach, describe, expect, it } from 'vitest';
import { DIAGRAMS_DIR, MACHINES, writeDiagrams } from '../../src/inspect/diagrams.ts';
import { toMachinePage, toMermaid } from '../../src/inspect/mermaid.ts';

const dirs: string[] = [];
const tempDir = (): string => {
  const dir = mkdtempSync(join(tmpdir(), 'metronome-diagrams-'));
  dirs.push(dir);
  return dir;
};
afterEach(() => {
  for (const dir of dirs.splice(0)) rmSync(dir, { recursive: true });
});

describe('docs/machines', () => {
  it('shows the machines as they are; `npx node src/inspect/diagrams.ts` writes it anew', () => {
    expect(writeDiagrams({ check: true })).toEqual([]);
  });

  it('has one page for each file of machines/ that is a machine, and no other', () => {
    const files = readdirSync(new URL('../../machines', import.meta.url)).filter((file) => !['compile.ts', 'flow.ts', 'host.ts'].includes(file)).map((file) => file.replace(/\.ts$/, ''));
    expect(MACHINES.map(({ machine }) => machine.id).sort()).toEqual(files.sort());
    expect(readdirSync(DIAGRAMS_DIR).sort()).toEqual(files.map((file) => `${file}.md`).sort());
  });
});

describe('writeDiagrams', () => {
  it('names what is missing or changed, writes it unless it only checks, and is content then', () => {
    const dir = join(tempDir(), 'deeper');
    const all = MACHINES.map(({ machine }) => `${machine.id}.md`);
    expect(writeDiagrams({ check: true, dir })).toEqual(all);
    expect(writeDiagrams({ check: false, dir })).toEqual(all);
    expect(writeDiagrams({ check: true, dir })).toEqual([]);
    writeFileSync(join(dir, 'node.md'), 'changed by hand');
    expect(writeDiagrams({ check: true, dir })).toEqual(['node.md']);
    expect(readFileSync(join(dir, 'node.md'), 'utf8')).toBe('changed by hand');
    expect(writeDiagrams({ check: false, dir })).toEqual(['node.md']);
    expect(writeDiagrams({ check: true, dir })).toEqual([]);
  });
});

const small = setup({
  types: { context: {} as object, events: {} as { type: 'GO' } | { type: 'STAY' } },
  guards: { mayGo: () => true },
  actions: { note: () => {}, enter: () => {} },
}).createMachine({
  id: 'small', context: {}, initial: 'waiting',
  states: {
    waiting: { description: 'Waits; says: "soon".', on: { GO: [{ target: 'over', guard: 'mayGo', actions: ['note'] }, { target: 'waiting' }], STAY: { actions: 'note' } } },
    over: { description: 'Is over | done.', entry: 'enter', type: 'final' },
  },
}) as unknown as AnyStateMachine;

describe('toMermaid', () => {
  it('draws descriptions, events, guards, actions and ends, without what Mermaid would cut a label at', () => {
    expect(toMermaid(small)).toBe([
      'stateDiagram-v2',
      '  [*] --> waiting',
      '  waiting : Waits, says - "soon".',
      '  over : Is over | done.',
      '  waiting --> over : GO [mayGo] / note',
      '  waiting --> waiting : GO',
      '  waiting --> waiting : STAY / note',
      '  over --> [*]',
      '',
    ].join('\n'));
  });

  it('refuses a nested machine', () => {
    const nested = setup({}).createMachine({ id: 'nested', initial: 'a', states: { a: { initial: 'b', states: { b: {} } } } }) as unknown as AnyStateMachine;
    expect(() => toMermaid(nested)).toThrow('machine "nested": state "a" is compound');
  });
});

describe('toMachinePage', () => {
  it('tells a transition that stays from one that comes back, and keeps table cells whole', () => {
    const page = toMachinePage(small, 'A small one.');
    expect(page).toContain('# The small machine\n');
    expect(page).toContain('| `over` | Is over \\| done. (final) | enter |');
    expect(page).toContain('| `waiting` | `GO` |  | `waiting` |  |');
    expect(page).toContain('| `waiting` | `STAY` |  | stays | note |');
  });
});
