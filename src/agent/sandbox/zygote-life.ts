/** What the two kinds of zygotes have in common: their start, their end, their memory, and which functions they can serve. */
import type { ChildProcess } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { MetronomeError } from '../../core/errors.ts';
import type { AgentLog } from '../agent-options.ts';
import type { LaunchPlan, Places, ProcessEnd } from './containment.ts';
import { GIVE_UP_MS, LEAST_RESIDENT_MB, type LiveSandbox, type SandboxHost } from './live-sandbox.ts';
import { OutputCapture } from './output-capture.ts';
import { RssProbe } from './proc.ts';
import { isReadAtStart } from './runtimes.ts';
import type { SandboxSpec, ZygoteSpec, ZygoteTraits } from './sandbox-driver.ts';
import type { PreloadReport } from './sandbox-frames.ts';

/** The driver that a zygote belongs to. */
export interface ZygoteHost extends SandboxHost {
  readonly dir: string;
  readonly log: AgentLog;
  readonly python: () => Promise<string>;
  /** Starts a process, or rejects with why there is none. */
  launch(plan: LaunchPlan): (ChildProcess & { readonly pid: number }) | Promise<never>;
  environment(spec: Pick<SandboxSpec, 'functionName' | 'env'>, places: Places, interpreter: string): Record<string, string>;
  /** A sandbox that came of a zygote is the driver's from now on. */
  keep(sandbox: LiveSandbox): LiveSandbox;
}

/** Kept of each output stream of a zygote, bytes. */
const OUTPUT_BYTES = 8_192;
const STDERR_TAIL_CHARS = 2_000;
/** The state of a zygote; its owner says what happened. */
export class ZygoteLife {
  readonly id = `zy-${randomBytes(6).toString('hex')}`;
  readonly places: Places;
  readonly spec: ZygoteSpec;
  readonly traits: ZygoteTraits;
  readonly ready: Promise<void>;
  readonly gone: Promise<void>;
  readonly stdout = new OutputCapture(OUTPUT_BYTES);
  readonly stderr = new OutputCapture(OUTPUT_BYTES);
  rssBytes = 0;
  importMs: ReadonlyMap<string, number> = new Map();
  state: 'starting' | 'ready' | 'stopping' | 'gone' = 'starting';
  reason: MetronomeError | undefined;
  readonly #host: ZygoteHost;
  #probe: RssProbe | undefined;
  #loadTimer: NodeJS.Timeout;
  #giveUpTimer: NodeJS.Timeout | undefined;
  #settle: { readonly resolve: () => void; readonly reject: (error: MetronomeError) => void } = { resolve: () => {}, reject: () => {} };
  #onGone: () => void = () => {};
  #pid: number | undefined;

  constructor(host: ZygoteHost, spec: ZygoteSpec, onTimeout: (reason: MetronomeError) => void) {
    this.#host = host;
    this.spec = spec;
    this.traits = host.containment.zygoteTraits(spec.runtime);
    this.places = host.containment.places(host.dir, this.id, undefined);
    this.ready = new Promise((resolve, reject) => {
      this.#settle = { resolve, reject };
    });
    this.ready.catch(() => {}); // nobody may be waiting
    this.gone = new Promise((resolve) => {
      this.#onGone = resolve;
    });
    this.#loadTimer = setTimeout(() => onTimeout(new MetronomeError('FUNCTION_LOAD_FAILED', `The packages of a zygote (${this.#names()}) were not imported within ${host.loadTimeoutMs} ms.`, { component: 'function' })), host.loadTimeoutMs);
  }

  get isAlive(): boolean {
    return this.state === 'starting' || this.state === 'ready';
  }

  /** The direct packages, which are to be imported. */
  get packages(): { readonly id: string; readonly name: string }[] {
    return (this.spec.layer?.packages ?? []).filter(({ isDirect }) => isDirect).map(({ id, name }) => ({ id, name }));
  }

  /** Whether a sandbox of this could come of it, with all that it has loaded being the function's own. */
  canServe(spec: SandboxSpec): boolean {
    const { spec: own, traits } = this;
    if (this.state !== 'ready' || spec.runtime !== own.runtime || spec.memoryMb > own.memoryMb) return false;
    if (traits.isPerFunction && own.functionName === undefined) return false;
    if (own.functionName !== undefined && own.functionName !== spec.functionName) return false;
    if (Object.keys(spec.env).some(isReadAtStart)) return false;
    const { isolation } = this.#host.containment;
    if (spec.isolation !== '' && spec.isolation !== isolation) return false;
    if (own.network !== spec.network && isolation === 'bubblewrap') return false;
    // The same packages in another folder were installed anew, because those that this one has were damaged.
    if (own.layer?.digest === spec.layer?.digest) return own.layer?.dir === spec.layer?.dir;
    if (traits.needsSameLayer) return false;
    // A direct package brings all that it resolves to; side effects of anything else would be foreign to the function.
    const has = new Set(spec.layer?.packages.map(({ subtree }) => subtree));
    return (own.layer?.packages ?? []).every(({ isDirect, subtree }) => !isDirect || has.has(subtree));
  }

