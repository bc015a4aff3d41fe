/**
 * One InvokeStream: many invocations in flight for one client, requests and results in batches. A client that does not
 * read its results is not read from either; a client that goes away cancels all it had in flight.
 */
import type { ServerDuplexStream } from '@grpc/grpc-js';
import { MetronomeError } from '../core/errors.ts';
import type { InvokeStreamItem, InvokeStreamRequest, InvokeStreamResponse, InvokeStreamResult } from '../rpc/gen/metronome/v1/invoke.ts';
import type { CallObserver } from '../rpc/handlers.ts';
import { MAX_BATCH_BYTES, MAX_BATCH_ITEMS, MAX_ITEMS_ACCEPTED } from '../rpc/limits.ts';
import { toErrorDetail, toStatus } from '../rpc/status.ts';
import { admit, type AdmissionLimits } from './admission.ts';
import { CANCELLED, DEADLINE_EXCEEDED, isDue, loopDeadlineAtMs } from './deadline.ts';
import type { LoopClient, Waiter } from './loop-client.ts';
import type { SettledItem } from './protocol.ts';

/** What a session works with. */
export interface StreamSessionOptions {
  readonly loop: LoopClient;
  readonly limits: AdmissionLimits & { readonly maxStreamInFlight: number; readonly retryAfterMs: number };
  readonly nowMs: () => number;
  readonly observe: CallObserver;
}

type InvokeStreamCall = ServerDuplexStream<InvokeStreamRequest, InvokeStreamResponse>;

/** Serves one InvokeStream until it ends. */
export class StreamSession {
  readonly #call: InvokeStreamCall;
  readonly #options: StreamSessionOptions;
  readonly #path: string;
  readonly #deadlineAtMs: number;
  /** Tag → ticket of what is in flight. Bounded by maxStreamInFlight. */
  readonly #tickets = new Map<number, number>();
  /** Bounded: one result for each of #tickets, and one refusal for each item of a message; reading pauses while blocked. */
  #results: InvokeStreamResult[] = [];
  #flushing = false;
  #blocked = false;
  #halfClosed = false;
  #over = false;
  /** Set when the gateway ends: the status to end with once all results are written. */
  #lastError: MetronomeError | undefined;
  readonly #forgetEnd: () => void;

  constructor(call: InvokeStreamCall, options: StreamSessionOptions) {
    this.#call = call;
    this.#options = options;
    this.#path = call.getPath();
    this.#deadlineAtMs = loopDeadlineAtMs(call.getDeadline(), options.nowMs());
    call.on('data', (message: InvokeStreamRequest) => this.#take(message));
    call.on('end', () => {
      this.#halfClosed = true;
      this.#endWhenDone();
    });
    call.on('drain', () => {
      this.#blocked = false;
      this.#flush();
    });
    call.on('cancelled', () => this.#abandon());
    // A broken stream is followed by 'cancelled', which does the work; an unheard 'error' would end the process.
    call.on('error', () => {});
    this.#forgetEnd = options.loop.onEnd(() => {
      this.#lastError = new MetronomeError('DRAINING', 'The gateway is shutting down; open a stream to another one or try again later.', { component: 'gateway' });
      this.#endWhenDone();
    });
  }

  /** The outcome of the item with this tag. */
  settled(tag: number, item: SettledItem): void {
    this.#tickets.delete(tag);
    if (this.#over) return;
    if (item.response !== undefined) this.#push({ tag, response: item.response });
    else this.#push({ tag, error: toErrorDetail(item.error ?? NO_OUTCOME) });
  }

  #take(message: InvokeStreamRequest): void {
    if (this.#over) return;
    if (message.items.length > MAX_ITEMS_ACCEPTED) {
      this.#fail(new MetronomeError('INVALID_REQUEST', `A message carried ${message.items.length} items; the limit is ${MAX_ITEMS_ACCEPTED}.`, { component: 'gateway' }));
      return;
    }
    for (const item of message.items) {
      if (item.request !== undefined) this.#submit(item);
      else if (item.cancel === true) this.#cancel(item.tag);
      else if (item.cancel === undefined) this.#refuse(item.tag, new MetronomeError('INVALID_REQUEST', 'The item carries neither a request nor a cancellation.', { component: 'gateway' }));
      if (this.#over) return;
    }
  }

  #submit(item: InvokeStreamItem): void {
    const { tag, request } = item;
    if (request === undefined) return;
    const { loop, limits, nowMs } = this.#options;
    if (this.#tickets.has(tag)) {
      // Two results with one tag could not be told apart: the client is broken, so the stream ends.
      this.#fail(new MetronomeError('INVALID_REQUEST', `Tag ${tag} is in flight already; use a new tag for every request.`, { component: 'gateway' }));
      return;
    }
    try {
      if (this.#tickets.size >= limits.maxStreamInFlight) {
        throw new MetronomeError('QUEUE_FULL', `${this.#tickets.size} requests are in flight on this stream; the limit is ${limits.maxStreamInFlight}.`, { component: 'gateway', retryAfterMs: limits.retryAfterMs });
      }
      const ticket = loop.takeTicket();
      const submission = admit(request, { ticket, mode: 'sync', nowMs: nowMs(), deadlineAtMs: this.#deadlineAtMs, traceparent: '' }, limits);
      loop.submit(submission, new StreamWaiter(this, tag));
      this.#tickets.set(tag, ticket);
    } catch (thrown) {
      this.#refuse(tag, MetronomeError.from(thrown));
    }
  }

  #cancel(tag: number): void {
    const ticket = this.#tickets.get(tag);
    // Unknown: its result is on the way already.
    if (ticket !== undefined) this.#options.loop.cancel(ticket);
  }

  #refuse(tag: number, error: MetronomeError): void {
    this.#push({ tag, error: toErrorDetail(error.toRecord()) });
  }

  #push(result: InvokeStreamResult): void {
    this.#results.push(result);
    this.#scheduleFlush();
  }

