/**
 * The zygotes of a node: which kinds it keeps, and who gets one. A start that is not warm asks here first; it takes the nearest zygote
 * that can serve it, and is noted as demand. Zygotes are made afterwards, in the background: the plan (zygote-plan.ts) says which, one
 * is made at a time, and only when the node has the time for it. They give up their memory when something is worth more (MemoryBudget).
 */
import { NO_ZYGOTE } from '../../core/zygote-distance.ts';
import { createSystemClock, type Clock, type TimerHandle } from '../../core/clock.ts';
import { MetronomeError } from '../../core/errors.ts';
import type { ZygoteState } from '../../rpc/gen/metronome/v1/agent.ts';
import type { AgentLog } from '../agent-options.ts';
import type { ProgramSource } from '../packages/program-cache.ts';
import type { ProgramLease } from '../program.ts';
import type { MemoryBudget, Reclaimable } from '../sandbox/memory-budget.ts';
import type { Isolation, Sandbox, SandboxDriver, SandboxSpec, Zygote, ZygoteTraits } from '../sandbox/sandbox-driver.ts';
import { ZygoteKind, kindKey } from './zygote-kind.ts';
import { planZygotes } from './zygote-plan.ts';

/** Options of the keeper. */
export interface ZygoteKeeperOptions {
  readonly driver: SandboxDriver;
  readonly budget: MemoryBudget;
  /** What all zygotes together may take, MiB. */
  readonly limitMb: number;
  /** Ready zygotes of one kind where each serves once, 1 to 64. */
  readonly stock: number;
  /** Code and packages if they are here, else undefined: nothing is installed for a zygote alone. */
  readonly tryAcquire: (source: ProgramSource) => ProgramLease | undefined;
  /** Whether making a zygote now would take nothing from what runs. */
  readonly hasTime: () => boolean;
  /** Zygotes of a kind came or went; what is ready now. */
  readonly onChange: (key: string, state: ZygoteState) => void;
  readonly log: AgentLog;
  /** @default the system's */
  readonly clock?: Clock;
}

/** A sandbox that came of a zygote. */
export interface ZygoteStart {
  readonly sandbox: Sandbox;
  /** 0: all that the function imports was there; near 1: only the runtime was. */
  readonly distance: number;
}

/** A zygote with what it holds. */
interface Kept {
  readonly zygote: Zygote;
  readonly kind: ZygoteKind;
  /** Keeps its layer in place. */
  readonly program: ProgramLease | undefined;
  state: 'starting' | 'ready' | 'ended';
  /** Of the budget, MiB. */
  mb: number;
  /** Sandboxes that came of it and live. */
  children: number;
  isGone: boolean;
}

/** Kinds that are remembered; the one with the least demand is forgotten. */
const MAX_KINDS = 64;
/** Functions whose kind is remembered for `evict`. */
const MAX_FUNCTIONS = 10_000;
/** Functions that no zygote can serve, remembered so that none is made for them in vain. */
const MAX_UNFIT = 1_024;
/** Measured imports that are remembered; beyond it they are measured anew. */
const MAX_IMPORTS = 16_384;
/** From a start that succeeded to the making of zygotes for it: others may come meanwhile. */
const PLAN_AFTER_MS = 200;
/** How often it is looked whether the node has time. */
const LOOK_AGAIN_MS = 250;
/** Without any start the plan is made again so often, for demand fades. */
const REPLAN_MS = 60_000;
/** A plan older than this says too little of what is worth its memory. */
const STALE_PLAN_MS = 10_000;
/** After one that had no room, or whose packages were not here. */
const NO_ROOM_RETRY_MS = 10_000;
/** After one that failed; twice as long after each further failure. */
const FIRST_RETRY_MS = 30_000;
const LAST_RETRY_MS = 3_600_000;
/** From here on a start with a zygote takes as long as one without. */
const LIKE_COLD = 0.9;
const WHY_ENDED = new MetronomeError('CANCELLED', 'The zygote was not worth its memory any more.', { component: 'agent' });

