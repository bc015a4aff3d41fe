/**
 * A cell of the evaluation in simulation, for a thread: plain data in, plain data out. Policies that look at predictions get a model that has learned the application
 * before, the same one in every cell; it is trained once per thread and copied. Same task, same result, on whatever thread.
 */
import { createOnlineModel, restoreOnlineModel } from '../predictor/model/online-model.ts';
import type { ApplicationModel, SimulatedInput } from '../sim/applications.ts';
import { slotUtilisation, type CellResult, type Load } from './backend.ts';
import type { ClusterPreset } from './cluster-preset.ts';
import { PREDICTING } from './estimate.ts';
import { evaluationInputSizes } from './input-sizes.ts';
import { coolDownOf, planArrivals, planExecutions, type Cell } from './plan.ts';
import { simulateApplications, type SimulatedCell } from './simulate-applications.ts';

/** What a thread is given. */
export interface SimulatedCellTask {
  readonly preset: ClusterPreset;
  readonly application: ApplicationModel;
  readonly cell: Cell;
  readonly load: Load;
  /** Inputs of the application. */
  readonly inputs: number;
  /** Seed of the inputs and of the training. */
  readonly seed: number;
  /** Executions that the model learns from beforehand. */
  readonly training: number;
  /** What was measured on the cluster that is simulated. */
  readonly cluster?: NonNullable<SimulatedCell['cluster']>;
}

/**
 * The daemon's model with half of its trees and window, and trees that live a thousand observations instead of four hundred: growing trees was half of what a cell cost, asking them a quarter,
 * and a cell has some hundred executions. What learns from every observation (baseline, levels, quantiles, leaves) is the same.
 */
const CELL_MODEL = { trees: 50, window: 2_000, updateEvery: 100, replace: 5 } as const;
/** Trained models by what they were trained on; one entry per application and preset. */
const trained = new Map<string, unknown>();
const MOST_TRAINED = 16;

/** Runs it to its end. */
export function simulateCell({ preset, application, cell, load, inputs, seed, training, cluster }: SimulatedCellTask): CellResult {
  const stored = evaluationInputSizes(preset, cell.application, seed, inputs).map((bytes, i): SimulatedInput => ({ bytes, node: i % preset.nodes }));
  const base: Omit<SimulatedCell, 'variant' | 'seed' | 'concurrency' | 'executions' | 'warmUp'> = { preset, application, inputs: stored, cluster: { ...cluster, installed: preset.installed, zygotes: preset.zygotes === 'auto' } };
  // For the others they would be computed for nothing.
  const predicts = PREDICTING.includes(cell.variant.policy);
  const { records, measuredMs } = simulateApplications({
    ...base, variant: { ...cell.variant, overrides: { 'policies.poolWindow': `${preset.poolWindowMs}ms`, ...cell.variant.overrides } }, seed: cell.seed, concurrency: cell.concurrency, executions: cell.executions + coolDownOf(cell), warmUp: cell.warmUp, calls: load.ratePerS === undefined ? planExecutions(cell, preset.copies, stored.length) : planArrivals(cell, preset.copies, stored.length, load.ratePerS),
    ...(load.slaMs === undefined ? {} : { slaMs: load.slaMs }), ...(predicts ? {} : { predictor: 'moving-average' }),
  }, predicts ? restoreOnlineModel(trainedOn()) : undefined);
  const counted = records.filter(({ index }) => index < cell.executions).sort((a, b) => a.index - b.index);
  const intervalMs = records.find(({ index }) => index === cell.executions)?.startedAtMs ?? measuredMs;
  return { records: counted, conditions: { seconds: intervalMs / 1_000, slotUtilisation: slotUtilisation(counted, intervalMs, preset.nodes * preset.slots), hostCpu: undefined, isSaturated: false } };

  function trainedOn(): unknown {
    const key = JSON.stringify([preset, application.name, seed, training, inputs]);
    let snapshot = trained.get(key);
    if (snapshot === undefined) {
      const model = createOnlineModel({ ...CELL_MODEL, seed });
      simulateApplications({ ...base, variant: { name: 'training', policy: 'round-robin', overrides: {} }, seed: seed + 1_000, concurrency: preset.concurrency[cell.application], executions: training, warmUp: 0 }, model);
      snapshot = model.toSnapshot();
      if (trained.size >= MOST_TRAINED) trained.clear();
      trained.set(key, snapshot);
    }
    return snapshot;
  }
}
