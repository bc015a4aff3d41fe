/** Several schedulers that share the functions and lease the slots of all nodes: nothing is used twice, nothing is left, and leases follow the work. */
import { describe, expect, it } from 'vitest';
import { PLAIN_PROFILE } from '../../src/sim/profiles.ts';
import { runScenario, type Scenario } from '../../src/sim/scenario.ts';
import { Simulation } from '../../src/sim/simulation.ts';
import type { VirtualNodeOptions } from '../../src/sim/virtual-node.ts';
import { ROUGH, SMOOTH } from './scenario.ts';

const NODE: VirtualNodeOptions = { slots: 4, cores: 4, memoryMb: 8_192, keepAliveMs: 60_000, zygoteMb: 0, objectQuotaBytes: 1e9 };

/** `nodes` nodes and `shards` schedulers; one function for each of them, by the order of the schedulers. */
function sharded(nodes: number, shards: number) {
  const sim = new Simulation({ seed: 1, shards, nodes: Array.from({ length: nodes }, () => NODE) });
  const of: string[] = [];
  for (let f = 0; of.filter((name) => name !== undefined).length < shards; f++) {
    sim.deploy({ name: `f${f}`, slaMs: 60_000 }, { ...PLAIN_PROFILE, runMs: 2_000, noise: 0 });
    const at = sim.schedulers.findIndex(({ functions }) => functions.get(`f${f}`) !== undefined);
    of[at] ??= `f${f}`;
  }
  const leases = (node: number): number[] => sim.schedulers.map(({ cluster }) => cluster.slots[node]!);
  return { sim, of, leases };
}

describe('sharded schedulers', () => {
  it('begin with the slots of each node dealt out evenly', () => {
    const { sim, leases } = sharded(4, 3);
    expect([0, 1, 2, 3].map((node) => leases(node).toSorted())).toEqual(Array.from({ length: 4 }, () => [1, 1, 2]));
    // What is left over goes to each of them in turn.
    expect(sim.schedulers.map(({ cluster }) => cluster.readySlots).toSorted()).toEqual([5, 5, 6]);
    sim.stop();
  });

  it('get the slots of those that have nothing to do, and give them back when the work is elsewhere', () => {
    const { sim, of, leases } = sharded(2, 2);
    for (let i = 0; i < 8; i++) sim.submit(of[0]!);
    sim.advance(1_500);
    // All eight run at once, though only four slots were its own.
    expect(sim.schedulers[0]!.cluster.used.slice(0, 2)).toEqual(Int32Array.of(4, 4));
    expect([leases(0), leases(1)]).toEqual([[4, 0], [4, 0]]);
    sim.settle(60_000);
    for (let i = 0; i < 8; i++) sim.submit(of[1]!);
    sim.advance(1_500);
    expect([leases(0), leases(1)]).toEqual([[0, 4], [0, 4]]);
    expect(sim.settle(60_000)).toBe(0);
    expect(sim.leaseMessages).toBeGreaterThan(8);
    sim.stop();
  });

  it.each(['metronome', 'lookahead', 'round-robin', 'xfaas'])('never send a node more than it has, and end everything, with policy %s', (policy) => {
    const scenario: Scenario = { ...SMOOTH, mostPerS: 40, shards: 4 };
    let rejected = 0;
    const result = runScenario(scenario, policy, 3);
    expect(result.breaches).toEqual([]);
    expect(result.completed).toBe(result.submitted);
    const sim = new Simulation({ seed: 2, shards: 4, policy, nodes: Array.from({ length: 3 }, () => NODE), onTransition: (_invocation, _from, _to, { type }) => void (rejected += Number(type === 'REJECTED')) });
    for (let f = 0; f < 12; f++) sim.deploy({ name: `f${f}` }, { ...PLAIN_PROFILE, runMs: 100 + 20 * f });
    for (let i = 0; i < 300; i++) sim.at(i * 12, () => void sim.submit(`f${(i * 7) % 12}`));
    const slots = (): void => {
      for (let node = 0; node < 3; node++) {
        let leased = 0;
        for (const { cluster } of sim.schedulers) {
          leased += cluster.slots[node]!;
          expect(cluster.used[node]).toBeLessThanOrEqual(cluster.slots[node]!);
        }
        expect(leased).toBeLessThanOrEqual(NODE.slots);
      }
    };
    for (let i = 0; i < 500; i++) {
      sim.advance(10);
      slots();
    }
    expect(sim.settle(60_000)).toBe(0);
    expect(rejected).toBe(0);
    for (const node of sim.nodes) expect(node.mostRunning).toBeLessThanOrEqual(NODE.slots);
    sim.stop();
  });

  it('are the same for the same seed, and one of them is no other than a scheduler alone', () => {
    const digest = (shards: number | undefined): string => runScenario({ ...SMOOTH, ...(shards === undefined ? {} : { shards }) }, 'metronome', 5).digest;
    expect(digest(3)).toBe(digest(3));
    expect(digest(1)).toBe(digest(undefined));
    expect(digest(3)).not.toBe(digest(1));
  });

  it('refuse faults, which they do not know', () => {
    expect(() => runScenario({ ...ROUGH, shards: 2 }, 'metronome', 1)).toThrow('2 shards are simulated without faults only');
  });
});
