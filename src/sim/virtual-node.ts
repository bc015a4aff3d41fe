/**
 * A node on virtual time: what an agent does with an Execute, in the same order (src/agent/executor.ts), with counters in place of
 * processes and files. Slots, memory, keep-alive, package sets, zygotes, objects, and the contention of what runs at the same time.
 */
import type { Clock, TimerHandle } from '../core/clock.ts';
import type { ErrorRecord } from '../core/errors.ts';
import type { InputObject, Invocation, RunResult } from '../core/invocation.ts';
import { COLD, PACKAGES, WARM, ZYGOTE } from '../predictor/predictor.ts';
import type { FunctionSettings } from '../scheduler/function-table.ts';
import type { Network, Transfer } from './network.ts';
import { Processor, type Host, type Job } from './processor.ts';
import { drawCosts, expectedCosts, outputSizes, slownessOf, type Costs, type FunctionProfile } from './profiles.ts';

/** A function as nodes know it. */
export interface VirtualFunction {
  readonly settings: FunctionSettings;
  readonly profile: FunctionProfile;
}

/** What a node tells. The simulation delivers it with the delay of a message. */
export interface NodeEvents {
  started(node: number, id: string, startState: number): void;
  rejected(node: number, id: string, error: ErrorRecord): void;
  result(node: number, id: string, result: RunResult): void;
  warm(node: number, functionName: string, version: string, idle: number, busy: number): void;
  packages(node: number, packageSet: string, isHere: boolean): void;
  zygote(node: number, packageSet: string, isHere: boolean): void;
  object(node: number, id: string, sizeBytes: number, isHere: boolean): void;
}

/** What the simulation answers nodes. */
export interface NodeWorld {
  readonly clock: Clock;
  readonly network: Network;
  readonly seed: number;
  readonly events: NodeEvents;
  functionOf(name: string): VirtualFunction | undefined;
  /** A node that holds the object and can be asked; -1: nobody. */
  holderOf(object: InputObject, butNot: number): number;
  /** A number of the invocation that is the same under every policy. */
  keyOf(invocation: Invocation): number;
  /** What its run is known to take; undefined: its function's profile says. */
  runMsOf(invocation: Invocation): number | undefined;
  /** The machine that all nodes stand on. @default each has its own */
  readonly host?: Host | undefined;
}

/** What a node has. */
export interface VirtualNodeOptions {
  readonly slots: number;
  readonly cores: number;
  readonly memoryMb: number;
  readonly keepAliveMs: number;
  /** Memory that zygotes may take, MiB; 0: none are kept. */
  readonly zygoteMb: number;
  /** Zygotes take that memory from what sandboxes have, as in an agent (memory-budget.ts): idle sandboxes go for them, they go for sandboxes that work. @default they have it beside them */
  readonly zygotesShareMemory?: boolean;
  readonly objectQuotaBytes: number;
}

/** An idle sandbox. */
interface Idle {
  readonly warmth: Warmth;
  readonly memoryMb: number;
  readonly sinceMs: number;
  /** Runs that it has done. */
  readonly earlierRuns: number;
}

/** The sandboxes of one function. */
interface Warmth {
  readonly name: string;
  version: string;
  /** The last one that became idle is used first: the first one expires first. */
  readonly idle: Idle[];
  busy: number;
  /** Fires when the first one may have expired: one timer for all, however often they are used. */
  timer: TimerHandle;
}

interface Run {
  readonly invocation: Invocation;
  readonly attempt: number;
  readonly of: VirtualFunction;
  readonly acceptedAtMs: number;
  /** That its sandbox did before. */
  readonly earlierRuns: number;
  job: Job | undefined;
  readonly waitingFor: Set<string>;
  startState: number;
  /** The handler was called. */
  isRunning: boolean;
  fetchedBytes: number;
  fetchedMs: number;
  initialisedMs: number;
  /** When the present phase began. */
  phaseAtMs: number;
  over: boolean;
}

interface Fetch {
  readonly transfer: Transfer;
  readonly waiters: Run[];
}

const NO_BYTES = new Uint8Array();
const NOTHING = new Set<string>();
/** A zygote's memory, MiB: a runtime with imports. */
const ZYGOTE_MB = 96;

