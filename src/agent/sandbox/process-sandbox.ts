/**
 * The driver `process`: a sandbox is an operating-system process in a session of its own, with a clean environment, a private
 * working directory and limits. Needs no privileges. It isolates crashes, hangs, memory and output; it does not hide the
 * file system or the network (that is the bubblewrap driver's job).
 *
 * A sandbox dies with its agent: setpriv --pdeathsig where util-linux has it, and the end of the control socket everywhere.
 * What survives even that (children of a function after kill -9 of the agent) is found by the next agent's sweep.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { accessSync, constants, mkdirSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import type { Socket } from 'node:net';
import { dirname, join } from 'node:path';
import type { Readable } from 'node:stream';
import { fileURLToPath } from 'node:url';
import { createMachineHost } from '../../../machines/host.ts';
import { sandboxMachine, type SandboxContext, type SandboxEvent, type SandboxStateName, type SandboxStopCause } from '../../../machines/sandbox.ts';
import { MetronomeError, type ErrorCode } from '../../core/errors.ts';
import type { AgentLog } from '../agent-options.ts';
import { OutputCapture } from './output-capture.ts';
import { RssProbe, descendantsOf, isRunning, killNow, processesWithEnvironment, startTimeOf } from './proc.ts';
import type { Sandbox, SandboxDriver, SandboxLogs, SandboxOutcome, SandboxRun, SandboxSpec } from './sandbox-driver.ts';
import { FRAME_OVERHEAD_BYTES, FrameReader, decodeFrame, encodeFrame, type AgentFrame, type SandboxFrame } from './sandbox-frames.ts';

/** What the driver needs. */
export interface ProcessSandboxOptions {
  /** Folder for the private directories; nothing else is in it. */
  readonly dir: string;
  /** Finds the Python interpreter; asked when the first Python function starts. Rejects with SANDBOX_FAILED if there is none. */
  readonly python: () => Promise<string>;
  readonly log: AgentLog;
  /** How long loading a handler may take, ms. @default 60000 */
  readonly loadTimeoutMs?: number;
}

/** How often the memory of busy sandboxes is looked at, ms. */
const WATCH_EVERY_MS = 50;
/** Idle ones are looked at only in every so many of these looks. */
const WATCH_IDLE_EVERY = 20;
/** After the end of a process, how long its output may take to drain, ms. */
const DRAIN_MS = 50;
/** A killed process that is not gone after this (stuck in the kernel) is given up, ms. */
const GIVE_UP_MS = 2_000;
const STDERR_TAIL_CHARS = 2_000;
/** A Node process with nothing in it needs about 50 MiB, Python 10: smaller limits would kill every function at its start. */
const LEAST_RESIDENT_MB = { node: 96, python3: 32 } as const;

const NODE_SHIM = fileURLToPath(new URL('./shims/node-shim.mjs', import.meta.url));
const PYTHON_SHIM = fileURLToPath(new URL('./shims/python-shim.py', import.meta.url));

/** Makes the driver. */
export function createProcessSandboxDriver(options: ProcessSandboxOptions): SandboxDriver {
  return new ProcessSandboxDriver(options);
}

class ProcessSandboxDriver implements SandboxDriver {
  readonly isolations = ['process'] as const;
  readonly options: ProcessSandboxOptions;
  readonly loadTimeoutMs: number;
  readonly #setpriv: string | undefined = findExecutable('setpriv');
  readonly #sandboxes = new Set<ProcessSandbox>();
  readonly #removals = new Set<Promise<void>>();
  #watch: NodeJS.Timeout | undefined;
  #looks = 0;
  #settled: (() => void)[] = [];
  #closed = false;

  constructor(options: ProcessSandboxOptions) {
    this.options = options;
    this.loadTimeoutMs = options.loadTimeoutMs ?? 60_000;
    mkdirSync(options.dir, { recursive: true });
  }

