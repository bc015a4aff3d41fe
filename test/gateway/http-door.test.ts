import { createServer, request as httpRequest, type IncomingMessage, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { MetronomeError } from '../../src/core/errors.ts';
import { ListFunctionsResponse } from '../../src/rpc/gen/metronome/v1/function.ts';
import { ExplainResponse, GetStatusResponse } from '../../src/rpc/gen/metronome/v1/inspect.ts';
import { GetInvocationResponse, InvocationState } from '../../src/rpc/gen/metronome/v1/invoke.ts';
import { ListNodesResponse, NodeStatus } from '../../src/rpc/gen/metronome/v1/node.ts';
import { failure, responseFor, startTestGateway, type TestGateway } from './fake-loop.ts';

const DIGEST = 'b'.repeat(64);
let door: TestGateway;
let store: Server;
let storeUrl: string;
let received: { url: string; body: Buffer }[] = [];
let storeAnswer: { status: number; body: unknown } = { status: 201, body: {} };

beforeAll(async () => {
  door = await startTestGateway({ maxPayloadBytes: 100_000 });
  store = createServer(async (incoming, outgoing) => {
    const chunks: Buffer[] = [];
    for await (const chunk of incoming) chunks.push(chunk as Buffer);
    received.push({ url: incoming.url ?? '', body: Buffer.concat(chunks) });
    outgoing.writeHead(storeAnswer.status, { 'content-type': 'application/json' }).end(JSON.stringify(storeAnswer.body));
  });
  await new Promise<void>((resolve) => store.listen(0, '127.0.0.1', resolve));
  storeUrl = `http://127.0.0.1:${(store.address() as AddressInfo).port}`;
});
afterAll(async () => {
  store.closeAllConnections();
  await new Promise((resolve) => store.close(resolve));
  await door.close();
});

async function post(path: string, body?: string | Buffer<ArrayBuffer>, headers: Record<string, string> = {}): Promise<{ status: number; headers: Headers; text: string; error: Record<string, unknown> }> {
  const response = await fetch(`${door.http}${path}`, { method: 'POST', ...(body === undefined ? {} : { body }), headers });
  const text = await response.text();
  const json: unknown = response.headers.get('content-type')?.includes('json') ? JSON.parse(text === '' ? '{}' : text) : {};
  return { status: response.status, headers: response.headers, text, error: (json as { error?: Record<string, unknown> }).error ?? {} };
}

describe('POST /run/<function>', () => {
  it('answers with the payload of the handler, its media type, and where the time went', async () => {
    const answer = await post('/run/echo', '{"a":1}', { 'content-type': 'application/json' });
    expect(answer.status).toBe(200);
    expect(answer.text).toBe('{"a":1}');
    expect(answer.headers.get('content-type')).toBe('application/json');
    expect(answer.headers.get('x-metronome-invocation-id')).toMatch(/^inv-/);
    expect(answer.headers.get('x-metronome-node')).toBe('n1');
    expect(answer.headers.get('x-metronome-reason')).toBe('bestNodeHasRoom');
    expect(answer.headers.get('x-metronome-locality')).toBe('local');
    expect(answer.headers.get('server-timing')).toBe('predicted;dur=0.1, dispatched;dur=0.5, ran;dur=2, total;dur=3');
  });

  it('hands headers to the loop', async () => {
    const inputs = [{ id: 'o1', sizeBytes: 3, digest: DIGEST, holders: ['n2'], name: 'ä.log' }];
    await post('/run/echo', 'x', {
      'content-type': 'text/plain', 'idempotency-key': 'k1', 'x-metronome-sla': '250ms', 'x-metronome-timeout': '1m', 'x-metronome-locality-key': 'user-1', 'x-metronome-policy': 'round-robin',
      traceparent: `00-${'1'.repeat(32)}-${'2'.repeat(16)}-01`, 'x-metronome-inputs': JSON.stringify(inputs).replace('ä', '\\u00e4'),
    });
    const item = door.loop.submitted.at(-1);
    expect(item).toMatchObject({ target: 'echo', contentType: 'text/plain', idempotencyKey: 'k1', slaMs: 250, localityKey: 'user-1', policy: 'round-robin', inputs });
    expect(Math.abs((item?.deadlineAtMs ?? 0) - Date.now() - 60_000)).toBeLessThan(10_000);
  });

  it('takes what curl -d sends for what it is', async () => {
    const form = { 'content-type': 'application/x-www-form-urlencoded' };
    await post('/run/echo', '{"a":1}', form);
    expect(door.loop.submitted.at(-1)?.contentType).toBe('application/json');
    await post('/run/echo', 'a=1&b=2', form);
    expect(door.loop.submitted.at(-1)?.contentType).toBe('application/x-www-form-urlencoded');
  });

  it('runs without a body', async () => {
    expect((await post('/run/echo')).status).toBe(200);
    expect(door.loop.submitted.at(-1)?.payload).toHaveLength(0);
  });

  it.each([
    ['/run/missing', 404, 'FUNCTION_NOT_FOUND', null],
    ['/run/fails', 502, 'FUNCTION_FAILED', null],
    ['/run/full', 429, 'QUEUE_FULL', '2'],
    ['/run/nodeless', 503, 'NO_NODES', '1'],
    ['/run/Bad_Name', 400, 'INVALID_REQUEST', null],
  ])('answers %s with %i %s and Retry-After %s', async (path, status, code, retryAfter) => {
    const answer = await post(path, '1');
    expect(answer.status).toBe(status);
    expect(answer.error).toMatchObject({ code, retryable: status === 429 || status === 503 });
    expect(answer.headers.get('retry-after')).toBe(retryAfter);
    if (code === 'FUNCTION_FAILED') expect(answer.error).toMatchObject({ component: 'scheduler', functionError: { type: 'TypeError', message: 'x is not a function' }, invocationId: expect.stringMatching(/^inv-/) });
  });

  it.each([
    ['x-metronome-timeout', 'soon'], ['x-metronome-sla', '-3s'], ['x-metronome-inputs', '{}'], ['x-metronome-inputs', '[null]'], ['x-metronome-inputs', 'nope'],
  ])('refuses the header %s: %s and names it', async (header, value) => {
    const answer = await post('/run/echo', '1', { [header]: value });
    expect(answer.status).toBe(400);
    expect(answer.error).toMatchObject({ code: 'INVALID_REQUEST', violations: [{ field: header }] });
  });

  it('refuses JSON that is none', async () => {
    const answer = await post('/run/echo', '{"a":', { 'content-type': 'application/json' });
    expect(answer.status).toBe(400);
    expect(answer.error['code']).toBe('PAYLOAD_INVALID');
  });

  it('refuses an oversized body by its announced length', async () => {
    const answer = await post('/run/echo', Buffer.alloc(100_001), { 'content-type': 'application/octet-stream' });
    expect(answer.status).toBe(413);
    expect(answer.error).toMatchObject({ code: 'PAYLOAD_TOO_LARGE', message: expect.stringMatching(/100001.*100000/) });
  });

  it('refuses an oversized body while it streams, without an announced length', async () => {
    const answer = await new Promise<IncomingMessage>((resolve, reject) => {
      const outgoing = httpRequest(`${door.http}/run/echo`, { method: 'POST', headers: { 'content-type': 'application/octet-stream' } }, resolve);
      outgoing.on('error', reject);
      for (let i = 0; i < 20; i++) outgoing.write(Buffer.alloc(10_000));
      // Never ended: the answer must come before the end of the request.
    });
    expect(answer.statusCode).toBe(413);
    answer.destroy();
    expect((await post('/run/echo', '1')).status).toBe(200);
  });

  it('cancels when the client goes away', async () => {
    const controller = new AbortController();
    const before = door.loop.submitted.length;
    const call = fetch(`${door.http}/run/hang`, { method: 'POST', body: '1', signal: controller.signal }).catch((error: Error) => error.name);
    await vi.waitFor(() => expect(door.loop.submitted).toHaveLength(before + 1));
    controller.abort();
    expect(await call).toBe('AbortError');
    await vi.waitFor(() => expect(door.loop.cancelled).toContain(door.loop.submitted[before]?.ticket));
  });

  it('does not run what a client began to send and gave up', async () => {
    const before = door.loop.submitted.length;
    const outgoing = httpRequest(`${door.http}/run/echo`, { method: 'POST', headers: { 'content-length': '1000' } });
    outgoing.on('error', () => {});
    outgoing.write('partial');
    await new Promise((resolve) => setTimeout(resolve, 50));
    outgoing.destroy();
    expect((await post('/run/echo', '1')).status).toBe(200);
    expect(door.loop.submitted).toHaveLength(before + 1);
  });

  it('answers with a safe media type when the function names an impossible one', async () => {
    const before = door.loop.submitted.length;
    const call = post('/run/hang', '1');
    await vi.waitFor(() => expect(door.loop.submitted).toHaveLength(before + 1));
    const ticket = door.loop.submitted.at(-1)?.ticket ?? 0;
    door.loop.post({ kind: 'settled', items: [{ ticket, response: { ...responseFor(ticket, Buffer.from('x'), 'bad\r\ntype: 1'), outputs: [{ id: 'o', sizeBytes: 1, digest: DIGEST, holders: ['n1'], name: 'ä' }] } }] });
    const answer = await call;
    expect(answer.headers.get('content-type')).toBe('application/octet-stream');
    expect(JSON.parse(answer.headers.get('x-metronome-outputs') ?? '')).toEqual([{ id: 'o', sizeBytes: 1, digest: DIGEST, holders: ['n1'], name: 'ä' }]);
  });
});

describe('POST /async/<function>', () => {
  it('answers 202 with the id', async () => {
    const answer = await post('/async/echo', '{}', { 'idempotency-key': 'later' });
    expect(answer.status).toBe(202);
    expect(JSON.parse(answer.text)).toEqual({ invocationId: `inv-${door.loop.submitted.at(-1)?.ticket}` });
    expect(door.loop.submitted.at(-1)).toMatchObject({ mode: 'async', idempotencyKey: 'later' });
    expect((await post('/async/missing')).status).toBe(404);
  });
});

describe('looking at things', () => {
  const get = async (path: string, method = 'GET'): Promise<{ status: number; json: Record<string, unknown> }> => {
    const response = await fetch(`${door.http}${path}`, { method });
    return { status: response.status, json: (await response.json()) as Record<string, unknown> };
  };

  it('GET /invocations/<id> waits as told and answers in JSON', async () => {
    door.loop.handlers.getInvocation = () => GetInvocationResponse.fromPartial({ invocation: { id: 'i1', state: InvocationState.DELAYING, delayingFor: 'locality' } });
    expect(await get('/invocations/i1?wait=5s')).toEqual({ status: 200, json: { invocation: { id: 'i1', state: 'INVOCATION_STATE_DELAYING', delayingFor: 'locality' } } });
    expect(door.loop.calls.at(-1)?.request).toEqual({ invocationId: 'i1', waitMs: 5_000 });
    expect((await get('/invocations/i1?wait=soon')).status).toBe(400);
    door.loop.handlers.getInvocation = () => {
      throw new MetronomeError('INVOCATION_NOT_FOUND', 'unknown');
    };
    expect(await get('/invocations/nope')).toMatchObject({ status: 404, json: { error: { code: 'INVOCATION_NOT_FOUND' } } });
  });

  it('GET /invocations/<id>/result gives the payload, the error, or 202 while it lives', async () => {
    door.loop.handlers.getInvocation = () => GetInvocationResponse.fromPartial({ invocation: { state: InvocationState.COMPLETED, response: responseFor(1, Buffer.from('[7]'), 'application/json') } });
    expect((await get('/invocations/i1/result')).json).toEqual([7]);
    door.loop.handlers.getInvocation = () => GetInvocationResponse.fromPartial({ invocation: { state: InvocationState.FAILED, error: { code: 'FUNCTION_FAILED', message: 'no' } } });
    expect(await get('/invocations/i1/result')).toMatchObject({ status: 502, json: { error: { code: 'FUNCTION_FAILED' } } });
    door.loop.handlers.getInvocation = () => GetInvocationResponse.fromPartial({ invocation: { state: InvocationState.DISPATCHED } });
    expect((await get('/invocations/i1/result')).status).toBe(202);
  });

  it('GET /invocations filters', async () => {
    door.loop.handlers.listInvocations = () => ({ invocations: [] });
    expect((await get('/invocations?function=f&state=delaying&limit=7')).json).toEqual({ invocations: [] });
    expect(door.loop.calls.at(-1)?.request).toEqual({ function: 'f', state: InvocationState.DELAYING, limit: 7 });
    expect((await get('/invocations?state=sleeping')).status).toBe(400);
    expect((await get('/invocations?limit=many')).status).toBe(400);
  });

  it('explain, cancel, nodes, functions and status go through the loop', async () => {
    Object.assign(door.loop.handlers, {
      explain: () => ExplainResponse.fromPartial({ decisions: [{ reason: 'noRoom', policy: 'metronome' }] }),
      cancelInvocation: () => ({ state: InvocationState.CANCELLED }),
      listNodes: () => ListNodesResponse.fromPartial({ nodes: [{ name: 'n1', status: NodeStatus.READY }] }),
      listFunctions: () => ListFunctionsResponse.fromPartial({}),
      getStatus: () => GetStatusResponse.fromPartial({ live: 2 }),
    });
    expect((await get('/invocations/i1/explain')).json).toMatchObject({ decisions: [{ reason: 'noRoom' }], transitions: [] });
    expect((await get('/invocations/i1', 'DELETE')).json).toEqual({ state: 'INVOCATION_STATE_CANCELLED' });
    expect((await get('/nodes')).json).toEqual({ nodes: [{ name: 'n1', status: 'NODE_STATUS_READY' }] });
    expect((await get('/functions')).json).toEqual({ functions: [] });
    expect((await get('/status')).json).toEqual({ live: 2 });
  });

  it('tells the loop when a waiting reader goes away', async () => {
    door.loop.handlers.getInvocation = () => new Promise(() => {});
    const controller = new AbortController();
    const before = door.loop.calls.length;
    const call = fetch(`${door.http}/invocations/i1?wait=60s`, { signal: controller.signal }).catch(() => 'gone');
    await vi.waitFor(() => expect(door.loop.calls).toHaveLength(before + 1));
    controller.abort();
    expect(await call).toBe('gone');
    await vi.waitFor(() => expect(door.loop.ended).toContain(door.loop.calls[before]?.call));
  });

  it('says what there is when asked for something else', async () => {
    const answer = await get('/nothing');
    expect(answer.status).toBe(404);
    expect(answer.json).toMatchObject({ error: { code: 'ROUTE_NOT_FOUND', message: expect.stringContaining('/nothing') } });
  });

  it('is alive always and ready only while serving', async () => {
    expect((await get('/healthz')).json).toEqual({ status: 'ok', version: 'test' });
    expect((await get('/readyz')).status).toBe(200);
    door.loop.post({ kind: 'serving', serving: false });
    await vi.waitFor(async () => expect((await get('/readyz')).status).toBe(503));
    expect((await get('/healthz')).status).toBe(200);
    door.loop.post({ kind: 'serving', serving: true });
    await vi.waitFor(async () => expect((await get('/readyz')).status).toBe(200));
  });
});

describe('POST /objects', () => {
  const nodes = (): void => {
    door.loop.handlers.listNodes = () => ListNodesResponse.fromPartial({
      nodes: [
        { name: 'n1', status: NodeStatus.READY, dataUrl: 'http://127.0.0.1:9', slots: 4, slotsUsed: 3 },
        { name: 'n2', status: NodeStatus.READY, dataUrl: storeUrl, slots: 4, slotsUsed: 1 },
        { name: 'n3', status: NodeStatus.LOST, dataUrl: 'http://127.0.0.1:9', slots: 99 },
      ],
    });
  };

  it('streams the body to the ready node with most room and answers with the reference', async () => {
    nodes();
    received = [];
    storeAnswer = { status: 201, body: { id: 'obj-1', sizeBytes: 300_000, digest: DIGEST, name: 'access.log' } };
    const body = Buffer.alloc(300_000, 3);
    const answer = await post('/objects?name=access.log', body);
    expect(answer.status).toBe(201);
    expect(JSON.parse(answer.text)).toEqual({ id: 'obj-1', sizeBytes: 300_000, digest: DIGEST, holders: ['n2'], name: 'access.log' });
    expect(received[0]?.url).toBe('/objects?name=access.log');
    expect(received[0]?.body.equals(body)).toBe(true);
  });

  it('passes on what the store refuses', async () => {
    nodes();
    storeAnswer = { status: 507, body: { error: { code: 'STORE_FULL', message: 'full' } } };
    expect(await post('/objects', 'x')).toMatchObject({ status: 507, error: { code: 'STORE_FULL', component: 'agent' } });
    storeAnswer = { status: 500, body: 'garbage' };
    expect(await post('/objects', 'x')).toMatchObject({ status: 503, error: { code: 'UNAVAILABLE' } });
  });

  it('says so when the node is unknown, not ready, or not there, or none is ready', async () => {
    nodes();
    expect(await post('/objects?node=n9', 'x')).toMatchObject({ status: 404, error: { code: 'NODE_NOT_FOUND' } });
    expect(await post('/objects?node=n3', 'x')).toMatchObject({ status: 503, error: { code: 'NO_NODES' } });
    expect(await post('/objects?node=n1', 'x')).toMatchObject({ status: 503, error: { code: 'UNAVAILABLE' } });
    door.loop.handlers.listNodes = () => ({ nodes: [] });
    expect(await post('/objects', 'x')).toMatchObject({ status: 503, error: { code: 'NO_NODES' } });
  });
});

describe('GET /metrics', () => {
  const scrape = async (): Promise<string> => (await fetch(`${door.http}/metrics`)).text();

  it('counts invocations, phases, locality, gRPC calls and HTTP requests', async () => {
    door.loop.handlers.getStatus = () => GetStatusResponse.fromPartial({ live: 2, delayingForLocality: 1, counters: { decisions: 42, delayWaitedMs: 1_500, delaySavedMs: 4_000, delayLostMs: 250 }, states: { delaying: 1 }, policy: 'metronome' });
    door.loop.handlers.listNodes = () => ListNodesResponse.fromPartial({ nodes: [{ name: 'n1', status: NodeStatus.READY, slots: 4, slotsUsed: 1 }] });
    const stream = door.client.openInvokeStream();
    await stream.invoke({ function: 'counted' });
    await stream.close();
    await door.client.invoke({ function: 'counted' });
    await failure(door.client.invoke({ function: 'missing' }));
    await post('/async/counted', '1');
    const text = await scrape();
    expect(text).toContain('metronome_invocations_total{function="counted",result="ok"} 2');
    expect(text).toContain('metronome_invocations_total{function="counted",result="accepted"} 1');
    expect(text).toMatch(/metronome_invocations_total\{function="unknown",result="FUNCTION_NOT_FOUND"\} \d/);
    expect(text).not.toContain('function="missing"');
    expect(text).toContain('metronome_invocation_duration_seconds_count{function="counted"} 2');
    expect(text).toContain('metronome_phase_seconds_bucket{phase="ran",function="counted",le="0.0025"} 2');
    expect(text).toContain('metronome_phase_seconds_sum{phase="ran",function="counted"} 0.004');
    expect(text).not.toContain('phase="delayed",function="counted"');
    expect(text).toMatch(/metronome_locality_total\{locality="local",node="n1"\} \d+/);
    expect(text).toMatch(/metronome_reasons_total\{reason="bestNodeHasRoom"\} \d+/);
    expect(text).toMatch(/grpc_server_handled_total\{grpc_service="metronome.v1.InvokeService",grpc_method="Invoke",grpc_code="OK"\} 1/);
    expect(text).toMatch(/grpc_method="Invoke",grpc_code="NOT_FOUND"\} 1/);
    expect(text).toMatch(/grpc_method="InvokeStream",grpc_code="OK"\} 1/);
    expect(text).toMatch(/metronome_http_requests_total\{route="\/run\/:function",method="POST",status="200"\} \d+/);
    expect(text).toContain('metronome_scheduler_events_total{event="decisions"} 42');
    for (const [outcome, seconds] of [['waited', 1.5], ['saved', 4], ['lost', 0.25]]) expect(text).toContain(`metronome_delay_seconds_total{outcome="${outcome}"} ${seconds}`);
    expect(text).not.toContain('event="delay');
    expect(text).toContain('metronome_scheduler_up 1');
    expect(text).toContain('metronome_scheduler_delaying{for="locality"} 1');
    expect(text).toContain('metronome_nodes{status="ready"} 1');
    expect(text).toContain('metronome_node_slots_used{node="n1"} 1');
    expect(text).toContain('nodejs_eventloop_lag_p99_seconds');
    expect(await scrape()).toContain('metronome_scheduler_events_total{event="decisions"} 42');
  });

  it('still answers when the scheduler does not', async () => {
    delete door.loop.handlers.getStatus;
    const text = await scrape();
    expect(text).toContain('metronome_scheduler_up 0');
    expect(text).not.toContain('metronome_scheduler_events_total{');
    expect(text).toContain('metronome_invocations_total{');
  });
});
