/**
 * The forest while it learns: every row of the window stands in one leaf of every tree, leaves are means of what stands in them, and a leaf
 * that holds enough splits. New trees take the places of the oldest. The trees are in the flat layout all the time, so what learns
 * is what predicts.
 */
import type { Random } from '../../core/random.ts';
import { partition, randomSplit, type Split, type SplitData } from './extra-trees.ts';
import { createForest, leafOf, putTree, type FlatForest, type FlatTree } from './flat-forest.ts';

export interface OnlineForestOptions {
  readonly trees: number;
  readonly treeSize: number;
  readonly maxDepth: number;
  readonly minLeaf: number;
  /** Slots of the window. */
  readonly room: number;
  readonly width: number;
  readonly firstColumn: number;
  readonly random: Random;
}

export class OnlineForest {
  readonly flat: FlatForest;
  /** Window rows, `width` numbers per slot. */
  readonly rows: Float64Array;
  /** What the rows say: the logarithm of measured over baseline, by slot. */
  readonly targets: Float64Array;
  readonly #options: OnlineForestOptions;
  /** Absolute leaf of slot s in tree t at t × room + s; -1: not in. */
  readonly #leaf: Int32Array;
  /** Rows and sum of targets per leaf, by node. */
  readonly #count: Int32Array;
  readonly #sum: Float64Array;
  readonly #depth: Uint8Array;
  /** Rows at which a leaf is looked at again. */
  readonly #tryAt: Int32Array;
  readonly #isIn: Uint8Array;
  /** Scratch of splits. */
  #columns: Float64Array;
  #order: Int32Array;
  #local: Float64Array;
  #members: Int32Array;
  readonly #tried: Int32Array;
  readonly #split: Split = { column: -1, threshold: 0, gain: 0 };

  constructor(options: OnlineForestOptions) {
    const { trees, treeSize, room, width } = options;
    this.#options = options;
    this.flat = createForest(trees, treeSize);
    this.rows = new Float64Array(room * width);
    this.targets = new Float64Array(room);
    this.#leaf = new Int32Array(trees * room).fill(-1);
    this.#count = new Int32Array(trees * treeSize);
    this.#sum = new Float64Array(trees * treeSize);
    this.#depth = new Uint8Array(trees * treeSize);
    this.#tryAt = new Int32Array(trees * treeSize);
    this.#isIn = new Uint8Array(room);
    this.#columns = new Float64Array(64 * width);
    this.#order = new Int32Array(64);
    this.#local = new Float64Array(64);
    this.#members = new Int32Array(64);
    this.#tried = new Int32Array(width);
  }

  /** Bytes of all that it holds. */
  get bytes(): number {
    const { column, threshold, link, value } = this.flat;
    return column.byteLength + threshold.byteLength + link.byteLength + value.byteLength + this.rows.byteLength + this.targets.byteLength + this.#leaf.byteLength + this.#count.byteLength + this.#sum.byteLength + this.#depth.byteLength + this.#tryAt.byteLength;
  }

  /** Nodes of all trees. */
  get nodes(): number {
    let nodes = 0;
    for (let t = 0; t < this.flat.treeCount; t++) nodes += this.flat.sizes[t] as number;
    return nodes;
  }

  /** Marks a row as in without moving any leaf: before trees are restored. */
  hold(slot: number): void {
    this.#isIn[slot] = 1;
  }

