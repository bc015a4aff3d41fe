/**
 * The node's objects over HTTP, for other agents and for the gateway: GET and HEAD with Range and ETag, PUT (or POST) to put
 * one in, DELETE. Bulk data goes here and not over gRPC, which takes twice the CPU for the same bytes.
 */
import { createReadStream } from 'node:fs';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { pipeline } from 'node:stream/promises';
import { ERRORS, MetronomeError } from '../../core/errors.ts';
import { listenError } from '../../rpc/server.ts';
import type { AgentLog } from '../agent-options.ts';
import { isObjectId, isObjectName, type ObjectStore, type StoredObject } from './object-store.ts';

/** A server that listens. */
export interface DataServer {
  readonly port: number;
  /** Closes the port and every connection. */
  stop(): Promise<void>;
}

const CHUNK_BYTES = 1024 * 1024;
const LINGER_MS = 1_000;

/** Starts the server. Fails with PORT_IN_USE or CONFIG_INVALID. */
export async function startDataServer(options: { readonly host: string; readonly port: number; readonly store: ObjectStore; readonly log: AgentLog }): Promise<DataServer> {
  const { host, store, log } = options;
  const server = createServer({ keepAliveTimeout: 30_000 }, (request, response) => {
    answer(request, response, store).catch((thrown: unknown) => {
      // The reader went away: nobody is left to tell.
      if (response.destroyed || (request.destroyed && !request.complete)) return void response.destroy();
      const error = MetronomeError.from(thrown);
      if (error.code === 'INTERNAL') log.error({ url: request.url, error: error.message }, 'data.failed');
      if (response.headersSent) return void response.destroy();
      if (!request.complete) hangUpLater(request, response);
      fail(response, ERRORS[error.code].http, error.code, error.message, request.method === 'HEAD');
    });
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', (error) => reject(listenError(host, options.port, error)));
    server.listen(options.port, host, resolve);
  });
  server.on('error', (error) => log.error({ error: error.message }, 'data.serverFailed'));
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

async function answer(request: IncomingMessage, response: ServerResponse, store: ObjectStore): Promise<void> {
  const url = new URL(request.url ?? '/', 'http://agent');
  const match = /^\/objects(?:\/([^/]+))?$/.exec(url.pathname);
  if (match === null) throw new MetronomeError('INVALID_REQUEST', `There is no ${url.pathname} here; objects are at /objects/<id>.`, { component: 'agent' });
  const id = match[1];
  const { method } = request;
  if (id === undefined) {
    if (method === 'PUT' || method === 'POST') return put(request, response, url, store);
  } else if (method === 'GET' || method === 'HEAD') {
    const object = isObjectId(id) ? store.get(id) : undefined;
    if (object === undefined) throw notFound(id);
    return send(request, response, object);
  } else if (method === 'DELETE') {
    if (!store.delete(id)) throw notFound(id);
    response.writeHead(204).end();
    return;
  }
  response.setHeader('allow', id === undefined ? 'PUT, POST' : 'GET, HEAD, DELETE');
  fail(response, 405, 'INVALID_REQUEST', `${method} is not allowed here.`, method === 'HEAD');
}

async function put(request: IncomingMessage, response: ServerResponse, url: URL, store: ObjectStore): Promise<void> {
  const name = url.searchParams.get('name') ?? headerText(request, 'x-object-name') ?? '';
  if (!isObjectName(name)) throw new MetronomeError('INVALID_REQUEST', `An object's name has at most 255 bytes and no path separators, not ${JSON.stringify(name.slice(0, 80))}.`, { component: 'agent' });
  const expectedDigest = headerText(request, 'x-object-digest')?.toLowerCase();
  // Not destroyed when the store refuses: the answer goes through the same socket.
  const body: AsyncIterable<Uint8Array> = request.iterator({ destroyOnReturn: false });
  const length = Number(request.headers['content-length'] ?? 0);
  const object = await store.put(body, { name, sizeBytes: Number.isSafeInteger(length) ? length : 0, ...(expectedDigest === undefined ? {} : { expectedDigest }) });
  // IncomingMessage ends quietly when the client goes away in the middle.
  if (!request.complete) {
    store.delete(object.id);
    throw new MetronomeError('CANCELLED', 'The client went away before the object was complete.', { component: 'agent' });
  }
  respondJson(response, 201, store.reference(object));
}

async function send(request: IncomingMessage, response: ServerResponse, object: StoredObject): Promise<void> {
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
  response.writeHead(range === undefined ? 200 : 206, { 'content-length': end - start + 1 });
  if (request.method === 'HEAD' || sizeBytes === 0) {
    response.end();
    return;
  }
  await pipeline(createReadStream(object.path, { start, end, highWaterMark: CHUNK_BYTES }), response);
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
  for (const name of ['etag', 'accept-ranges', 'x-object-name']) response.removeHeader(name);
  if (isHead) response.writeHead(status).end();
  else respondJson(response, status, { error: { code, message } });
}

function respondJson(response: ServerResponse, status: number, body: object): void {
  const text = JSON.stringify(body);
  response.writeHead(status, { 'content-type': 'application/json', 'content-length': Buffer.byteLength(text) }).end(text);
}
