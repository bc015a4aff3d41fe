import { spawn } from 'node:child_process';
import { createServer, type AddressInfo } from 'node:net';
import { describe, expect, it } from 'vitest';
import { DEFAULT_GATEWAY_CONFIG } from '../../src/gateway/gateway-config.ts';
import type { GatewayMessage } from '../../src/gateway/protocol.ts';
import { spawnGatewayProcess, spawnGatewayThread, type SpawnedGateway } from '../../src/gateway/spawn-gateway.ts';
import { createClient } from '../../src/rpc/client.ts';
import { createFakeLoop, failure, type FakeLoop } from './fake-loop.ts';

const config = { ...DEFAULT_GATEWAY_CONFIG, logLevel: 'silent' };

function firstMessage(spawned: SpawnedGateway): Promise<GatewayMessage> {
  return new Promise((resolve) => spawned.line.onMessage(resolve));
}

async function ready(spawned: SpawnedGateway): Promise<{ loop: FakeLoop; grpcPort: number; httpPort: number }> {
  const first = firstMessage(spawned);
  const loop = createFakeLoop(spawned.line);
  const message = await first;
  if (message.kind !== 'listening') throw new Error(`expected "listening", got ${JSON.stringify(message)}`);
  loop.post({ kind: 'serving', serving: true });
  return { loop, ...message };
}

describe.each([
  ['a worker thread', spawnGatewayThread],
  ['a child process', spawnGatewayProcess],
] as const)('the gateway in %s', (_, spawnGateway) => {
  it('serves both doors, carries bytes both ways, drains and ends', async () => {
    const spawned = spawnGateway(config);
    const { loop, grpcPort, httpPort } = await ready(spawned);
    const client = createClient({ address: `127.0.0.1:${grpcPort}` });
    const bytes = Buffer.from(Array.from({ length: 5_000 }, (_unused, i) => i % 251));
    const response = await client.invoke({ function: 'echo', payload: bytes, contentType: 'application/octet-stream' });
    expect(response.payload.equals(bytes)).toBe(true);
    const stream = client.openInvokeStream();
    const responses = await Promise.all(Array.from({ length: 300 }, (_unused, i) => stream.invoke({ function: 'echo', payload: Buffer.from(String(i)) })));
    expect(responses.map((each) => Number(each.payload.toString()))).toEqual(Array.from({ length: 300 }, (_unused, i) => i));
    await stream.close();
    expect((await failure(client.invoke({ function: 'missing' }))).code).toBe('FUNCTION_NOT_FOUND');
    const answer = await fetch(`http://127.0.0.1:${httpPort}/run/echo`, { method: 'POST', body: '"hi"' });
    expect(await answer.text()).toBe('"hi"');
    client.close();
    loop.post({ kind: 'stop', graceMs: 1_000 });
    expect(await spawned.exited).toBe(0);
  }, 30_000);

  it('says "fatal" with PORT_IN_USE and ends when a port is taken', async () => {
    const other = createServer();
    await new Promise<void>((resolve) => other.listen(0, '127.0.0.1', resolve));
    const spawned = spawnGateway({ ...config, httpPort: (other.address() as AddressInfo).port });
    expect(await firstMessage(spawned)).toMatchObject({ kind: 'fatal', error: { code: 'PORT_IN_USE' } });
    expect(await spawned.exited).toBe(1);
    await new Promise((resolve) => other.close(resolve));
  }, 30_000);

  it('tells the loop when it is killed', async () => {
    const spawned = spawnGateway(config);
    await ready(spawned);
    const closed = new Promise<void>((resolve) => spawned.line.onClose(resolve));
    await spawned.kill();
    await closed;
  }, 30_000);
});

describe('the gateway process', () => {
  it('ends when the daemon dies without a word', async () => {
    const script = `
      const { spawnGatewayProcess } = await import(${JSON.stringify(new URL('../../src/gateway/spawn-gateway.ts', import.meta.url).href)});
      const spawned = spawnGatewayProcess(${JSON.stringify(config)});
      spawned.line.onMessage((message) => { if (message.kind === 'listening') process.stdout.write(String(spawned.pid) + '\\n'); });
    `;
    const daemon = spawn(process.execPath, ['--input-type=module', '-e', script], { stdio: ['ignore', 'pipe', 'inherit'] });
    const pid = await new Promise<number>((resolve, reject) => {
      daemon.stdout.once('data', (text: Buffer) => resolve(Number(text.toString())));
      daemon.once('exit', () => reject(new Error('the daemon ended before its gateway listened')));
    });
    daemon.kill('SIGKILL');
    await expect.poll(() => isAlive(pid), { timeout: 10_000 }).toBe(false);
  }, 30_000);
});

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}
