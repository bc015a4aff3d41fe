/**
 * Brings objects from other nodes: streamed, verified, resumed where the transfer broke, from the next holder where one is
 * gone. Who asks for an object that is on its way already shares that transfer.
 */
import { Agent, request } from 'undici';
import { MetronomeError } from '../../core/errors.ts';
import type { ObjectRef } from '../../rpc/gen/metronome/v1/common.ts';
import { isObjectId, isObjectName, type ObjectStore, type ObjectWriter } from './object-store.ts';

/** How patient a fetch is, ms. */
export interface FetchTimeouts {
  readonly connectMs: number;
  /** Until the answer begins. */
  readonly headersMs: number;
  /** Between two pieces of the body. */
  readonly bodyMs: number;
}

/** Options of a fetcher. */
export interface ObjectFetcherOptions {
  readonly store: ObjectStore;
  readonly node: string;
  readonly timeouts?: Partial<FetchTimeouts>;
}

const TIMEOUTS: FetchTimeouts = { connectMs: 2_000, headersMs: 5_000, bodyMs: 10_000 };
/** Requests for one object in all, resumptions included, per holder. */
const TRIES_PER_HOLDER = 4;
/** Bandwidth assumed before anything was measured (1 Gbit/s), bytes per second. */
const FIRST_GUESS_BYTES_PER_S = 125e6;
const EWMA_WEIGHT = 0.3;
/** Smaller transfers measure latency, not bandwidth. */
const MEASURED_FROM_BYTES = 256 * 1024;

interface Transfer {
  readonly done: Promise<number>;
  readonly controller: AbortController;
  waiters: number;
}

/** What speaks against a holder. */
interface Refusal {
  readonly problem: string;
  readonly isCorrupt: boolean;
}

export class ObjectFetcher {
  /** Bandwidth that fetches got lately, bytes per second. */
  bytesPerS = FIRST_GUESS_BYTES_PER_S;
  readonly #store: ObjectStore;
  readonly #node: string;
  readonly #http: Agent;
  readonly #transfers = new Map<string, Transfer>();

  constructor(options: ObjectFetcherOptions) {
    const timeouts = { ...TIMEOUTS, ...options.timeouts };
    this.#store = options.store;
    this.#node = options.node;
    this.#http = new Agent({ connectTimeout: timeouts.connectMs, headersTimeout: timeouts.headersMs, bodyTimeout: timeouts.bodyMs, connections: 16, pipelining: 1 });
  }

