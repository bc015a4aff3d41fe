/** The parts that the scheduler is made of: waiting lines, object directory, decision ring, function table, cluster view. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Invocation, type InputObject, type InvocationHost } from '../../src/core/invocation.ts';
import { createDecision, delayFor, dispatchTo } from '../../src/policy/policy.ts';
import { createCandidates } from '../../src/scheduler/classify.ts';
import { ClusterView, LOST, READY, createNodeTable } from '../../src/scheduler/cluster-view.ts';
import { DecisionRing, KEPT_CANDIDATES } from '../../src/scheduler/decision-ring.ts';
import { FunctionTable, IDLE, type FunctionSettings } from '../../src/scheduler/function-table.ts';
import { ObjectDirectory } from '../../src/scheduler/object-directory.ts';
import { PackageIndex } from '../../src/scheduler/package-index.ts';
import { WaitingLines } from '../../src/scheduler/waiting-lines.ts';

const host: InvocationHost = { nowMs: 0, observer: { transitioned: () => {} } };
const invocation = (seq: number, functionIndex = 0, arrivedAtMs = seq): Invocation =>
  new Invocation(host, { seq, id: `i${seq}`, functionName: 'f', functionIndex, arrivedAtMs, slaMs: 1_000, expiresAtMs: Infinity, inputs: [], inputBytes: 0, localityKey: '', policyName: '', idempotent: true, maxAttempts: 1 });
const clusterOf = (names: readonly string[], maxNodes = 8): ClusterView => {
  const cluster = new ClusterView(maxNodes, createNodeTable(maxNodes));
  for (const name of names) cluster.status[cluster.put({ name, address: '', dataUrl: '', epoch: 1, slots: 2, memoryMb: 1 })] = READY;
  return cluster;
};

describe('WaitingLines', () => {
  it('agree with plain sorted lists under any mixture of joining and leaving', () => {
    const step = fc.record({ kind: fc.constantFrom('node' as const, 'room' as const, 'function' as const, 'leave' as const, 'leave' as const), who: fc.nat(29), key: fc.nat(5), nodes: fc.uniqueArray(fc.nat(3), { minLength: 1, maxLength: 3 }) });
    fc.assert(fc.property(fc.array(step, { maxLength: 300 }), (steps) => {
      const lines = new WaitingLines();
      const all = Array.from({ length: 30 }, (_, seq) => invocation(seq, seq % 3, seq));
      const model = new Map<number, { where: 'room' | 'function' | readonly number[]; key: number }>();
      for (const { kind, who, key, nodes } of steps) {
        const one = all[who]!;
        if (kind === 'leave') {
          lines.remove(one);
          model.delete(who);
        } else if (!model.has(who)) {
          if (kind === 'node') {
            one.slackDeadlineMs = key;
            lines.addForNodes(one, nodes);
          } else if (kind === 'room') lines.addForRoom(one, key);
          else lines.addForFunction(one);
          model.set(who, { where: kind === 'node' ? nodes : kind, key: kind === 'function' ? one.arrivedAtMs : key });
        }
        const first = (holds: (where: 'room' | 'function' | readonly number[], seq: number) => boolean): Invocation | undefined =>
          all[[...model].filter(([seq, { where }]) => holds(where, seq)).sort(([a, x], [b, y]) => x.key - y.key || a - b)[0]?.[0] ?? -1];
        for (let node = 0; node < 4; node++) {
          expect(lines.headOfNode(node)).toBe(first((where) => Array.isArray(where) && where.includes(node)));
          expect(lines.waitingFor(node)).toBe([...model.values()].filter(({ where }) => Array.isArray(where) && where.includes(node)).length);
        }
        expect(lines.headOfRoom()).toBe(first((where) => where === 'room'));
        for (let f = 0; f < 3; f++) expect(lines.headOfFunction(f)).toBe(first((where, seq) => where === 'function' && seq % 3 === f));
        const locality = [...model.values()].filter(({ where }) => Array.isArray(where)).length;
        expect([lines.locality, lines.capacity]).toEqual([locality, model.size - locality]);
      }
    }), { numRuns: 60 });
  });

  it('say who comes before somebody: those whose SLA ends earlier, and who would take other nodes too counts as his share', () => {
    const lines = new WaitingLines();
    const out = { count: 0, sumMs: 0 };
    const all = Array.from({ length: 6 }, (_, seq) => invocation(seq));
    for (const one of all) one.targetMs = 10 * (one.seq + 1);
    for (const one of all.slice(0, 5)) {
      const nodes = one.seq === 3 ? [2, 1] : [1];
      one.target = nodes[0]!;
      lines.addForNodes(one, nodes);
    }
    lines.remove(all[1]!);
    const before = (who: number, node = 1): { count: number; sumMs: number } => {
      lines.before(node, all[who]!, out);
      return { ...out };
    };
    expect(before(5)).toEqual({ count: 4, sumMs: 10 + 30 + 40 / 2 + 50 });
    expect(before(2)).toEqual({ count: 1, sumMs: 10 });
    expect(before(0)).toEqual({ count: 0, sumMs: 0 });
    expect(before(5, 0)).toEqual({ count: 0, sumMs: 0 });
  });

  it('say who comes before a place that a policy chose', () => {
    const lines = new WaitingLines();
    const out = { count: 0, sumMs: 0 };
    const all = Array.from({ length: 4 }, (_, seq) => invocation(seq));
    all.forEach((one, i) => {
      one.targetMs = 10;
      lines.addForNodes(one, [1], [50, 20, 40, 30][i]);
    });
    expect(lines.headOfNode(1)).toBe(all[1]);
    lines.before(1, invocation(9), out, 35);
    expect(out).toEqual({ count: 2, sumMs: 20 });
    lines.before(1, all[1]!, out, 20);
    expect(out).toEqual({ count: 0, sumMs: 0 });
  });

  it('look at the first of a very long line and let them stand for all', () => {
    const lines = new WaitingLines();
    const out = { count: 0, sumMs: 0 };
    for (let seq = 0; seq < 1_000; seq++) {
      const one = invocation(seq);
      one.target = 1;
      one.targetMs = 10;
      one.slackDeadlineMs = seq;
      lines.addForNodes(one, [1]);
    }
    lines.before(1, invocation(2_000), out);
    expect(out).toEqual({ count: 1_000, sumMs: 10_000 });
  });

  it('show every living waiter of a node once, and none that left', () => {
    const lines = new WaitingLines();
    const all = Array.from({ length: 200 }, (_, seq) => invocation(seq));
    for (const one of all) lines.addForNodes(one, [1]);
    for (const one of all.slice(0, 150)) lines.remove(one);
    const seen: number[] = [];
    lines.forNode(1, ({ seq }) => seen.push(seq));
    expect(seen.sort((a, b) => a - b)).toEqual(all.slice(150).map(({ seq }) => seq));
    lines.forNode(2, () => expect.fail('nobody waits there'));
  });
});

describe('ObjectDirectory', () => {
  const ref = (id: string, holders: readonly string[] = []): InputObject => ({ id, sizeBytes: 10, digest: '', name: '', holders });

  it('believes reports before what a reference says', () => {
    const objects = new ObjectDirectory(clusterOf(['a', 'b', 'c']), 10);
    expect(objects.holderNames(ref('x', ['c', 'unknown', 'a']))).toEqual(['c', 'a']);
    objects.add('x', 10, 1);
    expect(objects.holderNames(ref('x', ['c']))).toEqual(['b']);
    objects.remove('x', 1);
    expect(objects.holderNames(ref('x', ['c']))).toEqual(['c']);
  });

  it('counts objects by node, each once, and forgets a node with all of its', () => {
    const cluster = clusterOf(['a', 'b']);
    const objects = new ObjectDirectory(cluster, 10);
    for (const id of ['x', 'y', 'x']) objects.add(id, 10, 0);
    objects.add('x', 10, 1);
    expect([...cluster.objectCount.slice(0, 2)]).toEqual([2, 1]);
    objects.removeNode(0);
    objects.remove('y', 0);
    objects.remove('nothing', 1);
    expect([...cluster.objectCount.slice(0, 2)]).toEqual([0, 1]);
    expect(objects.size).toBe(1);
    expect(objects.holderNames(ref('x'))).toEqual(['b']);
  });

  it('forgets the oldest objects beyond its bound', () => {
    const cluster = clusterOf(['a', 'b']);
    const objects = new ObjectDirectory(cluster, 3);
    for (let i = 0; i < 10; i++) for (const node of [0, 1]) objects.add(`o${i}`, 10, node);
    expect(objects.size).toBe(3);
    expect([...cluster.objectCount.slice(0, 2)]).toEqual([3, 3]);
    expect(objects.holderNames(ref('o6'))).toEqual([]);
    expect(objects.holderNames(ref('o9'))).toEqual(['a', 'b']);
  });
});

describe('DecisionRing', () => {
  const candidatesOf = (count: number) => {
    const candidates = createCandidates(count);
    candidates.count = count;
    for (let row = 0; row < count; row++) {
      candidates.node[row] = row + 100;
      candidates.meanMs[row] = 1_000 - row;
      candidates.room[row] = 1;
      candidates.degreeData[row] = 0.25;
      candidates.degreeInfrastructure[row] = 0.5;
    }
    return candidates;
  };

  it('gives back what a decision rested on, best prediction first, with the wait for the chosen node', () => {
    const ring = new DecisionRing(8);
    const decision = createDecision();
    delayFor(decision, 1, 'waitForLocalNode', 700, 200);
    const one = invocation(3);
    ring.record(one, 'metronome', 500, candidatesOf(3), decision, 42);
    const [record] = ring.of(one);
    expect(record).toMatchObject({ policy: 'metronome', action: 'delay', reason: 'waitForLocalNode', node: 101, atMs: 500, slackMs: 200, deadlineMs: 700, predictedMs: 999, candidatesInAll: 3 });
    expect(record?.candidates.map(({ node, predictedMs, waitMs, degree }) => ({ node, predictedMs, waitMs, degree }))).toEqual([
      { node: 102, predictedMs: 998, waitMs: 0, degree: 0.75 }, { node: 101, predictedMs: 999, waitMs: 42, degree: 0.75 }, { node: 100, predictedMs: 1_000, waitMs: 0, degree: 0.75 },
    ]);
  });

  it('keeps the last ones only, in order', () => {
    const ring = new DecisionRing(4);
    const decision = createDecision();
    const [one, other] = [invocation(1), invocation(2)];
    for (let i = 0; i < 10; i++) {
      dispatchTo(decision, 0, 'noLocalNode', i);
      ring.record(i % 2 === 0 ? one : other, 'p', i, candidatesOf(1), decision, 0);
    }
    expect(ring.total).toBe(10);
    expect(ring.of(one).map(({ atMs }) => atMs)).toEqual([6, 8]);
    expect(ring.of(other).map(({ atMs }) => atMs)).toEqual([7, 9]);
    expect(ring.of(invocation(3))).toEqual([]);
  });

  it(`keeps ${KEPT_CANDIDATES} of many candidates: the chosen one, local ones, and some others with room`, () => {
    const ring = new DecisionRing(2);
    const decision = createDecision();
    const candidates = candidatesOf(500);
    for (const row of [300, 400]) candidates.local[row] = 1;
    candidates.room[0] = 0;
    dispatchTo(decision, 499, 'noLocalNode', 0);
    const one = invocation(0);
    ring.record(one, 'p', 0, candidates, decision, 0);
    const [record] = ring.of(one);
    const nodes = record?.candidates.map(({ node }) => node) ?? [];
    expect(record?.candidatesInAll).toBe(500);
    expect(nodes).toHaveLength(KEPT_CANDIDATES);
    expect(nodes).toEqual(expect.arrayContaining([599, 400, 500, 101]));
    expect(nodes).not.toContain(100);
    expect(new Set(nodes).size).toBe(KEPT_CANDIDATES);
  });
});

describe('FunctionTable', () => {
  const settings = (more: Partial<FunctionSettings> = {}): FunctionSettings => ({ name: 'f', version: '1', packageSet: 'p', slaMs: 1, timeoutMs: 1, concurrency: 0, idempotent: true, retries: 0, policy: '', localityKey: '', reuse: true, memoryMb: 256, critical: false, ...more });

  it('keeps the index of a function over versions; a new version is warm nowhere', () => {
    const table = new FunctionTable(4);
    const entry = table.put(settings());
    const packages = new PackageIndex(4);
    packages.functionPut(entry);
    packages.setSet(2, 'p', true);
    entry.set(2, IDLE, 3);
    expect(table.put(settings({ slaMs: 5 }))).toBe(entry);
    expect(entry.idle(2)).toBe(3);
    expect(table.put(settings({ version: '2' }))).toBe(entry);
    expect([entry.idle(2), entry.hasPackages(2)]).toEqual([0, true]);
    table.put(settings({ version: '3', packageSet: 'q' }));
    expect(entry.hasPackages(2)).toBe(false);
    expect([...table.withPackageSet('p')]).toEqual([]);
    expect([...table.withPackageSet('q')]).toEqual([entry]);
  });

  it('gives a deleted name a new entry when it is deployed again', () => {
    const table = new FunctionTable(4);
    const first = table.put(settings());
    expect(table.delete('f')).toBe(first);
    expect(first.deleted).toBe(true);
    expect(table.get('f')).toBeUndefined();
    expect(table.delete('f')).toBeUndefined();
    const second = table.put(settings());
    expect(second).not.toBe(first);
    expect([...table.withPackageSet('p')]).toEqual([second]);
  });

  it('remembers the last 1024 locality keys', () => {
    const entry = new FunctionTable(4).put(settings());
    for (let i = 0; i < 2_000; i++) entry.rememberKey(`k${i}`, i % 4);
    entry.rememberKey('k976', 1);
    entry.rememberKey('new', 2);
    expect(entry.keyNodes?.size).toBe(1_024);
    expect([entry.keyNodes?.get('k976'), entry.keyNodes?.get('k977'), entry.keyNodes?.get('new')]).toEqual([1, undefined, 2]);
  });
});

describe('ClusterView', () => {
  it('gives a lost node\'s place to a newcomer only when all are taken', () => {
    const cluster = clusterOf(['a', 'b'], 3);
    cluster.status[0] = LOST;
    expect(cluster.put({ name: 'c', address: '', dataUrl: '', epoch: 1, slots: 1, memoryMb: 1 })).toBe(2);
    expect(cluster.put({ name: 'd', address: '', dataUrl: '', epoch: 1, slots: 1, memoryMb: 1 })).toBe(0);
    expect([cluster.indexOf('a'), cluster.indexOf('d'), cluster.count]).toEqual([-1, 0, 3]);
  });

  it('predicts a wait from what runs: the least of what is left, as much again as the least overrunning one overran, never nothing', () => {
    const cluster = clusterOf(['a']);
    const run = (dispatchedAtMs: number, predictedRunMs: number): void => {
      const one = invocation(0);
      one.dispatchedAtMs = dispatchedAtMs;
      one.predictedRunMs = predictedRunMs;
      cluster.running[0]?.push(one);
      cluster.used[0] = cluster.running[0]?.length ?? 0;
    };
    expect(cluster.expectedWaitMs(0, 100)).toBe(0);
    run(0, 300);
    run(0, 180);
    expect(cluster.expectedWaitMs(0, 100)).toBe(80);
    expect(cluster.expectedWaitMs(0, 400)).toBe(100);
    expect(cluster.expectedWaitMs(0, 0)).toBe(180);
    expect(cluster.expectedWaitMs(0, 300)).toBe(0.1);
    for (const one of cluster.running[0] ?? []) one.predictedSpreadMs = 20;
    expect(cluster.expectedWaitMs(0, 290)).toBe(20);
    expect(cluster.expectedWaitMs(0, 100)).toBe(80);
  });

  it('predicts a wait behind others: each takes the slot that is free first for as long as it is expected to take', () => {
    const cluster = clusterOf(['a']);
    for (const predictedRunMs of [100, 250]) {
      const one = invocation(0);
      one.predictedRunMs = predictedRunMs;
      cluster.running[0]?.push(one);
    }
    cluster.used[0] = 2;
    // Slots are free at 100 and 250; two that take 80 each: at 180, then at 260.
    expect([0, 1, 2, 3].map((ahead) => cluster.expectedWaitMs(0, 0, ahead, ahead * 80))).toEqual([100, 180, 250, 260]);
    expect(cluster.expectedWaitMs(0, 0, 0, 0, () => 30)).toBe(30);
    expect(cluster.expectedWaitMs(0, 0, 0, 0, () => undefined)).toBe(100);
  });
});
