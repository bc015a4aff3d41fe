/**
 * The prediction model in one thread (paper, section 3.3): a baseline of recursive least squares per function and phase, times the
 * exponential of a forest on what the baseline leaves over and of a level per function on what both leave over, mixed with medians of recent executions; a window of observations, drift detection, and conformal quantiles.
 * Nothing here reads a clock, a file or an unseeded number: the same observations in the same order give the same model, byte for byte.
 *
 * A life: `setFunction` for every deployed function, `observe` for what was measured, `update` whenever `updateDue` says so, `publishTo`
 * for readers in other threads, `predict` for those in this one.
 */
import { MetronomeError } from '../../core/errors.ts';
import { createRandom, type Random } from '../../core/random.ts';
import { COLUMN, FEATURES, FIRST_FEATURE, ROW_WIDTH, SITUATION_WIDTH } from '../features.ts';
import { Baseline } from './baseline.ts';
import { F_COUNT, F_LEVEL, F_Q95, F_Q99, F_SPREAD, FETCH, INITIALISE, RUN, completeRow, copySituation, estimatePhases } from './baseline-terms.ts';
import { ConformalQuantiles } from './conformal.ts';
import { DriftDetector, type Change } from './drift.ts';
import { sumTrees, type FlatTree } from './flat-forest.ts';
import { FunctionLevels } from './levels.ts';
import { LIBRARY_ROWS } from './library-trainer.ts';
import { SNAPSHOT_FORMAT, SnapshotParts, corruptSnapshot, readTree } from './model-snapshot.ts';
import { FUNCTION_STRIDE, type ModelCapacity, type PredictionOut } from './model-view.ts';
import { ObservationWindow } from './observation-window.ts';
import { FETCHED_MS, INITIALISED_MS, MOST_PHASE_MS, OBSERVATION_WIDTH, RAN_MS, EXCLUSIONS, type Exclusion } from './observation.ts';
import { OnlineForest } from './online-forest.ts';
import { createPredictionScratch, predictRows } from './predict-rows.ts';
import type { ModelWriter, Publication } from './published-model.ts';
import { RecentAccuracy } from './recent-accuracy.ts';
import { RecentMedians, factorOf, mixMedians } from './recent-medians.ts';
import { trainTree } from './train-tree.ts';
import { TRAINERS, type TrainerName, type TreeJob } from './trainer.ts';

/** The knobs of the model. */
export interface OnlineModelOptions {
  readonly seed: number;
  /** Who grows trees. @default 'extra-trees' */
  readonly trainer?: TrainerName;
  /** Trees of the forest. @default 100, 1 to 500 */
  readonly trees?: number;
  /** Longest path in a tree, splits. @default 14, 1 to 32 */
  readonly maxDepth?: number;
  /** Rows that a leaf holds at least. @default 3 */
  readonly minLeaf?: number;
  /** Observations kept, stratified by function. @default 4000, 100 to 20 000 */
  readonly window?: number;
  /** Observations before the first forest. @default 200 */
  readonly bootstrapAfter?: number;
  /** New observations that make an update due. @default 20 */
  readonly updateEvery?: number;
  /** Trees that an update replaces, the oldest first. @default 5 */
  readonly replace?: number;
  /** Weight that an observation keeps per later one of its function, in the baseline. @default 0.995, 0.9 to 1 */
  readonly forgetting?: number;
}

/** What the model must know of a function before it saw it run; it decides from whom a new function is born. */
export interface FunctionProfile {
  /** The index that stands in `functionIndex`. */
  readonly index: number;
  readonly name: string;
  /** The application it belongs to, for example its label `app`; '' if none. */
  readonly application: string;
  readonly runtime: string;
  /** Packages with all that they depend on, and their bytes. */
  readonly dependencies: number;
  readonly packageBytes: number;
  readonly memoryMb: number;
}

/** Why an update is due. */
export type UpdateReason = 'bootstrap' | 'observations' | 'drift';

/** How good the model is for one function. Errors and coverage are of predictions made before the measurement was seen. */
export interface FunctionStatus {
  readonly index: number;
  readonly name: string;
  readonly observations: number;
  /** Over the last 256: quantiles of |predicted − measured| / measured. */
  readonly medianError: number;
  readonly p95Error: number;
  /** Over the last 256: share of executions that did not take longer than the P95 and the P99 that was predicted. */
  readonly coverageP95: number;
  readonly coverageP99: number;
  /** Changes of this function that were noticed. */
  readonly driftEvents: number;
}

