/**
 * A zygote of Python: a process that has imported the packages of a layer and forks one child for each sandbox (shims/python-zygote.py).
 * A child's control channel and outputs are socket pairs that the server makes before the fork; the agent gets their other ends as
 * handles over Node's channel between parent and child. The server is the children's parent and tells how they end.
 */
import type { ChildProcess } from 'node:child_process';
import { Socket } from 'node:net';
import { MetronomeError } from '../../core/errors.ts';
import type { Places, ProcessEnd } from './containment.ts';
import { LiveSandbox, newSandboxId } from './live-sandbox.ts';
import { isRunning, startTimeOf } from './proc.ts';
import { pythonZygoteArguments } from './runtimes.ts';
import type { Sandbox, SandboxSpec, Zygote, ZygoteSpec } from './sandbox-driver.ts';
import { readPreloadReport } from './sandbox-frames.ts';
import { SandboxProcess, writeRecord, type ProcessOwner } from './sandbox-process.ts';
import { ZygoteFace, ZygoteLife, type ZygoteHost } from './zygote-life.ts';

/** Its driver. */
interface ServerHost extends ZygoteHost {
  forgetZygote(zygote: ForkServer, places: Places | undefined): void;
}

/** A fork that was asked for. */
interface Fork {
  readonly owner: ProcessOwner;
  readonly sockets: Map<string, Socket>;
  readonly resolve: (process: SandboxProcess) => void;
  readonly reject: (error: MetronomeError) => void;
  process: SandboxProcess | undefined;
  startTime: string | undefined;
}

/** What the server says; anything else is a defect of a package that writes where it should not. */
interface ServerMessage {
  readonly preloaded?: Readonly<Record<string, unknown>>;
  readonly pid?: number;
  readonly fork?: number;
  readonly role?: 'control' | 'stdout' | 'stderr';
  readonly forkFailed?: string;
  readonly ended?: number;
  readonly code?: number | null;
  readonly signal?: NodeJS.Signals | null;
}

/** Libraries of numbers start threads of their own when they are imported; a process with threads must not fork. */
const ONE_THREAD = { OPENBLAS_NUM_THREADS: '1', OMP_NUM_THREADS: '1', MKL_NUM_THREADS: '1', BLIS_NUM_THREADS: '1', NUMEXPR_NUM_THREADS: '1', VECLIB_MAXIMUM_THREADS: '1' };
/** A fork takes milliseconds; a server that does not answer for so long has broken down. */
const FORK_TIMEOUT_MS = 10_000;
/** How often the children of a dead server are looked at, ms. */
const LOOK_MS = 10;

export class ForkServer extends ZygoteFace implements Zygote {
  readonly #host: ServerHost;
  readonly #forks = new Map<number, Fork>();
  #nextFork = 0;
  #child: (ChildProcess & { readonly pid: number }) | undefined;
  #interpreter = '';

  constructor(host: ServerHost, spec: ZygoteSpec) {
    super(new ZygoteLife(host, spec, (reason) => void this.kill(reason)));
    this.#host = host;
    void this.#begin();
  }

  async #begin(): Promise<void> {
    const { places, spec, packages } = this.life;
    try {
      const interpreter = await this.#host.python();
      this.#interpreter = interpreter;
      if (!this.isAlive) return this.#over(this.life.reason as MetronomeError); // it was told to stop, with a reason
      this.#host.containment.prepare(places, 'server');
      const launched = this.#host.launch({
        places, interpreter, args: pythonZygoteArguments(), env: { ...this.#host.environment({ functionName: spec.functionName ?? '', env: {} }, places, interpreter), ...ONE_THREAD }, channel: 'handles',
        layer: spec.layer, memoryMb: spec.memoryMb, cpu: 0, network: spec.network,
      });
      const child = launched instanceof Promise ? await launched : launched;
      this.#child = child;
      this.life.born(child.pid);
      writeRecord(places.dir, child.pid);
      child.stdout?.on('data', (chunk: Buffer) => this.life.output('stdout', chunk));
      child.stderr?.on('data', (chunk: Buffer) => this.life.output('stderr', chunk));
      child.on('message', (message, handle) => this.#onMessage(message as ServerMessage, handle)); // written by our own program; every field is looked at before it is used
      child.on('exit', (code, signal) => void this.#onEnd(this.#host.containment.endOf({ code, signal })));
      child.channel?.unref();
      this.#send({ preload: { importPaths: spec.layer?.importPaths ?? [], packages } });
    } catch (error) {
      this.#over(MetronomeError.from(error));
    }
  }

