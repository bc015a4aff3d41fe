/**
 * Asks other agents' data servers, over HTTP/1.1 with kept connections. Bodies are read into one buffer that all connections share
 * and that the receiver must empty before it returns; a general client allocates 64 KiB for every read instead, which costs a third
 * of the throughput and, until a collection comes, tens of megabytes (figures in ARCHITECTURE.md). Only for the data thread.
 */
import { connect, type Socket } from 'node:net';
import type { FetchTimeouts } from './data-protocol.ts';
import type { LinkShaper } from './link-shaper.ts';

/** What an answer begins with. */
export interface ResponseHead {
  readonly status: number;
  /** Names in lower case. */
  readonly headers: ReadonlyMap<string, string>;
  /** Undefined: not told. */
  readonly bodyBytes: number | undefined;
}

/** One request. */
export interface HolderRequest {
  readonly method: 'GET' | 'POST';
  readonly url: URL;
  readonly headers?: Readonly<Record<string, string>>;
  /** The answer began. False: its body is not wanted. */
  readonly onHead: (head: ResponseHead) => boolean;
  /** A piece of the body; valid only until it returns. What it throws ends the request. */
  readonly onBytes: (bytes: Buffer) => void;
  readonly signal: AbortSignal;
}

const READ_BYTES = 1024 * 1024;
const MAX_HEAD_BYTES = 16 * 1024;
/** Exchanges with one holder at the same time; more wait here, where nobody's patience runs. */
const MAX_ACTIVE_PER_HOLDER = 16;
const MAX_IDLE_PER_HOLDER = 4;
const MAX_IDLE = 128;
/** Shorter than the servers keep an idle connection. */
const IDLE_MS = 4_000;

/** What is under way on a connection. */
interface Exchange {
  readonly request: HolderRequest;
  head: Buffer;
  /** Of the body, once the head is there. */
  missingBytes: number | undefined;
  mayKeep: boolean;
  settle(error: Error | undefined): void;
}

class Connection {
  readonly origin: string;
  readonly socket: Socket;
  exchange: Exchange | undefined;
  timedOut = false;
  /** Signs of life so far. */
  signs = 0;
  /** Why it was destroyed, if not by the socket itself. */
  problem: Error | undefined;

  constructor(url: URL, buffer: Buffer, onBytes: (connection: Connection, bytes: Buffer) => boolean) {
    this.origin = url.host;
    const callback = (count: number): boolean => onBytes(this, buffer.subarray(0, count));
    this.socket = connect({ host: url.hostname.replace(/^\[|\]$/g, ''), port: Number(url.port || 80), noDelay: true, onread: { buffer, callback } });
  }

  fail(problem: Error): void {
    this.problem ??= problem;
    this.socket.destroy();
  }
}

export class HolderClient {
  readonly #timeouts: FetchTimeouts;
  readonly #ingress: LinkShaper;
  readonly #latencyMs: number;
  readonly #buffer: Buffer;
  readonly #idle = new Map<string, Connection[]>();
  readonly #connections = new Set<Connection>();
  readonly #turns = new Map<string, { active: number; readonly waiting: (() => void)[] }>();

  constructor(options: { readonly timeouts: FetchTimeouts; readonly ingress: LinkShaper; readonly latencyMs: number }) {
    this.#timeouts = options.timeouts;
    this.#ingress = options.ingress;
    this.#latencyMs = options.latencyMs;
    this.#buffer = Buffer.allocUnsafeSlow(options.ingress.pieceBytes(READ_BYTES));
  }

  /** Resolves when the body was read to its end (or was not wanted). Rejects when the exchange broke, with what onBytes threw, or with the signal's reason. */
  async request(request: HolderRequest): Promise<void> {
    const { host } = request.url;
    const turns = this.#turns.get(host) ?? { active: 0, waiting: [] };
    this.#turns.set(host, turns);
    while (turns.active >= MAX_ACTIVE_PER_HOLDER) await new Promise<void>((resolve) => turns.waiting.push(resolve));
    turns.active++;
    try {
      await this.#request(request);
    } finally {
      turns.active--;
      const next = turns.waiting.shift();
      if (next !== undefined) next();
      else if (turns.active === 0) this.#turns.delete(host);
    }
  }

