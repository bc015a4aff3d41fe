/**
 * Learns the baseline (baseline-terms.ts): recursive least squares on relative errors. For every phase of an execution the surprise is the logarithm of
 * measured over estimated; the function's block, the block that all share and the node's factor see the same surprise and the same
 * total variance and each moves by its own doubt (weight-block.ts). So a new function learns its level in one sample without disturbing what is known of the
 * nodes, and a new node does not disturb the functions.
 */
import { COLUMN, SITUATION_WIDTH } from '../features.ts';
import { COLD, PACKAGES, WARM, ZYGOTE } from '../predictor.ts';
import {
  F_COUNT, F_FETCH, F_INIT_COUNT, F_RECENT_FETCH, F_RECENT_INIT, F_RECENT_RUN, F_RECENT_TOTAL, F_RUN, F_RUNTIME, F_SIZE, F_START, F_UNPACK, F_USUAL_INPUT_LOG, FETCH, FETCH_LOADS, FETCH_TERMS, G_FETCH, G_FETCH_LOCAL,
  G_RUN_LOAD, G_START_LOAD, G_UNPACK, INITIALISE, LEAST_MS, N_BANDWIDTH_LOG, N_COUNT, N_FETCH, N_INIT, N_RUN, N_UNPACK, RUN, RUN_LOADS, RUN_OWN_LOADS, RUN_TERMS, START_BLOCK, START_LOADS, START_OWN_LOADS,
  START_TERMS, UNPACK_OWN, UNPACK_SHARED, createBaselineScratch, estimatePhases, part,
} from './baseline-terms.ts';
import { FUNCTION_STRIDE, GLOBAL_STRIDE, NODE_STRIDE, type ModelView } from './model-view.ts';
import type { FlatForest } from './flat-forest.ts';
import type { FunctionProfile } from './online-model.ts';
import { similarity } from './similarity.ts';
import { WeightBlocks } from './weight-block.ts';

/** The first runs of a function, and the doubts that it was born with. */
interface Youth {
  readonly doubts: Float64Array;
  readonly rows: Float64Array[];
  readonly ranMs: number[];
}

/** What a baseline learned, as plain values. Young functions go on from what they know, without going through their first runs again. */
export interface BaselineSnapshot {
  readonly functionCount: number;
  readonly functions: Float64Array;
  readonly nodeCount: number;
  readonly nodes: Float64Array;
  readonly globals: Float64Array;
  readonly covariances: readonly Float64Array[];
  readonly noise: Float64Array;
  readonly localFetches: number;
}

/** The live arrays: like a view, but they grow. */
export interface LiveView extends ModelView {
  functions: Float64Array;
  nodes: Float64Array;
}

/** Starts before anything was measured, ms: with packages, by a zygote, warm; loading what a zygote lacks; unpacking: extra, per package, per MB. */
const START_PRIORS = [120, 8, 0.5] as const;
const LOADING_PRIOR_MS = 60, EXTRA_PRIOR_MS = 10, PACKAGE_PRIOR_MS = 4, MB_PRIOR_MS = 12;
const RUN_PRIOR_MS = 50;
/** Doubts (standard deviations) of weights nobody knows anything of. */
const FIXED_PART = 1, GROWING_PART = 0.5, CURVE = 0.1, OWN_LOAD = 0.5, SHARED_LOAD = 0.5, NODE = 0.25, FUNCTION_FETCH = 0.15, FETCH_PART = 1;
const START_PART = 1, UNPACK_EXTRA = 1, UNPACK_FACTOR = 0.6, UNPACK_PART = 1;
/** Doubt of own loads where kin are known: that of how much functions differ. */
const KIN_LOAD = 0.3;
/** A first guess of the fixed share of a run is never nearer to none or all: from there the least squares would hardly move. */
const LEAST_FIXED = 0.25, MOST_FIXED = 0.75;
/** Memory of what is shared. */
const SHARED_FORGETTING = 0.9995;
/** How much a node may change from one observation to the next (variance). */
const NODE_WANDER = 2e-7;
/** Surprises beyond so many standard deviations count as that many; beyond OUTLIER they move nothing: either it was an accident, or drift.ts will say what changed. */
const CLIP = 3, OUTLIER = 8;
const LEAST_NOISE = 0.002 ** 2;
const FIRST_NOISE = 0.05 ** 2;
const STATES = 4, STARTS = 3;
/** Observations of a function that are gone through again with each new one. */
const YOUNG = 12;
/** Weight of a new value in the moving averages of the history. */
const RECENT = 0.2;

const squares = (deviations: readonly number[]): Float64Array => Float64Array.from(deviations, (deviation) => deviation * deviation);

