/** The functions as the scheduler needs them: limits, and where each is warm, has a zygote or has its packages. */
import { NO_ZYGOTE, type ImportNeed } from '../core/zygote-distance.ts';
import type { FunctionProfile } from '../predictor/predictor.ts';
import { DENSE_NODES, NodeRows } from './node-rows.ts';

/** What a zygote must be like to be of use for a function. */
export interface ZygoteNeed {
  /** "node" or "python3". */
  readonly runtime: string;
  /** '': the node's default. */
  readonly isolation: string;
  /** Whether it may use the network. */
  readonly network: boolean;
  readonly imports: ImportNeed;
}

/** What the scheduler must know of a deployed function. */
export interface FunctionSettings {
  readonly name: string;
  readonly version: string;
  /** Digest under which agents report its packages: of its lock, or of its bundle when it has none. */
  readonly packageSet: string;
  readonly slaMs: number;
  readonly timeoutMs: number;
  /** 0: no limit. */
  readonly concurrency: number;
  readonly idempotent: boolean;
  readonly retries: number;
  /** '': the scheduler's. */
  readonly policy: string;
  readonly localityKey: string;
  readonly reuse: boolean;
  /** Nodes that do not offer it are no candidates; '': a node's default will do. @default '' */
  readonly isolation?: string;
  /** Memory limit of one sandbox, MiB. */
  readonly memoryMb: number;
  /** User-facing. */
  readonly critical: boolean;
  /** Undefined: no zygote is of use. */
  readonly zygote?: ZygoteNeed;
  /** Ids of all packages that a node must have for it. @default none */
  readonly packages?: readonly string[];
  /** What predictions may know of it. @default nothing */
  readonly profile?: FunctionProfile;
}

/** Waits this long ago count for 1/e, ms: about as long as an idle sandbox is kept. */
const RENT_FADES_MS = 60_000;

/** Keys remembered per function for locality hints. */
const MAX_KEYS = 1_024;

/** What FunctionEntry.rows says of a node: idle and busy sandboxes, distance of the nearest zygote, packages of it that the node has, and their bytes. */
export const IDLE = 0, BUSY = 1, ZYGOTE_DISTANCE = 2, PACKAGES_HERE = 3, PACKAGE_BYTES_HERE = 4;
const NOTHING_HERE = Float64Array.of(0, 0, NO_ZYGOTE, 0, 0);
/** The row of a node without a package set, and its only column. */
export const NOT_INSTALLED = Float64Array.of(0), INSTALLED = 0;
const NO_BARE = new Uint8Array(0);

export class FunctionEntry {
  readonly index: number;
  settings: FunctionSettings;
  deleted = false;
  /** Invocations of it that are dispatched. */
  running = 0;
  /** Most of them at once since a policy asked. */
  peak = 0;
  /** Waits since it last started without a warm sandbox, ms, faded to `#rentAtMs`. */
  #rentMs = 0;
  #rentAtMs = 0;
  /** Grows when it became warm somewhere: waiters look again. */
  generation = 0;
  /** Undefined: no key was ever used. */
  keyNodes: Map<string, number> | undefined;
  /** What is there of it on the nodes, by the columns above; only what the methods below do may write them. */
  readonly rows: NodeRows;
  /** 1 where a bare runtime is ready for it; shared by all functions of its runtime and isolation. Shorter than the nodes: nowhere. */
  bare: Uint8Array = NO_BARE;
  /** Its distance from a bare runtime. */
  bareDistance: number = NO_ZYGOTE;
  /** Under which ZygoteIndex finds it. */
  zygoteKeys: readonly string[] = NO_IDS;
  /** Where its package set is installed (INSTALLED = 1); shared by all functions of the set. Given by PackageIndex, like all below. */
  installed: NodeRows;
  /** Different packages that it has. */
  packageCount = 0;
  /** Bytes of all its packages, as far as some node has measured them. */
  packageBytes = 0;
  /** Under which PackageIndex finds it. */
  packageIds: readonly string[] = NO_IDS;
  /** 1 where a node does not offer the isolation that it asks for; shared by all functions that ask for it. Set by the scheduler. */
  unable: Uint8Array = NO_BARE;
  /** Functions with a row, by node; the table's. */
  readonly #byNode: (Set<FunctionEntry> | undefined)[];
  /** FunctionTable.sandboxMb. */
  readonly #sandboxMb: Float64Array;

