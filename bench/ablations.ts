/**
 * Bench `ablations`, in simulation: what each repair of Algorithm 1 and each idea of `lookahead` is worth, and how far `lookahead` is from two oracles. The
 * four applications with fitted costs at several utilisations, and a mix of functions with large inputs and heavy packages. Every variant sees the same arrivals,
 * inputs and costs. Ratios are of mean latencies of the same work and seeds: value the geometric mean, low and high the extremes over all work.
 */
import { mkdir, writeFile } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Piscina } from 'piscina';
import { ABLATIONS, ORACLE, ORACLE_OF_MEANS, type Ablation } from '../src/evaluation/ablations.ts';
import { loadApplicationModel, PROFILES_FILE } from '../src/evaluation/application-models.ts';
import { PAPER_CLUSTER, type ClusterPreset } from '../src/evaluation/cluster-preset.ts';
import { simulateApplications } from '../src/evaluation/simulate-applications.ts';
import { meanOf } from '../src/evaluation/statistics.ts';
import { variantNamed } from '../src/evaluation/variant.ts';
import { confidenceOf } from '../src/report/confidence.ts';
import { drawLines, writePlot } from '../src/report/plot.ts';
import { PLAIN_PROFILE, type FunctionProfile } from '../src/sim/profiles.ts';
import { readProfiles } from '../src/sim/profile-file.ts';
import type { Scenario } from '../src/sim/scenario.ts';
import { ratesByRank } from '../src/workload/arrivals.ts';
import { APPLICATIONS } from '../src/workload/applications.ts';
import type { AblationOutcome, AblationTask } from './ablation-cell.ts';
import type { Bench, BenchContext, BenchResult, Figure } from './harness.ts';

const MIB = 1024 ** 2;
/** The paper's links and inputs on fewer slots, so that some thousand executions are many per slot. */
const CLUSTER: ClusterPreset = { ...PAPER_CLUSTER, nodes: 6, slots: 2, cpus: 2, memoryBytes: 2_048 * MIB, copies: 3 };

interface Work {
  readonly group: string;
  readonly utilisation: number;
  readonly task: AblationTask['work'];
}
interface Row extends Work {
  readonly variant: Ablation;
  readonly outcomes: readonly AblationOutcome[];
}

const meanMsOf = ({ outcomes }: Row): number => meanOf(outcomes.map(({ meanMs }) => meanMs));
const p99MsOf = ({ outcomes }: Row): number => meanOf(outcomes.map(({ p99Ms }) => p99Ms));

/** Ten nodes, two functions on inputs of tens of MiB and many that start slowly. */
function mix(utilisation: number, seconds: number): Scenario {
  const functionOf = (name: string, profile: Partial<FunctionProfile>, inputBytes: number, inputSigma: number, slaMs: number): Scenario['functions'][number] =>
    ({ name, slaMs, memoryMb: 512, critical: true, idempotent: true, packageSet: `packages of ${name}`, inputBytes, inputSigma, profile: { ...PLAIN_PROFILE, noise: 0.1, processMs: 60, ...profile } });
  const functions = [
    functionOf('video-1', { importMs: 60, installMs: 900, runMs: 100, runMsPerMib: 20 }, 25e6, 1, 8_000),
    functionOf('log-1', { importMs: 20, installMs: 100, runMs: 20, runMsPerMib: 1.5 }, 50e6, 1.2, 5_000),
    ...[1, 2, 3, 4].map((i) => functionOf(`document-${i}`, { importMs: 500, installMs: 3_600, runMs: 60, runMsPerMib: 40 }, 2e6, 0.8, 6_000)),
    functionOf('log-2', { importMs: 20, installMs: 100, runMs: 20, runMsPerMib: 1.5 }, 50e6, 1.2, 5_000),
    ...[1, 2, 3, 4].map((i) => functionOf(`inference-${i}`, { importMs: 250, installMs: 2_300, runMs: 10, runMsPerMib: 3 }, 3e6, 0.7, 4_000)),
    functionOf('video-2', { importMs: 60, installMs: 900, runMs: 100, runMsPerMib: 20 }, 25e6, 1, 8_000),
  ];
  const slots = 4, nodes = 10;
  const rates = ratesByRank({ seed: 1, functions: functions.length, mostPerS: 50, leastPerS: 2.5 });
  // Slots that runs alone would take, data and sandboxes being there.
  const taken = functions.reduce((sum, { profile, inputBytes, inputSigma }, i) => sum + ((rates[i] as number) * (profile.runMs + (profile.runMsPerMib * inputBytes * Math.exp(inputSigma ** 2 / 2)) / MIB)) / 1_000, 0);
  const factor = (utilisation * nodes * slots) / taken;
  return {
    nodes, node: { slots, cores: slots, memoryMb: 8_192, keepAliveMs: 60_000, zygoteMb: 512, objectQuotaBytes: 50e9 }, bytesPerMs: 125_000, functions,
    mostPerS: 50 * factor, leastPerS: 2.5 * factor, durationMs: seconds * 1_000, warmUpMs: (seconds * 1_000) / 3, faults: {}, scheduler: {},
  };
}

