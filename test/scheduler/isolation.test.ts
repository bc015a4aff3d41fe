/** Functions that ask for an isolation run on nodes that offer it, and hold up nobody else. */
import { describe, expect, it } from 'vitest';
import { MetronomeError } from '../../src/core/errors.ts';
import type { NodeInfo } from '../../src/scheduler/cluster-view.ts';
import { createCluster, type Cluster } from './cluster.ts';

/** n0 offers processes only, n1 both; one slot each. */
function mixed(): Cluster {
  const cluster = createCluster({ slots: [1, 1] });
  offer(cluster, 0, ['process']);
  offer(cluster, 1, ['process', 'bubblewrap']);
  cluster.deploy('plain');
  cluster.deploy('isolated', { isolation: 'bubblewrap' });
  return cluster;
}

/** The node says it again, as after a restart with another configuration. */
function offer({ scheduler }: Cluster, node: number, isolation: readonly string[]): void {
  scheduler.nodeRegistered({ ...(scheduler.cluster.info[node] as NodeInfo), isolation });
}

describe('a function that asks for an isolation', () => {
  it('goes to a node that offers it, though another one is local', () => {
    const cluster = mixed();
    cluster.warm('isolated', cluster.nodes[0]!);
    expect(cluster.submit('isolated', 10)).toMatchObject({ node: 1 });
  });

  it('waits for such a node when that is full, and gets it on its release', () => {
    const cluster = mixed();
    cluster.submit('isolated', 100);
    const waiter = cluster.submit('isolated', 10);
    expect(cluster.state(waiter)).toBe('delaying');
    cluster.advance(90);
    expect(cluster.state(waiter)).toBe('delaying'); // n0 is free all the time
    cluster.advance(20);
    expect(waiter.node).toBe(1);
  });

  it('that waits for room holds up nobody who can use another node', () => {
    const cluster = mixed();
    cluster.submit('isolated', 1_000);
    cluster.submit('plain', 50);
    const isolated = cluster.submit('isolated', 10);
    const plain = cluster.submit('plain', 10);
    expect([cluster.state(isolated), cluster.state(plain)]).toEqual(['delaying', 'delaying']);
    cluster.advance(60);
    // n0 was released: the first in the order of urgency cannot use it.
    expect(plain).toMatchObject({ node: 0 });
    expect(cluster.state(isolated)).toBe('delaying');
    cluster.advance(1_000);
    expect(isolated).toMatchObject({ node: 1 });
  });

  it('of which no node offers it fails at once, with the isolation named, until one does', () => {
    const cluster = createCluster({ slots: [1] });
    cluster.deploy('isolated', { isolation: 'bubblewrap' });
    const refused = (): unknown => {
      try {
        return cluster.submit('isolated', 10);
      } catch (error) {
        return error;
      }
    };
    const error = refused();
    expect(error).toBeInstanceOf(MetronomeError);
    expect(error).toMatchObject({ code: 'NO_NODES', message: expect.stringMatching(/"bubblewrap" that the function "isolated" asks for/) });
    offer(cluster, 0, ['bubblewrap']);
    expect(cluster.submit('isolated', 10)).toMatchObject({ node: 0 });
  });

  it('that asks for what the only node does not give by default still gets it there', () => {
    const cluster = createCluster({ slots: [2] });
    offer(cluster, 0, ['bubblewrap', 'process']);
    cluster.deploy('light', { isolation: 'process' });
    cluster.deploy('any');
    expect(cluster.submit('light', 10)).toMatchObject({ node: 0 });
    expect(cluster.submit('any', 10)).toMatchObject({ node: 0 });
  });
});
