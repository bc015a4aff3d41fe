/**
 * The node's objects over HTTP, for other agents and for the gateway, in the data thread: GET and HEAD with Range and ETag, PUT (or
 * POST) to put one in, DELETE, POST …/verify to have a suspected copy looked at, and GET /objects to see what is there. Bulk data
 * goes here and not over gRPC, which takes twice the CPU for the same bytes.
 */
import { open, type FileHandle } from 'node:fs/promises';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { setTimeout as wait } from 'node:timers/promises';
import { ERRORS, MetronomeError } from '../../core/errors.ts';
import { listenError } from '../../rpc/server.ts';
import type { CallLine } from './call-line.ts';
import type { DataThreadCalls, StoreCalls } from './data-protocol.ts';
import { FileSink } from './file-sink.ts';
import type { LinkShaper } from './link-shaper.ts';
import { isObjectId, isObjectName, type StoredObject } from './stored-object.ts';

/** Options of the server. */
export interface DataServerOptions {
  readonly host: string;
  readonly port: number;
  readonly store: CallLine<StoreCalls, DataThreadCalls>;
  readonly egress: LinkShaper;
  readonly ingress: LinkShaper;
  readonly latencyMs: number;
}

/** A server that listens. */
export interface DataServer {
  readonly port: number;
  /** Closes the port and every connection. */
  stop(): Promise<void>;
}

const LINGER_MS = 1_000;
/** A connection on which nothing moves for so long is given up, ms. */
const IDLE_MS = 120_000;
const MAX_CONNECTIONS = 1_024;
/** A body is sent from two chunks in turn. The first few transfers have large ones, which cost the fewest wake-ups; many at once share the memory. */
const CHUNK_BYTES = [
  { untilSends: 8, bytes: 1024 * 1024 },
  { untilSends: 64, bytes: 256 * 1024 },
  { untilSends: MAX_CONNECTIONS, bytes: 64 * 1024 },
] as const;
/** Room that is taken at once for a body of unknown length. */
const RESERVE_STEP_BYTES = 4 * 1024 * 1024;