/** What the model is and how good it was lately. */
export interface ModelStatus {
  /** Grows with every update. */
  readonly version: number;
  readonly trainer: TrainerName;
  readonly trees: number;
  readonly treeNodes: number;
  readonly observations: number;
  readonly excluded: Readonly<Record<Exclusion, number>>;
  /** Observations in the window, and its room. */
  readonly windowSize: number;
  readonly windowRoom: number;
  /** Memory of what is large, bytes: records and covariances of functions, trees, rows and phases of the window, residuals. Not of names, lists of slots, nodes' covariances and episodes. */
  readonly bytes: number;
  readonly updates: number;
  readonly driftEvents: number;
  /** Nodes whose speed changed suddenly. */
  readonly nodeDriftEvents: number;
  readonly functions: readonly FunctionStatus[];
}

/** What an update did. */
export interface UpdateReport {
  readonly reason: UpdateReason;
  readonly version: number;
  readonly replaced: number;
  readonly windowSize: number;
}

/** A model as plain values and typed arrays, for msgpackr and for structured clones. Its shape belongs to `format`. */
export interface ModelSnapshot {
  readonly format: number;
  readonly [part: string]: unknown;
}

/** The model in one thread. */
export interface OnlineModel {
  readonly options: Required<OnlineModelOptions>;
  /** What its published form needs now. */
  readonly capacity: ModelCapacity;
  /**
   * Introduces a function, or tells a change of it. Its records are made; nothing else changes before it is observed. Another name at an index is another
   * function: the former one is forgotten.
   */
  setFunction(profile: FunctionProfile): void;
  /** Forgets a function: its record, its rows in the window. The index may come again with another one. */
  forgetFunction(index: number): void;
  /**
   * Learns from `count` observations of OBSERVATION_WIDTH numbers each: accuracy, quantiles, levels and medians first (from predictions made before looking), then baseline, drift, window
   * and leaves. An observation with a number that is not finite, or a phase below 0 or above MOST_PHASE_MS, is counted as 'invalid' and skipped; features are cut off at their bounds. Returns how many were taken in;
   * `taken[i]` becomes 1 for those, 0 for the others.
   */
  observe(batch: Float64Array, count: number, taken?: Uint8Array): number;
  /** Counts an execution that must not teach. */
  exclude(functionIndex: number, why: Exclusion): void;
  /** Why an update is due; undefined when none is. */
  readonly updateDue: UpdateReason | undefined;
  /** Refreshes the leaves and replaces the oldest trees, all in this thread. At most 50 ms at 2 000 rows with 'extra-trees'. */
  update(): UpdateReport;
  /** The first half of `update`: the trees to be trained, for whoever spreads them over threads. */
  beginUpdate(): readonly TreeJob[];
  /** The second half, in whatever order they were trained: puts the trees in their places. A job that failed is left out: its old tree stays, and in a first forest the later ones move up. */
  finishUpdate(trees: readonly { readonly place: number; readonly tree: FlatTree }[]): UpdateReport;
  /** Predicts `count` situations from `rows[rowOffset]` on, SITUATION_WIDTH numbers each. Returns the version. No allocation. */
  predict(rows: Float64Array, rowOffset: number, count: number, out: PredictionOut, outOffset: number): number;
  /** Publishes what `predict` would use. */
  publishTo(writer: ModelWriter): Publication;
  /** All of it. `restoreOnlineModel` makes an equal model. */
  toSnapshot(): ModelSnapshot;
  status(): ModelStatus;
}

/** The knobs with their defaults. */
export const MODEL_DEFAULTS: Omit<Required<OnlineModelOptions>, 'seed'> = Object.freeze({
  trainer: 'extra-trees', trees: 100, maxDepth: 14, minLeaf: 3, window: 4_000, bootstrapAfter: 200, updateEvery: 20, replace: 5, forgetting: 0.995,
});

/** Indexes that a model takes in at most. */
const MOST_FUNCTIONS = 100_000, MOST_NODES = 110_000;
/** Residuals beyond this factor (logarithm) teach the trees as much as this one. */
const MOST_TARGET = 1.5;
/** Shortest execution that counts as such, ms: what is shorter counts as this long. */
const LEAST_MEASURED_MS = 1e-3;
/** Farthest from zero that a number of a record may be in a snapshot, and an element of a covariance: far beyond what learning makes. */
const MOST_WEIGHT = 1e16, MOST_COVARIANCE = 1e6;
/** Streams of random numbers: bags, trees, growth. */
const BAGS = 1, TREES = 2, GROWTH = 3;

