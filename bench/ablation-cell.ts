/** Piscina entry of bench `ablations`: one variant on one piece of work with one seed. */
import { loadConfig } from '../src/config/load.ts';
import { schedulerParameters } from '../src/config/scheduler-parameters.ts';
import { simulateApplications, type SimulatedCell } from '../src/evaluation/simulate-applications.ts';
import type { Ablation } from '../src/evaluation/ablations.ts';
import { createOnlineModel } from '../src/predictor/model/online-model.ts';
import { runScenario, type Scenario } from '../src/sim/scenario.ts';
import { quantile } from './harness.ts';

/** The daemon's model with fewer trees and a smaller window: a cell has some thousand executions. */
const SMALL_MODEL = { trees: 20, window: 1_000, updateEvery: 200, replace: 2 } as const;

/** What a task is given; plain data. */
export interface AblationTask {
  readonly variant: Pick<Ablation, 'name' | 'policy' | 'overrides' | 'predictor' | 'greedySteps'>;
  readonly seed: number;
  /** A scenario, or an application at a rate. */
  readonly work: { readonly scenario: Scenario } | { readonly cell: Omit<SimulatedCell, 'variant' | 'seed' | 'predictor'> };
}

/** What came of it. */
export interface AblationOutcome {
  readonly executions: number;
  readonly meanMs: number;
  readonly p99Ms: number;
  /** Share of executions that missed their target. */
  readonly missed: number;
  /** Share of slots taken; 0 for scenarios. */
  readonly utilisation: number;
}

/** Runs it to its end. */
export default function run({ variant, seed, work }: AblationTask): AblationOutcome {
  const predictor = variant.predictor ?? 'forest';
  if ('scenario' in work) {
    const { policy: _policy, ...scheduler } = schedulerParameters(loadConfig({ flags: variant.overrides, env: {}, cwd: '/' }).config);
    const { meanMs, p99Ms, slaMissed, completed } = runScenario({ ...work.scenario, scheduler, predictor }, variant.policy, seed, false);
    return { executions: completed, meanMs, p99Ms, missed: completed === 0 ? 0 : slaMissed / completed, utilisation: 0 };
  }
  const { records, slotUtilisation } = simulateApplications({ ...work.cell, variant, seed, predictor, greedySteps: variant.greedySteps ?? false }, predictor === 'forest' ? createOnlineModel({ ...SMALL_MODEL, seed }) : undefined);
  const sorted = records.map(({ latencyMs }) => latencyMs).sort((a, b) => a - b);
  return { executions: records.length, meanMs: sorted.reduce((sum, ms) => sum + ms, 0) / sorted.length, p99Ms: quantile(sorted, 0.99), missed: records.filter(({ latencyMs, slaMs, ok }) => !ok || latencyMs > slaMs).length / records.length, utilisation: slotUtilisation };
}
