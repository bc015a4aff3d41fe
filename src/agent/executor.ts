/**
 * The centre of the agent: one Execute from its arrival to its Result.
 *
 *   lease a slot and a sandbox → Accepted → fetch the inputs → start the sandbox (unless warm) → Started → run → store the
 *   outputs → release slot and sandbox → Result
 *
 * Whatever happens after Accepted ends in exactly one Result, sent in the turn in which the slot becomes free. The warm path
 * without objects does no file work, parses no payload and makes no timer that it does not need.
 */
import { constants } from 'node:fs';
import { lstat, mkdir, open, readdir, rename, rm, rmdir } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { MetronomeError } from '../core/errors.ts';
import type { DispatchEvent, Execute } from '../rpc/gen/metronome/v1/agent.ts';
import { StartState, type ObjectRef } from '../rpc/gen/metronome/v1/common.ts';
import type { FunctionMessage } from '../rpc/gen/metronome/v1/function.ts';
import { toErrorDetail } from '../rpc/status.ts';
import type { AgentLog } from './agent-options.ts';
import type { ProgramCache } from './packages/program-cache.ts';
import { handOver } from './objects/hand-over.ts';
import { untilAborted, type ObjectFetcher } from './objects/object-fetch.ts';
import type { ObjectStore } from './objects/object-store.ts';
import type { ProgramLease } from './program.ts';
import { removeTrees } from './remove-trees.ts';
import type { Sandbox, SandboxInput, SandboxOutcome } from './sandbox/sandbox-driver.ts';
import type { Deployed, SandboxLease, SandboxPool } from './sandbox/sandbox-pool.ts';

/** Where events go. */
export interface EventSink {
  /** Accepted, Started: may wait a moment for company. Rejected goes at once. */
  lifeSign(event: DispatchEvent, isUrgent: boolean): void;
  /** The one Result of an invocation; kept until it is acknowledged. */
  result(event: DispatchEvent, attempt: number): void;
  /** A kept result of this id and attempt is sent again; false if there is none. */
  resend(invocationId: string, attempt: number): boolean;
}

/** What the executor works with. */
export interface ExecutorOptions {
  readonly slots: number;
  readonly pool: SandboxPool;
  readonly programs: ProgramCache;
  readonly store: ObjectStore;
  readonly fetcher: ObjectFetcher;
  readonly events: EventSink;
  readonly log: AgentLog;
  /** A slot became free or was taken. */
  readonly onSlots: (released: boolean) => void;
}

/** Function definitions that are remembered; a version that was forgotten comes again with the next stream. */
const MAX_DEFINITIONS = 4_096;
const MAX_OUTPUTS = 1_024;
const PARALLEL_FETCHES = 4;
const MAX_TIMER_MS = 2_147_483_647;

/** An invocation that runs here. */
interface Running {
  readonly command: Execute;
  readonly lease: SandboxLease;
  readonly acceptedAtMs: number;
  /** Set once, by the first that ends it before its time. */
  cause: MetronomeError | undefined;
  /** Made when something slow is awaited that is not the sandbox. */
  abort: AbortController | undefined;
  /** The sandbox of the lease works for this invocation (starts or runs): it must be killed to end it. */
  isSandboxAtWork: boolean;
  isStarted: boolean;
}

/** Times and sizes for the Result. */
interface Measured {
  fetchedMs: number;
  initialisedMs: number;
  installedMs: number;
  startedMs: number;
  loadedMs: number;
  ranMs: number;
  startState: StartState;
  zygoteDistance: number;
  fetchedBytes: number;
}

const unixNow = (): number => performance.timeOrigin + performance.now();

export class Executor {
  readonly #options: ExecutorOptions;
  readonly #running = new Map<string, Running>();
  readonly #definitions = new Map<string, Deployed>();
  #idle: (() => void)[] = [];
  #directories = 0;
  #refusal: MetronomeError | undefined;

  constructor(options: ExecutorOptions) {
    this.#options = options;
  }

  get runningCount(): number {
    return this.#running.size;
  }

