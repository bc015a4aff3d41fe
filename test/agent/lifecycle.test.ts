/** Beginnings and ends of an agent: ports, names, directories, registration, drain, stop, and kill -9. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readdirSync } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { status, type handleUnaryCall } from '@grpc/grpc-js';
import { describe, expect, it, vi } from 'vitest';
import { startAgent, type AgentOptions } from '../../src/agent/agent.ts';
import { MetronomeError } from '../../src/core/errors.ts';
import { FunctionServiceService, type FunctionServiceServer } from '../../src/rpc/gen/metronome/v1/function.ts';
import { NodeServiceService, type NodeServiceServer, type RegisterNodeRequest } from '../../src/rpc/gen/metronome/v1/node.ts';
import { unaryHandler } from '../../src/rpc/handlers.ts';
import { createRpcServer, rpcService, type RpcServer } from '../../src/rpc/server.ts';
import { TestClient, defineFunction, fixtureBundle, json, lives, silent, tempDir, testAgent, whenWritten } from './harness.ts';

const TINY = fileURLToPath(new URL('./fixtures/tiny-agent.ts', import.meta.url));

function optionsFor(dataDir: string): AgentOptions {
  return {
    name: 'node-1', host: '127.0.0.1', grpcPort: 0, dataPort: 0, schedulerAddress: undefined, slots: 2, memoryMb: 1024, dataDir, keepAliveMs: 60_000,
    pushIntervalMs: 50, objectQuotaBytes: 1024 ** 2, maxResultBytes: 1024 ** 2, logBytes: 1024, log: silent,
  };
}

/** A scheduler that knows registration and bundles only. */
async function fakeScheduler(register: (request: RegisterNodeRequest) => void, port = 0): Promise<RpcServer> {
  const unimplemented: handleUnaryCall<unknown, never> = (_call, callback) => callback({ code: status.UNIMPLEMENTED });
  const nodes: NodeServiceServer = {
    registerNode: unaryHandler((request: RegisterNodeRequest) => {
      register(request);
      return { pushIntervalMs: 25 };
    }),
    listNodes: unimplemented, drainNode: unimplemented, prewarmNode: unimplemented, evictNode: unimplemented,
  };
  const functions: FunctionServiceServer = {
    applyFunction: unimplemented, getFunction: unimplemented, listFunctions: unimplemented, deleteFunction: unimplemented,
    getBundle: (call) => void fixtureBundle('node').then(({ bytes }) => {
      for (let at = 0; at < bytes.length; at += 1_000) call.write({ chunk: Buffer.from(bytes.subarray(at, at + 1_000)) });
      call.end();
    }),
  };
  return createRpcServer({ host: '127.0.0.1', port, reflection: false, services: [rpcService(NodeServiceService, nodes), rpcService(FunctionServiceService, functions)] });
}

describe('an agent that starts', () => {
  it('names the port that another program listens on, and leaves nothing behind', async () => {
    await using dir = await tempDir();
    const blocker = createServer().listen(0, '127.0.0.1');
    await once(blocker, 'listening');
    const { port } = blocker.address() as { port: number };
    for (const ports of [{ grpcPort: port }, { dataPort: port }]) {
      await expect(startAgent({ ...optionsFor(dir.path), ...ports })).rejects.toMatchObject({ code: 'PORT_IN_USE', message: expect.stringContaining(String(port)) });
    }
    blocker.close();
    // The directory's lock is free again.
    await (await startAgent(optionsFor(dir.path))).stop();
  });

  it('refuses a directory that another agent uses', async () => {
    await using node = await testAgent();
    await expect(startAgent(optionsFor(node.dir))).rejects.toMatchObject({ code: 'STATE_LOCKED' });
  });

  it('has a greater epoch than ever before in its directory, whatever the clock says', async () => {
    await using dir = await tempDir();
    await mkdir(dir.path, { recursive: true });
    const future = Date.now() + 1_000_000;
    await writeFile(join(dir.path, 'epoch'), String(future));
    const agent = await startAgent(optionsFor(dir.path));
    await agent.stop();
    expect(agent.epoch).toBe(future + 1);
  });

  it('answers health checks until it drains', async () => {
    await using node = await testAgent();
    const check = (): Promise<number> => new Promise((resolve, reject) => {
      node.client.stub.makeUnaryRequest('/grpc.health.v1.Health/Check', () => Buffer.alloc(0), (bytes) => bytes[1] ?? 0, {}, (error, status) => (error ? reject(error) : resolve(status ?? 0)));
    });
    expect(await check()).toBe(1);
    await node.agent.drain(0);
    expect(await check()).toBe(2);
  });
});

