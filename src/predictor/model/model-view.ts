/**
 * All that a prediction needs, as plain arrays of numbers: a record per function, a record per node, what all share, and the forest. The
 * on-line model works on such arrays of its own; readers in other threads have copies in shared memory (published-model.ts).
 */
import type { FlatForest } from './flat-forest.ts';

/** The arrays. What stands in a record is the business of baseline.ts, conformal.ts, levels.ts and recent-medians.ts. */
export interface ModelView {
  /** Records of functions. Record 0 stands for functions that have none; the function with index i has record i + 1. */
  functionCount: number;
  /** `FUNCTION_STRIDE` numbers per function. */
  readonly functions: Float64Array;
  /** Records of nodes, likewise. */
  nodeCount: number;
  /** `NODE_STRIDE` numbers per node. */
  readonly nodes: Float64Array;
  /** `GLOBAL_STRIDE` numbers. */
  readonly globals: Float64Array;
  readonly forest: FlatForest;
}

/** How much a model can hold. */
export interface ModelCapacity {
  readonly functions: number;
  readonly nodes: number;
  readonly trees: number;
  /** Nodes of one tree. */
  readonly treeSize: number;
}

/** Numbers per function. */
export const FUNCTION_STRIDE = 136;
/** Numbers per node. */
export const NODE_STRIDE = 8;
/** Numbers that all share. */
export const GLOBAL_STRIDE = 96;

/** Where predictions go; arrays of at least offset + count numbers. */
export interface PredictionOut {
  /** Expected execution time (fetch + initialise + run), ms. */
  readonly meanMs: Float64Array;
  /** Mean absolute deviation to be expected, ms. */
  readonly spreadMs: Float64Array;
  /** Upper quantiles: at most 5 % and 1 % of the executions take longer. */
  readonly p95Ms: Float64Array;
  readonly p99Ms: Float64Array;
}

/** Space for `count` predictions. */
export function createPredictionOut(count: number): PredictionOut {
  return { meanMs: new Float64Array(count), spreadMs: new Float64Array(count), p95Ms: new Float64Array(count), p99Ms: new Float64Array(count) };
}