  runningIds(): string[] {
    return [...this.#running.keys()];
  }

  /** Takes no more work: everything is rejected with this. What runs goes on. */
  refuse(error: MetronomeError): void {
    this.#refusal = error;
  }

  /** Resolves when nothing runs. */
  whenIdle(): Promise<void> {
    return this.#running.size === 0 ? Promise.resolve() : new Promise((resolve) => this.#idle.push(resolve));
  }

  /** Remembers what a function is. Undefined if the message has no spec. */
  define(message: FunctionMessage): Deployed | undefined {
    const { spec } = message;
    if (spec === undefined) return undefined;
    const deployed: Deployed = { ...message, spec };
    const key = `${spec.name}@${message.version}`;
    this.#definitions.delete(key);
    this.#definitions.set(key, deployed);
    if (this.#definitions.size > MAX_DEFINITIONS) for (const oldest of this.#definitions.keys()) {
      this.#definitions.delete(oldest);
      break;
    }
    return deployed;
  }

  /** An Execute arrived. */
  execute(command: Execute): void {
    const { invocationId: id, attempt } = command;
    const known = command.definition === undefined ? undefined : this.define(command.definition);
    if (this.#running.has(id)) return; // delivered again: its result is on its way
    if (this.#options.events.resend(id, attempt)) return;
    if (this.#refusal !== undefined) return this.#reject(id, this.#refusal.code, this.#refusal.message);
    if (this.#running.size >= this.#options.slots) return this.#reject(id, 'NODE_FULL', `All ${this.#options.slots} slots are taken.`);
    const deployed = known ?? this.#definitions.get(`${command.function}@${command.version}`);
    if (deployed === undefined) return this.#reject(id, 'FUNCTION_NOT_FOUND', `The definition of "${command.function}" version ${command.version} was not sent on this stream.`);
    const lease = this.#options.pool.lease(deployed);
    if ('refusal' in lease) return this.#reject(id, 'NODE_FULL', lease.refusal);
    const running: Running = { command, lease, acceptedAtMs: unixNow(), cause: undefined, abort: undefined, isSandboxAtWork: false, isStarted: false };
    this.#running.set(id, running);
    this.#options.onSlots(false);
    this.#options.events.lifeSign({ invocationId: id, accepted: { atUnixMs: running.acceptedAtMs } }, false);
    // It reports every failure as a Result; what comes here is a defect.
    this.#run(running).catch((error: unknown) => this.#options.log.error({ invocationId: id, error: MetronomeError.from(error).message }, 'execution.defect'));
  }

  /** Ends an invocation; harmless for one that does not run (any more). */
  cancel(id: string, reason = new MetronomeError('CANCELLED', 'The invocation was cancelled.', { component: 'agent' })): void {
    const running = this.#running.get(id);
    if (running !== undefined) this.#end(running, reason);
  }

  /** Ends all that runs. */
  cancelAll(reason: MetronomeError): void {
    for (const running of [...this.#running.values()]) this.#end(running, reason);
  }

  #end(running: Running, reason: MetronomeError): void {
    if (running.cause !== undefined) return;
    running.cause = reason;
    running.abort?.abort(reason);
    if (running.isSandboxAtWork) void running.lease.sandbox?.kill(reason);
  }

  #reject(invocationId: string, code: string, message: string): void {
    this.#options.events.lifeSign({ invocationId, rejected: { code, message } }, true);
  }

  async #run(running: Running): Promise<void> {
    const { command, lease } = running;
    const measured: Measured = { fetchedMs: 0, initialisedMs: 0, installedMs: 0, startedMs: 0, loadedMs: 0, ranMs: 0, startState: lease.isWarm ? StartState.WARM : StartState.UNSPECIFIED, zygoteDistance: 0, fetchedBytes: 0 };
    const pinned: string[] = [];
    const directories: string[] = [];
    let outputs: ObjectRef[] = [];
    let outcome: SandboxOutcome | undefined;
    let error: MetronomeError | undefined;
    const deadlineTimer = command.deadlineUnixMs > 0 ? this.#endAt(running, command.deadlineUnixMs - unixNow(), () => new MetronomeError('DEADLINE_EXCEEDED', 'The deadline passed while the node worked on the invocation.', { component: 'agent' })) : undefined;
    // Its workflow run may need them again: they stay when this invocation lets go of them.
    if (command.owner !== '' && command.inputs.length > 0) this.#options.store.retain(command.owner, command.inputs.map(({ id }) => id), command.ownerTtlMs);
    try {
      if (command.inputs.length > 0) await this.#fetchInputs(running, measured, pinned);
      if (!lease.isWarm) await this.#startSandbox(running, measured);
      const sandbox = lease.sandbox as Sandbox; // warm, or started just now
      const inputs = command.inputs.length > 0 ? await this.#stageInputs(running, sandbox, measured, directories) : [];
      if (running.cause !== undefined) throw running.cause;
      outcome = await this.#runHandler(running, sandbox, inputs, measured);
      if (outcome.kind === 'threw') {
        const { type, message } = outcome.error;
        error = new MetronomeError('FUNCTION_FAILED', `The function "${command.function}" threw ${type}: ${message}`, { component: 'function', functionError: outcome.error });
      } else if (outcome.hasOutputs) {
        const storingAt = performance.now();
        outputs = await this.#storeOutputs(running, sandbox);
        measured.ranMs += performance.now() - storingAt;
      }
    } catch (thrown) {
      error = running.cause ?? MetronomeError.from(thrown);
    }
    // While it has its slot, so that what fails in quick succession does not write faster than it is removed.
    if (error !== undefined && running.isStarted && lease.sandbox?.isAlive === true) await this.#discardOutputs(lease.sandbox);
    clearTimeout(deadlineTimer);
    for (const id of pinned) this.#options.store.unpin(id);
    const logs = lease.sandbox?.takeLogs();
    this.#running.delete(command.invocationId);
    this.#options.pool.release(lease);
    const releasedAtUnixMs = unixNow();
    const success = error === undefined && outcome?.kind === 'returned' ? outcome : undefined;
    this.#options.events.result(
      {
        invocationId: command.invocationId,
        result: {
          error: error === undefined ? undefined : toErrorDetail({ ...error.toRecord(), component: error.extras.component ?? 'agent', invocationId: command.invocationId }),
          payload: success?.payload ?? EMPTY,
          contentType: success?.contentType ?? '',
          outputs,
          ...measured,
          logs,
          acceptedAtUnixMs: running.acceptedAtMs,
          releasedAtUnixMs,
        },
      },
      command.attempt,
    );
    this.#options.onSlots(true);
    // Paths are never used twice, so nobody waits for the cleaning.
    for (const directory of directories) rm(directory, { recursive: true, force: true }).catch(() => {}); // goes with the sandbox's directory
    if (this.#running.size === 0 && this.#idle.length > 0) {
      for (const resolve of this.#idle) resolve();
      this.#idle = [];
    }
  }

  #endAt(running: Running, inMs: number, reason: () => MetronomeError): NodeJS.Timeout {
    return setTimeout(() => this.#end(running, reason()), Math.min(MAX_TIMER_MS, Math.max(0, Math.ceil(inMs))));
  }

  #signalOf(running: Running): AbortSignal {
    running.abort ??= new AbortController();
    if (running.cause !== undefined) running.abort.abort(running.cause);
    return running.abort.signal;
  }

  /** Brings all inputs into the store, pinned; their ids are added to `pinned` as they come. */
  async #fetchInputs(running: Running, measured: Measured, pinned: string[]): Promise<void> {
    const { inputs, holderUrls } = running.command;
    const startedAt = performance.now();
    const signal = this.#signalOf(running);
    let next = 0;
    let failed: unknown;
    const work = async (): Promise<void> => {
      for (let input = inputs[next++]; input !== undefined && failed === undefined; input = inputs[next++]) {
        try {
          measured.fetchedBytes += await this.#options.fetcher.ensure(input, holderUrls, signal);
          pinned.push(input.id);
        } catch (error) {
          failed ??= error;
        }
      }
    };
    await Promise.all(Array.from({ length: Math.min(PARALLEL_FETCHES, inputs.length) }, work));
    measured.fetchedMs += performance.now() - startedAt;
    if (failed !== undefined) throw failed;
  }

  async #startSandbox(running: Running, measured: Measured): Promise<void> {
    const { lease } = running;
    const { pool } = this.#options;
    const startedAt = performance.now();
    try {
      const program = await this.#acquireProgram(running, measured);
      if (running.cause !== undefined) {
        program.release();
        throw running.cause;
      }
      running.isSandboxAtWork = true;
      await pool.start(lease, program, () => running.cause === undefined);
      if (lease.zygoteDistance !== undefined) {
        measured.zygoteDistance = lease.zygoteDistance;
        // Where something had to be brought, that was the start, whatever it went on from.
        if (measured.startState === StartState.PACKAGES) measured.startState = StartState.ZYGOTE;
      }
      measured.startedMs = lease.sandbox?.startMs ?? 0;
      measured.loadedMs = lease.sandbox?.loadMs ?? 0;
    } catch (error) {
      await lease.sandbox?.gone;
      throw running.cause === undefined ? await this.#orDamage(running, error) : error;
    } finally {
      running.isSandboxAtWork = false;
      measured.initialisedMs = performance.now() - startedAt;
    }
  }

  /** A function that cannot be loaded may be right and its packages on this node damaged: then that is the error, and they are installed anew at the next start. */
  async #orDamage({ lease }: Running, error: unknown): Promise<unknown> {
    if (MetronomeError.from(error).code !== 'FUNCTION_LOAD_FAILED') return error;
    const [damage] = await this.#options.programs.suspect(lease.deployed);
    return damage === undefined ? error : new MetronomeError('OBJECT_CORRUPT', `A package on this node is not what was installed: ${damage}. It is installed anew at the next cold start.`, { component: 'agent', cause: error });
  }