  constructor(index: number, settings: FunctionSettings, maxNodes: number, byNode: (Set<FunctionEntry> | undefined)[], sandboxMb: Float64Array, installed: NodeRows) {
    this.index = index;
    this.settings = settings;
    this.rows = new NodeRows(maxNodes, NOTHING_HERE);
    this.installed = installed;
    this.#byNode = byNode;
    this.#sandboxMb = sandboxMb;
  }

  /** What its invocations have waited for warm nodes since one of them last made a sandbox, ms; old waits fade. */
  rentMs(nowMs: number): number {
    return this.#rentMs === 0 ? 0 : this.#rentMs * Math.exp((this.#rentAtMs - nowMs) / RENT_FADES_MS);
  }

  /** One of them is going to wait so long. */
  payRent(waitMs: number, nowMs: number): void {
    this.#rentMs = this.rentMs(nowMs) + waitMs;
    this.#rentAtMs = nowMs;
  }

  /** One of them makes a sandbox. */
  boughtSandbox(): void {
    this.#rentMs = 0;
  }

  /** Idle sandboxes on a node. */
  idle(node: number): number {
    return this.rows.get(node, IDLE);
  }

  /** Busy sandboxes on a node. */
  busy(node: number): number {
    return this.rows.get(node, BUSY);
  }

  /** Distance of the nearest zygote on a node, bare runtimes not counted; NO_ZYGOTE: none. */
  zygoteDistance(node: number): number {
    return this.rows.get(node, ZYGOTE_DISTANCE);
  }

  hasPackages(node: number): boolean {
    return this.installed.get(node, INSTALLED) === 1;
  }

  /** Packages that a node lacks. */
  missingPackages(node: number): number {
    return this.packageCount - this.rows.get(node, PACKAGES_HERE);
  }

  /** Their bytes, as far as they were measured. */
  missingPackageBytes(node: number): number {
    return Math.max(0, this.packageBytes - this.rows.get(node, PACKAGE_BYTES_HERE));
  }

  /** Writes a column of a node. O(1). */
  set(node: number, column: number, value: number): void {
    if (column <= BUSY) this.#sandboxMb[node] = (this.#sandboxMb[node] as number) + (value - this.rows.get(node, column)) * this.settings.memoryMb;
    const change = this.rows.set(node, column, value);
    if (change > 0) (this.#byNode[node] ??= new Set()).add(this);
    else if (change < 0) this.#byNode[node]?.delete(this);
  }

  /** New settings. O(nodes with a row) if sandboxes get another size. */
  replace(settings: FunctionSettings): void {
    const moreMb = settings.memoryMb - this.settings.memoryMb;
    if (moreMb !== 0) for (const node of this.rows.nodes()) this.#sandboxMb[node] = (this.#sandboxMb[node] as number) + (this.idle(node) + this.busy(node)) * moreMb;
    this.settings = settings;
  }

  /** Sets a column back on all nodes. O(nodes with a row). */
  setEverywhere(column: number, value: number): void {
    for (const node of [...this.rows.nodes()]) this.set(node, column, value);
  }

  /** Remembers the node that served a locality key; the oldest key is forgotten beyond 1 024. */
  rememberKey(key: string, node: number): void {
    const keys = (this.keyNodes ??= new Map());
    keys.delete(key);
    keys.set(key, node);
    if (keys.size > MAX_KEYS) for (const oldest of keys.keys()) {
      keys.delete(oldest);
      break;
    }
  }
}

const NO_IDS: readonly string[] = [];

export class FunctionTable {
  readonly entries: FunctionEntry[] = [];
  /** Memory limits of all sandboxes on a node together, MiB, by node. */
  readonly sandboxMb: Float64Array;
  readonly #byName = new Map<string, FunctionEntry>();
  readonly #byPackageSet = new Map<string, Set<FunctionEntry>>();
  /** Places of names that are not deployed, but predicted. */
  readonly #reserved = new Map<string, FunctionEntry>();
  readonly #byNode: (Set<FunctionEntry> | undefined)[] = [];
  readonly #maxNodes: number;
  /** Of functions whose packages nobody has been asked for. */
  readonly #nowhere: NodeRows;

