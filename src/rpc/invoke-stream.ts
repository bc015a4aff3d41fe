/**
 * InvokeStream for callers: one promise per invocation, many in flight on one stream, requests of one tick in one
 * message. A stream lives once: when it breaks, all that was in flight fails, and a new one must be opened.
 */
import { Metadata, type Client, type ClientDuplexStream } from '@grpc/grpc-js';
import { MetronomeError } from '../core/errors.ts';
import { callError } from './call-error.ts';
import { InvokeRequest, InvokeServiceService, type InvokeResponse, type InvokeStreamItem, type InvokeStreamRequest, type InvokeStreamResponse } from './gen/metronome/v1/invoke.ts';
import { MAX_BATCH_BYTES, MAX_BATCH_ITEMS } from './limits.ts';
import { completeMessage, type PartialMessage } from './partial.ts';
import { fromErrorDetail } from './status.ts';

/** Bounds of a stream. */
export interface InvokeStreamOptions {
  /** Invocations in flight; further ones wait their turn, in order. @default 1024 */
  readonly maxInFlight?: number;
  /** Invocations that may wait their turn; further ones fail with QUEUE_FULL. @default 65536 */
  readonly maxWaiting?: number;
  /** Further metadata; lower-case keys. */
  readonly metadata?: Readonly<Record<string, string>>;
}

/** An open stream. */
export interface InvokeStream {
  /** Runs one function or workflow. Fails like Invoke; UNAVAILABLE when the stream broke (it may have run). */
  invoke(request: PartialMessage<InvokeRequest>, options?: { readonly signal?: AbortSignal }): Promise<InvokeResponse>;
  /** Invocations sent and not ended. */
  readonly inFlight: number;
  /** Resolves when the stream has ended: undefined after close(), otherwise why it broke. */
  readonly ended: Promise<MetronomeError | undefined>;
  /** Takes no more, waits for what is in flight or waiting, and ends the stream. */
  close(): Promise<void>;
  /** Ends the stream at once; what is in flight is cancelled and fails with CANCELLED. */
  cancel(): void;
}

interface Pending {
  readonly resolve: (response: InvokeResponse) => void;
  readonly reject: (error: MetronomeError) => void;
  readonly request: InvokeRequest;
  readonly signal: AbortSignal | undefined;
  onAbort: (() => void) | undefined;
}

