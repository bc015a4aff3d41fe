/**
 * The baseline of a prediction, as readers compute it. Per phase: what the sizes ask for (linear, in ms), times the exponential of what the load
 * does to it (linear in the logarithm: a share that all functions have in common, and the function's own deviation), times the node's own speed:
 *
 *     phase = (θ · terms) × exp(w · load + v · load + node)
 *
 * baseline.ts learns these weights; this file says where they stand and what they are multiplied with. Used on the hot path: no allocation.
 */
import { COLUMN, SITUATION_WIDTH } from '../features.ts';
import { FUNCTION_STRIDE, NODE_STRIDE, type ModelView } from './model-view.ts';

// ── where numbers stand in a function's record ──────────────────────────────────────────────────────────────────────
/** Observations. */
export const F_COUNT = 0;
/** The size that its terms are relative to, bytes; 0 until the first observation. */
export const F_SIZE = 1;
export const F_USUAL_INPUT_LOG = 2, F_RECENT_FETCH = 3, F_RECENT_RUN = 4, F_RECENT_TOTAL = 5;
/** Per start state, COLD first: moving average of the initialisation, and how often it was seen. */
export const F_RECENT_INIT = 6, F_INIT_COUNT = 10;
/** Logarithms of the factors from the mean to the quantiles, and the expected |log error|. */
export const F_Q95 = 14, F_Q99 = 15, F_SPREAD = 16;
/** Logarithm of its own factor on transfers. */
export const F_FETCH = 20;
export const F_RUN = 24, RUN_TERMS = 3;
export const F_RUN_LOAD = 28, RUN_OWN_LOADS = 7;
/** Per start state, COLD first, INIT_BLOCK numbers: terms, then own loads. */
export const F_INIT = 40, INIT_BLOCK = 8, INIT_TERMS = 3, INIT_OWN_LOADS = 3;

// ── in a node's record ──────────────────────────────────────────────────────────────────────────────────────────────
/** Logarithms of its factors on the phases; how often it was seen; its usual bandwidth (log bytes/s) and traffic (bytes/s). */
export const N_FETCH = 0, N_INIT = 1, N_RUN = 2, N_COUNT = 3, N_BANDWIDTH_LOG = 4, N_TRAFFIC = 5;

// ── in what all share ───────────────────────────────────────────────────────────────────────────────────────────────
/** Transfers: ms per local object; then ms per remote object and ms per MB. */
export const G_FETCH_LOCAL = 0, G_FETCH = 1, FETCH_TERMS = 2;
export const G_FETCH_LOAD = 8, FETCH_LOADS = 6;
/** Per start state but WARM. */
export const G_INIT_LOAD = 24, INIT_LOADS = 8;
export const G_RUN_LOAD = 64, RUN_LOADS = 16;
/** Quantile factors and spread for functions without any of their own. */
export const G_Q95 = 90, G_Q99 = 91, G_SPREAD = 92;

/** Phases shorter than this are no better known than this, ms. */
export const LEAST_MS = 0.05;
const LOG2E = Math.LOG2E;

/** Regressors and results of one row; reused. */
export interface BaselineScratch {
  readonly runTerms: Float64Array;
  readonly runOwn: Float64Array;
  readonly runLoads: Float64Array;
  readonly initTerms: Float64Array;
  readonly initOwn: Float64Array;
  readonly initLoads: Float64Array;
  readonly fetchTerms: Float64Array;
  readonly fetchLoads: Float64Array;
  /** θ · terms of each phase, and the whole estimates, ms. */
  readonly linear: Float64Array;
  readonly estimate: Float64Array;
}

/** Indexes of phases. */
export const FETCH = 0, INITIALISE = 1, RUN = 2;

