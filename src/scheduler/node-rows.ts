/**
 * A row of numbers for each node of which there is something to say; all others have the blank row. Small clusters keep one plain array.
 * Beyond that rows stand in an open hash by node (linear probing, never more than half full), so that memory is that of what is there:
 * a function that is warm on three of ten thousand nodes costs three rows. Nothing is allocated before the first row.
 */

/** Up to so many nodes the array holds a row for each of them. */
export const DENSE_NODES = 256;
const FIRST_CELLS = 4;
const NO_KEYS = new Int32Array(0);

export class NodeRows {
  readonly #maxNodes: number;
  readonly #blank: Float64Array;
  readonly #isDense: boolean;
  /** Cell → node + 1; 0: free. Unused when dense. */
  #keys: Int32Array = NO_KEYS;
  /** The blank row, then one row per cell; dense: one row per node, and the blank one alone before the first write. */
  #values: Float64Array;
  #size = 0;

  /** `blank`: the row of a node of which nothing is known; shared, never written. */
  constructor(maxNodes: number, blank: Float64Array) {
    this.#maxNodes = maxNodes;
    this.#blank = blank;
    this.#isDense = maxNodes <= DENSE_NODES;
    this.#values = blank;
  }

  /** Rows stand in it from `place` on. Another array after the next `set`. */
  get values(): Float64Array {
    return this.#values;
  }

  /** Rows that are not blank; 0 when dense, where they are not counted. */
  get size(): number {
    return this.#size;
  }

  /** Where the row of a node begins in `values`. O(1). */
  place(node: number): number {
    const width = this.#blank.length;
    if (this.#isDense) return this.#values === this.#blank ? 0 : node * width;
    const keys = this.#keys;
    if (keys.length === 0) return 0;
    const mask = keys.length - 1;
    for (let cell = homeOf(node, mask); keys[cell] !== 0; cell = (cell + 1) & mask) if (keys[cell] === node + 1) return (cell + 1) * width;
    return 0;
  }

  get(node: number, column: number): number {
    return this.#values[this.place(node) + column] as number;
  }

  /** Writes one number. Returns 1 when the node has a row now and had none, −1 the other way round, else 0; always 0 when dense. */
  set(node: number, column: number, value: number): -1 | 0 | 1 {
    const blank = this.#blank, width = blank.length;
    let at = this.place(node);
    if (this.#isDense) {
      if (this.#values === blank) {
        if (value === blank[column]) return 0;
        this.#values = repeat(blank, this.#maxNodes);
        at = node * width;
      }
      this.#values[at + column] = value;
      return 0;
    }
    if (at === 0) {
      if (value === blank[column]) return 0;
      at = this.#open(node);
      this.#values[at + column] = value;
      return 1;
    }
    this.#values[at + column] = value;
    if (value !== blank[column]) return 0;
    for (let i = 0; i < width; i++) if (this.#values[at + i] !== blank[i]) return 0;
    this.#close(at / width - 1);
    return -1;
  }

  /** The node has the blank row again. True if it had another; always true when dense. */
  clear(node: number): boolean {
    const at = this.place(node);
    if (this.#isDense) {
      if (this.#values !== this.#blank) this.#values.set(this.#blank, at);
      return true;
    }
    if (at === 0) return false;
    this.#close(at / this.#blank.length - 1);
    return true;
  }

  /** Cells that `nodeIn` may be asked for: 0 … cells − 1. Between two and eight per row; dense: one per node. */
  get cells(): number {
    return this.#isDense ? (this.#values === this.#blank ? 0 : this.#maxNodes) : this.#keys.length;
  }

  /** The node of a cell; -1: none. Dense: every cell has its node, blank or not. */
  nodeIn(cell: number): number {
    return this.#isDense ? cell : (this.#keys[cell] as number) - 1;
  }

  /** Every node with a row; dense: every node. Rows may be written meanwhile, not made or cleared. */
  *nodes(): Generator<number> {
    for (let cell = 0; cell < this.cells; cell++) if (this.nodeIn(cell) >= 0) yield this.nodeIn(cell);
  }

  #open(node: number): number {
    if (2 * (this.#size + 1) > this.#keys.length) this.#resize(Math.max(FIRST_CELLS, 2 * this.#keys.length));
    const keys = this.#keys, mask = keys.length - 1;
    let cell = homeOf(node, mask);
    while (keys[cell] !== 0) cell = (cell + 1) & mask;
    keys[cell] = node + 1;
    this.#size++;
    return (cell + 1) * this.#blank.length;
  }

  /** Frees a cell; those behind it that were pushed on move up, so that no search stops short. */
  #close(cell: number): void {
    const keys = this.#keys, values = this.#values, mask = keys.length - 1, width = this.#blank.length;
    let gap = cell;
    for (let next = (gap + 1) & mask; keys[next] !== 0; next = (next + 1) & mask) {
      const home = homeOf((keys[next] as number) - 1, mask);
      // It may move to the gap only if its home is not between gap and itself.
      if (((next - home) & mask) < ((next - gap) & mask)) continue;
      keys[gap] = keys[next] as number;
      values.copyWithin((gap + 1) * width, (next + 1) * width, (next + 2) * width);
      gap = next;
    }
    keys[gap] = 0;
    values.set(this.#blank, (gap + 1) * width);
    if (--this.#size === 0) {
      this.#keys = NO_KEYS;
      this.#values = this.#blank;
    } else if (keys.length > FIRST_CELLS && 8 * this.#size < keys.length) this.#resize(keys.length >> 1);
  }

  #resize(cells: number): void {
    const { length: width } = this.#blank;
    const oldKeys = this.#keys, oldValues = this.#values;
    const keys = (this.#keys = new Int32Array(cells));
    const values = (this.#values = repeat(this.#blank, cells + 1));
    for (let old = 0; old < oldKeys.length; old++) {
      const key = oldKeys[old] as number;
      if (key === 0) continue;
      let cell = homeOf(key - 1, cells - 1);
      while (keys[cell] !== 0) cell = (cell + 1) & (cells - 1);
      keys[cell] = key;
      for (let i = 0; i < width; i++) values[(cell + 1) * width + i] = oldValues[(old + 1) * width + i] as number;
    }
  }
}

function homeOf(node: number, mask: number): number {
  return (Math.imul(node, 0x9e37_79b1) >>> 12) & mask;
}

function repeat(row: Float64Array, times: number): Float64Array {
  const all = new Float64Array(row.length * times);
  for (let i = 0; i < times; i++) all.set(row, i * row.length);
  return all;
}
