/**
 * The HTTP door: run functions with curl, look at invocations, hand in objects, and what probes and Prometheus ask for.
 * Payloads travel as bodies, everything else as headers (x-metronome-…); errors are JSON with the table's status.
 */
import type { IncomingMessage, Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { createAdaptorServer, type HttpBindings } from '@hono/node-server';
import { Hono, type Context } from 'hono';
import { request as sendRequest } from 'undici';
import { ERRORS, MetronomeError, isErrorCode, type ErrorRecord } from '../core/errors.ts';
import { parseDurationMs } from '../core/units.ts';
import { ErrorDetail, LocalityClass, ObjectRef, type Phases } from '../rpc/gen/metronome/v1/common.ts';
import { ListFunctionsResponse } from '../rpc/gen/metronome/v1/function.ts';
import { ExplainResponse, GetStatusResponse } from '../rpc/gen/metronome/v1/inspect.ts';
import { CancelInvocationResponse, GetInvocationResponse, InvocationState, InvokeRequest, ListInvocationsResponse, type InvokeResponse } from '../rpc/gen/metronome/v1/invoke.ts';
import { ListNodesResponse, NodeStatus, type Node } from '../rpc/gen/metronome/v1/node.ts';
import { listenError } from '../rpc/server.ts';
import { toErrorDetail } from '../rpc/status.ts';
import { admit, assertPayloadSize } from './admission.ts';
import { assertNoForeignSite, crossOriginHeaders, type SiteRules } from './foreign-sites.ts';
import type { GatewayConfig, GatewayLog } from './gateway-config.ts';
import type { GatewayMetrics } from './gateway-metrics.ts';
import { clampWaitMs, submitAsync } from './grpc-services.ts';
import { addInspectRoutes, inspectRouteOf } from './inspect-door.ts';
import type { InspectHub } from './inspect-hub.ts';
import type { LoopClient } from './loop-client.ts';
import { NO_BYTES, jsonProblem } from './payloads.ts';
import type { SettledItem } from './protocol.ts';

/** What the door works with. */
export interface HttpDoorOptions {
  readonly loop: LoopClient;
  readonly hub: InspectHub;
  readonly config: GatewayConfig;
  readonly metrics: GatewayMetrics;
  readonly log: GatewayLog;
  readonly nowMs: () => number;
  /** Whether /readyz says yes. */
  readonly isServing: () => boolean;
}

/** A door that listens. */
export interface HttpDoor {
  readonly port: number;
  /** Takes no new connections, lets running requests end for at most `graceMs`, then breaks them. */
  stop(graceMs: number): Promise<void>;
}

export type DoorContext = Context<{ Bindings: HttpBindings }>;

/** Headers that a payload's answer may use for outputs, bytes; more objects are only counted. */
const MAX_OUTPUTS_HEADER_BYTES = 8 * 1024;

/** Starts the door. Fails with PORT_IN_USE or CONFIG_INVALID. */
export async function openHttpDoor(options: HttpDoorOptions): Promise<HttpDoor> {
  const { config } = options;
  const app = createApp(options);
  // Without http2 options the adaptor makes a plain http.Server.
  const server = createAdaptorServer({ fetch: app.fetch, serverOptions: { keepAliveTimeout: 65_000 } }) as Server;
  const port = await new Promise<number>((resolve, reject) => {
    const onError = (error: Error): void => reject(listenError(config.host, config.httpPort, error));
    server.once('error', onError);
    server.listen(config.httpPort, config.host, () => {
      server.off('error', onError);
      // A TCP server that listens has an AddressInfo.
      resolve((server.address() as AddressInfo).port);
    });
  });
  server.on('error', (error) => options.log.error({ error: error.message }, 'http.failed'));
  let stopping: Promise<void> | undefined;
  return {
    port,
    stop(graceMs) {
      stopping ??= new Promise<void>((resolve) => {
        const timer = setTimeout(() => server.closeAllConnections(), Math.max(0, graceMs));
        // A connection that is busy now turns idle, not closed, once its answer is out.
        const sweep = setInterval(() => server.closeIdleConnections(), 20);
        server.close(() => {
          clearTimeout(timer);
          clearInterval(sweep);
          resolve();
        });
      });
      return stopping;
    },
  };
}

function createApp(options: HttpDoorOptions): Hono<{ Bindings: HttpBindings }> {
  const { loop, config, metrics, log } = options;
  const app = new Hono<{ Bindings: HttpBindings }>();
  app.use(async (c, next) => {
    await next();
    metrics.httpHandled(routeOf(c), c.req.method, c.res.status);
  });
  const rules: SiteRules = { listensOn: config.host, names: [config.host, ...config.inspectHosts], origins: config.origins };
  app.use(async (c, next) => {
    // The inspector has stricter rules of its own (inspect-door.ts).
    if (c.req.path.startsWith('/inspect/')) return next();
    const { method } = c.req;
    const origin = c.req.header('origin');
    assertNoForeignSite({ host: c.req.header('host'), origin, fetchSite: c.req.header('sec-fetch-site') }, method !== 'GET' && method !== 'HEAD' && method !== 'OPTIONS', rules);
    const shared = crossOriginHeaders(origin, rules, method === 'OPTIONS');
    if (shared === undefined) return next();
    if (method === 'OPTIONS') return c.body(null, 204, shared);
    await next();
    for (const [name, value] of Object.entries(shared)) c.res.headers.set(name, value);
  });
  app.post('/run/:function', (c) => run(c, options));
  app.post('/async/:function', async (c) => {
    const request = await readInvokeRequest(c, config);
    const { invocationId } = await submitAsync(options, request, '');
    return c.json({ invocationId }, 202, { location: `/invocations/${invocationId}`, 'x-metronome-invocation-id': invocationId });
  });

  app.get('/invocations', async (c) => {
    const limit = c.req.query('limit') ?? '0';
    if (!/^\d{1,4}$/.test(limit) || Number(limit) > 1_000) throw invalid('limit', `${JSON.stringify(limit)} is not a number between 0 and 1000`);
    const answer = await loop.call('listInvocations', { function: c.req.query('function') ?? '', state: parseState(c.req.query('state')), limit: Number(limit) }, disconnection(c));
    return c.json(asObject(ListInvocationsResponse.toJSON(answer), { invocations: [] }));
  });
  app.get('/invocations/:id', async (c) => {
    const waitMs = clampWaitMs(parseDuration('wait', c.req.query('wait')));
    const { invocation } = await loop.call('getInvocation', { invocationId: c.req.param('id'), waitMs }, disconnection(c));
    return c.json(asObject(GetInvocationResponse.toJSON({ invocation })));
  });
  app.get('/invocations/:id/result', async (c) => {
    const waitMs = clampWaitMs(parseDuration('wait', c.req.query('wait')));
    const { invocation } = await loop.call('getInvocation', { invocationId: c.req.param('id'), waitMs }, disconnection(c));
    if (invocation?.response !== undefined) return answerWith(c, invocation.response);
    if (invocation?.error !== undefined) return errorDetailResponse(c, invocation.error);
    return c.json(asObject(GetInvocationResponse.toJSON({ invocation })), 202);
  });
  app.get('/invocations/:id/explain', async (c) => {
    const answer = await loop.call('explain', { invocationId: c.req.param('id') }, disconnection(c));
    return c.json(asObject(ExplainResponse.toJSON(answer), { decisions: [], transitions: [] }));
  });
  app.delete('/invocations/:id', async (c) => {
    const answer = await loop.call('cancelInvocation', { invocationId: c.req.param('id') }, disconnection(c));
    return c.json(asObject(CancelInvocationResponse.toJSON(answer)));
  });
  app.get('/nodes', async (c) => c.json(asObject(ListNodesResponse.toJSON(await loop.call('listNodes', {}, disconnection(c))), { nodes: [] })));
  app.get('/functions', async (c) => c.json(asObject(ListFunctionsResponse.toJSON(await loop.call('listFunctions', {}, disconnection(c))), { functions: [] })));
  app.get('/status', async (c) => c.json(asObject(GetStatusResponse.toJSON(await loop.call('getStatus', {}, disconnection(c))))));
  app.post('/objects', (c) => putObject(c, options));
  addInspectRoutes(app, options);

  app.get('/metrics', async (c) => {
    const { contentType, text } = await metrics.render(loop);
    return c.body(text, 200, { 'content-type': contentType });
  });
  app.get('/healthz', (c) => c.json({ status: 'ok', version: config.version }));
  app.get('/readyz', (c) => (options.isServing() ? c.json({ status: 'ready' }) : c.json({ status: 'not ready' }, 503)));

  app.notFound((c) => errorResponse(c, new MetronomeError('ROUTE_NOT_FOUND', `There is no ${c.req.method} ${c.req.path}; try POST /run/<function>, POST /async/<function>, GET /invocations, /nodes, /functions, /status, /metrics.`, { component: 'gateway' }).toRecord()));
  app.onError((thrown, c) => {
    const error = MetronomeError.from(thrown);
    if (error.code === 'INTERNAL') log.error({ path: c.req.path, error: error.message }, 'http.defect');
    return errorResponse(c, error.toRecord());
  });
  return app;
}

async function run(c: DoorContext, options: HttpDoorOptions): Promise<Response> {
  const { loop, config, nowMs } = options;
  const request = await readInvokeRequest(c, config);
  const ticket = loop.takeTicket();
  const item = admit(request, { ticket, mode: 'sync', nowMs: nowMs(), deadlineAtMs: 0, traceparent: '' }, config);
  const { outgoing } = c.env;
  const onClose = (): void => loop.cancel(ticket);
  const outcome = await new Promise<SettledItem>((resolve) => {
    loop.submit(item, { accepted: () => {}, settled: resolve });
    // The body took its time: the caller may be gone already.
    if (outgoing.destroyed) onClose();
    else outgoing.once('close', onClose);
  });
  outgoing.off('close', onClose);
  if (outcome.response !== undefined) return answerWith(c, outcome.response);
  throw outcome.error ? MetronomeError.fromRecord(outcome.error) : new MetronomeError('INTERNAL', 'The scheduler settled the invocation without an outcome.', { component: 'gateway' });
}

async function readInvokeRequest(c: DoorContext, config: GatewayConfig): Promise<InvokeRequest> {
  const payload = await readBody(c.env.incoming, config.maxPayloadBytes);
  return InvokeRequest.fromPartial({
    function: c.req.param('function') ?? '',
    payload,
    contentType: contentTypeOf(c.req.header('content-type') ?? '', payload),
    inputs: parseInputs(c.req.header('x-metronome-inputs')),
    idempotencyKey: c.req.header('idempotency-key') ?? '',
    slaMs: parseDuration('x-metronome-sla', c.req.header('x-metronome-sla')),
    timeoutMs: parseDuration('x-metronome-timeout', c.req.header('x-metronome-timeout')),
    localityKey: c.req.header('x-metronome-locality-key') ?? '',
    policy: c.req.header('x-metronome-policy') ?? '',
    traceparent: c.req.header('traceparent') ?? '',
  });
}

/**
 * `curl -d '{…}'` says application/x-www-form-urlencoded although it means JSON. What is plainly JSON is taken as that;
 * everything else keeps the type it was given.
 */
function contentTypeOf(given: string, payload: Buffer): string {
  if (!given.startsWith('application/x-www-form-urlencoded')) return given;
  const first = payload[0];
  const looksLikeJson = first === 0x7b || first === 0x5b || first === 0x22;
  return looksLikeJson && jsonProblem(payload) === undefined ? 'application/json' : given;
}

/** The whole body; PAYLOAD_TOO_LARGE as soon as that is certain. The adaptor drains what is left unread. */
async function readBody(incoming: IncomingMessage, maxBytes: number): Promise<Buffer> {
  const announced = Number(incoming.headers['content-length'] ?? 0);
  assertPayloadSize(announced, maxBytes);
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    let bytes = 0;
    const onData = (chunk: Buffer): void => {
      bytes += chunk.byteLength;
      chunks.push(chunk);
      if (bytes <= maxBytes) return;
      incoming.off('data', onData);
      incoming.pause();
      try {
        assertPayloadSize(bytes, maxBytes);
      } catch (error) {
        reject(error);
      }
    };
    incoming.on('data', onData);
    incoming.once('end', () => {
      const [only = NO_BYTES] = chunks;
      resolve(chunks.length <= 1 ? Buffer.from(only.buffer, only.byteOffset, only.byteLength) : Buffer.concat(chunks, bytes));
    });
    const gone = (): void => reject(new MetronomeError('CANCELLED', 'The caller went away before the request was complete.', { component: 'gateway' }));
    incoming.once('error', gone);
    incoming.once('close', gone);
  });
}

