import { describe, expect, it } from 'vitest';
import { createDecision, HELD, type FunctionFacts, type Policy, type PolicyControl } from '../../src/policy/policy.ts';
import { createXfaasPolicy, groupsFor, nextScale, shareWorkers } from '../../src/policy/xfaas.ts';
import { createRandom } from '../../src/core/random.ts';
import { PAPER, decide, type Row, type Situation } from './situation.ts';

/** A cluster as the policy sees it between decisions: `used` of four slots on each of the nodes. */
function control(more: Partial<PolicyControl> & { readonly usedOf?: readonly number[]; readonly facts?: readonly FunctionFacts[]; readonly peaks?: readonly number[] } = {}): PolicyControl {
  const usedOf = more.usedOf ?? [0, 0, 0, 0];
  const facts = more.facts ?? [];
  return {
    nowMs: 0, cluster: { readyNodes: usedOf.length, readySlots: usedOf.length * 4, meanServiceMs: 0, waiting: 0 }, nodes: usedOf.length, isReady: () => true, slots: () => 4, used: (node) => usedOf[node] ?? 0, memoryMb: () => 8_192,
    functions: facts.length, functionOf: (index) => facts[index], idle: () => 0, busy: () => 0, takePeak: (index) => more.peaks?.[index] ?? 0, prewarm: () => {}, evict: () => {}, ...more,
  };
}

const policyWith = (seed = 1, prefetch = false): Policy => createXfaasPolicy({ ...PAPER, xfaas: { prefetch }, random: createRandom(seed) });
const rows = (count: number, room = 1): Row[] => Array.from({ length: count }, () => ({ T: 100, room }));
const critical: Partial<FunctionFacts> = { critical: true };
/** Nodes that a function is ever sent to, over many decisions. */
const nodesOf = (policy: Policy, count: number, functionIndex: number): number[] => [...new Set(Array.from({ length: 200 }, () => decide(policy, { rows: rows(count), function: critical, functionIndex }).row))].sort((a, b) => a - b);

describe('the parts of xfaas', () => {
  it.each([[1, 1], [4, 1], [5, 2], [10, 3], [1_000, 63]])('%i workers make %i groups', (nodes, groups) => expect(groupsFor(nodes)).toBe(groups));

  it.each<[number, number, number, string]>([
    [1, 0.85, 0, 'nothing opportunistic at U_high'],
    [1, 0.66, 1, 'unchanged at U_low'],
    [1, 0, 1.2, 'a fifth more when idle'],
    [1, 0.755, 0.9712121212121212, 'a little less between the two'],
    [3.95, 0, 4, 'never above 4'],
    [0.01, 0.84, 0, 'never below 0'],
  ])('scale %f at utilisation %f becomes %f: %s', (scale, utilisation, next) => expect(nextScale(scale, utilisation)).toBeCloseTo(next, 9));

  it.each<[number[], number, number[]]>([
    [[1, 1], 10, [5, 5]],
    [[3, 1], 10, [7, 3]],
    [[0, 0, 0], 10, [4, 3, 3]],
    [[100, 0, 0], 10, [8, 1, 1]],
    [[5, 5], 2, [1, 1]],
  ])('load %j shares %i workers as %j', (loads, workers, counts) => expect(shareWorkers(loads, workers)).toEqual(counts));
});