/** The bench. */
export const ablationsBench: Bench = {
  description: 'simulation: what each repair and idea is worth, and the distance to an oracle, on the applications and a mix',
  async run(context: BenchContext): Promise<BenchResult> {
    const { quick } = context;
    const seeds = Array.from({ length: quick ? 2 : 5 }, (_, i) => context.seed + i);
    const loads = quick ? [0.6, 0.85] : [0.4, 0.6, 0.8, 0.95];
    /** At which everything is compared; at the others only the policies and the oracles. */
    const ablatedAt = quick ? 0.6 : 0.8;
    const apps = fileURLToPath(new URL('../apps', import.meta.url));
  const profiles = await readProfiles(join(apps, PROFILES_FILE));
    const work: Work[] = loads.map((utilisation) => ({ group: 'mix', utilisation, task: { scenario: mix(utilisation, quick ? 15 : 90) } }));
    for (const name of quick ? APPLICATIONS.filter((each) => each === 'log' || each === 'document') : APPLICATIONS) {
      const application = await loadApplicationModel(name, apps, profiles);
      const cell = { preset: CLUSTER, application };
      // What an execution takes of slots when it is alone in a cluster that has seen it.
      const alone = simulateApplications({ ...cell, variant: variantNamed('lookahead'), seed: context.seed, concurrency: 1, executions: 60, warmUp: 60, predictor: 'moving-average' });
      const busyMs = (alone.slotUtilisation * alone.measuredMs * CLUSTER.nodes * CLUSTER.slots) / alone.records.length;
      for (const utilisation of loads) {
        const ratePerS = (1_000 * utilisation * CLUSTER.nodes * CLUSTER.slots) / busyMs;
        // So many seconds of arrivals, within what a bench may take.
        const count = (seconds: number, most: number): number => Math.max(100, Math.min(most, Math.round(ratePerS * seconds)));
        work.push({ group: name, utilisation, task: { cell: { ...cell, concurrency: 0, ratePerS, warmUp: count(60, quick ? 150 : 1_500), executions: count(60, quick ? 150 : 1_000) } } });
      }
    }
    const plan = work.flatMap((each): (Work & { readonly variant: Ablation })[] => [
      ...['round-robin', 'metronome', 'lookahead'].map((name) => ({ ...each, variant: { ...variantNamed(name), figure: name } })),
      { ...each, variant: ORACLE },
      { ...each, variant: ORACLE_OF_MEANS },
      ...(each.utilisation === ablatedAt ? ABLATIONS.map((variant) => ({ ...each, variant })) : []),
    ]);
    const pool = new Piscina<AblationTask, AblationOutcome>({ filename: new URL('./ablation-cell.ts', import.meta.url).href, minThreads: 1, maxThreads: availableParallelism(), concurrentTasksPerWorker: 1 });
    let done = 0;
    const begin = performance.now();
    let rows: Row[];
    try {
      rows = await Promise.all(plan.map(async ({ variant, ...each }) => {
        const { name, policy, overrides, predictor, greedySteps = false } = variant;
        const outcomes = await Promise.all(seeds.map((seed) => pool.run({ variant: { name, policy, overrides, greedySteps, ...(predictor === undefined ? {} : { predictor }) }, seed, work: each.task })));
        if (++done % 10 === 0) context.progress(`ablations: ${done} of ${plan.length} rows, about ${Math.round((((performance.now() - begin) / done) * (plan.length - done)) / 1_000)} s left`);
        return { ...each, variant, outcomes };
      }));
    } finally {
      await pool.destroy();
    }
    const rowOf = (like: Work, name: string): Row => rows.find(({ group, utilisation, variant }) => group === like.group && utilisation === like.utilisation && variant.name === name) as Row; // the plan has each
    const executions = rows.reduce((sum, { outcomes }) => sum + outcomes.reduce((all, one) => all + one.executions, 0), 0);
    const ratios = (of: (each: Work) => number, where: readonly Work[] = work): number[] => where.map(of).sort((a, b) => a - b);
    const figure = (name: string, values: readonly number[], value: number): Figure => ({ name, unit: '×', value: round(value), n: values.length * seeds.length, low: round(values[0] ?? Number.NaN), high: round(values.at(-1) ?? Number.NaN) });
    const geometric = (values: readonly number[]): number => Math.exp(meanOf(values.map((value) => Math.log(value))));
    const worst = (name: string, values: readonly number[]): Figure => figure(name, values, values.at(-1) ?? Number.NaN);
    const toOracle = ratios((each) => meanMsOf(rowOf(each, 'lookahead')) / meanMsOf(rowOf(each, 'oracle')));
    const toMeans = ratios((each) => meanMsOf(rowOf(each, 'lookahead')) / meanMsOf(rowOf(each, 'oracle of means')));
    const toMetronome = ratios((each) => meanMsOf(rowOf(each, 'lookahead')) / meanMsOf(rowOf(each, 'metronome')));
    const ablated = work.filter(({ utilisation }) => utilisation === ablatedAt);
    const figures: Figure[] = [
      worst('lookahead_over_oracle', toOracle),
      figure('lookahead_over_oracle_typical', toOracle, geometric(toOracle)),
      worst('lookahead_over_oracle_of_means', toMeans),
      figure('lookahead_over_oracle_of_means_typical', toMeans, geometric(toMeans)),
      worst('lookahead_over_metronome_mean', toMetronome),
      figure('lookahead_over_metronome_typical', toMetronome, geometric(toMetronome)),
      worst('lookahead_over_metronome_p99', ratios((each) => p99MsOf(rowOf(each, 'lookahead')) / p99MsOf(rowOf(each, 'metronome')))),
      worst('metronome_over_round_robin_mean', ratios((each) => meanMsOf(rowOf(each, 'metronome')) / meanMsOf(rowOf(each, 'round-robin')))),
      ...ABLATIONS.map(({ name, of = '', figure: figureName }) => {
        const values = ratios((each) => meanMsOf(rowOf(each, name)) / meanMsOf(rowOf(each, of)), ablated);
        return figure(figureName, values, geometric(values));
      }),
    ];
    if (context.out !== undefined) await report(context.out, rows, seeds.length);
    return {
      mode: 'sim', figures,
      params: { seeds: seeds.length, loads, ablatedAt, applications: [...new Set(work.map(({ group }) => group))], nodes: CLUSTER.nodes, slots: CLUSTER.slots, copies: CLUSTER.copies, profiles: profiles.note, predictor: 'forest', executions },
    };
  },
};