export function createBaselineScratch(): BaselineScratch {
  return {
    runTerms: new Float64Array(RUN_TERMS), runOwn: new Float64Array(RUN_OWN_LOADS), runLoads: new Float64Array(RUN_LOADS),
    initTerms: new Float64Array(INIT_TERMS), initOwn: new Float64Array(INIT_OWN_LOADS), initLoads: new Float64Array(INIT_LOADS),
    fetchTerms: new Float64Array(FETCH_TERMS), fetchLoads: new Float64Array(FETCH_LOADS),
    linear: new Float64Array(3), estimate: new Float64Array(3),
  };
}

/** x/(1+x): unbounded numbers become shares. */
const share = (x: number): number => (x > 0 ? x / (1 + x) : 0);

function dot(weights: Float64Array, first: number, regressors: Float64Array): number {
  let sum = 0;
  for (let i = 0; i < regressors.length; i++) sum += (weights[first + i] as number) * (regressors[i] as number);
  return sum;
}

/** A log factor that no extrapolation may leave: e^±3. */
const bounded = (log: number): number => (log > 3 ? 3 : log < -3 ? -3 : log);

/**
 * Fills `scratch` for the situation at rows[offset], whose keys are record numbers: regressors of all phases, then their estimates.
 */
export function estimatePhases(view: ModelView, rows: Float64Array, offset: number, scratch: BaselineScratch): void {
  const { functions, nodes, globals } = view;
  const f = (rows[offset + COLUMN.functionIndex] as number) * FUNCTION_STRIDE;
  const n = (rows[offset + COLUMN.nodeIndex] as number) * NODE_STRIDE;
  const { runTerms, runOwn, runLoads, initTerms, initOwn, initLoads, fetchTerms, fetchLoads, linear, estimate } = scratch;

  const cpu = rows[offset + COLUMN.cpuUtilisation] as number;
  const disk = rows[offset + COLUMN.diskUtilisation] as number;
  const memory = rows[offset + COLUMN.memoryUtilisation] as number;
  const used = rows[offset + COLUMN.usedShare] as number;
  const load = share(rows[offset + COLUMN.loadPerCore] as number);
  const runnable = share(rows[offset + COLUMN.runnable] as number);
  const cpuSquared = cpu * cpu, diskSquared = disk * disk;
  const full = memory > 0.8 ? (memory - 0.8) * 5 : 0;

  // Run.
  const size = functions[f + F_SIZE] as number;
  const bytes = (rows[offset + COLUMN.inputBytes] as number) + (rows[offset + COLUMN.payloadBytes] as number);
  const u = size > 0 ? bytes / size : 0;
  runTerms[0] = 1;
  runTerms[1] = u;
  runTerms[2] = u > 0 ? u * bounded(Math.log(u)) : 0;
  runOwn[0] = cpu;
  runOwn[1] = cpuSquared;
  runOwn[2] = cpuSquared * cpuSquared;
  runOwn[3] = disk;
  runOwn[4] = memory;
  runOwn[5] = full;
  runOwn[6] = used;
  runLoads[0] = cpu;
  runLoads[1] = cpuSquared;
  runLoads[2] = cpuSquared * cpuSquared;
  runLoads[3] = disk;
  runLoads[4] = diskSquared;
  runLoads[5] = memory;
  runLoads[6] = full;
  runLoads[7] = used;
  runLoads[8] = load;
  runLoads[9] = runnable;
  runLoads[10] = rows[offset + COLUMN.cpuPressure] as number;
  runLoads[11] = rows[offset + COLUMN.ioPressure] as number;
  runLoads[12] = rows[offset + COLUMN.memoryPressure] as number;
  runLoads[13] = used * used;
  runLoads[14] = cpu * memory;
  runLoads[15] = cpu * disk;
  const usualRun = functions[f + F_RECENT_RUN] as number;
  let value = dot(functions, f + F_RUN, runTerms);
  const leastRun = Math.max(LEAST_MS, 0.01 * usualRun * Math.min(1, u > 0 ? u : 1));
  if (!(value > leastRun)) value = leastRun;
  linear[RUN] = value;
  estimate[RUN] = value * Math.exp(bounded(dot(globals, G_RUN_LOAD, runLoads) + dot(functions, f + F_RUN_LOAD, runOwn) + (nodes[n + N_RUN] as number)));

  // Initialise.
  const state = rows[offset + COLUMN.startState] as number;
  const i = f + F_INIT + (state - 1) * INIT_BLOCK;
  const dependencies = rows[offset + COLUMN.dependencies] as number;
  initTerms[0] = 1;
  initTerms[1] = state === 3 ? (dependencies > 0 ? Math.max(0, rows[offset + COLUMN.zygoteDistance] as number) / dependencies : 0) : state === 4 ? 0 : Math.min(4, (rows[offset + COLUMN.missingPackages] as number) / Math.max(1, dependencies));
  initTerms[2] = state >= 3 ? 0 : Math.min(4, (rows[offset + COLUMN.missingPackageBytes] as number) / Math.max(1, rows[offset + COLUMN.packageBytes] as number));
  if (state === 4) {
    initOwn.fill(0);
    initLoads.fill(0);
    initLoads[0] = cpu;
  } else {
    initOwn[0] = cpu;
    initOwn[1] = cpuSquared;
    initOwn[2] = disk;
    initLoads[0] = cpu;
    initLoads[1] = cpuSquared;
    initLoads[2] = cpuSquared * cpuSquared;
    initLoads[3] = disk;
    initLoads[4] = diskSquared;
    initLoads[5] = full;
    initLoads[6] = used;
    initLoads[7] = rows[offset + COLUMN.ioPressure] as number;
  }
  value = dot(functions, i, initTerms);
  const leastInit = Math.max(LEAST_MS, 0.05 * (functions[f + F_RECENT_INIT + state - 1] as number));
  if (!(value > leastInit)) value = leastInit;
  linear[INITIALISE] = value;
  estimate[INITIALISE] = value * Math.exp(bounded(dot(globals, G_INIT_LOAD + (state - 1) * INIT_LOADS, initLoads) + dot(functions, i + INIT_TERMS, initOwn) + (nodes[n + N_INIT] as number)));

  // Fetch.
  const missing = rows[offset + COLUMN.missingBytes] as number;
  const inputs = rows[offset + COLUMN.inputs] as number;
  if (missing > 0) {
    fetchTerms[0] = Math.max(1, inputs);
    fetchTerms[1] = missing * 1e-6;
    const bandwidth = rows[offset + COLUMN.fetchBytesPerS] as number;
    const usual = nodes[n + N_BANDWIDTH_LOG] as number;
    const traffic = nodes[n + N_TRAFFIC] as number;
    const transfers = rows[offset + COLUMN.transfers] as number;
    fetchLoads[0] = bandwidth > 0 && usual > 0 ? Math.log(bandwidth) - usual : 0;
    fetchLoads[1] = traffic > 0 ? share((rows[offset + COLUMN.networkRxBytesPerS] as number) / traffic) : 0;
    fetchLoads[2] = traffic > 0 ? share((rows[offset + COLUMN.networkTxBytesPerS] as number) / traffic) : 0;
    fetchLoads[3] = Math.log1p(transfers);
    fetchLoads[4] = fetchLoads[1] * fetchLoads[1];
    fetchLoads[5] = disk;
    value = dot(globals, G_FETCH, fetchTerms);
    if (!(value > LEAST_MS)) value = LEAST_MS;
    linear[FETCH] = value;
    estimate[FETCH] = value * Math.exp(bounded(dot(globals, G_FETCH_LOAD, fetchLoads) + (functions[f + F_FETCH] as number) + (nodes[n + N_FETCH] as number)));
  } else {
    fetchTerms.fill(0);
    fetchLoads.fill(0);
    linear[FETCH] = Math.max(0, globals[G_FETCH_LOCAL] as number) * inputs;
    estimate[FETCH] = linear[FETCH];
  }
}