  /** Code and packages; what is not here yet is brought, and the start state says so. */
  async #acquireProgram(running: Running, measured: Measured): Promise<ProgramLease> {
    const { programs } = this.#options;
    const { deployed } = running.lease;
    const here = programs.tryAcquire(deployed);
    measured.startState = here === undefined ? StartState.COLD : StartState.PACKAGES;
    if (here !== undefined) return here;
    const startedAt = performance.now();
    const coming = programs.acquire(deployed);
    try {
      const program = await untilAborted(coming, this.#signalOf(running));
      // Nothing was missing when it only had to be looked through after a restart.
      if (program.wasHere) measured.startState = StartState.PACKAGES;
      return program;
    } catch (error) {
      // It may still come for somebody who is gone.
      coming.then((unwanted) => unwanted.release(), () => {});
      throw error;
    } finally {
      measured.installedMs = performance.now() - startedAt;
    }
  }

  /** Links the inputs into a directory of the sandbox. */
  async #stageInputs(running: Running, sandbox: Sandbox, measured: Measured, directories: string[]): Promise<SandboxInput[]> {
    const startedAt = performance.now();
    const directory = this.#newDirectory(sandbox, 'in');
    directories.push(directory);
    await mkdir(directory, { recursive: true });
    const taken = new Set<string>();
    const staged: SandboxInput[] = [];
    for (const { id, name: givenName } of running.command.inputs) {
      const object = this.#options.store.get(id);
      if (object === undefined) throw new MetronomeError('OBJECT_LOST', `The object "${id}" went away while it was pinned.`, { component: 'agent' });
      const name = givenName || object.name || id;
      const file = taken.has(name) ? `${staged.length}-${name}`.slice(0, 255) : name;
      taken.add(file);
      const path = join(directory, file);
      await handOver(object.path, path, this.#options.store.handOvers);
      staged.push({ id, name, path, sizeBytes: object.sizeBytes });
    }
    measured.fetchedMs += performance.now() - startedAt;
    return staged;
  }