export class ZygoteKeeper {
  readonly #options: ZygoteKeeperOptions;
  readonly #clock: Clock;
  readonly #kinds = new Map<string, ZygoteKind>();
  readonly #kept = new Set<Kept>();
  /** The kinds worth keeping, best first. */
  #plan: readonly ZygoteKind[] = [];
  #plannedAtMs = -Infinity;
  /** Of all that zygotes imported lately, ms. */
  readonly #importMs = new Map<string, number>();
  /** Key of the kind that each function asked for last. */
  readonly #kindOfFunction = new Map<string, string>();
  readonly #unfit = new Set<string>();
  #timer: TimerHandle;
  #timerAtMs = Infinity;
  #isClosed = false;

  constructor(options: ZygoteKeeperOptions) {
    this.#options = options;
    this.#clock = options.clock ?? createSystemClock();
    options.budget.add({
      reclaimableMb: () => this.#sum((kept) => (isReclaimable(kept) ? kept.mb : 0)),
      least: () => this.#least(),
    });
  }

  /** Zygotes that are ready. */
  get count(): number {
    return this.#sum(({ state }) => (state === 'ready' ? 1 : 0));
  }

  /** Resident memory of all zygotes at the last look, MiB. */
  get residentMb(): number {
    return this.#sum(({ zygote }) => zygote.rssBytes) / 1024 ** 2;
  }