/** Where the weights of a start state stand in a record: from … to before. */
function placesOf(state: number): readonly [number, number] {
  if (state === COLD) return [F_UNPACK, F_UNPACK + UNPACK_OWN];
  const first = F_START + (state - PACKAGES) * START_BLOCK;
  return [first, first + START_TERMS + START_OWN_LOADS];
}

export class Baseline {
  readonly view: LiveView;
  /** Surprises of the last observation by phase. */
  readonly surprises = new Float64Array(3);
  readonly scratch = createBaselineScratch();
  readonly #forgetting: number;
  readonly #run: WeightBlocks;
  /** Blocks record × STARTS + start state − PACKAGES. */
  readonly #start: WeightBlocks;
  readonly #unpack: WeightBlocks;
  readonly #functionFetch: WeightBlocks;
  readonly #nodeFetch: WeightBlocks;
  readonly #nodeInit: WeightBlocks;
  readonly #nodeRun: WeightBlocks;
  readonly #nodeUnpack: WeightBlocks;
  readonly #sharedFetch: WeightBlocks;
  readonly #sharedStart: WeightBlocks;
  readonly #sharedUnpack: WeightBlocks;
  readonly #sharedRun: WeightBlocks;
  readonly #nodeBlocks: readonly WeightBlocks[];
  /** All blocks in the order of a snapshot, with what they are counted by. */
  readonly #blocks: readonly { readonly blocks: WeightBlocks; readonly per: 'function' | 'node' | 'all' }[];
  /** Variance that nothing explains, per record: fetch, run, then initialise by state. */
  #noise: Float64Array;
  #localFetches = 0;
  readonly #youths = new Map<number, Youth>();
  readonly #one = Float64Array.of(1);
  readonly #runRegressors = new Float64Array(RUN_TERMS + RUN_OWN_LOADS);
  readonly #startRegressors = new Float64Array(START_TERMS + START_OWN_LOADS);
  readonly #fetchRegressors = new Float64Array(FETCH_TERMS + FETCH_LOADS);
  readonly #runBound = squares([FIXED_PART, GROWING_PART, CURVE, ...Array.from({ length: RUN_OWN_LOADS }, () => OWN_LOAD)]);
  readonly #startBound = squares([...Array.from({ length: START_TERMS }, () => START_PART), ...Array.from({ length: START_OWN_LOADS }, () => OWN_LOAD)]);
  readonly #unpackBound = squares([UNPACK_EXTRA, UNPACK_FACTOR]);
  readonly #fetchBound = squares([FETCH_PART, FETCH_PART, ...Array.from({ length: FETCH_LOADS }, () => SHARED_LOAD)]);
  readonly #sharedStartBound = squares(Array.from({ length: START_LOADS }, () => SHARED_LOAD));
  readonly #sharedUnpackBound = squares([UNPACK_PART, UNPACK_PART, ...Array.from({ length: UNPACK_SHARED - 2 }, () => SHARED_LOAD)]);
  readonly #sharedRunBound = squares(Array.from({ length: RUN_LOADS }, () => SHARED_LOAD));
  readonly #nodeBound = squares([NODE]);
  readonly #functionFetchBound = squares([FUNCTION_FETCH]);

