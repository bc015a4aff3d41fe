/**
 * Bench `trace-day`: a day of a thousand functions in simulation, as production calls them (src/workload/arrivals.ts): timers, bursts, days, flash
 * crowds; the most and the least popular function as often as the thousandth parts of Azure's trace of 2019 say (184 per second and once a
 * day). The short form is one hour of the same.
 */
import { PLAIN_PROFILE } from '../src/sim/profiles.ts';
import { runScenario, type Scenario } from '../src/sim/scenario.ts';
import { overRounds, type Bench, type BenchContext, type BenchResult } from './harness.ts';

const HOUR_MS = 3_600_000;
const NODES = 20;
const FUNCTIONS = 1_000;

/** Runs of 20 to 400 ms, cold starts of about 1.5 s, a tenth of the functions with inputs. */
export function dayOf(functions: number, durationMs: number): Scenario {
  return {
    nodes: NODES, node: { slots: 16, cores: 16, memoryMb: 32_768, keepAliveMs: 600_000, zygoteMb: 2_048, objectQuotaBytes: 1e9 }, bytesPerMs: 125_000,
    functions: Array.from({ length: functions }, (_, i) => ({
      name: `f${i}`, slaMs: 5_000, memoryMb: 128 + 128 * (i % 3), critical: true, idempotent: true, packageSet: `p${i % 100}`, inputBytes: i % 10 === 3 ? 500_000 : 0, inputSigma: 1,
      profile: { ...PLAIN_PROFILE, installMs: 1_000, processMs: 40, importMs: 100 + 40 * (i % 11), runMs: 20 * 1.35 ** (i % 11), noise: 0.15 },
    })),
    mostPerS: 184, leastPerS: 1 / 86_400, durationMs, warmUpMs: 60_000, faults: {}, scheduler: {},
  };
}

/** The bench. */
export const traceDayBench: Bench = {
  description: 'a day of a thousand functions in simulation: seconds that it takes, and what comes of it (short form: an hour)',
  async run(context: BenchContext): Promise<BenchResult> {
    const hours = context.quick ? 1 : 24;
    context.progress(`trace-day: ${hours} h of ${FUNCTIONS} functions on ${NODES} nodes`);
    const before = process.cpuUsage();
    const begin = performance.now();
    const result = runScenario(dayOf(FUNCTIONS, hours * HOUR_MS), 'metronome', context.seed, false);
    const tookS = (performance.now() - begin) / 1_000;
    const used = process.cpuUsage(before);
    if (result.breaches.length > 0 || result.completed !== result.submitted) throw new Error(`bench trace-day: ${result.completed} of ${result.submitted} completed; ${result.breaches.join('; ')}`);
    const one = (name: string, unit: string, value: number) => overRounds(name, unit, [value], result.submitted);
    return {
      mode: 'sim',
      figures: [
        one(context.quick ? 'hour_trace_s' : 'day_trace_s', 's', tookS), one('cpu_s', 's', (used.user + used.system) / 1e6), one('invocations', '', result.submitted), one('invocations_per_second', '1/s', result.submitted / tookS),
        one('mean_ms', 'ms', result.meanMs), one('p99_ms', 'ms', result.p99Ms), one('sla_missed', '%', (100 * result.slaMissed) / result.completed),
      ],
      params: { nodes: NODES, functions: FUNCTIONS, hours, policy: 'metronome', predictor: 'moving-average' },
    };
  },
};
