import { describe, expect, it } from 'vitest';
import { runReplicas } from '../../src/sim/replicas.ts';
import { runScenario } from '../../src/sim/scenario.ts';
import { SMOOTH } from './scenario.ts';

describe('replicas in the pool', () => {
  it('give the digests of this thread, in order, with any number of threads', async () => {
    const policies = ['metronome', 'lookahead'], seeds = [1, 2, 3];
    const here = policies.flatMap((policy) => seeds.map((seed) => runScenario(SMOOTH, policy, seed)));
    expect(new Set(here.map(({ digest }) => digest)).size).toBe(6);
    for (const threads of [1, 2]) {
      const told: number[] = [];
      const there = await runReplicas({ scenario: SMOOTH, policies, seeds, threads, onResult: (_result, done) => void told.push(done) });
      expect(there).toEqual(here);
      expect(told).toEqual([1, 2, 3, 4, 5, 6]);
    }
  }, 120_000);

  it('end with the reason when they are cancelled', async () => {
    await expect(runReplicas({ scenario: SMOOTH, policies: ['metronome'], seeds: [1, 2, 3, 4], threads: 1, signal: AbortSignal.abort() })).rejects.toThrow(/abort/i);
  });
});
