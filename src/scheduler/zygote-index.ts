/**
 * Which zygotes the nodes keep, and how far the nearest one is from each function. Distances stand ready in
 * FunctionEntry.rows; a change on one node touches only functions that share a package with what changed, and only their
 * entry for that node. Bare runtimes come and go with every cold start of any function, so they are kept once per runtime and
 * isolation, in arrays that all their functions share.
 */
import { BARE_DISTANCE, NO_ZYGOTE, zygoteDistance } from '../core/zygote-distance.ts';
import { ZYGOTE_DISTANCE, type FunctionEntry, type FunctionTable, type ZygoteNeed } from './function-table.ts';

/** One kind of zygotes as a node reports it. */
export interface ZygoteFacts {
  /** '': the bare runtime. */
  readonly packageSet: string;
  readonly runtime: string;
  readonly isolation: string;
  readonly defaultIsolation: boolean;
  /** Whether its functions may use the network; counts only where that is enforced. */
  readonly network: boolean;
  /** Serves functions of exactly its package set. */
  readonly sameSet: boolean;
  /** The only function that it serves; '': any. */
  readonly function: string;
  /** Ready ones. */
  readonly idle: number;
  readonly packages: readonly string[];
  /** Parallel to packages. */
  readonly importMs: readonly number[];
}

interface Kept {
  readonly facts: ZygoteFacts;
  readonly loaded: ReadonlySet<string>;
}

/** Kinds of one node that are looked at. */
const MAX_KINDS_PER_NODE = 256;

export class ZygoteIndex {
  readonly #functions: FunctionTable;
  readonly #maxNodes: number;
  readonly #byNode: Map<string, Kept>[] = [];
  /** Functions by what a zygote for them could have imported, or be for. */
  readonly #byPackage = new Map<string, Set<FunctionEntry>>();
  /** What an import of a package took, ms, as it was reported last; only of packages that functions have. */
  readonly #importMs = new Map<string, number>();
  /** By what functions ask for: 1 where a node keeps bare runtimes for them. */
  readonly #bare = new Map<string, { readonly need: Wish; readonly nodes: Uint8Array }>();

  constructor(functions: FunctionTable, maxNodes: number) {
    this.#functions = functions;
    this.#maxNodes = maxNodes;
  }

