/**
 * Brings objects from other nodes into the store. Who asks for an object that is on its way already shares that transfer; it goes on
 * as long as somebody waits for it. The bytes go through the data thread (download.ts), which also verifies them.
 */
import { MetronomeError } from '../../core/errors.ts';
import type { ObjectRef } from '../../rpc/gen/metronome/v1/common.ts';
import type { DataThread } from './data-thread.ts';
import type { ObjectStore } from './object-store.ts';
import { isObjectId, isObjectName } from './stored-object.ts';

/** Options of a fetcher. */
export interface ObjectFetcherOptions {
  readonly store: ObjectStore;
  readonly node: string;
  readonly thread: Pick<DataThread, 'download'>;
}

/** Bandwidth assumed before anything was measured (1 Gbit/s), bytes per second. */
const FIRST_GUESS_BYTES_PER_S = 125e6;
const EWMA_WEIGHT = 0.3;
/** Smaller transfers measure latency, not bandwidth. */
const MEASURED_FROM_BYTES = 256 * 1024;

interface Transfer {
  readonly digest: string;
  readonly done: Promise<number>;
  readonly controller: AbortController;
  waiters: number;
}

export class ObjectFetcher {
  /** Bandwidth that fetches got lately, bytes per second. */
  bytesPerS = FIRST_GUESS_BYTES_PER_S;
  readonly #store: ObjectStore;
  readonly #node: string;
  readonly #thread: Pick<DataThread, 'download'>;
  readonly #transfers = new Map<string, Transfer>();

  constructor(options: ObjectFetcherOptions) {
    this.#store = options.store;
    this.#node = options.node;
    this.#thread = options.thread;
  }

  /** Objects on their way to this node. */
  get inFlight(): number {
    return this.#transfers.size;
  }

  /**
   * Makes sure that the object is in the store, pinned. Returns the bytes that were moved for this caller (0 when it was
   * here). `urls`: data URLs of holders by node name. Rejects with OBJECT_LOST, OBJECT_CORRUPT (also for a reference to other
   * bytes than those that are here or on their way), STORE_FULL, or the signal's reason.
   */
  async ensure(reference: ObjectRef, urls: Readonly<Record<string, string>>, signal: AbortSignal): Promise<number> {
    const { id, digest } = reference;
    const here = this.#store.get(id);
    if (here !== undefined) refuseOther(reference, here.digest, 'is here with');
    // One whose file was touched is hashed first; if it is another one now it is gone, and comes from another holder.
    if (this.#store.pin(id)) {
      if (this.#store.looksSound(id) || (await this.#store.verify(id)) === true) return 0;
      this.#store.unpin(id);
    }
    if (!isObjectId(id) || !isObjectName(reference.name)) throw new MetronomeError('INVALID_REQUEST', `The input ${JSON.stringify(id)} named ${JSON.stringify(reference.name)} is not a valid object reference.`, { component: 'agent' });
    signal.throwIfAborted();
    let transfer = this.#transfers.get(id);
    // One that all its waiters have left is ending; it is of no use to a new one.
    if (transfer?.controller.signal.aborted) transfer = undefined;
    if (transfer !== undefined) refuseOther(reference, transfer.digest, 'is on its way here with');
    const isFirst = transfer === undefined;
    if (transfer === undefined) {
      const controller = new AbortController();
      const made: Transfer = { digest, controller, waiters: 0, done: this.#transfer(reference, urls, controller.signal) };
      this.#transfers.set(id, made);
      const forget = (): void => {
        if (this.#transfers.get(id) === made) this.#transfers.delete(id);
      };
      made.done.then(forget, forget);
      transfer = made;
    }
    transfer.waiters++;
    try {
      const moved = await untilAborted(transfer.done, signal);
      // Between the end of the transfer and here nothing else runs that could drop it, unless the store is tiny.
      if (!this.#store.pin(id)) throw new MetronomeError('STORE_FULL', `The object "${id}" was fetched but dropped at once: the object store is too small. Raise agent.objectQuota.`, { component: 'agent' });
      return isFirst ? moved : 0;
    } finally {
      if (--transfer.waiters === 0) transfer.controller.abort(new MetronomeError('CANCELLED', 'Nobody waits for the object any more.'));
    }
  }

  /** Ends all transfers. */
  async close(): Promise<void> {
    for (const { controller } of this.#transfers.values()) controller.abort(new MetronomeError('CANCELLED', 'The agent is shutting down.'));
    await Promise.allSettled(Array.from(this.#transfers.values(), ({ done }) => done));
  }

  async #transfer(reference: ObjectRef, urls: Readonly<Record<string, string>>, signal: AbortSignal): Promise<number> {
    const { id, name, sizeBytes, digest } = reference;
    const incoming = this.#store.begin(sizeBytes);
    try {
      const holders = reference.holders.flatMap((node) => (node === this.#node || urls[node] === undefined ? [] : [{ node, url: urls[node] }]));
      const report = await this.#thread.download({ id, sizeBytes, digest, holders, path: incoming.path }, signal);
      await incoming.commit({ id, name, sizeBytes, digest: report.digest, isCopy: true });
      if (report.movedBytes >= MEASURED_FROM_BYTES && report.tookMs > 0) this.bytesPerS += EWMA_WEIGHT * ((report.movedBytes * 1_000) / report.tookMs - this.bytesPerS);
      return report.movedBytes;
    } catch (error) {
      await incoming.abort();
      // The quota had room, the disk had not: the next attempt may find it.
      if (error instanceof MetronomeError && error.code === 'STORE_FULL') this.#store.relieve(sizeBytes);
      throw error;
    }
  }
}

/** An id names one content for good: whoever means another one must not be given this one. */
function refuseOther({ id, digest }: ObjectRef, known: string, where: string): void {
  if (digest === '' || known === '' || digest === known) return;
  throw new MetronomeError('OBJECT_CORRUPT', `The object "${id}" was asked for with the digest ${digest}, but ${where} the digest ${known}. Take the reference from the result or the upload that made the object.`, { component: 'agent' });
}

/** The promise's outcome, or the signal's reason if that comes first. */
export function untilAborted<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    if (signal.aborted) {
      promise.catch(() => {});
      reject(signal.reason);
      return;
    }
    const onAbort = (): void => reject(signal.reason);
    signal.addEventListener('abort', onAbort, { once: true });
    promise.then(resolve, reject).finally(() => signal.removeEventListener('abort', onAbort));
  });
}
