/**
 * Which nodes have which packages and package sets, and what each function therefore lacks on each node. Changes come as deltas from
 * agents; a change of one package touches only the functions that have it, and only that node. Nothing here is asked in a decision: the
 * answers stand in FunctionEntry.installed, one for all functions of a package set, and in the rows of each function.
 */
import { INSTALLED, NOT_INSTALLED, PACKAGES_HERE, PACKAGE_BYTES_HERE, type FunctionEntry } from './function-table.ts';
import { NodeRows } from './node-rows.ts';

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

/** A package set that a node or a function has. */
interface KnownSet {
  readonly rows: NodeRows;
  nodes: number;
  functions: number;
}

export class PackageIndex {
  readonly #maxNodes: number;
  readonly #known = new Map<string, KnownSet>();
  readonly #packages = new Map<string, Known>();
  /** Package sets of each node: also those of functions that are not deployed yet. */
  readonly #sets: (Set<string> | undefined)[] = [];
  /** The package set of each function that was put and not deleted. */
  readonly #setOf = new Map<FunctionEntry, string>();
  /** Packages of each node. */
  readonly #ofNode: Set<string>[] = [];

  constructor(maxNodes: number) {
    this.#maxNodes = maxNodes;
  }

  /** A function was deployed or replaced. O(its packages × nodes that have them). */
  functionPut(entry: FunctionEntry): void {
    this.functionDeleted(entry);
    const { packageSet, packages = [] } = entry.settings;
    const set = this.#knowSet(packageSet);
    set.functions++;
    this.#setOf.set(entry, packageSet);
    entry.installed = set.rows;
    entry.setEverywhere(PACKAGES_HERE, 0);
    entry.setEverywhere(PACKAGE_BYTES_HERE, 0);
    entry.packageBytes = entry.packageCount = 0;
    if (packages.length === 0) return;
    const ids = new Set(packages);
    entry.packageIds = [...ids];
    for (const id of ids) {
      const known = this.#know(id);
      if (known === undefined) continue;
      known.functions.add(entry);
      const bytes = sizeOf(known);
      entry.packageCount++;
      entry.packageBytes += bytes;
      for (const node of known.nodes) has(entry, node, 1, bytes);
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
    const packageSet = this.#setOf.get(entry);
    if (packageSet === undefined) return;
    this.#setOf.delete(entry);
    const set = this.#knowSet(packageSet);
    set.functions--;
    this.#forgetUnusedSet(packageSet, set);
  }

  /** Package sets that a node has. */
  setsOf(node: number): number {
    return this.#sets[node]?.size ?? 0;
  }

  /** A package set appeared on a node or went. */
  setSet(node: number, packageSet: string, present: boolean): void {
    const sets = (this.#sets[node] ??= new Set());
    if (sets.has(packageSet) === present || (present && sets.size >= MAX_SETS_PER_NODE)) return;
    if (present) sets.add(packageSet);
    else sets.delete(packageSet);
    const set = this.#knowSet(packageSet);
    set.nodes += present ? 1 : -1;
    set.rows.set(node, INSTALLED, present ? 1 : 0);
    this.#forgetUnusedSet(packageSet, set);
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
        for (const other of known.nodes) has(entry, other, 0, grown);
      }
    }
    if (known.nodes.has(node)) return;
    known.nodes.add(node);
    (this.#ofNode[node] ??= new Set()).add(id);
    for (const entry of known.functions) has(entry, node, 1, sizeOf(known));
  }

  /** A package went from a node. */
  remove(node: number, id: string): void {
    const known = this.#packages.get(id);
    if (known === undefined || !known.nodes.delete(node)) return;
    this.#ofNode[node]?.delete(id);
    for (const entry of known.functions) has(entry, node, -1, -sizeOf(known));
    this.#forgetUnused(id);
  }

  /** Nothing is known to be on the node any more. */
  forgetNode(node: number): void {
    for (const packageSet of this.#sets[node] ?? []) this.setSet(node, packageSet, false);
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

  #knowSet(packageSet: string): KnownSet {
    let set = this.#known.get(packageSet);
    if (set === undefined) this.#known.set(packageSet, (set = { rows: new NodeRows(this.#maxNodes, NOT_INSTALLED), nodes: 0, functions: 0 }));
    return set;
  }

  #forgetUnusedSet(packageSet: string, set: KnownSet): void {
    if (set.nodes === 0 && set.functions === 0) this.#known.delete(packageSet);
  }
}

function has(entry: FunctionEntry, node: number, packages: number, bytes: number): void {
  entry.set(node, PACKAGES_HERE, entry.rows.get(node, PACKAGES_HERE) + packages);
  entry.set(node, PACKAGE_BYTES_HERE, entry.rows.get(node, PACKAGE_BYTES_HERE) + bytes);
}

function sizeOf({ bytes }: Known): number {
  return bytes > 0 ? bytes : UNKNOWN_BYTES;
}
