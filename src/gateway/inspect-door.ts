/**
 * The inspector's routes in the HTTP door: the page below /inspect/ and what it asks for below /inspect/api (src/inspect/page-api.ts). Reading
 * is free for whoever reaches the door; what changes something must come from the page itself or from a program.
 */
import { RESPONSE_ALREADY_SENT } from '@hono/node-server/utils/response';
import type { HttpBindings } from '@hono/node-server';
import type { Hono } from 'hono';
import { MetronomeError } from '../core/errors.ts';
import { machineCharts } from '../inspect/charts.ts';
import { ExplainResponse, ListPoliciesResponse, SetPolicyResponse, SetShadowPolicyResponse } from '../rpc/gen/metronome/v1/inspect.ts';
import { GetModelStatusResponse } from '../rpc/gen/metronome/v1/model.ts';
import { DrainNodeResponse } from '../rpc/gen/metronome/v1/node.ts';
import { openEventStream } from './event-stream.ts';
import { asObject, disconnection, invalid, type DoorContext, type HttpDoorOptions } from './http-door.ts';
import { assertOwnSite } from './own-site.ts';
import { NOT_BUILT, PAGE_HEADERS, readPageFile } from './page-files.ts';
import { createSimulationDesk } from './simulation-desk.ts';

/** Bytes of a request that changes something; simulations are the largest. */
const MAX_BODY_BYTES = 256 * 1024;
const MAX_NODES = 10_000;

/** Adds them all. */
export function addInspectRoutes(app: Hono<{ Bindings: HttpBindings }>, { loop, hub, config }: HttpDoorOptions): void {
  const names = [config.host, ...config.inspectHosts];
  const simulations = createSimulationDesk(config.recordings);
  loop.onEnd(() => void simulations.stop());
  app.use('/inspect/*', async (c, next) => {
    assertOwnSite({ host: c.req.header('host'), origin: c.req.header('origin'), fetchSite: c.req.header('sec-fetch-site') }, c.req.method !== 'GET' && c.req.method !== 'HEAD', names);
    await next();
  });
  app.get('/', (c) => c.redirect('/inspect/', 302));
  app.get('/inspect', (c) => c.redirect('/inspect/', 302));

  app.get('/inspect/api/machines', (c) => c.json(machineCharts()));
  app.get('/inspect/api/stream', (c) => {
    openEventStream(hub, c.env.outgoing, numberedFrom(c.req.header('last-event-id') ?? c.req.query('from')));
    return RESPONSE_ALREADY_SENT;
  });
  app.get('/inspect/api/invocations', async (c) => {
    const query = (name: string): string => c.req.query(name) ?? '';
    return c.json(await loop.call('inspectInvocations', {
      state: query('state'), function: query('function'), node: query('node'), limit: wholeNumber(c, 'limit', 1, 500, 100), beforeMs: moment(query('before')), beforeSeq: wholeNumber(c, 'beforeSeq', 0, Number.MAX_SAFE_INTEGER, 0),
    }, disconnection(c)));
  });
  app.get('/inspect/api/invocations/:id', async (c) => c.json(asObject(ExplainResponse.toJSON(await loop.call('explain', { invocationId: c.req.param('id') }, disconnection(c))), { decisions: [], transitions: [] })));
  app.get('/inspect/api/nodes', async (c) => c.json(await loop.call('inspectNodes', { limit: wholeNumber(c, 'limit', 1, MAX_NODES, MAX_NODES) }, disconnection(c))));
  app.get('/inspect/api/nodes/:name', async (c) => c.json(await loop.call('inspectNode', { name: c.req.param('name') }, disconnection(c))));
  for (const drain of [true, false]) {
    app.post(`/inspect/api/nodes/:name/${drain ? 'drain' : 'undrain'}`, async (c) => c.json(asObject(DrainNodeResponse.toJSON(await loop.call('drainNode', { name: c.req.param('name'), drain }, disconnection(c))))));
  }
  app.get('/inspect/api/model', async (c) => c.json(asObject(GetModelStatusResponse.toJSON(await loop.call('getModelStatus', {}, disconnection(c))), { functions: [] })));
  app.get('/inspect/api/policies', async (c) => c.json(asObject(ListPoliciesResponse.toJSON(await loop.call('listPolicies', {}, disconnection(c))), { policies: [], shadow: '' })));
  app.put('/inspect/api/policy', async (c) => c.json(asObject(SetPolicyResponse.toJSON(await loop.call('setPolicy', { policy: await policyOf(c) }, disconnection(c))))));
  app.put('/inspect/api/shadow', async (c) => c.json(asObject(SetShadowPolicyResponse.toJSON(await loop.call('setShadowPolicy', { policy: await policyOf(c) }, disconnection(c))), { previous: '', active: '' })));
  app.get('/inspect/api/scenarios', (c) => c.json(simulations.scenarios()));
  app.get('/inspect/api/recordings', async (c) => c.json(await simulations.recordings()));
  app.post('/inspect/api/simulations', async (c) => c.json(await simulations.run(await readJson(c), disconnection(c))));

  app.get('/inspect/api/*', (c) => {
    throw new MetronomeError('ROUTE_NOT_FOUND', `There is no GET ${c.req.path}.`, { component: 'gateway' });
  });
  app.get('/inspect/*', async (c) => {
    const name = c.req.path.slice('/inspect/'.length);
    const file = await readPageFile(name);
    if (file !== undefined) return c.body(file.bytes, 200, file.headers);
    if (name === '' || name === 'index.html') return c.body(NOT_BUILT, 503, { ...PAGE_HEADERS, 'content-type': 'text/html; charset=utf-8' });
    throw new MetronomeError('ROUTE_NOT_FOUND', `The page has no file ${JSON.stringify(name)}.`, { component: 'gateway' });
  });
}

