import { Client, Metadata, credentials, type ClientDuplexStream } from '@grpc/grpc-js';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { MetronomeError } from '../../src/core/errors.ts';
import { InvokeServiceService, InvokeStreamItem, type InvokeStreamRequest, type InvokeStreamResponse, type InvokeStreamResult } from '../../src/rpc/gen/metronome/v1/invoke.ts';
import { fromStatus } from '../../src/rpc/status.ts';
import { failure, startTestGateway, type TestGateway } from './fake-loop.ts';

let door: TestGateway;
beforeAll(async () => {
  door = await startTestGateway({ maxStreamInFlight: 2_000 });
});
afterAll(() => door.close());

/** A stream without the helper, to send what the helper never would. */
function rawStream(address: string): { call: ClientDuplexStream<InvokeStreamRequest, InvokeStreamResponse>; messages: InvokeStreamResponse[]; results: InvokeStreamResult[]; ended: Promise<MetronomeError | undefined> } {
  const client = new Client(address, credentials.createInsecure(), { 'grpc.use_local_subchannel_pool': 1 });
  const { path, requestSerialize, responseDeserialize } = InvokeServiceService.invokeStream;
  const call = client.makeBidiStreamRequest(path, requestSerialize, responseDeserialize, new Metadata());
  const messages: InvokeStreamResponse[] = [];
  const results: InvokeStreamResult[] = [];
  const ended = new Promise<MetronomeError | undefined>((resolve) => {
    call.on('error', (error) => resolve(fromStatus(error)));
    call.on('end', () => resolve(undefined));
  }).finally(() => client.close());
  call.on('data', (message: InvokeStreamResponse) => {
    messages.push(message);
    results.push(...message.results);
  });
  return { call, messages, results, ended };
}

const item = (tag: number, name: string, payload = '1'): InvokeStreamItem => InvokeStreamItem.fromPartial({ tag, request: { function: name, payload: Buffer.from(payload) } });

