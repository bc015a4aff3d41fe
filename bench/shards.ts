/**
 * Bench `shards`: what is lost when functions are shared among several schedulers that lease the slots of all nodes (src/sim/slot-leases.ts), and
 * how many messages that takes, against one scheduler that sees everything: at three utilisations, and while nodes and schedulers die and messages about
 * leases are late or lost. In simulation, on the same work; what must always hold is asserted all along.
 */
import { join } from 'node:path';
import { writeFile } from 'node:fs/promises';
import { markdownTable } from '../src/report/markdown-table.ts';
import { drawLines, writePlot, type Series } from '../src/report/plot.ts';
import type { FaultRates } from '../src/sim/faults.ts';
import { PLAIN_PROFILE } from '../src/sim/profiles.ts';
import { runScenario, type Scenario, type ScenarioResult } from '../src/sim/scenario.ts';
import { overSeeds, type Bench, type BenchContext, type BenchResult, type Figure } from './harness.ts';

const NODES = 40, SLOTS = 16, FUNCTIONS = 400;
const COUNTS = [1, 2, 4, 8, 16], QUICK_COUNTS = [1, 4, 16];
/** Slots that are used once all is warm, %. */
const UTILISATIONS = [40, 70, 90] as const;
/** The most popular function's calls per second at which 57 % of the slots are used. */
const MOST_PER_S = 32, USED_THEN = 57;
/** Per minute, in the whole cluster. One scheduler has the same faults of nodes; it does not die, and leases nothing. */
const NODE_FAULTS: FaultRates = { kill: 9, hang: 6, disconnect: 9, lateMessages: 9 };
const SHARD_FAULTS: FaultRates = { killShard: 6, lateLeases: 12, lostLeases: 12 };
const FAULTY_UTILISATION = 70;

/** A quarter of the functions has inputs. */
function scenarioOf(shards: number, utilisation: number, durationMs: number, hasFaults: boolean): Scenario {
  const mostPerS = (MOST_PER_S * utilisation) / USED_THEN;
  return {
    nodes: NODES, node: { slots: SLOTS, cores: SLOTS, memoryMb: 16_384, keepAliveMs: 60_000, zygoteMb: 2_048, objectQuotaBytes: 1e11 }, bytesPerMs: 125_000,
    functions: Array.from({ length: FUNCTIONS }, (_, i) => ({
      name: `f${i}`, slaMs: 5_000, memoryMb: 256, critical: true, idempotent: true, packageSet: `p${i % 100}`, inputBytes: i % 4 === 0 ? 2_000_000 : 0, inputSigma: 1,
      profile: { ...PLAIN_PROFILE, installMs: 500, importMs: 200, runMs: 100 + 40 * (i % 10), noise: 0.2 },
    })),
    // An exponent of one half: no function is so popular that its shard has most of the work.
    mostPerS, leastPerS: mostPerS / Math.sqrt(FUNCTIONS), durationMs, warmUpMs: durationMs / 3, faults: hasFaults ? { ...NODE_FAULTS, ...(shards > 1 ? SHARD_FAULTS : {}) } : {}, scheduler: {}, shards,
  };
}

interface Setting {
  /** Of figures. */
  readonly name: string;
  readonly title: string;
  readonly policy: string;
  readonly utilisation: number;
  readonly hasFaults: boolean;
}

/** One number of shards in one setting: a value per seed. */
interface Cell {
  readonly shards: number;
  readonly results: readonly ScenarioResult[];
}

function run({ policy, utilisation, hasFaults, title }: Setting, shards: number, durationMs: number, seed: number): ScenarioResult {
  const result = runScenario(scenarioOf(shards, utilisation, durationMs, hasFaults), policy, seed);
  // Under faults attempts run out now and then, and that is an answer; without them everything completes.
  if (result.breaches.length > 0 || (!hasFaults && result.completed !== result.submitted)) throw new Error(`bench shards: ${title}, ${shards} shards, seed ${seed}: ${result.completed} of ${result.submitted} completed; ${result.breaches.join('; ')}`);
  return result;
}