  create(spec: SandboxSpec): Sandbox {
    const sandbox = new ProcessSandbox(this, spec);
    this.#sandboxes.add(sandbox);
    this.#watch ??= setInterval(() => this.#look(), WATCH_EVERY_MS).unref();
    if (this.#closed) void sandbox.kill(new MetronomeError('DRAINING', 'The agent is shutting down.'));
    return sandbox;
  }

  /** None yet. */
  zygoteTraits(): undefined {}

  createZygote(): undefined {}

  /** The command line: limits, death with the parent, then the runtime. */
  command(spec: SandboxSpec, runtime: string): readonly [string, string[]] {
    const shim = spec.runtime === 'node' ? [`--max-old-space-size=${Math.max(spec.memoryMb, 32)}`, NODE_SHIM] : ['-s', PYTHON_SHIM];
    const bound = this.#setpriv === undefined ? [] : [this.#setpriv, '--pdeathsig', 'KILL'];
    // No core files: a function that aborts would fill the disk. exec: the pid stays that of the session's leader.
    return ['/bin/sh', ['-c', 'ulimit -c 0; exec "$@"', 'sh', ...bound, runtime, ...shim]];
  }

  /** Runs `settle` after everything that is readable now was read: output that was written before a result is in the logs then. */
  afterReads(settle: () => void): void {
    this.#settled.push(settle);
    if (this.#settled.length > 1) return;
    setImmediate(() => {
      const all = this.#settled;
      this.#settled = [];
      for (const each of all) each();
    });
  }

  forget(sandbox: ProcessSandbox): void {
    this.#sandboxes.delete(sandbox);
    const removal = rm(sandbox.dir, { recursive: true, force: true, maxRetries: 3 }).catch((error: unknown) => {
      this.options.log.warn({ dir: sandbox.dir, error: String(error) }, 'sandbox.removeFailed');
    });
    this.#removals.add(removal);
    void removal.then(() => this.#removals.delete(removal));
    if (this.#sandboxes.size === 0) {
      clearInterval(this.#watch);
      this.#watch = undefined;
    }
  }

  #look(): void {
    const all = this.#looks++ % WATCH_IDLE_EVERY === 0;
    for (const sandbox of this.#sandboxes) sandbox.look(all);
  }

  async sweep(): Promise<void> {
    const { dir, log } = this.options;
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
    if (found.size > 0) log.warn({ pids: [...found] }, 'sandboxes.swept');
    for (let waitedMs = 0; waitedMs < GIVE_UP_MS && [...found].some(isRunning); waitedMs += 10) await new Promise((resolve) => setTimeout(resolve, 10));
    await Promise.all(readdirSync(dir).map((name) => rm(join(dir, name), { recursive: true, force: true, maxRetries: 3 })));
  }

  async close(): Promise<void> {
    this.#closed = true;
    const reason = new MetronomeError('CANCELLED', 'The agent is shutting down.', { component: 'agent' });
    await Promise.all([...this.#sandboxes].map((sandbox) => sandbox.kill(reason)));
    // What left its session on purpose (a daemon made by a function) still carries the marker.
    for (const pid of processesWithEnvironment(`METRONOME_SANDBOX=${this.options.dir}/`)) killNow(pid);
    await Promise.all(this.#removals);
    clearInterval(this.#watch);
  }
}

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

class ProcessSandbox implements Sandbox {
  readonly id = `sb-${randomBytes(6).toString('hex')}`;
  readonly dir: string;
  readonly ready: Promise<void>;
  readonly gone: Promise<void>;
  rssBytes = 0;
  startMs = 0;
  loadMs = 0;
  readonly #driver: ProcessSandboxDriver;
  readonly #spec: SandboxSpec;
  readonly #stdout: OutputCapture;
  readonly #stderr: OutputCapture;
  readonly #limitBytes: number;
  #state: SandboxStateName = 'starting';
  readonly #life = lives.start({
    entered: (state) => {
      this.#state = state;
    },
  });
  #child: ChildProcess | undefined;
  #control: Socket | undefined;
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
  #onGone: () => void = () => {};

  constructor(driver: ProcessSandboxDriver, spec: SandboxSpec) {
    this.#driver = driver;
    this.#spec = spec;
    this.dir = join(driver.options.dir, this.id);
    this.#stdout = new OutputCapture(spec.logBytes);
    this.#stderr = new OutputCapture(spec.logBytes);
    this.#limitBytes = Math.max(spec.memoryMb, LEAST_RESIDENT_MB[spec.runtime]) * 1024 ** 2;
    this.ready = new Promise((resolve, reject) => {
      this.#starting = { resolve, reject };
    });
    // Nobody may be waiting (a prewarmed sandbox that is evicted while it starts).
    this.ready.catch(() => {});
    this.gone = new Promise((resolve) => {
      this.#onGone = resolve;
    });
    if (spec.runtime === 'node') this.#spawn(process.execPath);
    else driver.options.python().then((path) => this.#spawn(path), (error: unknown) => this.#bury(MetronomeError.from(error)));
  }

  /** From the kill or the exit on. */
  get #isDead(): boolean {
    return this.#state === 'stopping' || this.#state === 'gone';
  }

  get isAlive(): boolean {
    return !this.#isDead;
  }

  #spawn(runtime: string): void {
    if (this.#isDead) return this.#bury(undefined); // killed while the interpreter was looked for
    const { functionName, bundleDir, handler, memoryMb, maxResultBytes } = this.#spec;
    const workDir = join(this.dir, 'work');
    const [command, args] = this.#driver.command(this.#spec, runtime);
    let child: ChildProcess;
    try {
      mkdirSync(workDir, { recursive: true });
      // detached: a session and process group of its own, so that one signal reaches all its children.
      child = spawn(command, args, { cwd: workDir, env: this.#environment(workDir, runtime), detached: true, stdio: ['ignore', 'pipe', 'pipe', 'pipe'] });
    } catch (error) {
      return this.#bury(spawnFailed(error));
    }
    this.#child = child;
    child.on('error', (error) => {
      if (child.pid === undefined) this.#bury(spawnFailed(error));
    });
    if (child.pid === undefined) return;
    writeFileSync(join(this.dir, 'process.json'), JSON.stringify({ pid: child.pid, startTime: startTimeOf(child.pid) ?? '' }));
    this.#probe = new RssProbe(child.pid);
    child.on('exit', (code, signal) => this.#onExit(code, signal));
    this.#capture(child.stdout, this.#stdout);
    this.#capture(child.stderr, this.#stderr);
    // Node makes every further 'pipe' a socket pair, readable and writable; the types only know a stream.
    const control = child.stdio[3] as Socket;
    this.#control = control;
    const reader = new FrameReader(maxResultBytes + FRAME_OVERHEAD_BYTES);
    control.on('data', (chunk: Buffer) => {
      if (!reader.feed(chunk, (body) => this.#onFrame(body))) this.#protocolBroken('announced a frame that is larger than any result may be');
    });
    control.on('error', () => {}); // EPIPE, ECONNRESET: the exit follows and says why
    control.on('close', () => {
      // Normally the process ended; if it did not, the function closed the descriptor and will never answer.
      if (!this.#isDead) setTimeout(() => !this.#isDead && this.#protocolBroken('closed its control channel'), DRAIN_MS);
    });
    const [file, exportName] = handler.split('#');
    this.#send({ kind: 'init', file: join(bundleDir, file ?? ''), exportName: exportName ?? 'handler', bundleDir, functionName, memoryMb, maxResultBytes });
    this.#loadTimer = setTimeout(() => {
      void this.kill(new MetronomeError('FUNCTION_LOAD_FAILED', `The function "${functionName}" did not load within ${this.#driver.loadTimeoutMs} ms. Do slow work in the handler, not on import.`, { component: 'function' }));
    }, this.#driver.loadTimeoutMs);
  }

  /** Nothing is inherited: neither secrets of the agent nor what slows every start down (NODE_EXTRA_CA_CERTS costs 50 ms). */
  #environment(workDir: string, runtime: string): Record<string, string> {
    return {
      PATH: `${dirname(runtime)}:/usr/local/bin:/usr/bin:/bin`,
      LANG: 'C.UTF-8',
      TMPDIR: workDir,
      ...this.#spec.env,
      HOME: workDir,
      METRONOME_FUNCTION: this.#spec.functionName,
      METRONOME_SANDBOX: this.dir,
    };
  }

  #capture(stream: Readable | null, capture: OutputCapture): void {
    stream?.on('data', (chunk: Buffer) => {
      // Always read, so that nobody blocks; what an idle sandbox writes belongs to no invocation.
      if (this.#state !== 'idle') capture.push(chunk);
    });
    stream?.on('error', () => {});
  }

  #send(frame: AgentFrame): void {
    const control = this.#control as Socket; // set before the first frame
    const [first, second] = encodeFrame(frame) as [Buffer, Buffer | undefined];
    if (second === undefined) {
      control.write(first);
      return;
    }
    control.cork();
    control.write(first);
    control.write(second);
    control.uncork();
  }

  run(run: SandboxRun): Promise<SandboxOutcome> {
    return new Promise((resolve, reject) => {
      if (this.#state !== 'idle') {
        reject(this.#reason ?? new MetronomeError('SANDBOX_FAILED', 'The sandbox ended before the run began.', { component: 'agent' }));
        return;
      }
      this.#life.send({ type: 'INVOKED' });
      this.#running = { resolve, reject };
      this.#send({ kind: 'run', seq: ++this.#seq, ...run });
    });
  }

  #onFrame(body: Buffer): void {
    if (this.#isDead) return;
    const frame = decodeFrame(body);
    if (frame === undefined) return this.#protocolBroken('sent something that is no frame');
    if (frame.kind === 'ready' || frame.kind === 'loadFailed') {
      if (this.#state !== 'starting') return this.#protocolBroken(`sent "${frame.kind}" twice`);
      this.#driver.afterReads(() => this.#loaded(frame));
      return;
    }
    if (this.#state !== 'busy' || frame.seq !== this.#seq) return this.#protocolBroken('answered without being asked');
    this.#driver.afterReads(() => this.#finished(frame));
  }

  #loaded(frame: Extract<SandboxFrame, { kind: 'ready' | 'loadFailed' }>): void {
    if (this.#state !== 'starting') return;
    clearTimeout(this.#loadTimer);
    if (frame.kind === 'ready') {
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

  #finished(frame: Exclude<SandboxFrame, { kind: 'ready' | 'loadFailed' }>): void {
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
    const pid = this.#child?.pid;
    // Without a process yet, #spawn finds it dead and buries it.
    if (pid === undefined) return this.gone;
    for (const child of descendantsOf(pid)) killNow(child);
    killNow(-pid);
    killNow(pid);
    this.#giveUpTimer = setTimeout(() => this.#bury(undefined), GIVE_UP_MS);
    return this.gone;
  }

  #onExit(code: number | null, signal: NodeJS.Signals | null): void {
    const before = this.#state;
    const wasKilled = this.#isDead;
    this.#life.send({ type: 'EXITED', exitCode: code ?? undefined, signal: signal ?? '' });
    const child = this.#child as ChildProcess; // it exited
    killNow(-(child.pid as number));
    // Children that left its session have lost their parent by now: only the marker finds them. Idle ones that are evicted in order are not worth a look at all processes.
    if (!wasKilled || this.#wasAtWork) for (const pid of processesWithEnvironment(`METRONOME_SANDBOX=${this.dir}\0`)) killNow(pid);
    const bury = (): void => {
      clearTimeout(timer);
      this.#bury(wasKilled ? undefined : this.#exitError(before, code, signal));
    };
    // 'close' comes when the output was read to its end; somebody who kept the pipes open must not hold us up.
    const timer = setTimeout(bury, DRAIN_MS);
    child.once('close', bury);
  }

  #exitError(before: SandboxStateName, code: number | null, signal: NodeJS.Signals | null): MetronomeError {
    const { functionName, memoryMb } = this.#spec;
    const stderr = this.#stderr.peek().text;
    const how = signal === null ? `exit code ${code}` : `signal ${signal}`;
    if (/heap out of memory|Array buffer allocation failed/.test(stderr) && (signal === 'SIGABRT' || signal === 'SIGTRAP' || code === 134 || code === 133)) return memoryExceeded(functionName, memoryMb, 'on the JavaScript heap');
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
    this.#control?.destroy();
    this.#child?.stdout?.destroy();
    this.#child?.stderr?.destroy();
    this.#child?.unref();
    this.#driver.forget(this);
    this.#starting?.reject(reason);
    this.#running?.reject(reason);
    this.#starting = this.#running = undefined;
    this.#onGone();
  }
}

function memoryExceeded(functionName: string, memoryMb: number, where: string): MetronomeError {
  return new MetronomeError('MEMORY_EXCEEDED', `The function "${functionName}" used more than its ${memoryMb} MiB ${where}. Raise memory in its manifest or use less.`, { component: 'function' });
}

function spawnFailed(cause: unknown): MetronomeError {
  return new MetronomeError('SANDBOX_FAILED', `The process of the sandbox could not be started: ${cause instanceof Error ? cause.message : String(cause)}`, { component: 'agent', cause });
}

/** What #spawn wrote down about the process of a sandbox directory. */
function readRecord(dir: string): { readonly pid: number; readonly startTime: string } | undefined {
  try {
    const record: unknown = JSON.parse(readFileSync(join(dir, 'process.json'), 'utf8'));
    if (typeof record !== 'object' || record === null || !('pid' in record) || !('startTime' in record)) return undefined;
    const { pid, startTime } = record;
    return typeof pid === 'number' && pid > 1 && typeof startTime === 'string' && startTime !== '' ? { pid, startTime } : undefined;
  } catch {
    return undefined; // killed before it was written; the marker in the environment finds the process
  }
}

function findExecutable(name: string): string | undefined {
  for (const folder of (process.env['PATH'] ?? '/usr/bin:/bin').split(':')) {
    const path = join(folder, name);
    try {
      accessSync(path, constants.X_OK);
      return path;
    } catch {
      // Not in this folder.
    }
  }
  return undefined;
}