/** Least and greatest value of each knob. */
const BOUNDS: Readonly<Record<Exclude<keyof OnlineModelOptions, 'seed' | 'trainer'>, readonly [number, number]>> = {
  trees: [1, 500], maxDepth: [1, 32], minLeaf: [1, 1_000], window: [100, 20_000], bootstrapAfter: [1, 100_000], updateEvery: [1, 100_000], replace: [1, 500], forgetting: [0.9, 1],
};

/** A model that has seen nothing. Throws CONFIG_INVALID for a knob out of its bounds. */
export function createOnlineModel(options: OnlineModelOptions): OnlineModel {
  return createModel({ ...MODEL_DEFAULTS, ...options });
}

function createModel(full: Required<OnlineModelOptions>): Model {
  for (const name of Object.keys(BOUNDS) as (keyof typeof BOUNDS)[]) {
    const [low, high] = BOUNDS[name];
    const value = full[name];
    if (!(value >= low && value <= high) || (name !== 'forgetting' && !Number.isInteger(value))) throw new MetronomeError('CONFIG_INVALID', `${name} of the model is ${value}; it must be ${name === 'forgetting' ? 'a number' : 'a whole number'} from ${low} to ${high}.`);
  }
  return new Model(full);
}

/**
 * The model of a snapshot: it predicts the same bits, and goes on learning. Options given here replace those of the snapshot where that is possible without
 * a new forest (all but `trees`, `window`, `maxDepth`, `minLeaf`). Throws STATE_CORRUPT for anything that toSnapshot did not make, and for another format.
 */
export function restoreOnlineModel(snapshot: unknown, options: Partial<Pick<OnlineModelOptions, 'trainer' | 'updateEvery' | 'replace' | 'forgetting' | 'bootstrapAfter'>> = {}): OnlineModel {
  const parts = new SnapshotParts(snapshot);
  const format = parts.part('format');
  if (format !== SNAPSHOT_FORMAT) throw corruptSnapshot(`its format is ${String(format)}, this build reads ${SNAPSHOT_FORMAT}`);
  if (parts.part('features') !== FEATURES.map(({ name }) => name).join(' ')) throw corruptSnapshot('it was made with other features');
  const stored = parts.object('options');
  const trainer = TRAINERS.find((name) => name === stored.part('trainer'));
  if (trainer === undefined) throw corruptSnapshot(`its trainer is ${String(stored.part('trainer'))}`);
  const model = createModel({
    seed: stored.integer('seed', -(2 ** 53)), trainer, trees: stored.number('trees'), maxDepth: stored.number('maxDepth'), minLeaf: stored.number('minLeaf'), window: stored.number('window'),
    bootstrapAfter: stored.number('bootstrapAfter'), updateEvery: stored.number('updateEvery'), replace: stored.number('replace'), forgetting: stored.number('forgetting'), ...options,
  });
  model.restore(parts);
  return model;
}

class Model implements OnlineModel {
  readonly options: Required<OnlineModelOptions>;
  readonly #baseline: Baseline;
  readonly #forest: OnlineForest;
  readonly #window: ObservationWindow;
  readonly #levels = new FunctionLevels();
  readonly #medians = new RecentMedians();
  readonly #conformal = new ConformalQuantiles();
  readonly #drift = new DriftDetector();
  readonly #profiles: (FunctionProfile | undefined)[] = [undefined];
  readonly #accuracy: (RecentAccuracy | undefined)[] = [];
  /** Measured phases of the window's rows. */
  readonly #phases: Float64Array;
  readonly #excluded: Record<Exclusion, number> = { failed: 0, cancelled: 0, timedOut: 0, invalid: 0 };
  readonly #scratch = createPredictionScratch();
  readonly #row = new Float64Array(ROW_WIDTH);
  readonly #sum = new Float64Array(1);
  #growth: Random;
  #version = 0;
  #updates = 0;
  #observations = 0;
  #sinceUpdate = 0;
  #drifted = false;
  #nextPlace = 0;
  #pending: UpdateReason | undefined = undefined;
  #removed = (slot: number): void => this.#forest.remove(slot);

  constructor(options: Required<OnlineModelOptions>) {
    this.options = options;
    const { trees, maxDepth, minLeaf, window, seed } = options;
    this.#growth = createRandom(seed, GROWTH);
    const treeSize = Math.ceil((window + 256) / 64) * 64;
    this.#forest = new OnlineForest({ trees, treeSize, maxDepth, minLeaf, room: window, width: ROW_WIDTH, firstColumn: FIRST_FEATURE, random: { uniform: () => this.#growth.uniform(), below: (below) => this.#growth.below(below) } });
    this.#baseline = new Baseline(this.#forest.flat, options.forgetting);
    this.#window = new ObservationWindow(window);
    this.#phases = new Float64Array(window * 3);
    this.#writeLevels(0);
  }

