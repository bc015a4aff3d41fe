import { describe, expect, it } from 'vitest';
import { lognormal } from '../../../src/core/distributions.ts';
import { createRandom } from '../../../src/core/random.ts';
import { costOf, sizesAt, tuneResources, type Measurement, type StageSize } from '../../../src/policy/resource-manager/resource-manager.ts';

/** Stages that use so many cores and need so much memory: less of it makes them slow. */
interface Stage {
  readonly workMs: number;
  readonly cores: number;
  readonly needMb: number;
}

const BOUNDS = { cpu: [0.1, 6], memoryMb: [128, 4_096] } as const;

function run(stages: readonly Stage[], sizes: readonly StageSize[], noise: () => number): Measurement {
  const stageMs = stages.map(({ workMs, cores, needMb }, i) => {
    const { cpu, memoryMb } = sizes[i]!;
    return (workMs / Math.min(cpu, cores)) * Math.max(1, needMb / memoryMb) ** 2 * noise();
  });
  return { latencyMs: stageMs.reduce((sum, ms) => sum + ms, 0), stageMs };
}

/** The cheapest feasible sizes by trying a fine grid. */
function optimum(stages: readonly Stage[], slaMs: number): number {
  const steps = stages.length === 1 ? 120 : 24;
  let best = Infinity;
  const point: number[] = [];
  const walk = (): void => {
    if (point.length === 2 * stages.length) {
      const sizes = sizesAt(point, BOUNDS);
      const { latencyMs, stageMs } = run(stages, sizes, () => 1);
      if (latencyMs <= slaMs) best = Math.min(best, costOf(sizes, stageMs));
      return;
    }
    for (let i = 0; i <= steps; i++) {
      point.push(i / steps);
      walk();
      point.pop();
    }
  };
  walk();
  return best;
}

const trueCost = (stages: readonly Stage[], sizes: readonly StageSize[]): number => costOf(sizes, run(stages, sizes, () => 1).stageMs);

describe('the resource manager', () => {
  it('counts the cost of a core and of a GiB by the second', () => {
    expect(costOf([{ cpu: 2, memoryMb: 1_024 }, { cpu: 1, memoryMb: 512 }], [1_000, 500])).toBeCloseTo(2 * 0.173 + 0.0123 + 0.5 * (0.173 + 0.5 * 0.0123), 12);
  });

  it('sees sizes in steps between the bounds, logarithmically', () => {
    expect(sizesAt([0, 0, 1, 1])).toEqual([{ cpu: 0.1, memoryMb: 128 }, { cpu: 6, memoryMb: 10_240 }]);
    expect(sizesAt([0.5, 0.5])).toEqual([{ cpu: 0.8, memoryMb: 1_152 }]);
  });

  it.each([1, 2, 3])('finds sizes within a tenth of the cheapest that keep the SLA, of one stage, from noisy measurements (seed %i)', async (seed) => {
    const stages: Stage[] = [{ workMs: 2_000, cores: 4, needMb: 1_000 }];
    const random = createRandom(seed, 1);
    const { best, evaluations } = await tuneResources({ stages: 1, slaMs: 900, bounds: BOUNDS, measure: (sizes) => run(stages, sizes, () => lognormal(random, 1, 0.03)) }, { random: createRandom(seed) });
    expect(evaluations.length).toBeLessThanOrEqual(70);
    expect(run(stages, best!.sizes, () => 1).latencyMs).toBeLessThan(900 * 1.1);
    expect(trueCost(stages, best!.sizes)).toBeLessThan(1.1 * optimum(stages, 900));
  });

  it('finds sizes within 20 % of the cheapest of two stages, where random search with as many evaluations does not come so near', async () => {
    const stages: Stage[] = [{ workMs: 500, cores: 1, needMb: 256 }, { workMs: 3_000, cores: 4, needMb: 2_000 }];
    const slaMs = 2_000;
    const least = optimum(stages, slaMs);
    const ours: number[] = [], theirs: number[] = [];
    for (const seed of [1, 2, 3]) {
      const random = createRandom(seed, 1);
      const { best, evaluations } = await tuneResources({ stages: 2, slaMs, bounds: BOUNDS, measure: (sizes) => run(stages, sizes, () => lognormal(random, 1, 0.03)) }, { random: createRandom(seed) });
      ours.push(trueCost(stages, best!.sizes) / least);
      const draw = createRandom(seed, 2);
      const tried = evaluations.map(() => sizesAt([0, 0, 0, 0].map(() => draw.uniform()), BOUNDS)).filter((sizes) => run(stages, sizes, () => 1).latencyMs <= slaMs);
      theirs.push(Math.min(...tried.map((sizes) => trueCost(stages, sizes))) / least);
    }
    ours.sort((a, b) => a - b);
    theirs.sort((a, b) => a - b);
    expect(ours[1]).toBeLessThan(1.2);
    expect(ours[1]).toBeLessThan(theirs[1]!);
  }, 120_000);

  it('does not learn from measurements that all others contradict', async () => {
    const stages: Stage[] = [{ workMs: 1_000, cores: 2, needMb: 512 }];
    let count = 0;
    const { best, anomalies } = await tuneResources({
      stages: 1, slaMs: 1_000, bounds: { cpu: [0.5, 4], memoryMb: [512, 2_048] },
      measure(sizes) {
        const seen = run(stages, sizes, () => 1);
        // The fifth meets a disturbance.
        return ++count === 5 ? { latencyMs: 9 * seen.latencyMs, stageMs: seen.stageMs.map((ms) => 9 * ms) } : seen;
      },
    }, { random: createRandom(4) });
    expect(anomalies).toBeGreaterThanOrEqual(1);
    expect(trueCost(stages, best!.sizes)).toBeLessThan(1.1 * costOf([{ cpu: 2, memoryMb: 512 }], [500]));
  });

  it('recommends nothing when nothing keeps the SLA, and uses up its evaluations', async () => {
    const { best, evaluations, endedBecause } = await tuneResources({ stages: 1, slaMs: 1, measure: () => ({ latencyMs: Infinity, stageMs: [5_000] }) }, { random: createRandom(5), maxEvaluations: 16 });
    expect(best).toBeUndefined();
    expect([evaluations.length, endedBecause]).toEqual([16, 'evaluationsUsed']);
  });

  it('ends when its recommendation is stable, and when it is told to', async () => {
    const flat = { stages: 1, slaMs: 1_000, measure: (): Measurement => ({ latencyMs: 10, stageMs: [0] }) };
    const { evaluations, endedBecause } = await tuneResources(flat, { random: createRandom(6) });
    expect([evaluations.length, endedBecause]).toEqual([10 + 4 * 3, 'stable']);
    const aborting = new AbortController();
    const aborted = await tuneResources({ ...flat, onEvaluated: (_each, count) => count === 3 && aborting.abort() }, { random: createRandom(6), signal: aborting.signal });
    expect([aborted.evaluations.length, aborted.endedBecause]).toEqual([3, 'aborted']);
  });

  it('refuses problems that are none', async () => {
    const measure = (): Measurement => ({ latencyMs: 1, stageMs: [1] });
    await expect(tuneResources({ stages: 0, slaMs: 1, measure }, { random: createRandom(1) })).rejects.toMatchObject({ code: 'INVALID_REQUEST', message: 'A workflow of 0 stages cannot be tuned; 1 to 8 can.' });
    await expect(tuneResources({ stages: 1, slaMs: 0, measure }, { random: createRandom(1) })).rejects.toMatchObject({ code: 'INVALID_REQUEST', message: 'The SLA must be more than 0 ms, not 0.' });
  });
});
