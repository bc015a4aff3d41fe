/**
 * Our own trainer: extremely randomised trees. At each node about half of the columns that still vary are tried with one random threshold each, and the
 * one that lowers the variance most is taken. Against a search of all thresholds that costs little accuracy in an ensemble, makes it
 * smoother, and is what allows thousands of rows per tree in milliseconds.
 */
import { createRandom, type Random } from '../../core/random.ts';
import type { FlatTree } from './flat-forest.ts';
import { checkJob, type TreeJob } from './trainer.ts';

/** A split of some rows. */
export interface Split {
  column: number;
  threshold: number;
  /** Fall of the sum of squares. */
  gain: number;
}

/** Rows and targets, the rows column by column: value of column c in row r at c × count + r. */
export interface SplitData {
  readonly columns: Float64Array;
  readonly count: number;
  readonly width: number;
  readonly firstColumn: number;
  readonly targets: Float64Array;
}

/**
 * Looks for a split of the rows `order[from … to)`. Returns false when there is none that leaves `minLeaf` rows on each side and gains something.
 * `tried` is scratch space for `width` numbers.
 */
export function randomSplit(data: SplitData, order: Int32Array, from: number, to: number, minLeaf: number, random: Random, tried: Int32Array, best: Split): boolean {
  const { columns, count, width, firstColumn, targets } = data;
  const rows = to - from;
  let sum = 0;
  for (let i = from; i < to; i++) sum += targets[order[i] as number] as number;
  const whole = (sum * sum) / rows;
  best.gain = 0;
  best.column = -1;
  const candidates = width - firstColumn;
  for (let c = 0; c < candidates; c++) tried[c] = firstColumn + c;
  let left = (candidates + 1) >> 1;
  for (let c = 0; c < candidates && left > 0; c++) {
    const pick = c + random.below(candidates - c);
    const column = tried[pick] as number;
    tried[pick] = tried[c] as number;
    tried[c] = column;
    const base = column * count;
    let low = Infinity, high = -Infinity;
    for (let i = from; i < to; i++) {
      const value = columns[base + (order[i] as number)] as number;
      if (value < low) low = value;
      if (value > high) high = value;
    }
    if (!(low < high)) continue; // constant here: does not count as tried
    left--;
    const threshold = low + (high - low) * (1 - random.uniform());
    let below = 0, belowSum = 0;
    for (let i = from; i < to; i++) {
      const row = order[i] as number;
      if ((columns[base + row] as number) < threshold) {
        below++;
        belowSum += targets[row] as number;
      }
    }
    const above = rows - below;
    if (below < minLeaf || above < minLeaf) continue;
    const aboveSum = sum - belowSum;
    const gain = (belowSum * belowSum) / below + (aboveSum * aboveSum) / above - whole;
    if (gain > best.gain) {
      best.gain = gain;
      best.column = column;
      best.threshold = threshold;
    }
  }
  return best.column >= 0;
}

/** Puts the rows below the threshold first. Returns where the others begin. */
export function partition(data: SplitData, order: Int32Array, from: number, to: number, { column, threshold }: Split): number {
  const base = column * data.count;
  let middle = from;
  for (let i = from; i < to; i++) {
    const row = order[i] as number;
    if ((data.columns[base + row] as number) >= threshold) continue;
    order[i] = order[middle] as number;
    order[middle++] = row;
  }
  return middle;
}

/** Grows one extremely randomised tree. O(rows × columns × depth). */
export function trainExtraTree(job: TreeJob): FlatTree {
  checkJob(job);
  const { rows, width, targets, firstColumn, minLeaf, maxDepth, maxNodes, seed } = job;
  const count = targets.length;
  const random = createRandom(seed);
  const columns = new Float64Array(count * width);
  for (let r = 0; r < count; r++) for (let c = firstColumn; c < width; c++) columns[c * count + r] = rows[r * width + c] as number;
  const data: SplitData = { columns, count, width, firstColumn, targets };
  const order = Int32Array.from({ length: count }, (_, r) => r);
  const tried = new Int32Array(width);
  const room = Math.max(1, Math.min(maxNodes, 2 * count));
  const column = new Uint8Array(room), threshold = new Float64Array(room), link = new Int32Array(room), value = new Float64Array(room);
  const split: Split = { column: -1, threshold: 0, gain: 0 };
  let size = 1, deepest = 0;
  // Nodes wait in the order of their making, so that a tree that runs out of room is cut evenly.
  const waiting: { node: number; from: number; to: number; depth: number }[] = [{ node: 0, from: 0, to: count, depth: 0 }];
  for (let next = 0; next < waiting.length; next++) {
    const { node, from, to, depth } = waiting[next]!;
    let sum = 0;
    for (let i = from; i < to; i++) sum += targets[order[i] as number] as number;
    value[node] = sum / (to - from);
    link[node] = node;
    threshold[node] = Infinity;
    if (depth > deepest) deepest = depth;
    if (depth >= maxDepth || to - from < 2 * minLeaf || size + 2 > room) continue;
    if (!randomSplit(data, order, from, to, minLeaf, random, tried, split)) continue;
    const middle = partition(data, order, from, to, split);
    column[node] = split.column;
    threshold[node] = split.threshold;
    link[node] = size;
    waiting.push({ node: size, from, to: middle, depth: depth + 1 }, { node: size + 1, from: middle, to, depth: depth + 1 });
    size += 2;
  }
  return { size, depth: deepest, column: column.slice(0, size), threshold: threshold.slice(0, size), link: link.slice(0, size), value: value.slice(0, size) };
}