export class VirtualNode {
  readonly index: number;
  readonly name: string;
  readonly options: VirtualNodeOptions;
  readonly processor: Processor;
  epoch = 1;
  isAlive = true;
  /** It takes work and says nothing (a hang). */
  isHanging = false;
  readonly runs = new Map<string, Run>();
  readonly #world: NodeWorld;
  readonly #warmth = new Map<string, Warmth>();
  /** Idle sandboxes of all functions, the least recently used first. */
  readonly #idle = new Set<Idle>();
  readonly #packages = new Set<string>();
  readonly #installing = new Map<string, (() => void)[]>();
  /** Package sets with a zygote that is ready. */
  readonly #zygotes = new Set<string>();
  /** Objects here by last use, the least recent first. */
  readonly #objects = new Map<string, number>();
  readonly #fetches = new Map<string, Fetch>();
  /** Outputs carry their maker and a number. */
  #made = 0;
  usedMb = 0;
  objectBytes = 0;
  /** Most invocations that ever ran at once; more than slots would be a breach. */
  mostRunning = 0;

  constructor(world: NodeWorld, index: number, name: string, options: VirtualNodeOptions) {
    this.#world = world;
    this.index = index;
    this.name = name;
    this.options = options;
    this.processor = new Processor(world.clock, options.cores, world.host);
  }

  holds(id: string): boolean {
    return this.isAlive && this.#objects.has(id);
  }

  hasPackages(packageSet: string): boolean {
    return this.#packages.has(packageSet);
  }

  idleCount(): number {
    return this.#idle.size;
  }

