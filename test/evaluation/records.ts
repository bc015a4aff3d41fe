/** Records, cells and a backend for tests of the evaluation. */
import type { Backend, CellResult, Load } from '../../src/evaluation/backend.ts';
import type { ExecutionRecord, StepRecord } from '../../src/evaluation/execution-record.ts';
import type { Cell, PlanOptions } from '../../src/evaluation/plan.ts';
import { variantNamed } from '../../src/evaluation/variant.ts';

/** A step that ran for 10 ms, warm and local. */
export function step(changes: Partial<StepRecord> = {}): StepRecord {
  return { function: 'log-split', node: 'node-1', startState: 'warm', queuedMs: 0, delayedMs: 0, fetchMs: 0, initMs: 0, runMs: 10, predictedMs: 10, local: true, ...changes };
}

/** An execution of `log` that took 100 ms and was right. */
export function record(changes: Partial<ExecutionRecord> = {}): ExecutionRecord {
  return { application: 'log', variant: 'metronome', concurrency: 2, seed: 1, index: 0, simulated: false, startedAtMs: 0, latencyMs: 100, slaMs: 1_000, ok: true, steps: [step()], ...changes };
}

/** One record per latency, numbered. */
export function records(variant: string, latencies: readonly number[], changes: Partial<ExecutionRecord> = {}): ExecutionRecord[] {
  return latencies.map((latencyMs, index) => record({ variant, latencyMs, index, ...changes }));
}

/** A plan of one application with two variants. */
export const SMALL_PLAN: PlanOptions = {
  applications: ['log'], variants: [variantNamed('round-robin'), variantNamed('metronome')], sweeps: [], concurrency: { video: 2, log: 2, document: 3, inference: 3 }, levels: [1], seeds: [1, 2],
  executions: 4, levelExecutions: 2, slaExecutions: 3, trainExecutions: 2, warmUp: 1, reference: variantNamed('data-locality'), trainers: [variantNamed('round-robin')],
};

/** A backend whose executions take 100 ms, and 10 ms more for each index; it remembers what it was asked. */
export function fakeBackend(onRun: (cell: Cell, load: Load) => void = () => {}, parallel = 1): Backend {
  return {
    isSimulated: true, parallel,
    describe: () => 'nothing at all',
    parameters: () => ({}),
    async run(cell, load): Promise<CellResult> {
      await Promise.resolve();
      onRun(cell, load);
      return {
        records: Array.from({ length: cell.executions }, (_, index) => record({ application: cell.application, variant: cell.variant.name, concurrency: cell.concurrency, seed: cell.seed, index, simulated: true, slaMs: load.slaMs ?? 0, latencyMs: 100 + 10 * index })),
        conditions: { seconds: 1, slotUtilisation: 0.7, hostCpu: undefined, isSaturated: false },
      };
    },
    close: async () => {},
  };
}
