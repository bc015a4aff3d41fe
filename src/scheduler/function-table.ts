/** The functions as the scheduler needs them: limits, and where each is warm, has a zygote or has its packages. */
import { NO_ZYGOTE, type ImportNeed } from '../core/zygote-distance.ts';
import type { FunctionProfile } from '../predictor/predictor.ts';

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

/** Keys remembered per function for locality hints. */
const MAX_KEYS = 1_024;

export class FunctionEntry {
  readonly index: number;
  settings: FunctionSettings;
  deleted = false;
  /** Invocations of it that are dispatched. */
  running = 0;
  /** Most of them at once since a policy asked. */
  peak = 0;
  /** Grows when it became warm somewhere: waiters look again. */
  generation = 0;
  readonly keyNodes = new Map<string, number>();
  readonly idle: Int16Array;
  readonly busy: Int16Array;
  /** Distance of the nearest zygote on each node, bare runtimes not counted; NO_ZYGOTE: none. Written by ZygoteIndex. */
  readonly zygoteDistance: Float32Array;
  /** 1 where a bare runtime is ready for it; shared by all functions of its runtime and isolation. */
  bare: Uint8Array;
  /** Its distance from a bare runtime. */
  bareDistance: number = NO_ZYGOTE;
  /** Under which ZygoteIndex finds it. */
  zygoteKeys: readonly string[] = [];
  /** 1 where its package set is installed. Written by PackageIndex, like all below. */
  readonly packages: Uint8Array;
  /** Packages that a node lacks, and their bytes. */
  readonly missingPackages: Int32Array;
  readonly missingPackageBytes: Float64Array;
  /** Bytes of all its packages, as far as some node has measured them. */
  packageBytes = 0;
  /** Under which PackageIndex finds it. */
  packageIds: readonly string[] = [];
  /** 1 where a node does not offer the isolation that it asks for; shared by all functions that ask for it. Set by the scheduler. */
  unable: Uint8Array;

  constructor(index: number, settings: FunctionSettings, maxNodes: number) {
    this.index = index;
    this.settings = settings;
    this.idle = new Int16Array(maxNodes);
    this.busy = new Int16Array(maxNodes);
    this.zygoteDistance = new Float32Array(maxNodes).fill(NO_ZYGOTE);
    this.bare = new Uint8Array(maxNodes);
    this.packages = new Uint8Array(maxNodes);
    this.missingPackages = new Int32Array(maxNodes);
    this.missingPackageBytes = new Float64Array(maxNodes);
    this.unable = new Uint8Array(maxNodes);
  }

  /** Remembers the node that served a locality key; the oldest key is forgotten beyond 1 024. */
  rememberKey(key: string, node: number): void {
    this.keyNodes.delete(key);
    this.keyNodes.set(key, node);
    if (this.keyNodes.size > MAX_KEYS) for (const oldest of this.keyNodes.keys()) {
      this.keyNodes.delete(oldest);
      break;
    }
  }

  /** Nothing of it is on the node any more; of zygotes and single packages their indexes are told. */
  forgetNode(node: number): void {
    this.idle[node] = 0;
    this.busy[node] = 0;
    this.packages[node] = 0;
  }
}

export class FunctionTable {
  readonly entries: FunctionEntry[] = [];
  readonly #byName = new Map<string, FunctionEntry>();
  readonly #byPackageSet = new Map<string, Set<FunctionEntry>>();
  /** Places of names that are not deployed, but predicted. */
  readonly #reserved = new Map<string, FunctionEntry>();
  readonly #maxNodes: number;

  constructor(maxNodes: number) {
    this.#maxNodes = maxNodes;
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
        this.#byPackageSet.get(known.settings.packageSet)?.delete(known);
        known.packages.fill(0);
      }
      known.settings = settings;
      if (changed) {
        known.idle.fill(0);
        known.busy.fill(0);
      }
      this.#link(known);
      return known;
    }
    const kept = this.#reserved.get(settings.name);
    const entry = kept ?? this.#add(settings);
    this.#reserved.delete(settings.name);
    entry.settings = settings;
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
    this.#byPackageSet.get(entry.settings.packageSet)?.delete(entry);
    return entry;
  }

  /** Functions whose packages are this set. */
  withPackageSet(packageSet: string): Iterable<FunctionEntry> {
    return this.#byPackageSet.get(packageSet) ?? [];
  }

  #add(settings: FunctionSettings): FunctionEntry {
    const entry = new FunctionEntry(this.entries.length, settings, this.#maxNodes);
    this.entries.push(entry);
    return entry;
  }

  #link(entry: FunctionEntry): void {
    const set = this.#byPackageSet.get(entry.settings.packageSet) ?? new Set();
    set.add(entry);
    this.#byPackageSet.set(entry.settings.packageSet, set);
  }
}
