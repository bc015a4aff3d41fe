/**
 * A kind of zygotes, and at the same time the demand for it: one for each package set of the functions that started here, and one for
 * each bare runtime. Kinds form a tree by what they have imported: the bare runtime serves every function of its runtime, a set serves
 * functions with the same packages and, where isolation allows it, those that have some more.
 */
import { BARE_DISTANCE, NO_ZYGOTE, importId, importNeedOf, zygoteDistance, type ImportNeed } from '../../core/zygote-distance.ts';
import type { ProgramSource } from '../packages/program-cache.ts';
import type { Isolation, SandboxSpec, ZygoteTraits } from '../sandbox/sandbox-driver.ts';
import { UseRate } from '../sandbox/use-rate.ts';

/** What a zygote takes until one was measured, MiB. */
const FIRST_GUESS_MB = { bare: 48, packages: 96 } as const;
/** A cold start before any was measured, and the start of a process in it, ms. */
const FIRST_GUESS_MS = 100, PROCESS_MS = 30;
/** Weight of a new cold start in the average. */
const COLD_WEIGHT = 0.3;

export class ZygoteKind {
  readonly key: string;
  readonly runtime: 'node' | 'python3';
  readonly isolation: Isolation;
  /** Whether its functions may use the network; always true where that is not enforced. */
  readonly network: boolean;
  readonly traits: ZygoteTraits;
  /** The only function that it serves; undefined: any. */
  readonly functionName: string | undefined;
  /** '': the bare runtime. */
  readonly packageSet: string;
  readonly need: ImportNeed;
  /** A function that has exactly these packages: where the layer comes from. */
  readonly source: ProgramSource;
  /** Largest memory limit of the functions that asked for it, MiB. */
  memoryMb: number;
  /** Starts that were not warm. */
  readonly starts = new UseRate();
  /** What one of its zygotes takes, MiB. */
  residentMb: number;
  /** Ids of what its zygotes have imported, with the time that it took, ms. Until one was made: its direct packages, not measured. */
  imports: ReadonlyMap<string, number | undefined>;
  /** ms saved per second and MiB, by the last plan; 0: not worth its memory. */
  worth = 0;
  /** Zygotes in a row that could not be made, and when the next may be tried. */
  failures = 0;
  notBeforeMs = 0;
  #measuredColdMs = 0;
  readonly #subtrees: ReadonlySet<string>;
  readonly #directSubtrees: readonly string[];
  readonly #idOf: ReadonlyMap<string, string>;
  #loaded: ReadonlySet<string>;

  constructor(spec: SandboxSpec, isolation: Isolation, traits: ZygoteTraits, source: ProgramSource) {
    const packages = spec.layer?.packages ?? [];
    const direct = packages.filter(({ isDirect }) => isDirect);
    this.key = kindKey(spec, isolation, traits);
    this.runtime = spec.runtime;
    this.isolation = isolation;
    this.network = networkOf(spec, isolation);
    this.traits = traits;
    this.functionName = traits.isPerFunction ? spec.functionName : undefined;
    this.packageSet = spec.layer?.digest ?? '';
    this.need = importNeedOf(packages.map(({ name, version, isDirect }) => ({ name, version, direct: isDirect })));
    this.source = source;
    this.memoryMb = spec.memoryMb;
    this.residentMb = direct.length === 0 ? FIRST_GUESS_MB.bare : FIRST_GUESS_MB.packages;
    this.#subtrees = new Set(packages.map(({ subtree }) => subtree));
    this.#directSubtrees = direct.map(({ subtree }) => subtree);
    this.#idOf = new Map(direct.map(({ id, name, version }) => [id, importId(name, version)]));
    this.imports = new Map(direct.map(({ name, version }) => [importId(name, version), undefined]));
    this.#loaded = new Set(this.imports.keys());
  }

  get isBare(): boolean {
    return this.packageSet === '';
  }

  /** What a start takes without any zygote, packages being there, ms: as measured, or as the imports of a zygote took, or a guess. */
  get coldMs(): number {
    if (this.#measuredColdMs > 0) return this.#measuredColdMs;
    let importMs = 0;
    for (const ms of this.imports.values()) importMs += ms ?? 0;
    return importMs > 0 ? PROCESS_MS + importMs : FIRST_GUESS_MS;
  }

  /** A zygote of it is ready: what it really imported. */
  imported(importMs: ReadonlyMap<string, number>): void {
    const imports = new Map<string, number>();
    for (const [id, ms] of importMs) imports.set(this.#idOf.get(id) ?? id, ms);
    this.imports = imports;
    this.#loaded = new Set(imports.keys());
  }

  /** A sandbox started without any help, or next to none. */
  sawColdStart(tookMs: number): void {
    this.#measuredColdMs = this.#measuredColdMs === 0 ? tookMs : this.#measuredColdMs + COLD_WEIGHT * (tookMs - this.#measuredColdMs);
  }

  /** How far its zygotes are from functions of another kind, or of its own. */
  distanceTo(demand: ZygoteKind, importMsOf: (id: string) => number | undefined): number {
    if (demand.runtime !== this.runtime || demand.isolation !== this.isolation || demand.network !== this.network || demand.memoryMb > this.memoryMb) return NO_ZYGOTE;
    if (this.functionName !== undefined && this.functionName !== demand.functionName) return NO_ZYGOTE;
    if (demand.packageSet === this.packageSet) return 0;
    if (this.traits.needsSameLayer) return NO_ZYGOTE;
    if (this.isBare) return BARE_DISTANCE;
    return this.#directSubtrees.every((subtree) => demand.#subtrees.has(subtree)) ? zygoteDistance(demand.need, this.#loaded, importMsOf) : NO_ZYGOTE;
  }
}

/** Under which kind a start counts. */
export function kindKey(spec: SandboxSpec, isolation: Isolation, traits: ZygoteTraits): string {
  const { runtime, functionName, layer } = spec;
  return `${runtime}/${isolation}/${networkOf(spec, isolation) ? 'network' : 'alone'}/${layer?.digest ?? ''}/${traits.isPerFunction ? functionName : ''}`;
}

function networkOf({ network }: SandboxSpec, isolation: Isolation): boolean {
  return isolation === 'process' || network;
}
