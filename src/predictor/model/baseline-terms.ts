/**
 * The baseline of a prediction, as readers compute it. Per phase: what the sizes ask for, a sum of positive parts, times the exponential of what
 * the load does to it (a share that all functions have in common, and the function's own deviation), times the node's own speed:
 *
 *     fetch      = (e^a × objects + e^b × MB)                × exp(w · loads + function + node)
 *     start      = (e^a + e^b × what the zygote lacks)       × exp(w · loads + v · loads + node)     one set per start state from PACKAGES on
 *     unpack     = e^d + e^o × (e^(p + node) × packages + e^(q + w · disk loads + disk of the node) × MB)      COLD only
 *     initialise = start + unpack                            a cold start is one with packages, after they were unpacked
 *     run        = (e^a + e^b × u^(1+c)), u = size / usual   × exp(w · loads + v · loads + node)
 *
 * Parts are exponentials so that no extrapolation makes a time negative, and so that the slope of the logarithm by a weight is a share of the
 * whole: that is what makes least squares on relative errors behave. baseline.ts learns the weights; this file says where they
 * stand and what they are multiplied with. On the hot path: no allocation.
 */
import { COLUMN, FEATURES, FIRST_FEATURE, SITUATION_WIDTH } from '../features.ts';
import { PACKAGES, WARM, ZYGOTE } from '../predictor.ts';
import { FUNCTION_STRIDE, NODE_STRIDE, type ModelView } from './model-view.ts';

// ── where numbers stand in a function's record ──────────────────────────────────────────────────────────────────────
/** Observations. */
export const F_COUNT = 0;
/** The size that its terms are relative to, bytes; 0 until the first observation. */
export const F_SIZE = 1;
export const F_USUAL_INPUT_LOG = 2, F_RECENT_FETCH = 3, F_RECENT_RUN = 4, F_RECENT_TOTAL = 5;
/** Per start state, COLD first: moving average of the initialisation, and how often it was seen. */
export const F_RECENT_INIT = 6, F_INIT_COUNT = 10;
/** Its runtime + 1; 0 until the first observation. */
export const F_RUNTIME = 17;
/** Logarithms of the factors from the mean to the quantiles, and the expected |log error|. */
export const F_Q95 = 14, F_Q99 = 15, F_SPREAD = 16;
/** Logarithm of the factor on what baseline and forest say (levels.ts). */
export const F_LEVEL = 18;
/** Logarithm of its own factor on transfers. */
export const F_FETCH = 20;
/** Its run: the weights of the terms (a, b, c), then own loads. */
export const F_RUN = 24, RUN_TERMS = 3, RUN_OWN_LOADS = 8;
const F_RUN_LOAD = F_RUN + RUN_TERMS;
/** Unpacking: what it takes beyond its packages (d), and its own factor on them (o). */
export const F_UNPACK = 40, UNPACK_OWN = 2;
/** Per start state from PACKAGES on, START_BLOCK numbers: terms, then own loads. */
export const F_START = 48, START_BLOCK = 8, START_TERMS = 2, START_OWN_LOADS = 3;
/** How much of a say the model and each median has (recent-medians.ts); 0: the model alone speaks. */
export const F_SAYS = 72, SAYS = 4;
/** Per octave of input size and start state: key and two medians. Per exact size and start state: key and median. Key 0: none. */
export const F_OCTAVES = F_SAYS + SAYS, OCTAVES = 8, OCTAVE_NUMBERS = 3;
export const F_SIZES: number = F_OCTAVES + OCTAVES * OCTAVE_NUMBERS, SIZES = 16, SIZE_NUMBERS = 2;

// ── in a node's record ──────────────────────────────────────────────────────────────────────────────────────────────
/** Logarithms of its factors on the phases, and on unpacking packages in particular; how often it was seen; its usual bandwidth (log bytes/s). */
export const N_FETCH = 0, N_INIT = 1, N_RUN = 2, N_UNPACK = 3, N_COUNT = 4, N_BANDWIDTH_LOG = 5;

// ── in what all share ───────────────────────────────────────────────────────────────────────────────────────────────
/** Transfers: ms per local object; then the weights of the terms (a, b), then loads. */
export const G_FETCH_LOCAL = 0, G_FETCH = 1, FETCH_TERMS = 2, FETCH_LOADS = 6;
const G_FETCH_LOAD = G_FETCH + FETCH_TERMS;
/** Per start state from PACKAGES on. */
export const G_START_LOAD = 16, START_LOADS = 8;
/** Unpacking: per package (p), per MB (q), then the loads on the disk part. */
export const G_UNPACK = 48, UNPACK_SHARED = 5;
export const G_RUN_LOAD = 64, RUN_LOADS = 16;
/** Phases shorter than this are no better known than this, ms. */
export const LEAST_MS = 0.05;
const LOG2E = Math.LOG2E;

