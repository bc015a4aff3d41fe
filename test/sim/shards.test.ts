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

  it.each(['metronome', 'lookahead', 'round-robin'])('keep what must always hold while nodes and schedulers die and messages about leases are late or lost, with policy %s', (policy) => {
    let lost = 0;
    for (const seed of [1, 2, 3, 4]) {
      const result = runScenario({ ...ROUGH, shards: 3, faults: { ...ROUGH.faults, killShard: 20, lateLeases: 15, lostLeases: 15 } }, policy, seed);
      expect(result.breaches, `seed ${seed}`).toEqual([]);
      expect(result.completed, `seed ${seed}`).toBeGreaterThan(0.85 * result.submitted);
      lost += result.lost;
    }
    expect(lost).toBeGreaterThan(10);
  });

  it('are the same for the same seed under faults too', () => {
    const scenario: Scenario = { ...ROUGH, durationMs: 8_000, shards: 3, faults: { ...ROUGH.faults, killShard: 20, lostLeases: 20 } };
    expect(runScenario(scenario, 'metronome', 4)).toEqual(runScenario(scenario, 'metronome', 4));
  });

  it('leave what runs where it runs when they die, and count its slots when they come back', () => {
    const { sim, of, leases } = sharded(1, 2);
    for (let i = 0; i < 2; i++) sim.submit(of[0]!);
    sim.advance(500);
    sim.killShard(0);
    expect(() => sim.submit(of[0]!)).toThrow('shard 0, is down');
    sim.advance(500);
    expect(sim.nodes[0]!.runs.size).toBe(2);
    sim.restartShard(0);
    sim.advance(100);
    // Two that it does not know run on its slots.
    expect([sim.schedulers[0]!.cluster.slots[0], sim.schedulers[0]!.cluster.used[0]]).toEqual([2, 2]);
    const again = sim.submit(of[0]!);
    expect(again.id.startsWith('s0.1.')).toBe(true);
    expect(sim.settle(60_000)).toBe(0);
    expect(sim.leases!.breaches()).toEqual([]);
    expect([leases(0)[0]! + leases(0)[1]!, sim.schedulers[0]!.cluster.used[0]]).toEqual([4, 0]);
    sim.stop();
  });

  it('have every slot again when messages about leases come through again', () => {
    const { sim, of, leases } = sharded(2, 2);
    sim.leases!.disturbance = { lost: 0.7, lateMs: 100 };
    for (let round = 0; round < 6; round++) {
      for (let i = 0; i < 8; i++) sim.submit(of[round % 2]!);
      for (let step = 0; step < 100; step++) {
        sim.advance(40);
        expect(sim.leases!.breaches()).toEqual([]);
      }
    }
    expect(sim.leases!.lost).toBeGreaterThan(5);
    sim.leases!.disturbance = { lost: 0, lateMs: 0 };
    expect(sim.settle(60_000)).toBe(0);
    sim.advance(3_000);
    for (let i = 0; i < 8; i++) sim.submit(of[0]!);
    sim.advance(1_900);
    expect([leases(0)[0], leases(1)[0]]).toEqual([4, 4]);
    expect(sim.settle(60_000)).toBe(0);
    sim.stop();
  });
});

describe('one scheduler', () => {
  it('refuses faults of shards', () => {
    expect(() => runScenario({ ...ROUGH, faults: { killShard: 1 } }, 'metronome', 1)).toThrow('The fault killShard happens to shards, and the scenario has one scheduler');
  });
});
