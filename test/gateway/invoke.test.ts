import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { failure, startTestGateway, type TestGateway } from './fake-loop.ts';

let door: TestGateway;
beforeAll(async () => {
  door = await startTestGateway({ maxPayloadBytes: 10_000, maxInputs: 2 });
});
afterAll(() => door.close());

const json = (value: unknown): Buffer => Buffer.from(JSON.stringify(value));
const DIGEST = 'a'.repeat(64);

describe('Invoke', () => {
  it('returns the payload, the node and the timings', async () => {
    const response = await door.client.invoke({ function: 'echo', payload: json({ hello: 'wörld' }) });
    expect(JSON.parse(response.payload.toString())).toEqual({ hello: 'wörld' });
    expect(response.node).toBe('n1');
    expect(response.phases?.ranMs).toBe(2);
    expect(response.contentType).toBe('application/json');
  });

  it('carries bytes of any media type untouched', async () => {
    const bytes = Buffer.from(Array.from({ length: 9_000 }, (_, i) => i % 256));
    const response = await door.client.invoke({ function: 'echo', payload: bytes, contentType: 'application/octet-stream' });
    expect(response.payload.equals(bytes)).toBe(true);
    expect(response.contentType).toBe('application/octet-stream');
  });

  it('hands every field to the loop', async () => {
    const inputs = [{ id: 'o1', sizeBytes: 5, digest: DIGEST, holders: ['n1'], name: 'a.log' }];
    await door.client.invoke({ function: 'echo', inputs, idempotencyKey: 'k', slaMs: 250, localityKey: 'l', policy: 'round-robin', traceparent: `00-${'1'.repeat(32)}-${'2'.repeat(16)}-01` });
    expect(door.loop.submitted.at(-1)).toMatchObject({ target: 'echo', mode: 'sync', inputs, idempotencyKey: 'k', slaMs: 250, localityKey: 'l', policy: 'round-robin', traceparent: `00-${'1'.repeat(32)}-${'2'.repeat(16)}-01`, deadlineAtMs: 0 });
  });

  it('sends payloads without the memory pool that they were read from', async () => {
    await door.client.invoke({ function: 'echo', payload: json(1) });
    expect(door.loop.submitted.at(-1)?.payload.buffer.byteLength).toBe(1);
  });

  it('takes the trace context from the metadata when the request has none, and drops one that is malformed', async () => {
    const traceparent = `00-${'a'.repeat(32)}-${'b'.repeat(16)}-01`;
    await door.client.invoke({ function: 'echo' }, { metadata: { traceparent } });
    expect(door.loop.submitted.at(-1)?.traceparent).toBe(traceparent);
    await door.client.invoke({ function: 'echo' }, { metadata: { traceparent: 'nonsense' } });
    expect(door.loop.submitted.at(-1)?.traceparent).toBe('');
  });

  it('takes the earlier of the call deadline and timeout_ms as the absolute deadline', async () => {
    const before = Date.now();
    await door.client.invoke({ function: 'echo', timeoutMs: 60_000 }, { timeoutMs: 20_000 });
    const byCall = (door.loop.submitted.at(-1)?.deadlineAtMs ?? 0) - before;
    expect(byCall).toBeGreaterThan(19_000);
    expect(byCall).toBeLessThan(25_000);
    await door.client.invoke({ function: 'echo', timeoutMs: 5_000 }, { timeoutMs: 20_000 });
    const byTimeout = (door.loop.submitted.at(-1)?.deadlineAtMs ?? 0) - before;
    expect(byTimeout).toBeGreaterThan(4_500);
    expect(byTimeout).toBeLessThan(10_000);
  });

  it.each([
    ['missing', 'FUNCTION_NOT_FOUND'],
    ['fails', 'FUNCTION_FAILED'],
    ['full', 'QUEUE_FULL'],
    ['nodeless', 'NO_NODES'],
  ])('passes on what the loop says about %s: %s', async (name, code) => {
    const error = await failure(door.client.invoke({ function: name }));
    expect(error.code).toBe(code);
    expect(error.extras.component).toBe('scheduler');
    if (code === 'FUNCTION_FAILED') expect(error.extras.functionError).toMatchObject({ type: 'TypeError', message: 'x is not a function' });
    if (code === 'QUEUE_FULL') expect(error.extras.retryAfterMs).toBe(1_500);
  });

  it.each([
    ['no name', { function: '' }, 'function'],
    ['a malformed name', { function: 'Not_A_Name' }, 'function'],
    ['a media type that is none', { function: 'echo', contentType: 'json\n' }, 'content_type'],
    ['too many inputs', { function: 'echo', inputs: [1, 2, 3].map((i) => ({ id: `o${i}`, digest: DIGEST })) }, 'inputs'],
    ['an input id with a slash', { function: 'echo', inputs: [{ id: '../etc', digest: DIGEST }] }, 'inputs[0].id'],
    ['a digest that is none', { function: 'echo', inputs: [{ id: 'o1', digest: 'abc' }] }, 'inputs[0].digest'],
    ['a name with a path', { function: 'echo', inputs: [{ id: 'o1', digest: DIGEST, name: '../x' }] }, 'inputs[0].name'],
    ['a long idempotency key', { function: 'echo', idempotencyKey: 'k'.repeat(256) }, 'idempotency_key'],
    ['a long locality key', { function: 'echo', localityKey: 'k'.repeat(256) }, 'locality_key'],
    ['a negative sla', { function: 'echo', slaMs: -1 }, 'sla_ms'],
    ['an infinite timeout', { function: 'echo', timeoutMs: Infinity }, 'timeout_ms'],
    ['a timeout that is no number', { function: 'echo', timeoutMs: NaN }, 'timeout_ms'],
  ])('refuses %s and names the field, before the loop sees it', async (_, request, field) => {
    const seen = door.loop.submitted.length;
    const error = await failure(door.client.invoke(request));
    expect(error.code).toBe('INVALID_REQUEST');
    expect(error.extras.violations?.map((violation) => violation.field)).toEqual([field]);
    expect(error.extras.component).toBe('gateway');
    expect(door.loop.submitted).toHaveLength(seen);
  });

  it('reports all invalid fields together', async () => {
    const error = await failure(door.client.invoke({ function: '', slaMs: -1, policy: 'p'.repeat(300) }));
    expect(error.extras.violations?.map((violation) => violation.field)).toEqual(['function', 'policy', 'sla_ms']);
  });

  it('refuses an oversized payload with both numbers', async () => {
    const error = await failure(door.client.invoke({ function: 'echo', payload: Buffer.alloc(10_001, 0x20), contentType: 'text/plain' }));
    expect(error.code).toBe('PAYLOAD_TOO_LARGE');
    expect(error.message).toContain('10001');
    expect(error.message).toContain('10000');
  });

  it.each([['{"a":}', /position 5/], ['{"a"', /position 4/], ['"\xff"', /UTF-8/]])('refuses %j as JSON and says where', async (text, place) => {
    const error = await failure(door.client.invoke({ function: 'echo', payload: Buffer.from(text, 'latin1'), contentType: 'application/json; charset=utf-8' }));
    expect(error.code).toBe('PAYLOAD_INVALID');
    expect(error.message).toMatch(place);
  });

  it('tells the loop when the client cancels', async () => {
    const controller = new AbortController();
    const call = failure(door.client.invoke({ function: 'hang' }, { signal: controller.signal }));
    const ticket = await vi.waitFor(() => {
      const last = door.loop.submitted.at(-1);
      expect(last?.target).toBe('hang');
      return last?.ticket;
    });
    controller.abort();
    expect((await call).code).toBe('CANCELLED');
    await vi.waitFor(() => expect(door.loop.cancelled).toContain(ticket));
  });

  it('leaves it to the loop to end an invocation whose deadline passes', async () => {
    const error = await failure(door.client.invoke({ function: 'hang', idempotencyKey: 'due' }, { timeoutMs: 150 }));
    expect(error.code).toBe('DEADLINE_EXCEEDED');
    const item = door.loop.submitted.find((submitted) => submitted.idempotencyKey === 'due');
    if (item !== undefined) {
      expect(item.deadlineAtMs).toBeGreaterThan(0);
      expect(door.loop.cancelled).not.toContain(item.ticket);
      door.loop.settle(item.ticket);
    }
  });

  it('survives a function message that is not well-formed text', async () => {
    const call = failure(door.client.invoke({ function: 'hang', idempotencyKey: 'surrogate' }));
    const item = await vi.waitFor(() => {
      const found = door.loop.submitted.find((submitted) => submitted.idempotencyKey === 'surrogate');
      if (found === undefined) throw new Error('not there yet');
      return found;
    });
    door.loop.post({ kind: 'settled', items: [{ ticket: item.ticket, error: { code: 'FUNCTION_FAILED', message: 'half \ud83d', functionError: { type: 'Error', message: '😀'.repeat(5_000), stack: '' } } }] });
    const error = await call;
    expect(error.code).toBe('FUNCTION_FAILED');
    expect(error.extras.functionError?.message).toMatch(/^(😀)+$/u);
  });
});

