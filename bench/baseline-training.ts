/**
 * Bench `baseline-training`, in simulation: what two baselines learn before a run. Aquatope's resource manager chooses CPU and memory of each function of an
 * application so that an execution is cheap and takes at most 1.3 × what it takes with its manifest's memory and one core; the search for XFaaS's critical functions tries all annotations.
 */
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { createRandom } from '../src/core/random.ts';
import { loadApplicationModel, PROFILES_FILE } from '../src/evaluation/application-models.ts';
import { PAPER_CLUSTER, type ClusterPreset } from '../src/evaluation/cluster-preset.ts';
import { searchCriticality } from '../src/evaluation/criticality.ts';
import { simulateApplications, type SimulatedCell } from '../src/evaluation/simulate-applications.ts';
import { sizedApplication } from '../src/evaluation/sized-application.ts';
import { meanOf } from '../src/evaluation/statistics.ts';
import { variantNamed } from '../src/evaluation/variant.ts';
import { costOf, tuneResources, type Measurement, type StageSize } from '../src/policy/resource-manager/resource-manager.ts';
import type { ApplicationModel } from '../src/sim/applications.ts';
import { readProfiles } from '../src/sim/profile-file.ts';
import { APPLICATIONS } from '../src/workload/applications.ts';
import { overRounds, type Bench, type BenchContext, type BenchResult, type Figure } from './harness.ts';

const CLUSTER: ClusterPreset = { ...PAPER_CLUSTER, nodes: 4, slots: 4, cpus: 4, copies: 1 };
/** Clients of the calibration runs of XFaaS: enough that some work has to wait. */
const CLIENTS = 12;
const SLA_FACTOR = 1.3;
const BOUNDS = { cpu: [0.1, 6], memoryMb: [128, 4_096] } as const;

/** Warm executions of an application, one at a time. */
function measure(application: ApplicationModel, executions: number, seed: number): Measurement {
  const { records } = simulateApplications({ preset: CLUSTER, application, variant: variantNamed('aquatope'), seed, concurrency: 1, executions, warmUp: 10, predictor: 'moving-average' });
  return {
    latencyMs: meanOf(records.map(({ latencyMs }) => latencyMs)),
    stageMs: application.functions.map(({ name }) => meanOf(records.map(({ steps }) => steps.reduce((sum, step) => sum + (step.function === name ? step.fetchMs + step.initMs + step.runMs : 0), 0)))),
  };
}

/** The bench. */
export const baselineTrainingBench: Bench = {
  description: 'simulation: what baselines learn before a run: Aquatope\'s sizes of functions, XFaaS\'s critical ones',
  async run({ seed, quick, progress }: BenchContext): Promise<BenchResult> {
    const apps = fileURLToPath(new URL('../apps', import.meta.url));
    const profiles = await readProfiles(join(apps, PROFILES_FILE));
    const executions = quick ? 4 : 10, rounds = quick ? 1 : 3;
    const figures: Figure[] = [];
    const chosen: Record<string, unknown> = {};
    for (const name of quick ? APPLICATIONS.filter((each) => each === 'document' || each === 'inference') : APPLICATIONS) {
      const application = await loadApplicationModel(name, apps, profiles);
      const asManifest: StageSize[] = application.functions.map(({ memoryMb }) => ({ cpu: 1, memoryMb }));
      const costs: number[] = [], counts: number[] = [], latencies: number[] = [];
      for (let round = 0; round < rounds; round++) {
        progress(`baseline-training: sizes of ${name}, round ${round + 1} of ${rounds}`);
        const before = measure(application, executions, seed + round);
        const slaMs = SLA_FACTOR * before.latencyMs;
        const { best, evaluations } = await tuneResources({
          stages: application.functions.length, slaMs, bounds: BOUNDS,
          measure(sizes) {
            const sized = sizedApplication(application, sizes);
            return sized === undefined ? { latencyMs: Infinity, stageMs: before.stageMs } : measure(sized, executions, seed + round);
          },
        }, { random: createRandom(seed, 9_000 + round) });
        costs.push(best === undefined ? 1 : best.cost / costOf(asManifest, before.stageMs));
        latencies.push(best === undefined ? Number.NaN : best.latencyMs / before.latencyMs);
        counts.push(evaluations.length);
        chosen[`${name} sizes`] = best?.sizes ?? 'none keeps the target';
      }
      figures.push(overRounds(`${name}_cost`, '×', costs, rounds), overRounds(`${name}_latency`, '×', latencies, rounds), overRounds(`${name}_evaluations`, '', counts, rounds));
      progress(`baseline-training: critical functions of ${name}`);
      const cell: Omit<SimulatedCell, 'application'> = { preset: CLUSTER, variant: variantNamed('xfaas'), seed, concurrency: CLIENTS, executions: quick ? 60 : 200, warmUp: 40, predictor: 'moving-average' };
      const annotations = await searchCriticality(application.functions.map((each) => each.name), (critical) => {
        const { records } = simulateApplications({ ...cell, application: { ...application, functions: application.functions.map((each) => ({ ...each, critical: critical.includes(each.name) })) } });
        return { meanMs: meanOf(records.map(({ latencyMs }) => latencyMs)), missed: meanOf(records.map(({ latencyMs, slaMs, ok }) => (!ok || latencyMs > slaMs ? 1 : 0))) };
      });
      const [best] = annotations, worst = annotations.at(-1);
      if (best === undefined || worst === undefined) throw new Error(`${name} has no functions.`);
      chosen[`${name} critical`] = best.critical;
      figures.push(overRounds(`${name}_critical_best_over_worst`, '×', [best.meanMs / worst.meanMs], annotations.length));
    }
    return { mode: 'sim', figures, params: { nodes: CLUSTER.nodes, slots: CLUSTER.slots, executions, rounds, slaFactor: SLA_FACTOR, clients: CLIENTS, ...chosen } };
  },
};
