import { describe, expect, it } from 'vitest';
import { EMULATED_CLUSTER } from '../../src/evaluation/cluster-preset.ts';
import { estimateMs } from '../../src/evaluation/estimate.ts';
import { evaluationInputSizes } from '../../src/evaluation/input-sizes.ts';
import { planArrivals, planCells, planExecutions, type Cell } from '../../src/evaluation/plan.ts';
import { FIGURE_VARIANTS, SWEEP_VARIANTS, VARIANTS, variantNamed } from '../../src/evaluation/variant.ts';
import { configFields } from '../../src/config/schema.ts';
import { isPolicyName } from '../../src/policy/registry.ts';
import { SMALL_PLAN } from './records.ts';

describe('the plan', () => {
  it('takes latency targets first, then trains the model, then compares, then scales', () => {
    const ids = planCells(SMALL_PLAN).map(({ id }) => id);
    expect(ids.slice(0, 2)).toEqual(['sla/log/data-locality/c1/s1', 'train/log/round-robin/c2/s1']);
    expect(ids.slice(2, 6).sort()).toEqual(['compare/log/metronome/c2/s1', 'compare/log/metronome/c2/s2', 'compare/log/round-robin/c2/s1', 'compare/log/round-robin/c2/s2']);
    expect(ids.slice(6).every((id) => id.startsWith('scale/log/') && id.includes('/c1/'))).toBe(true);
    expect(new Set(ids).size).toBe(ids.length);
  });

  it('is the same in every run, with the variants of a block in an order that the seed chooses', () => {
    const options = { ...SMALL_PLAN, variants: FIGURE_VARIANTS };
    const orderOf = (seed: number): string[] => planCells({ ...options, seeds: [seed] }).filter(({ purpose }) => purpose === 'compare').map(({ variant }) => variant.name);
    expect(orderOf(1)).toEqual(orderOf(1));
    expect([...orderOf(1)].sort()).toEqual(FIGURE_VARIANTS.map(({ name }) => name).sort());
    expect(new Set(Array.from({ length: 6 }, (_, seed) => orderOf(seed).join())).size).toBeGreaterThan(3);
  });

  it('warms up longer with more clients', () => {
    const warmUps = (options: Partial<Parameters<typeof planCells>[0]>): number[] => [...new Set(planCells({ ...SMALL_PLAN, levels: [1, 20], ...options }).map(({ warmUp }) => warmUp))];
    expect(warmUps({})).toEqual([1]);
    // One client for the latency target, two for the comparison, twenty for the last level.
    expect(warmUps({ warmUp: 5, warmUpPerClient: 3 })).toEqual([5, 6, 60]);
  });

  it('does not run the level of the comparison a second time', () => {
    expect(planCells({ ...SMALL_PLAN, levels: [2] }).filter(({ purpose }) => purpose === 'scale')).toEqual([]);
  });

  it('shows every variant the same executions, the first owner most often', () => {
    const cell = { seed: 1, application: 'log', concurrency: 2, warmUp: 100, executions: 900 } as const;
    const executions = planExecutions(cell, 6, 10);
    expect(planExecutions(cell, 6, 10)).toEqual(executions);
    expect(planExecutions({ ...cell, seed: 2 }, 6, 10)).not.toEqual(executions);
    const counts = Array.from({ length: 6 }, (_, copy) => executions.filter((each) => each.copy === copy).length);
    // 1, 1/2, … 1/6 of 2.45.
    expect(counts[0]).toBeGreaterThan(340);
    expect(counts[0]).toBeLessThan(480);
    expect(counts[5]).toBeGreaterThan(40);
    // 100 before, 900 that count, and as many as there are clients after them.
    expect(counts.reduce((sum, count) => sum + count, 0)).toBe(1_002);
    expect(new Set(executions.map(({ input }) => input))).toEqual(new Set([0, 1, 2, 3, 4, 5, 6, 7, 8, 9]));
  });
});