function round(value: number): number {
  return Number(value.toPrecision(4));
}

/** Table, raw rows and one plot per group. */
async function report(folder: string, rows: readonly Row[], seeds: number): Promise<void> {
  await mkdir(folder, { recursive: true });
  const interval = (values: readonly number[]): string => {
    const { mean, high } = confidenceOf(values);
    return `${Math.round(mean)} ± ${Math.round(high - mean)}`;
  };
  const lines = rows.map(({ group, utilisation, variant, outcomes }) =>
    `| ${group} | ${utilisation} | ${variant.name} | ${interval(outcomes.map(({ meanMs }) => meanMs))} | ${interval(outcomes.map(({ p99Ms }) => p99Ms))} | ${(100 * meanOf(outcomes.map(({ missed }) => missed))).toFixed(2)} |`);
  await writeFile(join(folder, 'ablations.md'), [
    `# Ablations (simulation, ${seeds} seeds, 95 % confidence intervals over seeds)`, '',
    '| work | utilisation | variant | mean, ms | P99, ms | SLA missed, % |', '| --- | --- | --- | --- | --- | --- |', ...lines, '',
  ].join('\n'));
  await writeFile(join(folder, 'ablations.csv'), ['group,utilisation,variant,seed,executions,mean_ms,p99_ms,missed', ...rows.flatMap(({ group, utilisation, variant, outcomes }) =>
    outcomes.map(({ executions, meanMs, p99Ms, missed }, i) => [group, utilisation, variant.name, i, executions, meanMs.toFixed(3), p99Ms.toFixed(3), missed.toFixed(5)].join(',')))].join('\n') + '\n');
  for (const group of new Set(rows.map((row) => row.group))) {
    const own = rows.filter((row) => row.group === group);
    const series = ['round-robin', 'metronome', 'lookahead', 'oracle of means', 'oracle'].map((name) => ({ name, points: own.filter(({ variant }) => variant.name === name).map((row) => ({ x: row.utilisation, y: meanMsOf(row) })) }));
    await writePlot(folder, `ablations-${group}`, drawLines({
      title: `Mean latency, ${group}`, caption: `Simulation, ${seeds} seeds; utilisation is what the runs alone would take of all slots.`,
      x: { label: 'utilisation' }, y: { label: 'ms', type: 'log' }, series,
    }));
  }
}