  constructor(forest: FlatForest, forgetting: number) {
    this.#forgetting = forgetting;
    this.view = { functionCount: 1, functions: new Float64Array(8 * FUNCTION_STRIDE), nodeCount: 1, nodes: new Float64Array(8 * NODE_STRIDE), globals: new Float64Array(GLOBAL_STRIDE), forest };
    const functions = () => this.view.functions, nodes = () => this.view.nodes, globals = () => this.view.globals;
    this.#run = new WeightBlocks(RUN_TERMS + RUN_OWN_LOADS, functions, FUNCTION_STRIDE, F_RUN, 8);
    this.#start = new WeightBlocks(START_TERMS + START_OWN_LOADS, functions, START_BLOCK, 0, 8 * STARTS);
    this.#unpack = new WeightBlocks(UNPACK_OWN, functions, FUNCTION_STRIDE, F_UNPACK, 8);
    this.#functionFetch = new WeightBlocks(1, functions, FUNCTION_STRIDE, F_FETCH, 8);
    this.#nodeFetch = new WeightBlocks(1, nodes, NODE_STRIDE, N_FETCH, 8);
    this.#nodeInit = new WeightBlocks(1, nodes, NODE_STRIDE, N_INIT, 8);
    this.#nodeRun = new WeightBlocks(1, nodes, NODE_STRIDE, N_RUN, 8);
    this.#nodeUnpack = new WeightBlocks(1, nodes, NODE_STRIDE, N_UNPACK, 8);
    this.#nodeBlocks = [this.#nodeFetch, this.#nodeInit, this.#nodeRun, this.#nodeUnpack];
    this.#sharedFetch = new WeightBlocks(FETCH_TERMS + FETCH_LOADS, globals, GLOBAL_STRIDE, G_FETCH, 1);
    this.#sharedStart = new WeightBlocks(START_LOADS, globals, START_LOADS, G_START_LOAD, STARTS);
    this.#sharedUnpack = new WeightBlocks(UNPACK_SHARED, globals, GLOBAL_STRIDE, G_UNPACK, 1);
    this.#sharedRun = new WeightBlocks(RUN_LOADS, globals, RUN_LOADS, G_RUN_LOAD, 1);
    this.#blocks = [
      ...[this.#run, this.#start, this.#unpack, this.#functionFetch].map((blocks) => ({ blocks, per: 'function' as const })),
      ...this.#nodeBlocks.map((blocks) => ({ blocks, per: 'node' as const })),
      ...[this.#sharedFetch, this.#sharedStart, this.#sharedUnpack, this.#sharedRun].map((blocks) => ({ blocks, per: 'all' as const })),
    ];
    this.#noise = new Float64Array(8 * (2 + STATES)).fill(FIRST_NOISE);
    this.view.globals[G_FETCH_LOCAL] = 0.5;
    this.view.globals[G_FETCH] = Math.log(1);
    this.view.globals[G_FETCH + 1] = Math.log(8);
    this.#sharedFetch.setDiagonal(0, this.#fetchBound);
    this.view.globals[G_UNPACK] = Math.log(PACKAGE_PRIOR_MS);
    this.view.globals[G_UNPACK + 1] = Math.log(MB_PRIOR_MS);
    for (let from = 0; from < STARTS; from++) this.#sharedStart.setDiagonal(from, this.#sharedStartBound);
    this.#sharedUnpack.setDiagonal(0, this.#sharedUnpackBound);
    this.#sharedRun.setDiagonal(0, this.#sharedRunBound);
    this.bear(0, undefined, []);
  }

  /** Makes room so that `record` exists. */
  growFunctions(record: number): void {
    const needed = (record + 1) * FUNCTION_STRIDE;
    if (needed > this.view.functions.length) {
      const room = Math.max(record + 1, 2 * (this.view.functions.length / FUNCTION_STRIDE));
      const larger = new Float64Array(room * FUNCTION_STRIDE);
      larger.set(this.view.functions);
      this.view.functions = larger;
      this.#run.grow(room);
      this.#start.grow(room * STARTS);
      this.#unpack.grow(room);
      this.#functionFetch.grow(room);
      const noise = new Float64Array(room * (2 + STATES)).fill(FIRST_NOISE);
      noise.set(this.#noise);
      this.#noise = noise;
    }
    if (record >= this.view.functionCount) this.view.functionCount = record + 1;
  }

  /** Makes room so that the node's `record` exists. */
  growNodes(record: number): void {
    const needed = (record + 1) * NODE_STRIDE;
    if (needed > this.view.nodes.length) {
      const room = Math.max(record + 1, 2 * (this.view.nodes.length / NODE_STRIDE));
      const larger = new Float64Array(room * NODE_STRIDE);
      larger.set(this.view.nodes);
      this.view.nodes = larger;
      for (const blocks of this.#nodeBlocks) blocks.grow(room);
    }
    while (record >= this.view.nodeCount) {
      for (const blocks of this.#nodeBlocks) blocks.setDiagonal(this.view.nodeCount, this.#nodeBound);
      this.view.nodeCount++;
    }
  }

  /**
   * Writes the record of a function that was not seen yet, after those that were (`others`: their profiles, by record), weighted by how
   * alike they are. Levels of runs are only guesses then; shapes, loads and initialisations are often right.
   */
  bear(record: number, profile: FunctionProfile | undefined, others: readonly (FunctionProfile | undefined)[]): void {
    const { functions } = this.view;
    const f = record * FUNCTION_STRIDE;
    functions.fill(0, f, f + FUNCTION_STRIDE);
    const mean = new Float64Array(FUNCTION_STRIDE);
    let weights = 0, runLog = 0, fixedShare = 0, curve = 0;
    const startWeights = new Float64Array(STATES), sums = new Float64Array(FUNCTION_STRIDE);
    others.forEach((other, at) => {
      const o = at * FUNCTION_STRIDE;
      if (other === undefined || at === record || (functions[o + F_COUNT] as number) < 3) return;
      const weight = profile === undefined ? 1 : similarity(profile, other);
      weights += weight;
      runLog += weight * Math.log(Math.max(LEAST_MS, functions[o + F_RECENT_RUN] as number));
      const growing = Math.exp((functions[o + F_RUN + 1] as number) - (functions[o + F_RUN] as number));
      fixedShare += weight / (1 + growing);
      curve += weight * (functions[o + F_RUN + 2] as number);
      for (let k = 0; k < RUN_OWN_LOADS; k++) mean[F_RUN + RUN_TERMS + k] = (mean[F_RUN + RUN_TERMS + k] as number) + weight * (functions[o + F_RUN + RUN_TERMS + k] as number);
      mean[F_FETCH] = (mean[F_FETCH] as number) + weight * (functions[o + F_FETCH] as number);
      for (let state = COLD; state <= WARM; state++) {
        if ((functions[o + F_INIT_COUNT + state - 1] as number) === 0) continue;
        startWeights[state - 1] = (startWeights[state - 1] as number) + weight;
        const [first, end] = placesOf(state);
        for (let k = first; k < end; k++) sums[k] = (sums[k] as number) + weight * (functions[o + k] as number);
      }
    });
    const run = weights > 0 ? Math.exp(runLog / weights) : RUN_PRIOR_MS;
    const constant = weights > 0 ? Math.min(MOST_FIXED, Math.max(LEAST_FIXED, fixedShare / weights)) : 0.4;
    functions[f + F_RUN] = Math.log(run * constant);
    functions[f + F_RUN + 1] = Math.log(run * (1 - constant));
    functions[f + F_RUN + 2] = weights > 0 ? curve / weights : 0;
    functions[f + F_RECENT_RUN] = run;
    if (weights > 0) {
      functions[f + F_FETCH] = (mean[F_FETCH] as number) / weights;
      for (let k = 0; k < RUN_OWN_LOADS; k++) functions[f + F_RUN + RUN_TERMS + k] = (mean[F_RUN + RUN_TERMS + k] as number) / weights;
    }
    functions[f + F_UNPACK] = Math.log(EXTRA_PRIOR_MS);
    START_PRIORS.forEach((ms, from) => void (functions[f + F_START + from * START_BLOCK] = Math.log(ms)));
    functions[f + F_START + (ZYGOTE - PACKAGES) * START_BLOCK + 1] = Math.log(LOADING_PRIOR_MS);
    for (let state = COLD; state <= WARM; state++) {
      const seen = startWeights[state - 1] as number;
      const [first, end] = placesOf(state);
      if (seen > 0) for (let k = first; k < end; k++) functions[f + k] = (sums[k] as number) / seen;
      functions[f + F_RECENT_INIT + state - 1] = part(functions[f + F_START + (Math.max(state, PACKAGES) - PACKAGES) * START_BLOCK] as number);
    }
    const load = weights > 0 ? KIN_LOAD ** 2 : OWN_LOAD ** 2;
    const withLoad = (bound: Float64Array, terms: number): Float64Array => bound.map((variance, k) => (k < terms ? variance : load));
    for (let from = 0; from < STARTS; from++) this.#start.setDiagonal(record * STARTS + from, withLoad(this.#startBound, START_TERMS));
    this.#unpack.setDiagonal(record, this.#unpackBound);
    const doubts = withLoad(this.#runBound, RUN_TERMS);
    this.#run.setDiagonal(record, doubts);
    this.#youths.set(record, { doubts, rows: [], ranMs: [] });
    this.#functionFetch.setDiagonal(record, this.#functionFetchBound);
    this.#noise.fill(FIRST_NOISE, record * (2 + STATES), (record + 1) * (2 + STATES));
  }

  /**
   * Learns from one execution. `row` holds its situation with record numbers as keys, at `offset`; `scratch` is filled from it by the caller's call of
   * estimatePhases. `surprises` tells the logarithm of measured over estimated per phase afterwards.
   */
  learn(rows: Float64Array, offset: number, fetchedMs: number, initialisedMs: number, ranMs: number): void {
    const { view, scratch, surprises } = this;
    const record = rows[offset + COLUMN.functionIndex] as number;
    const node = rows[offset + COLUMN.nodeIndex] as number;
    const state = rows[offset + COLUMN.startState] as number;
    const f = record * FUNCTION_STRIDE;
    if (view.functions[f + F_COUNT] === 0) {
      this.#begin(record, rows, offset, ranMs);
      estimatePhases(view, rows, offset, scratch);
    }
    if (view.functions[f + F_INIT_COUNT + state - 1] === 0) this.#beginState(record, state, initialisedMs);
    estimatePhases(view, rows, offset, scratch);
    const { estimate } = scratch;
    surprises[FETCH] = Math.log((fetchedMs + LEAST_MS) / ((estimate[FETCH] as number) + LEAST_MS));
    surprises[INITIALISE] = Math.log((initialisedMs + LEAST_MS) / ((estimate[INITIALISE] as number) + LEAST_MS));
    surprises[RUN] = Math.log((ranMs + LEAST_MS) / ((estimate[RUN] as number) + LEAST_MS));
    this.#learnRun(record, node);
    this.#goThroughYouth(record, rows, offset, ranMs);
    this.#learnInit(record, node, state);
    if ((rows[offset + COLUMN.missingBytes] as number) > 0) this.#learnFetch(record, node);
    else this.#learnLocalFetch(fetchedMs, rows[offset + COLUMN.inputs] as number);
    this.#remember(rows, offset, record, node, state, fetchedMs, initialisedMs, ranMs);
    this.#relateStarts(record, state);
  }

  /** The function changed: its phases take e^shift times what they took. Its doubt is that of a young function again. */
  shiftFunction(record: number, shifts: ArrayLike<number>): void {
    const { functions } = this.view;
    const f = record * FUNCTION_STRIDE;
    // Fixed and growing part move together; the response to load stays.
    for (const term of [F_RUN, F_RUN + 1]) functions[f + term] = (functions[f + term] as number) + (shifts[RUN] as number);
    functions[f + F_RECENT_RUN] = (functions[f + F_RECENT_RUN] as number) * Math.exp(shifts[RUN] as number);
    this.#run.widen(record, 9);
    this.#youths.delete(record);
    functions[f + F_FETCH] = (functions[f + F_FETCH] as number) + (shifts[FETCH] as number);
    this.#functionFetch.setDiagonal(record, this.#functionFetchBound);
    for (let from = 0; from < STARTS; from++) {
      const i = f + F_START + from * START_BLOCK;
      for (let k = 0; k < START_TERMS; k++) functions[i + k] = (functions[i + k] as number) + (shifts[INITIALISE] as number);
      this.#start.widen(record * STARTS + from, 4);
    }
    for (let k = 0; k < UNPACK_OWN; k++) functions[f + F_UNPACK + k] = (functions[f + F_UNPACK + k] as number) + (shifts[INITIALISE] as number);
    this.#unpack.setDiagonal(record, this.#unpackBound);
  }

  /** The node changed: everything on it takes e^shift times what it took. */
  shiftNode(node: number, shifts: ArrayLike<number>): void {
    const n = node * NODE_STRIDE;
    const { nodes } = this.view;
    nodes[n + N_FETCH] = (nodes[n + N_FETCH] as number) + (shifts[FETCH] as number);
    nodes[n + N_INIT] = (nodes[n + N_INIT] as number) + (shifts[INITIALISE] as number);
    nodes[n + N_RUN] = (nodes[n + N_RUN] as number) + (shifts[RUN] as number);
    const doubt = squares([0.1]);
    for (const blocks of [this.#nodeFetch, this.#nodeInit, this.#nodeRun]) blocks.setDiagonal(node, doubt);
  }

  /** Everything that it learned, as plain arrays. */
  toSnapshot(): BaselineSnapshot {
    const { functionCount, functions, nodeCount, nodes, globals } = this.view;
    return {
      functionCount, functions: functions.slice(0, functionCount * FUNCTION_STRIDE), nodeCount, nodes: nodes.slice(0, nodeCount * NODE_STRIDE), globals: globals.slice(),
      covariances: this.#blocks.map(({ blocks, per }) => blocks.covariance.slice(0, (per === 'function' ? functionCount : per === 'node' ? nodeCount : 1) * blocks.size ** 2 * (blocks === this.#start || blocks === this.#sharedStart ? STARTS : 1))),
      noise: this.#noise.slice(0, functionCount * (2 + STATES)), localFetches: this.#localFetches,
    };
  }

  /** Takes over a snapshot; only in a new baseline. Throws a RangeError where a length does not fit. */
  restore(from: BaselineSnapshot): void {
    this.growFunctions(from.functionCount - 1);
    this.growNodes(from.nodeCount - 1);
    const { view } = this;
    if (from.functions.length !== view.functionCount * FUNCTION_STRIDE || from.nodes.length !== view.nodeCount * NODE_STRIDE || from.globals.length !== GLOBAL_STRIDE || from.covariances.length !== this.#blocks.length) throw new RangeError('its records have another size');
    if (!from.noise.every((variance) => variance > 0)) throw new RangeError('a variance of its noise is not above 0');
    for (let record = 0; record < from.functionCount; record++) if (!((from.functions[record * FUNCTION_STRIDE + F_COUNT] as number) >= 0)) throw new RangeError(`function ${record} was seen less than never`);
    view.functions.set(from.functions);
    view.nodes.set(from.nodes);
    view.globals.set(from.globals);
    this.#blocks.forEach(({ blocks }, at) => blocks.covariance.set(from.covariances[at] as Float64Array));
    this.#noise.set(from.noise);
    for (const record of this.#youths.keys()) if ((view.functions[record * FUNCTION_STRIDE + F_COUNT] as number) > 0) this.#youths.delete(record);
    this.#localFetches = from.localFetches;
  }

  /** Bytes of what grows. */
  get bytes(): number {
    return this.view.functions.byteLength + this.view.nodes.byteLength + this.#run.covariance.byteLength + this.#start.covariance.byteLength + this.#unpack.covariance.byteLength + 4 * this.#functionFetch.covariance.byteLength + this.#noise.byteLength;
  }

  /** First sight of a function: the level is what was measured, relative to this size. */
  #begin(record: number, rows: Float64Array, offset: number, ranMs: number): void {
    const { view, scratch } = this;
    const f = record * FUNCTION_STRIDE;
    const bytes = (rows[offset + COLUMN.inputBytes] as number) + (rows[offset + COLUMN.payloadBytes] as number);
    view.functions[f + F_SIZE] = Math.max(1, bytes);
    view.functions[f + F_RUNTIME] = 1 + (rows[offset + COLUMN.runtime] as number);
    estimatePhases(view, rows, offset, scratch);
    const level = Math.log((ranMs + LEAST_MS) / (scratch.estimate[RUN] as number));
    for (const term of [F_RUN, F_RUN + 1]) view.functions[f + term] = (view.functions[f + term] as number) + level;
    view.functions[f + F_RECENT_RUN] = ranMs;
  }

  /** First initialisation from this state: what was measured says something of what is not known yet. */
  #beginState(record: number, state: number, initialisedMs: number): void {
    const { view, scratch } = this;
    const { functions } = view;
    const f = record * FUNCTION_STRIDE;
    const ratio = (initialisedMs + LEAST_MS) / (scratch.estimate[INITIALISE] as number);
    // The start that this one ends in, if nothing is known of it; else what comes on top of that.
    const from = Math.max(state, PACKAGES) - PACKAGES;
    const i = f + F_START + from * START_BLOCK;
    const startShare = state > COLD ? 1 : 1 - (scratch.unpackOwn[0] as number) - (scratch.unpackOwn[1] as number);
    const move = (at: number, factor: number): void => {
      if (Number.isNaN(factor)) return; // all of it or nothing is the start: nothing can be said of the rest
      functions[at] = (functions[at] as number) + Math.log(Math.min(50, Math.max(0.02, factor)));
    };
    if (state === ZYGOTE) {
      // Forking costs about the same for everybody; what goes beyond it is loading what the zygote lacks.
      const loading = scratch.startTerms[1] as number;
      if (loading > 0) move(i + 1, (ratio - (1 - loading)) / loading);
      else move(i, ratio);
    } else if (state === COLD && (functions[f + F_INIT_COUNT + PACKAGES - 1] as number) > 0) {
      const factor = (ratio - startShare) / (1 - startShare);
      move(f + F_UNPACK, factor);
      move(f + F_UNPACK + 1, factor);
    } else if (state === COLD) {
      // Unpacking is alike for all, so the difference is in the start.
      const factor = (ratio - (1 - startShare)) / startShare;
      if (factor > 0.1) move(i, factor);
      else for (const at of [i, f + F_UNPACK, f + F_UNPACK + 1]) move(at, ratio);
    } else if (state !== PACKAGES || (functions[f + F_INIT_COUNT + COLD - 1] as number) === 0) move(i, ratio);
    functions[f + F_RECENT_INIT + state - 1] = initialisedMs;
  }

  /**
   * What one way to start says of another that was not seen yet: a start with packages is booting, alike for all of a runtime, and loading; a zygote that lacks
   * everything loads as much.
   */
  #relateStarts(record: number, state: number): void {
    const { functions, functionCount } = this.view;
    const f = record * FUNCTION_STRIDE;
    const seen = (of: number, start: number): boolean => (functions[of + F_INIT_COUNT + start - 1] as number) > 0;
    const isZygoteSeen = seen(f, ZYGOTE), arePackagesSeen = seen(f, PACKAGES) || seen(f, COLD);
    if (state === WARM || isZygoteSeen === arePackagesSeen) return;
    const packages = f + F_START, loading = f + F_START + (ZYGOTE - PACKAGES) * START_BLOCK + 1;
    let boot = Infinity;
    for (let other = 1; other < functionCount; other++) {
      const o = other * FUNCTION_STRIDE;
      if (other !== record && functions[o + F_RUNTIME] === functions[f + F_RUNTIME] && (seen(o, PACKAGES) || seen(o, COLD))) boot = Math.min(boot, part(functions[o + F_START] as number));
    }
    if (boot === Infinity) boot = START_PRIORS[0] / 2;
    if (isZygoteSeen) functions[packages] = Math.log(boot + part(functions[loading] as number));
    else {
      const start = part(functions[packages] as number);
      functions[loading] = Math.log(Math.max(0.1 * start, start - boot));
    }
  }

  #learnRun(record: number, node: number): void {
    const { scratch, surprises } = this;
    const own = this.#runRegressors;
    own.set(scratch.runTerms);
    own.set(scratch.runOwn, RUN_TERMS);
    const noise = record * (2 + STATES) + 1;
    const explained = this.#run.variance(record, own) + this.#sharedRun.variance(0, scratch.runLoads) + this.#nodeRun.variance(node, this.#one);
    const total = explained + (this.#noise[noise] as number);
    const surprise = this.#followed(surprises[RUN] as number, total);
    this.#run.learn(record, own, surprise, total, this.#forgetting, this.#runBound);
    this.#sharedRun.learn(0, scratch.runLoads, surprise, total, SHARED_FORGETTING, this.#sharedRunBound);
    this.#learnNode(this.#nodeRun, this.#one, node, surprise, total);
    this.#learnNoise(noise, this.view.functions[record * FUNCTION_STRIDE + F_COUNT] as number, surprises[RUN] as number, explained);
  }

  /**
   * One step of least squares is only right near the truth, and a young function is far from it. So its first runs are gone through again with
   * each new one, from where the last pass ended and with the doubts of its birth.
   */
  #goThroughYouth(record: number, rows: Float64Array, offset: number, ranMs: number): void {
    const youth = this.#youths.get(record);
    if (youth === undefined) return;
    youth.rows.push(rows.slice(offset, offset + SITUATION_WIDTH));
    youth.ranMs.push(ranMs);
    if (youth.rows.length > 1) {
      const { view, scratch } = this;
      const own = this.#runRegressors;
      const noise = this.#noise[record * (2 + STATES) + 1] as number;
      this.#run.setDiagonal(record, youth.doubts);
      youth.rows.forEach((row, at) => {
        estimatePhases(view, row, 0, scratch);
        const surprise = Math.log(((youth.ranMs[at] as number) + LEAST_MS) / ((scratch.estimate[RUN] as number) + LEAST_MS));
        own.set(scratch.runTerms);
        own.set(scratch.runOwn, RUN_TERMS);
        const total = this.#run.variance(record, own) + this.#sharedRun.variance(0, scratch.runLoads) + this.#nodeRun.variance(row[COLUMN.nodeIndex] as number, this.#one) + noise;
        this.#run.learn(record, own, this.#followed(surprise, total), total, 1, this.#runBound);
      });
      estimatePhases(view, rows, offset, scratch);
    }
    if (youth.rows.length >= YOUNG) this.#youths.delete(record);
  }

  #learnInit(record: number, node: number, state: number): void {
    const { scratch, surprises } = this;
    const own = this.#startRegressors;
    own.set(scratch.startTerms);
    own.set(scratch.startOwn, START_TERMS);
    const from = Math.max(state, PACKAGES) - PACKAGES;
    const block = record * STARTS + from;
    const isCold = state === COLD;
    const noise = record * (2 + STATES) + 1 + state;
    let explained = this.#start.variance(block, own) + this.#sharedStart.variance(from, scratch.startLoads) + this.#nodeInit.variance(node, scratch.nodeShare);
    if (isCold) explained += this.#unpack.variance(record, scratch.unpackOwn) + this.#sharedUnpack.variance(0, scratch.unpackShared) + this.#nodeUnpack.variance(node, scratch.unpackDisk);
    const total = explained + (this.#noise[noise] as number);
    const surprise = this.#followed(surprises[INITIALISE] as number, total);
    // The weights of a state do not stand at equal distances, so their place is told.
    this.#start.learn(block, own, surprise, total, this.#forgetting, this.#startBound, record * FUNCTION_STRIDE + F_START + from * START_BLOCK);
    this.#sharedStart.learn(from, scratch.startLoads, surprise, total, SHARED_FORGETTING, this.#sharedStartBound);
    this.#learnNode(this.#nodeInit, scratch.nodeShare, node, surprise, total);
    if (isCold) {
      this.#unpack.learn(record, scratch.unpackOwn, surprise, total, this.#forgetting, this.#unpackBound);
      this.#sharedUnpack.learn(0, scratch.unpackShared, surprise, total, SHARED_FORGETTING, this.#sharedUnpackBound);
      this.#learnNode(this.#nodeUnpack, scratch.unpackDisk, node, surprise, total);
    }
    this.#learnNoise(noise, this.view.functions[record * FUNCTION_STRIDE + F_INIT_COUNT + state - 1] as number, surprises[INITIALISE] as number, explained);
  }

  #learnFetch(record: number, node: number): void {
    const { scratch, surprises } = this;
    const shared = this.#fetchRegressors;
    shared.set(scratch.fetchTerms);
    shared.set(scratch.fetchLoads, FETCH_TERMS);
    const noise = record * (2 + STATES);
    const explained = this.#sharedFetch.variance(0, shared) + this.#functionFetch.variance(record, this.#one) + this.#nodeFetch.variance(node, this.#one);
    const total = explained + (this.#noise[noise] as number);
    const surprise = this.#followed(surprises[FETCH] as number, total);
    this.#sharedFetch.learn(0, shared, surprise, total, SHARED_FORGETTING, this.#fetchBound);
    this.#functionFetch.learn(record, this.#one, surprise, total, this.#forgetting, this.#functionFetchBound);
    this.#learnNode(this.#nodeFetch, this.#one, node, surprise, total);
    this.#learnNoise(noise, this.view.functions[record * FUNCTION_STRIDE + F_COUNT] as number, surprises[FETCH] as number, explained);
  }

  #learnLocalFetch(fetchedMs: number, inputs: number): void {
    if (inputs <= 0) return;
    const { globals } = this.view;
    this.#localFetches = Math.min(200, this.#localFetches + 1);
    globals[G_FETCH_LOCAL] = (globals[G_FETCH_LOCAL] as number) + (fetchedMs / Math.max(1, inputs) - (globals[G_FETCH_LOCAL] as number)) / this.#localFetches;
  }

  #learnNode(blocks: WeightBlocks, regressors: Float64Array, node: number, surprise: number, total: number): void {
    if (node === 0) return;
    blocks.learn(node, regressors, surprise, total, 1, this.#nodeBound);
    blocks.covariance[node] = Math.min(this.#nodeBound[0] as number, (blocks.covariance[node] as number) + NODE_WANDER);
  }

  #learnNoise(at: number, count: number, surprise: number, explained: number): void {
    const before = this.#noise[at] as number;
    const seen = Math.max(LEAST_NOISE, Math.min(surprise * surprise, CLIP * CLIP * (before + explained)) - explained);
    this.#noise[at] = before + (seen - before) * Math.max(0.02, 1 / (count + 4));
  }

  /** The surprise that the weights may follow. */
  #followed(surprise: number, total: number): number {
    const deviation = Math.sqrt(total);
    if (Math.abs(surprise) > OUTLIER * deviation) return 0;
    return Math.min(CLIP * deviation, Math.max(-CLIP * deviation, surprise));
  }

  #remember(rows: Float64Array, offset: number, record: number, node: number, state: number, fetchedMs: number, initialisedMs: number, ranMs: number): void {
    const { functions, nodes } = this.view;
    const f = record * FUNCTION_STRIDE, n = node * NODE_STRIDE;
    const count = (functions[f + F_COUNT] = (functions[f + F_COUNT] as number) + 1);
    const average = (at: number, value: number, seen: number): void => {
      functions[at] = (functions[at] as number) + (value - (functions[at] as number)) * Math.max(RECENT, 1 / seen);
    };
    average(f + F_RECENT_FETCH, fetchedMs, count);
    average(f + F_RECENT_RUN, ranMs, count);
    average(f + F_RECENT_TOTAL, fetchedMs + initialisedMs + ranMs, count);
    average(f + F_USUAL_INPUT_LOG, Math.log2(1 + (rows[offset + COLUMN.inputBytes] as number)), count);
    const stateCount = (functions[f + F_INIT_COUNT + state - 1] = (functions[f + F_INIT_COUNT + state - 1] as number) + 1);
    average(f + F_RECENT_INIT + state - 1, initialisedMs, stateCount);
    if (node === 0) return;
    const nodeCount = (nodes[n + N_COUNT] = (nodes[n + N_COUNT] as number) + 1);
    const weight = Math.max(0.005, 1 / nodeCount);
    const bandwidth = rows[offset + COLUMN.fetchBytesPerS] as number;
    if (bandwidth > 0) {
      const log = Math.log(bandwidth);
      const before = nodes[n + N_BANDWIDTH_LOG] as number;
      nodes[n + N_BANDWIDTH_LOG] = before === 0 ? log : before + (log - before) * weight;
    }
  }
}
