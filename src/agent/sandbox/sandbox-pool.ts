/**
 * The sandboxes of one node: idle ones by function for warm starts, all of them within a memory budget. A place in it is
 * leased for one invocation; whether it is warm shows at the lease, before any time was spent.
 *
 * Rules: the sandbox that was used last is used first; an idle one goes when its keep-alive policy says so, when memory is needed
 * (the order is the policy's), when its function has a newer version, or when told to. Work is never killed to make room.
 */
import { createSystemClock, type Clock, type TimerHandle } from '../../core/clock.ts';
import { MetronomeError } from '../../core/errors.ts';
import type { WarmState } from '../../rpc/gen/metronome/v1/agent.ts';
import type { FunctionMessage, FunctionSpec } from '../../rpc/gen/metronome/v1/function.ts';
import type { ProgramLease } from '../program.ts';
import type { IdleFacts, KeepAlivePolicy } from './keep-alive/keep-alive.ts';
import type { MemoryBudget, Reclaimable } from './memory-budget.ts';
import { isolationNamed, type Sandbox, type SandboxDriver, type SandboxSpec } from './sandbox-driver.ts';
import { UseRate } from './use-rate.ts';
import type { ZygoteKeeper } from '../zygotes/zygote-keeper.ts';

/** A deployed function whose spec is there. */
export interface Deployed extends FunctionMessage {
  readonly spec: FunctionSpec;
}

/** Options of the pool. */
export interface SandboxPoolOptions {
  readonly driver: SandboxDriver;
  readonly budget: MemoryBudget;
  /** Undefined: every start that is not warm begins with a process of its own. */
  readonly zygotes?: Pick<ZygoteKeeper, 'take' | 'started'>;
  readonly keepAlive: KeepAlivePolicy;
  readonly maxResultBytes: number;
  readonly logBytes: number;
  /** The counts of a function changed. `isUrgent`: somebody may want to know at once (a sandbox became idle or went). */
  readonly onChange: (functionName: string, isUrgent: boolean) => void;
  /** @default the system's */
  readonly clock?: Clock;
}

/** A place for one invocation. Give it back with `release`, whatever happened. */
export interface SandboxLease {
  readonly deployed: Deployed;
  /** There from the beginning when it is warm; otherwise from `start` on. */
  sandbox: Sandbox | undefined;
  readonly isWarm: boolean;
  /** Of the zygote that the sandbox came of; undefined: of none. */
  zygoteDistance: number | undefined;
}

/** What is known of one version of one function. */
interface Version {
  readonly deployed: Deployed;
  /** By last use, the most recent last. */
  readonly idle: Idle[];
  /** Leases that are out, starting ones included. */
  busy: number;
  /** Leases since it has sandboxes here. */
  uses: number;
  readonly rate: UseRate;
  /** Moving average of what starts took, ms. */
  costMs: number;
}

interface Idle {
  readonly sandbox: Sandbox;
  readonly sinceMs: number;
  readonly untilMs: number;
  /** By the keep-alive policy. */
  readonly rank: number;
}

const WHY_EVICTED = new MetronomeError('CANCELLED', 'The idle sandbox was evicted.', { component: 'agent' });
/** Weight of a new start in the average cost. */
const COST_WEIGHT = 0.3;

export class SandboxPool {
  readonly #options: SandboxPoolOptions;
  /** The newest version of each function that was seen, and older ones while they still run. */
  readonly #versions = new Map<string, Version>();
  readonly #newest = new Map<string, Version>();
  readonly #all = new Set<Sandbox>();
  readonly #clock: Clock;
  #idleCount = 0;
  #idleMb = 0;
  #timer: TimerHandle;
  #timerAtMs = Infinity;
  #isClosed = false;