/** Starts the server. Fails with PORT_IN_USE or CONFIG_INVALID. */
export async function startDataServer(options: DataServerOptions): Promise<DataServer> {
  const { host, store } = options;
  const log = (fields: object, event: string): void => void store.call('log', { fields, event }).catch(() => {}); // the agent is gone: nobody reads it
  const service = new DataService(options);
  // A large upload may take its time; silence on its connection may not.
  const server: Server = createServer({ keepAliveTimeout: 30_000, requestTimeout: 0 }, (request, response) => {
    service.answer(request, response).catch((thrown: unknown) => {
      // The reader went away: nobody is left to tell.
      if (response.destroyed || (request.destroyed && !request.complete)) return void response.destroy();
      const error = MetronomeError.from(thrown);
      if (error.code === 'INTERNAL') log({ url: request.url, error: error.message }, 'data.failed');
      if (response.headersSent) return void response.destroy();
      if (!request.complete) hangUpLater(request, response);
      fail(response, ERRORS[error.code].http, error.code, error.message, request.method === 'HEAD');
    });
  });
  server.timeout = IDLE_MS;
  server.maxConnections = MAX_CONNECTIONS;
  await new Promise<void>((resolve, reject) => {
    server.once('error', (error) => reject(listenError(host, options.port, error)));
    server.listen(options.port, host, resolve);
  });
  server.on('error', (error) => log({ error: error.message }, 'data.serverFailed'));
  return {
    // A TCP server that listens has an AddressInfo.
    port: (server.address() as AddressInfo).port,
    stop: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

/** An upload was refused before its end: let the client read why, discard what it still sends for a moment, then hang up. */
function hangUpLater(request: IncomingMessage, response: ServerResponse): void {
  response.setHeader('connection', 'close');
  request.resume();
  const timer = setTimeout(() => request.destroy(), LINGER_MS);
  request.once('close', () => clearTimeout(timer));
}

class DataService {
  readonly #o: DataServerOptions;
  /** Pairs of large chunks that nobody uses, to be used again: new ones for every body would be garbage by the gigabyte. */
  readonly #freeChunks: (readonly [Buffer, Buffer])[] = [];
  #sends = 0;

  constructor(options: DataServerOptions) {
    this.#o = options;
  }

  async answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { store, latencyMs } = this.#o;
    // Browsers say where a page is from; agents and gateways do not. No page has any business here.
    const { origin, 'sec-fetch-site': fetchSite } = request.headers;
    if (origin !== undefined || (fetchSite !== undefined && fetchSite !== 'none')) throw new MetronomeError('PERMISSION_DENIED', 'Objects are not for web pages; use POST /objects of the HTTP door.', { component: 'agent' });
    if (latencyMs > 0) await wait(latencyMs);
    const url = new URL(request.url ?? '/', 'http://agent');
    const match = /^\/objects(?:\/([^/]+)(\/verify)?)?$/.exec(url.pathname);
    if (match === null) throw new MetronomeError('INVALID_REQUEST', `There is no ${url.pathname} here; objects are at /objects/<id>.`, { component: 'agent' });
    const [, id, verify] = match;
    const { method } = request;
    if (id === undefined) {
      if (method === 'PUT' || method === 'POST') return this.#put(request, response, url);
      if (method === 'GET') return respondJson(response, 200, await store.call('list', undefined));
    } else if (verify !== undefined) {
      if (method === 'POST') {
        const isSound = isObjectId(id) ? await store.call('verify', id) : undefined;
        if (isSound === undefined) throw notFound(id);
        return respondJson(response, isSound ? 200 : 410, { id, sound: isSound });
      }
    } else if (method === 'GET' || method === 'HEAD') {
      const object = isObjectId(id) ? await store.call('find', id) : undefined;
      if (object === undefined) throw notFound(id);
      return this.#send(request, response, object);
    } else if (method === 'DELETE') {
      if (!isObjectId(id) || !(await store.call('delete', id))) throw notFound(id);
      response.writeHead(204).end();
      return;
    }
    response.setHeader('allow', id === undefined ? 'GET, PUT, POST' : verify !== undefined ? 'POST' : 'GET, HEAD, DELETE');
    fail(response, 405, 'INVALID_REQUEST', `${method} is not allowed here.`, method === 'HEAD');
  }

  async #put(request: IncomingMessage, response: ServerResponse, url: URL): Promise<void> {
    const { store, ingress } = this.#o;
    const name = url.searchParams.get('name') ?? headerText(request, 'x-object-name') ?? '';
    if (!isObjectName(name)) throw new MetronomeError('INVALID_REQUEST', `An object's name has at most 255 bytes and no path separators, not ${JSON.stringify(name.slice(0, 80))}.`, { component: 'agent' });
    const expectedDigest = headerText(request, 'x-object-digest')?.toLowerCase();
    const length = Number(request.headers['content-length'] ?? 0);
    let reservedBytes = Number.isSafeInteger(length) ? length : 0;
    const { upload, path } = await store.call('begin', reservedBytes);
    let sink: FileSink | undefined;
    /** The disk refused, not the quota. */
    let diskFull = false;
    try {
      sink = new FileSink(path);
      // Not destroyed when the store refuses: the answer goes through the same socket.
      const body: AsyncIterable<Uint8Array> = request.iterator({ destroyOnReturn: false });
      for await (const chunk of body) {
        if (sink.writtenBytes + chunk.length > reservedBytes) {
          const bytes = Math.max(RESERVE_STEP_BYTES, chunk.length);
          // What is left of the quota may be less than a step.
          await store.call('reserve', { upload, bytes }).then(() => (reservedBytes += bytes), () => store.call('reserve', { upload, bytes: chunk.length }).then(() => (reservedBytes += chunk.length)));
        }
        try {
          sink.write(chunk);
        } catch (error) {
          diskFull = error instanceof MetronomeError && error.code === 'STORE_FULL';
          throw error;
        }
        const waitMs = ingress.take(chunk.length);
        if (waitMs > 0) await wait(waitMs);
      }
      // IncomingMessage ends quietly when the client goes away in the middle.
      if (!request.complete) throw new MetronomeError('CANCELLED', 'The client went away before the object was complete.', { component: 'agent' });
      const digest = sink.digest();
      if (expectedDigest !== undefined && expectedDigest !== digest) {
        throw new MetronomeError('OBJECT_CORRUPT', `The content has the digest ${digest}, not ${expectedDigest} as announced. Send it again.`, { component: 'agent' });
      }
      sink.close();
      respondJson(response, 201, await store.call('commit', { upload, name, sizeBytes: sink.writtenBytes, digest }));
    } catch (error) {
      sink?.close();
      await store.call('abort', { upload, diskFull });
      throw error;
    }
  }

  async #send(request: IncomingMessage, response: ServerResponse, object: StoredObject): Promise<void> {
    const { sizeBytes } = object;
    response.setHeader('etag', `"${object.digest}"`);
    response.setHeader('accept-ranges', 'bytes');
    response.setHeader('content-type', 'application/octet-stream');
    if (object.name !== '') response.setHeader('x-object-name', encodeURIComponent(object.name));
    const range = parseRange(request.headers.range, sizeBytes);
    if (range === 'unsatisfiable') {
      response.setHeader('content-range', `bytes */${sizeBytes}`);
      fail(response, 416, 'INVALID_REQUEST', `The range ${request.headers.range} lies outside of the object, which has ${sizeBytes} bytes.`, request.method === 'HEAD');
      return;
    }
    const { start, end } = range ?? { start: 0, end: sizeBytes - 1 };
    if (range !== undefined) response.setHeader('content-range', `bytes ${start}-${end}/${sizeBytes}`);
    const status = range === undefined ? 200 : 206;
    response.setHeader('content-length', end - start + 1);
    if (request.method === 'HEAD' || sizeBytes === 0) {
      response.writeHead(status).end();
      return;
    }
    this.#sends++;
    let file: FileHandle | undefined;
    const chunks = this.#takeChunks(end + 1 - start);
    try {
      // Dropped since it was found: an answer that can still be told.
      file = await open(object.path, 'r').catch(() => {
        throw notFound(object.id);
      });
      response.writeHead(status);
      await this.#copy(file, response, chunks, start, end + 1);
      response.end();
    } finally {
      this.#sends--;
      if (chunks[0].length === CHUNK_BYTES[0].bytes && this.#freeChunks.length < CHUNK_BYTES[0].untilSends) this.#freeChunks.push(chunks);
      await file?.close();
    }
  }

  #takeChunks(bodyBytes: number): readonly [Buffer, Buffer] {
    const most = CHUNK_BYTES.find(({ untilSends }) => this.#sends <= untilSends)?.bytes ?? CHUNK_BYTES[2].bytes;
    const bytes = this.#o.egress.pieceBytes(Math.min(most, bodyBytes));
    return (bytes === CHUNK_BYTES[0].bytes ? this.#freeChunks.pop() : undefined) ?? [Buffer.allocUnsafeSlow(bytes), Buffer.allocUnsafeSlow(bytes)];
  }

  /** One chunk is read while the other one is on its way to the socket. */
  async #copy(file: FileHandle, response: ServerResponse, chunks: readonly [Buffer, Buffer], from: number, to: number): Promise<void> {
    const { egress } = this.#o;
    let sending: Promise<void> = Promise.resolve();
    try {
      for (let position = from, i = 0; position < to; i++) {
        const chunk = chunks[i % 2 === 0 ? 0 : 1];
        const { bytesRead } = await file.read(chunk, 0, Math.min(chunk.length, to - position), position);
        if (bytesRead === 0) throw new Error('the file is shorter than the object');
        position += bytesRead;
        const waitMs = egress.take(bytesRead);
        if (waitMs > 0) await wait(waitMs);
        await sending;
        sending = write(response, chunk.subarray(0, bytesRead));
        // It is awaited at the next chunk or at the end; until then nobody would listen.
        sending.catch(() => {});
      }
    } finally {
      // The chunks are used again when this ends.
      await sending;
    }
  }
}