  /** A sandbox from the nearest zygote; undefined: none is of use. Either way the start counts as demand. */
  take(spec: SandboxSpec, source: ProgramSource): ZygoteStart | undefined {
    const demand = this.#kindOf(spec, source);
    if (demand === undefined || this.#unfit.has(fitnessOf(spec))) return undefined;
    demand.starts.add(this.#clock.nowMs());
    let nearest: Kept | undefined;
    let distance: number = NO_ZYGOTE;
    for (const kept of this.#kept) {
      if (kept.state !== 'ready') continue;
      const far = kept.kind.distanceTo(demand, this.#importMsOf);
      if (far >= distance) continue;
      if (kept.zygote.canServe(spec)) {
        nearest = kept;
        distance = far;
      } else if (kept.kind === demand && kept.zygote.isAlive && spec.memoryMb <= kept.zygote.spec.memoryMb) this.#noteUnfit(spec);
    }
    if (nearest === undefined) return undefined;
    const { zygote } = nearest;
    const sandbox = zygote.specialise(spec);
    nearest.kind.failures = 0;
    nearest.children++;
    void sandbox.gone.then(() => this.#childGone(nearest));
    if (zygote.traits.isConsumed) this.#ended(nearest);
    return { sandbox, distance };
  }

  /** A start that asked here succeeded. `distance`: of the zygote that it took; undefined: none. */
  started(spec: SandboxSpec, source: ProgramSource, tookMs: number, distance: number | undefined): void {
    this.#wake(PLAN_AFTER_MS);
    if (distance !== undefined && distance < LIKE_COLD) return;
    const kind = this.#kindOf(spec, source);
    kind?.sawColdStart(tookMs);
    // Its packages are here now, if that was the reason.
    if (kind?.failures === 0) kind.notBeforeMs = 0;
  }

  /** Makes zygotes for a function until `count` are ready, as far as memory that nobody uses allows. Returns how many there are. */
  async prewarm(spec: SandboxSpec, source: ProgramSource, count: number): Promise<number> {
    const kind = this.#kindOf(spec, source);
    if (kind === undefined) throw new MetronomeError('INVALID_REQUEST', `This node keeps no zygotes for ${spec.runtime} (agent.zygotes, agent.isolation).`, { component: 'agent' });
    const wanted = kind.traits.isConsumed ? count : 1;
    kind.starts.add(this.#clock.nowMs());
    kind.failures = kind.notBeforeMs = 0;
    let failure: unknown;
    while (failure === undefined && this.#of(kind, 'ready', 'starting').length < wanted) {
      const made = this.#make(kind, 0);
      if (made === undefined) break;
      await made.zygote.ready.catch((error: unknown) => (failure = error));
    }
    await Promise.allSettled(this.#of(kind, 'starting').map(({ zygote }) => zygote.ready));
    const ready = this.#of(kind, 'ready').length;
    if (ready === 0 && failure !== undefined) throw failure;
    this.#replan();
    return ready;
  }

  /**
   * Ends zygotes with the packages of a function ('': all zygotes), the least worth first; `count` 0: all of them. They are not made
   * again before there is new demand. Returns how many.
   */
  evict(functionName: string, count: number): number {
    const most = count === 0 ? Infinity : count;
    const key = this.#kindOfFunction.get(functionName);
    const ready = [...this.#kept].filter((kept) => kept.state === 'ready' && (functionName === '' || kept.kind.key === key)).sort((a, b) => a.kind.worth - b.kind.worth).slice(0, most);
    for (const kept of ready) {
      this.#kinds.delete(kept.kind.key);
      this.#end(kept);
    }
    this.#replan();
    return ready.length;
  }

  /** The layer of a package set is no more (its packages were damaged): neither are zygotes that have it loaded. */
  layerRetired(packageSet: string): void {
    for (const kept of [...this.#kept]) if (kept.state !== 'ended' && !kept.kind.isBare && kept.kind.packageSet === packageSet) this.#end(kept);
  }

  /** What is ready, by kind. */
  states(): ZygoteState[] {
    return [...new Set([...this.#kept].filter(({ state }) => state === 'ready').map(({ kind }) => kind))].map((kind) => this.#stateOf(kind));
  }

  /** Ends all zygotes; none is made any more. */
  close(): void {
    this.#isClosed = true;
    this.#clock.clearTimer(this.#timer);
    for (const kept of [...this.#kept]) this.#end(kept);
  }

  #stateOf(kind: ZygoteKind): ZygoteState {
    const ready = this.#of(kind, 'ready');
    const imports = [...kind.imports];
    return {
      packageSet: kind.packageSet, idle: ready.length, packages: imports.map(([id]) => id), runtime: kind.runtime, importMs: imports.map(([, ms]) => ms ?? 0), residentBytes: ready.reduce((sum, { zygote }) => sum + zygote.rssBytes, 0),
      isolation: kind.isolation, defaultIsolation: kind.isolation === this.#options.driver.isolations[0], sameSet: kind.traits.needsSameLayer, function: kind.functionName ?? '', network: kind.network,
    };
  }

  // ── demand ──────────────────────────────────────────────────────────────────────────────────────────────────────

  /** The kind of a start, made if need be; its bare runtime with it. Undefined when its runtime has no zygotes here. */
  #kindOf(spec: SandboxSpec, source: ProgramSource): ZygoteKind | undefined {
    const { driver } = this.#options;
    const isolation = spec.isolation === '' ? driver.isolations[0] : spec.isolation;
    const traits = isolation === undefined ? undefined : driver.zygoteTraits(spec.runtime, isolation);
    if (isolation === undefined || traits === undefined || this.#isClosed) return undefined;
    const kind = this.#kind(spec, isolation, traits, source);
    if (this.#kindOfFunction.size >= MAX_FUNCTIONS) this.#kindOfFunction.clear();
    this.#kindOfFunction.set(spec.functionName, kind.key);
    if (spec.layer !== undefined && !traits.needsSameLayer) this.#kind({ ...spec, layer: undefined }, isolation, traits, source);
    return kind;
  }

  #kind(spec: SandboxSpec, isolation: Isolation, traits: ZygoteTraits, source: ProgramSource): ZygoteKind {
    const key = kindKey(spec, isolation, traits);
    const known = this.#kinds.get(key);
    if (known !== undefined) {
      known.memoryMb = Math.max(known.memoryMb, spec.memoryMb);
      return known;
    }
    if (this.#kinds.size >= MAX_KINDS) this.#forgetLeast();
    const kind = new ZygoteKind(spec, isolation, traits, source);
    this.#kinds.set(key, kind);
    return kind;
  }

  #forgetLeast(): void {
    const nowMs = this.#clock.nowMs();
    let least: ZygoteKind | undefined;
    for (const kind of this.#kinds.values()) if (least === undefined || kind.starts.perSecond(nowMs) < least.starts.perSecond(nowMs)) least = kind;
    if (least === undefined) return;
    this.#kinds.delete(least.key);
    for (const kept of this.#of(least, 'starting', 'ready')) this.#end(kept);
  }

  /** Its environment, or something else of its own, needs a fresh process. */
  #noteUnfit(spec: SandboxSpec): void {
    if (this.#unfit.size >= MAX_UNFIT) this.#unfit.clear();
    this.#unfit.add(fitnessOf(spec));
  }

  readonly #importMsOf = (id: string): number | undefined => this.#importMs.get(id);

  #noteImports(importMs: ReadonlyMap<string, number | undefined>): void {
    // Only what some kind has is of interest.
    if (this.#importMs.size > MAX_IMPORTS) this.#importMs.clear();
    for (const [id, ms] of importMs) if (ms !== undefined) this.#importMs.set(id, ms);
  }

  // ── which are kept ──────────────────────────────────────────────────────────────────────────────────────────────

  #replan(): void {
    const nowMs = this.#clock.nowMs();
    this.#plannedAtMs = nowMs;
    const kinds = [...this.#kinds.values()];
    const items = kinds.map((kind) => ({ startsPerS: kind.starts.perSecond(nowMs), coldMs: kind.coldMs, mb: kind.residentMb, isKept: this.#of(kind, 'starting', 'ready').length > 0 }));
    const choices = planZygotes(items, (demand, zygote) => (kinds[zygote] as ZygoteKind).distanceTo(kinds[demand] as ZygoteKind, this.#importMsOf), this.#options.limitMb);
    for (const kind of kinds) kind.worth = 0;
    this.#plan = choices.map(({ index, worth }) => {
      const kind = kinds[index] as ZygoteKind;
      kind.worth = worth;
      return kind;
    });
  }

  /** Ends what is not worth keeping, or too small for a function that came since. */
  #endOthers(): void {
    for (const kept of [...this.#kept]) {
      const { kind, zygote, state } = kept;
      if (state !== 'ended' && (kind.worth === 0 || this.#kinds.get(kind.key) !== kind || zygote.spec.memoryMb < kind.memoryMb)) this.#end(kept);
    }
  }

  /** What to make next: one of each kind, the best first, then more of those that are used up; undefined: all is there. */
  #next(nowMs: number): ZygoteKind | undefined {
    const most = this.#options.stock;
    for (let copies = 1; copies <= most; copies++) {
      for (const kind of this.#plan) {
        if (kind.notBeforeMs > nowMs || (copies > 1 && !kind.traits.isConsumed)) continue;
        if (this.#of(kind, 'starting', 'ready').length < copies) return kind;
      }
    }
    return undefined;
  }

  #work(): void {
    this.#timerAtMs = Infinity;
    if (this.#isClosed) return;
    const nowMs = this.#clock.nowMs();
    this.#replan();
    this.#endOthers();
    const next = this.#next(nowMs);
    if (next === undefined) return this.#wake(REPLAN_MS);
    // One at a time: its imports keep a core busy. When it is ready, the next is looked for.
    if (this.#sum(({ state }) => (state === 'starting' ? 1 : 0)) > 0) return;
    if (!this.#options.hasTime()) return this.#wake(LOOK_AGAIN_MS);
    if (this.#make(next, next.worth) !== undefined) return;
    next.notBeforeMs = nowMs + NO_ROOM_RETRY_MS;
    this.#wake(0);
  }

  /** Begins to make one; undefined when there is no memory for it, or its packages are not here. `worth`: of what may have to go for it. */
  #make(kind: ZygoteKind, worth: number): Kept | undefined {
    const { driver, budget, limitMb, tryAcquire, log } = this.#options;
    const mb = kind.residentMb;
    if (this.#isClosed || this.#sum((kept) => kept.mb) + mb > limitMb) return undefined;
    const program = kind.isBare ? undefined : tryAcquire(kind.source);
    if (!kind.isBare && program?.layer === undefined) {
      program?.release();
      return undefined;
    }
    if (!(worth > 0 ? budget.take(mb, worth) : budget.takeFree(mb))) {
      program?.release();
      return undefined;
    }
    const zygote = driver.createZygote({ runtime: kind.runtime, isolation: kind.isolation, layer: program?.layer, memoryMb: kind.memoryMb, network: kind.network, functionName: kind.functionName });
    if (zygote === undefined) {
      budget.giveBack(mb);
      program?.release();
      return undefined;
    }
    const kept: Kept = { zygote, kind, program, state: 'starting', mb, children: 0, isGone: false };
    this.#kept.add(kept);
    void zygote.gone.then(() => {
      kept.isGone = true;
      // It ended by itself after it was ready, and the next may do the same.
      if (kept.state === 'ready') this.#retryLater(kind);
      this.#ended(kept);
      this.#tidy(kept);
    });
    zygote.ready.then(
      () => this.#isReady(kept),
      (error: unknown) => {
        // One that was told to end has not failed.
        if (kept.state !== 'starting') return;
        log.warn({ zygote: zygote.id, runtime: kind.runtime, packageSet: kind.packageSet, error: MetronomeError.from(error).message }, 'zygote.failed');
        this.#end(kept);
        this.#retryLater(kind);
      },
    );
    return kept;
  }

  #isReady(kept: Kept): void {
    if (kept.state !== 'starting') return;
    const { kind, zygote } = kept;
    const { budget, limitMb } = this.#options;
    kind.imported(zygote.importMs);
    this.#noteImports(kind.imports);
    const mb = Math.max(1, Math.ceil(zygote.rssBytes / 1024 ** 2));
    kind.residentMb = mb;
    const moreMb = mb - kept.mb;
    if (moreMb > 0 && (this.#sum((each) => each.mb) + moreMb > limitMb || !budget.take(moreMb, Math.max(kind.worth, Number.MIN_VALUE)))) {
      // It is larger than was thought, and there is no room for that.
      this.#end(kept);
      return this.#retryLater(kind);
    }
    if (moreMb < 0) budget.giveBack(-moreMb);
    kept.mb = mb;
    kept.state = 'ready';
    this.#options.onChange(kind.key, this.#stateOf(kind));
    this.#wake(0);
  }

  #retryLater(kind: ZygoteKind): void {
    const waitMs = Math.min(LAST_RETRY_MS, FIRST_RETRY_MS * 2 ** kind.failures++);
    kind.notBeforeMs = this.#clock.nowMs() + waitMs;
    this.#wake(waitMs);
  }

  // ── how they end ────────────────────────────────────────────────────────────────────────────────────────────────

  #least(): Reclaimable | undefined {
    if (this.#clock.nowMs() - this.#plannedAtMs > STALE_PLAN_MS) this.#replan();
    let least: Kept | undefined;
    for (const kept of this.#kept) if (isReclaimable(kept) && (least === undefined || kept.kind.worth < least.kind.worth)) least = kept;
    return least === undefined ? undefined : { worth: least.kind.worth, give: () => this.#end(least) };
  }

  #end(kept: Kept): void {
    if (kept.state === 'ended') return;
    this.#ended(kept);
    void kept.zygote.kill(WHY_ENDED);
  }

  /** It serves nobody any more. */
  #ended(kept: Kept): void {
    if (kept.state === 'ended') return;
    const wasReady = kept.state === 'ready';
    kept.state = 'ended';
    // One that forks stays as long as its children live.
    if (kept.zygote.traits.isConsumed || kept.children === 0 || kept.isGone) this.#giveBack(kept);
    if (wasReady) this.#options.onChange(kept.kind.key, this.#stateOf(kept.kind));
    this.#wake(PLAN_AFTER_MS);
  }

  #childGone(kept: Kept): void {
    kept.children--;
    this.#tidy(kept);
  }

  #giveBack(kept: Kept): void {
    this.#options.budget.giveBack(kept.mb);
    kept.mb = 0;
  }

  /** Lets go of all that nobody uses any more. */
  #tidy(kept: Kept): void {
    if (!kept.isGone) return;
    this.#giveBack(kept);
    if (kept.children > 0 || !this.#kept.delete(kept)) return;
    kept.program?.release();
  }

  #wake(inMs: number): void {
    const atMs = this.#clock.nowMs() + inMs;
    if (this.#isClosed || atMs >= this.#timerAtMs) return;
    this.#clock.clearTimer(this.#timer);
    this.#timerAtMs = atMs;
    this.#timer = this.#clock.setTimer(atMs, () => this.#work());
  }

  #of(kind: ZygoteKind, ...states: readonly Kept['state'][]): Kept[] {
    return [...this.#kept].filter((kept) => kept.kind === kind && states.includes(kept.state));
  }

  #sum(of: (kept: Kept) => number): number {
    let sum = 0;
    for (const kept of this.#kept) sum += of(kept);
    return sum;
  }
}

/** Its memory comes back when it is ended. */
function isReclaimable({ state, children }: Kept): boolean {
  return state !== 'ended' && children === 0;
}

/** Functions of one name and environment are fit for a zygote, or not. */
function fitnessOf({ functionName, env }: SandboxSpec): string {
  return `${functionName}\0${Object.keys(env).join('\0')}`;
}