  constructor(options: SandboxPoolOptions) {
    this.#options = options;
    this.#clock = options.clock ?? createSystemClock();
    options.budget.add({ reclaimableMb: () => this.#idleMb, least: () => this.#least() });
  }

  get idleCount(): number {
    return this.#idleCount;
  }

  /** Resident memory of all sandboxes at the last look, MiB. */
  get residentMb(): number {
    let bytes = 0;
    for (const sandbox of this.#all) bytes += sandbox.rssBytes;
    return bytes / 1024 ** 2;
  }

  /** A place for an invocation, or why there is none. Takes an idle sandbox if there is one, else memory for a new one. */
  lease(deployed: Deployed): SandboxLease | { readonly refusal: string } {
    const version = this.#versionOf(deployed);
    const { name, memoryMb } = deployed.spec;
    let idle = version.idle.pop();
    while (idle !== undefined && !idle.sandbox.isAlive) {
      this.#lost(version);
      idle = version.idle.pop();
    }
    const { budget } = this.#options;
    if (idle !== undefined) {
      this.#idleCount--;
      this.#idleMb -= memoryMb;
    } else if (!budget.take(memoryMb)) {
      this.#dropIfUnused(version);
      return { refusal: `"${name}" needs ${memoryMb} MiB; ${budget.boundMb} of ${budget.totalMb} MiB are taken by sandboxes that work (agent.memory).` };
    }
    version.busy++;
    version.uses++;
    version.rate.add(this.#clock.nowMs());
    this.#options.onChange(name, false);
    return { deployed, sandbox: idle?.sandbox, isWarm: idle !== undefined, zygoteDistance: undefined };
  }

  /**
   * Makes the sandbox of a lease that is not warm, from the nearest zygote if one is of use. Resolves when the handler is loaded;
   * `release` is due either way. What may be killed in the meantime is `lease.sandbox`; `isWanted` is asked before there is another one.
   */
  async start(lease: SandboxLease, program: ProgramLease, isWanted = (): boolean => true): Promise<void> {
    const { deployed } = lease;
    const { driver, zygotes } = this.#options;
    const spec = this.specOf(deployed, program);
    const startedAt = this.#clock.nowMs();
    const come = zygotes?.take(spec, deployed);
    lease.zygoteDistance = come?.distance;
    try {
      const sandbox = this.#adopt(lease, come?.sandbox ?? driver.create(spec));
      try {
        await sandbox.ready;
      } catch (error) {
        // The zygote broke, not the function: it gets a process of its own.
        if (come === undefined || !(error instanceof MetronomeError) || error.code !== 'SANDBOX_FAILED') throw error;
        await sandbox.gone;
        if (!isWanted()) throw error;
        lease.zygoteDistance = undefined;
        await this.#adopt(lease, driver.create(spec)).ready;
      }
    } finally {
      const { sandbox } = lease;
      if (sandbox === undefined) program.release();
      else void sandbox.gone.then(() => program.release());
    }
    const version = this.#versions.get(keyOf(deployed)) as Version; // it is kept while a lease is out
    const tookMs = this.#clock.nowMs() - startedAt;
    version.costMs = version.costMs === 0 ? tookMs : version.costMs + COST_WEIGHT * (tookMs - version.costMs);
    zygotes?.started(spec, deployed, tookMs, lease.zygoteDistance);
  }

  /** What a sandbox of this function is made from. */
  specOf({ spec }: Deployed, program: ProgramLease): SandboxSpec {
    return {
      functionName: spec.name,
      runtime: spec.runtime === 'python3' ? 'python3' : 'node',
      isolation: isolationNamed(spec.isolation),
      bundleDir: program.dir,
      layer: program.layer,
      handler: spec.handler,
      memoryMb: spec.memoryMb,
      cpu: spec.cpu,
      network: spec.network,
      env: spec.env,
      maxResultBytes: this.#options.maxResultBytes,
      logBytes: this.#options.logBytes,
    };
  }

  #adopt(lease: SandboxLease, sandbox: Sandbox): Sandbox {
    lease.sandbox = sandbox;
    this.#all.add(sandbox);
    void sandbox.gone.then(() => this.#gone(sandbox, lease.deployed));
    return sandbox;
  }

  /** Gives a place back. A living sandbox is kept for the next one if the function, its version and the pool allow it. */
  release(lease: SandboxLease): void {
    const { deployed, sandbox } = lease;
    const { spec } = deployed;
    const version = this.#versions.get(keyOf(deployed)) as Version; // it is kept while a lease is out
    version.busy--;
    const { keepAlive, budget } = this.#options;
    const sinceMs = this.#clock.nowMs();
    const facts: IdleFacts = { sinceMs, sizeMb: spec.memoryMb, costMs: version.costMs, uses: version.uses, functionKeepMs: spec.keepAliveMs };
    const untilMs = keepAlive.untilMs(facts);
    const isNewest = this.#newest.get(spec.name) === version;
    if (sandbox !== undefined && sandbox.isAlive && spec.reuse && isNewest && untilMs > sinceMs && !this.#isClosed) {
      version.idle.push({ sandbox, sinceMs, untilMs, rank: keepAlive.rank(facts) });
      this.#idleCount++;
      this.#idleMb += spec.memoryMb;
      this.#arm(untilMs);
    } else {
      budget.giveBack(spec.memoryMb);
      void sandbox?.kill(WHY_EVICTED);
      this.#dropIfUnused(version);
    }
    this.#options.onChange(spec.name, true);
  }

  /** Makes idle sandboxes until `count` are there, as far as memory allows. Returns how many there are. */
  async prewarm(deployed: Deployed, count: number, bundle: () => Promise<ProgramLease>): Promise<number> {
    const version = this.#versionOf(deployed);
    const leases: SandboxLease[] = [];
    for (let missing = count - version.idle.length; missing > 0; missing--) {
      // Not lease(): that would take the idle ones. Nor are idle ones of others driven out for a guess.
      if (!this.#options.budget.takeFree(deployed.spec.memoryMb)) break;
      version.busy++;
      leases.push({ deployed, sandbox: undefined, isWarm: false, zygoteDistance: undefined });
    }
    const outcomes = await Promise.allSettled(
      leases.map(async (lease) => {
        try {
          await this.start(lease, await bundle());
        } finally {
          this.release(lease);
        }
      }),
    );
    const failed = outcomes.find((outcome) => outcome.status === 'rejected');
    const idle = this.#newest.get(deployed.spec.name)?.idle.length ?? 0;
    if (failed !== undefined && idle === 0) throw failed.reason;
    this.#dropIfUnused(version);
    return idle;
  }

  /** Ends idle sandboxes of a function ('' : of all), the least recently used first; `count` 0: all. Returns how many. */
  evict(functionName: string, count: number): number {
    const most = count === 0 ? Infinity : count;
    let evicted = 0;
    for (; evicted < most; evicted++) {
      const oldest = this.#first((version) => functionName === '' || version.deployed.spec.name === functionName, ({ sinceMs }) => sinceMs);
      if (oldest === undefined) break;
      this.#evict(oldest.version, oldest.idle);
    }
    return evicted;
  }

  /** Counts of a function's newest version; all zero if there is nothing of it. */
  warmOf(functionName: string): WarmState {
    const version = this.#newest.get(functionName);
    return { function: functionName, version: version?.deployed.version ?? '', idle: version?.idle.length ?? 0, busy: version?.busy ?? 0 };
  }

  /** Counts of all functions that have sandboxes. */
  warm(): WarmState[] {
    return Array.from(this.#newest.keys(), (name) => this.warmOf(name));
  }

  /** Ends all idle sandboxes; leases that are given back from now on end theirs. */
  close(): void {
    this.#isClosed = true;
    this.#clock.clearTimer(this.#timer);
    this.evict('', 0);
  }

  #versionOf(deployed: Deployed): Version {
    const key = keyOf(deployed);
    let version = this.#versions.get(key);
    if (version === undefined) {
      version = { deployed, idle: [], busy: 0, uses: 0, rate: new UseRate(), costMs: 0 };
      this.#versions.set(key, version);
    }
    const { name } = deployed.spec;
    const newest = this.#newest.get(name);
    if (newest === undefined || (newest !== version && deployed.appliedAtUnixMs >= newest.deployed.appliedAtUnixMs)) {
      this.#newest.set(name, version);
      if (newest !== undefined) {
        while (newest.idle.length > 0) this.#evict(newest, newest.idle[0] as Idle);
        this.#dropIfUnused(newest);
      }
    }
    return version;
  }

  #dropIfUnused(version: Version): void {
    if (version.busy > 0 || version.idle.length > 0) return;
    const { deployed } = version;
    if (this.#versions.get(keyOf(deployed)) === version) this.#versions.delete(keyOf(deployed));
    if (this.#newest.get(deployed.spec.name) === version) this.#newest.delete(deployed.spec.name);
  }

  /** What the policy gives up first. Its worth is that of the least of its function's idle ones: of three, each serves a third of the use. */
  #least(): Reclaimable | undefined {
    const first = this.#first(() => true, ({ rank }) => rank);
    if (first === undefined) return undefined;
    const { version, idle } = first;
    return {
      worth: (version.rate.perSecond(this.#clock.nowMs()) * version.costMs) / (version.deployed.spec.memoryMb * version.idle.length),
      give: () => {
        this.#options.keepAlive.drivenOut(idle.rank);
        this.#evict(version, idle);
      },
    };
  }

  /** The idle one of some versions that is first by `by`, then by time. */
  #first(which: (version: Version) => boolean, by: (idle: Idle) => number): { readonly version: Version; readonly idle: Idle } | undefined {
    let first: { readonly version: Version; readonly idle: Idle } | undefined;
    for (const version of this.#versions.values()) {
      if (!which(version)) continue;
      for (const idle of version.idle) {
        if (first === undefined || by(idle) < by(first.idle) || (by(idle) === by(first.idle) && idle.sinceMs < first.idle.sinceMs)) first = { version, idle };
      }
    }
    return first;
  }

  #evict(version: Version, idle: Idle): void {
    version.idle.splice(version.idle.indexOf(idle), 1);
    this.#lost(version);
    void idle.sandbox.kill(WHY_EVICTED);
  }

  /** An idle sandbox that is out of its list already is no more. */
  #lost(version: Version): void {
    const { memoryMb } = version.deployed.spec;
    this.#idleCount--;
    this.#idleMb -= memoryMb;
    this.#options.budget.giveBack(memoryMb);
    this.#dropIfUnused(version);
    this.#options.onChange(version.deployed.spec.name, true);
  }

  #gone(sandbox: Sandbox, deployed: Deployed): void {
    this.#all.delete(sandbox);
    const version = this.#versions.get(keyOf(deployed));
    const idle = version?.idle.find((candidate) => candidate.sandbox === sandbox);
    // It died while it was idle: nobody else takes it out.
    if (version === undefined || idle === undefined) return;
    version.idle.splice(version.idle.indexOf(idle), 1);
    this.#lost(version);
  }

  #arm(atMs: number): void {
    if (atMs >= this.#timerAtMs) return;
    this.#clock.clearTimer(this.#timer);
    this.#timerAtMs = atMs;
    this.#timer = this.#clock.setTimer(atMs, () => this.#expire());
  }

  #expire(): void {
    this.#timerAtMs = Infinity;
    const nowMs = this.#clock.nowMs();
    let nextMs = Infinity;
    for (const version of [...this.#versions.values()]) {
      // All idle ones of a version have the same keep-alive: the first to come is the first to go.
      while (version.idle.length > 0 && (version.idle[0] as Idle).untilMs <= nowMs) this.#evict(version, version.idle[0] as Idle);
      nextMs = Math.min(nextMs, version.idle[0]?.untilMs ?? Infinity);
    }
    this.#arm(nextMs);
  }
}

function keyOf(deployed: Deployed): string {
  return `${deployed.spec.name}@${deployed.version}`;
}