  async #request(request: HolderRequest): Promise<void> {
    request.signal.throwIfAborted();
    if (this.#latencyMs > 0) await pause(this.#latencyMs, request.signal);
    const kept = this.#takeIdle(request.url.host);
    if (kept !== undefined) {
      const outcome = await this.#exchange(kept, request);
      // The holder may have hung up just when it was asked: that is no answer.
      if (outcome !== 'unanswered') return;
      if (kept.timedOut) throw kept.problem;
      request.signal.throwIfAborted();
    }
    const fresh = new Connection(request.url, this.#buffer, this.#onBytes);
    this.#connections.add(fresh);
    this.#watch(fresh);
    if ((await this.#exchange(fresh, request)) === 'unanswered') throw fresh.problem ?? new Error('hung up without an answer');
  }

  /** Ends all connections. */
  close(): void {
    for (const connection of this.#connections) connection.fail(new Error('The agent is shutting down.'));
  }

  async #exchange(connection: Connection, request: HolderRequest): Promise<'done' | 'unanswered'> {
    const { socket } = connection;
    const { signal } = request;
    const onAbort = (): void => connection.fail(signal.reason as Error); // whoever aborts gives an error
    signal.addEventListener('abort', onAbort, { once: true });
    try {
      return await new Promise((resolve, reject) => {
        const exchange: Exchange = {
          request, head: Buffer.alloc(0), missingBytes: undefined, mayKeep: true,
          settle(error) {
            connection.exchange = undefined;
            if (error === undefined) resolve('done');
            else if (exchange.head.length === 0 && exchange.missingBytes === undefined && !signal.aborted) resolve('unanswered');
            else reject(error);
          },
        };
        connection.exchange = exchange;
        socket.setTimeout(socket.connecting ? this.#timeouts.connectMs : this.#timeouts.headersMs);
        const { method, url, headers = {} } = request;
        const lines = [`${method} ${url.pathname}${url.search} HTTP/1.1`, `host: ${url.host}`, ...Object.entries(headers).map(([name, value]) => `${name}: ${value}`), ...(method === 'POST' ? ['content-length: 0'] : [])];
        socket.write(`${lines.join('\r\n')}\r\n\r\n`, 'latin1');
      });
    } finally {
      signal.removeEventListener('abort', onAbort);
    }
  }

  #watch(connection: Connection): void {
    const { socket } = connection;
    socket.once('connect', () => {
      connection.signs++;
      socket.setTimeout(this.#timeouts.headersMs);
    });
    socket.on('timeout', () => {
      // A slow disk may have held up this thread, and what the holder did meanwhile has not been looked at: once more round the loop.
      const { signs } = connection;
      setImmediate(() => {
        if (connection.signs !== signs || socket.destroyed) return;
        connection.timedOut = true;
        connection.fail(new Error(socket.connecting ? 'could not be reached in time' : 'did not answer in time'));
      });
    });
    // 'close' follows.
    socket.on('error', (error) => void (connection.problem ??= error));
    socket.on('end', () => connection.fail(new Error('hung up in the middle of the answer')));
    socket.on('close', () => {
      this.#connections.delete(connection);
      const idle = this.#idle.get(connection.origin);
      if (idle !== undefined && idle.includes(connection)) this.#setIdle(connection.origin, idle.filter((other) => other !== connection));
      connection.exchange?.settle(connection.problem ?? new Error('the connection was closed'));
    });
  }

  /** False: nothing more may be read now. */
  readonly #onBytes = (connection: Connection, bytes: Buffer): boolean => {
    const { exchange } = connection;
    connection.signs++;
    if (exchange === undefined) {
      // Nobody asked for anything.
      connection.fail(new Error('sent bytes without a request'));
      return false;
    }
    try {
      const body = exchange.missingBytes === undefined ? this.#readHead(connection, exchange, bytes) : bytes;
      if (body === undefined) return true;
      return this.#readBody(connection, exchange, body);
    } catch (error) {
      connection.fail(error instanceof Error ? error : new Error(String(error)));
      return false;
    }
  };

  /** Returns what follows the head, or undefined while it is not complete. */
  #readHead(connection: Connection, exchange: Exchange, bytes: Buffer): Buffer | undefined {
    const joined = Buffer.concat([exchange.head, bytes.subarray(0, MAX_HEAD_BYTES)]);
    const end = joined.indexOf('\r\n\r\n');
    if (end < 0) {
      if (joined.length >= MAX_HEAD_BYTES) throw new Error('sent no HTTP answer');
      exchange.head = joined;
      return undefined;
    }
    const [statusLine = '', ...lines] = joined.toString('latin1', 0, end).split('\r\n');
    const status = Number(/^HTTP\/1\.1 (\d{3})/.exec(statusLine)?.[1]);
    if (Number.isNaN(status)) throw new Error('sent no HTTP answer');
    const headers = new Map(lines.map((line) => [line.slice(0, Math.max(0, line.indexOf(':'))).toLowerCase(), line.slice(line.indexOf(':') + 1).trim()]));
    const length = headers.get('content-length');
    const bodyBytes = length === undefined || !/^\d{1,15}$/.test(length) ? undefined : Number(length);
    exchange.mayKeep = headers.get('connection')?.toLowerCase() !== 'close';
    const isWanted = exchange.request.onHead({ status, headers, bodyBytes });
    if (!isWanted || bodyBytes === undefined) {
      // What it still sends is not read.
      exchange.mayKeep = false;
      exchange.missingBytes = 0;
      this.#finish(connection, exchange);
      return undefined;
    }
    exchange.missingBytes = bodyBytes;
    connection.socket.setTimeout(this.#timeouts.bodyMs);
    return bytes.subarray(end + 4 - exchange.head.length);
  }

  #readBody(connection: Connection, exchange: Exchange, bytes: Buffer): boolean {
    const missing = exchange.missingBytes as number; // the head is read
    const piece = bytes.length > missing ? bytes.subarray(0, missing) : bytes;
    if (piece.length > 0) exchange.request.onBytes(piece);
    exchange.missingBytes = missing - piece.length;
    if (bytes.length > piece.length) exchange.mayKeep = false;
    const waitMs = this.#ingress.take(piece.length);
    if (waitMs === 0) {
      if (exchange.missingBytes === 0) this.#finish(connection, exchange);
      return true;
    }
    const { socket } = connection;
    // The link's wait is not the holder's silence.
    socket.setTimeout(0);
    setTimeout(() => {
      // Closed meanwhile: that has ended the exchange.
      if (connection.exchange !== exchange) return;
      if (exchange.missingBytes === 0) this.#finish(connection, exchange);
      else socket.setTimeout(this.#timeouts.bodyMs);
      socket.resume();
    }, waitMs);
    return false;
  }

  #finish(connection: Connection, exchange: Exchange): void {
    const idle = this.#idle.get(connection.origin) ?? [];
    exchange.settle(undefined);
    if (!exchange.mayKeep || idle.length >= MAX_IDLE_PER_HOLDER || this.#connections.size > MAX_IDLE) {
      connection.socket.destroy();
      return;
    }
    connection.socket.setTimeout(IDLE_MS);
    this.#setIdle(connection.origin, [...idle, connection]);
  }

  #takeIdle(origin: string): Connection | undefined {
    const idle = this.#idle.get(origin) ?? [];
    const connection = idle.at(-1);
    if (connection !== undefined) this.#setIdle(origin, idle.slice(0, -1));
    return connection;
  }

  #setIdle(origin: string, connections: Connection[]): void {
    if (connections.length === 0) this.#idle.delete(origin);
    else this.#idle.set(origin, connections);
  }
}

/** Waits; rejects with the signal's reason. */
function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const onAbort = (): void => {
      clearTimeout(timer);
      reject(signal.reason);
    };
    const timer = setTimeout(() => {
      signal.removeEventListener('abort', onAbort);
      resolve();
    }, ms);
    if (signal.aborted) onAbort();
    else signal.addEventListener('abort', onAbort, { once: true });
  });
}
