/**
 * Adapters from plain async functions to grpc-js handlers: thrown errors become statuses by the one table,
 * cancellation and deadline become an AbortSignal and an absolute time.
 */
import type { Metadata, ServerUnaryCall, ServerWritableStream, handleClientStreamingCall, handleServerStreamingCall, handleUnaryCall } from '@grpc/grpc-js';
import { MetronomeError } from '../core/errors.ts';
import { toStatus } from './status.ts';

/** What a handler may know about its call. */
export interface CallContext {
  /** Full path, for example "/metronome.v1.NodeService/ListNodes". */
  readonly path: string;
  readonly metadata: Metadata;
  /** When the caller gives up, ms since 1970; 0: never. */
  readonly deadlineAtMs: number;
  /** Aborted when the caller cancels, goes away, or its deadline passes; and, harmlessly, after the call ended. */
  readonly signal: AbortSignal;
}

/** Told once for every call that ended. `code` is the gRPC status number. */
export type CallObserver = (path: string, code: number) => void;

/** A unary handler from an async function. */
export function unaryHandler<Request, Response>(
  handle: (request: Request, context: CallContext) => Response | Promise<Response>,
  observe?: CallObserver,
): handleUnaryCall<Request, Response> {
  return (call, callback) => {
    const path = call.getPath();
    const failed = (thrown: unknown): void => {
      const status = toStatus(thrown);
      observe?.(path, status.code);
      callback(status);
    };
    let result: Response | Promise<Response>;
    try {
      result = handle(call.request, createContext(call));
    } catch (thrown) {
      failed(thrown);
      return;
    }
    Promise.resolve(result).then((response) => {
      observe?.(path, 0);
      callback(null, response);
    }, failed);
  };
}

/** Writes one message of a server stream; resolves when there is room for the next, rejects with CANCELLED when the reader is gone. */
export type StreamWriter<Response> = (message: Response) => Promise<void>;

/** A server-streaming handler from an async function that writes; the stream ends when it returns. */
export function serverStreamHandler<Request, Response>(
  handle: (request: Request, write: StreamWriter<Response>, context: CallContext) => Promise<void>,
  observe?: CallObserver,
): handleServerStreamingCall<Request, Response> {
  return (call) => {
    const path = call.getPath();
    handle(call.request, (message) => writeMessage(call, message), createContext(call)).then(
      () => {
        observe?.(path, 0);
        call.end();
      },
      (thrown: unknown) => {
        const status = toStatus(thrown);
        observe?.(path, status.code);
        // 'error' is how grpc-js takes a status; after a cancellation nobody is there to read it.
        if (!call.cancelled) call.emit('error', status);
      },
    );
  };
}

/** A client-streaming handler from an async function that reads; the reply is what it returns. Leaving the loop early ends the call. */
export function clientStreamHandler<Request, Response>(
  handle: (requests: AsyncIterable<Request>, context: CallContext) => Promise<Response>,
  observe?: CallObserver,
): handleClientStreamingCall<Request, Response> {
  return (call, callback) => {
    const path = call.getPath();
    // A readable stream of objects is an AsyncIterable of them; its declared type says unknown.
    handle(call as AsyncIterable<Request>, createContext(call)).then(
      (response) => {
        observe?.(path, 0);
        callback(null, response);
      },
      (thrown: unknown) => {
        const status = toStatus(thrown);
        observe?.(path, status.code);
        callback(status);
      },
    );
  };
}

/** The call's deadline as ms since 1970; 0 when it has none. */
export function callDeadlineAtMs(deadline: Date | number): number {
  const atMs = typeof deadline === 'number' ? deadline : deadline.getTime();
  return Number.isFinite(atMs) ? atMs : 0;
}

/** What all kinds of calls have. */
type AnyServerCall = Pick<ServerUnaryCall<unknown, unknown>, 'getPath' | 'metadata' | 'getDeadline' | 'cancelled'> & { on(event: 'cancelled', listener: () => void): unknown };

function createContext(call: AnyServerCall): CallContext {
  let controller: AbortController | undefined;
  return {
    path: call.getPath(),
    metadata: call.metadata,
    deadlineAtMs: callDeadlineAtMs(call.getDeadline()),
    // Made on first use: most handlers never look at it.
    get signal() {
      if (controller === undefined) {
        const made = new AbortController();
        controller = made;
        const abort = (): void => made.abort(new MetronomeError('CANCELLED', 'The caller cancelled the call or went away.'));
        if (call.cancelled) abort();
        else call.on('cancelled', abort);
      }
      return controller.signal;
    },
  };
}

function writeMessage<Response>(call: ServerWritableStream<unknown, Response>, message: Response): Promise<void> {
  return new Promise((resolve, reject) => {
    const gone = (): void => reject(new MetronomeError('CANCELLED', 'The reader of the stream went away.'));
    if (call.cancelled || call.destroyed) {
      gone();
      return;
    }
    if (call.write(message)) {
      resolve();
      return;
    }
    const onDrain = (): void => {
      call.off('cancelled', onCancelled);
      resolve();
    };
    const onCancelled = (): void => {
      call.off('drain', onDrain);
      gone();
    };
    call.once('drain', onDrain);
    call.once('cancelled', onCancelled);
  });
}