function parseInputs(header: string | undefined): ObjectRef[] {
  if (header === undefined || header === '') return [];
  try {
    const parsed: unknown = JSON.parse(header);
    if (!Array.isArray(parsed) || !parsed.every((entry) => typeof entry === 'object' && entry !== null)) throw new Error('it is not an array of objects');
    return parsed.map((entry) => ObjectRef.fromJSON(entry));
  } catch (error) {
    throw invalid('x-metronome-inputs', `must be a JSON array of object references as POST /objects gives them: ${error instanceof Error ? error.message : String(error)}`);
  }
}

function parseDuration(field: string, text: string | undefined): number {
  if (text === undefined || text === '') return 0;
  const ms = parseDurationMs(text);
  if (ms === undefined) throw invalid(field, `${JSON.stringify(text)} is not a duration like "250ms", "2s" or "1m30s"`);
  return ms;
}

function parseState(text: string | undefined): InvocationState {
  if (text === undefined || text === '') return InvocationState.UNSPECIFIED;
  const name = text.toUpperCase().replace(/^INVOCATION_STATE_/, '');
  const found = Object.entries(InvocationState).find(([key]) => key === name);
  if (found === undefined) throw invalid('state', `${JSON.stringify(text)} is not a state; states are ${Object.keys(InvocationState).slice(1).join(', ').toLowerCase()}`);
  return found[1];
}

