/**
 * The prediction model in one thread (paper, section 3.3): a baseline of recursive least squares per function and phase, times the
 * exponential of a forest on what the baseline leaves over; a window of observations, drift detection, and conformal quantiles.
 * Nothing here reads a clock, a file or an unseeded number: the same observations in the same order give the same model, byte for byte.
 *
 * A life: `setFunction` for every deployed function, `observe` for what was measured, `update` whenever `updateDue` says so, `publishTo`
 * for readers in other threads, `predict` for those in this one.
 */
import type { Exclusion } from './observation.ts';
import type { PredictionOut, ModelCapacity } from './model-view.ts';
import type { ModelWriter, Publication } from './published-model.ts';
import type { FlatTree } from './flat-forest.ts';
import type { TrainerName, TreeJob } from './trainer.ts';

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
  /** Observations kept, stratified by function. @default 2000, 100 to 20 000 */
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
  /** Memory of everything that grows or could, bytes. */
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
  /** Introduces a function, or tells a change of it. Its records are made; nothing else changes before it is observed. */
  setFunction(profile: FunctionProfile): void;
  /** Forgets a function: its record, its rows in the window. The index may come again with another one. */
  forgetFunction(index: number): void;
  /**
   * Learns from `count` observations of OBSERVATION_WIDTH numbers each: accuracy and quantiles first (from predictions made before looking), then baseline, drift, window
   * and leaves. An observation with a number that is not finite or a negative phase is counted as 'invalid' and skipped. Returns how many were taken in.
   */
  observe(batch: Float64Array, count: number): number;
  /** Counts an execution that must not teach. */
  exclude(functionIndex: number, why: Exclusion): void;
  /** Why an update is due; undefined when none is. */
  readonly updateDue: UpdateReason | undefined;
  /** Refreshes the leaves and replaces the oldest trees, all in this thread. At most 50 ms at 2 000 rows with 'extra-trees'. */
  update(): UpdateReport;
  /** The first half of `update`: the trees to be trained, for whoever spreads them over threads. */
  beginUpdate(): readonly TreeJob[];
  /** The second half: puts the trained trees in their places; a job that failed is left out. */
  finishUpdate(trees: readonly { readonly place: number; readonly tree: FlatTree }[]): UpdateReport;
  /** Predicts `count` situations from `rows[rowOffset]` on, SITUATION_WIDTH numbers each. Returns the version. No allocation. */
  predict(rows: Float64Array, rowOffset: number, count: number, out: PredictionOut, outOffset: number): number;
  /** Publishes what `predict` would use. */
  publishTo(writer: ModelWriter): Publication;
  /** All of it. `restoreOnlineModel` makes an equal model. */
  toSnapshot(): ModelSnapshot;
  status(): ModelStatus;
}