/** Regressors (slopes of the phase's logarithm by the weights) and results of one row; reused. */
export interface BaselineScratch {
  readonly runTerms: Float64Array;
  readonly runOwn: Float64Array;
  readonly runLoads: Float64Array;
  readonly startTerms: Float64Array;
  readonly startOwn: Float64Array;
  readonly startLoads: Float64Array;
  /** Slope by the node's factor. */
  readonly nodeShare: Float64Array;
  readonly unpackOwn: Float64Array;
  readonly unpackShared: Float64Array;
  /** Slope by the node's disk. */
  readonly unpackDisk: Float64Array;
  readonly fetchTerms: Float64Array;
  readonly fetchLoads: Float64Array;
  /** Estimates of the phases, ms. */
  readonly estimate: Float64Array;
}

/** Indexes of phases. */
export const FETCH = 0, INITIALISE = 1, RUN = 2;

export function createBaselineScratch(): BaselineScratch {
  return {
    runTerms: new Float64Array(RUN_TERMS), runOwn: new Float64Array(RUN_OWN_LOADS), runLoads: new Float64Array(RUN_LOADS),
    startTerms: new Float64Array(START_TERMS), startOwn: new Float64Array(START_OWN_LOADS), startLoads: new Float64Array(START_LOADS), nodeShare: new Float64Array(1),
    unpackOwn: new Float64Array(UNPACK_OWN), unpackShared: new Float64Array(UNPACK_SHARED), unpackDisk: new Float64Array(1),
    fetchTerms: new Float64Array(FETCH_TERMS), fetchLoads: new Float64Array(FETCH_LOADS),
    estimate: new Float64Array(3),
  };
}

/** x/(1+x): unbounded numbers become shares. */
const share = (x: number): number => (x > 0 ? x / (1 + x) : 0);

function dot(weights: Float64Array, first: number, regressors: Float64Array): number {
  let sum = 0;
  for (let i = 0; i < regressors.length; i++) sum += (weights[first + i] as number) * (regressors[i] as number);
  return sum;
}

/** A logarithm that no extrapolation may leave: ±4. */
const bounded = (log: number): number => (log > 4 ? 4 : log < -4 ? -4 : log);
/** A part of a time from its logarithm: never nothing and never endless, so that shares of sums of parts are numbers whatever was learned. */
export const part = (log: number): number => Math.exp(log > 40 ? 40 : log < -40 ? -40 : log);

/**
 * Fills `scratch` for the situation at rows[offset], whose keys are record numbers: regressors of all phases, then their estimates.
 */