  /** Everything that a snapshot tells beside what runs. */
  tellAll(): void {
    const { events } = this.#world;
    for (const [name, { version, idle, busy }] of this.#warmth) if (idle.length + busy > 0) events.warm(this.index, name, version, idle.length, busy);
    for (const set of this.#packages) events.packages(this.index, set, true);
    for (const set of this.#zygotes) events.zygote(this.index, set, true);
    for (const [id, sizeBytes] of this.#objects) events.object(this.index, id, sizeBytes, true);
  }

  /** Packages that are here from the beginning. */
  install(packageSet: string): void {
    if (this.#packages.has(packageSet)) return;
    this.#packages.add(packageSet);
    this.#world.events.packages(this.index, packageSet, true);
  }

  /** Idle sandboxes that are here from the beginning, as far as memory allows; they have run often before. */
  warm({ settings }: VirtualFunction, count: number): void {
    const warmth = this.#warmthOf(settings);
    for (let i = 0; i < count && this.usedMb + settings.memoryMb <= this.options.memoryMb; i++) {
      this.usedMb += settings.memoryMb;
      this.#keepIdle(warmth, settings.memoryMb, Infinity);
    }
    this.#tellWarmth(settings);
  }

  /** A zygote that is here from the beginning. */
  keepZygote(packageSet: string): void {
    if (this.#wantsZygote(packageSet)) this.#addZygote(packageSet);
  }

  /** Puts an object here from outside (an upload). */
  put(id: string, sizeBytes: number): void {
    this.#keep(id, sizeBytes);
  }

  // ── the truth, for the oracle (oracle.ts) ─────────────────────────────────────────────────────────────────────

  /**
   * Fetch + initialise + run of an invocation if it came now, at the contention of now, ms. On a full node: in place of one that ends. `seemsWarm`: a busy sandbox may be its.
   * `onTheMean`: not with its own costs, but with those of its function.
   */
  trueExecutionMs(invocation: Invocation, of: VirtualFunction, seemsWarm: boolean, onTheMean = false): number {
    const { network } = this.#world;
    const { settings, profile } = of;
    const costs = onTheMean ? expectedCosts(profile, invocation.inputBytes) : this.#costsOf(invocation, profile, invocation.attempt + 1);
    const missing = invocation.inputs.filter(({ id }) => !this.#objects.has(id) && !this.#fetches.has(id));
    let fetchMs = 0;
    for (const input of invocation.inputs) {
      const fetch = this.#fetches.get(input.id);
      if (fetch !== undefined) fetchMs = Math.max(fetchMs, network.leftMs(fetch.transfer));
    }
    for (const input of missing) {
      const holder = this.#world.holderOf(input, this.index);
      if (holder >= 0) fetchMs = Math.max(fetchMs, input.sizeBytes / network.shareFor(holder, this.index, missing.length));
    }
    const isFull = this.runs.size >= this.options.slots;
    const warmth = this.#warmth.get(settings.name);
    const isWarm = (warmth !== undefined && warmth.version === settings.version && warmth.idle.length > 0) || (isFull && seemsWarm);
    const set = settings.packageSet;
    const startMs = isWarm ? costs.warmMs : this.#zygotes.has(set) ? costs.zygoteMs : costs.startMs;
    const installMs = isWarm || this.#packages.has(set) ? 0 : costs.installMs;
    return fetchMs + (installMs + startMs) / this.processor.rateWith(isFull ? 0 : 1) + (costs.runMs * slownessOf(profile, isWarm ? (warmth?.idle.at(-1)?.earlierRuns ?? Infinity) : 0)) / this.processor.rateWith(isFull ? 0 : profile.cores);
  }

  /** Until a run ends, at the contention of now, ms; undefined: it is not here. */
  trueRemainingMs(id: string): number | undefined {
    const run = this.runs.get(id);
    if (run === undefined) return undefined;
    const { network } = this.#world;
    const { rate } = this.processor;
    const { invocation, of: { settings, profile } } = run;
    if (run.isRunning) return run.job === undefined ? 0 : this.processor.leftMs(run.job) / rate;
    const costs = this.#costsOf(invocation, profile, run.attempt);
    const runMs = (costs.runMs * slownessOf(profile, run.earlierRuns)) / this.processor.rateWith(profile.cores - (run.job === undefined ? 0 : 1));
    if (run.job !== undefined) return this.processor.leftMs(run.job) / rate + runMs;
    let leftMs = 0;
    for (const each of run.waitingFor) {
      const fetch = this.#fetches.get(each);
      if (fetch !== undefined) leftMs = Math.max(leftMs, network.leftMs(fetch.transfer));
    }
    const set = settings.packageSet;
    const startMs = run.startState === WARM ? costs.warmMs : (this.#packages.has(set) ? 0 : costs.installMs) + (this.#zygotes.has(set) ? costs.zygoteMs : costs.startMs);
    return leftMs + startMs / this.processor.rateWith(1) + runMs;
  }

  #costsOf(invocation: Invocation, profile: FunctionProfile, attempt: number, isWarm = false): Costs {
    const drawn = drawCosts(profile, this.#world.seed, this.#world.keyOf(invocation), attempt, invocation.inputBytes, isWarm);
    const runMs = this.#world.runMsOf(invocation);
    return runMs === undefined ? drawn : { ...drawn, runMs };
  }

  // ── one Execute ───────────────────────────────────────────────────────────────────────────────────────────────

  execute(invocation: Invocation, attempt: number): void {
    const { clock, events } = this.#world;
    const { id } = invocation;
    if (!this.isAlive || this.isHanging || this.runs.has(id)) return;
    const of = this.#world.functionOf(invocation.functionName);
    if (of === undefined) return events.rejected(this.index, id, { code: 'FUNCTION_NOT_FOUND', message: `"${invocation.functionName}" is not known here.` });
    if (this.runs.size >= this.options.slots) return events.rejected(this.index, id, { code: 'NODE_FULL', message: `All ${this.options.slots} slots are taken.` });
    const { settings } = of;
    const warmth = this.#warmthOf(settings);
    const isWarm = warmth.idle.length > 0;
    const idle = warmth.idle.pop();
    if (idle !== undefined) this.#idle.delete(idle);
    else if (!this.#takeMemory(settings.memoryMb)) return events.rejected(this.index, id, { code: 'NODE_FULL', message: `${settings.memoryMb} MiB do not fit.` });
    warmth.busy++;
    const run: Run = {
      invocation, attempt, of, acceptedAtMs: clock.nowMs(), earlierRuns: idle?.earlierRuns ?? 0, job: undefined, waitingFor: invocation.inputs.length > 0 ? new Set() : NOTHING, startState: isWarm ? WARM : 0, isRunning: false, fetchedBytes: 0, fetchedMs: 0, initialisedMs: 0, phaseAtMs: clock.nowMs(), over: false,
    };
    this.runs.set(id, run);
    this.mostRunning = Math.max(this.mostRunning, this.runs.size);
    this.#tellWarmth(settings);
    this.#fetch(run);
  }

  cancel(id: string): void {
    const run = this.runs.get(id);
    if (run !== undefined && !this.isHanging) this.#end(run, { code: 'CANCELLED', message: 'The invocation was cancelled.' });
  }

  #fetch(run: Run): void {
    const { network } = this.#world;
    for (const input of run.invocation.inputs) {
      const here = this.#objects.get(input.id);
      if (here !== undefined) {
        this.#objects.delete(input.id); // the most recently used now
        this.#objects.set(input.id, here);
        continue;
      }
      const known = this.#fetches.get(input.id);
      if (known !== undefined) {
        known.waiters.push(run);
        run.waitingFor.add(input.id);
        continue;
      }
      const holder = this.#world.holderOf(input, this.index);
      if (holder < 0) return this.#end(run, { code: 'OBJECT_LOST', message: `The object "${input.id}" could not be had from any holder.` });
      run.fetchedBytes += input.sizeBytes;
      run.waitingFor.add(input.id);
      const waiters = [run];
      this.#fetches.set(input.id, { waiters, transfer: network.start(holder, this.index, input.sizeBytes, () => {
        this.#fetches.delete(input.id);
        this.#keep(input.id, input.sizeBytes);
        for (const waiter of waiters) {
          waiter.waitingFor.delete(input.id);
          if (!waiter.over && waiter.waitingFor.size === 0) this.#initialise(waiter);
        }
      }) });
    }
    if (run.waitingFor.size === 0) this.#initialise(run);
  }

  #phase(run: Run): number {
    const now = this.#world.clock.nowMs();
    const tookMs = now - run.phaseAtMs;
    run.phaseAtMs = now;
    return tookMs;
  }

  #initialise(run: Run): void {
    run.fetchedMs = this.#phase(run);
    const { settings, profile } = run.of;
    const costs = this.#costsOf(run.invocation, profile, run.attempt, run.startState === WARM);
    const begin = (): void => {
      run.initialisedMs += this.#phase(run);
      this.#world.events.started(this.index, run.invocation.id, run.startState);
      run.isRunning = true;
      run.job = this.processor.start(costs.runMs * slownessOf(profile, run.earlierRuns), profile.cores, () => this.#end(run, undefined));
    };
    if (run.startState === WARM) return void (run.job = this.processor.start(costs.warmMs, 1, begin));
    const set = settings.packageSet;
    const start = (): void => {
      if (run.over) return;
      run.initialisedMs += this.#phase(run);
      const fromZygote = this.#takeZygote(set);
      if (run.startState === 0) run.startState = fromZygote ? ZYGOTE : PACKAGES;
      run.job = this.processor.start(fromZygote ? costs.zygoteMs : costs.startMs, 1, () => {
        this.#makeZygote(set, profile);
        begin();
      });
    };
    if (this.#packages.has(set)) return start();
    run.startState = COLD;
    const waiting = this.#installing.get(set);
    if (waiting !== undefined) return void waiting.push(start);
    const waiters = [start];
    this.#installing.set(set, waiters);
    // It goes on for others even if this run is cancelled.
    this.#background(costs.installMs, () => {
      this.#installing.delete(set);
      this.#packages.add(set);
      this.#world.events.packages(this.index, set, true);
      for (const waiter of waiters) waiter();
    });
  }

  /** Work of the node itself; it is dropped when the process dies. */
  #background(workMs: number, done: () => void): void {
    const { epoch } = this;
    this.processor.start(workMs, 1, () => {
      if (this.isAlive && this.epoch === epoch) done();
    });
  }

  #end(run: Run, error: ErrorRecord | undefined): void {
    if (run.over) return;
    run.over = true;
    const { clock, events } = this.#world;
    const { invocation, of } = run;
    const { settings, profile } = of;
    if (run.job !== undefined) this.processor.stop(run.job);
    this.runs.delete(invocation.id);
    const ranMs = error === undefined ? this.#phase(run) : 0;
    const outputs: InputObject[] = [];
    if (error === undefined) {
      for (const sizeBytes of outputSizes(profile.output, invocation.inputBytes)) {
        const id = `${invocation.id}.${run.attempt}.${this.#made++}`;
        this.#keep(id, sizeBytes);
        outputs.push({ id, sizeBytes, digest: '', name: '', holders: [this.name] });
      }
    }
    const warmth = this.#warmthOf(settings);
    warmth.busy--;
    const isKept = error === undefined && settings.reuse && warmth.version === settings.version && this.options.keepAliveMs > 0;
    if (isKept) this.#keepIdle(warmth, settings.memoryMb, run.earlierRuns + 1);
    else this.usedMb -= settings.memoryMb;
    // One that had to go for a sandbox that worked comes again.
    if (this.options.zygotesShareMemory === true) this.#makeZygote(settings.packageSet, profile);
    events.result(this.index, invocation.id, {
      ...(error === undefined ? {} : { error }),
      payload: NO_BYTES, contentType: 'application/json', outputs, fetchedMs: run.fetchedMs, initialisedMs: run.initialisedMs, ranMs, startState: run.startState === 0 ? COLD : run.startState, fetchedBytes: run.fetchedBytes,
      installedMs: 0, startedMs: 0, loadedMs: 0, acceptedAtMs: run.acceptedAtMs, releasedAtMs: clock.nowMs(),
    } as RunResult);
    this.#tellWarmth(settings);
  }

