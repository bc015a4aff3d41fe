/** Which node holds which object, as the agents report it. Bounded: beyond `maxObjects` the oldest entries are forgotten (callers' references still name holders). */
import type { InputObject } from '../core/invocation.ts';
import type { ClusterView } from './cluster-view.ts';

interface Known {
  readonly sizeBytes: number;
  readonly holders: number[];
}

export class ObjectDirectory {
  readonly #objects = new Map<string, Known>();
  readonly #ofNode: Set<string>[] = [];
  readonly #cluster: ClusterView;
  readonly #maxObjects: number;

  constructor(cluster: ClusterView, maxObjects: number) {
    this.#cluster = cluster;
    this.#maxObjects = maxObjects;
  }

  get size(): number {
    return this.#objects.size;
  }

  /** A node has an object. */
  add(id: string, sizeBytes: number, node: number): void {
    const known = this.#objects.get(id);
    if (known !== undefined) {
      if (known.holders.includes(node)) return;
      known.holders.push(node);
    } else {
      this.#objects.set(id, { sizeBytes, holders: [node] });
      if (this.#objects.size > this.#maxObjects) for (const [oldest, { holders }] of this.#objects) {
        for (const holder of [...holders]) this.remove(oldest, holder);
        break;
      }
    }
    (this.#ofNode[node] ??= new Set()).add(id);
    this.#cluster.objectCount[node] = (this.#cluster.objectCount[node] as number) + 1;
  }

  /** A node has an object no more. */
  remove(id: string, node: number): void {
    const known = this.#objects.get(id);
    const at = known?.holders.indexOf(node) ?? -1;
    if (known === undefined || at < 0) return;
    known.holders.splice(at, 1);
    this.#ofNode[node]?.delete(id);
    if (known.holders.length === 0) this.#objects.delete(id);
    this.#cluster.objectCount[node] = (this.#cluster.objectCount[node] as number) - 1;
  }

  /** A node is gone with all that it held. */
  removeNode(node: number): void {
    for (const id of [...(this.#ofNode[node] ?? [])]) this.remove(id, node);
  }

  /**
   * Calls `each` with every node that holds `input`, or with `most` of them from the one that `start` decides on: as reported, or as its
   * reference says while nothing was reported yet.
   */
  forHolders(input: InputObject, each: (node: number, sizeBytes: number) => void, start = 0, most = Infinity): void {
    const known = this.#objects.get(input.id);
    if (known !== undefined) {
      const { holders } = known, { length } = holders;
      for (let i = 0, at = length > most ? start % length : 0; i < length && i < most; i++, at = at + 1 === length ? 0 : at + 1) each(holders[at] as number, input.sizeBytes);
      return;
    }
    for (let i = 0; i < input.holders.length && i < most; i++) {
      const node = this.#cluster.indexOf(input.holders[i] as string);
      if (node >= 0) each(node, input.sizeBytes);
    }
  }

  /** Names of the holders of an object, for the agent that must fetch it. */
  holderNames(input: InputObject): string[] {
    const names: string[] = [];
    this.forHolders(input, (node) => names.push(this.#cluster.name(node)));
    return names;
  }
}