function answerWith(c: DoorContext, response: InvokeResponse): Response {
  const headers: Record<string, string> = {
    'content-type': isHeaderValue(response.contentType) && response.contentType !== '' ? response.contentType : 'application/octet-stream',
    'x-metronome-invocation-id': response.invocationId,
    'x-metronome-node': response.node,
    'x-metronome-reason': response.reason,
    'x-metronome-attempt': String(response.attempt),
  };
  if (response.locality !== undefined && response.locality.class !== LocalityClass.UNSPECIFIED) headers['x-metronome-locality'] = response.locality.class === LocalityClass.LOCAL ? 'local' : 'fallback';
  if (response.phases !== undefined) headers['server-timing'] = serverTiming(response.phases);
  if (response.outputs.length > 0) {
    headers['x-metronome-outputs-count'] = String(response.outputs.length);
    const outputs = asciiJson(response.outputs.map((output) => ObjectRef.toJSON(output)));
    if (outputs.length <= MAX_OUTPUTS_HEADER_BYTES) headers['x-metronome-outputs'] = outputs;
  }
  // The payload came out of a clone or a socket: its memory is never shared.
  return c.body(response.payload as Uint8Array<ArrayBuffer>, 200, headers);
}

function serverTiming(phases: Phases): string {
  const parts: string[] = [];
  const add = (name: string, ms: number): void => {
    if (ms > 0) parts.push(`${name};dur=${Math.round(ms * 1_000) / 1_000}`);
  };
  add('predicted', phases.predictedMs);
  add('queued', phases.queuedMs);
  add('delayed', phases.delayedMs);
  add('dispatched', phases.dispatchedMs);
  add('fetched', phases.fetchedMs);
  add('initialised', phases.initialisedMs);
  add('installed', phases.installedMs);
  add('started', phases.startedMs);
  add('loaded', phases.loadedMs);
  add('ran', phases.ranMs);
  parts.push(`total;dur=${Math.round(phases.totalMs * 1_000) / 1_000}`);
  return parts.join(', ');
}

