/** Calls with answers between two threads, in both directions over one port. Whoever leaves lets the other's calls fail. */
import { MetronomeError, type ErrorRecord } from '../../core/errors.ts';

/** Methods by name: what is asked and what is answered, plain data both. */
export type CallTable = Readonly<Record<string, { readonly ask: unknown; readonly answer: unknown }>>;

/** What answers the calls of a table. The signal is aborted when the caller no longer waits. */
export type CallHandlers<T extends CallTable> = { readonly [M in keyof T]: (ask: T[M]['ask'], signal: AbortSignal) => T[M]['answer'] | Promise<T[M]['answer']> };

type Message =
  | { readonly kind: 'ask'; readonly call: number; readonly method: string; readonly ask: unknown }
  | { readonly kind: 'abort'; readonly call: number; readonly reason: ErrorRecord }
  | { readonly kind: 'answer'; readonly call: number; readonly answer: unknown }
  | { readonly kind: 'error'; readonly call: number; readonly error: ErrorRecord };

/** A Worker or the parent's port of one. */
export interface LinePort {
  postMessage(message: Message): void;
  on(event: 'message', listener: (message: Message) => void): unknown;
}

interface Pending {
  resolve(answer: unknown): void;
  reject(error: MetronomeError): void;
}

/** One end of the line: `Theirs` can be called here, `Ours` is answered here. */
export class CallLine<Theirs extends CallTable, Ours extends CallTable> {
  readonly #port: LinePort;
  readonly #handlers: CallHandlers<Ours>;
  readonly #pending = new Map<number, Pending>();
  /** Calls of the other side that are being answered. */
  readonly #answering = new Map<number, AbortController>();
  #calls = 0;
  #broken: MetronomeError | undefined;

  constructor(port: LinePort, handlers: CallHandlers<Ours>) {
    this.#port = port;
    this.#handlers = handlers;
    port.on('message', (message) => this.#onMessage(message));
  }

  /** Rejects with what the other side threw. An aborted call still ends when the other side has ended it. */
  call<M extends keyof Theirs & string>(method: M, ask: Theirs[M]['ask'], signal?: AbortSignal): Promise<Theirs[M]['answer']> {
    if (this.#broken !== undefined) return Promise.reject(this.#broken);
    if (signal?.aborted) return Promise.reject(MetronomeError.from(signal.reason));
    const call = this.#calls++;
    const { promise, resolve, reject } = Promise.withResolvers<unknown>();
    const onAbort = (): void => this.#port.postMessage({ kind: 'abort', call, reason: MetronomeError.from(signal?.reason).toRecord() });
    const forget = (): void => signal?.removeEventListener('abort', onAbort);
    signal?.addEventListener('abort', onAbort, { once: true });
    this.#pending.set(call, {
      resolve(answer) {
        forget();
        resolve(answer);
      },
      reject(error) {
        forget();
        reject(error);
      },
    });
    this.#port.postMessage({ kind: 'ask', call, method, ask });
    return promise;
  }

  /** The other side is gone: what waits for it fails, what it waited for is aborted. */
  break(error: MetronomeError): void {
    this.#broken ??= error;
    for (const { reject } of this.#pending.values()) reject(error);
    this.#pending.clear();
    for (const controller of this.#answering.values()) controller.abort(error);
  }

  #onMessage(message: Message): void {
    const { call } = message;
    if (message.kind === 'ask') return void this.#answer(call, message.method, message.ask);
    if (message.kind === 'abort') return this.#answering.get(call)?.abort(MetronomeError.fromRecord(message.reason));
    const pending = this.#pending.get(call);
    this.#pending.delete(call);
    if (message.kind === 'answer') pending?.resolve(message.answer);
    else pending?.reject(MetronomeError.fromRecord(message.error));
  }

  async #answer(call: number, method: string, ask: unknown): Promise<void> {
    const controller = new AbortController();
    this.#answering.set(call, controller);
    try {
      // Both ends are compiled against the same tables.
      const handler = this.#handlers[method] as (ask: unknown, signal: AbortSignal) => unknown;
      const answer = await handler(ask, controller.signal);
      this.#port.postMessage({ kind: 'answer', call, answer });
    } catch (thrown) {
      this.#port.postMessage({ kind: 'error', call, error: MetronomeError.from(thrown).toRecord() });
    } finally {
      this.#answering.delete(call);
    }
  }
}
