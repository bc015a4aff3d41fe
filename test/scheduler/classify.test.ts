import { describe, expect, it } from 'vitest';
import { Invocation, type InputObject, type InvocationHost } from '../../src/core/invocation.ts';
import { COLD, PACKAGES, WARM, ZYGOTE } from '../../src/predictor/predictor.ts';
import { createCandidates, createClassifier } from '../../src/scheduler/classify.ts';
import { ClusterView, DRAINING, JOINING, LOST, READY, STALE, createNodeTable } from '../../src/scheduler/cluster-view.ts';
import { BUSY, FunctionTable, IDLE, INSTALLED, NOT_INSTALLED, PACKAGE_BYTES_HERE, ZYGOTE_DISTANCE } from '../../src/scheduler/function-table.ts';
import { NodeRows } from '../../src/scheduler/node-rows.ts';
import { ObjectDirectory } from '../../src/scheduler/object-directory.ts';
import { createFakePredictor } from './fake-predictor.ts';

const object = (id: string, sizeBytes: number, holders: readonly string[] = []): InputObject => ({ id, sizeBytes, digest: '', name: '', holders });

/** Nodes n0 … n3, ready, two slots each; cold 500, packages 100, zygote 20, warm 0 ms; 1000 bytes per ms. */
function scene({ threshold = 0.1, history = 1 } = {}) {
  const cluster = new ClusterView(8, createNodeTable(8));
  for (let i = 0; i < 4; i++) {
    cluster.put({ name: `n${i}`, address: '', dataUrl: '', epoch: 1, slots: 2, memoryMb: 1 });
    cluster.status[i] = READY;
  }
  const objects = new ObjectDirectory(cluster, 100);
  const predictor = { ...createFakePredictor(), observations: () => history };
  const entry = new FunctionTable(8).put({ name: 'f', version: '1', packageSet: 'p', slaMs: 1_000, timeoutMs: 1, concurrency: 0, idempotent: true, retries: 0, policy: '', localityKey: '', reuse: true, memoryMb: 256, critical: false });
  entry.installed = new NodeRows(8, NOT_INSTALLED);
  const classifier = createClassifier(cluster, objects, predictor, threshold);
  const out = createCandidates(8);
  const host: InvocationHost = { nowMs: 0, observer: { transitioned: () => {} } };
  const invocation = (inputs: readonly InputObject[] = [], localityKey = ''): Invocation =>
    new Invocation(host, {
      seq: 0, id: 'i', functionName: 'f', functionIndex: 0, arrivedAtMs: 0, slaMs: 1_000, expiresAtMs: Infinity, inputs, inputBytes: inputs.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0), localityKey, policyName: '', idempotent: true, maxAttempts: 1,
    });
  const rows = (of: Invocation, nowMs = 0) => {
    classifier.classify(of, entry, nowMs, out);
    return Array.from({ length: out.count }, (_, row) => ({
      node: out.node[row]!, local: out.local[row] === 1, data: out.degreeData[row]!, infrastructure: out.degreeInfrastructure[row]!, degree: out.degree[row]!, missing: out.missingBytes[row]!,
      start: out.startState[row]!, distance: out.zygoteDistance[row]!, room: out.room[row]!, load: out.load[row]!, kinds: out.kinds[row]!,
    }));
  };
  return { cluster, objects, entry, classifier, out, invocation, rows };
}