/** Fills the model's columns of the row at `offset` (ROW_WIDTH wide, its situation is there) from the record and the estimates. Returns the logarithm of the whole estimate. */
export function completeRow(view: ModelView, rows: Float64Array, offset: number, estimate: Float64Array): number {
  const { functions, nodes } = view;
  const f = (rows[offset + COLUMN.functionIndex] as number) * FUNCTION_STRIDE;
  const state = rows[offset + COLUMN.startState] as number;
  const fetch = estimate[FETCH] as number, initialise = estimate[INITIALISE] as number, run = estimate[RUN] as number;
  const total = fetch + initialise + run;
  const inputLog = Math.log2(1 + (rows[offset + COLUMN.inputBytes] as number));
  const count = functions[f + F_COUNT] as number;
  rows[offset + COLUMN.historyCount] = Math.log2(1 + count);
  rows[offset + COLUMN.recentFetchMs] = functions[f + F_RECENT_FETCH] as number;
  rows[offset + COLUMN.recentInitialiseMs] = functions[f + F_RECENT_INIT + state - 1] as number;
  rows[offset + COLUMN.recentRunMs] = functions[f + F_RECENT_RUN] as number;
  rows[offset + COLUMN.recentTotalMs] = functions[f + F_RECENT_TOTAL] as number;
  rows[offset + COLUMN.inputBytesLog] = inputLog;
  rows[offset + COLUMN.inputRatioLog] = count > 0 ? inputLog - (functions[f + F_USUAL_INPUT_LOG] as number) : 0;
  rows[offset + COLUMN.missingBytesLog] = Math.log2(1 + (rows[offset + COLUMN.missingBytes] as number));
  rows[offset + COLUMN.missingPackageBytesLog] = Math.log2(1 + (rows[offset + COLUMN.missingPackageBytes] as number));
  const totalLog = Math.log(total);
  rows[offset + COLUMN.fetchEstimateLog] = Math.log(LEAST_MS + fetch) * LOG2E;
  rows[offset + COLUMN.initialiseEstimateLog] = Math.log(LEAST_MS + initialise) * LOG2E;
  rows[offset + COLUMN.runEstimateLog] = Math.log(run) * LOG2E;
  rows[offset + COLUMN.totalEstimateLog] = totalLog * LOG2E;
  rows[offset + COLUMN.fetchShare] = fetch / total;
  rows[offset + COLUMN.initialiseShare] = initialise / total;
  rows[offset + COLUMN.nodeFactorLog] = nodes[(rows[offset + COLUMN.nodeIndex] as number) * NODE_STRIDE + N_RUN] as number;
  return totalLog;
}

