/** Candidates from indexes, held against the scan of all nodes: same decisions where they name what the scan would choose, and never blind to room. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Invocation, type InputObject, type InvocationHost } from '../../src/core/invocation.ts';
import { createRandom } from '../../src/core/random.ts';
import { createDecision, type Candidates, type Decision, type Policy } from '../../src/policy/policy.ts';
import { createPolicies } from '../../src/policy/registry.ts';
import { createCandidates, createClassifier } from '../../src/scheduler/classify.ts';
import { ClusterView, DRAINING, READY, createNodeTable } from '../../src/scheduler/cluster-view.ts';
import { BUSY, FunctionTable, IDLE, ZYGOTE_DISTANCE, type FunctionSettings } from '../../src/scheduler/function-table.ts';
import { NodesByLoad } from '../../src/core/nodes-by-load.ts';
import { ObjectDirectory } from '../../src/scheduler/object-directory.ts';
import { PackageIndex } from '../../src/scheduler/package-index.ts';
import { createFakePredictor } from './fake-predictor.ts';

const SETTINGS: FunctionSettings = { name: 'f', version: '1', packageSet: 'p', slaMs: 1_000, timeoutMs: 1, concurrency: 0, idempotent: true, retries: 0, policy: '', localityKey: '', reuse: true, memoryMb: 256, critical: false };

/** `nodes` ready nodes of `slots` slots in a view for `maxNodes`. */
function scene(nodes: number, { limit = 64, maxNodes = nodes, slots = 4 } = {}) {
  const cluster = new ClusterView(maxNodes, createNodeTable(maxNodes));
  for (let i = 0; i < nodes; i++) {
    cluster.put({ name: `n${i}`, address: '', dataUrl: '', epoch: 1, slots, memoryMb: 1, isolation: i % 5 === 0 ? ['process', 'bubblewrap'] : ['process'] });
    cluster.setStatus(i, READY);
  }
  const objects = new ObjectDirectory(cluster, 100_000);
  const predictor = createFakePredictor();
  const packages = new PackageIndex(maxNodes);
  const entry = new FunctionTable(maxNodes).put(SETTINGS);
  entry.unable = cluster.unableFor('');
  packages.functionPut(entry);
  const classifier = createClassifier(cluster, objects, predictor, 0.1, limit);
  const host: InvocationHost = { nowMs: 0, observer: { transitioned: () => {} } };
  const invocation = (seq: number, inputs: readonly InputObject[] = [], localityKey = ''): Invocation => new Invocation(host, {
    seq, id: 'i', functionName: 'f', functionIndex: 0, arrivedAtMs: 0, slaMs: 5_000, expiresAtMs: Infinity, inputs, inputBytes: inputs.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0), localityKey, policyName: '', idempotent: true, maxAttempts: 1,
  });
  const candidates = (subject: Invocation, isIndexed: boolean): Candidates => {
    const out = createCandidates(maxNodes);
    classifier.classify(subject, entry, 0, out, isIndexed);
    predictor.predict(subject, out, -1);
    return out;
  };
  const decide = (policy: Policy, subject: Invocation, rows: Candidates): Decision => {
    const decision = createDecision();
    policy.decide({ cluster: { readyNodes: nodes, readySlots: nodes * slots, meanServiceMs: 100, waiting: 0 }, function: SETTINGS, candidates: rows, invocation: subject, nowMs: 0, mayRun: true, rentMs: () => 0, fits: () => true, expectedWaitMs: (node) => 10 + (node % 7), upperWaitMs: (node) => 20 + (node % 7) }, decision);
    return decision;
  };
  return { cluster, objects, entry, packages, invocation, candidates, decide };
}

const nodesOf = ({ count, node }: Candidates): number[] => [...node.subarray(0, count)];
const object = (id: string, sizeBytes = 1e6): InputObject => ({ id, sizeBytes, digest: '', name: '', holders: [] });
const policies = () => createPolicies({ localityGain: 0.85, safetyMargin: 0.1, strict: false, random: createRandom(1) });

/** A random state of a cluster: what each node has, and how full it is. */
const state = fc.record({
  used: fc.array(fc.nat(4), { minLength: 1, maxLength: 60 }),
  idle: fc.array(fc.nat(300), { maxLength: 12 }),
  busy: fc.array(fc.nat(300), { maxLength: 12 }),
  zygotes: fc.array(fc.nat(300), { maxLength: 6 }),
  installed: fc.array(fc.nat(300), { maxLength: 12 }),
  holders: fc.array(fc.nat(300), { maxLength: 12 }),
  keyNode: fc.nat(300),
  seq: fc.nat(1_000_000),
});