/** Streams the body on to a node's object store and answers with the reference. The gateway keeps none of it. */
async function putObject(c: DoorContext, options: HttpDoorOptions): Promise<Response> {
  const { loop } = options;
  const signal = disconnection(c);
  const { nodes } = await loop.call('listNodes', {}, signal);
  const node = chooseNode(nodes, c.req.query('node') ?? '');
  const name = c.req.query('name') ?? c.req.header('x-metronome-object-name') ?? '';
  const url = new URL('objects', node.dataUrl.endsWith('/') ? node.dataUrl : `${node.dataUrl}/`);
  if (name !== '') url.searchParams.set('name', name);
  const length = c.req.header('content-length');
  let answer;
  try {
    answer = await sendRequest(url, {
      method: 'POST',
      body: c.env.incoming,
      headers: { 'content-type': 'application/octet-stream', ...(length === undefined ? {} : { 'content-length': length }) },
      signal,
    });
  } catch (cause) {
    if (signal.aborted) throw MetronomeError.from(signal.reason);
    throw new MetronomeError('UNAVAILABLE', `The object store of node ${node.name} at ${node.dataUrl} cannot be reached: ${cause instanceof Error ? cause.message : String(cause)}. Try another node with ?node=.`, { component: 'gateway', cause });
  }
  const body: unknown = await answer.body.json().catch(() => undefined);
  if (answer.statusCode >= 300 || typeof body !== 'object' || body === null) throw storeError(node.name, answer.statusCode, body);
  const reference = ObjectRef.fromJSON(body);
  if (!reference.holders.includes(node.name)) reference.holders.unshift(node.name);
  return c.json(asObject(ObjectRef.toJSON(reference)), 201);
}

