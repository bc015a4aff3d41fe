/**
 * The nodes that may get work, by load: one list per level of used ÷ slots, and one for full nodes. A change is O(1), and so is finding
 * the least loaded ones, however many nodes there are. Order within a level is that of arrival and means nothing.
 */

/** Levels of load below full. */
const LEVELS = 16;

export class NodesByLoad {
  /** Level of each node; -1: it may not get work. */
  readonly #level: Int8Array;
  /** Its place in the list of its level. */
  readonly #place: Int32Array;
  readonly #levels: number[][] = Array.from({ length: LEVELS + 1 }, () => []);

  constructor(maxNodes: number) {
    this.#level = new Int8Array(maxNodes).fill(-1);
    this.#place = new Int32Array(maxNodes);
  }

  /** Puts a node where its load belongs. */
  put(node: number, used: number, slots: number): void {
    const level = used >= slots ? LEVELS : Math.floor((used * LEVELS) / slots);
    if (this.#level[node] === level) return;
    this.remove(node);
    const list = this.#levels[level] as number[];
    this.#level[node] = level;
    this.#place[node] = list.length;
    list.push(node);
  }

  /** The node may get no work. */
  remove(node: number): void {
    const level = this.#level[node] as number;
    if (level < 0) return;
    this.#level[node] = -1;
    const list = this.#levels[level] as number[];
    const last = list.pop() as number, place = this.#place[node] as number;
    if (last === node) return;
    list[place] = last;
    this.#place[last] = place;
  }

  /** Calls `each` with nodes with room, the least loaded first, from a place within each level that `start` decides, until it says false. */
  forFree(start: number, each: (node: number) => boolean): void {
    for (let level = 0; level < LEVELS; level++) if (!walk(this.#levels[level] as number[], start, each)) return;
  }

  /** The same for nodes that are full. */
  forFull(start: number, each: (node: number) => boolean): void {
    walk(this.#levels[LEVELS] as number[], start, each);
  }
}

function walk(list: readonly number[], start: number, each: (node: number) => boolean): boolean {
  const { length } = list;
  for (let i = 0, at = length > 0 ? start % length : 0; i < length; i++, at = at + 1 === length ? 0 : at + 1) if (!each(list[at] as number)) return false;
  return true;
}