/** The pattern of an inspector's route, for the label of metrics. */
export function inspectRouteOf(path: string): string {
  const [, , api, what = '', which] = path.split('/');
  if (api !== 'api') return '/inspect/*';
  const known = ['machines', 'stream', 'invocations', 'nodes', 'model', 'policies', 'policy', 'shadow', 'scenarios', 'recordings', 'simulations'].includes(what);
  return known ? `/inspect/api/${what}${which === undefined ? '' : '/*'}` : 'other';
}

function numberedFrom(text: string | undefined): number | undefined {
  return text !== undefined && /^\d{1,15}$/.test(text) ? Number(text) : undefined;
}

function wholeNumber(c: DoorContext, name: string, least: number, most: number, otherwise: number): number {
  const text = c.req.query(name);
  if (text === undefined || text === '') return otherwise;
  if (!/^\d{1,16}$/.test(text) || Number(text) < least || Number(text) > most) throw invalid(name, `${JSON.stringify(text)} is not a number from ${least} to ${most}`);
  return Number(text);
}

/** A time in ms since 1970; 0: none. */
function moment(text: string): number {
  if (text === '') return 0;
  if (!/^\d{1,15}(\.\d{1,9})?$/.test(text)) throw invalid('before', `${JSON.stringify(text)} is not a time in milliseconds since 1970`);
  return Number(text);
}

async function readJson(c: DoorContext): Promise<unknown> {
  if (!(c.req.header('content-type') ?? '').startsWith('application/json')) throw invalid('content-type', 'must be application/json');
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  for await (const chunk of c.env.incoming as AsyncIterable<Uint8Array>) {
    bytes += chunk.byteLength;
    if (bytes > MAX_BODY_BYTES) throw new MetronomeError('PAYLOAD_TOO_LARGE', `The request has more than ${MAX_BODY_BYTES} bytes.`, { component: 'gateway' });
    chunks.push(chunk);
  }
  try {
    return JSON.parse(Buffer.concat(chunks).toString('utf8'));
  } catch (error) {
    throw invalid('body', `is not JSON: ${error instanceof Error ? error.message : String(error)}`);
  }
}

async function policyOf(c: DoorContext): Promise<string> {
  const body = await readJson(c);
  const policy = typeof body === 'object' && body !== null && 'policy' in body ? body.policy : undefined;
  if (typeof policy !== 'string' || policy.length > 63) throw invalid('policy', 'must be the name of a policy');
  return policy;
}
