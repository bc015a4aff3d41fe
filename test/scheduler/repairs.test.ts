/**
 * Algorithm 1 as printed and as repaired, in the scheduler. The repairs that a policy alone can show stand in
 * test/policy/repairs.test.ts. What the scheduler repairs (events, lines, slots, re-classification) holds in strict mode too, because
 * strict is only the printed decision; these tests say so.
 */
import { describe, expect, it } from 'vitest';
import { HOP_MS, createCluster, type Cluster } from './cluster.ts';

/** f is warm on n0, whose only slot runs it for `blockMs`; n1 has room and is cold: T_l = 100, T_f = 600, θ(1−β) − T_f = 300. */
function busyLocal(strict: boolean, blockMs: number, settings: Parameters<Cluster['deploy']>[1] = {}): Cluster {
  const cluster = createCluster({ slots: [1, 4], strict });
  cluster.deploy('f', settings);
  cluster.warm('f', cluster.nodes[0]!);
  cluster.submit('f', blockMs);
  return cluster;
}

describe('repair: absolute deadline', () => {
  it('strict waits for a busy node without end while predictions are stable (SPARK-18886)', () => {
    const cluster = busyLocal(true, 60_000);
    const waiter = cluster.submit('f', 100);
    cluster.advance(59_000);
    expect(cluster.state(waiter)).toBe('delaying');
    cluster.advance(1_000 + 2 * HOP_MS);
    expect(waiter).toMatchObject({ node: 0, placedBecause: 'localNodeReleased' });
    cluster.advance(200);
    expect(cluster.scheduler.counters.slaMissed).toBe(2);
  });

  it('repaired runs elsewhere when the safe delay is over, and keeps the SLA', () => {
    const cluster = busyLocal(false, 60_000);
    const waiter = cluster.submit('f', 600);
    cluster.advance(300);
    expect(waiter).toMatchObject({ node: 1, reason: 'slackExhausted' });
    cluster.advance(700);
    expect(cluster.state(waiter)).toBe('completed');
    expect(cluster.scheduler.counters.slaMissed).toBe(0);
  });
});

describe.each([false, true])('repair (strict: %s): events instead of polling', (strict) => {
  it('a release is acted on in the same moment, whatever the monitor interval', () => {
    const cluster = busyLocal(strict, 133);
    const waiter = cluster.submit('f', 100);
    cluster.advance(133 + 2 * HOP_MS);
    expect(waiter).toMatchObject({ node: 0, delayedMs: 135 });
  });
});

describe.each([false, true])('repair (strict: %s): a waiting line per node', (strict) => {
  it('those who wait get the node in their order, and a newcomer at the moment of release overtakes nobody', () => {
    // No node has memory for another sandbox, so no wait speaks for making one.
    const cluster = busyLocal(strict, 20, { memoryMb: 2_000 });
    // No more than are expected to have their turn within the slack.
    const waiters = Array.from({ length: 2 }, () => cluster.submit('f', 20));
    cluster.advance(20 + HOP_MS);
    const newcomer = cluster.submit('f', 20);
    cluster.advance(250);
    const order = cluster.sent.filter(({ node }) => node === 0).map(({ id }) => id).slice(1);
    expect(order).toEqual([...waiters, newcomer].map(({ id }) => id));
    expect(cluster.nodes[0]!.oversold).toBe(0);
  });
});

describe.each([false, true])('repair (strict: %s): the target is revised', (strict) => {
  it.each<[string, (cluster: Cluster) => void]>([
    ['is lost', (cluster) => cluster.kill(cluster.nodes[0]!, true)],
    ['drains', (cluster) => cluster.scheduler.drainNode(0, true)],
    ['has lost what made it local', (cluster) => cluster.warm('f', cluster.nodes[0]!, 0, 0)],
  ])('when it %s', (_how, leave) => {
    const cluster = busyLocal(strict, 60_000);
    const waiter = cluster.submit('f', 100);
    expect(waiter.target).toBe(0);
    cluster.advance(10);
    leave(cluster);
    cluster.advance(0);
    expect(waiter).toMatchObject({ node: 1 });
  });
});

describe.each([false, true])('repair (strict: %s): only nodes with room', (strict) => {
  it('a fallback node is never given more than its slots, and none is taken when all are full', () => {
    const cluster = createCluster({ slots: [1, 1], strict });
    cluster.deploy('f', { slaMs: 700 });
    cluster.deploy('g');
    cluster.warm('f', cluster.nodes[0]!);
    cluster.submit('f', 500);
    cluster.submit('g', 500);
    const waiter = cluster.submit('f', 50);
    expect(cluster.state(waiter)).toBe('delaying');
    cluster.advance(400);
    expect(cluster.state(waiter)).toBe('delaying');
    cluster.advance(200);
    expect(cluster.state(waiter)).toBe('completed');
    expect(cluster.nodes.map(({ oversold, mostRunning }) => ({ oversold, mostRunning }))).toEqual([{ oversold: 0, mostRunning: 1 }, { oversold: 0, mostRunning: 1 }]);
  });
});