  get capacity(): ModelCapacity {
    const { functionCount, nodeCount } = this.#baseline.view;
    return { functions: functionCount, nodes: nodeCount, trees: this.options.trees, treeSize: this.#forest.flat.treeSize };
  }

  setFunction(profile: FunctionProfile): void {
    if (!Number.isInteger(profile.index) || profile.index < 0 || profile.index >= MOST_FUNCTIONS) throw new MetronomeError('INTERNAL', `Function index ${profile.index} of "${profile.name}": the model takes 0 to ${MOST_FUNCTIONS - 1}.`);
    const record = profile.index + 1;
    this.#baseline.growFunctions(record);
    while (this.#profiles.length <= record) this.#profiles.push(undefined);
    const known = this.#profiles[record];
    // Who was observed before anybody told of it is the one that is told of now.
    if (known !== undefined && known.name !== profile.name && known.name !== namelessAt(profile.index)) this.forgetFunction(profile.index);
    const isNew = this.#profiles[record] === undefined;
    this.#profiles[record] = profile;
    if (isNew) this.#bear(record);
  }

  forgetFunction(index: number): void {
    const record = index + 1;
    if (this.#profiles[record] === undefined) return;
    this.#profiles[record] = undefined;
    this.#accuracy[record] = undefined;
    this.#levels.forget(record);
    this.#medians.forget(record);
    this.#conformal.forget(record);
    this.#drift.forget(record);
    this.#window.forget(record, this.#removed);
    this.#bear(record);
  }

  observe(batch: Float64Array, count: number, taken?: Uint8Array): number {
    let howMany = 0;
    for (let i = 0; i < count; i++) {
      const isTaken = this.#observeOne(batch, i * OBSERVATION_WIDTH);
      if (isTaken) howMany++;
      if (taken !== undefined) taken[i] = isTaken ? 1 : 0;
    }
    this.#excluded.invalid += count - howMany;
    return howMany;
  }

  exclude(_functionIndex: number, why: Exclusion): void {
    this.#excluded[why]++;
  }

  get updateDue(): UpdateReason | undefined {
    if (this.#forest.flat.treeCount === 0) return this.#window.size >= this.options.bootstrapAfter ? 'bootstrap' : undefined;
    if (this.#drifted) return 'drift';
    return this.#sinceUpdate >= this.options.updateEvery ? 'observations' : undefined;
  }

  update(): UpdateReport {
    return this.finishUpdate(this.beginUpdate().map((job) => ({ place: job.place, tree: trainTree(job) })));
  }

  beginUpdate(): readonly TreeJob[] {
    const { trees, replace, seed } = this.options;
    this.#pending = this.updateDue ?? 'observations';
    this.#sinceUpdate = 0;
    this.#drifted = false;
    const slots = this.#window.slots();
    if (slots.length < 2 * this.options.minLeaf) return [];
    this.#retarget(slots);
    const places: number[] = [];
    if (this.#forest.flat.treeCount < trees) for (let place = this.#forest.flat.treeCount; place < trees; place++) places.push(place);
    else for (let i = 0; i < Math.min(replace, trees); i++) places.push((this.#nextPlace + i) % trees);
    const seeds = createRandom(seed, TREES + 8 * this.#updates);
    const bags = createRandom(seed, BAGS + 8 * this.#updates);
    const shared = this.options.trainer === 'extra-trees' ? this.#bag(slots) : undefined;
    return places.map((place) => {
      const { rows, targets } = shared ?? this.#bag(drawWithReplacement(slots, Math.min(LIBRARY_ROWS, slots.length), bags));
      return { trainer: this.options.trainer, seed: seeds.below(2 ** 31), place, rows, width: ROW_WIDTH, targets, firstColumn: FIRST_FEATURE, maxDepth: this.options.maxDepth, minLeaf: this.options.minLeaf, maxNodes: this.#forest.flat.treeSize };
    });
  }

  finishUpdate(trained: readonly { readonly place: number; readonly tree: FlatTree }[]): UpdateReport {
    // Places in order, so that a forest never has a hole.
    for (const { place: wanted, tree } of [...trained].sort((a, b) => a.place - b.place)) {
      const place = Math.min(wanted, this.#forest.flat.treeCount);
      this.#forest.put(place, tree);
      this.#nextPlace = (place + 1) % this.options.trees;
    }
    this.#updates++;
    this.#version++;
    const reason = this.#pending ?? 'observations';
    this.#pending = undefined;
    return { reason, version: this.#version, replaced: trained.length, windowSize: this.#window.size };
  }

  predict(rows: Float64Array, rowOffset: number, count: number, out: PredictionOut, outOffset: number): number {
    predictRows(this.#baseline.view, rows, rowOffset, count, out, outOffset, this.#scratch);
    return this.#version;
  }

  publishTo(writer: ModelWriter): Publication {
    return writer.publish(this.#baseline.view, Math.max(1, this.#version));
  }

  toSnapshot(): ModelSnapshot {
    // Oldest first, so that they go into a window in the order in which they came.
    const slots = this.#window.slots().sort((a, b) => (this.#window.serial[a] as number) - (this.#window.serial[b] as number));
    const rows = new Float64Array(slots.length * ROW_WIDTH), phases = new Float64Array(slots.length * 3);
    slots.forEach((slot, at) => {
      rows.set(this.#forest.rows.subarray(slot * ROW_WIDTH, (slot + 1) * ROW_WIDTH), at * ROW_WIDTH);
      phases.set(this.#phases.subarray(slot * 3, slot * 3 + 3), at * 3);
    });
    return {
      format: SNAPSHOT_FORMAT, features: FEATURES.map(({ name }) => name).join(' '), options: { ...this.options },
      counters: { version: this.#version, updates: this.#updates, observations: this.#observations, sinceUpdate: this.#sinceUpdate, nextPlace: this.#nextPlace, nodeEvents: this.#drift.nodeEvents }, excluded: { ...this.#excluded },
      profiles: this.#profiles.map((profile) => profile ?? null), accuracy: this.#profiles.map((_, record) => this.#accuracy[record]?.toSnapshot() ?? null), driftEvents: this.#profiles.map((_, record) => this.#drift.functionEvents[record] ?? 0),
      baseline: this.#baseline.toSnapshot(), levels: this.#levels.toSnapshot(), medians: this.#medians.toSnapshot(), conformal: this.#conformal.toSnapshot(), window: { count: slots.length, rows, phases, seen: Array.from(this.#window.seen) },
      trees: Array.from({ length: this.#forest.flat.treeCount }, (_, t) => this.#forest.tree(t)),
    };
  }

  /** Takes over a snapshot that was made with the same options; only in a new model. */
  restore(snapshot: SnapshotParts): void {
    const counters = snapshot.object('counters');
    this.#version = counters.integer('version');
    this.#updates = counters.integer('updates');
    this.#observations = counters.integer('observations');
    this.#sinceUpdate = counters.integer('sinceUpdate');
    this.#nextPlace = counters.integer('nextPlace', 0, this.options.trees - 1);
    this.#drift.nodeEvents = counters.integer('nodeEvents');
    const excluded = snapshot.object('excluded');
    for (const why of EXCLUSIONS) this.#excluded[why] = excluded.integer(why);
    const profiles = snapshot.list('profiles');
    if (profiles.length > MOST_FUNCTIONS + 1) throw corruptSnapshot(`it knows ${profiles.length} functions`);
    const accuracy = snapshot.list('accuracy'), driftEvents = snapshot.list('driftEvents');
    profiles.forEach((value, record) => {
      if (value === null) return void (this.#profiles[record] = undefined);
      const parts = new SnapshotParts(value, `profiles[${record}]`);
      this.#profiles[record] = { index: parts.integer('index', record - 1, record - 1), name: parts.text('name'), application: parts.text('application'), runtime: parts.text('runtime'), dependencies: parts.number('dependencies'), packageBytes: parts.number('packageBytes'), memoryMb: parts.number('memoryMb') };
      const errors = accuracy[record];
      if (errors instanceof Float64Array && errors.length % 3 === 0 && errors.every(Number.isFinite)) {
        const recent = new RecentAccuracy();
        recent.restore(errors);
        this.#accuracy[record] = recent;
      }
      const events = driftEvents[record];
      this.#drift.functionEvents[record] = typeof events === 'number' ? events : 0;
    });
    const baseline = snapshot.object('baseline');
    const functionCount = baseline.integer('functionCount', Math.max(1, profiles.length), MOST_FUNCTIONS + 1), nodeCount = baseline.integer('nodeCount', 1, MOST_NODES + 1);
    try {
      this.#baseline.restore({
        functionCount, functions: baseline.floats('functions', undefined, MOST_WEIGHT), nodeCount, nodes: baseline.floats('nodes', undefined, MOST_WEIGHT), globals: baseline.floats('globals', undefined, MOST_WEIGHT),
        covariances: baseline.list('covariances').map((values, at) => new SnapshotParts({ values }, `baseline.covariances[${at}]`).floats('values', undefined, MOST_COVARIANCE)), noise: baseline.floats('noise', undefined, MOST_COVARIANCE), localFetches: baseline.integer('localFetches'),
      });
    } catch (error) {
      throw error instanceof RangeError ? corruptSnapshot(`"baseline" does not fit: ${error.message}`) : error;
    }
    for (const [name, part] of [['levels', this.#levels], ['medians', this.#medians]] as const) {
      try {
        part.restore(snapshot.list(name).slice(0, functionCount).map((values, record) => (values === null ? null : new SnapshotParts({ values }, `${name}[${record}]`).floats('values'))));
      } catch (error) {
        throw error instanceof RangeError ? corruptSnapshot(`"${name}" does not fit: ${error.message}`) : error;
      }
    }
    const conformal = snapshot.object('conformal');
    this.#conformal.restore({
      functions: conformal.list('functions').slice(0, functionCount).map((value, record) => {
        if (value === null) return null;
        const parts = new SnapshotParts(value, `conformal.functions[${record}]`);
        return { scaled: parts.floats('scaled'), scale: parts.number('scale'), count: parts.integer('count'), level95: parts.number('level95', 0, 1), level99: parts.number('level99', 0, 1), q95: parts.number('q95'), q99: parts.number('q99') };
      }),
      shared: conformal.floats('shared'), shared95: conformal.number('shared95', -1e6), shared99: conformal.number('shared99', -1e6), sinceShared: conformal.integer('sinceShared'),
    });
    this.#restoreWindow(snapshot.object('window'), functionCount, nodeCount);
    const trees = snapshot.list('trees');
    if (trees.length > this.options.trees) throw corruptSnapshot(`it holds ${trees.length} trees, its own options allow ${this.options.trees}`);
    trees.forEach((tree, t) => this.#forest.restore(t, readTree(tree, `trees[${t}]`, this.#forest.flat.treeSize)));
    for (let record = 0; record < functionCount; record++) this.#writeLevels(record);
  }

  #restoreWindow(parts: SnapshotParts, functionCount: number, nodeCount: number): void {
    const count = parts.integer('count', 0, this.#window.room);
    const rows = parts.floats('rows', count * ROW_WIDTH, MOST_WEIGHT), phases = parts.floats('phases', count * 3, MOST_PHASE_MS);
    if (!phases.every(isPhase)) throw corruptSnapshot('a phase in its window is negative');
    for (let at = 0; at < count; at++) {
      const row = rows.slice(at * ROW_WIDTH, (at + 1) * ROW_WIDTH);
      const record = row[COLUMN.functionIndex] as number, node = row[COLUMN.nodeIndex] as number, state = row[COLUMN.startState] as number;
      if (!Number.isInteger(record) || record < 0 || record >= functionCount || !Number.isInteger(node) || node < 0 || node >= nodeCount || ![1, 2, 3, 4].includes(state)) throw corruptSnapshot(`row ${at} of its window is of function ${record} on node ${node} from state ${state}`);
      const slot = this.#window.add(record, this.#removed);
      for (let column = FIRST_FEATURE; column < SITUATION_WIDTH; column++) row[column] = Math.min(FEATURES[column]?.most ?? 0, Math.max(FEATURES[column]?.least ?? 0, row[column] as number));
      this.#forest.rows.set(row, slot * ROW_WIDTH);
      this.#phases.set(phases.subarray(at * 3, at * 3 + 3), slot * 3);
      this.#forest.targets[slot] = this.#target(slot);
      this.#forest.hold(slot);
    }
    this.#window.restoreSeen(parts.list('seen').map((times) => (typeof times === 'number' && times > 0 ? times : 0)));
  }

  status(): ModelStatus {
    const functions: FunctionStatus[] = [];
    this.#profiles.forEach((profile, record) => {
      if (profile === undefined) return;
      const accuracy = this.#accuracy[record]?.summary() ?? { medianError: 0, p95Error: 0, coverageP95: 0, coverageP99: 0 };
      functions.push({ index: profile.index, name: profile.name, observations: this.#baseline.view.functions[record * FUNCTION_STRIDE + F_COUNT] as number, ...accuracy, driftEvents: this.#drift.functionEvents[record] ?? 0 });
    });
    return {
      version: this.#version, trainer: this.options.trainer, trees: this.#forest.flat.treeCount, treeNodes: this.#forest.nodes, observations: this.#observations, excluded: { ...this.#excluded },
      windowSize: this.#window.size, windowRoom: this.#window.room, bytes: this.#baseline.bytes + this.#forest.bytes + this.#levels.bytes + this.#medians.bytes + this.#conformal.bytes + this.#phases.byteLength + this.#accuracy.reduce((sum, recent) => sum + (recent?.bytes ?? 0), 0), updates: this.#updates,
      driftEvents: this.#drift.functionEvents.reduce((sum, events) => sum + (events ?? 0), 0), nodeDriftEvents: this.#drift.nodeEvents, functions,
    };
  }

  #observeOne(batch: Float64Array, offset: number): boolean {
    const functionIndex = batch[offset + COLUMN.functionIndex] as number, nodeIndex = batch[offset + COLUMN.nodeIndex] as number;
    const fetchedMs = batch[offset + FETCHED_MS] as number, initialisedMs = batch[offset + INITIALISED_MS] as number, ranMs = batch[offset + RAN_MS] as number;
    if (!isPhase(fetchedMs) || !isPhase(initialisedMs) || !isPhase(ranMs) || fetchedMs + initialisedMs + ranMs === 0) return false;
    const measured = Math.max(LEAST_MEASURED_MS, fetchedMs + initialisedMs + ranMs);
    if (!Number.isInteger(functionIndex) || functionIndex < 0 || functionIndex >= MOST_FUNCTIONS || !Number.isInteger(nodeIndex) || nodeIndex < 0 || nodeIndex >= MOST_NODES) return false;
    const record = functionIndex + 1, node = nodeIndex + 1;
    const baseline = this.#baseline, row = this.#row;
    const { view, scratch } = baseline;
    if (!copySituation(view, batch, offset, row, 0)) return false;
    if (this.#profiles[record] === undefined) this.setFunction({ index: functionIndex, name: namelessAt(functionIndex), application: '', runtime: '', dependencies: row[COLUMN.dependencies] as number, packageBytes: row[COLUMN.packageBytes] as number, memoryMb: row[COLUMN.memoryMb] as number });
    baseline.growNodes(node);
    row[COLUMN.functionIndex] = record;
    row[COLUMN.nodeIndex] = node;
    const seen = view.functions[record * FUNCTION_STRIDE + F_COUNT] as number;
    if (seen === 0) this.#bear(record);

    // First how good the model was.
    estimatePhases(view, row, 0, scratch);
    const totalLog = completeRow(view, row, 0, scratch.estimate);
    sumTrees(view.forest, row, ROW_WIDTH, 1, this.#sum);
    const correction = view.forest.treeCount > 0 ? (this.#sum[0] as number) / view.forest.treeCount : 0;
    const measuredLog = Math.log(measured);
    const unlevelled = measuredLog - totalLog - correction;
    const ofModel = unlevelled - this.#levels.level(record);
    const startState = row[COLUMN.startState] as number, bytes = (row[COLUMN.inputBytes] as number) + (row[COLUMN.payloadBytes] as number);
    const factor = factorOf(row, 0, totalLog);
    const residual = measuredLog - mixMedians(view.functions, record * FUNCTION_STRIDE, startState, bytes, measuredLog - ofModel, factor);
    // What is not finite would stay in the weights that all share, in the window and in the scales for ever.
    if (!Number.isFinite(residual) || !isFiniteRow(row)) return false;
    const scale = this.#conformal.spread(record);
    if (seen > 0) {
      (this.#accuracy[record] ??= new RecentAccuracy()).add(Math.abs(Math.exp(-residual) - 1), residual <= this.#conformal.q95(record), residual <= this.#conformal.q99(record));
      this.#conformal.add(record, residual);
      if (view.forest.treeCount > 0) {
        this.#levels.add(record, unlevelled);
        this.#medians.add(record, startState, bytes, { factor: measuredLog - factor, model: ofModel, served: residual }, scale);
      }
    }

    // Then what it learns.
    baseline.learn(row, 0, fetchedMs, initialisedMs, ranMs);
    const slot = this.#window.add(record, this.#removed);
    this.#forest.rows.set(row, slot * ROW_WIDTH);
    this.#phases[slot * 3] = fetchedMs;
    this.#phases[slot * 3 + 1] = initialisedMs;
    this.#phases[slot * 3 + 2] = ranMs;
    this.#forest.targets[slot] = this.#target(slot);
    this.#growth = createRandom(this.options.seed, GROWTH + 8 * this.#observations);
    this.#forest.add(slot);
    this.#observations++;
    this.#sinceUpdate++;
    // Changes are told by what the model itself got wrong: medians come after them sooner. An execution of less than a millisecond tells of clocks and wake-ups.
    const tellsOfChange = measured >= 1 || measured * Math.exp(-ofModel) >= 1;
    const change = seen > 0 ? this.#drift.add(record, node, slot, this.#window.serial[slot] as number, tellsOfChange ? ofModel : 0, scale, seen, view.nodeCount - 1) : undefined;
    if (change !== undefined) this.#follow(change);
    this.#writeLevels(record);
    return true;
  }

  /** A function or a node changed: moves its level, drops what is out of date, doubts the rest. */
  #follow({ kind, record, slots: told, serials }: Change): void {
    const { view, scratch } = this.#baseline;
    // A full window may have given a row to somebody else meanwhile. The newest is always there.
    const slots = told.filter((slot, at) => this.#window.holds(slot, serials[at] as number));
    const seen: [number[], number[], number[]] = [[], [], []];
    for (const slot of slots) {
      estimatePhases(view, this.#forest.rows, slot * ROW_WIDTH, scratch);
      for (const phase of [FETCH, INITIALISE, RUN] as const) {
        const measured = this.#phases[slot * 3 + phase] as number, estimate = scratch.estimate[phase] as number;
        // A phase of less than a millisecond tells of clocks, not of a change.
        if (measured >= 1 && estimate >= 1) seen[phase].push(Math.log(measured / estimate));
      }
    }
    // The median: the first of them may have been an ordinary bad prediction.
    const shifts = seen.map((logs) => (logs.length < 2 ? 0 : (logs.sort((a, b) => a - b)[logs.length >> 1] as number)));
    if (kind === 'node') for (const phase of [FETCH, INITIALISE] as const) if (seen[phase].length === 0) shifts[phase] = shifts[RUN] as number;
    const first = serials[0] as number;
    if (kind === 'function') {
      this.#baseline.shiftFunction(record, shifts);
      this.#levels.forget(record);
      this.#medians.forget(record);
      this.#window.dropOld(record, slots.length, this.#removed);
      this.#conformal.unsettle(record, 0.25 * Math.max(...shifts.map(Math.abs)));
    } else {
      this.#baseline.shiftNode(record, shifts);
      this.#window.dropSlots((slot) => this.#forest.rows[slot * ROW_WIDTH + COLUMN.nodeIndex] === record && (this.#window.serial[slot] as number) < first, this.#removed);
    }
    this.#retarget(this.#window.slots());
    this.#drifted = true;
  }

  /** log(measured / baseline) of a row of the window, by the baseline of now. */
  #target(slot: number): number {
    const { view, scratch } = this.#baseline;
    estimatePhases(view, this.#forest.rows, slot * ROW_WIDTH, scratch);
    const estimate = (scratch.estimate[0] as number) + (scratch.estimate[1] as number) + (scratch.estimate[2] as number);
    const measured = (this.#phases[slot * 3] as number) + (this.#phases[slot * 3 + 1] as number) + (this.#phases[slot * 3 + 2] as number);
    return Math.min(MOST_TARGET, Math.max(-MOST_TARGET, Math.log(measured / estimate)));
  }

  #retarget(slots: readonly number[]): void {
    for (const slot of slots) this.#forest.targets[slot] = this.#target(slot);
    this.#forest.refresh();
  }

  #bag(slots: readonly number[]): { readonly rows: Float64Array; readonly targets: Float64Array } {
    const rows = new Float64Array(slots.length * ROW_WIDTH), targets = new Float64Array(slots.length);
    slots.forEach((slot, at) => {
      rows.set(this.#forest.rows.subarray(slot * ROW_WIDTH, (slot + 1) * ROW_WIDTH), at * ROW_WIDTH);
      targets[at] = this.#forest.targets[slot] as number;
    });
    return { rows, targets };
  }

  #bear(record: number): void {
    this.#baseline.bear(record, this.#profiles[record], this.#profiles);
    this.#writeLevels(record);
  }

  #writeLevels(record: number): void {
    const { functions } = this.#baseline.view;
    const f = record * FUNCTION_STRIDE;
    functions[f + F_LEVEL] = this.#levels.level(record);
    functions[f + F_Q95] = this.#conformal.q95(record);
    functions[f + F_Q99] = this.#conformal.q99(record);
    functions[f + F_SPREAD] = this.#conformal.spread(record);
    this.#medians.write(record, functions);
  }
}

function drawWithReplacement(from: readonly number[], count: number, random: Random): number[] {
  return Array.from({ length: count }, () => from[random.below(from.length)] as number);
}

/** Name of a function that was observed before it was introduced. */
const namelessAt = (index: number): string => `function ${index}`;

const isPhase = (ms: number): boolean => ms >= 0 && ms <= MOST_PHASE_MS;

function isFiniteRow(row: Float64Array): boolean {
  for (let column = SITUATION_WIDTH; column < ROW_WIDTH; column++) if (!Number.isFinite(row[column])) return false;
  return true;
}