  /** Takes in the row that the caller wrote to `rows` and `targets`: its leaves move, and split where they hold enough. */
  add(slot: number): void {
    const { width, room } = this.#options;
    this.#isIn[slot] = 1;
    const target = this.targets[slot] as number;
    for (let t = 0; t < this.flat.treeCount; t++) {
      const leaf = leafOf(this.flat, t, this.rows, slot * width);
      this.#leaf[t * room + slot] = leaf;
      const count = (this.#count[leaf] = (this.#count[leaf] as number) + 1);
      const sum = (this.#sum[leaf] = (this.#sum[leaf] as number) + target);
      this.flat.value[leaf] = sum / count;
      if (count >= (this.#tryAt[leaf] as number)) this.#grow(t, leaf);
    }
  }

  /** Lets a row go. Leaves that become empty keep what they said. */
  remove(slot: number): void {
    const { room } = this.#options;
    this.#isIn[slot] = 0;
    const target = this.targets[slot] as number;
    for (let t = 0; t < this.flat.treeCount; t++) {
      const leaf = this.#leaf[t * room + slot] as number;
      this.#leaf[t * room + slot] = -1;
      const count = (this.#count[leaf] = (this.#count[leaf] as number) - 1);
      const sum = (this.#sum[leaf] = (this.#sum[leaf] as number) - target);
      if (count > 0) this.flat.value[leaf] = sum / count;
    }
  }

  /** Sets the leaves after `targets` of rows that are in were changed. O(trees × rows). */
  refresh(): void {
    for (let t = 0; t < this.flat.treeCount; t++) this.#refreshTree(t);
  }

  /** Puts a tree in place t; all rows move into its leaves. */
  put(t: number, tree: FlatTree): void {
    const { treeSize, width, room } = this.#options;
    putTree(this.flat, t, tree);
    const base = t * treeSize;
    this.#depth[base] = 0;
    for (let node = base; node < base + tree.size; node++) {
      const next = this.flat.link[node] as number;
      if (next === node) continue;
      this.#depth[next] = (this.#depth[node] as number) + 1;
      this.#depth[next + 1] = (this.#depth[node] as number) + 1;
    }
    for (let slot = 0; slot < room; slot++) this.#leaf[t * room + slot] = this.#isIn[slot] === 1 ? leafOf(this.flat, t, this.rows, slot * width) : -1;
    this.#refreshTree(t);
    for (let node = base; node < base + tree.size; node++) this.#tryAt[node] = Math.max(2 * this.#options.minLeaf, (this.#count[node] as number) + 1);
  }

  /** Puts a tree of a snapshot in place t, with the values that it has. */
  restore(t: number, tree: FlatTree): void {
    this.put(t, tree);
    this.flat.value.set(tree.value, t * this.#options.treeSize);
  }

  /** The tree in place t by itself. */
  tree(t: number): FlatTree {
    const { flat } = this;
    const base = t * flat.treeSize, size = flat.sizes[t] as number;
    return { size, depth: flat.depths[t] as number, column: flat.column.slice(base, base + size), threshold: flat.threshold.slice(base, base + size), link: flat.link.slice(base, base + size).map((node) => node - base), value: flat.value.slice(base, base + size) };
  }

  #refreshTree(t: number): void {
    const { treeSize, room } = this.#options;
    const base = t * treeSize, end = base + (this.flat.sizes[t] as number);
    this.#count.fill(0, base, end);
    this.#sum.fill(0, base, end);
    for (let slot = 0; slot < room; slot++) {
      const leaf = this.#leaf[t * room + slot] as number;
      if (leaf < 0) continue;
      this.#count[leaf] = (this.#count[leaf] as number) + 1;
      this.#sum[leaf] = (this.#sum[leaf] as number) + (this.targets[slot] as number);
    }
    for (let node = base; node < end; node++) if ((this.#count[node] as number) > 0) this.flat.value[node] = (this.#sum[node] as number) / (this.#count[node] as number);
  }

  /** Splits a leaf if that gains something; else looks again when it holds a third more. */
  #grow(t: number, leaf: number): void {
    const { treeSize, maxDepth, minLeaf, room, width, firstColumn, random } = this.#options;
    const { flat } = this;
    const size = flat.sizes[t] as number;
    const depth = this.#depth[leaf] as number;
    const count = this.#count[leaf] as number;
    this.#tryAt[leaf] = count + Math.max(1, Math.floor(count / 3));
    if (depth >= maxDepth || size + 2 > treeSize) return;
    this.#makeRoom(count);
    const columns = this.#columns, order = this.#order, members = this.#members, local = this.#local;
    let found = 0;
    for (let slot = 0, at = t * room; slot < room && found < count; slot++) if (this.#leaf[at + slot] === leaf) members[found++] = slot;
    for (let r = 0; r < found; r++) {
      const slot = members[r] as number;
      order[r] = r;
      local[r] = this.targets[slot] as number;
      for (let c = firstColumn; c < width; c++) columns[c * found + r] = this.rows[slot * width + c] as number;
    }
    const data: SplitData = { columns, count: found, width, firstColumn, targets: local };
    if (!randomSplit(data, order, 0, found, minLeaf, random, this.#tried, this.#split)) return;
    const middle = partition(data, order, 0, found, this.#split);
    const first = t * treeSize + size;
    flat.column[leaf] = this.#split.column;
    flat.threshold[leaf] = this.#split.threshold;
    flat.link[leaf] = first;
    flat.sizes[t] = size + 2;
    if (depth + 1 > (flat.depths[t] as number)) flat.depths[t] = depth + 1;
    for (const [child, from, to] of [[first, 0, middle], [first + 1, middle, found]] as const) {
      let sum = 0;
      for (let i = from; i < to; i++) {
        const r = order[i] as number;
        sum += local[r] as number;
        this.#leaf[t * room + (members[r] as number)] = child;
      }
      flat.column[child] = 0;
      flat.threshold[child] = Infinity;
      flat.link[child] = child;
      flat.value[child] = sum / (to - from);
      this.#count[child] = to - from;
      this.#sum[child] = sum;
      this.#depth[child] = depth + 1;
      this.#tryAt[child] = Math.max(2 * minLeaf, to - from + 1);
    }
    this.#count[leaf] = 0;
    this.#sum[leaf] = 0;
  }

  #makeRoom(count: number): void {
    if (count <= this.#order.length) return;
    const room = 2 * count;
    this.#columns = new Float64Array(room * this.#options.width);
    this.#order = new Int32Array(room);
    this.#local = new Float64Array(room);
    this.#members = new Int32Array(room);
  }
}
