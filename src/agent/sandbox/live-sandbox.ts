/**
 * The life of a sandbox: frames, states, output, the look at its memory, its end and why. The same for every kind of isolation and for
 * every way in which its process came to be.
 */
import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { createMachineHost } from '../../../machines/host.ts';
import { sandboxMachine, type SandboxContext, type SandboxEvent, type SandboxStateName, type SandboxStopCause } from '../../../machines/sandbox.ts';
import { MetronomeError, type ErrorCode } from '../../core/errors.ts';
import type { Containment, Places, ProcessEnd } from './containment.ts';
import { OutputCapture } from './output-capture.ts';
import { RssProbe } from './proc.ts';
import type { Sandbox, SandboxLogs, SandboxOutcome, SandboxRun, SandboxSpec } from './sandbox-driver.ts';
import { FRAME_OVERHEAD_BYTES, FrameReader, decodeFrame, type Adoption, type SandboxFrame } from './sandbox-frames.ts';
import { writeRecord, type ProcessOwner, type SandboxProcess } from './sandbox-process.ts';

/** The driver that a sandbox belongs to. */
export interface SandboxHost {
  readonly containment: Containment;
  readonly loadTimeoutMs: number;
  /** Runs `settle` after everything that is readable now was read: output that was written before a result is in the logs then. */
  afterReads(settle: () => void): void;
  /** It is gone: its directory can go as well. */
  forget(sandbox: LiveSandbox): void;
}

/** How a sandbox comes to its process. */
export interface Birth {
  readonly id: string;
  readonly places: Places;
  /** It comes of a zygote, whose limits were others. */
  readonly isOfZygote: boolean;
  /** Brings the process; it tells `owner` of everything from the beginning. A rejection is why there is none. */
  readonly born: (owner: ProcessOwner) => Born | Promise<Born>;
}

/** A process for a sandbox. */
export interface Born {
  readonly process: SandboxProcess;
  /** Set when it was not started with all that its function needs. */
  readonly adoption: Adoption | undefined;
}

/** After the end of a process, how long its output may take to drain, ms. */
const DRAIN_MS = 50;
/** After its channel closed, how long the news of its end may take (of a forked process it comes from its parent), ms. */
export const CLOSED_MS = 1_000;
/** A killed process that is not gone after this (stuck in the kernel) is given up, ms. */
export const GIVE_UP_MS = 2_000;
const STDERR_TAIL_CHARS = 2_000;
/** A Node process with nothing in it needs about 50 MiB, Python 10: smaller limits would kill every function at its start. */
export const LEAST_RESIDENT_MB = { node: 96, python3: 32 } as const;

/** The lives of all sandboxes of this process (machines/sandbox.ts). */
const lives = createMachineHost<SandboxContext, SandboxEvent>(sandboxMachine, 'table');

/** Why a sandbox is ended, in the words of its machine. */
const STOP_CAUSES: Partial<Record<ErrorCode, SandboxStopCause>> = {
  CANCELLED: 'cancelled', FUNCTION_TIMEOUT: 'timedOut', DEADLINE_EXCEEDED: 'timedOut', MEMORY_EXCEEDED: 'memoryExceeded', FUNCTION_LOAD_FAILED: 'startFailed', SANDBOX_FAILED: 'protocolBroke', DRAINING: 'draining',
};

interface Pending<T> {
  readonly resolve: (value: T) => void;
  readonly reject: (error: MetronomeError) => void;
}

/** An id that no other sandbox has. */
export function newSandboxId(): string {
  return `sb-${randomBytes(6).toString('hex')}`;
}

