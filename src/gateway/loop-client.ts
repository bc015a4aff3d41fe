/**
 * The scheduler's loop as the doors see it: submissions by ticket, control calls by number, watchers. Everything that
 * is sent in one tick leaves in one message; everything that waits is counted and bounded; when the line ends, all of
 * it fails.
 */
import { MetronomeError, type ErrorRecord } from '../core/errors.ts';
import type { Transition, WatchInvocationsRequest } from '../rpc/gen/metronome/v1/invoke.ts';
import type { ControlMethod, ControlMethods, GatewayMessage, Line, LoopMessage, SettledItem, SubmitItem } from './protocol.ts';

/** One moment, as the inspector tells it. */
export type Inspected = Extract<LoopMessage, { kind: 'inspected' }>;

/** Who waits for a submission. Exactly one of the two is called, once. */
export interface Waiter {
  /** An asynchronous submission is durable. */
  accepted(invocationId: string): void;
  /** A synchronous submission ended, or a submission was refused. */
  settled(item: SettledItem): void;
}

/** Who watches transitions. */
export interface Watcher {
  transitions(transitions: readonly Transition[], missed: number): void;
  /** The watch ended because the gateway stops or the loop refused it. */
  failed(error: MetronomeError): void;
}

/** What the loop client is told about, beside the answers. */
export interface LoopClientOptions {
  readonly maxInFlight: number;
  readonly maxCalls: number;
  /** The hint sent with QUEUE_FULL, ms. */
  readonly retryAfterMs: number;
  /** Told of every submission that ended: its target, its time in the gateway, its outcome (undefined: accepted). */
  readonly onEnded?: (target: string, durationMs: number, item: SettledItem | undefined) => void;
  readonly onServing: (serving: boolean) => void;
  /** Told what the inspector tells, while it is asked to (`inspect`). */
  readonly onInspected?: (message: Inspected) => void;
  readonly onStop: (graceMs: number) => void;
}

/** The doors' way to the loop. */
export interface LoopClient {
  /** Submissions that have not ended. */
  readonly inFlight: number;
  /** Control calls and watches that wait. */
  readonly waitingCalls: number;
  /** A number for the next submission, unique in the life of this gateway. */
  takeTicket(): number;
  /** Throws DRAINING or QUEUE_FULL, which must be answered to the caller; otherwise the waiter will hear. */
  submit(item: SubmitItem, waiter: Waiter): void;
  /** Asks for a cancellation; the settlement still comes. Harmless when it has come. */
  cancel(ticket: number): void;
  /** One request, one response. Aborting gives up waiting and tells the loop. */
  call<Method extends ControlMethod>(method: Method, request: ControlMethods[Method][0], signal?: AbortSignal): Promise<ControlMethods[Method][1]>;
  /** Watches transitions until the returned function is called. Throws like submit. */
  watch(request: WatchInvocationsRequest, watcher: Watcher): () => void;
  /** Asks the inspector to tell what goes on, or not to any more. */
  inspect(wanted: boolean): void;
  /** From now on submissions are refused with DRAINING. */
  drain(): void;
  /** Resolves when no submission is in flight. */
  idle(): Promise<void>;
  /** Calls back once, after everything was failed, when `end` was called or the line ended. Returns how to forget it. */
  onEnd(listener: () => void): () => void;
  /** Fails calls and watches, and submissions that are still in flight. Nothing is sent afterwards. */
  end(): void;
}

interface InFlight {
  readonly waiter: Waiter;
  readonly target: string;
  readonly startedAtMs: number;
}

interface PendingCall {
  readonly resolve: (response: unknown) => void;
  readonly reject: (error: MetronomeError) => void;
  readonly signal: AbortSignal | undefined;
  readonly onAbort: (() => void) | undefined;
}

/** Items of one submit message; more are sent at once in a further one. */
const MAX_SUBMIT_ITEMS = 1024;

