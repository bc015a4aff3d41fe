/** The agent's side of the data thread: starts it, asks it, and answers for the store. */
import { Worker } from 'node:worker_threads';
import { MetronomeError } from '../../core/errors.ts';
import type { AgentLog } from '../agent-options.ts';
import { CallLine, type CallHandlers } from './call-line.ts';
import type { DataThreadCalls, DataThreadData, DownloadOrder, DownloadReport, FetchTimeouts, FileDigest, LinkShape, StoreCalls } from './data-protocol.ts';
import type { IncomingObject, ObjectStore } from './object-store.ts';

// tsc rewrites imports, not URLs: the entry has the extension that this file has.
const ENTRY = new URL(`./data-worker${import.meta.url.endsWith('.ts') ? '.ts' : '.js'}`, import.meta.url);
const STOP_MS = 3_000;
const TIMEOUTS: FetchTimeouts = { connectMs: 2_000, headersMs: 5_000, bodyMs: 10_000 };

/** Options of the thread. */
export interface DataThreadOptions {
  readonly link: LinkShape;
  readonly log: AgentLog;
  readonly timeouts?: Partial<FetchTimeouts>;
}

/** A thread that runs. */
export interface DataThread {
  /** Brings an object into a file, verified. OBJECT_LOST, OBJECT_CORRUPT, STORE_FULL, or the signal's reason; then nothing writes to the file any more. */
  download(order: DownloadOrder, signal: AbortSignal): Promise<DownloadReport>;
  digestOf(path: string): Promise<FileDigest>;
  /** Serves the objects of a store; answers with the port. PORT_IN_USE, CONFIG_INVALID. */
  serve(store: ObjectStore, host: string, port: number): Promise<number>;
  /** Ends transfers, connections and the thread. */
  stop(): Promise<void>;
  /** Resolves when the thread broke: the node can neither give nor take objects any more. */
  readonly failed: Promise<MetronomeError>;
}

/** Starts the thread. */
export function startDataThread(options: DataThreadOptions): DataThread {
  const { link, log } = options;
  const data: DataThreadData = { link, timeouts: { ...TIMEOUTS, ...options.timeouts } };
  const worker = new Worker(ENTRY, { name: 'data', workerData: data });
  let store: ObjectStore | undefined;
  const line = new CallLine<DataThreadCalls, StoreCalls>(worker, answersFor(() => store as ObjectStore, log)); // nothing is served before there is one
  let isStopping = false;
  const { promise: failed, resolve: fail } = Promise.withResolvers<MetronomeError>();
  worker.on('error', (error) => {
    log.error({ error: error.stack }, 'data.threadFailed');
    fail(new MetronomeError('INTERNAL', `The data thread of the agent broke: ${error.message}`, { component: 'agent', cause: error }));
  });
  const exited = new Promise<void>((resolve) => {
    worker.once('exit', () => {
      const gone = new MetronomeError('INTERNAL', 'The data thread of the agent is gone.', { component: 'agent' });
      line.break(gone);
      if (!isStopping) fail(gone);
      resolve();
    });
  });
  return {
    failed,
    download: (order, signal) => line.call('download', order, signal),
    digestOf: (path) => line.call('digest', path),
    serve(served, host, port) {
      store = served;
      return line.call('listen', { host, port });
    },
    async stop() {
      isStopping = true;
      // A disk that hangs must not keep the agent from ending.
      const lastResort = setTimeout(() => void worker.terminate(), STOP_MS);
      await Promise.race([line.call('close', undefined).catch(() => {}), exited]); // it may be gone already
      await exited;
      clearTimeout(lastResort);
    },
  };
}

/** Answers the thread's questions about the store. */
function answersFor(store: () => ObjectStore, log: AgentLog): CallHandlers<StoreCalls> {
  const uploads = new Map<number, IncomingObject>();
  let count = 0;
  const uploadOf = (upload: number): IncomingObject => {
    const found = uploads.get(upload);
    if (found === undefined) throw new MetronomeError('INTERNAL', `There is no upload ${upload}.`, { component: 'agent' });
    return found;
  };
  return {
    find: (id) => store().use(id),
    list: () => store().listing(),
    begin(sizeBytes) {
      const incoming = store().begin(sizeBytes);
      uploads.set(++count, incoming);
      return { upload: count, path: incoming.path };
    },
    reserve: ({ upload, bytes }) => uploadOf(upload).reserve(bytes),
    async commit({ upload, name, sizeBytes, digest }) {
      const object = await uploadOf(upload).commit({ id: store().newId(), name, sizeBytes, digest });
      uploads.delete(upload);
      return store().reference(object);
    },
    async abort({ upload, diskFull }) {
      const incoming = uploadOf(upload);
      uploads.delete(upload);
      await incoming.abort();
      if (diskFull) store().relieve(incoming.reservedBytes);
    },
    delete: (id) => store().delete(id),
    verify: (id) => store().verify(id),
    log: ({ fields, event }) => log.warn(fields, event),
  };
}