describe('classification', () => {
  it('gives the degree by data: bytes held, as time, over all that a cold node had to do', () => {
    const { objects, rows, invocation } = scene();
    objects.add('a', 400_000, 0);
    objects.add('b', 100_000, 0);
    objects.add('b', 100_000, 1);
    const [n0, n1, n2] = rows(invocation([object('a', 400_000), object('b', 100_000)]));
    expect(n0).toMatchObject({ data: 0.5, infrastructure: 0, degree: 0.5, missing: 0, local: true, kinds: 1 });
    expect(n1).toMatchObject({ data: 0.1, missing: 400_000, local: true, kinds: 1 });
    expect(n2).toMatchObject({ data: 0, missing: 500_000, local: false, kinds: 0 });
  });

  it('gives the degree by infrastructure: initialisation saved over initialisation from cold', () => {
    const { entry, rows, invocation } = scene();
    entry.set(0, IDLE, 1);
    entry.set(1, ZYGOTE_DISTANCE, 0);
    for (const node of [1, 2]) entry.installed.set(node, INSTALLED, 1);
    expect(rows(invocation()).map(({ start, infrastructure, local, kinds }) => ({ start, infrastructure, local, kinds }))).toEqual([
      { start: WARM, infrastructure: 1, local: true, kinds: 2 },
      { start: ZYGOTE, infrastructure: 0.96, local: true, kinds: 4 },
      { start: PACKAGES, infrastructure: 0.8, local: true, kinds: 4 },
      { start: COLD, infrastructure: 0, local: false, kinds: 0 },
    ]);
  });

  it('puts a node with some of the packages between cold and packages, by their share of the bytes', () => {
    const { entry, rows, invocation } = scene();
    entry.packageBytes = 1_000;
    [0, 750, 1_000, 1_000].forEach((bytes, node) => entry.set(node, PACKAGE_BYTES_HERE, bytes));
    entry.installed.set(3, INSTALLED, 1);
    expect(rows(invocation()).map(({ start, infrastructure }) => [start, infrastructure])).toEqual([[COLD, 0], [COLD, 0.6], [COLD, 0.8], [PACKAGES, 0.8]]);
  });

  it('interpolates between a zygote and a start without one by the distance of the nearest zygote', () => {
    const { entry, rows, invocation } = scene();
    for (const node of [0, 1, 2, 3]) entry.installed.set(node, INSTALLED, 1);
    [0.25, 1, 0.5, 1].forEach((distance, node) => entry.set(node, ZYGOTE_DISTANCE, distance));
    entry.bareDistance = 0.75;
    entry.bare = Uint8Array.of(1, 1, 0, 0);
    expect(rows(invocation()).map(({ start, distance, infrastructure }) => ({ start, distance, infrastructure }))).toEqual([
      { start: ZYGOTE, distance: 0.25, infrastructure: 1 - (20 + 0.25 * 80) / 500 },
      { start: ZYGOTE, distance: 0.75, infrastructure: 1 - (20 + 0.75 * 80) / 500 },
      { start: ZYGOTE, distance: 0.5, infrastructure: 1 - (20 + 0.5 * 80) / 500 },
      { start: PACKAGES, distance: 1, infrastructure: 0.8 },
    ]);
  });

  it('takes a node without the packages for cold, whatever zygotes it has', () => {
    const { entry, rows, invocation } = scene();
    entry.set(0, ZYGOTE_DISTANCE, 0.5);
    expect(rows(invocation())[0]).toMatchObject({ start: COLD, distance: 1, infrastructure: 0 });
  });

  it('is local from the threshold on, exactly', () => {
    const inputs = [object('a', 500_000)];
    for (const [threshold, local] of [[0.1, true], [0.1001, false]] as const) {
      const { objects, rows, invocation } = scene({ threshold });
      objects.add('small', 100_000, 0);
      expect(rows(invocation([object('small', 100_000), object('a', 400_000)]))[0]).toMatchObject({ degree: 0.1, local });
      expect(rows(invocation(inputs))[0]?.local).toBe(false);
    }
  });

  it('knows no local nodes of a function without history and without inputs', () => {
    const { entry, rows, invocation } = scene({ history: 0 });
    entry.set(0, IDLE, 1);
    expect(rows(invocation())[0]).toMatchObject({ infrastructure: 1, local: false });
    expect(rows(invocation([object('x', 1)]))[0]).toMatchObject({ local: true });
  });

  it('takes a busy sandbox on a full node for warm, and not on a node with room', () => {
    const { cluster, entry, rows, invocation } = scene();
    entry.set(0, BUSY, 1);
    cluster.used[0] = 1;
    expect(rows(invocation())[0]).toMatchObject({ start: COLD, room: 1, load: 0.5 });
    cluster.used[0] = 2;
    expect(rows(invocation())[0]).toMatchObject({ start: WARM, room: 0, load: 1 });
  });

  it('shows ready nodes only, in order', () => {
    const { cluster, rows, invocation } = scene();
    cluster.status.set([DRAINING, READY, STALE, READY]);
    expect(rows(invocation()).map(({ node }) => node)).toEqual([1, 3]);
    cluster.status.set([JOINING, LOST, STALE, DRAINING]);
    expect(rows(invocation())).toEqual([]);
  });

  it('shows no room on a node that refused a moment ago', () => {
    const { cluster, rows, invocation } = scene();
    cluster.refusesUntilMs[0] = 50;
    expect(rows(invocation(), 49)[0]?.room).toBe(0);
    expect(rows(invocation(), 50)[0]?.room).toBe(2);
  });

  it('counts the node of a locality key as local, whatever its degree', () => {
    const { entry, rows, invocation } = scene();
    entry.rememberKey('k', 2);
    expect(rows(invocation([], 'k')).map(({ local }) => local)).toEqual([false, false, true, false]);
    expect(rows(invocation([], 'other')).map(({ local }) => local)).toEqual([false, false, false, false]);
  });

  it('leaves nothing behind from one invocation to the next', () => {
    const { objects, rows, invocation } = scene();
    objects.add('a', 500_000, 0);
    rows(invocation([object('a', 500_000)]));
    expect(rows(invocation([object('b', 500_000)]))[0]).toMatchObject({ data: 0, missing: 500_000 });
    expect(rows(invocation())[0]).toMatchObject({ data: 0, missing: 0 });
  });

  it('classifies one node alone as it does among all, ready or not', () => {
    const { cluster, objects, entry, classifier, invocation, rows } = scene();
    objects.add('a', 500_000, 1);
    entry.installed.set(1, INSTALLED, 1);
    const subject = invocation([object('a', 500_000)]);
    const among = rows(subject)[1]!;
    const one = createCandidates(1);
    cluster.status[1] = DRAINING;
    classifier.classifyOne(subject, entry, 1, 0, one);
    expect(one.count).toBe(1);
    expect({ node: one.node[0], degree: one.degree[0], data: one.degreeData[0], start: one.startState[0], missing: one.missingBytes[0], local: one.local[0] === 1, kinds: one.kinds[0], room: one.room[0] })
      .toEqual({ node: 1, degree: among.degree, data: among.data, start: among.start, missing: among.missing, local: among.local, kinds: among.kinds, room: 0 });
  });

  it('says that the data alone may not make a node more than wholly local', () => {
    const { objects, entry, rows, invocation } = scene();
    objects.add('a', 500_000, 0);
    entry.set(0, IDLE, 1);
    expect(rows(invocation([object('a', 500_000)]))[0]).toMatchObject({ data: 0.5, infrastructure: 0.5, degree: 1 });
  });
});