/** Opens a stream on a channel to `address`. */
export function openInvokeStream(channel: Client, address: string, options: InvokeStreamOptions): InvokeStream {
  const maxInFlight = options.maxInFlight ?? 1024;
  const maxWaiting = options.maxWaiting ?? 65_536;
  const { path, requestSerialize, responseDeserialize } = InvokeServiceService.invokeStream;
  const metadata = new Metadata();
  for (const [key, value] of Object.entries(options.metadata ?? {})) metadata.set(key, value);
  const call: ClientDuplexStream<InvokeStreamRequest, InvokeStreamResponse> = channel.makeBidiStreamRequest(path, requestSerialize, responseDeserialize, metadata);

  const inFlight = new Map<number, Pending>();
  const waiting = new Set<Pending>();
  let outgoing: InvokeStreamItem[] = [];
  let nextTag = 1;
  let flushing = false;
  let blocked = false;
  let closing = false;
  let over = false;
  let brokenBy: MetronomeError | undefined;
  let onIdle: (() => void) | undefined;
  let resolveEnded: (reason: MetronomeError | undefined) => void = () => {};
  const ended = new Promise<MetronomeError | undefined>((resolve) => (resolveEnded = resolve));

  const scheduleFlush = (): void => {
    if (flushing || blocked) return;
    flushing = true;
    setImmediate(flush);
  };
  const flush = (): void => {
    flushing = false;
    if (over) return;
    const items = outgoing;
    outgoing = [];
    for (let start = 0; start < items.length; ) {
      let end = start;
      let bytes = 0;
      do {
        bytes += items[end]?.request?.payload.length ?? 0;
        end++;
      } while (end < items.length && end - start < MAX_BATCH_ITEMS && bytes + (items[end]?.request?.payload.length ?? 0) <= MAX_BATCH_BYTES);
      // What is written is bounded by maxInFlight; `blocked` only keeps messages large while the network is slow.
      if (!call.write({ items: items.slice(start, end) })) blocked = true;
      start = end;
    }
  };
  const send = (pending: Pending): void => {
    const tag = nextTag++;
    inFlight.set(tag, pending);
    outgoing.push({ tag, request: pending.request });
    if (pending.signal) {
      pending.onAbort = (): void => {
        outgoing.push({ tag, cancel: true });
        scheduleFlush();
      };
      pending.signal.addEventListener('abort', pending.onAbort, { once: true });
    }
    scheduleFlush();
  };
  const forget = (pending: Pending): void => {
    if (pending.onAbort) pending.signal?.removeEventListener('abort', pending.onAbort);
  };
  const finish = (reason: MetronomeError | undefined): void => {
    if (over) return;
    over = true;
    brokenBy = reason;
    const failure = reason ?? new MetronomeError('UNAVAILABLE', `The scheduler at ${address} ended the stream before the result came.`);
    for (const pending of [...inFlight.values(), ...waiting]) {
      forget(pending);
      pending.reject(failure);
    }
    inFlight.clear();
    waiting.clear();
    outgoing = [];
    resolveEnded(reason);
    onIdle?.();
  };

  call.on('data', (message: InvokeStreamResponse) => {
    for (const result of message.results) {
      const pending = inFlight.get(result.tag);
      if (pending === undefined) continue;
      inFlight.delete(result.tag);
      forget(pending);
      if (result.response) pending.resolve(result.response);
      else if (result.error) pending.reject(MetronomeError.fromRecord(fromErrorDetail(result.error)));
      else pending.reject(new MetronomeError('INTERNAL', `The scheduler at ${address} sent a result without an outcome.`));
    }
    for (const pending of waiting) {
      if (inFlight.size >= maxInFlight) break;
      waiting.delete(pending);
      forget(pending);
      send(pending);
    }
    if (inFlight.size === 0) onIdle?.();
  });
  call.on('drain', () => {
    blocked = false;
    if (outgoing.length > 0) scheduleFlush();
  });
  call.on('error', (error) => finish(callError(address, error)));
  call.on('end', () => finish(closing && inFlight.size === 0 ? undefined : new MetronomeError('UNAVAILABLE', `The scheduler at ${address} ended the stream.`)));

  return {
    invoke(request, invokeOptions) {
      return new Promise((resolve, reject) => {
        const signal = invokeOptions?.signal;
        if (over) return reject(new MetronomeError('UNAVAILABLE', `The stream to ${address} has ended${brokenBy ? `: ${brokenBy.message}` : ''}. Open a new one.`, { cause: brokenBy }));
        if (closing) return reject(new MetronomeError('UNAVAILABLE', 'The stream is closing; open a new one.'));
        if (signal?.aborted) return reject(new MetronomeError('CANCELLED', 'Cancelled before it was sent.'));
        const pending: Pending = { resolve, reject, request: completeMessage(InvokeRequest, request), signal, onAbort: undefined };
        if (inFlight.size < maxInFlight) return send(pending);
        if (waiting.size >= maxWaiting) return reject(new MetronomeError('QUEUE_FULL', `${waiting.size} invocations wait on this stream already; the limit is ${maxWaiting}.`));
        waiting.add(pending);
        if (signal) {
          pending.onAbort = (): void => {
            if (waiting.delete(pending)) reject(new MetronomeError('CANCELLED', 'Cancelled before it was sent.'));
          };
          signal.addEventListener('abort', pending.onAbort, { once: true });
        }
      });
    },
    get inFlight() {
      return inFlight.size;
    },
    ended,
    async close() {
      closing = true;
      if (inFlight.size > 0 && !over) await new Promise<void>((resolve) => (onIdle = resolve));
      call.end();
      await ended;
    },
    cancel() {
      finish(new MetronomeError('CANCELLED', 'The stream was cancelled by its owner.'));
      call.cancel();
    },
  };
}