describe('registration', () => {
  it('tells the scheduler where the agent is, uses its interval and its bundles, and registers again when the streams go', async () => {
    await using dir = await tempDir();
    const requests: RegisterNodeRequest[] = [];
    const scheduler = await fakeScheduler((request) => void requests.push(request));
    const agent = await startAgent({ ...optionsFor(dir.path), schedulerAddress: `127.0.0.1:${scheduler.port}` });
    expect(requests[0]).toEqual({ name: 'node-1', address: agent.grpcAddress, dataUrl: agent.dataUrl, epoch: agent.epoch, slots: 2, memoryMb: 1024, isolation: expect.arrayContaining(['process']), labels: { metrics: expect.any(String), limits: expect.any(String) }, keeping: { policy: 'ttl', keepAliveMs: 60_000, zygoteMemoryMb: 256 } });
    // Until the streams are open it repeats itself.
    await vi.waitFor(() => expect(requests.length).toBeGreaterThan(1), 5_000);
    const client = new TestClient(agent.grpcAddress);
    client.watch(0);
    await client.until(() => client.states[3]);
    expect(json((await client.run(await defineFunction('hello.mjs'), { name: 'bundle' })).result)).toMatchObject({ hello: 'bundle' });
    const count = requests.length;
    client.close();
    await vi.waitFor(() => expect(requests.length).toBeGreaterThan(count), 5_000);
    await agent.stop();
    await scheduler.stop(0);
  });

  it('fails at once when another living agent has the name', async () => {
    await using dir = await tempDir();
    const scheduler = await fakeScheduler(() => {
      throw new MetronomeError('NODE_NAME_TAKEN', 'There is a living agent "node-1" already.');
    });
    await expect(startAgent({ ...optionsFor(dir.path), schedulerAddress: `127.0.0.1:${scheduler.port}` })).rejects.toMatchObject({ code: 'NODE_NAME_TAKEN' });
    await (await startAgent(optionsFor(dir.path))).stop();
    await scheduler.stop(0);
  });

  it('goes on trying while the scheduler is not there yet', async () => {
    await using dir = await tempDir();
    const probe = createServer().listen(0, '127.0.0.1');
    await once(probe, 'listening');
    const { port } = probe.address() as { port: number };
    await new Promise((resolve) => probe.close(resolve));
    const agent = await startAgent({ ...optionsFor(dir.path), schedulerAddress: `127.0.0.1:${port}` });
    let registered = 0;
    const scheduler = await fakeScheduler(() => void registered++, port);
    await vi.waitFor(() => expect(registered).toBeGreaterThan(0), 10_000);
    await agent.stop();
    await scheduler.stop(0);
  });
});