  #scheduleFlush(): void {
    if (this.#flushing || this.#blocked) return;
    this.#flushing = true;
    setImmediate(() => this.#flush());
  }

  #flush(): void {
    this.#flushing = false;
    if (this.#over || this.#blocked) return;
    const results = this.#results;
    let start = 0;
    while (start < results.length && !this.#blocked) {
      let end = start + 1;
      let bytes = sizeOf(results[start]);
      while (end < results.length && end - start < MAX_BATCH_ITEMS && (bytes += sizeOf(results[end])) <= MAX_BATCH_BYTES) end++;
      if (!this.#call.write({ results: start === 0 && end === results.length ? results : results.slice(start, end) })) this.#blocked = true;
      start = end;
    }
    this.#results = results.slice(start);
    // Reading on while results cannot be sent would let them pile up without bound.
    if (this.#blocked) this.#call.pause();
    else if (this.#call.isPaused()) this.#call.resume();
    this.#endWhenDone();
  }

  #endWhenDone(): void {
    if (this.#over || this.#tickets.size > 0 || this.#results.length > 0) return;
    if (this.#halfClosed) {
      this.#over = true;
      this.#forgetEnd();
      this.#options.observe(this.#path, 0);
      this.#call.end();
    } else if (this.#lastError !== undefined) {
      this.#fail(this.#lastError);
    }
  }

  #fail(error: MetronomeError): void {
    const status = toStatus(error);
    this.#end(status.code);
    this.#call.emit('error', status);
  }

  /** The client went away, cancelled, or its deadline passed. */
  #abandon(): void {
    if (!this.#over) this.#end(isDue(this.#deadlineAtMs, this.#options.nowMs()) ? DEADLINE_EXCEEDED : CANCELLED);
  }

  #end(code: number): void {
    this.#over = true;
    this.#forgetEnd();
    this.#results = [];
    // At the deadline the loop ends them itself, as timed out and not as cancelled.
    if (code !== DEADLINE_EXCEEDED) for (const ticket of this.#tickets.values()) this.#options.loop.cancel(ticket);
    this.#options.observe(this.#path, code);
  }
}

class StreamWaiter implements Waiter {
  readonly #session: StreamSession;
  readonly #tag: number;

  constructor(session: StreamSession, tag: number) {
    this.#session = session;
    this.#tag = tag;
  }

  accepted(): void {
    // Only asynchronous submissions are accepted, and a stream makes none.
  }

  settled(item: SettledItem): void {
    this.#session.settled(this.#tag, item);
  }
}

const NO_OUTCOME = { code: 'INTERNAL', message: 'The scheduler settled the invocation without an outcome.', component: 'gateway' } as const;

function sizeOf(result: InvokeStreamResult | undefined): number {
  if (result?.response === undefined) return 256 + (result?.error?.logs?.stdout.length ?? 0) + (result?.error?.logs?.stderr.length ?? 0) + (result?.error?.functionError?.stack.length ?? 0);
  const { response } = result;
  let bytes = 256 + response.payload.byteLength + (response.logs?.stdout.length ?? 0) + (response.logs?.stderr.length ?? 0) + response.outputs.length * 160;
  for (const step of response.steps) bytes += 256 + (step.response?.payload.byteLength ?? 0);
  return bytes;
}
