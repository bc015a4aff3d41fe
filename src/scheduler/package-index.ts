/**
 * Which nodes have which packages and package sets, and what each function therefore lacks on each node. Changes come as deltas from
 * agents; a change of one package touches only the functions that have it, and only that node. Nothing here is asked in a decision: the
 * answers stand in FunctionEntry.packages, missingPackages and missingPackageBytes.
 */
import type { FunctionEntry } from './function-table.ts';

/** Packages that are remembered as long as a node or a function has them; further ones count as present everywhere. */
const MAX_PACKAGES = 200_000;
/** Package sets that are remembered on one node. */
const MAX_SETS_PER_NODE = 16_384;
/** What a package counts until its size was measured on some node: a middling npm package. */
const UNKNOWN_BYTES = 256 * 1024;

interface Known {
  /** As measured by the node that told of it last; 0: nobody has. */
  bytes: number;
  readonly nodes: Set<number>;
  readonly functions: Set<FunctionEntry>;
}

export class PackageIndex {
  readonly #packages = new Map<string, Known>();
  /** Package sets of each node: also those of functions that are not deployed yet. */
  readonly #sets: Set<string>[] = [];
  /** Packages of each node. */
  readonly #ofNode: Set<string>[] = [];

  /** A function was deployed or replaced. O(its packages × nodes that have them + nodes). */
  functionPut(entry: FunctionEntry): void {
    this.functionDeleted(entry);
    const { packageSet, packages = [] } = entry.settings;
    for (let node = 0; node < this.#sets.length; node++) entry.packages[node] = this.#sets[node]?.has(packageSet) === true ? 1 : 0;
    entry.missingPackages.fill(0);
    entry.missingPackageBytes.fill(0);
    entry.packageBytes = 0;
    const ids = new Set(packages);
    entry.packageIds = [...ids];
    for (const id of ids) {
      const known = this.#know(id);
      if (known === undefined) continue;
      known.functions.add(entry);
      const bytes = sizeOf(known);
      entry.packageBytes += bytes;
      for (let node = 0; node < entry.missingPackages.length; node++) if (!known.nodes.has(node)) this.#lack(entry, node, 1, bytes);
    }
  }

  /** A function is there no more. */
  functionDeleted(entry: FunctionEntry): void {
    for (const id of entry.packageIds) {
      const known = this.#packages.get(id);
      known?.functions.delete(entry);
      this.#forgetUnused(id);
    }
    entry.packageIds = [];
  }

  /** Package sets that a node has. */
  setsOf(node: number): number {
    return this.#sets[node]?.size ?? 0;
  }

  /** A package set appeared on a node or went; `functions`: those that have it. */
  setSet(node: number, packageSet: string, present: boolean, functions: Iterable<FunctionEntry>): void {
    const sets = (this.#sets[node] ??= new Set());
    if (!present) sets.delete(packageSet);
    else if (sets.size < MAX_SETS_PER_NODE) sets.add(packageSet);
    for (const entry of functions) entry.packages[node] = present ? 1 : 0;
  }

  /** A package appeared on a node, with its size there. */
  add(node: number, id: string, bytes: number): void {
    const known = this.#know(id);
    if (known === undefined) return;
    if (bytes > 0 && bytes !== known.bytes) {
      const grown = bytes - sizeOf(known);
      known.bytes = bytes;
      for (const entry of known.functions) {
        entry.packageBytes += grown;
        for (let other = 0; other < entry.missingPackages.length; other++) if (!known.nodes.has(other)) this.#lack(entry, other, 0, grown);
      }
    }
    if (known.nodes.has(node)) return;
    known.nodes.add(node);
    (this.#ofNode[node] ??= new Set()).add(id);
    for (const entry of known.functions) this.#lack(entry, node, -1, -sizeOf(known));
  }

  /** A package went from a node. */
  remove(node: number, id: string): void {
    const known = this.#packages.get(id);
    if (known === undefined || !known.nodes.delete(node)) return;
    this.#ofNode[node]?.delete(id);
    for (const entry of known.functions) this.#lack(entry, node, 1, sizeOf(known));
    this.#forgetUnused(id);
  }

  /** Nothing is known to be on the node any more. */
  forgetNode(node: number): void {
    this.#sets[node]?.clear();
    for (const id of this.#ofNode[node] ?? []) this.remove(node, id);
  }

  #know(id: string): Known | undefined {
    let known = this.#packages.get(id);
    if (known === undefined && this.#packages.size < MAX_PACKAGES) {
      known = { bytes: 0, nodes: new Set(), functions: new Set() };
      this.#packages.set(id, known);
    }
    return known;
  }

  #forgetUnused(id: string): void {
    const known = this.#packages.get(id);
    if (known !== undefined && known.nodes.size === 0 && known.functions.size === 0) this.#packages.delete(id);
  }

  #lack(entry: FunctionEntry, node: number, packages: number, bytes: number): void {
    entry.missingPackages[node] = (entry.missingPackages[node] as number) + packages;
    entry.missingPackageBytes[node] = Math.max(0, (entry.missingPackageBytes[node] as number) + bytes);
  }
}

function sizeOf({ bytes }: Known): number {
  return bytes > 0 ? bytes : UNKNOWN_BYTES;
}
