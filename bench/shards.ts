/**
 * Bench `shards`: what is lost when functions are shared among several schedulers that lease the slots of all nodes (src/sim/slot-leases.ts), and
 * how many messages that takes, against one scheduler that sees everything. In simulation, on the same work.
 */
import { drawLines, writePlot } from '../src/report/plot.ts';
import { PLAIN_PROFILE } from '../src/sim/profiles.ts';
import { runScenario, type Scenario, type ScenarioResult } from '../src/sim/scenario.ts';
import { overRounds, type Bench, type BenchContext, type BenchResult, type Figure } from './harness.ts';

const NODES = 40, SLOTS = 16, FUNCTIONS = 400;
const COUNTS = [1, 2, 4, 8, 16] as const;

/** Somewhat more than half of the slots are used (57 % once all is warm); a quarter of the functions has inputs. */
function scenarioOf(shards: number, durationMs: number): Scenario {
  return {
    nodes: NODES, node: { slots: SLOTS, cores: SLOTS, memoryMb: 16_384, keepAliveMs: 60_000, zygoteMb: 2_048, objectQuotaBytes: 1e9 }, bytesPerMs: 125_000,
    functions: Array.from({ length: FUNCTIONS }, (_, i) => ({
      name: `f${i}`, slaMs: 5_000, memoryMb: 256, critical: true, idempotent: true, packageSet: `p${i % 100}`, inputBytes: i % 4 === 0 ? 2_000_000 : 0, inputSigma: 1,
      profile: { ...PLAIN_PROFILE, installMs: 500, importMs: 200, runMs: 100 + 40 * (i % 10), noise: 0.2 },
    })),
    // An exponent of one half: no function is so popular that its shard has most of the work.
    mostPerS: 32, leastPerS: 32 / Math.sqrt(FUNCTIONS), durationMs, warmUpMs: durationMs / 3, faults: {}, scheduler: {}, shards,
  };
}

/** The bench. */
export const shardsBench: Bench = {
  description: 'loss of latency and messages per invocation with 1 to 16 schedulers that lease slots, in simulation',
  async run(context: BenchContext): Promise<BenchResult> {
    const seeds = Array.from({ length: context.quick ? 1 : 5 }, (_, i) => context.seed + i);
    const durationMs = context.quick ? 6_000 : 20_000;
    const figures: Figure[] = [];
    const lost: { policy: string; points: { x: number; y: number }[] }[] = [], sent: typeof lost = [];
    for (const policy of context.quick ? ['metronome'] : ['metronome', 'lookahead']) {
      const prefix = policy === 'metronome' ? '' : `${policy}_`;
      const alone: ScenarioResult[] = [];
      const loss: { x: number; y: number }[] = [], messages: { x: number; y: number }[] = [];
      for (const shards of COUNTS) {
        context.progress(`shards: ${policy}, ${shards} of them, ${seeds.length} seeds`);
        const means: number[] = [], tails: number[] = [], each: number[] = [], leases: number[] = [];
        let completed = 0;
        seeds.forEach((seed, i) => {
          const result = runScenario(scenarioOf(shards, durationMs), policy, seed, false);
          if (result.breaches.length > 0 || result.completed !== result.submitted) throw new Error(`bench shards: ${shards} shards, seed ${seed}: ${result.completed} of ${result.submitted} completed; ${result.breaches.join('; ')}`);
          if (shards === 1) alone.push(result);
          const one = alone[i] as ScenarioResult;
          means.push(100 * (result.meanMs / one.meanMs - 1));
          tails.push(100 * (result.p99Ms / one.p99Ms - 1));
          each.push(result.messages / result.submitted);
          leases.push(result.leaseMessages / result.submitted);
          completed += result.completed;
        });
        if (shards === 1) figures.push(overRounds(`${prefix}mean_ms_1`, 'ms', alone.map(({ meanMs }) => meanMs), completed), overRounds(`${prefix}p99_ms_1`, 'ms', alone.map(({ p99Ms }) => p99Ms), completed));
        else figures.push(overRounds(`${prefix}mean_loss_${shards}`, '%', means, completed), overRounds(`${prefix}p99_loss_${shards}`, '%', tails, completed));
        const perInvocation = overRounds(`${prefix}messages_${shards}`, '', each, completed);
        figures.push(perInvocation, overRounds(`${prefix}lease_messages_${shards}`, '', leases, completed));
        loss.push({ x: shards, y: overRounds('', '', means, 1).value });
        messages.push({ x: shards, y: perInvocation.value });
      }
      lost.push({ policy, points: loss });
      sent.push({ policy, points: messages });
    }
    if (context.out !== undefined) {
      const caption = `simulation, ${NODES} nodes of ${SLOTS} slots, ${FUNCTIONS} functions, somewhat more than half of the slots used, seeds: ${seeds.length}`;
      await writePlot(context.out, 'shards-loss', drawLines({ title: 'Loss of mean latency against one scheduler', caption, x: { label: 'shards', type: 'log' }, y: { label: '%' }, rules: [0], series: lost.map(({ policy, points }) => ({ name: policy, points })) }));
      await writePlot(context.out, 'shards-messages', drawLines({ title: 'Messages per invocation', caption, x: { label: 'shards', type: 'log' }, y: { label: 'messages' }, series: sent.map(({ policy, points }) => ({ name: policy, points })) }));
    }
    return { mode: 'sim', figures, params: { nodes: NODES, slots: SLOTS, functions: FUNCTIONS, seeds: seeds.length, durationMs, statesPerSecond: 'not counted: 20 per node and shard' } };
  },
};