  /** It has a process. `memoryOf`: the one whose memory counts, when that is another. */
  born(pid: number, memoryOf = pid): void {
    this.#pid = pid;
    this.#probe?.close();
    this.#probe = new RssProbe(memoryOf);
  }

  output(stream: 'stdout' | 'stderr', chunk: Buffer): void {
    if (this.state === 'starting') this[stream].push(chunk);
  }

  /** All imports were tried. */
  preloaded({ importMs, failed }: PreloadReport): void {
    if (this.state !== 'starting') return;
    clearTimeout(this.#loadTimer);
    for (const [id, reason] of failed) this.#host.log.info({ zygote: this.id, package: id, reason }, 'zygote.importFailed');
    this.importMs = importMs;
    this.state = 'ready';
    this.#measure();
    this.#settle.resolve();
  }

  /** Why it is over its limit, if it is. */
  look(): MetronomeError | undefined {
    if (this.#probe === undefined || !this.isAlive) return undefined;
    this.#measure();
    const { memoryMb, runtime } = this.spec;
    return this.rssBytes > Math.max(memoryMb, LEAST_RESIDENT_MB[runtime]) * 1024 ** 2
      ? new MetronomeError('MEMORY_EXCEEDED', `The packages of a zygote (${this.#names()}) take ${Math.ceil(this.rssBytes / 1024 ** 2)} MiB, more than its ${memoryMb} MiB.`, { component: 'function' })
      : undefined;
  }

  /** It is to end: false if it was to already. */
  stopping(reason: MetronomeError): boolean {
    if (!this.isAlive) return false;
    this.state = 'stopping';
    this.reason = reason;
    clearTimeout(this.#loadTimer);
    return true;
  }

  /** Ends its process at once. */
  killProcess(onGivenUp: () => void): void {
    if (this.#pid !== undefined) this.#host.containment.kill(this.#pid, this.places);
    this.#giveUpTimer ??= setTimeout(onGivenUp, GIVE_UP_MS);
  }

  /** What is wrong when its process ends by itself. */
  endError({ code, signal }: ProcessEnd): MetronomeError {
    const tail = this.stderr.peek().text.trim().slice(-STDERR_TAIL_CHARS);
    const how = signal === null ? `exit code ${code}` : `signal ${signal}`;
    return new MetronomeError('FUNCTION_LOAD_FAILED', `The process of a zygote (${this.#names()}) ended (${how}).${tail === '' ? '' : ` Its last words on stderr:\n${tail}`}`, { component: 'function' });
  }

  /** Nothing of it is left, or its process is another's now. */
  over(error: MetronomeError): void {
    if (this.state === 'gone') return;
    this.state = 'gone';
    clearTimeout(this.#loadTimer);
    clearTimeout(this.#giveUpTimer);
    this.#probe?.close();
    this.rssBytes = 0;
    this.#settle.reject(this.reason ?? error);
    this.#onGone();
  }

  #measure(): void {
    // The children of a fork server count for themselves.
    if (this.#probe !== undefined) this.rssBytes = this.traits.isConsumed ? this.#probe.sampleBytes() : this.#probe.ownBytes();
  }

  #names(): string {
    return this.packages.map(({ id }) => id).join(', ') || `bare ${this.spec.runtime}`;
  }
}

/** What shows of a zygote is its life's. */
export abstract class ZygoteFace {
  protected readonly life: ZygoteLife;

  constructor(life: ZygoteLife) {
    this.life = life;
  }

  get id(): string {
    return this.life.id;
  }

  get spec(): ZygoteSpec {
    return this.life.spec;
  }

  get traits(): ZygoteTraits {
    return this.life.traits;
  }

  get ready(): Promise<void> {
    return this.life.ready;
  }

  get gone(): Promise<void> {
    return this.life.gone;
  }

  get isAlive(): boolean {
    return this.life.isAlive;
  }

  get rssBytes(): number {
    return this.life.rssBytes;
  }

  get importMs(): ReadonlyMap<string, number> {
    return this.life.importMs;
  }

  canServe(spec: SandboxSpec): boolean {
    return this.life.canServe(spec);
  }

  /** Looks at its memory; ends it when it is over its limit. */
  look(): void {
    const excess = this.life.look();
    if (excess !== undefined) void this.kill(excess);
  }

  abstract kill(reason: MetronomeError): Promise<void>;
}
