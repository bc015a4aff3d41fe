/**
 * Bench `sim-speed`: how many invocations the simulator runs per second of one core with ten nodes, policy metronome, everything
 * included: machines, classification, predictions (moving averages), decision records, virtual nodes and network.
 */
import { PLAIN_PROFILE } from '../src/sim/profiles.ts';
import { runScenario, type Scenario } from '../src/sim/scenario.ts';
import { overRounds, type Bench, type BenchContext, type BenchResult } from './harness.ts';

const NODES = 10;
const FUNCTIONS = 40;

/** About 60 % of 160 slots; a quarter of the functions has inputs. */
function scenario(durationMs: number): Scenario {
  return {
    nodes: NODES, node: { slots: 16, cores: 16, memoryMb: 16_384, keepAliveMs: 60_000, zygoteMb: 2_048, objectQuotaBytes: 1e9 }, bytesPerMs: 125_000,
    functions: Array.from({ length: FUNCTIONS }, (_, i) => ({
      name: `f${i}`, slaMs: 5_000, memoryMb: 256, critical: true, idempotent: true, packageSet: `p${i % 10}`, inputBytes: i % 4 === 0 ? 1_000_000 : 0, inputSigma: 1,
      profile: { ...PLAIN_PROFILE, installMs: 1_000, importMs: 200, runMs: 40 + 10 * (i % 10), noise: 0.1 },
    })),
    mostPerS: 400, leastPerS: 1, durationMs, warmUpMs: 5_000, faults: {}, scheduler: {},
  };
}

/** The bench. */
export const simSpeedBench: Bench = {
  description: 'invocations simulated per second of one core, 10 nodes, policy metronome, machines and predictions included',
  async run(context: BenchContext): Promise<BenchResult> {
    const rounds = context.quick ? 3 : 5;
    const durationMs = context.quick ? 30_000 : 60_000;
    const perSecond: number[] = [], realtime: number[] = [];
    let submitted = 0;
    runScenario(scenario(10_000), 'metronome', context.seed, false);
    for (let round = 0; round < rounds; round++) {
      context.progress(`sim-speed: round ${round + 1} of ${rounds}`);
      const before = process.cpuUsage();
      const begin = performance.now();
      const result = runScenario(scenario(durationMs), 'metronome', context.seed + round, false);
      const used = process.cpuUsage(before);
      if (result.breaches.length > 0 || result.completed !== result.submitted) throw new Error(`bench sim-speed: ${result.completed} of ${result.submitted} completed; ${result.breaches.join('; ')}`);
      submitted += result.submitted;
      // CPU time, garbage collection included: neighbours on the machine do not count.
      perSecond.push(result.submitted / ((used.user + used.system) / 1e6));
      realtime.push(result.simulatedMs / (performance.now() - begin));
    }
    return { mode: 'sim', figures: [overRounds('invocations_per_second', '1/s', perSecond, submitted), overRounds('times_real_time', '×', realtime, rounds)], params: { nodes: NODES, functions: FUNCTIONS, policy: 'metronome', predictor: 'moving-average', rounds, durationMs } };
  },
};