/**
 * Copies the situation at from[fromOffset] to the beginning of the whole row at `offset`, its keys turned into record numbers. Returns false
 * when something in it is no finite number or no start state; then the row holds zeros there, and COLD.
 */
export function copySituation(view: ModelView, from: Float64Array, fromOffset: number, rows: Float64Array, offset: number): boolean {
  let isValid = true;
  for (let column = 0; column < SITUATION_WIDTH; column++) {
    const value = from[fromOffset + column] as number;
    // Anything times zero is zero, except what is not finite.
    if (value * 0 !== 0) isValid = false;
    rows[offset + column] = value * 0 === 0 ? value : 0;
  }
  const state = rows[offset + COLUMN.startState] as number;
  if (state !== 1 && state !== 2 && state !== 3 && state !== 4) {
    rows[offset + COLUMN.startState] = 1;
    isValid = false;
  }
  rows[offset + COLUMN.functionIndex] = recordOf(rows[offset + COLUMN.functionIndex] as number, view.functionCount);
  rows[offset + COLUMN.nodeIndex] = recordOf(rows[offset + COLUMN.nodeIndex] as number, view.nodeCount);
  return isValid;
}

/** Record of an index: one further on, because record 0 belongs to all that have none. */
export function recordOf(index: number, records: number): number {
  return index >= 0 && index + 1 < records ? Math.trunc(index) + 1 : 0;
}
