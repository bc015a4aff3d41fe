/**
 * What is lost by looking at the candidates of the indexes only (docs/decisions/017-candidate-indexes.md): mean latency in simulation against the full scan, on the same
 * seeds, arrivals and costs. A third arm is the full scan where ties fall by lot: of many nodes that are equally good, the full scan takes the first, and the indexes
 * one of those that they happen to name. How waits are spread over the nodes stands beside it.
 */
import { createRandom } from '../src/core/random.ts';
import { isTerminal, type Invocation } from '../src/core/invocation.ts';
import type { PredictionRows } from '../src/predictor/predictor.ts';
import { PLAIN_PROFILE } from '../src/sim/profiles.ts';
import { runScenario, type Scenario, type SimulationWatcher } from '../src/sim/scenario.ts';
import { overSeeds, type Figure } from './harness.ts';

/** The full scan, the full scan with ties by lot, the indexes. */
const ARMS = ['all', 'lots', 'indexed'] as const;
type Arm = (typeof ARMS)[number];

/** What came of one arm with one seed. */
interface ArmResult {
  readonly meanMs: number;
  readonly completed: number;
  /** Waiting for a better node, per invocation, ms. */
  readonly waitedMs: number;
  /** Share of the waits that were for the tenth of the nodes most waited for, 0 to 1; 0.1 if all are waited for alike. */
  readonly busiestTenth: number;
}

const FUNCTIONS = 400;

/** Data and warm sandboxes matter, somewhat more than half of the slots are used. */
function scenarioOf(nodes: number, durationMs: number, candidates: 'all' | 'indexed'): Scenario {
  return {
    nodes, node: { slots: 4, cores: 4, memoryMb: 4_096, keepAliveMs: 60_000, zygoteMb: 512, objectQuotaBytes: 1e11 }, bytesPerMs: 125_000,
    functions: Array.from({ length: FUNCTIONS }, (_, i) => ({
      name: `f${i}`, slaMs: 5_000, memoryMb: 256, critical: true, idempotent: true, packageSet: `p${i % 100}`, inputBytes: i % 3 === 0 ? 10_000_000 : 0, inputSigma: 1,
      profile: { ...PLAIN_PROFILE, installMs: 500, importMs: 200, runMs: 100 + 40 * (i % 10), noise: 0.2 },
    })),
    // About 7.5 × the rate of the first one in all, at exponent 1; a call keeps a slot for 0.35 s.
    mostPerS: nodes, leastPerS: nodes / FUNCTIONS, durationMs, warmUpMs: durationMs / 3, faults: {}, scheduler: { candidates },
  };
}

/** Counts waits, and lets ties fall by lot if it is told to. */
function watcherFor(isByLot: boolean, seed: number): SimulationWatcher & { figures(): Pick<ArmResult, 'waitedMs' | 'busiestTenth'> } {
  const waits: number[] = [];
  let ended = 0, waitedMs = 0;
  return {
    begin({ scheduler: { predictor, cluster } }) {
      waits.push(...Array.from({ length: cluster.maxNodes }, () => 0));
      if (!isByLot) return;
      const predict = predictor.predict.bind(predictor);
      predictor.predict = (subject, rows, ticket) => {
        // The same lot whenever the same invocation is looked at again.
        beginAt(rows, createRandom(seed, (subject as Invocation).seq).below(Math.max(1, rows.count))); // the scheduler asks with invocations
        return predict(subject, rows, ticket);
      };
    },
    transitioned(invocation, _from, to, event) {
      if (event.type === 'DELAY' && event.for === 'locality') waits[event.node] = (waits[event.node] ?? 0) + 1;
      if (!isTerminal(to)) return;
      ended++;
      waitedMs += invocation.delayedMs;
    },
    figures() {
      const all = waits.reduce((sum, count) => sum + count, 0);
      const busiest = waits.toSorted((a, b) => b - a).slice(0, Math.ceil(waits.length / 10)).reduce((sum, count) => sum + count, 0);
      return { waitedMs: waitedMs / Math.max(1, ended), busiestTenth: all === 0 ? 0 : busiest / all };
    },
  };
}

/** Turns a table of candidates so that another row is the first: of equals, policies take the first. */
function beginAt(rows: PredictionRows, first: number): void {
  for (const column of Object.values(rows)) {
    if (!ArrayBuffer.isView(column)) continue;
    const values = column as Float64Array; // or another typed array: they do alike here
    const before = values.slice(0, first);
    values.copyWithin(0, first, rows.count);
    values.set(before, rows.count - first);
  }
}

function run(policy: string, nodes: number, durationMs: number, seed: number, arm: Arm): ArmResult {
  const watcher = watcherFor(arm === 'lots', seed);
  const { meanMs, completed, submitted, breaches } = runScenario(scenarioOf(nodes, durationMs, arm === 'indexed' ? 'indexed' : 'all'), policy, seed, false, watcher);
  if (breaches.length > 0 || completed !== submitted) throw new Error(`bench scale: ${arm}, seed ${seed}: ${completed} of ${submitted} completed; ${breaches.join('; ')}`);
  return { meanMs, completed, ...watcher.figures() };
}

/** Figures of a policy: losses are of the indexes, positive where they are slower. Values are means over the seeds with their 95 % intervals. */
export function qualityFigures(policy: string, nodes: number, durationMs: number, seeds: readonly number[]): Figure[] {
  const suffix = policy === 'metronome' ? '' : `_${policy}`;
  const arms = new Map<Arm, ArmResult[]>(ARMS.map((arm) => [arm, seeds.map((seed) => run(policy, nodes, durationMs, seed, arm))]));
  const of = (arm: Arm): readonly ArmResult[] => arms.get(arm) ?? [];
  const completed = of('indexed').reduce((sum, result) => sum + result.completed, 0);
  const lossAgainst = (arm: Arm): number[] => of('indexed').map(({ meanMs }, i) => 100 * (meanMs / (of(arm)[i]?.meanMs ?? Number.NaN) - 1));
  return [
    overSeeds(`quality_loss${suffix}`, '%', lossAgainst('all'), completed),
    overSeeds(`quality_loss_ties_by_lot${suffix}`, '%', lossAgainst('lots'), completed),
    ...ARMS.flatMap((arm) => [
      overSeeds(`quality_mean_ms_${arm}${suffix}`, 'ms', of(arm).map(({ meanMs }) => meanMs), completed),
      overSeeds(`quality_waited_ms_${arm}${suffix}`, 'ms', of(arm).map(({ waitedMs }) => waitedMs), completed),
      overSeeds(`quality_busiest_tenth_${arm}${suffix}`, '%', of(arm).map(({ busiestTenth }) => 100 * busiestTenth), completed),
    ]),
  ];
}
