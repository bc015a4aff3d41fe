/**
 * The agent's end of the Dispatch stream. Results are kept until they are acknowledged and told again on every new stream;
 * events of one turn travel in one message. One stream at a time: a new one takes over.
 */
import type { ServerDuplexStream } from '@grpc/grpc-js';
import type { DispatchCommand, DispatchEvent, DispatchRequest, DispatchResponse } from '../rpc/gen/metronome/v1/agent.ts';
import { MAX_BATCH_BYTES, MAX_BATCH_ITEMS } from '../rpc/limits.ts';
import type { AgentLog } from './agent-options.ts';
import type { EventSink } from './executor.ts';

/** Options of the hub. */
export interface DispatchHubOptions {
  readonly onCommand: (command: DispatchCommand) => void;
  /** A stream opened (true) or the last one went (false). */
  readonly onStream: (isOpen: boolean) => void;
  readonly log: AgentLog;
  /** Results kept at most. @default 10000 */
  readonly maxResults?: number;
  /** Bytes of results kept at most. @default 64 MiB */
  readonly maxResultBytes?: number;
}

interface Kept {
  readonly event: DispatchEvent;
  readonly attempt: number;
  readonly bytes: number;
}

type Stream = ServerDuplexStream<DispatchRequest, DispatchResponse>;

/** Life signs wait this long for company: with a warm function they leave in one message with the result. */
const LIFE_SIGN_DELAY_MS = 1;
/** Events that wait for a slow reader; beyond it the oldest life signs go, which nobody misses. */
const MAX_QUEUE = 20_000;
const EVENT_OVERHEAD_BYTES = 256;

export class DispatchHub implements EventSink {
  readonly #options: Required<DispatchHubOptions>;
  /** Oldest first. */
  readonly #kept = new Map<string, Kept>();
  #keptBytes = 0;
  #stream: Stream | undefined;
  #queue: DispatchEvent[] = [];
  #isBlocked = false;
  #flushScheduled = false;
  #timer: NodeJS.Timeout | undefined;
  #emptied: (() => void)[] = [];

  constructor(options: DispatchHubOptions) {
    this.#options = { maxResults: 10_000, maxResultBytes: 64 * 1024 ** 2, ...options };
  }

  get isOpen(): boolean {
    return this.#stream !== undefined;
  }

  /** Ids of results that were not acknowledged. */
  unacknowledgedIds(): Iterable<string> {
    return this.#kept.keys();
  }

  /** Resolves when every result was acknowledged. */
  whenAcknowledged(): Promise<void> {
    return this.#kept.size === 0 ? Promise.resolve() : new Promise((resolve) => this.#emptied.push(resolve));
  }

  /** A scheduler opened a stream. */
  attach(stream: Stream): void {
    const former = this.#stream;
    this.#stream = stream;
    this.#isBlocked = false;
    // Life signs of the former stream are old news; results are all sent again.
    this.#queue = Array.from(this.#kept.values(), ({ event }) => event);
    former?.end();
    const isCurrent = (): boolean => this.#stream === stream;
    const left = (): void => {
      if (!isCurrent()) return;
      this.#stream = undefined;
      this.#queue = [];
      this.#options.onStream(false);
    };
    stream.on('data', (request: DispatchRequest) => {
      // Commands of a stream that was replaced are repeated on the new one, if they still hold.
      if (isCurrent()) for (const command of request.commands) this.#command(command);
    });
    stream.on('end', () => {
      left();
      stream.end();
    });
    stream.on('cancelled', left);
    stream.on('close', left);
    stream.on('error', left);
    stream.on('drain', () => {
      if (!isCurrent()) return;
      this.#isBlocked = false;
      this.#flush();
    });
    this.#options.onStream(true);
    this.#scheduleFlush();
  }

