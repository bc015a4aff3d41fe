import { describe, expect, it } from 'vitest';
import { createNaiveLocalityPolicy } from '../../src/policy/naive-locality.ts';
import type { Policy } from '../../src/policy/policy.ts';
import { POLICY_NAMES, createPolicies, isPolicyName, unknownPolicy } from '../../src/policy/registry.ts';
import { createRoundRobinPolicy } from '../../src/policy/round-robin.ts';
import { PAPER, decide, type Row, type Situation } from './situation.ts';

const free = (node: number, more: Partial<Row> = {}): Row => ({ T: 100, room: 1, node, ...more });
const rowsOf = (policy: Policy, situation: Situation, times: number): number[] => Array.from({ length: times }, () => decide(policy, situation).row);

describe('policy round-robin', () => {
  it('takes the nodes in turn and begins again', () => {
    expect(rowsOf(createRoundRobinPolicy(), { rows: [free(0), free(1), free(2)] }, 7)).toEqual([0, 1, 2, 0, 1, 2, 0]);
  });

  it('skips nodes without room and goes on behind them', () => {
    const policy = createRoundRobinPolicy();
    expect(rowsOf(policy, { rows: [free(0), free(1, { room: 0 }), free(2)] }, 3)).toEqual([0, 2, 0]);
    expect(decide(policy, { rows: [free(0), free(1), free(2)] }).row).toBe(1);
  });

  it('keeps its turn by node, not by row, when nodes come and go', () => {
    const policy = createRoundRobinPolicy();
    expect(decide(policy, { rows: [free(0), free(3), free(5)] }).row).toBe(0);
    expect(decide(policy, { rows: [free(3), free(5)] }).row).toBe(0);
    expect(decide(policy, { rows: [free(0), free(3), free(4), free(5)] }).row).toBe(2);
  });

  it('is blind to locality and to predictions', () => {
    expect(decide(createRoundRobinPolicy(), { rows: [free(0, { T: 900 }), free(1, { T: 1, local: true, kinds: 7 })] })).toMatchObject({ action: 'dispatch', row: 0, reason: 'nextInTurn' });
  });
});

describe('policy naive-locality', () => {
  const policy = createNaiveLocalityPolicy();

  it.each<[string, Row[], number, string]>([
    ['the node with most kinds of locality', [free(0, { kinds: 1 }), free(1, { kinds: 6 }), free(2, { kinds: 4 })], 1, 'mostLocalityKinds'],
    ['the one with all three', [free(0, { kinds: 6 }), free(1, { kinds: 7 }), free(2, { kinds: 3 })], 1, 'mostLocalityKinds'],
    ['the least loaded among equals', [free(0, { kinds: 2, load: 0.5 }), free(1, { kinds: 1, load: 0.25 }), free(2, { kinds: 4, load: 0.75 })], 1, 'mostLocalityKinds'],
    ['the least loaded when none has locality', [free(0, { load: 0.5 }), free(1, { load: 0.25 })], 1, 'leastLoaded'],
    ['a free node rather than a better busy one', [free(0, { kinds: 7, room: 0 }), free(1)], 1, 'leastLoaded'],
    ['by kinds of locality, whatever is predicted', [free(0, { T: 1 }), free(1, { T: 999, kinds: 1 })], 1, 'mostLocalityKinds'],
  ])('takes %s', (_name, rows, row, reason) => expect(decide(policy, { rows })).toMatchObject({ action: 'dispatch', row, reason }));
});

describe.each(['round-robin', 'naive-locality', 'data-locality'])('baseline %s', (name) => {
  const policy = createPolicies(PAPER).get(name)!;

  it.each<[string, Situation, string]>([
    ['for room when nothing has any', { rows: [free(0, { room: 0, kinds: 7, local: true })] }, 'noRoom'],
    ['for a node when none is ready', { rows: [] }, 'noNodes'],
    ['at the concurrency limit', { rows: [free(0)], mayRun: false }, 'concurrencyLimit'],
  ])('waits %s, and never for a better node', (_name, situation, reason) => {
    expect(decide(policy, situation)).toEqual({ action: 'delay', row: -1, reason, deadlineMs: Infinity, slackMs: 0, also: [] });
    expect(policy.deadlineMs).toBeUndefined();
  });
});

describe('the registry', () => {
  it('makes every policy under its own name, with a sentence for people', () => {
    const policies = createPolicies(PAPER);
    expect([...policies.keys()]).toEqual(POLICY_NAMES);
    for (const [name, policy] of policies) {
      expect(policy.name).toBe(name);
      expect(policy.description).toMatch(/^[A-Z].*\.$/);
      expect(isPolicyName(name)).toBe(true);
    }
  });

  it('knows no name that is only a property of objects', () => {
    expect(isPolicyName('toString')).toBe(false);
    expect(isPolicyName('__proto__')).toBe(false);
  });

  it('answers a misspelt name with the near one and all known ones', () => {
    const error = unknownPolicy('metronom');
    expect(error.code).toBe('POLICY_UNKNOWN');
    expect(error.message).toBe(`Unknown policy "metronom". Did you mean "metronome"? Known policies: ${POLICY_NAMES.join(', ')}.`);
    expect(unknownPolicy('zzz').message).toBe(`Unknown policy "zzz". Known policies: ${POLICY_NAMES.join(', ')}.`);
  });
});