describe('an agent that ends', () => {
  it('drains: rejects what is new, lets run what runs, and waits for the acknowledgement', async () => {
    await using files = await tempDir();
    await using node = await testAgent();
    const started = join(files.path, 'started');
    const definition = await defineFunction('hello.mjs#waitsForFile');
    const id = node.client.send({ definition, payload: Buffer.from(JSON.stringify({ started, go: join(files.path, 'go') })) });
    await whenWritten(started);
    let drained = false;
    const draining = node.agent.drain(10_000).then(() => (drained = true));
    const late = node.client.send({ definition });
    expect(await node.client.until(() => node.client.eventsOf(late).find(({ rejected }) => rejected !== undefined)?.rejected)).toMatchObject({ code: 'DRAINING' });
    await writeFile(join(files.path, 'go'), '');
    expect(json(await node.client.resultOf(id))).toBe('went');
    expect(drained).toBe(false);
    node.client.acknowledge(id);
    await draining;
  });

  it('ends what is left when the grace is over, as lost with the node: it may be retried elsewhere', async () => {
    await using node = await testAgent();
    const id = node.client.send({ definition: await defineFunction('hello.mjs#hangs') });
    await node.client.startOf(id);
    await node.agent.drain(50);
    expect((await node.client.resultOf(id)).error?.code).toBe('NODE_LOST');
  });

  it('stops at once without leaving a process, a port or a sandbox directory', async () => {
    await using files = await tempDir();
    await using node = await testAgent();
    const idle = json((await node.client.run(await defineFunction('hello.mjs'))).result) as { pid: number };
    const python = json((await node.client.run(await defineFunction('hello.py'))).result) as { pid: number };
    const flag = join(files.path, 'flag');
    node.client.send({ definition: await defineFunction('hello.mjs#spins'), payload: Buffer.from(JSON.stringify({ flag })) });
    const busy = Number(await whenWritten(flag));
    node.client.send({ definition: await defineFunction('hello.mjs', { name: 'starting' }) });
    await Promise.all([node.agent.stop(), node.agent.stop()]);
    for (const pid of [idle.pid, python.pid, busy]) expect(lives(pid)).toBe(false);
    expect(readdirSync(join(node.dir, 'sandboxes'))).toEqual([]);
    await expect(fetch(node.agent.dataUrl)).rejects.toThrow();
    const [host = '', port = ''] = node.agent.grpcAddress.split(':');
    const again = createServer().listen(Number(port), host);
    await once(again, 'listening');
    again.close();
  });

  it('keeps objects and unpacked code for the next agent in its directory', async () => {
    await using dir = await tempDir();
    const bundle = await fixtureBundle('node');
    let fetches = 0;
    const options = { ...optionsFor(dir.path), fetchBundle: async () => (fetches++, bundle.bytes) };
    let id = '';
    for (const round of [1, 2]) {
      const agent = await startAgent(options);
      const client = new TestClient(agent.grpcAddress);
      client.watch();
      if (round === 1) id = ((await (await fetch(`${agent.dataUrl}/objects`, { method: 'PUT', body: 'kept' })).json()) as { id: string }).id;
      else expect((await client.until(() => client.states[0])).packageSetsAdded).toEqual([bundle.digest]);
      expect(await (await fetch(`${agent.dataUrl}/objects/${id}`)).text()).toBe('kept');
      await client.run(await defineFunction('hello.mjs'));
      client.close();
      await agent.stop();
    }
    expect(fetches).toBe(1);
  });

  it('killed with -9 leaves no sandbox running, and the next agent cleans up after it', async () => {
    await using dir = await tempDir();
    await using files = await tempDir();
    const child = spawn(process.execPath, [TINY, dir.path], { stdio: ['pipe', 'pipe', 'inherit'] });
    const [line] = (await once(createInterface(child.stdout), 'line')) as [string];
    const { address, epoch } = JSON.parse(line) as { address: string; epoch: number };
    const client = new TestClient(address);
    const idle = json((await client.run(await defineFunction('hello.mjs'))).result) as { pid: number };
    const python = json((await client.run(await defineFunction('hello.py'))).result) as { pid: number };
    const daemon = json((await client.run(await defineFunction('hello.mjs#leavesChild'), { detached: true })).result) as number;
    const flag = join(files.path, 'flag');
    client.send({ definition: await defineFunction('hello.mjs#spins'), payload: Buffer.from(JSON.stringify({ flag })) });
    const busy = Number(await whenWritten(flag));
    child.kill('SIGKILL');
    await once(child, 'exit');
    client.close();
    for (const pid of [idle.pid, python.pid, busy]) await vi.waitFor(() => expect(lives(pid), String(pid)).toBe(false), 5_000);
    // What a function detached on purpose outlives even that, until the sweep.
    expect(lives(daemon)).toBe(true);
    expect(readdirSync(join(dir.path, 'sandboxes')).length).toBeGreaterThan(0);
    await writeFile(join(dir.path, 'objects', 'tmp', 'half'), 'x');
    await mkdir(join(dir.path, 'bundles', 'tmp-half'));
    const next = await startAgent(optionsFor(dir.path));
    expect(lives(daemon)).toBe(false);
    expect(next.epoch).toBeGreaterThan(epoch);
    expect(readdirSync(join(dir.path, 'sandboxes'))).toEqual([]);
    expect(readdirSync(join(dir.path, 'objects', 'tmp'))).toEqual([]);
    expect(existsSync(join(dir.path, 'bundles', 'tmp-half'))).toBe(false);
    await next.stop();
  });

  it('does not kill a stranger that got the pid of a left-over sandbox', async () => {
    await using dir = await tempDir();
    const stranger = spawn('sleep', ['60'], { stdio: 'ignore', detached: true });
    await mkdir(join(dir.path, 'sandboxes', 'sb-old'), { recursive: true });
    await writeFile(join(dir.path, 'sandboxes', 'sb-old', 'process.json'), JSON.stringify({ pid: stranger.pid, startTime: '1' }));
    const agent = await startAgent(optionsFor(dir.path));
    expect(lives(stranger.pid ?? 0)).toBe(true);
    expect(readdirSync(join(dir.path, 'sandboxes'))).toEqual([]);
    await agent.stop();
    stranger.kill('SIGKILL');
  });
});