describe('InvokeAsync', () => {
  it('answers with the id once the loop has accepted it', async () => {
    const { invocationId } = await door.client.invokeAsync({ request: { function: 'echo', payload: json([1]) } });
    expect(invocationId).toBe(`inv-${door.loop.submitted.at(-1)?.ticket}`);
    expect(door.loop.submitted.at(-1)?.mode).toBe('async');
  });

  it('refuses what is invalid or missing', async () => {
    expect((await failure(door.client.invokeAsync({}))).code).toBe('INVALID_REQUEST');
    expect((await failure(door.client.invokeAsync({ request: { function: 'UPPER' } }))).code).toBe('INVALID_REQUEST');
    expect((await failure(door.client.invokeAsync({ request: { function: 'missing' } }))).code).toBe('FUNCTION_NOT_FOUND');
  });
});

describe('admission', () => {
  it('refuses more than maxInFlight with QUEUE_FULL and a hint', async () => {
    const small = await startTestGateway({ maxInFlight: 3, retryAfterMs: 70 });
    const held = [1, 2, 3].map(() => small.client.invoke({ function: 'hang' }));
    await vi.waitFor(() => expect(small.loop.submitted).toHaveLength(3));
    const error = await failure(small.client.invoke({ function: 'echo' }));
    expect(error.code).toBe('QUEUE_FULL');
    expect(error.extras.retryAfterMs).toBe(70);
    for (const item of small.loop.submitted) small.loop.settle(item.ticket);
    await Promise.all(held);
    expect((await small.client.invoke({ function: 'echo' })).node).toBe('n1');
    await small.close();
  });
});
