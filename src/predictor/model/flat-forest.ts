/**
 * The one layout of all trees: parallel arrays, the children of a split side by side. Trainers make trees in it, the on-line forest
 * grows in it, and shared memory holds it, so a prediction is the same code and the same bits everywhere.
 *
 * Node i tests `row[column[i]] >= threshold[i]`: no → node link[i], yes → node link[i] + 1. A leaf links to itself and has the
 * threshold Infinity, so a walk of fixed length ends in it and stays; that is what allows four walks at once without a branch.
 */

/** The widest row that a tree can test: columns are bytes. */
export const MAX_COLUMNS = 256;

/** One tree by itself; links count from its own root, node 0. */
export interface FlatTree {
  /** Nodes. */
  readonly size: number;
  /** Longest path from the root, in splits. */
  readonly depth: number;
  readonly column: Uint8Array;
  readonly threshold: Float64Array;
  readonly link: Int32Array;
  /** What a leaf predicts; in a split the same for all below it. */
  readonly value: Float64Array;
}

/** Many trees. Tree t begins at node t × treeSize; links are absolute. */
export interface FlatForest {
  /** Trees in use. */
  treeCount: number;
  /** Room of each tree, nodes. */
  readonly treeSize: number;
  readonly column: Uint8Array;
  readonly threshold: Float64Array;
  readonly link: Int32Array;
  readonly value: Float64Array;
  /** Nodes of each tree. */
  readonly sizes: Int32Array;
  /** Depth of each tree. */
  readonly depths: Int32Array;
}

/** An empty forest in memory of its own. */
export function createForest(trees: number, treeSize: number): FlatForest {
  const nodes = trees * treeSize;
  return {
    treeCount: 0,
    treeSize,
    column: new Uint8Array(nodes),
    threshold: new Float64Array(nodes),
    link: new Int32Array(nodes),
    value: new Float64Array(nodes),
    sizes: new Int32Array(trees),
    depths: new Int32Array(trees),
  };
}

/** Puts a tree in place `t`. The tree must fit: `tree.size ≤ forest.treeSize`. */
export function putTree(forest: FlatForest, t: number, tree: FlatTree): void {
  if (tree.size > forest.treeSize) throw new RangeError(`A tree of ${tree.size} nodes does not fit into ${forest.treeSize}.`);
  const base = t * forest.treeSize;
  for (let i = 0; i < tree.size; i++) {
    forest.column[base + i] = tree.column[i] as number;
    forest.threshold[base + i] = tree.threshold[i] as number;
    forest.link[base + i] = base + (tree.link[i] as number);
    forest.value[base + i] = tree.value[i] as number;
  }
  forest.sizes[t] = tree.size;
  forest.depths[t] = tree.depth;
  if (t >= forest.treeCount) forest.treeCount = t + 1;
}

/** Copies all trees into a forest with the same treeSize and room for as many. O(nodes in use). */
export function copyForest(from: FlatForest, to: FlatForest): void {
  for (let t = 0; t < from.treeCount; t++) {
    const base = t * from.treeSize, end = base + (from.sizes[t] as number);
    to.column.set(from.column.subarray(base, end), base);
    to.threshold.set(from.threshold.subarray(base, end), base);
    to.link.set(from.link.subarray(base, end), base);
    to.value.set(from.value.subarray(base, end), base);
  }
  to.sizes.set(from.sizes.subarray(0, from.treeCount));
  to.depths.set(from.depths.subarray(0, from.treeCount));
  to.treeCount = from.treeCount;
}

/** The leaf of one tree for the row at `offset`: an absolute node. */
export function leafOf(forest: FlatForest, t: number, rows: Float64Array, offset: number): number {
  const { column, threshold, link } = forest;
  let node = t * forest.treeSize;
  for (let next = link[node] as number; next !== node; next = link[node] as number) {
    node = next + ((rows[offset + (column[node] as number)] as number) >= (threshold[node] as number) ? 1 : 0);
  }
  return node;
}

/**
 * Adds up, for rows 0 … count − 1 (row r at r × width), the trees' values into `sums`. Trees are the outer loop, so a tree is read into
 * the cache once for all rows; four rows walk at a time, so the loads of one hide behind those of the others. All columns must be finite. No allocation.
 */
export function sumTrees(forest: FlatForest, rows: Float64Array, width: number, count: number, sums: Float64Array): void {
  const { treeCount, treeSize, column, threshold, link, value, depths } = forest;
  for (let r = 0; r < count; r++) sums[r] = 0;
  const inFours = count & ~3;
  for (let t = 0; t < treeCount; t++) {
    const root = t * treeSize;
    const depth = depths[t] as number;
    let r = 0;
    for (; r < inFours; r += 4) {
      const a = r * width, b = a + width, c = b + width, d = c + width;
      let i = root, j = root, k = root, l = root;
      for (let step = 0; step < depth; step++) {
        i = (link[i] as number) + ((rows[a + (column[i] as number)] as number) >= (threshold[i] as number) ? 1 : 0);
        j = (link[j] as number) + ((rows[b + (column[j] as number)] as number) >= (threshold[j] as number) ? 1 : 0);
        k = (link[k] as number) + ((rows[c + (column[k] as number)] as number) >= (threshold[k] as number) ? 1 : 0);
        l = (link[l] as number) + ((rows[d + (column[l] as number)] as number) >= (threshold[l] as number) ? 1 : 0);
      }
      sums[r] = (sums[r] as number) + (value[i] as number);
      sums[r + 1] = (sums[r + 1] as number) + (value[j] as number);
      sums[r + 2] = (sums[r + 2] as number) + (value[k] as number);
      sums[r + 3] = (sums[r + 3] as number) + (value[l] as number);
    }
    for (; r < count; r++) sums[r] = (sums[r] as number) + (value[leafOf(forest, t, rows, r * width)] as number);
  }
}
