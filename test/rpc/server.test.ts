import { createServer, type AddressInfo } from 'node:net';
import { Client, Metadata, credentials } from '@grpc/grpc-js';
import { service as healthService } from 'grpc-health-check';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { MetronomeError } from '../../src/core/errors.ts';
import { createClient } from '../../src/rpc/client.ts';
import { NodeServiceService, type ListNodesResponse, type NodeServiceServer } from '../../src/rpc/gen/metronome/v1/node.ts';
import { unaryHandler, type CallContext } from '../../src/rpc/handlers.ts';
import { createRpcServer, formatAddress, rpcService, type RpcServer, type RpcServerOptions } from '../../src/rpc/server.ts';
import { failure } from '../gateway/fake-loop.ts';

const closing: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0).toReversed()) await close();
});

async function start(listNodes: (context: CallContext) => Promise<ListNodesResponse> | ListNodesResponse, options: Partial<RpcServerOptions> = {}): Promise<RpcServer> {
  const unused = unaryHandler<never, never>(() => {
    throw new MetronomeError('UNIMPLEMENTED', 'unused');
  });
  const nodes = { listNodes: unaryHandler((_request, context) => listNodes(context)), registerNode: unused, drainNode: unused, prewarmNode: unused, evictNode: unused } as unknown as NodeServiceServer;
  const server = await createRpcServer({ host: '127.0.0.1', port: 0, services: [rpcService(NodeServiceService, nodes)], ...options });
  closing.push(() => server.stop(0));
  return server;
}

function clientOf(server: RpcServer): ReturnType<typeof createClient> {
  const client = createClient({ address: formatAddress(server.host, server.port), channelOptions: { 'grpc.use_local_subchannel_pool': 1 } });
  closing.push(() => client.close());
  return client;
}

async function health(server: RpcServer, service: string): Promise<string> {
  const client = new Client(formatAddress(server.host, server.port), credentials.createInsecure());
  const check = healthService['Check'];
  if (check === undefined) throw new Error('no Check');
  try {
    return await new Promise((resolve, reject) => {
      client.makeUnaryRequest(check.path, check.requestSerialize, check.responseDeserialize, { service }, (error, response) => (error ? reject(error) : resolve((response as { status: string }).status)));
    });
  } finally {
    client.close();
  }
}

/** Server reflection v1 by hand: field 7 asks for the services, field 4 for the file of a symbol. */
async function reflect(server: RpcServer, field: number, argument: string): Promise<string> {
  const client = new Client(formatAddress(server.host, server.port), credentials.createInsecure());
  const request = Buffer.concat([Buffer.from([(field << 3) | 2, argument.length]), Buffer.from(argument)]);
  try {
    return await new Promise((resolve, reject) => {
      const call = client.makeBidiStreamRequest('/grpc.reflection.v1.ServerReflection/ServerReflectionInfo', (bytes: Buffer) => bytes, (bytes: Buffer) => bytes, new Metadata());
      call.on('data', (bytes: Buffer) => resolve(bytes.toString('latin1')));
      call.on('error', reject);
      call.write(request);
      call.end();
    });
  } finally {
    client.close();
  }
}