  constructor(maxNodes: number) {
    this.#maxNodes = maxNodes;
    this.sandboxMb = new Float64Array(maxNodes);
    this.#nowhere = new NodeRows(maxNodes, NOT_INSTALLED);
  }

  /** The function of this name, if it is deployed. */
  get(name: string): FunctionEntry | undefined {
    return this.#byName.get(name);
  }

  /** Deploys or replaces. A new version is warm nowhere. */
  put(settings: FunctionSettings): FunctionEntry {
    const known = this.#byName.get(settings.name);
    if (known !== undefined) {
      const changed = known.settings.version !== settings.version;
      if (known.settings.packageSet !== settings.packageSet) {
        this.#unlink(known);
        known.installed = this.#nowhere;
      }
      known.replace(settings);
      if (changed) {
        known.setEverywhere(IDLE, 0);
        known.setEverywhere(BUSY, 0);
      }
      this.#link(known);
      return known;
    }
    const kept = this.#reserved.get(settings.name);
    const entry = kept ?? this.#add(settings);
    this.#reserved.delete(settings.name);
    entry.replace(settings);
    entry.deleted = false;
    this.#byName.set(settings.name, entry);
    this.#link(entry);
    return entry;
  }

  /** The index under which predictions know a function, deployed or not: a place is kept for a name that is not. */
  indexFor(name: string): number {
    const known = this.#byName.get(name) ?? this.#reserved.get(name);
    if (known !== undefined) return known.index;
    const entry = this.#add({ name, version: '', packageSet: '', slaMs: 0, timeoutMs: 0, concurrency: 0, idempotent: false, retries: 0, policy: '', localityKey: '', reuse: false, memoryMb: 0, critical: false });
    entry.deleted = true;
    this.#reserved.set(name, entry);
    return entry.index;
  }

  /** The same for names that may be unknown: -1, and no place is kept. */
  findIndex(name: string): number {
    return (this.#byName.get(name) ?? this.#reserved.get(name))?.index ?? -1;
  }

  /** Names with a place that are not deployed. */
  get reserved(): number {
    return this.#reserved.size;
  }

  delete(name: string): FunctionEntry | undefined {
    const entry = this.#byName.get(name);
    if (entry === undefined) return undefined;
    entry.deleted = true;
    this.#byName.delete(name);
    this.#unlink(entry);
    return entry;
  }

  /** Functions whose packages are this set. */
  withPackageSet(packageSet: string): Iterable<FunctionEntry> {
    return this.#byPackageSet.get(packageSet) ?? [];
  }

  /** Whatever there was of functions on a node is there no more. O(functions with something there), O(functions) in small clusters. */
  forgetNode(node: number): void {
    for (const entry of this.onNode(node)) entry.rows.clear(node);
    this.sandboxMb[node] = 0;
    this.#byNode[node]?.clear();
  }

  /** Functions that have something on a node; in small clusters all. */
  onNode(node: number): Iterable<FunctionEntry> {
    return this.#maxNodes <= DENSE_NODES ? this.entries : (this.#byNode[node] ?? []);
  }

  #add(settings: FunctionSettings): FunctionEntry {
    const entry = new FunctionEntry(this.entries.length, settings, this.#maxNodes, this.#byNode, this.sandboxMb, this.#nowhere);
    this.entries.push(entry);
    return entry;
  }

  #link(entry: FunctionEntry): void {
    const set = this.#byPackageSet.get(entry.settings.packageSet) ?? new Set();
    set.add(entry);
    this.#byPackageSet.set(entry.settings.packageSet, set);
  }

  #unlink(entry: FunctionEntry): void {
    const { packageSet } = entry.settings;
    const set = this.#byPackageSet.get(packageSet);
    if (set?.delete(entry) === true && set.size === 0) this.#byPackageSet.delete(packageSet);
  }
}
