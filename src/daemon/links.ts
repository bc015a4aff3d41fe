/** The loop's side of the I/O thread: sends commands in one batch per turn, hands on what it reports. */
import { Worker } from 'node:worker_threads';
import type { FunctionMessage as DeployedFunction } from '../rpc/gen/metronome/v1/function.ts';
import { MetronomeError } from '../core/errors.ts';
import type { LinkCommand, LinkEvent, LinksData, LinksReport, LinksRequest } from './links-protocol.ts';

// tsc rewrites imports, not URLs: the entry has the extension that this file has.
const ENTRY = new URL(`./links-thread${import.meta.url.endsWith('.ts') ? '.ts' : '.js'}`, import.meta.url);

export interface Links {
  /** Queues a command; all of one turn leave together. */
  command(command: LinkCommand): void;
  connect(node: number, address: string, epoch: number, intervalMs: number): void;
  disconnect(node: number): void;
  define(definition: DeployedFunction): void;
  undefine(name: string): void;
  /** Makes idle sandboxes, or zygotes, ready on a node; resolves to how many there are. */
  prewarm(node: number, definition: DeployedFunction, count: number, zygotes?: boolean): Promise<number>;
  /** Ends idle sandboxes, or zygotes, on a node ('': of all functions; 0: all of them); resolves to how many. */
  evict(node: number, functionName: string, count: number, zygotes?: boolean): Promise<number>;
  stop(): Promise<void>;
  /** Resolves when the thread broke. */
  readonly failed: Promise<MetronomeError>;
}

/** Starts the thread. `handle` gets each batch of facts. */
export function startLinks(nodeTable: SharedArrayBuffer, handle: (events: readonly LinkEvent[]) => void): Links {
  const data: LinksData = { nodeTable };
  const worker = new Worker(ENTRY, { name: 'links', workerData: data });
  const post = (request: LinksRequest): void => worker.postMessage(request);
  const waitingCalls = new Map<number, { resolve(count: number): void; reject(error: MetronomeError): void }>();
  let calls = 0;
  let batch: LinkCommand[] = [];
  let flushing = false;
  let stopping = false;
  const { promise: failed, resolve: fail } = Promise.withResolvers<MetronomeError>();
  worker.on('error', (error) => fail(new MetronomeError('INTERNAL', `The thread of the agents' streams broke: ${error.message}`, { cause: error })));
  const exited = new Promise<void>((resolve) => worker.once('exit', () => {
    if (!stopping) fail(new MetronomeError('INTERNAL', "The thread of the agents' streams ended."));
    resolve();
  }));
  worker.on('message', ({ items }: LinksReport) => {
    for (const item of items) {
      if (item.kind !== 'answered') continue;
      const waiting = waitingCalls.get(item.call);
      waitingCalls.delete(item.call);
      if (item.error === undefined) waiting?.resolve(item.count);
      else waiting?.reject(MetronomeError.fromRecord(item.error));
    }
    handle(items);
  });
  const ask = (request: (call: number) => LinksRequest): Promise<number> => {
    const call = calls++;
    const { promise, resolve, reject } = Promise.withResolvers<number>();
    waitingCalls.set(call, { resolve, reject });
    post(request(call));
    return promise;
  };
  const flush = (): void => {
    flushing = false;
    const items = batch;
    batch = [];
    post({ kind: 'commands', items });
  };
  return {
    failed,
    command(command) {
      batch.push(command);
      if (flushing) return;
      flushing = true;
      // Once per turn of the loop, after all messages that came in with it: waking the thread costs more than a decision.
      setImmediate(flush);
    },
    connect: (node, address, epoch, intervalMs) => post({ kind: 'connect', node, address, epoch, intervalMs }),
    disconnect: (node) => post({ kind: 'disconnect', node }),
    define: (definition) => post({ kind: 'define', definition }),
    undefine: (name) => post({ kind: 'undefine', name }),
    prewarm: (node, definition, count, zygotes = false) => ask((call) => ({ kind: 'prewarm', call, node, definition, count, zygotes })),
    evict: (node, functionName, count, zygotes = false) => ask((call) => ({ kind: 'evict', call, node, functionName, count, zygotes })),
    async stop() {
      stopping = true;
      if (flushing) flush();
      post({ kind: 'stop' });
      await exited;
    },
  };
}
