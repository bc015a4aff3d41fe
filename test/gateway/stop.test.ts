import { createServer } from 'node:net';
import type { AddressInfo } from 'node:net';
import { describe, expect, it, vi } from 'vitest';
import { startGateway } from '../../src/gateway/gateway.ts';
import { DEFAULT_GATEWAY_CONFIG } from '../../src/gateway/gateway-config.ts';
import { createMemoryLine } from '../../src/gateway/lines.ts';
import type { GatewayMessage, LoopMessage } from '../../src/gateway/protocol.ts';
import { createFakeLoop, failure, startTestGateway } from './fake-loop.ts';

describe('the life of a gateway', () => {
  it('tells the loop its ports once both doors listen', async () => {
    const door = await startTestGateway();
    await vi.waitFor(() => expect(door.loop.messages).toContainEqual({ kind: 'listening', grpcPort: door.gateway.grpcPort, httpPort: door.gateway.httpPort }));
    await door.close();
  });

  it.each(['grpcPort', 'httpPort'] as const)('reports a %s in use as PORT_IN_USE, naming the address, to the loop and to its starter', async (which) => {
    const other = createServer();
    await new Promise<void>((resolve) => other.listen(0, '127.0.0.1', resolve));
    const { port } = other.address() as AddressInfo;
    const [gatewayEnd, loopEnd] = createMemoryLine<GatewayMessage, LoopMessage>();
    const loop = createFakeLoop(loopEnd);
    const error = await failure(startGateway({ line: gatewayEnd, config: { ...DEFAULT_GATEWAY_CONFIG, [which]: port } }));
    expect(error.code).toBe('PORT_IN_USE');
    expect(error.message).toContain(`127.0.0.1:${port}`);
    await vi.waitFor(() => expect(loop.messages).toMatchObject([{ kind: 'fatal', error: { code: 'PORT_IN_USE' } }]));
    await new Promise((resolve) => other.close(resolve));
  });

  it('reports an address that is none as CONFIG_INVALID', async () => {
    const [gatewayEnd] = createMemoryLine<GatewayMessage, LoopMessage>();
    // TEST-NET-1: never an address of this machine.
    expect((await failure(startGateway({ line: gatewayEnd, config: { ...DEFAULT_GATEWAY_CONFIG, host: '192.0.2.1' } }))).code).toBe('CONFIG_INVALID');
  });

  it('drains on stop: refuses new work, lets what is in flight end, then closes', async () => {
    const door = await startTestGateway();
    const unary = door.client.invoke({ function: 'hang' });
    const stream = door.client.openInvokeStream();
    const streamed = stream.invoke({ function: 'hang' });
    await vi.waitFor(() => expect(door.loop.submitted).toHaveLength(2));
    door.loop.post({ kind: 'stop', graceMs: 20_000 });
    await vi.waitFor(async () => expect((await fetch(`${door.http}/readyz`)).status).toBe(503));
    expect((await failure(stream.invoke({ function: 'echo' }))).code).toBe('DRAINING');
    expect((await failure(door.client.invoke({ function: 'echo' }))).code).toBe('DRAINING');
    const refused = await fetch(`${door.http}/run/echo`, { method: 'POST', body: '1' });
    expect([refused.status, refused.headers.get('retry-after')]).toEqual([503, '1']);
    await refused.text();
    for (const { ticket } of door.loop.submitted) door.loop.settle(ticket, Buffer.from('"done"'));
    expect((await unary).payload.toString()).toBe('"done"');
    expect((await streamed).payload.toString()).toBe('"done"');
    await door.gateway.stopped;
    expect((await stream.ended)?.code).toMatch(/DRAINING|UNAVAILABLE/);
    await expect(fetch(`${door.http}/healthz`)).rejects.toThrow();
    expect(door.loop.submitted).toHaveLength(2);
    await door.close();
  });

  it('answers what has not ended within the grace with INTERRUPTED, and sends nothing to the loop afterwards', async () => {
    const door = await startTestGateway();
    const unary = failure(door.client.invoke({ function: 'hang' }));
    const http = fetch(`${door.http}/run/hang`, { method: 'POST', body: '1' });
    const stream = door.client.openInvokeStream();
    const streamed = failure(stream.invoke({ function: 'hang' }));
    door.loop.handlers.getInvocation = () => new Promise(() => {});
    const waiting = failure(door.client.getInvocation({ invocationId: 'i', waitMs: 60_000 }));
    const watching = failure((async () => {
      for await (const _ of door.client.watchInvocations({})) expect.unreachable();
    })());
    await vi.waitFor(() => expect([door.loop.submitted.length, door.loop.calls.length, door.loop.watches.length]).toEqual([3, 1, 1]));
    const before = door.loop.messages.length;
    await door.gateway.stop(50);
    expect((await unary).code).toBe('INTERRUPTED');
    expect((await streamed).code).toBe('INTERRUPTED');
    const answer = await http;
    expect([answer.status, ((await answer.json()) as { error: { code: string } }).error.code]).toEqual([500, 'INTERRUPTED']);
    expect((await waiting).code).toBe('UNAVAILABLE');
    expect((await watching).code).toBe('UNAVAILABLE');
    await new Promise((resolve) => setTimeout(resolve, 20));
    expect(door.loop.messages).toHaveLength(before);
    await door.close();
  });

  it('ends by itself when the line to the loop ends', async () => {
    const [gatewayEnd, loopEnd] = createMemoryLine<GatewayMessage, LoopMessage>();
    createFakeLoop(loopEnd);
    const gateway = await startGateway({ line: gatewayEnd, config: DEFAULT_GATEWAY_CONFIG });
    const call = fetch(`http://127.0.0.1:${gateway.httpPort}/run/hang`, { method: 'POST', body: '1' });
    await new Promise((resolve) => setTimeout(resolve, 100));
    loopEnd.close();
    await gateway.stopped;
    expect((await call).status).toBe(500);
    await (await call).text();
  });
});