function chooseNode(nodes: readonly Node[], wanted: string): Node {
  if (wanted !== '') {
    const named = nodes.find((node) => node.name === wanted);
    if (named === undefined) throw new MetronomeError('NODE_NOT_FOUND', `There is no node ${JSON.stringify(wanted)}. GET /nodes lists them.`, { component: 'gateway' });
    if (named.status !== NodeStatus.READY) throw new MetronomeError('NO_NODES', `Node ${wanted} is not ready. Leave ?node= out to use any.`, { component: 'gateway' });
    return named;
  }
  let best: Node | undefined;
  for (const node of nodes) {
    if (node.status !== NodeStatus.READY || node.dataUrl === '') continue;
    if (best === undefined || node.slots - node.slotsUsed > best.slots - best.slotsUsed) best = node;
  }
  if (best === undefined) throw new MetronomeError('NO_NODES', 'No node is ready to take the object. Start an agent, or try again later.', { component: 'gateway' });
  return best;
}

function storeError(node: string, status: number, body: unknown): MetronomeError {
  if (typeof body === 'object' && body !== null && 'error' in body && typeof body.error === 'object' && body.error !== null) {
    const { code, message } = body.error as { readonly code?: unknown; readonly message?: unknown };
    if (typeof code === 'string' && isErrorCode(code)) return new MetronomeError(code, typeof message === 'string' ? message : ERRORS[code].meaning, { component: 'agent' });
  }
  return new MetronomeError('UNAVAILABLE', `The object store of node ${node} answered with status ${status}.`, { component: 'gateway' });
}

/** Aborted when the caller goes away before the answer is complete. */
export function disconnection(c: DoorContext): AbortSignal {
  const controller = new AbortController();
  const { outgoing } = c.env;
  const abort = (): void => {
    if (!outgoing.writableFinished) controller.abort(new MetronomeError('CANCELLED', 'The caller went away.', { component: 'gateway' }));
  };
  if (outgoing.destroyed) abort();
  else outgoing.once('close', abort);
  return controller.signal;
}

function errorResponse(c: DoorContext, record: ErrorRecord): Response {
  return errorDetailResponse(c, toErrorDetail(record));
}

function errorDetailResponse(c: DoorContext, detail: ErrorDetail): Response {
  const row = ERRORS[isErrorCode(detail.code) ? detail.code : 'INTERNAL'];
  const headers: Record<string, string> = {};
  if (row.retryable && (detail.retryAfterMs > 0 || row.http === 429 || row.http === 503)) headers['retry-after'] = String(Math.max(1, Math.ceil(detail.retryAfterMs / 1_000)));
  if (detail.invocationId !== '') headers['x-metronome-invocation-id'] = detail.invocationId;
  const error = { ...asObject(ErrorDetail.toJSON(detail)), retryable: row.retryable };
  return new Response(JSON.stringify({ error }), { status: row.http, headers: { 'content-type': 'application/json', ...headers } });
}

export function invalid(field: string, description: string): MetronomeError {
  return new MetronomeError('INVALID_REQUEST', `The request is not valid. ${field}: ${description}`, { component: 'gateway', violations: [{ field, description }] });
}

/** The generated toJSON leaves out defaults; lists that are empty are put back, because readers loop over them. */
export function asObject(json: unknown, emptyLists: Record<string, unknown> = {}): Record<string, unknown> {
  // Generated toJSON of a message always returns an object.
  return { ...emptyLists, ...(json as Record<string, unknown>) };
}

/** JSON for a header: everything outside printable ASCII is escaped. */
function asciiJson(value: unknown): string {
  return JSON.stringify(value).replace(/[\u007f-\uffff]/g, (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, '0')}`);
}

function isHeaderValue(text: string): boolean {
  return /^[\t\x20-\x7e]*$/.test(text);
}

/** The pattern of the route that answered, for the label; never the path. */
function routeOf(c: DoorContext): string {
  const path = c.req.path;
  const [, first = ''] = path.split('/');
  switch (first) {
    case 'run': case 'async': return `/${first}/:function`;
    case 'invocations': return path.endsWith('/explain') ? '/invocations/:id/explain' : path.endsWith('/result') ? '/invocations/:id/result' : path === '/invocations' ? path : '/invocations/:id';
    case 'inspect': return inspectRouteOf(path);
    case 'nodes': case 'functions': case 'status': case 'objects': case 'metrics': case 'healthz': case 'readyz': return `/${first}`;
    default: return 'other';
  }
}
