/**
 * The store's end of the line to its worker: collects the requests of one turn of the loop into one message, matches
 * answers to promises, bounds what waits, and rejects everything when the worker dies.
 */
import type { Worker } from 'node:worker_threads';
import { MetronomeError } from '../core/errors.ts';
import type { Operation, Operations } from './engine.ts';
import type { EngineLink } from './engine-store.ts';
import type { FromWorker, ToWorker, WorkerRequest } from './worker-protocol.ts';

/** Bounds of what may wait. */
export interface WorkerLinkLimits {
  readonly maxWaiting: number;
  readonly maxWaitingBytes: number;
}

interface Pending {
  readonly bytes: number;
  // The value's type follows from the operation of the same id; `call` restores it.
  readonly resolve: (value: never) => void;
  readonly reject: (error: MetronomeError) => void;
}

/** Counted for each request beside its bytes. */
const REQUEST_BYTES = 200;
/** These end or advance what was accepted already; a flood of acceptances must not shut them out, so they may wait in twice the room. */
const ADVANCING: ReadonlySet<Operation> = new Set<Operation>(['markDispatched', 'endInvocation']);

/** Waits until the worker is ready. Rejects, with the worker gone, when it cannot start. */
export async function connectWorker(worker: Worker, limits: WorkerLinkLimits): Promise<EngineLink> {
  const pending = new Map<number, Pending>();
  let outbox: WorkerRequest[] = [];
  let waitingBytes = 0;
  let lastId = 0;
  let isClosing = false;
  let failure: MetronomeError | undefined;
  const ready = Promise.withResolvers<void>();
  const failed = Promise.withResolvers<MetronomeError>();
  const exited = Promise.withResolvers<void>();

  const fail = (error: MetronomeError): void => {
    if (failure) return;
    failure = error;
    for (const { reject } of pending.values()) reject(error);
    pending.clear();
    outbox = [];
    waitingBytes = 0;
    ready.reject(error);
    failed.resolve(error);
  };
  const settle = (id: number): Pending | undefined => {
    const request = pending.get(id);
    if (request === undefined) return undefined;
    pending.delete(id);
    waitingBytes -= request.bytes;
    return request;
  };
  let isClosed = false;
  worker.on('message', (message: FromWorker) => {
    switch (message.kind) {
      case 'ready': return ready.resolve();
      case 'failed': return fail(MetronomeError.fromRecord(message.error));
      case 'closed': isClosed = true; return;
      case 'answers':
        for (const answer of message.answers) {
          const request = settle(answer.id);
          if (answer.ok) request?.resolve(answer.value as never); // See Pending.
          else request?.reject(MetronomeError.fromRecord(answer.error));
        }
    }
  });
  worker.on('messageerror', (error) => {
    fail(new MetronomeError('INTERNAL', `A message of the store's thread cannot be read: ${error.message}`, { cause: error }));
    void worker.terminate();
  });
  worker.on('error', (error) => fail(new MetronomeError('INTERNAL', `The store's thread died: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`, { cause: error })));
  worker.on('exit', (code) => {
    if (!isClosed || pending.size > 0) fail(new MetronomeError('INTERNAL', `The store's thread ended unexpectedly with code ${code}. Requests that waited may or may not be stored; start again.`));
    exited.resolve();
  });

  const flush = (): void => {
    if (outbox.length === 0) return;
    const requests = outbox;
    outbox = [];
    worker.postMessage({ kind: 'requests', requests } satisfies ToWorker);
  };
  const call = <K extends Operation>(operation: K, args: Operations[K]['args'], payloadBytes: number): Promise<Operations[K]['result']> => {
    if (failure) return Promise.reject(failure);
    if (isClosing) return Promise.reject(new MetronomeError('DRAINING', 'The store is closed.'));
    const bytes = payloadBytes + REQUEST_BYTES;
    const room = ADVANCING.has(operation) ? 2 : 1;
    if (pending.size >= limits.maxWaiting * room || (pending.size > 0 && waitingBytes + bytes > limits.maxWaitingBytes * room)) {
      return Promise.reject(
        new MetronomeError('QUEUE_FULL', `${pending.size} requests with ${waitingBytes} bytes wait for the disk; at most ${limits.maxWaiting} and ${limits.maxWaitingBytes} may. Try again shortly.`, { retryAfterMs: 100 }),
      );
    }
    const { promise, resolve, reject } = Promise.withResolvers<Operations[K]['result']>();
    const id = ++lastId;
    pending.set(id, { bytes, resolve, reject });
    waitingBytes += bytes;
    // One message for all requests that are made before the loop turns.
    if (outbox.length === 0) queueMicrotask(flush);
    outbox.push({ id, operation, args, bytes } as WorkerRequest); // TypeScript does not see that operation and args belong together.
    return promise;
  };
  const close = async (): Promise<void> => {
    if (!isClosing && !failure) {
      isClosing = true;
      flush();
      worker.postMessage({ kind: 'close' } satisfies ToWorker);
    }
    const failedBefore = failure;
    await exited.promise;
    if (failure && !failedBefore) throw failure;
  };

  try {
    await ready.promise;
  } catch (error) {
    await exited.promise;
    throw error;
  }
  return { call, waiting: () => ({ waiting: pending.size, waitingBytes }), failed: failed.promise, close };
}