describe('createRpcServer', () => {
  it('says PORT_IN_USE with the address when another program listens there', async () => {
    const other = createServer();
    await new Promise<void>((resolve) => other.listen(0, '127.0.0.1', resolve));
    closing.push(() => new Promise((resolve) => other.close(resolve)));
    const { port } = other.address() as AddressInfo;
    const error = await failure(start(() => ({ nodes: [] }), { port }));
    expect(error.code).toBe('PORT_IN_USE');
    expect(error.message).toContain(`127.0.0.1:${port}`);
  });

  it('is NOT_SERVING until told, and again from the beginning of a drain, for the whole and for each service', async () => {
    let release: (value: ListNodesResponse) => void = () => {};
    const server = await start(() => new Promise((resolve) => (release = resolve)));
    const both = async (): Promise<string[]> => [await health(server, ''), await health(server, 'metronome.v1.NodeService')];
    expect(await both()).toEqual(['NOT_SERVING', 'NOT_SERVING']);
    server.setServing(true);
    expect(await both()).toEqual(['SERVING', 'SERVING']);
    server.setServing(false);
    expect(await both()).toEqual(['NOT_SERVING', 'NOT_SERVING']);
    await expect(health(server, 'nobody.knows.It')).rejects.toMatchObject({ code: 5 });
    release({ nodes: [] });
  });

  it('lists its services and describes them by reflection', async () => {
    const server = await start(() => ({ nodes: [] }));
    const services = await reflect(server, 7, '*');
    expect(services).toContain('metronome.v1.NodeService');
    expect(services).not.toContain('metronome.v1.AgentService');
    const file = await reflect(server, 4, 'metronome.v1.NodeService');
    expect(file).toContain('metronome/v1/node.proto');
    expect(file).toContain('metronome/v1/agent.proto');
    expect(file).toContain('PrewarmNodeRequest');
  });

  it('does not offer reflection when it is turned off', async () => {
    const server = await start(() => ({ nodes: [] }), { reflection: false });
    await expect(reflect(server, 7, '*')).rejects.toMatchObject({ code: 12 });
  });

  it('lets running calls end when it stops', async () => {
    let release: (value: ListNodesResponse) => void = () => {};
    const server = await start(() => new Promise((resolve) => (release = resolve)));
    const client = clientOf(server);
    const call = client.listNodes({});
    await vi.waitFor(() => expect(release.length).toBe(1));
    const stopped = server.stop(20_000);
    release({ nodes: [] });
    expect((await call).nodes).toEqual([]);
    await stopped;
    expect((await failure(client.listNodes({}))).code).toBe('UNAVAILABLE');
  });

  it('breaks calls that outlast the grace', async () => {
    const server = await start(() => new Promise(() => {}));
    const client = clientOf(server);
    const call = failure(client.listNodes({}));
    await client.waitForReady(5_000);
    await new Promise((resolve) => setTimeout(resolve, 100));
    await server.stop(50);
    expect((await call).code).toMatch(/UNAVAILABLE|CANCELLED|INTERNAL/);
  });
});

describe('unaryHandler', () => {
  it('maps whatever is thrown, sync or async, by the table', async () => {
    const thrown: unknown[] = [new MetronomeError('NODE_NOT_FOUND', 'no n9', { component: 'scheduler' }), new TypeError('a defect')];
    const server = await start(() => {
      throw thrown.shift();
    });
    const client = clientOf(server);
    const known = await failure(client.listNodes({}));
    expect([known.code, known.message, known.extras.component]).toEqual(['NODE_NOT_FOUND', 'no n9', 'scheduler']);
    expect((await failure(client.listNodes({}))).code).toBe('INTERNAL');
  });

  it('gives the deadline as an absolute time and aborts the signal when the caller cancels', async () => {
    const contexts: CallContext[] = [];
    const server = await start((context) => {
      contexts.push(context);
      return new Promise((_resolve, reject) => context.signal.addEventListener('abort', () => reject(context.signal.reason)));
    });
    const client = clientOf(server);
    const controller = new AbortController();
    const call = failure(client.listNodes({}, { signal: controller.signal, timeoutMs: 60_000 }));
    await vi.waitFor(() => expect(contexts).toHaveLength(1));
    expect(Math.abs((contexts[0]?.deadlineAtMs ?? 0) - Date.now() - 60_000)).toBeLessThan(10_000);
    controller.abort();
    expect((await call).code).toBe('CANCELLED');
    await vi.waitFor(() => expect(contexts[0]?.signal.aborted).toBe(true));
    void client.listNodes({}).catch(() => {});
    await vi.waitFor(() => expect(contexts[1]?.deadlineAtMs).toBe(0));
  });
});

describe('createClient', () => {
  it('says what to do when nobody listens', async () => {
    const server = await start(() => ({ nodes: [] }));
    await server.stop(0);
    const client = clientOf(server);
    const error = await failure(client.listNodes({}));
    expect(error.code).toBe('UNAVAILABLE');
    expect(error.message).toBe(`cannot reach the scheduler at 127.0.0.1:${server.port}; is \`metronome up\` running?`);
    expect((await failure(client.waitForReady(200))).code).toBe('UNAVAILABLE');
    const stream = client.openInvokeStream();
    expect((await failure(stream.invoke({ function: 'f' }))).message).toContain('is `metronome up` running?');
    expect((await stream.ended)?.code).toBe('UNAVAILABLE');
  });

  it('honours timeouts and signals that are aborted already', async () => {
    const server = await start(() => new Promise(() => {}));
    const client = clientOf(server);
    expect((await failure(client.listNodes({}, { timeoutMs: 60 }))).code).toBe('DEADLINE_EXCEEDED');
    expect((await failure(client.listNodes({}, { signal: AbortSignal.abort() }))).code).toBe('CANCELLED');
  });

  it('says UNIMPLEMENTED for a service that the other side does not offer', async () => {
    const server = await start(() => ({ nodes: [] }));
    expect((await failure(clientOf(server).getStatus({}))).code).toBe('UNIMPLEMENTED');
  });
});
