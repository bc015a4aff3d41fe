/** One driver for every kind of isolation: keeps the sandboxes and zygotes of an agent, looks at their memory, removes their directories. */
import type { ChildProcess } from 'node:child_process';
import { mkdirSync, readdirSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { MetronomeError } from '../../core/errors.ts';
import type { AgentLog } from '../agent-options.ts';
import type { Containment, LaunchPlan, Places } from './containment.ts';
import { ForkServer } from './fork-server.ts';
import { GIVE_UP_MS, LiveSandbox, newSandboxId, type Born, type SandboxHost } from './live-sandbox.ts';
import { NodeStem } from './node-stem.ts';
import { isRunning, killNow, processesWithEnvironment, startTimeOf } from './proc.ts';
import type { Sandbox, SandboxDriver, SandboxSpec, Zygote, ZygoteSpec, ZygoteTraits } from './sandbox-driver.ts';
import { isReadAtStart, nodeArguments, pythonArguments } from './runtimes.ts';
import { SandboxProcess, readRecord, type ProcessOwner } from './sandbox-process.ts';
import type { ZygoteHost } from './zygote-life.ts';

/** What the driver needs. */
export interface ContainedDriverOptions {
  readonly containment: Containment;
  /** Folder for the private directories; nothing else is in it. */
  readonly dir: string;
  /** Finds the Python interpreter; asked when the first Python function starts. Rejects with SANDBOX_FAILED if there is none. */
  readonly python: () => Promise<string>;
  readonly log: AgentLog;
  /** How long loading a handler, or the packages of a zygote, may take, ms. @default 60000 */
  readonly loadTimeoutMs?: number;
}

/** How often the memory of busy sandboxes is looked at, ms. */
const WATCH_EVERY_MS = 50;
/** Idle ones and zygotes are looked at only in every so many of these looks. */
const WATCH_IDLE_EVERY = 20;

/** Makes the driver. */
export function createContainedDriver(options: ContainedDriverOptions): SandboxDriver {
  return new ContainedDriver(options);
}

class ContainedDriver implements SandboxDriver, SandboxHost, ZygoteHost {
  readonly isolations;
  readonly limited;
  readonly containment: Containment;
  readonly dir: string;
  readonly log: AgentLog;
  readonly loadTimeoutMs: number;
  readonly python: () => Promise<string>;
  readonly #sandboxes = new Set<LiveSandbox>();
  readonly #zygotes = new Set<NodeStem | ForkServer>();
  readonly #removals = new Set<Promise<void>>();
  #watch: NodeJS.Timeout | undefined;
  #looks = 0;
  #settled: (() => void)[] = [];
  #closed = false;

  constructor(options: ContainedDriverOptions) {
    this.containment = options.containment;
    this.isolations = [options.containment.isolation];
    this.limited = options.containment.isLimited ? this.isolations : [];
    this.dir = options.dir;
    this.log = options.log;
    this.loadTimeoutMs = options.loadTimeoutMs ?? 60_000;
    this.python = options.python;
    mkdirSync(options.dir, { recursive: true });
  }

  create(spec: SandboxSpec): Sandbox {
    const id = newSandboxId();
    const places = this.containment.places(this.dir, id, undefined);
    return this.keep(new LiveSandbox(this, spec, { id, places, isOfZygote: false, born: (owner) => this.#spawn(spec, places, owner) }));
  }

  #spawn(spec: SandboxSpec, places: Places, owner: ProcessOwner): Born | Promise<Born> {
    const { functionName, runtime, layer, memoryMb, cpu, network } = spec;
    const launch = (interpreter: string): Born | Promise<never> => {
      this.containment.prepare(places, 'single');
      const args = runtime === 'node' ? nodeArguments(memoryMb) : pythonArguments();
      const env = this.environment(spec, places, interpreter);
      const passed = this.containment.passesEnvironment ? env : this.environment({ functionName, env: Object.fromEntries(Object.entries(spec.env).filter(([name]) => isReadAtStart(name))) }, places, interpreter);
      const child = this.launch({ places, interpreter, args, env: passed, channel: 'frames', layer, memoryMb, cpu, network });
      if (child instanceof Promise) return child;
      return { process: SandboxProcess.spawned(child, this.containment, owner), adoption: passed === env ? undefined : { env, workDir: places.homeDir, loaded: {} } };
    };
    // Without a turn in between where that can be: Node needs no look-up.
    return runtime === 'node' ? launch(process.execPath) : this.python().then(launch);
  }

  launch(plan: LaunchPlan): (ChildProcess & { readonly pid: number }) | Promise<never> {
    const child = this.containment.launch(plan);
    const failed = new Promise<never>((_resolve, reject) => {
      child.on('error', (error) => reject(new MetronomeError('SANDBOX_FAILED', `The process of the sandbox could not be started: ${error.message}`, { component: 'agent', cause: error })));
    });
    failed.catch(() => {}); // errors of a process that did start (a kill that failed) change nothing
    return hasPid(child) ? child : failed;
  }

  environment({ functionName, env }: Pick<SandboxSpec, 'functionName' | 'env'>, { dir, homeDir, tmpDir }: Places, interpreter: string): Record<string, string> {
    return {
      PATH: `${dirname(interpreter)}:/usr/local/bin:/usr/bin:/bin`,
      LANG: 'C.UTF-8',
      TMPDIR: tmpDir,
      ...env,
      HOME: homeDir,
      METRONOME_FUNCTION: functionName,
      METRONOME_SANDBOX: dir,
    };
  }

  keep(sandbox: LiveSandbox): LiveSandbox {
    this.#sandboxes.add(sandbox);
    this.#watchOn();
    if (this.#closed) void sandbox.kill(new MetronomeError('DRAINING', 'The agent is shutting down.'));
    return sandbox;
  }

  zygoteTraits(runtime: 'node' | 'python3'): ZygoteTraits {
    return this.containment.zygoteTraits(runtime);
  }

  createZygote(spec: ZygoteSpec): Zygote {
    const zygote = spec.runtime === 'node' ? new NodeStem(this, spec) : new ForkServer(this, spec);
    this.#zygotes.add(zygote);
    this.#watchOn();
    if (this.#closed) void zygote.kill(new MetronomeError('DRAINING', 'The agent is shutting down.'));
    return zygote;
  }

  afterReads(settle: () => void): void {
    this.#settled.push(settle);
    if (this.#settled.length > 1) return;
    setImmediate(() => {
      const all = this.#settled;
      this.#settled = [];
      for (const each of all) each();
    });
  }

  forget(sandbox: LiveSandbox): void {
    this.#sandboxes.delete(sandbox);
    this.#watchOff();
    this.#remove(sandbox.places);
  }

  forgetZygote(zygote: NodeStem | ForkServer, places: Places | undefined): void {
    this.#zygotes.delete(zygote);
    this.#watchOff();
    if (places !== undefined) this.#remove(places);
  }

  #remove(places: Places): void {
    const removal = this.containment.remove(places).catch((error: unknown) => {
      this.log.warn({ dir: places.dir, error: String(error) }, 'sandbox.removeFailed');
    });
    this.#removals.add(removal);
    void removal.then(() => this.#removals.delete(removal));
  }

  #watchOn(): void {
    this.#watch ??= setInterval(() => this.#look(), WATCH_EVERY_MS).unref();
  }

  #watchOff(): void {
    if (this.#sandboxes.size > 0 || this.#zygotes.size > 0) return;
    clearInterval(this.#watch);
    this.#watch = undefined;
  }

  #look(): void {
    const all = this.#looks++ % WATCH_IDLE_EVERY === 0;
    for (const sandbox of this.#sandboxes) sandbox.look(all);
    if (all) for (const zygote of this.#zygotes) zygote.look();
  }

  async sweep(): Promise<void> {
    const { dir, log } = this;
    const found = new Set<number>();
    for (const name of readdirSync(dir)) {
      const record = readRecord(join(dir, name));
      // The start time tells a left-over from an unrelated process that got the same pid since.
      if (record !== undefined && startTimeOf(record.pid) === record.startTime) {
        killNow(-record.pid);
        found.add(record.pid);
      }
    }
    for (const pid of processesWithEnvironment(`METRONOME_SANDBOX=${dir}/`)) found.add(pid);
    for (const pid of found) killNow(pid);
    await this.containment.sweep();
    if (found.size > 0) log.warn({ pids: [...found] }, 'sandboxes.swept');
    for (let waitedMs = 0; waitedMs < GIVE_UP_MS && [...found].some(isRunning); waitedMs += 10) await new Promise((resolve) => setTimeout(resolve, 10));
    await Promise.all(readdirSync(dir).map((name) => rm(join(dir, name), { recursive: true, force: true, maxRetries: 3 })));
  }

  async close(): Promise<void> {
    this.#closed = true;
    const reason = new MetronomeError('CANCELLED', 'The agent is shutting down.', { component: 'agent' });
    await Promise.all([...this.#sandboxes, ...this.#zygotes].map((each) => each.kill(reason)));
    // What left its session on purpose (a daemon made by a function) still carries the marker.
    for (const pid of processesWithEnvironment(`METRONOME_SANDBOX=${this.dir}/`)) killNow(pid);
    await Promise.all(this.#removals);
    await this.containment.close();
    clearInterval(this.#watch);
  }
}

function hasPid(child: ChildProcess): child is ChildProcess & { readonly pid: number } {
  return child.pid !== undefined;
}