describe('policy xfaas', () => {
  it('keeps a function on the workers of one group, and functions of different groups apart', () => {
    const policy = policyWith();
    policy.tick?.(control({ usedOf: new Array<number>(8).fill(0) })); // eight workers: two groups of four
    const first = nodesOf(policy, 8, 0);
    const second = nodesOf(policy, 8, 1);
    expect(first).toHaveLength(4);
    expect(second).toHaveLength(4);
    expect(first.filter((node) => second.includes(node))).toEqual([]);
  });

  it('sends to the less loaded of two workers, never to the most loaded of all', () => {
    const policy = policyWith(7);
    const situation: Situation = { rows: [{ T: 1, room: 1, load: 0.75 }, { T: 1, room: 1, load: 0 }, { T: 1, room: 1, load: 0.5 }], function: critical };
    const taken = Array.from({ length: 100 }, () => decide(policy, situation).row);
    expect(taken).not.toContain(0);
    expect(new Set(taken)).toEqual(new Set([1, 2]));
  });

  it('prefers the warm one of two equally loaded workers', () => {
    const taken = Array.from({ length: 50 }, (_, seed) => decide(policyWith(seed), { rows: [{ T: 1, room: 1 }, { T: 1, room: 1, kinds: 2 }], function: critical }).row);
    expect(new Set(taken)).toEqual(new Set([1]));
  });

  it('waits in the line of its group when the group is full, though others have room, critical work first', () => {
    const policy = policyWith();
    policy.tick?.(control({ usedOf: new Array<number>(8).fill(0) }));
    const group = nodesOf(policy, 8, 0);
    const full = rows(8).map((row, node) => (group.includes(node) ? { ...row, room: 0 } : row));
    const out = createDecision();
    expect(decide(policy, { rows: full, function: critical, functionIndex: 0, arrivedAtMs: 5 }, out)).toMatchObject({ action: 'delay', row: -1, reason: 'groupFull' });
    expect(out.line).toBe(policy.lineOf?.(group[0] as number));
    expect(out.line).not.toBe(policy.lineOf?.([0, 1, 2, 3, 4, 5, 6, 7].find((node) => !group.includes(node)) as number));
    expect(out.keyMs).toBe(1_005);
    decide(policy, { rows: full, function: { critical: false }, functionIndex: 0, arrivedAtMs: 5 }, out);
    expect(out.keyMs).toBeGreaterThan(1e12);
  });

  it('puts work off that is not critical while the workers are busy, until its SLA would be in danger', () => {
    const policy = policyWith();
    decide(policy, { rows: rows(4) });
    policy.served?.(0, 100, 100);
    policy.tick?.(control({ usedOf: [4, 4, 3, 3] })); // 14 of 16 slots: above U_high
    const out = createDecision();
    expect(decide(policy, { rows: rows(4), nowMs: 10 }, out)).toMatchObject({ action: 'delay', row: -1, reason: 'putOff', deadlineMs: 880 }); // 1 000 − 1.2 · 100
    expect(out.line).toBe(HELD);
    expect(decide(policy, { rows: rows(4), nowMs: 880, decidedBy: 'xfaas' })).toMatchObject({ action: 'dispatch' });
    expect(decide(policy, { rows: rows(4), nowMs: 10, function: critical })).toMatchObject({ action: 'dispatch' });
  });

  it('lets it in at its own rate times the scale', () => {
    const policy = policyWith();
    const now = (nowMs: number): string => decide(policy, { rows: rows(4), nowMs, arrivedAtMs: nowMs, slaMs: 60_000 }).action;
    // One call per second at the start, S = 1: the first token is there, the second one comes after a second.
    expect([0, 1, 500, 999, 1_000, 1_001].map(now)).toEqual(['dispatch', 'delay', 'delay', 'delay', 'dispatch', 'delay']);
  });

  it('prefetches on demand: one sandbox on each worker of the group that has none', () => {
    const asked: [number, number][] = [];
    const policy = policyWith(1, true);
    decide(policy, { rows: rows(4), function: critical });
    policy.tick?.(control({ facts: [{ name: 'f', slaMs: 1, memoryMb: 128, critical: true }], idle: (_f, node) => (node === 2 ? 1 : 0), prewarm: (f, node) => void asked.push([f, node]) }));
    expect(asked).toEqual([[0, 0], [0, 1], [0, 3]]);
  });

  it('moves one function when the memory of groups differs by more than a quarter', () => {
    const policy = policyWith();
    policy.tick?.(control({ usedOf: new Array<number>(8).fill(0) }));
    const facts = [512, 128, 512].map((memoryMb, i): FunctionFacts => ({ name: `f${i}`, slaMs: 1_000, memoryMb, critical: true }));
    // f0 and f2 land where least memory is: f0 in group 0, f1 in group 1, f2 in group 1.
    facts.forEach((of, functionIndex) => decide(policy, { rows: rows(8), function: of, functionIndex }));
    expect(policy.parameters?.({ readyNodes: 8, readySlots: 32, meanServiceMs: 0, waiting: 0 })).toMatchObject({ groupOfFunctions: '0:0 1:1 2:1' });
    for (let tick = 0; tick < 60; tick++) policy.tick?.(control({ usedOf: new Array<number>(8).fill(0), facts, peaks: [1, 8, 1] })); // f1 grows to a GiB
    expect(policy.parameters?.({ readyNodes: 8, readySlots: 32, meanServiceMs: 0, waiting: 0 })).toMatchObject({ groupOfFunctions: '0:0 1:1 2:0' });
  });
});
