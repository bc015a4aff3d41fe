/** Simulations with faults. A failure names its seed; `METRONOME_SEED=<seed> npx vitest run test/sim/faults.test.ts` replays it, shrunk. */
import { describe, expect, it } from 'vitest';
import { POLICY_NAMES } from '../../src/policy/registry.ts';
import { FAULT_KINDS } from '../../src/sim/faults.ts';
import { breachesOf } from '../../src/sim/invariants.ts';
import { runScenario, shrink } from '../../src/sim/scenario.ts';
import { Simulation } from '../../src/sim/simulation.ts';
import { ROUGH } from './scenario.ts';

const replayed = process.env.METRONOME_SEED;

describe.each(POLICY_NAMES)('with policy %s and faults', (policy) => {
  it('what must always hold holds all along', () => {
    const seeds = replayed === undefined ? Array.from({ length: policy === 'metronome' || policy === 'lookahead' ? 12 : 4 }, (_, i) => i + 1) : [Number(replayed)];
    for (const seed of seeds) {
      const result = runScenario(ROUGH, policy, seed);
      if (result.breaches.length > 0) {
        const small = shrink(ROUGH, policy, seed);
        expect.fail(`seed ${seed}: ${result.breaches.slice(0, 3).join('; ')}\nshrunk to ${JSON.stringify({ nodes: small.nodes, functions: small.functions.length, durationMs: small.durationMs, faults: small.faults })}`);
      }
      expect(result.faults).toBeGreaterThan(5);
      expect(result.completed).toBeGreaterThan(0.9 * result.submitted);
    }
  });
});

describe('faults', () => {
  it('of every kind happen', () => {
    for (const kind of FAULT_KINDS) expect(runScenario({ ...ROUGH, durationMs: 10_000, faults: { [kind]: 30 } }, 'metronome', 3).faults, kind).toBeGreaterThan(0);
  });

  it('are the same for the same seed', () => {
    expect(runScenario(ROUGH, 'metronome', 5)).toEqual(runScenario(ROUGH, 'metronome', 5));
    expect(runScenario(ROUGH, 'metronome', 5).digest).not.toBe(runScenario(ROUGH, 'metronome', 6).digest);
  });

  it('that are looked for leave the run as it is: checking has no effect', () => {
    expect(runScenario(ROUGH, 'lookahead', 2, false).digest).toBe(runScenario(ROUGH, 'lookahead', 2, true).digest);
  });
});

describe('the invariants', () => {
  it('notice a slot that is counted wrong, and a waiter without a deadline', () => {
    const sim = new Simulation({ seed: 1, nodes: [{ slots: 1, cores: 1, memoryMb: 1_024, keepAliveMs: 0, zygoteMb: 0, objectQuotaBytes: 1 }] });
    sim.deploy({ name: 'f' });
    sim.submit('f');
    const waiting = sim.submit('f');
    expect(breachesOf(sim.scheduler, sim.clock.nowMs(), 100)).toEqual([]);
    sim.scheduler.cluster.used[0] = 0;
    waiting.duePlace = -1;
    const found = breachesOf(sim.scheduler, sim.clock.nowMs(), 100);
    expect(found.some((breach) => breach.includes('n0 has 0 slots used, 1 booked'))).toBe(true);
    expect(found.some((breach) => breach.includes('delays without an armed deadline'))).toBe(true);
    sim.stop();
  });

  it('that fail are shrunk to the smallest scenario that still fails', () => {
    // No node is ever ready for so long a wait: what was accepted cannot end.
    const hopeless = { ...ROUGH, faults: {}, node: { ...ROUGH.node, memoryMb: 1 }, scheduler: { maxWaitMs: 10_000_000 } };
    expect(runScenario(hopeless, 'metronome', 1).breaches.length).toBeGreaterThan(0);
    const small = shrink(hopeless, 'metronome', 1, 12);
    expect(small.functions).toHaveLength(1);
    expect(small.durationMs).toBeLessThan(ROUGH.durationMs);
  });
});