/** The bench. */
export const shardsBench: Bench = {
  description: 'loss of latency and messages per invocation with 1 to 16 schedulers that lease slots, at three utilisations and under faults, in simulation',
  async run(context: BenchContext): Promise<BenchResult> {
    const seeds = Array.from({ length: context.quick ? 2 : 5 }, (_, i) => context.seed + i);
    const durationMs = context.quick ? 6_000 : 20_000;
    const policies = context.quick ? ['metronome'] : ['metronome', 'lookahead'];
    const settings = policies.flatMap((policy): Setting[] => {
      const prefix = policy === 'metronome' ? '' : `${policy}_`;
      return [
        ...UTILISATIONS.map((utilisation): Setting => ({ name: `${prefix}u${utilisation}`, title: `${policy}, ${utilisation} %`, policy, utilisation, hasFaults: false })),
        { name: `${prefix}faults`, title: `${policy}, ${FAULTY_UTILISATION} %, faults`, policy, utilisation: FAULTY_UTILISATION, hasFaults: true },
      ];
    });
    const figures: Figure[] = [];
    const loss: Series[] = [], messages: Series[] = [];
    const rows: string[][] = [];
    for (const setting of settings) {
      const { name, title } = setting;
      const cells = (context.quick ? QUICK_COUNTS : COUNTS).map((shards): Cell => {
        context.progress(`shards: ${title}, ${shards} of them, ${seeds.length} seeds`);
        return { shards, results: seeds.map((seed) => run(setting, shards, durationMs, seed)) };
      });
      const alone = cells[0]?.results ?? [];
      const lossOf = (results: readonly ScenarioResult[], of: (result: ScenarioResult) => number): number[] => results.map((result, i) => 100 * (of(result) / of(alone[i] as ScenarioResult) - 1)); // as many seeds everywhere
      const means: { x: number; y: number }[] = [], sent: { x: number; y: number }[] = [];
      for (const { shards, results } of cells) {
        const completed = results.reduce((sum, result) => sum + result.completed, 0);
        const add = (what: string, unit: string, values: readonly number[]): Figure => {
          const figure = overSeeds(`${name}_${what}_${shards}`, unit, values, completed);
          figures.push(figure);
          return figure;
        };
        const mean = shards === 1 ? add('mean_ms', 'ms', results.map(({ meanMs }) => meanMs)) : add('mean_loss', '%', lossOf(results, ({ meanMs }) => meanMs));
        const tail = shards === 1 ? add('p99_ms', 'ms', results.map(({ p99Ms }) => p99Ms)) : add('p99_loss', '%', lossOf(results, ({ p99Ms }) => p99Ms));
        const each = add('messages', '', results.map((result) => result.messages / result.submitted));
        const leases = add('lease_messages', '', results.map((result) => result.leaseMessages / result.submitted));
        if (setting.hasFaults) {
          add('failed', '%', results.map((result) => (100 * (result.failed + result.refused)) / result.submitted));
          if (shards > 1) add('asked_again', '%', results.map((result) => (100 * result.lost) / result.submitted));
        }
        means.push({ x: shards, y: shards === 1 ? 0 : mean.value });
        sent.push({ x: shards, y: each.value });
        const interval = ({ value, low, high, unit }: Figure): string => `${value} ${unit} (${low} to ${high})`;
        rows.push([title, String(shards), interval(mean), interval(tail), String(each.value), String(leases.value)]);
      }
      loss.push({ name: title, points: means });
      messages.push({ name: title, points: sent });
    }
    if (context.out !== undefined) {
      const caption = `simulation, ${NODES} nodes of ${SLOTS} slots, ${FUNCTIONS} functions, ${seeds.length} seeds`;
      await writePlot(context.out, 'shards-loss', drawLines({ title: 'Loss of mean latency against one scheduler', caption, x: { label: 'shards', type: 'log' }, y: { label: '%' }, rules: [0], series: loss }));
      await writePlot(context.out, 'shards-messages', drawLines({ title: 'Messages per invocation', caption, x: { label: 'shards', type: 'log' }, y: { label: 'messages' }, series: messages }));
      await writeFile(join(context.out, 'shards.md'), markdownTable({ header: ['policy, slots used', 'shards', 'mean: ms of one, loss of several', 'P99', 'messages per invocation', 'of them about leases'], rows }));
    }
    return { mode: 'sim', figures, params: { nodes: NODES, slots: SLOTS, functions: FUNCTIONS, seeds: seeds.length, durationMs, nodeFaultsPerMinute: NODE_FAULTS, shardFaultsPerMinute: SHARD_FAULTS, statesPerSecond: 'not counted: 20 per node and shard' } };
  },
};