describe('an open loop', () => {
  const cell = { id: 'x', seed: 4, application: 'log', warmUp: 100, executions: 1_900 } as const;

  it('has arrivals in order of time, at the rate that was asked for, the same for every variant', () => {
    const executions = planArrivals(cell, 6, 10, 5);
    expect(planArrivals(cell, 6, 10, 5)).toEqual(executions);
    const times = executions.map(({ atMs = Number.NaN }) => atMs);
    expect(executions).toHaveLength(2_010);
    expect(times.every((time, i) => i === 0 || time >= times[i - 1]!)).toBe(true);
    // 400 s at 5 per second; flash crowds make it somewhat faster.
    expect(times.at(-1)! / 1_000).toBeGreaterThan(250);
    expect(times.at(-1)! / 1_000).toBeLessThan(480);
  });

  it('is not one of independent arrivals: owners differ in their kinds, and the seconds in their counts', () => {
    const executions = planArrivals(cell, 6, 10, 5);
    const counts = new Map<number, number>();
    for (const { atMs = 0 } of executions) counts.set(Math.floor(atMs / 1_000), (counts.get(Math.floor(atMs / 1_000)) ?? 0) + 1);
    const seconds = Math.ceil(executions.at(-1)!.atMs! / 1_000), mean = executions.length / seconds;
    const variance = Array.from({ length: seconds }, (_, s) => ((counts.get(s) ?? 0) - mean) ** 2).reduce((sum, value) => sum + value, 0) / seconds;
    expect(variance / mean).toBeGreaterThan(1.2);
  });
});

describe('the variants', () => {
  it('name policies and keys that exist, each with a name of its own', () => {
    expect(new Set(VARIANTS.map(({ name }) => name)).size).toBe(VARIANTS.length);
    for (const { policy, overrides } of VARIANTS) {
      expect(isPolicyName(policy), policy).toBe(true);
      for (const [key, value] of Object.entries(overrides)) expect(configFields.find((field) => field.key === key)?.field.safeParse(value).success, `${key} = ${value}`).toBe(true);
    }
  });

  it('sweep something of every policy that has a parameter', () => {
    expect([...new Set(SWEEP_VARIANTS.map(({ of }) => of))].sort()).toEqual(['aquatope', 'lookahead', 'metronome', 'rule-delay', 'xfaas']);
  });

  it('are looked up by name, with a hint for a slip of the pen', () => {
    expect(variantNamed('metronome').policy).toBe('metronome');
    expect(() => variantNamed('metronom')).toThrow('Unknown variant "metronom". Did you mean "metronome"?');
  });
});

describe('the inputs', () => {
  it('of the emulated cluster are of the sizes that the kept evaluation on real nodes had', () => {
    // bench/results/paper-emulated/report.md; what was made is about as large as what was asked for.
    const made = { log: [365_664, 411_318, 912_229, 2_116_808], inference: [117_881, 139_704, 254_745, 233_917] } as const;
    for (const [name, bytes] of Object.entries(made) as [keyof typeof made, readonly number[]][]) {
      const sizes = evaluationInputSizes(EMULATED_CLUSTER, name, 11, 4);
      sizes.forEach((size, i) => expect(Math.abs(size / bytes[i]! - 1), `${name} ${i}: ${size}`).toBeLessThan(0.05));
    }
  });
});

describe('the outlook', () => {
  it('is longer for more cells, for real nodes, and for policies that ask the model in simulation, and shorter with more at once', () => {
    const cells = planCells({ ...SMALL_PLAN, trainExecutions: 0 });
    const of = (wanted: string): Cell[] => cells.filter(({ variant }) => variant.name === wanted);
    expect(estimateMs(cells, false, 1)).toBeGreaterThan(estimateMs(cells, true, 1));
    expect(estimateMs(cells, true, 2)).toBeLessThan(estimateMs(cells, true, 1));
    expect(estimateMs(of('metronome'), true, 1)).toBeGreaterThan(estimateMs(of('round-robin'), true, 1));
    // An execution of the log application is kept with 2.7 s alone.
    expect(estimateMs([{ ...cells[0]!, executions: 40, warmUp: 6, concurrency: 2 }], false, 1) / 1_000 - 60).toBeCloseTo(3 + 48 * 1.35);
  });
});
