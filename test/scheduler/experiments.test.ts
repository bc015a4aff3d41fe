/** What the switches for experiments take away (src/scheduler/experiments.ts). */
import { describe, expect, it } from 'vitest';
import { HOP_MS, createCluster, type Cluster } from './cluster.ts';

/** f is warm on n0, whose only slot runs it for 133 ms; n1 has room and is cold: T_l = 100, T_f = 600, waiting is safe for 300 ms. */
function busyLocal(options: Parameters<typeof createCluster>[0]): Cluster {
  const cluster = createCluster({ slots: [1, 4], ...options });
  cluster.deploy('f');
  cluster.warm('f', cluster.nodes[0]!);
  cluster.submit('f', 133);
  return cluster;
}

describe('decideOn', () => {
  it('events: a release is acted on in the same moment', () => {
    const cluster = busyLocal({ decideOn: 'events' });
    const waiter = cluster.submit('f', 10);
    cluster.advance(250);
    expect(waiter).toMatchObject({ node: 0, delayedMs: 133 + 2 * HOP_MS });
  });

  it('polls: it is seen at the next poll only', () => {
    const cluster = busyLocal({ decideOn: 'polls' });
    const waiter = cluster.submit('f', 10);
    cluster.advance(250);
    expect(waiter).toMatchObject({ node: 0, delayedMs: 200, placedBecause: 'localNodeReleased' });
  });

  it('polls: the safe delay ends when it ends', () => {
    const cluster = createCluster({ slots: [1, 4], decideOn: 'polls' });
    cluster.deploy('f');
    cluster.warm('f', cluster.nodes[0]!);
    cluster.submit('f', 60_000);
    const waiter = cluster.submit('f', 600);
    cluster.advance(300);
    expect(waiter).toMatchObject({ node: 1, reason: 'slackExhausted' });
  });

  it('polls: who waits for any room looks at every poll, and whoever arrives in between overtakes', () => {
    const cluster = createCluster({ slots: [1], policy: 'round-robin', decideOn: 'polls' });
    cluster.deploy('f');
    cluster.submit('f', 133);
    const waiter = cluster.submit('f', 10);
    cluster.advance(133 + 2 * HOP_MS);
    expect(cluster.state(waiter)).toBe('delaying');
    const newcomer = cluster.submit('f', 10);
    expect(newcomer.node).toBe(0);
    cluster.advance(100);
    expect(waiter).toMatchObject({ node: 0, queuedMs: 200 });
    cluster.advance(100);
    expect(cluster.scheduler.live.size).toBe(0);
  });
});

describe('blindTo', () => {
  const candidates = (cluster: Cluster, functionName: string, inputs: Parameters<Cluster['scheduler']['plan']>[0]['inputs']) => {
    const seen: { local: number; data: number; infrastructure: number; missing: number; T: number }[] = [];
    cluster.scheduler.plan({ functionName, slaMs: 0, expiresAtMs: Infinity, inputs, localityKey: '', policyName: '', cargo: undefined }, ({ candidates: { count, local, degreeData, degreeInfrastructure, missingBytes, meanMs } }) => {
      for (let row = 0; row < count; row++) seen.push({ local: local[row]!, data: degreeData[row]!, infrastructure: degreeInfrastructure[row]!, missing: missingBytes[row]!, T: meanMs[row]! });
    });
    return seen;
  };
  /** n0 has the data, n1 a warm sandbox; a run takes 100, a cold start 500, the data 500 ms. */
  const scene = (blindTo: 'nothing' | 'data' | 'infrastructure') => {
    const cluster = createCluster({ slots: [1, 1, 1], blindTo });
    cluster.deploy('f');
    cluster.warm('f', cluster.nodes[1]!);
    cluster.scheduler.objectAdded('o', 500_000, 0);
    return candidates(cluster, 'f', [{ id: 'o', sizeBytes: 500_000, digest: '', name: '', holders: [] }]);
  };

  it('nothing: both kinds count', () => {
    expect(scene('nothing').map(({ local, T }) => [local, T])).toEqual([[1, 600], [1, 600], [0, 1_100]]);
  });

  it('data: the node with the input is like any other, to the degree and to the prediction', () => {
    expect(scene('data')).toEqual([
      { local: 0, data: 0, infrastructure: 0, missing: 500_000, T: 1_100 },
      { local: 1, data: 0, infrastructure: 0.5, missing: 500_000, T: 600 },
      { local: 0, data: 0, infrastructure: 0, missing: 500_000, T: 1_100 },
    ]);
  });

  it('infrastructure: the node with the warm sandbox is like any other', () => {
    expect(scene('infrastructure')).toEqual([
      { local: 1, data: 0.5, infrastructure: 0, missing: 0, T: 100 },
      { local: 0, data: 0, infrastructure: 0, missing: 500_000, T: 600 },
      { local: 0, data: 0, infrastructure: 0, missing: 500_000, T: 600 },
    ]);
  });

  it('either: a locality key still makes its node local', () => {
    const cluster = createCluster({ slots: [2, 2], blindTo: 'infrastructure' });
    cluster.deploy('f', { localityKey: 'k' });
    const first = cluster.submit('f', 10);
    cluster.advance(50);
    const second = cluster.submit('f', 10);
    expect(second).toMatchObject({ node: first.node, localClass: 1, degree: 0 });
  });
});