/** Connects to the loop at the other end of `line`. */
export function createLoopClient(line: Line<LoopMessage, GatewayMessage> & { onClose?(listener: () => void): void }, options: LoopClientOptions): LoopClient {
  const inFlight = new Map<number, InFlight>();
  const calls = new Map<number, PendingCall>();
  const watchers = new Map<number, Watcher>();
  let submissions: SubmitItem[] = [];
  let cancellations: number[] = [];
  let flushing = false;
  let nextTicket = 1;
  let nextCall = 1;
  let draining = false;
  let ended = false;
  let onIdle: (() => void)[] = [];
  const endListeners = new Set<() => void>();

  // setImmediate and not a microtask: every frame that one read of a socket brought is handled before it runs, so one
  // message carries them all. Measured for lone requests: 10 µs until the flush, against 6 µs.
  const scheduleFlush = (): void => {
    if (flushing) return;
    flushing = true;
    setImmediate(flush);
  };
  const flush = (): void => {
    flushing = false;
    if (ended) return;
    if (submissions.length > 0) {
      const items = submissions;
      submissions = [];
      line.post({ kind: 'submit', items });
    }
    if (cancellations.length > 0) {
      const tickets = cancellations;
      cancellations = [];
      line.post({ kind: 'cancel', tickets });
    }
  };
  const finish = (ticket: number, entry: InFlight, item: SettledItem | undefined): void => {
    inFlight.delete(ticket);
    options.onEnded?.(entry.target, performance.now() - entry.startedAtMs, item);
    if (inFlight.size === 0 && onIdle.length > 0) {
      const listeners = onIdle;
      onIdle = [];
      for (const listener of listeners) listener();
    }
  };
  const assertRoom = (): void => {
    if (ended) throw lineEnded();
    if (calls.size + watchers.size < options.maxCalls) return;
    throw new MetronomeError('QUEUE_FULL', `${calls.size + watchers.size} calls wait for the scheduler already; try again later.`, { component: 'gateway', retryAfterMs: options.retryAfterMs });
  };
  const takeCall = (call: number): PendingCall | undefined => {
    const pending = calls.get(call);
    if (pending === undefined) return undefined;
    calls.delete(call);
    if (pending.onAbort) pending.signal?.removeEventListener('abort', pending.onAbort);
    return pending;
  };
  const end = (): void => {
    if (ended) return;
    flush();
    ended = true;
    const interrupted: ErrorRecord = { code: 'INTERRUPTED', message: 'The gateway lost the scheduler, or stopped, before the result came. The invocation may have run.', component: 'gateway' };
    for (const [ticket, entry] of inFlight) {
      const item: SettledItem = { ticket, error: interrupted };
      finish(ticket, entry, item);
      entry.waiter.settled(item);
    }
    for (const call of calls.keys()) takeCall(call)?.reject(lineEnded());
    for (const watcher of watchers.values()) watcher.failed(lineEnded());
    watchers.clear();
    for (const listener of endListeners) listener();
    endListeners.clear();
  };

  line.onMessage((message) => {
    if (ended) return;
    switch (message.kind) {
      case 'settled':
        for (const item of message.items) {
          const entry = inFlight.get(item.ticket);
          if (entry === undefined) continue;
          finish(item.ticket, entry, item);
          entry.waiter.settled(item);
        }
        return;
      case 'accepted':
        for (const { ticket, invocationId } of message.items) {
          const entry = inFlight.get(ticket);
          if (entry === undefined) continue;
          finish(ticket, entry, undefined);
          entry.waiter.accepted(invocationId);
        }
        return;
      case 'reply':
        takeCall(message.call)?.resolve(message.response);
        return;
      case 'failed': {
        const error = MetronomeError.fromRecord(message.error);
        takeCall(message.call)?.reject(error);
        const watcher = watchers.get(message.call);
        watchers.delete(message.call);
        watcher?.failed(error);
        return;
      }
      case 'transitions':
        watchers.get(message.call)?.transitions(message.transitions, message.missed);
        return;
      case 'inspected':
        options.onInspected?.(message);
        return;
      case 'serving':
        options.onServing(message.serving);
        return;
      case 'stop':
        options.onStop(message.graceMs);
        return;
      default:
        message satisfies never;
    }
  });
  line.onClose?.(end);

  return {
    get inFlight() {
      return inFlight.size;
    },
    get waitingCalls() {
      return calls.size + watchers.size;
    },
    takeTicket: () => nextTicket++,
    submit(item, waiter) {
      if (ended) throw lineEnded();
      if (draining) throw new MetronomeError('DRAINING', 'The scheduler is shutting down and takes no new work.', { component: 'gateway' });
      if (inFlight.size >= options.maxInFlight) {
        throw new MetronomeError('QUEUE_FULL', `${inFlight.size} requests are in flight already; the limit is ${options.maxInFlight}. Try again later.`, { component: 'gateway', retryAfterMs: options.retryAfterMs });
      }
      inFlight.set(item.ticket, { waiter, target: item.target, startedAtMs: performance.now() });
      if (submissions.push(item) >= MAX_SUBMIT_ITEMS) flush();
      else scheduleFlush();
    },
    cancel(ticket) {
      if (ended || !inFlight.has(ticket)) return;
      cancellations.push(ticket);
      scheduleFlush();
    },
    call(method, request, signal) {
      return new Promise((resolve, reject) => {
        assertRoom();
        if (signal?.aborted) throw gaveUp();
        const call = nextCall++;
        const onAbort = signal && ((): void => {
          if (takeCall(call) === undefined) return;
          if (!ended) line.post({ kind: 'endCall', call });
          reject(gaveUp());
        });
        // The loop answers a method with that method's response: the protocol's own promise, which the table cannot express.
        calls.set(call, { resolve: resolve as (response: unknown) => void, reject, signal, onAbort });
        if (onAbort) signal.addEventListener('abort', onAbort, { once: true });
        line.post({ kind: 'call', call, method, request });
      });
    },
    watch(request, watcher) {
      assertRoom();
      const call = nextCall++;
      watchers.set(call, watcher);
      line.post({ kind: 'watch', call, request });
      return () => {
        if (watchers.delete(call) && !ended) line.post({ kind: 'endCall', call });
      };
    },
    inspect(wanted) {
      if (!ended) line.post({ kind: 'inspect', wanted });
    },
    drain() {
      draining = true;
    },
    idle: () => (inFlight.size === 0 ? Promise.resolve() : new Promise((resolve) => onIdle.push(resolve))),
    onEnd(listener) {
      endListeners.add(listener);
      return () => void endListeners.delete(listener);
    },
    end,
  };
}

function lineEnded(): MetronomeError {
  return new MetronomeError('UNAVAILABLE', 'The scheduler is not there: it stopped or restarts. Try again later.', { component: 'gateway' });
}

function gaveUp(): MetronomeError {
  return new MetronomeError('CANCELLED', 'The caller gave up waiting.', { component: 'gateway' });
}