describe('candidates from indexes', () => {
  it.each(['metronome', 'lookahead', 'naive-locality', 'data-locality', 'rule-delay'])('lead %s to the choice of the full scan whenever that is among them', (name) => {
    let among = 0, seen = 0;
    fc.assert(fc.property(state, fc.constantFrom(120, 400), fc.boolean(), ({ used, idle, busy, zygotes, installed, holders, keyNode, seq }, count, withKey) => {
      const { cluster, objects, entry, packages, invocation, candidates, decide } = scene(count, { limit: 48 });
      for (let node = 0; node < count; node++) cluster.setUsed(node, used[node % used.length]!);
      for (const node of idle) if (node < count) entry.set(node, IDLE, 1);
      for (const node of busy) if (node < count) entry.set(node, BUSY, 1);
      for (const node of zygotes) if (node < count) entry.set(node, ZYGOTE_DISTANCE, 0.25);
      for (const node of installed) if (node < count) packages.setSet(node, 'p', true);
      for (const node of holders) if (node < count) objects.add('o', 1e6, node);
      entry.rememberKey('k', keyNode % count);
      const subject = invocation(seq, holders.length > 0 ? [object('o')] : [], withKey ? 'k' : '');
      const all = candidates(subject, false), some = candidates(subject, true);
      const full = decide(policies().get(name)!, subject, all), indexed = decide(policies().get(name)!, subject, some);
      const named = new Set(nodesOf(some));
      expect(some.count).toBeLessThanOrEqual(48);
      expect(new Set(nodesOf(some)).size).toBe(some.count);
      const chosen = full.row < 0 ? -1 : all.node[full.row]!;
      seen++;
      if (chosen < 0 || !named.has(chosen)) return;
      among++;
      expect({ action: indexed.action, reason: indexed.reason, node: some.node[indexed.row] }).toEqual({ action: full.action, reason: full.reason, node: chosen });
    }), { numRuns: 300 });
    expect(among).toBeGreaterThan(seen / 4);
  });

  it('always have a node with room if one can run the function, whatever its isolation', () => {
    fc.assert(fc.property(fc.nat(199), fc.nat(1_000_000), fc.constantFrom('', 'bubblewrap'), (free, seq, isolation) => {
      const { cluster, entry, invocation, candidates } = scene(200, { limit: 16 });
      entry.settings = { ...SETTINGS, isolation };
      entry.unable = cluster.unableFor(isolation);
      for (let node = 0; node < 200; node++) {
        cluster.setUsed(node, node === free ? 3 : 4);
        entry.set(node, IDLE, 1);
      }
      // Nodes that cannot run it have room.
      if (isolation !== '') for (let node = 0; node < 200; node++) if (node % 5 !== 0) cluster.setUsed(node, 0);
      const rows = candidates(invocation(seq), true);
      const canRun = isolation === '' || free % 5 === 0;
      expect(nodesOf(rows).some((node, row) => rows.room[row]! > 0 && (isolation === '' || node % 5 === 0))).toBe(canRun);
      expect(rows.count).toBeGreaterThan(0);
    }));
  });

  it('name the node of the locality key and the one that is waited for, however much else there is', () => {
    const { cluster, objects, entry, invocation, candidates } = scene(1_000, { limit: 16 });
    for (let node = 0; node < 1_000; node++) {
      entry.set(node, IDLE, 1);
      objects.add('o', 1e6, node);
    }
    cluster.setUsed(777, 4);
    entry.rememberKey('k', 777);
    const subject = invocation(5, [object('o')], 'k');
    subject.target = 555;
    expect(nodesOf(candidates(subject, true))).toEqual(expect.arrayContaining([555, 777]));
  });

  it('are what one could wait for when all nodes are full', () => {
    const { cluster, invocation, candidates } = scene(300);
    for (let node = 0; node < 300; node++) cluster.setUsed(node, 4);
    const rows = candidates(invocation(1), true);
    expect(rows.count).toBeGreaterThan(8);
    expect(Math.max(...rows.room.subarray(0, rows.count))).toBe(0);
  });

  it('leave out nodes that refuse, drain or cannot run the function, and take the least loaded of the others', () => {
    const { cluster, invocation, candidates } = scene(200, { limit: 16 });
    for (let node = 0; node < 200; node++) cluster.setUsed(node, 2);
    for (const node of [3, 50, 120]) cluster.setUsed(node, 1);
    cluster.setUsed(60, 0);
    cluster.setUsed(61, 0);
    cluster.setStatus(60, DRAINING);
    cluster.setRefusal(61, 1_000);
    const rows = nodesOf(candidates(invocation(9), true));
    expect(rows).toHaveLength(3);
    expect(rows).toEqual([3, 50, 120]);
    cluster.setRefusal(61, 0);
    expect(nodesOf(candidates(invocation(9), true))).toContain(61);
  });

  it('say the same for the same question', () => {
    const { entry, invocation, candidates } = scene(500, { limit: 16 });
    for (let node = 0; node < 500; node++) entry.set(node, IDLE, 1);
    const first = nodesOf(candidates(invocation(42), true));
    candidates(invocation(43), true);
    expect(nodesOf(candidates(invocation(42), true))).toEqual(first);
  });
});

describe('nodes by load', () => {
  it('come by load after any changes, those with room and those without apart', () => {
    const change = fc.record({ node: fc.nat(19), used: fc.nat(4), isOut: fc.boolean() });
    fc.assert(fc.property(fc.array(change, { maxLength: 100 }), fc.nat(1_000), (changes, start) => {
      const byLoad = new NodesByLoad(20);
      const truth = new Map<number, number>();
      for (const { node, used, isOut } of changes) {
        if (isOut) {
          byLoad.remove(node);
          truth.delete(node);
        } else {
          byLoad.put(node, used, 4);
          truth.set(node, used);
        }
      }
      const walked: number[] = [], full: number[] = [];
      byLoad.forFree(start, (node) => walked.push(node) > 0);
      byLoad.forFull(start, (node) => full.push(node) > 0);
      expect(walked.map((node) => truth.get(node))).toEqual([...truth.values()].filter((used) => used < 4).sort((a, b) => a - b));
      expect(new Set(full)).toEqual(new Set([...truth].filter(([, used]) => used >= 4).map(([node]) => node)));
    }));
  });
});