  /** A function was deployed or replaced. O(nodes × their kinds). */
  functionPut(entry: FunctionEntry): void {
    this.functionDeleted(entry);
    entry.setEverywhere(ZYGOTE_DISTANCE, NO_ZYGOTE);
    const need = entry.settings.zygote;
    if (need === undefined) return;
    entry.bare = this.#bareOf(need);
    entry.bareDistance = need.imports.direct.length === 0 ? 0 : BARE_DISTANCE;
    for (const key of keysOf(entry, need)) {
      const set = this.#byPackage.get(key);
      if (set === undefined) this.#byPackage.set(key, new Set([entry]));
      else set.add(entry);
    }
    entry.zygoteKeys = keysOf(entry, need);
    for (let node = 0; node < this.#byNode.length; node++) this.#measure(entry, node);
  }

  /** A function is there no more. */
  functionDeleted(entry: FunctionEntry): void {
    for (const key of entry.zygoteKeys) {
      const set = this.#byPackage.get(key);
      if (set?.delete(entry) !== true || set.size > 0) continue;
      this.#byPackage.delete(key);
      this.#importMs.delete(key);
    }
    entry.zygoteKeys = [];
  }

  /**
   * The node has these now, or none of this kind any more. `changed` is called for each function whose distance on the node became
   * another. O(functions concerned × kinds of the node), and O(1) while only their number changes.
   */
  set(node: number, facts: ZygoteFacts, changed: (entry: FunctionEntry, before: number, after: number) => void): void {
    const kinds = (this.#byNode[node] ??= new Map<string, Kept>());
    const key = kindOf(facts);
    const before = kinds.get(key);
    if (facts.idle === 0) {
      if (before === undefined) return;
      kinds.delete(key);
    } else {
      if (before !== undefined && isSame(before.facts, facts)) return;
      if (before === undefined && kinds.size >= MAX_KINDS_PER_NODE) return;
      kinds.set(key, { facts, loaded: new Set(facts.packages) });
      facts.packages.forEach((id, i) => {
        const ms = facts.importMs[i];
        if (ms !== undefined && this.#byPackage.has(id)) this.#importMs.set(id, ms);
      });
    }
    if (isBare(facts)) {
      for (const { need, nodes } of this.#bare.values()) if (meets(facts, need)) nodes[node] = this.#hasBare(node, need);
      return;
    }
    const concerned = new Set<FunctionEntry>();
    for (const id of facts.function === '' ? facts.packages : [`function:${facts.function}`]) for (const entry of this.#byPackage.get(id) ?? []) concerned.add(entry);
    for (const id of before?.facts.packages ?? []) for (const entry of this.#byPackage.get(id) ?? []) concerned.add(entry);
    for (const entry of concerned) {
      const was = entry.zygoteDistance(node);
      this.#measure(entry, node);
      const is = entry.zygoteDistance(node);
      if (is !== was) changed(entry, was, is);
    }
  }

  /** The kinds of zygotes that a node keeps. */
  kindsOf(node: number): ZygoteFacts[] {
    return Array.from(this.#byNode[node]?.values() ?? [], ({ facts }) => facts);
  }

  /** Nothing of the node is known any more. */
  forgetNode(node: number): void {
    this.#byNode[node]?.clear();
    for (const { nodes } of this.#bare.values()) nodes[node] = 0;
    for (const entry of [...this.#functions.onNode(node)]) entry.set(node, ZYGOTE_DISTANCE, NO_ZYGOTE);
  }

  #measure(entry: FunctionEntry, node: number): void {
    const need = entry.settings.zygote;
    let nearest: number = NO_ZYGOTE;
    if (need !== undefined) for (const { facts, loaded } of this.#byNode[node]?.values() ?? []) {
      // Without imports it serves anybody, and is counted as such; so do those whose imports all failed.
      if ((loaded.size === 0 && facts.function === '') || !mayServe(facts, entry, need)) continue;
      nearest = Math.min(nearest, zygoteDistance(need.imports, loaded, this.#importMsOf));
    }
    entry.set(node, ZYGOTE_DISTANCE, nearest);
  }

  readonly #importMsOf = (id: string): number | undefined => this.#importMs.get(id);

  #bareOf({ runtime, isolation, network }: Wish): Uint8Array {
    const key = `${runtime}/${isolation}/${network}`;
    const known = this.#bare.get(key);
    if (known !== undefined) return known.nodes;
    const bare = { need: { runtime, isolation, network }, nodes: new Uint8Array(this.#maxNodes) };
    this.#bare.set(key, bare);
    // A node may have reported some before the first function asked.
    for (let node = 0; node < this.#byNode.length; node++) bare.nodes[node] = this.#hasBare(node, bare.need);
    return bare.nodes;
  }

  #hasBare(node: number, need: Wish): 0 | 1 {
    for (const { facts } of this.#byNode[node]?.values() ?? []) if (isBare(facts) && meets(facts, need)) return 1;
    return 0;
  }
}

/** What a function asks of a sandbox, whatever its packages. */
type Wish = Pick<ZygoteNeed, 'runtime' | 'isolation' | 'network'>;

/** Of no package set and for any function. */
function isBare({ packageSet, function: only }: ZygoteFacts): boolean {
  return packageSet === '' && only === '';
}

function mayServe(facts: ZygoteFacts, entry: FunctionEntry, need: ZygoteNeed): boolean {
  if (!meets(facts, need)) return false;
  if (facts.function !== '' && facts.function !== entry.settings.name) return false;
  return !facts.sameSet || facts.packageSet === '' || facts.packageSet === entry.settings.packageSet;
}

function meets(facts: ZygoteFacts, { runtime, isolation, network }: Wish): boolean {
  return facts.runtime === runtime && (isolation === '' ? facts.defaultIsolation : facts.isolation === isolation) && (facts.isolation !== 'bubblewrap' || facts.network === network);
}

function keysOf(entry: FunctionEntry, need: ZygoteNeed): readonly string[] {
  return [...need.imports.direct, `function:${entry.settings.name}`];
}

function kindOf({ runtime, isolation, network, packageSet, function: only }: ZygoteFacts): string {
  return `${runtime}/${isolation}/${network}/${packageSet}/${only}`;
}

function isSame(a: ZygoteFacts, b: ZygoteFacts): boolean {
  return a.sameSet === b.sameSet && a.defaultIsolation === b.defaultIsolation && a.packages.length === b.packages.length && a.packages.every((id, i) => id === b.packages[i]);
}