  async #runHandler(running: Running, sandbox: Sandbox, inputs: readonly SandboxInput[], measured: Measured): Promise<SandboxOutcome> {
    const { command, lease } = running;
    const { timeoutMs } = lease.deployed.spec;
    const startedAt = performance.now();
    const startedAtMs = performance.timeOrigin + startedAt;
    const timeoutAtMs = timeoutMs > 0 ? startedAtMs + timeoutMs : Infinity;
    const timer = timeoutMs > 0 ? this.#endAt(running, timeoutMs, () => new MetronomeError('FUNCTION_TIMEOUT', `The function "${command.function}" ran longer than its timeout of ${timeoutMs} ms.`, { component: 'function' })) : undefined;
    running.isSandboxAtWork = true;
    running.isStarted = true;
    const outcome = sandbox.run({
      invocationId: command.invocationId,
      attempt: command.attempt,
      deadlineUnixMs: Math.min(command.deadlineUnixMs > 0 ? command.deadlineUnixMs : Infinity, timeoutAtMs, Number.MAX_SAFE_INTEGER),
      traceparent: command.traceparent,
      payload: command.payload,
      contentType: command.contentType,
      inputs,
      outputDir: this.#newDirectory(sandbox, 'out'),
    });
    this.#options.events.lifeSign({ invocationId: command.invocationId, started: { atUnixMs: startedAtMs, startState: measured.startState } }, false);
    try {
      const ended = await outcome;
      // The sandbox measured more closely, but it is the function's process: never more than we saw.
      measured.ranMs = Math.min(ended.ranMs, performance.now() - startedAt);
      return ended;
    } catch (error) {
      measured.ranMs = performance.now() - startedAt;
      // Its slot is free only when nothing of it runs any more.
      if (!sandbox.isAlive) await sandbox.gone;
      throw error;
    } finally {
      clearTimeout(timer);
      running.isSandboxAtWork = false;
    }
  }

  /** Moves every file of the output directory into the store; all or none. */
  async #storeOutputs(running: Running, sandbox: Sandbox): Promise<ObjectRef[]> {
    const directory = await this.#takeOutputs(sandbox);
    try {
      const stored = await this.#storeAll(running, directory);
      // Empty now, unless the function went on writing.
      rmdir(directory).catch(() => removeTrees([directory]));
      return stored;
    } catch (error) {
      await removeTrees([directory]);
      throw error;
    }
  }

  async #storeAll(running: Running, directory: string): Promise<ObjectRef[]> {
    if (!(await lstat(directory)).isDirectory()) throw new MetronomeError('FUNCTION_FAILED', `The outputs of "${running.command.function}" are no directory.`, { component: 'function' });
    const { store } = this.#options;
    const names = (await readdir(directory)).sort();
    if (names.length > MAX_OUTPUTS) throw new MetronomeError('RESULT_TOO_LARGE', `The function "${running.command.function}" made ${names.length} output objects; at most ${MAX_OUTPUTS} are allowed.`, { component: 'function' });
    const stored: ObjectRef[] = [];
    try {
      for (const name of names) {
        const path = join(directory, name);
        // lstat: a link could bring in any file of the node.
        if (!(await lstat(path)).isFile()) throw new MetronomeError('FUNCTION_FAILED', `The output "${name}" of "${running.command.function}" is no regular file.`, { component: 'function' });
        const object = await store.adopt(path, name);
        store.pin(object.id);
        stored.push(store.reference(object));
        if (running.cause !== undefined) throw running.cause;
      }
    } catch (error) {
      for (const { id } of stored) {
        store.unpin(id);
        store.delete(id);
      }
      throw error;
    }
    if (running.command.owner !== '') store.retain(running.command.owner, stored.map(({ id }) => id), running.command.ownerTtlMs);
    // Pinned only while its siblings might have pushed it out.
    for (const { id } of stored) store.unpin(id);
    return stored;
  }

  /** Moves the output directory out of the function's reach: it may be at work still, and could put a link in its place. Answers with where it is now. */
  async #takeOutputs(sandbox: Sandbox): Promise<string> {
    const directory = join(sandbox.dir, `taken-${++this.#directories}`);
    // By the folder itself, not by its path: where the sandbox has the agent's user, it may have put a link in its place.
    const parent = await open(sandbox.outputsDir, constants.O_DIRECTORY | constants.O_NOFOLLOW).catch((cause: unknown) => {
      throw new MetronomeError('FUNCTION_FAILED', 'The folder of the outputs of a function is no directory any more.', { component: 'function', cause });
    });
    try {
      await rename(`/proc/self/fd/${parent.fd}/${basename(this.#lastOutputDirectory(sandbox))}`, directory);
    } finally {
      await parent.close();
    }
    return directory;
  }

  /** Removes what a run wrote that did not succeed: its sandbox may live for days. */
  async #discardOutputs(sandbox: Sandbox): Promise<void> {
    const directory = await this.#takeOutputs(sandbox).catch(() => undefined); // it made none, or they were taken already
    if (directory !== undefined) await removeTrees([directory]);
  }

  /** A path that was never used before. Nothing is made: most runs need none. */
  #newDirectory(sandbox: Sandbox, kind: 'in' | 'out'): string {
    const path = join(kind === 'in' ? sandbox.inputsDir : sandbox.outputsDir, String(++this.#directories));
    if (kind === 'out') this.#outputDirectories.set(sandbox, path);
    return path;
  }

  readonly #outputDirectories = new WeakMap<Sandbox, string>();

  #lastOutputDirectory(sandbox: Sandbox): string {
    return this.#outputDirectories.get(sandbox) as string; // set before every run
  }
}

const EMPTY = Buffer.alloc(0);