  /** Ends the stream. */
  close(): void {
    clearTimeout(this.#timer);
    const stream = this.#stream;
    this.#flush();
    this.#stream = undefined;
    stream?.end();
  }

  lifeSign(event: DispatchEvent, isUrgent: boolean): void {
    if (this.#stream === undefined) return; // the snapshot of the next connection says what runs
    this.#enqueue(event);
    if (isUrgent) this.#scheduleFlush();
    else this.#timer ??= setTimeout(() => {
      this.#timer = undefined;
      this.#flush();
    }, LIFE_SIGN_DELAY_MS);
  }

  result(event: DispatchEvent, attempt: number): void {
    const id = event.invocationId;
    this.#forget(id);
    const { payload, logs } = event.result ?? {};
    const bytes = EVENT_OVERHEAD_BYTES + (payload?.length ?? 0) + (logs === undefined ? 0 : logs.stdout.length + logs.stderr.length);
    this.#kept.set(id, { event, attempt, bytes });
    this.#keptBytes += bytes;
    while (this.#kept.size > this.#options.maxResults || (this.#keptBytes > this.#options.maxResultBytes && this.#kept.size > 1)) {
      for (const oldest of this.#kept.keys()) {
        this.#forget(oldest);
        this.#options.log.warn({ invocationId: oldest, kept: this.#kept.size, keptBytes: this.#keptBytes }, 'result.dropped');
        break;
      }
    }
    if (this.#stream === undefined) return;
    this.#enqueue(event);
    this.#scheduleFlush();
  }

  resend(invocationId: string, attempt: number): boolean {
    const kept = this.#kept.get(invocationId);
    if (kept === undefined) return false;
    if (kept.attempt < attempt) {
      // The scheduler knows of its end: it begins the next attempt.
      this.#forget(invocationId);
      return false;
    }
    this.#enqueue(kept.event);
    this.#scheduleFlush();
    return true;
  }

  #command(command: DispatchCommand): void {
    if (command.acknowledge !== undefined) this.#forget(command.acknowledge);
    else if (command.ping !== undefined) {
      this.#enqueue({ invocationId: '', pong: command.ping });
      this.#scheduleFlush();
    } else this.#options.onCommand(command);
  }

  #forget(id: string): void {
    const kept = this.#kept.get(id);
    if (kept === undefined) return;
    this.#kept.delete(id);
    this.#keptBytes -= kept.bytes;
    if (this.#kept.size === 0 && this.#emptied.length > 0) {
      for (const resolve of this.#emptied) resolve();
      this.#emptied = [];
    }
  }

  #enqueue(event: DispatchEvent): void {
    if (this.#queue.length >= MAX_QUEUE) this.#queue.splice(0, MAX_QUEUE / 2, ...this.#queue.slice(0, MAX_QUEUE / 2).filter(({ result, rejected }) => result !== undefined || rejected !== undefined));
    // Only results: they are in the kept ones and come again with the next stream.
    if (this.#queue.length >= 2 * MAX_QUEUE) this.#queue.shift();
    this.#queue.push(event);
  }

  /** Flushes when all continuations of this turn have run: nextTick comes after the microtasks that are queued now. */
  #scheduleFlush(): void {
    if (this.#flushScheduled) return;
    this.#flushScheduled = true;
    process.nextTick(() => {
      this.#flushScheduled = false;
      this.#flush();
    });
  }

  #flush(): void {
    if (this.#timer !== undefined) {
      clearTimeout(this.#timer);
      this.#timer = undefined;
    }
    let at = 0;
    while (this.#stream !== undefined && !this.#isBlocked && at < this.#queue.length) {
      const events: DispatchEvent[] = [];
      for (let bytes = 0; at < this.#queue.length && events.length < MAX_BATCH_ITEMS && (bytes < MAX_BATCH_BYTES || events.length === 0); at++) {
        const event = this.#queue[at] as DispatchEvent;
        bytes += event.result?.payload.length ?? 0;
        events.push(event);
      }
      this.#isBlocked = !this.#stream.write({ events });
    }
    if (at === this.#queue.length) this.#queue = [];
    else if (at > 0) this.#queue.splice(0, at);
  }
}
