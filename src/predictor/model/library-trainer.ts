/**
 * The trainer `ml-random-forest`: each call trains one CART tree of the library on its bag and turns it into the flat layout, which predicts the
 * same bits. Its search tries every boundary against all rows, so a call is bounded by `LIBRARY_ROWS`. What it gets wrong is kept away from it: the bag is
 * drawn by us (its `maxSamples` takes the first rows, its bagging is therefore off), no out-of-bag predictions (they throw when every row is
 * in every bag), and nothing that is not finite goes in (it has no notion of a missing value).
 */
import { RandomForestRegression } from 'ml-random-forest';
import { MetronomeError } from '../../core/errors.ts';
import type { FlatTree } from './flat-forest.ts';
import { checkJob, type TreeJob } from './trainer.ts';

/** Rows of a bag for the library; its cost grows with the square. */
export const LIBRARY_ROWS = 300;
/** Share of the columns that a tree sees: it chooses columns per tree, not per split. */
const COLUMN_SHARE = 0.6;

/** A node of the library's tree, as its toJSON gives it. */
interface LibraryNode {
  readonly left?: LibraryNode;
  readonly right?: LibraryNode;
  readonly splitColumn?: number;
  readonly splitValue?: number;
  readonly distribution?: number;
}

/** A forest of the library as its toJSON gives it. */
export interface LibraryForest {
  readonly baseModel: {
    /** Columns that each tree sees, in its own order. */
    readonly indexes: readonly (readonly number[])[];
    readonly estimators: readonly { readonly root: LibraryNode }[];
  };
}

/** Tree `t` of a forest of the library in the flat layout; `columnOffset` is added to its columns. */
export function flattenLibraryTree(forest: LibraryForest, t: number, columnOffset: number): FlatTree {
  const { indexes, estimators } = forest.baseModel;
  const estimator = estimators[t];
  const used = indexes[t];
  if (estimator === undefined || used === undefined) throw new MetronomeError('INTERNAL', `The forest of ml-random-forest has no tree ${t}.`);
  const column: number[] = [], threshold: number[] = [], link: number[] = [], value: number[] = [];
  const put = (): number => {
    column.push(0);
    threshold.push(Infinity);
    value.push(0);
    return link.push(link.length) - 1;
  };
  const waiting: { readonly from: LibraryNode; readonly node: number; readonly depth: number }[] = [{ from: estimator.root, node: put(), depth: 0 }];
  let depth = 0;
  for (let next = 0; next < waiting.length; next++) {
    const { from, node, depth: at } = waiting[next]!;
    if (at > depth) depth = at;
    if (from.left !== undefined && from.right !== undefined) {
      column[node] = columnOffset + (used[from.splitColumn as number] as number);
      threshold[node] = from.splitValue as number;
      const left = put();
      put();
      link[node] = left;
      waiting.push({ from: from.left, node: left, depth: at + 1 }, { from: from.right, node: left + 1, depth: at + 1 });
    } else value[node] = from.distribution ?? 0;
  }
  return { size: link.length, depth, column: Uint8Array.from(column), threshold: Float64Array.from(threshold), link: Int32Array.from(link), value: Float64Array.from(value) };
}

/** Trains one tree with ml-random-forest. */
export function trainLibraryTree(job: TreeJob): FlatTree {
  checkJob(job);
  const { rows, width, targets, firstColumn, minLeaf, maxDepth, maxNodes, seed } = job;
  if (targets.length > LIBRARY_ROWS) throw new MetronomeError('INTERNAL', `A bag of ${targets.length} rows is too large for the trainer ml-random-forest: at most ${LIBRARY_ROWS}.`);
  const first = targets[0] as number;
  if (targets.every((target) => target === first)) return { size: 1, depth: 0, column: new Uint8Array(1), threshold: Float64Array.of(Infinity), link: new Int32Array(1), value: Float64Array.of(first) };
  const matrix = Array.from(targets, (_, r) => Array.from(rows.subarray(r * width + firstColumn, (r + 1) * width)));
  const forest = new RandomForestRegression({ nEstimators: 1, seed: seed | 0, maxFeatures: COLUMN_SHARE, replacement: false, useSampleBagging: false, noOOB: true, treeOptions: { maxDepth, minNumSamples: 2 * minLeaf - 1 } });
  forest.train(matrix, Array.from(targets));
  // toJSON gives the live objects; their shape is that of LibraryForest (proved by a test that compares predictions).
  const tree = flattenLibraryTree(forest.toJSON() as unknown as LibraryForest, 0, firstColumn);
  if (tree.size > maxNodes) throw new MetronomeError('INTERNAL', `The tree of ml-random-forest has ${tree.size} nodes; there is room for ${maxNodes}.`);
  return tree;
}