  // ── sandboxes, zygotes, objects ───────────────────────────────────────────────────────────────────────────────

  /** Makes idle sandboxes until there are `count`, as far as memory allows; their start takes CPU like any other. */
  prewarm(of: VirtualFunction, count: number): void {
    if (!this.isAlive) return;
    const { settings, profile } = of;
    const warmth = this.#warmthOf(settings);
    for (let missing = count - warmth.idle.length; missing > 0; missing--) {
      if (this.usedMb + settings.memoryMb > this.options.memoryMb) return;
      this.usedMb += settings.memoryMb;
      warmth.busy++;
      const isHere = this.#packages.has(settings.packageSet);
      this.#background((isHere ? 0 : profile.installMs) + profile.processMs + profile.importMs, () => {
        if (!isHere && !this.#packages.has(settings.packageSet)) {
          this.#packages.add(settings.packageSet);
          this.#world.events.packages(this.index, settings.packageSet, true);
        }
        warmth.busy--;
        this.#keepIdle(warmth, settings.memoryMb, 0);
        this.#tellWarmth(settings);
      });
    }
  }

  /** Ends idle sandboxes of a function, the least recently used first. */
  evictIdle(of: VirtualFunction, count: number): void {
    const warmth = this.#warmthOf(of.settings);
    for (let i = 0; i < count && warmth.idle.length > 0; i++) this.#evict(warmth.idle[0] as Idle);
  }

  #warmthOf(settings: FunctionSettings): Warmth {
    let warmth = this.#warmth.get(settings.name);
    if (warmth === undefined) this.#warmth.set(settings.name, (warmth = { name: settings.name, version: settings.version, idle: [], busy: 0, timer: undefined }));
    return warmth;
  }

  #tellWarmth(settings: FunctionSettings): void {
    const { idle, busy } = this.#warmthOf(settings);
    this.#world.events.warm(this.index, settings.name, settings.version, idle.length, busy);
  }

  /** A sandbox became idle; it is kept as long as that may last. */
  #keepIdle(warmth: Warmth, memoryMb: number, earlierRuns: number): void {
    const { clock } = this.#world;
    const idle: Idle = { warmth, memoryMb, earlierRuns, sinceMs: clock.nowMs() };
    warmth.idle.push(idle);
    this.#idle.add(idle);
    warmth.timer ??= clock.setTimer(idle.sinceMs + this.options.keepAliveMs, () => this.#expire(warmth));
  }

  #expire(warmth: Warmth): void {
    const { clock } = this.#world;
    const { keepAliveMs } = this.options;
    for (let first = warmth.idle[0]; first !== undefined && first.sinceMs + keepAliveMs <= clock.nowMs(); first = warmth.idle[0]) this.#evict(first);
    const first = warmth.idle[0];
    warmth.timer = first === undefined ? undefined : clock.setTimer(first.sinceMs + keepAliveMs, () => this.#expire(warmth));
  }

  #evict(idle: Idle): void {
    const { warmth } = idle;
    if (!this.#idle.delete(idle)) return;
    warmth.idle.splice(warmth.idle.indexOf(idle), 1);
    this.usedMb -= idle.memoryMb;
    const of = this.#world.functionOf(warmth.name);
    if (of !== undefined) this.#tellWarmth(of.settings);
  }

  #takeMemory(needMb: number): boolean {
    while (this.usedMb + needMb > this.options.memoryMb) if (!this.#evictOldest() && !this.#dropZygote()) return false;
    this.usedMb += needMb;
    return true;
  }

  #evictOldest(): boolean {
    const oldest = this.#idle.values().next().value;
    if (oldest === undefined) return false;
    this.#evict(oldest);
    return true;
  }

  /** After a start without one: a zygote of these packages is made in the background, as far as memory allows. */
  #makeZygote(set: string, profile: FunctionProfile): void {
    if (this.#wantsZygote(set)) this.#background(profile.processMs + profile.importMs, () => this.#addZygote(set));
  }

  #wantsZygote(set: string): boolean {
    return !this.#zygotes.has(set) && ZYGOTE_MB * (this.#zygotes.size + 1) <= this.options.zygoteMb;
  }

  #addZygote(set: string): void {
    if (this.#zygotes.has(set)) return;
    if (this.options.zygotesShareMemory === true) {
      while (this.usedMb + ZYGOTE_MB > this.options.memoryMb) if (!this.#evictOldest()) return;
      this.usedMb += ZYGOTE_MB;
    }
    this.#zygotes.add(set);
    this.#world.events.zygote(this.index, set, true);
  }

  /** The oldest one goes; false: there is none, or that would not help. */
  #dropZygote(): boolean {
    const [oldest] = this.#zygotes;
    if (oldest === undefined || this.options.zygotesShareMemory !== true) return false;
    this.#takeZygote(oldest);
    return true;
  }

  /** It became a sandbox, or goes. False: there is none. */
  #takeZygote(set: string): boolean {
    if (!this.#zygotes.delete(set)) return false;
    if (this.options.zygotesShareMemory === true) this.usedMb -= ZYGOTE_MB;
    this.#world.events.zygote(this.index, set, false);
    return true;
  }

  #keep(id: string, sizeBytes: number): void {
    if (this.#objects.has(id)) return;
    this.#objects.set(id, sizeBytes);
    this.objectBytes += sizeBytes;
    this.#world.events.object(this.index, id, sizeBytes, true);
    for (const [oldest, bytes] of this.#objects) {
      if (this.objectBytes <= this.options.objectQuotaBytes || oldest === id) break;
      this.#objects.delete(oldest);
      this.objectBytes -= bytes;
      this.#world.events.object(this.index, oldest, bytes, false);
    }
  }

  // ── faults ────────────────────────────────────────────────────────────────────────────────────────────────────

  /** The process is gone with all that it had in memory; packages and objects stay on its disk. */
  die(): void {
    this.isAlive = false;
    for (const run of this.runs.values()) {
      run.over = true;
      if (run.job !== undefined) this.processor.stop(run.job);
    }
    this.runs.clear();
    for (const { transfer } of this.#fetches.values()) this.#world.network.stop(transfer);
    this.#fetches.clear();
    this.#installing.clear();
    for (const { timer } of this.#warmth.values()) this.#world.clock.clearTimer(timer);
    this.#warmth.clear();
    this.#idle.clear();
    this.#zygotes.clear();
    this.usedMb = 0;
  }

  /** A new process on the same disk. */
  comeBack(): void {
    this.isAlive = true;
    this.isHanging = false;
    this.epoch++;
  }

  /** Tells that so many sandboxes of each of its functions are idle and none is busy, whatever is true; the next change tells the truth again. */
  lie(idle = 0): void {
    for (const [name, { version }] of this.#warmth) this.#world.events.warm(this.index, name, version, idle, 0);
  }

  /** Its idle sandboxes die. */
  loseWarm(): void {
    for (const idle of [...this.#idle]) this.#evict(idle);
  }

  /** Its objects are gone (a lost disk). */
  loseData(): void {
    for (const [id, sizeBytes] of this.#objects) this.#world.events.object(this.index, id, sizeBytes, false);
    this.#objects.clear();
    this.objectBytes = 0;
  }
}