export function estimatePhases(view: ModelView, rows: Float64Array, offset: number, scratch: BaselineScratch): void {
  const { functions, nodes, globals } = view;
  const f = (rows[offset + COLUMN.functionIndex] as number) * FUNCTION_STRIDE;
  const n = (rows[offset + COLUMN.nodeIndex] as number) * NODE_STRIDE;
  const { runTerms, runOwn, runLoads, startTerms, startOwn, startLoads, nodeShare, unpackOwn, unpackShared, unpackDisk, fetchTerms, fetchLoads, estimate } = scratch;

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
  const sizeLog = u > 0 ? bounded(Math.log(u)) : 0;
  const fixed = part(functions[f + F_RUN] as number);
  const growing = u > 0 ? part((functions[f + F_RUN + 1] as number) + Math.log(u) + (functions[f + F_RUN + 2] as number) * sizeLog) : 0;
  const run = fixed + growing;
  runTerms[0] = fixed / run;
  runTerms[1] = growing / run;
  runTerms[2] = (growing / run) * sizeLog;
  runOwn[0] = cpu;
  runOwn[1] = cpuSquared;
  runOwn[2] = cpuSquared * cpuSquared;
  runOwn[3] = disk;
  runOwn[4] = memory;
  runOwn[5] = full;
  runOwn[6] = used;
  runOwn[7] = diskSquared;
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
  estimate[RUN] = run * Math.exp(bounded(dot(globals, G_RUN_LOAD, runLoads) + dot(functions, f + F_RUN_LOAD, runOwn) + (nodes[n + N_RUN] as number)));

  // Start.
  const state = rows[offset + COLUMN.startState] as number;
  const from = state < PACKAGES ? 0 : state - PACKAGES;
  const i = f + F_START + from * START_BLOCK;
  const always = part(functions[i] as number);
  let loading = 0;
  if (state === ZYGOTE) {
    const dependencies = rows[offset + COLUMN.dependencies] as number;
    loading = dependencies > 0 ? (part(functions[i + 1] as number) * Math.max(0, rows[offset + COLUMN.zygoteDistance] as number)) / Math.max(1, dependencies) : 0;
  }
  startTerms[0] = always / (always + loading);
  startTerms[1] = loading / (always + loading);
  if (state === WARM) {
    startOwn.fill(0);
    startLoads.fill(0);
    startLoads[0] = cpu;
  } else {
    startOwn[0] = cpu;
    startOwn[1] = cpuSquared;
    startOwn[2] = disk;
    startLoads[0] = cpu;
    startLoads[1] = cpuSquared;
    startLoads[2] = cpuSquared * cpuSquared;
    startLoads[3] = disk;
    startLoads[4] = diskSquared;
    startLoads[5] = full;
    startLoads[6] = used;
    startLoads[7] = rows[offset + COLUMN.ioPressure] as number;
  }
  const start = (always + loading) * Math.exp(bounded(dot(globals, G_START_LOAD + from * START_LOADS, startLoads) + dot(functions, i + START_TERMS, startOwn) + (nodes[n + N_INIT] as number)));
  nodeShare[0] = 1;
  estimate[INITIALISE] = start;

  // Unpack.
  if (state < PACKAGES) {
    const extra = part(functions[f + F_UNPACK] as number);
    const factor = part(functions[f + F_UNPACK + 1] as number);
    const byPackages = factor * (rows[offset + COLUMN.missingPackages] as number) * part((globals[G_UNPACK] as number) + (nodes[n + N_INIT] as number));
    const onDisk = (globals[G_UNPACK + 2] as number) * disk + (globals[G_UNPACK + 3] as number) * diskSquared + (globals[G_UNPACK + 4] as number) * cpu + (nodes[n + N_UNPACK] as number);
    const byBytes = factor * (rows[offset + COLUMN.missingPackageBytes] as number) * 1e-6 * part((globals[G_UNPACK + 1] as number) + bounded(onDisk));
    const all = start + extra + byPackages + byBytes;
    const ofStart = start / all, ofBytes = byBytes / all;
    for (let k = 0; k < START_TERMS; k++) startTerms[k] = (startTerms[k] as number) * ofStart;
    for (let k = 0; k < START_OWN_LOADS; k++) startOwn[k] = (startOwn[k] as number) * ofStart;
    for (let k = 0; k < START_LOADS; k++) startLoads[k] = (startLoads[k] as number) * ofStart;
    nodeShare[0] = ofStart + byPackages / all;
    unpackOwn[0] = extra / all;
    unpackOwn[1] = (byPackages + byBytes) / all;
    unpackShared[0] = byPackages / all;
    unpackShared[1] = ofBytes;
    unpackShared[2] = ofBytes * disk;
    unpackShared[3] = ofBytes * diskSquared;
    unpackShared[4] = ofBytes * cpu;
    unpackDisk[0] = ofBytes;
    estimate[INITIALISE] = all;
  }

  // Fetch.
  const missing = rows[offset + COLUMN.missingBytes] as number;
  const inputs = rows[offset + COLUMN.inputs] as number;
  if (missing > 0) {
    const byObjects = Math.max(1, inputs) * part(globals[G_FETCH] as number);
    const byBytes = missing * 1e-6 * part(globals[G_FETCH + 1] as number);
    const fetch = byObjects + byBytes;
    fetchTerms[0] = byObjects / fetch;
    fetchTerms[1] = byBytes / fetch;
    const bandwidth = rows[offset + COLUMN.fetchBytesPerS] as number;
    const usual = nodes[n + N_BANDWIDTH_LOG] as number;
    const transfers = rows[offset + COLUMN.transfers] as number;
    // Traffic relative to what a fetch usually gets: nobody tells the capacity of the link.
    const usualBytes = usual > 0 ? Math.exp(usual) : Infinity;
    const incoming = Math.min(4, (rows[offset + COLUMN.networkRxBytesPerS] as number) / usualBytes);
    fetchLoads[0] = bandwidth > 0 && usual > 0 ? Math.log(Math.max(1, bandwidth)) - usual : 0;
    fetchLoads[1] = incoming;
    fetchLoads[2] = incoming * incoming;
    fetchLoads[3] = Math.log1p(transfers);
    fetchLoads[4] = share(transfers);
    fetchLoads[5] = Math.min(4, (rows[offset + COLUMN.networkTxBytesPerS] as number) / usualBytes);
    estimate[FETCH] = fetch * Math.exp(bounded(dot(globals, G_FETCH_LOAD, fetchLoads) + (functions[f + F_FETCH] as number) + (nodes[n + N_FETCH] as number)));
  } else {
    fetchTerms.fill(0);
    fetchLoads.fill(0);
    estimate[FETCH] = (globals[G_FETCH_LOCAL] as number) * inputs;
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

const LEAST = Float64Array.from(FEATURES, ({ least }) => least), MOST = Float64Array.from(FEATURES, ({ most }) => most);

/**
 * Copies the situation at from[fromOffset] to the beginning of the whole row at `offset`, its keys turned into record numbers and its features cut off at
 * their bounds. Returns false when something in it is no finite number or no start state; then the row holds the nearest to zero that it may there, and COLD.
 */
export function copySituation(view: ModelView, from: Float64Array, fromOffset: number, rows: Float64Array, offset: number): boolean {
  let isValid = true;
  for (let column = 0; column < SITUATION_WIDTH; column++) {
    const value = from[fromOffset + column] as number;
    // Anything times zero is zero, except what is not finite.
    if (value * 0 !== 0) isValid = false;
    const finite = value * 0 === 0 ? value : 0;
    const least = LEAST[column] as number, most = MOST[column] as number;
    // A key beyond its bounds is nobody's; at its bound it would be somebody's.
    rows[offset + column] = column < FIRST_FEATURE ? finite : finite < least ? least : finite > most ? most : finite;
  }
  const state = from[fromOffset + COLUMN.startState] as number;
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