/** Resolves when the chunk has left this process. */
function write(response: ServerResponse, chunk: Buffer): Promise<void> {
  return new Promise((resolve, reject) => {
    const onClose = (): void => reject(new Error('the reader went away'));
    response.once('close', onClose);
    if (response.destroyed) return onClose();
    response.write(chunk, (error) => {
      response.removeListener('close', onClose);
      if (error === undefined || error === null) resolve();
      else reject(error);
    });
  });
}

/** The first and last byte of a single range; undefined when the whole is meant (also for what we do not understand: RFC 9110, 14.2). */
function parseRange(header: string | undefined, sizeBytes: number): { readonly start: number; readonly end: number } | 'unsatisfiable' | undefined {
  const match = header === undefined ? null : /^bytes=(\d*)-(\d*)$/.exec(header.trim());
  if (match === null || (match[1] === '' && match[2] === '')) return undefined;
  const [, first = '', last = ''] = match;
  const start = first === '' ? Math.max(0, sizeBytes - Number(last)) : Number(first);
  const end = first === '' || last === '' ? sizeBytes - 1 : Math.min(Number(last), sizeBytes - 1);
  if (first !== '' && last !== '' && Number(last) < Number(first)) return undefined;
  return start > end || start >= sizeBytes ? 'unsatisfiable' : { start, end };
}

function headerText(request: IncomingMessage, name: string): string | undefined {
  const value = request.headers[name];
  if (typeof value !== 'string') return undefined;
  try {
    return decodeURIComponent(value);
  } catch {
    return value; // it was not encoded
  }
}

function notFound(id: string): MetronomeError {
  return new MetronomeError('OBJECT_NOT_FOUND', `There is no object ${JSON.stringify(id.slice(0, 128))} on this node.`, { component: 'agent' });
}

function fail(response: ServerResponse, status: number, code: string, message: string, isHead: boolean): void {
  for (const name of ['etag', 'accept-ranges', 'x-object-name', 'content-length']) response.removeHeader(name);
  if (isHead) response.writeHead(status).end();
  else respondJson(response, status, { error: { code, message } });
}

function respondJson(response: ServerResponse, status: number, body: object): void {
  const text = JSON.stringify(body);
  response.writeHead(status, { 'content-type': 'application/json', 'content-length': Buffer.byteLength(text) }).end(text);
}
