/**
 * Which nodes come into question for an invocation when there are too many to look at all (docs/decisions/017-candidate-indexes.md):
 * the node of its locality key and the one that it waits for, holders of its inputs, nodes where its function is warm, nodes with a zygote or
 * packages for it, and the least loaded nodes. All of them come from indexes; the work is O(limit), whatever the number of nodes.
 *
 * Where an index has more than fits, a window of it is taken that begins where the invocation's number says: no state, so that the same
 * question has the same answer. Some node with room is always among them if there is one that can run the function.
 */
import { NO_ZYGOTE } from '../core/zygote-distance.ts';
import { READY, type ClusterView } from './cluster-view.ts';
import { BUSY, IDLE, PACKAGES_HERE, ZYGOTE_DISTANCE, type FunctionEntry } from './function-table.ts';

/** The limit is divided into so many parts, of which each kind of nodes has some: never all of them together, so that two single nodes fit beside them. */
const PARTS = 16;
const HOLDERS = 3.5, WARM_FREE = 3, NEAR_FREE = 1.5, FULL = 2, INSTALLED_FREE = 1.5, INSTALLED_FULL = 1, LEAST_LOADED = 3;
/** Cells of a function's rows that are looked at, per candidate of the limit. */
const CELLS_PER_CANDIDATE = 8;

/** What is asked. */
export interface Question {
  readonly entry: FunctionEntry;
  readonly nowMs: number;
  /** Where windows begin; any number. */
  readonly start: number;
  /** The node of the locality key, and the one that is waited for; -1: none. */
  readonly keyNode: number;
  readonly target: number;
  /** Nodes that hold some of the inputs, and how many bytes of them each node holds. */
  readonly holders: readonly number[];
  readonly heldBytes: Float64Array;
}

/** Gathers candidates. Holds scratch space, so one per scheduler. */
export class CandidateIndex {
  readonly #cluster: ClusterView;
  readonly #limit: number;
  /** The candidates of the last question in order of their indexes: the first `count`. */
  readonly nodes: Int32Array;
  count = 0;
  /** Question in which a node was taken last. */
  readonly #taken: Uint32Array;
  #question = 0;
  #unable: Uint8Array = new Uint8Array(0);

  constructor(cluster: ClusterView, limit: number) {
    this.#cluster = cluster;
    this.#limit = Math.min(limit, cluster.maxNodes);
    this.nodes = new Int32Array(this.#limit);
    this.#taken = new Uint32Array(cluster.maxNodes);
  }

  /** Fills `nodes`. */
  gather(question: Question): void {
    this.#question = (this.#question + 1) >>> 0;
    this.count = 0;
    const { entry, start, keyNode, target } = question;
    this.#unable = entry.unable;
    if (keyNode >= 0) this.#take(keyNode);
    if (target >= 0) this.#take(target);
    this.#takeHolders(question);
    this.#takeFromRows(question);
    this.#takeInstalled(question);
    const byLoad = this.#cluster.nodesByLoad(entry.settings.isolation ?? '');
    let free = 0, left = this.#part(LEAST_LOADED);
    const takeOne = (node: number): boolean => {
      free++;
      if (this.#take(node)) left--;
      return left > 0 && this.count < this.#limit;
    };
    byLoad.forFree(start, takeOne);
    // All are full: those that one could wait for.
    if (free === 0) byLoad.forFull(start, takeOne);
    this.#sort();
  }

  #part(parts: number): number {
    return Math.max(1, Math.floor((this.#limit * parts) / PARTS));
  }

  /** True if the node is a candidate now and was none before. */
  #take(node: number): boolean {
    if (this.count >= this.#limit || this.#taken[node] === this.#question || this.#cluster.status[node] !== READY || this.#unable[node] === 1) return false;
    this.#taken[node] = this.#question;
    this.nodes[this.count++] = node;
    return true;
  }

  /** Those with at least half as much as the best one first, then the others. */
  #takeHolders({ holders, heldBytes, start }: Question): void {
    const { length } = holders;
    if (length === 0) return;
    let most = 0;
    for (let i = 0; i < length; i++) most = Math.max(most, heldBytes[holders[i] as number] as number);
    let left = this.#part(HOLDERS);
    for (let round = 0; round < 2 && left > 0; round++) {
      for (let i = 0, at = start % length; i < length && left > 0; i++, at = at + 1 === length ? 0 : at + 1) {
        const node = holders[at] as number;
        if (((heldBytes[node] as number) * 2 >= most) === (round === 0) && this.#take(node)) left--;
      }
    }
  }

  /** Nodes where the function is warm, or that have a zygote or some packages for it: free ones, and full ones to wait for. */
  #takeFromRows({ entry: { rows }, nowMs, start }: Question): void {
    const { cells, values } = rows;
    if (cells === 0) return;
    let warm = this.#part(WARM_FREE), near = this.#part(NEAR_FREE), full = this.#part(FULL);
    const steps = Math.min(cells, CELLS_PER_CANDIDATE * this.#limit);
    for (let step = 0, cell = start % cells; step < steps && warm + near + full > 0; step++, cell = cell + 1 === cells ? 0 : cell + 1) {
      const node = rows.nodeIn(cell);
      if (node < 0) continue;
      const at = rows.place(node);
      const idle = values[at + IDLE] as number;
      const hasSome = (values[at + ZYGOTE_DISTANCE] as number) < NO_ZYGOTE || (values[at + PACKAGES_HERE] as number) > 0;
      if (this.#cluster.room(node, nowMs) <= 0) {
        if (full > 0 && (hasSome || idle + (values[at + BUSY] as number) > 0) && this.#take(node)) full--;
      } else if (idle > 0) {
        if (warm > 0 && this.#take(node)) warm--;
      } else if (near > 0 && hasSome && this.#take(node)) near--;
    }
  }

  #takeInstalled({ entry: { installed }, nowMs, start }: Question): void {
    const { cells, values } = installed;
    if (cells === 0) return;
    let free = this.#part(INSTALLED_FREE), full = this.#part(INSTALLED_FULL);
    const steps = Math.min(cells, CELLS_PER_CANDIDATE * this.#limit);
    for (let step = 0, cell = start % cells; step < steps && free + full > 0; step++, cell = cell + 1 === cells ? 0 : cell + 1) {
      const node = installed.nodeIn(cell);
      if (node < 0 || values[installed.place(node)] !== 1) continue;
      if (this.#cluster.room(node, nowMs) > 0) {
        if (free > 0 && this.#take(node)) free--;
      } else if (full > 0 && this.#take(node)) full--;
    }
  }

  /** By node, so that ties fall as they do when all nodes are looked at. Insertion: there are few, and most are in order. */
  #sort(): void {
    const { nodes, count } = this;
    for (let i = 1; i < count; i++) {
      const node = nodes[i] as number;
      let at = i;
      for (; at > 0 && (nodes[at - 1] as number) > node; at--) nodes[at] = nodes[at - 1] as number;
      nodes[at] = node;
    }
  }
}
