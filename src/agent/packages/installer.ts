/** The agent's end of the thread that installs packages: starts it when there is work, ends it when there was none for a while. */
import { Worker } from 'node:worker_threads';
import { MetronomeError } from '../../core/errors.ts';
import type { Damage, Installed, InstallOrder, InstallReport, InstallRequest, Linked, LinkOrder } from './install-protocol.ts';

/** Packages that are fetched at once. */
const PARALLEL_INSTALLS = 8;
/** The thread holds npm's libraries: some 30 MB. */
const IDLE_MS = 60_000;
const MAX_HEAP_MB = 1_024;

type WithoutCall<T> = T extends unknown ? Omit<T, 'call'> : never;

export class Installer {
  #worker: Worker | undefined;
  readonly #calls = new Map<number, { readonly resolve: (report: InstallReport) => void; readonly reject: (error: MetronomeError) => void }>();
  #lastCall = 0;
  #installing = 0;
  readonly #waiting: (() => void)[] = [];
  #idleTimer: NodeJS.Timeout | undefined;
  #isClosed = false;

  /** Brings a package into the store; at most eight at once, the others wait. Rejects like installPackage. */
  async install(order: InstallOrder): Promise<Installed> {
    if (this.#installing >= PARALLEL_INSTALLS) await new Promise<void>((resolve) => this.#waiting.push(resolve));
    this.#installing++;
    try {
      const report = await this.#call({ kind: 'install', order });
      return (report as { readonly installed: Installed }).installed; // the answer to this kind
    } finally {
      this.#installing--;
      this.#waiting.shift()?.();
    }
  }

  /** Makes a tree of links. */
  async link(order: LinkOrder): Promise<Linked> {
    const report = await this.#call({ kind: 'link', order });
    return (report as { readonly linked: Linked }).linked; // the answer to this kind
  }

  /** Which of these packages are not what was installed; `digests` reads all of their files. */
  async verify(store: string, keys: readonly string[], digests: boolean): Promise<readonly Damage[]> {
    if (keys.length === 0) return [];
    const report = await this.#call({ kind: 'verify', store, keys, digests });
    return (report as { readonly damaged: readonly Damage[] }).damaged; // the answer to this kind
  }

  /** Ends the thread; what is under way is broken off and leaves temporary files at most. */
  async close(): Promise<void> {
    this.#isClosed = true;
    clearTimeout(this.#idleTimer);
    for (const wake of this.#waiting.splice(0)) wake();
    await this.#worker?.terminate();
    this.#failAll(new MetronomeError('CANCELLED', 'The agent was stopped while it installed packages.', { component: 'agent' }));
  }

  #call(request: WithoutCall<InstallRequest>): Promise<InstallReport> {
    if (this.#isClosed) return Promise.reject(new MetronomeError('DRAINING', 'The agent is shutting down.', { component: 'agent' }));
    clearTimeout(this.#idleTimer);
    const call = ++this.#lastCall;
    return new Promise((resolve, reject) => {
      this.#calls.set(call, { resolve, reject });
      this.#thread().postMessage({ call, ...request } satisfies InstallRequest);
    });
  }

  #thread(): Worker {
    if (this.#worker !== undefined) return this.#worker;
    const worker = new Worker(new URL(`./install-worker${import.meta.url.endsWith('.ts') ? '.ts' : '.js'}`, import.meta.url), { name: 'packages', resourceLimits: { maxOldGenerationSizeMb: MAX_HEAP_MB } });
    this.#worker = worker;
    worker.on('message', (report: InstallReport) => {
      const waiter = this.#calls.get(report.call);
      this.#calls.delete(report.call);
      if ('error' in report) waiter?.reject(MetronomeError.fromRecord(report.error));
      else waiter?.resolve(report);
      if (this.#calls.size === 0 && !this.#isClosed) this.#idleTimer = setTimeout(() => this.#retire(worker), IDLE_MS).unref();
    });
    const died = (cause: unknown): void => {
      if (this.#worker !== worker) return;
      this.#worker = undefined;
      this.#failAll(new MetronomeError('UNAVAILABLE', `The thread that installs packages died (${cause instanceof Error ? cause.message : String(cause)}). The next cold start starts another.`, { component: 'agent', cause }));
    };
    worker.on('error', died);
    worker.on('exit', (code) => died(`exit code ${code}`));
    return worker;
  }

  #retire(worker: Worker): void {
    if (this.#calls.size > 0 || this.#worker !== worker) return;
    this.#worker = undefined;
    void worker.terminate();
  }

  #failAll(error: MetronomeError): void {
    for (const { reject } of this.#calls.values()) reject(error);
    this.#calls.clear();
  }
}