describe('InvokeStream', () => {
  it('carries 1000 invocations in flight, loses none, and batches in both directions', async () => {
    const stream = door.client.openInvokeStream({ maxInFlight: 1_000 });
    const before = door.loop.batches.length;
    const responses = await Promise.all(Array.from({ length: 3_000 }, (_, i) => stream.invoke({ function: 'echo', payload: Buffer.from(String(i)) })));
    expect(responses.map((response) => Number(response.payload.toString()))).toEqual(Array.from({ length: 3_000 }, (_, i) => i));
    const batches = door.loop.batches.slice(before);
    expect(batches.reduce((sum, size) => sum + size, 0)).toBe(3_000);
    expect(batches.length).toBeLessThan(1_000);
    await stream.close();
    expect(await stream.ended).toBeUndefined();
  });

  it('answers each item with its own error and goes on', async () => {
    const stream = door.client.openInvokeStream();
    const [missing, invalid, badJson, ok] = await Promise.all([
      failure(stream.invoke({ function: 'missing' })),
      failure(stream.invoke({ function: '' })),
      failure(stream.invoke({ function: 'echo', payload: Buffer.from('{') })),
      stream.invoke({ function: 'echo' }),
    ]);
    expect([missing.code, invalid.code, badJson.code]).toEqual(['FUNCTION_NOT_FOUND', 'INVALID_REQUEST', 'PAYLOAD_INVALID']);
    expect(ok.node).toBe('n1');
    await stream.close();
  });

  it('returns results in the order of completion', async () => {
    const raw = rawStream(door.address);
    raw.call.write({ items: [item(1, 'hang'), item(2, 'echo')] });
    await vi.waitFor(() => expect(raw.results.map((result) => result.tag)).toEqual([2]));
    const hanging = door.loop.submitted.findLast((submitted) => submitted.target === 'hang');
    door.loop.settle(hanging?.ticket ?? 0);
    await vi.waitFor(() => expect(raw.results.map((result) => result.tag)).toEqual([2, 1]));
    raw.call.end();
    expect(await raw.ended).toBeUndefined();
  });

  it('cancels one item by its tag, and its result still comes', async () => {
    const stream = door.client.openInvokeStream();
    const controller = new AbortController();
    const call = failure(stream.invoke({ function: 'hang', idempotencyKey: 'one' }, { signal: controller.signal }));
    await vi.waitFor(() => expect(door.loop.submitted.at(-1)?.idempotencyKey).toBe('one'));
    const ticket = door.loop.submitted.at(-1)?.ticket;
    controller.abort();
    expect((await call).code).toBe('CANCELLED');
    expect(door.loop.cancelled).toContain(ticket);
    expect((await stream.invoke({ function: 'echo' })).node).toBe('n1');
    await stream.close();
  });

  it('cancels all that is in flight when the client goes away', async () => {
    const stream = door.client.openInvokeStream();
    const calls = Array.from({ length: 20 }, () => failure(stream.invoke({ function: 'hang', idempotencyKey: 'gone' })));
    const tickets = await vi.waitFor(() => {
      const found = door.loop.submitted.filter((submitted) => submitted.idempotencyKey === 'gone').map((submitted) => submitted.ticket);
      expect(found).toHaveLength(20);
      return found;
    });
    stream.cancel();
    expect(new Set((await Promise.all(calls)).map((error) => error.code))).toEqual(new Set(['CANCELLED']));
    await vi.waitFor(() => expect(door.loop.cancelled).toEqual(expect.arrayContaining(tickets)));
  });

  it('ends half-closed streams only after the last result', async () => {
    const raw = rawStream(door.address);
    const seen = door.loop.submitted.length;
    raw.call.write({ items: [item(7, 'hang')] });
    raw.call.end();
    await vi.waitFor(() => expect(door.loop.submitted).toHaveLength(seen + 1));
    door.loop.settle(door.loop.submitted.at(-1)?.ticket ?? 0, Buffer.from('"late"'));
    expect(await raw.ended).toBeUndefined();
    expect(raw.results.map((result) => result.response?.payload.toString())).toEqual(['"late"']);
  });

  it('refuses a tag that is in flight already by ending the stream and cancelling', async () => {
    const raw = rawStream(door.address);
    raw.call.write({ items: [item(1, 'hang'), item(1, 'echo')] });
    expect((await raw.ended)?.code).toBe('INVALID_REQUEST');
    await vi.waitFor(() => expect(door.loop.cancelled).toContain(door.loop.submitted.at(-1)?.ticket));
  });

  it('refuses messages of more than 1024 items', async () => {
    const raw = rawStream(door.address);
    raw.call.write({ items: Array.from({ length: 1_025 }, (_, i) => item(i, 'echo')) });
    expect((await raw.ended)?.code).toBe('INVALID_REQUEST');
  });

  it('refuses an item without an action, and ignores the cancellation of an unknown tag', async () => {
    const raw = rawStream(door.address);
    raw.call.write({ items: [InvokeStreamItem.fromPartial({ tag: 3 }), InvokeStreamItem.fromPartial({ tag: 99, cancel: true }), item(4, 'echo')] });
    await vi.waitFor(() => expect(raw.results).toHaveLength(2));
    expect(raw.results.find((result) => result.tag === 3)?.error?.code).toBe('INVALID_REQUEST');
    raw.call.end();
    await raw.ended;
  });

  it('refuses what exceeds the bound of one stream with QUEUE_FULL', async () => {
    const small = await startTestGateway({ maxStreamInFlight: 2 });
    const stream = small.client.openInvokeStream();
    const held = [stream.invoke({ function: 'hang' }), stream.invoke({ function: 'hang' })];
    expect((await failure(stream.invoke({ function: 'echo' }))).code).toBe('QUEUE_FULL');
    for (const { ticket } of small.loop.submitted) small.loop.settle(ticket);
    await Promise.all(held);
    await stream.close();
    await small.close();
  });

  it('stops reading from a client that does not read, and loses nothing when it reads again', async () => {
    const raw = rawStream(door.address);
    raw.call.pause();
    const payload = JSON.stringify('x'.repeat(100_000));
    const total = 400;
    let written = 0;
    const before = door.loop.submitted.length;
    for (; written < total; written++) raw.call.write({ items: [item(written, 'echo', payload)] });
    // 40 MB of results cannot fit into the buffers in between: the door has to hold back.
    await new Promise((resolve) => setTimeout(resolve, 300));
    const takenWhilePaused = door.loop.submitted.length - before;
    raw.call.resume();
    await vi.waitFor(() => expect(raw.results).toHaveLength(total), { timeout: 20_000 });
    expect(takenWhilePaused).toBeLessThan(total);
    expect(new Set(raw.results.map((result) => result.tag)).size).toBe(total);
    // No message exceeds what other gRPC clients accept by default.
    for (const message of raw.messages) expect(message.results.reduce((sum, result) => sum + (result.response?.payload.length ?? 0), 0)).toBeLessThan(4 * 1024 * 1024);
    raw.call.end();
    await raw.ended;
  }, 30_000);
});

describe('the client side of InvokeStream', () => {
  it('bounds what waits for its turn', async () => {
    const stream = door.client.openInvokeStream({ maxInFlight: 1, maxWaiting: 1 });
    const first = failure(stream.invoke({ function: 'hang' }));
    const second = failure(stream.invoke({ function: 'hang' }));
    expect((await failure(stream.invoke({ function: 'echo' }))).code).toBe('QUEUE_FULL');
    stream.cancel();
    expect([(await first).code, (await second).code]).toEqual(['CANCELLED', 'CANCELLED']);
    expect((await failure(stream.invoke({ function: 'echo' }))).code).toBe('UNAVAILABLE');
  });

  it('fails all that is pending when the stream breaks', async () => {
    const doomed = await startTestGateway();
    const stream = doomed.client.openInvokeStream();
    const calls = Array.from({ length: 5 }, () => failure(stream.invoke({ function: 'hang' })));
    await vi.waitFor(() => expect(doomed.loop.submitted).toHaveLength(5));
    await doomed.close();
    for (const error of await Promise.all(calls)) expect(['INTERRUPTED', 'UNAVAILABLE', 'DRAINING']).toContain(error.code);
    expect(await stream.ended).toBeInstanceOf(MetronomeError);
  });
});