export class LiveSandbox implements Sandbox, ProcessOwner {
  readonly id: string;
  readonly places: Places;
  readonly ready: Promise<void>;
  readonly gone: Promise<void>;
  rssBytes = 0;
  startMs = 0;
  loadMs = 0;
  readonly #host: SandboxHost;
  readonly #spec: SandboxSpec;
  readonly #bornAtMs = performance.now();
  readonly #stdout: OutputCapture;
  readonly #stderr: OutputCapture;
  readonly #limitBytes: number;
  readonly #reader: FrameReader;
  #state: SandboxStateName = 'starting';
  readonly #life = lives.start({
    entered: (state) => {
      this.#state = state;
    },
  });
  #process: SandboxProcess | undefined;
  #probe: RssProbe | undefined;
  #reason: MetronomeError | undefined;
  #starting: Pending<void> | undefined;
  #running: Pending<SandboxOutcome> | undefined;
  #seq = 0;
  #loadTimer: NodeJS.Timeout | undefined;
  #giveUpTimer: NodeJS.Timeout | undefined;
  #isBuried = false;
  /** It was killed while it started or ran. */
  #wasAtWork = false;
  /** Set at the end of the process, until its output was read. */
  #burial: { readonly error: MetronomeError | undefined; readonly timer: NodeJS.Timeout } | undefined;
  #onGone: () => void = () => {};

  constructor(host: SandboxHost, spec: SandboxSpec, birth: Birth) {
    this.#host = host;
    this.#spec = spec;
    this.id = birth.id;
    this.places = birth.places;
    this.#stdout = new OutputCapture(spec.logBytes);
    this.#stderr = new OutputCapture(spec.logBytes);
    this.#limitBytes = Math.max(spec.memoryMb, LEAST_RESIDENT_MB[spec.runtime]) * 1024 ** 2;
    this.#reader = new FrameReader(spec.maxResultBytes + FRAME_OVERHEAD_BYTES);
    this.ready = new Promise((resolve, reject) => {
      this.#starting = { resolve, reject };
    });
    // Nobody may be waiting (a prewarmed sandbox that is evicted while it starts).
    this.ready.catch(() => {});
    this.gone = new Promise((resolve) => {
      this.#onGone = resolve;
    });
    this.#loadTimer = setTimeout(() => {
      void this.kill(new MetronomeError('FUNCTION_LOAD_FAILED', `The function "${spec.functionName}" did not load within ${host.loadTimeoutMs} ms. Do slow work in the handler, not on import.`, { component: 'function' }));
    }, host.loadTimeoutMs);
    void this.#begin(birth);
  }

  get dir(): string {
    return this.places.dir;
  }

  get inputsDir(): string {
    return this.places.inputsDir;
  }

  get outputsDir(): string {
    return this.places.outputsDir;
  }

  /** From the kill or the exit on. */
  get #isDead(): boolean {
    return this.#state === 'stopping' || this.#state === 'gone';
  }

  get isAlive(): boolean {
    return !this.#isDead;
  }

  /** In one turn where nothing must be waited for. */
  async #begin(birth: Birth): Promise<void> {
    try {
      const born = birth.born(this);
      const { process, adoption } = born instanceof Promise ? await born : born;
      this.#process = process;
      if (this.#isDead) return this.#end(process); // killed while it was being born
      writeRecord(this.places.dir, process.pid);
      this.#probe = new RssProbe(process.pid);
      const limited = birth.isOfZygote ? this.#host.containment.limit(this.places, process.pid, this.#spec) : undefined;
      const staged = this.#host.containment.stageCode(this.places, this.#spec.bundleDir);
      const bundleDir = staged instanceof Promise ? await staged : staged;
      if (limited !== undefined) await limited;
      if (this.#isDead) return;
      const { functionName, handler, memoryMb, maxResultBytes, layer } = this.#spec;
      const [file, exportName] = handler.split('#');
      process.send({
        kind: 'init', adoption, file: join(bundleDir, file ?? ''), exportName: exportName ?? 'handler', bundleDir, importPaths: layer?.importPaths ?? [], functionName, memoryMb, maxResultBytes,
      });
    } catch (error) {
      const failure = error instanceof MetronomeError ? error : new MetronomeError('SANDBOX_FAILED', `The process of the sandbox could not be started: ${error instanceof Error ? error.message : String(error)}`, { component: 'agent', cause: error });
      if (this.#process === undefined) this.#bury(failure);
      else void this.kill(failure);
    }
  }

  run(run: SandboxRun): Promise<SandboxOutcome> {
    return new Promise((resolve, reject) => {
      if (this.#state !== 'idle') {
        reject(this.#reason ?? new MetronomeError('SANDBOX_FAILED', 'The sandbox ended before the run began.', { component: 'agent' }));
        return;
      }
      this.#life.send({ type: 'INVOKED' });
      this.#running = { resolve, reject };
      (this.#process as SandboxProcess).send({ kind: 'run', seq: ++this.#seq, ...run }); // it is idle: it has one
    });
  }

  onControl(chunk: Buffer): void {
    if (!this.#reader.feed(chunk, (body) => this.#onFrame(body))) this.#protocolBroken('announced a frame that is larger than any result may be');
  }

  onControlClosed(): void {
    // Normally the process ended; if it did not, the function closed the descriptor and will never answer.
    if (!this.#isDead) setTimeout(() => !this.#isDead && this.#protocolBroken('closed its control channel'), CLOSED_MS);
  }

  onOutput(stream: 'stdout' | 'stderr', chunk: Buffer): void {
    // What an idle sandbox writes belongs to no invocation.
    if (this.#state !== 'idle') (stream === 'stdout' ? this.#stdout : this.#stderr).push(chunk);
  }

  #onFrame(body: Buffer): void {
    if (this.#isDead) return;
    const frame = decodeFrame(body);
    if (frame === undefined) return this.#protocolBroken('sent something that is no frame');
    if (frame.kind === 'ready' || frame.kind === 'loadFailed') {
      if (this.#state !== 'starting') return this.#protocolBroken(`sent "${frame.kind}" twice`);
      this.#host.afterReads(() => this.#loaded(frame));
      return;
    }
    if (frame.kind === 'preloaded' || this.#state !== 'busy' || frame.seq !== this.#seq) return this.#protocolBroken('answered without being asked');
    this.#host.afterReads(() => this.#finished(frame));
  }

  #loaded(frame: Extract<SandboxFrame, { kind: 'ready' | 'loadFailed' }>): void {
    if (this.#state !== 'starting') return;
    clearTimeout(this.#loadTimer);
    if (frame.kind === 'ready') {
      const tookMs = performance.now() - this.#bornAtMs;
      // The process measured more closely, but it is the function's: never more than we saw.
      this.loadMs = Math.min(frame.loadMs, tookMs);
      this.startMs = tookMs - this.loadMs;
      this.#lookAtRuntime();
      this.#life.send({ type: 'READY' });
      this.#starting?.resolve();
      this.#starting = undefined;
      return;
    }
    const { type, message, stack } = frame;
    const { functionName, handler, memoryMb } = this.#spec;
    const error = this.#isOutOfMemory(type)
      ? memoryExceeded(functionName, memoryMb, 'while it was loaded')
      : new MetronomeError('FUNCTION_LOAD_FAILED', `The function "${functionName}" could not be loaded from "${handler}": ${type}: ${message}`, { component: 'function', functionError: { type, message, stack } });
    void this.kill(error);
  }

  /** What stands around the runtime is of no interest any more. */
  #lookAtRuntime(): void {
    const process = this.#process as SandboxProcess; // it spoke
    const pid = this.#host.containment.memoryPid(process.pid, this.places);
    if (pid === process.pid) return;
    this.#probe?.close();
    this.#probe = new RssProbe(pid);
  }

  #finished(frame: Extract<SandboxFrame, { kind: 'done' | 'failed' | 'tooLarge' }>): void {
    const running = this.#running;
    if (this.#state !== 'busy' || running === undefined) return;
    if (frame.kind === 'failed' && this.#isOutOfMemory(frame.type)) {
      void this.kill(memoryExceeded(this.#spec.functionName, this.#spec.memoryMb, 'in the handler'));
      return;
    }
    this.#life.send({ type: 'RETURNED', reusable: true });
    this.#running = undefined;
    const { ranMs } = frame;
    switch (frame.kind) {
      case 'done': return running.resolve({ kind: 'returned', payload: frame.payload, contentType: frame.contentType, hasOutputs: frame.hasOutputs, ranMs });
      case 'failed': return running.resolve({ kind: 'threw', error: { type: frame.type, message: frame.message, stack: frame.stack }, ranMs });
      case 'tooLarge': return running.reject(new MetronomeError('RESULT_TOO_LARGE', `The function "${this.#spec.functionName}" returned ${frame.sizeBytes} bytes; at most ${this.#spec.maxResultBytes} are allowed (limits.maxResultBytes). Write large data with context.output(name).`, { component: 'function' }));
    }
  }

  #isOutOfMemory(type: string): boolean {
    return this.#spec.runtime === 'python3' && type === 'MemoryError';
  }

  #protocolBroken(what: string): void {
    void this.kill(new MetronomeError('SANDBOX_FAILED', `The sandbox of "${this.#spec.functionName}" ${what}; it was ended. Functions must not use file descriptor 3.`, { component: 'agent' }));
  }

  takeLogs(): SandboxLogs | undefined {
    if (this.#stdout.isEmpty && this.#stderr.isEmpty) return undefined;
    const stdout = this.#stdout.take();
    const stderr = this.#stderr.take();
    return { stdout: stdout.text, stderr: stderr.text, truncatedBytes: stdout.truncatedBytes + stderr.truncatedBytes };
  }

  /** Looks at the memory; ends a busy sandbox that is over its limit, and an idle one too. */
  look(includingIdle: boolean): void {
    if (this.#probe === undefined || this.#isDead || (this.#state === 'idle' && !includingIdle)) return;
    this.rssBytes = this.#probe.sampleBytes();
    if (this.rssBytes <= this.#limitBytes) return;
    const { functionName, memoryMb } = this.#spec;
    void this.kill(memoryExceeded(functionName, memoryMb, `(${Math.ceil(this.rssBytes / 1024 ** 2)} MiB in use)`));
  }

  kill(reason: MetronomeError): Promise<void> {
    if (this.#isDead) return this.gone;
    this.#wasAtWork = this.#state !== 'idle';
    this.#life.send({ type: 'STOPPED', cause: STOP_CAUSES[reason.code] ?? 'evicted' });
    this.#reason = reason;
    clearTimeout(this.#loadTimer);
    // Without a process yet, #begin ends it as soon as it is there.
    if (this.#process !== undefined) this.#end(this.#process);
    return this.gone;
  }

  #end(process: SandboxProcess): void {
    this.#host.containment.kill(process.pid, this.places);
    this.#giveUpTimer = setTimeout(() => this.#bury(undefined), GIVE_UP_MS);
  }

  onEnd({ code, signal }: ProcessEnd): void {
    const before = this.#state;
    const wasKilled = this.#isDead;
    const { containment } = this.#host;
    this.#life.send({ type: 'EXITED', exitCode: code ?? undefined, signal: signal ?? '' });
    // Idle ones that are evicted in order are not worth a look at all processes.
    const isThorough = !wasKilled || this.#wasAtWork;
    if (this.#process !== undefined) containment.killRemains(this.#process.pid, this.places, isThorough);
    const error = wasKilled ? undefined : this.#endError(before, code, signal);
    // What was written is read to its end; somebody who kept the pipes open must not hold us up.
    this.#burial = { error, timer: setTimeout(() => this.#bury(error), DRAIN_MS) };
  }

  onDrained(): void {
    if (this.#burial === undefined) return;
    clearTimeout(this.#burial.timer);
    this.#bury(this.#burial.error);
  }

  #endError(before: SandboxStateName, code: number | null, signal: NodeJS.Signals | null): MetronomeError {
    const { functionName, memoryMb } = this.#spec;
    const stderr = this.#stderr.peek().text;
    const how = signal === null ? `exit code ${code}` : `signal ${signal}`;
    if (/heap out of memory|Array buffer allocation failed/.test(stderr) && (signal === 'SIGABRT' || signal === 'SIGTRAP' || code === 134 || code === 133)) return memoryExceeded(functionName, memoryMb, 'on the JavaScript heap');
    if (signal === 'SIGKILL' && this.#host.containment.ranOutOfMemory(this.places)) return memoryExceeded(functionName, memoryMb, 'and was ended by the kernel');
    const tail = stderr.trim().slice(-STDERR_TAIL_CHARS);
    const told = tail === '' ? '' : ` Its last words on stderr:\n${tail}`;
    if (before === 'starting') {
      if (code === 126 || code === 127) return new MetronomeError('SANDBOX_FAILED', `The runtime of "${functionName}" could not be started (${how}).${told}`, { component: 'agent' });
      return new MetronomeError('FUNCTION_LOAD_FAILED', `The process of "${functionName}" ended while the function was loaded (${how}).${told}`, { component: 'function' });
    }
    return new MetronomeError('FUNCTION_CRASHED', `The process of "${functionName}" ended during the run (${how}).${told}`, { component: 'function' });
  }

  /** The end: settles what is pending, lets go of everything. `error` counts if no reason was given before. */
  #bury(error: MetronomeError | undefined): void {
    if (this.#isBuried) return;
    this.#isBuried = true;
    // A process that could not start, or that was given up, never exits.
    if (this.#state !== 'gone') this.#life.send({ type: 'EXITED', exitCode: undefined, signal: '' });
    clearTimeout(this.#loadTimer);
    clearTimeout(this.#giveUpTimer);
    const reason = this.#reason ?? error ?? new MetronomeError('SANDBOX_FAILED', 'The sandbox ended.', { component: 'agent' });
    this.#reason = reason;
    this.#probe?.close();
    this.#process?.release();
    this.#host.forget(this);
    this.#starting?.reject(reason);
    this.#running?.reject(reason);
    this.#starting = this.#running = undefined;
    this.#onGone();
  }
}

/** The function took more than it may. */
export function memoryExceeded(functionName: string, memoryMb: number, where: string): MetronomeError {
  return new MetronomeError('MEMORY_EXCEEDED', `The function "${functionName}" used more than its ${memoryMb} MiB ${where}. Raise memory in its manifest or use less.`, { component: 'function' });
}