  /**
   * Makes sure that the object is in the store, pinned. Returns the bytes that were moved for this caller (0 when it was
   * here). `urls`: data URLs of holders by node name. Rejects with OBJECT_LOST, OBJECT_CORRUPT, STORE_FULL, or the signal's
   * reason.
   */
  async ensure(reference: ObjectRef, urls: Readonly<Record<string, string>>, signal: AbortSignal): Promise<number> {
    if (this.#store.pin(reference.id)) return 0;
    if (!isObjectId(reference.id) || !isObjectName(reference.name)) throw new MetronomeError('INVALID_REQUEST', `The input ${JSON.stringify(reference.id)} named ${JSON.stringify(reference.name)} is not a valid object reference.`, { component: 'agent' });
    let transfer = this.#transfers.get(reference.id);
    // One that all its waiters have left is ending; it is of no use to a new one.
    if (transfer?.controller.signal.aborted) transfer = undefined;
    const isFirst = transfer === undefined;
    if (transfer === undefined) {
      const controller = new AbortController();
      const made: Transfer = { controller, waiters: 0, done: this.#transfer(reference, urls, controller.signal) };
      this.#transfers.set(reference.id, made);
      const forget = (): void => {
        if (this.#transfers.get(reference.id) === made) this.#transfers.delete(reference.id);
      };
      made.done.then(forget, forget);
      transfer = made;
    }
    transfer.waiters++;
    try {
      const moved = await untilAborted(transfer.done, signal);
      // Between the end of the transfer and here nothing else runs that could drop it, unless the store is tiny.
      if (!this.#store.pin(reference.id)) throw new MetronomeError('STORE_FULL', `The object "${reference.id}" was fetched but dropped at once: the object store is too small. Raise agent.objectQuota.`, { component: 'agent' });
      return isFirst ? moved : 0;
    } finally {
      if (--transfer.waiters === 0) transfer.controller.abort(new MetronomeError('CANCELLED', 'Nobody waits for the object any more.'));
    }
  }

  /** Ends all transfers and connections. */
  async close(): Promise<void> {
    for (const { controller } of this.#transfers.values()) controller.abort(new MetronomeError('CANCELLED', 'The agent is shutting down.'));
    await Promise.allSettled(Array.from(this.#transfers.values(), ({ done }) => done));
    await this.#http.destroy();
  }

  async #transfer(reference: ObjectRef, urls: Readonly<Record<string, string>>, signal: AbortSignal): Promise<number> {
    const startedAtMs = performance.now();
    const writer = await this.#store.beginWrite(reference.sizeBytes);
    try {
      const moved = await this.#download(reference, urls, writer, signal);
      await writer.commit({ id: reference.id, name: reference.name });
      const tookS = (performance.now() - startedAtMs) / 1_000;
      if (moved >= MEASURED_FROM_BYTES && tookS > 0) this.bytesPerS += EWMA_WEIGHT * (moved / tookS - this.bytesPerS);
      return moved;
    } catch (error) {
      await writer.abort();
      throw error;
    }
  }

  async #download(reference: ObjectRef, urls: Readonly<Record<string, string>>, writer: ObjectWriter, signal: AbortSignal): Promise<number> {
    const { id, sizeBytes, digest } = reference;
    let holders = reference.holders.filter((holder) => holder !== this.#node && urls[holder] !== undefined);
    const problems: string[] = [];
    let wasCorrupt = false;
    let moved = 0;
    for (let tries = TRIES_PER_HOLDER * holders.length; holders.length > 0 && tries > 0; tries--) {
      const holder = holders[0] as string;
      const before = writer.writtenBytes;
      let refusal: Refusal | undefined;
      try {
        refusal = await this.#ask(new URL(`objects/${encodeURIComponent(id)}`, slashed(urls[holder] as string)), reference, writer, signal);
      } catch (error) {
        if (signal.aborted) throw signal.reason;
        // Our own store's, not the holder's fault.
        if (error instanceof MetronomeError) throw error;
        // The transfer broke. With progress the same holder goes on where it stopped, otherwise the next one is asked.
        moved += writer.writtenBytes - before;
        if (writer.writtenBytes > before) continue;
        refusal = { problem: error instanceof Error ? error.message : String(error), isCorrupt: false };
      }
      moved += Math.max(0, writer.writtenBytes - before);
      if (refusal === undefined) {
        if (writer.writtenBytes === sizeBytes && (digest === '' || writer.digest() === digest)) return moved;
        refusal = { problem: writer.writtenBytes === sizeBytes ? `sent bytes with the digest ${writer.digest()}` : `sent ${writer.writtenBytes} bytes`, isCorrupt: true };
      }
      if (refusal.isCorrupt) {
        wasCorrupt = true;
        await writer.restart();
      }
      problems.push(`${holder}: ${refusal.problem}`);
      holders = holders.slice(1);
    }
    const maker = reference.holders[0] ?? 'an unknown node';
    const what = `The object "${id}"${reference.name === '' ? '' : ` (${reference.name})`}, made on "${maker}",`;
    const told = problems.length === 0 ? 'No address of a holder is known.' : problems.join('; ');
    if (wasCorrupt) throw new MetronomeError('OBJECT_CORRUPT', `${what} does not match its digest ${digest} and ${sizeBytes} bytes. ${told}`, { component: 'agent' });
    throw new MetronomeError('OBJECT_LOST', `${what} could not be had from any holder. ${told}`, { component: 'agent' });
  }

  /** One request. Returns what speaks against this holder, or undefined when the body was read to its end. */
  async #ask(url: URL, reference: ObjectRef, writer: ObjectWriter, signal: AbortSignal): Promise<Refusal | undefined> {
    const from = writer.writtenBytes;
    // A resumption of a complete body only has to be verified.
    if (from > 0 && from >= reference.sizeBytes) return undefined;
    const { statusCode, headers, body } = await request(url, { dispatcher: this.#http, signal, headers: from > 0 ? { range: `bytes=${from}-` } : {} });
    const resumes = statusCode === 206 && String(headers['content-range'] ?? '').startsWith(`bytes ${from}-`);
    if (statusCode !== 200 && !resumes) {
      await body.dump();
      return { problem: statusCode === 404 ? 'does not have it' : `answered with status ${statusCode}`, isCorrupt: false };
    }
    if (from > 0 && !resumes) await writer.restart();
    for await (const chunk of body as AsyncIterable<Uint8Array>) {
      if (writer.writtenBytes + chunk.length > reference.sizeBytes) {
        body.destroy();
        body.on('error', () => {});
        return { problem: `sent more than ${reference.sizeBytes} bytes`, isCorrupt: true };
      }
      await writer.write(chunk);
    }
    return undefined;
  }
}

function slashed(url: string): string {
  return url.endsWith('/') ? url : `${url}/`;
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