  specialise(spec: SandboxSpec): Sandbox {
    if (!this.canServe(spec)) throw new MetronomeError('SANDBOX_FAILED', `The zygote ${this.id} cannot serve "${spec.functionName}".`, { component: 'agent' });
    const { containment } = this.#host;
    const parent = this.life.places;
    const id = newSandboxId();
    const places = containment.places(this.#host.dir, id, parent);
    const sandbox = new LiveSandbox(this.#host, spec, {
      id, places, isOfZygote: true,
      born: async (owner) => {
        containment.prepare(places, parent);
        return { process: await this.#fork(owner), adoption: { env: this.#host.environment(spec, places, this.#interpreter), workDir: places.homeDir, loaded: {} } };
      },
    });
    return this.#host.keep(sandbox);
  }

  #fork(owner: ProcessOwner): Promise<SandboxProcess> {
    const id = ++this.#nextFork;
    return new Promise<SandboxProcess>((resolve, reject) => {
      const timer = setTimeout(() => {
        reject(new MetronomeError('SANDBOX_FAILED', `The fork server did not make a process within ${FORK_TIMEOUT_MS} ms; it was ended.`, { component: 'agent' }));
        this.#forget(id);
        void this.kill(new MetronomeError('SANDBOX_FAILED', 'The fork server does not answer.', { component: 'agent' }));
      }, FORK_TIMEOUT_MS);
      this.#forks.set(id, {
        owner, sockets: new Map(), process: undefined, startTime: undefined,
        resolve: (process) => {
          clearTimeout(timer);
          resolve(process);
        },
        reject: (error) => {
          clearTimeout(timer);
          reject(error);
        },
      });
      this.#send({ fork: id });
    });
  }

  #onMessage(message: ServerMessage, handle: unknown): void {
    if (message.preloaded !== undefined) {
      const child = this.#child as ChildProcess & { readonly pid: number }; // it has just spoken
      this.life.born(child.pid, this.#outerPid(message.pid) ?? child.pid);
      this.life.preloaded(readPreloadReport(message.preloaded));
      return;
    }
    const id = message.fork ?? message.ended;
    const fork = id === undefined ? undefined : this.#forks.get(id);
    if (id === undefined || fork === undefined) {
      if (handle instanceof Socket) handle.destroy(); // it was given up meanwhile
      return;
    }
    if (message.ended !== undefined) {
      this.#childEnded(id, fork, { code: message.code ?? null, signal: message.signal ?? null });
    } else if (message.forkFailed !== undefined) {
      this.#forget(id);
      fork.reject(new MetronomeError('SANDBOX_FAILED', `The fork server could not make a process: ${String(message.forkFailed).slice(0, 500)}`, { component: 'agent' }));
    } else if (message.role !== undefined && handle instanceof Socket) {
      fork.sockets.set(message.role, handle);
      if (fork.sockets.size === 3) this.#forked(id, fork, message.pid);
    }
  }

  #forked(id: number, fork: Fork, innerPid: number | undefined): void {
    const control = fork.sockets.get('control');
    const stdout = fork.sockets.get('stdout');
    const stderr = fork.sockets.get('stderr');
    const pid = this.#outerPid(innerPid);
    if (pid === undefined || control === undefined || stdout === undefined || stderr === undefined) {
      this.#forget(id);
      fork.reject(new MetronomeError('SANDBOX_FAILED', 'The process that the fork server made was gone before it could be used.', { component: 'agent' }));
      return;
    }
    fork.startTime = startTimeOf(pid);
    fork.process = new SandboxProcess({ pid, control, stdout, stderr, unref: () => this.#forget(id) }, fork.owner);
    fork.resolve(fork.process);
  }

  #outerPid(pid: number | undefined): number | undefined {
    return pid === undefined || this.#child === undefined ? undefined : this.#host.containment.outerPid(this.#child.pid, pid);
  }

  #childEnded(id: number, fork: Fork, end: ProcessEnd): void {
    if (fork.process === undefined) fork.reject(new MetronomeError('SANDBOX_FAILED', 'The process that the fork server made ended at once.', { component: 'agent' }));
    else fork.process.ended(end);
    this.#forget(id);
  }

  /** A child is no more, or nobody wants to know. */
  #forget(id: number): void {
    const fork = this.#forks.get(id);
    if (fork === undefined) return;
    this.#forks.delete(id);
    if (fork.process === undefined) for (const socket of fork.sockets.values()) socket.destroy();
    if (this.#forks.size === 0 && this.life.state === 'stopping') this.#killServer();
  }

  /** Its children go with it; what they were running ends as if killed. */
  async #onEnd(end: ProcessEnd): Promise<void> {
    const error = this.life.endError(end);
    this.life.stopping(error);
    for (const [id, fork] of [...this.#forks]) {
      const { process, startTime } = fork;
      if (process !== undefined) {
        this.#host.containment.kill(process.pid, this.life.places);
        while (isRunning(process.pid) && startTimeOf(process.pid) === startTime && this.#forks.has(id)) await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
      }
      this.#childEnded(id, fork, { code: null, signal: 'SIGKILL' });
    }
    if (this.#child !== undefined) this.#host.containment.killRemains(this.#child.pid, this.life.places, true);
    this.#over(error);
  }

  kill(reason: MetronomeError): Promise<void> {
    // Its children need it: it tells how they end, and they end with it. Whoever ends last closes the door.
    if (this.life.stopping(reason) && this.#forks.size === 0) this.#killServer();
    return this.gone;
  }

  #killServer(): void {
    // Without a process yet, #begin finds it stopping.
    if (this.#child !== undefined) this.life.killProcess(() => this.#over(this.life.reason as MetronomeError)); // it is stopping
  }

  #send(message: object): void {
    // A server that is gone says so by its end; an error here would say nothing more.
    this.#child?.send(message, () => {});
  }

  #over(error: MetronomeError): void {
    if (this.life.state === 'gone') return;
    for (const [id, fork] of [...this.#forks]) {
      fork.reject(error);
      this.#forks.delete(id);
    }
    const child = this.#child;
    if (child?.connected === true) child.disconnect();
    child?.stdout?.destroy();
    child?.stderr?.destroy();
    child?.unref();
    this.#host.forgetZygote(this, this.life.places);
    this.life.over(error);
  }
}
