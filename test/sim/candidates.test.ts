/** What is lost by looking at the candidates of the indexes only: mean latency on the same work, against the scan of all nodes. */
import { describe, expect, it } from 'vitest';
import { PLAIN_PROFILE } from '../../src/sim/profiles.ts';
import { runScenario, type Scenario } from '../../src/sim/scenario.ts';

/** 150 nodes, more than half of the slots used, a third of the functions with inputs that are worth staying with. */
const LARGE: Scenario = {
  nodes: 150, node: { slots: 4, cores: 4, memoryMb: 4_096, keepAliveMs: 60_000, zygoteMb: 512, objectQuotaBytes: 1e9 }, bytesPerMs: 125_000,
  functions: Array.from({ length: 200 }, (_, i) => ({
    name: `f${i}`, slaMs: 5_000, memoryMb: 256, critical: true, idempotent: true, packageSet: `p${i % 50}`, inputBytes: i % 3 === 0 ? 10_000_000 : 0, inputSigma: 1,
    profile: { ...PLAIN_PROFILE, installMs: 500, importMs: 200, runMs: 100 + 40 * (i % 10), noise: 0.2 },
  })),
  mostPerS: 150, leastPerS: 0.75, durationMs: 4_000, warmUpMs: 1_500, faults: {}, scheduler: {},
};

describe('indexed candidates in a simulated cluster', () => {
  it.each(['metronome', 'lookahead', 'rule-delay'])('cost policy %s at most 2 % of mean latency', (policy) => {
    const [all, indexed] = (['all', 'indexed'] as const).map((candidates) => runScenario({ ...LARGE, scheduler: { candidates } }, policy, 1, false));
    expect([all?.breaches, indexed?.breaches]).toEqual([[], []]);
    expect(indexed?.completed).toBe(all?.completed);
    expect(indexed?.digest).not.toBe(all?.digest);
    expect((indexed?.meanMs ?? Infinity) / (all?.meanMs ?? 0)).toBeLessThan(1.02);
  });
});
