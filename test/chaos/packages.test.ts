/** An agent that is killed in the middle of its first installation: what waits for it completes after it is back, or ends with an error that says so. */
import { createHash } from 'node:crypto';
import { existsSync, readdirSync } from 'node:fs';
import { mkdtemp, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { packFunction } from '../../src/config/bundle.ts';
import { InvocationState } from '../../src/rpc/gen/metronome/v1/invoke.ts';
import { NodeStatus } from '../../src/rpc/gen/metronome/v1/node.ts';
import { fakeRegistry, locked, lockOf, type FakePackage, type FakeRegistry } from '../agent/fake-registry.ts';
import { openCluster, PATIENCE, valueOf, type TestCluster } from '../integration/harness.ts';

let registry: FakeRegistry;
let cluster: TestCluster;
beforeAll(async () => {
  registry = await fakeRegistry();
  cluster = await openCluster({ nodes: 1, slots: 1, processes: true, agentArgs: ['--npm-registry', registry.url] });
}, 120_000);
afterAll(async () => {
  await cluster?.close();
  await registry?.stop();
}, 60_000);

/** Applies a function that says what its package says. */
async function apply(name: string, made: FakePackage, spec: { readonly idempotent: boolean; readonly retries: number }): Promise<void> {
  const folder = await mkdtemp(join(cluster.dir, 'code-'));
  await writeFile(join(folder, 'handler.mjs'), `import word from '${made.name}'; export const handler = () => word;`);
  await cluster.client.applyFunction({
    spec: { name, runtime: 'node', handler: 'handler.mjs', memoryMb: 128, cpu: 1, timeoutMs: 20_000, slaMs: 10_000, reuse: false, ...spec },
    bundle: Buffer.from(await packFunction(folder)), lock: lockOf([locked(made)]),
  });
}

const store = (): string => join(cluster.dir, 'node-1', 'packages');
const halves = (): string[] => (existsSync(store()) ? readdirSync(store()).filter((name) => name.startsWith('tmp-') && readdirSync(join(store(), name), { recursive: true }).length > 20) : []);

/** Invokes, and kills the agent when it has most of the package but not its end. */
async function killedWhileItInstalls(name: string, idempotent: boolean): Promise<string> {
  const files = Object.fromEntries(Array.from({ length: 200 }, (_, i) => [`f${i}`, Buffer.from(createHash('sha512').update(String(i)).digest('hex').repeat(20))]));
  const made = await registry.publish(name, '1.0.0', { 'index.js': `module.exports = 'word of ${name}';`, ...files });
  await apply(name, made, { idempotent, retries: idempotent ? 2 : 0 });
  registry.fault = (request, response) => {
    if (request.url?.endsWith('.tgz') !== true) return false;
    response.writeHead(200, { 'content-length': made.tarball.length });
    response.write(made.tarball.subarray(0, Math.floor(made.tarball.length * 0.9)));
    return true;
  };
  const id = await cluster.callAsync(name);
  await vi.waitFor(() => expect(halves()).toHaveLength(1), PATIENCE);
  await cluster.killAgent('node-1');
  registry.fault = undefined;
  await cluster.untilStatus('node-1', NodeStatus.LOST);
  expect(halves()).toHaveLength(1);
  cluster.spawnAgent('node-1');
  await cluster.untilStatus('node-1', NodeStatus.READY, { timeout: 90_000, interval: 20 });
  return id;
}

describe('an agent that is killed while it installs the packages of a first start', () => {
  it('sweeps the half when it is back; what may run twice completes there as the second attempt', async () => {
    const invocation = await cluster.ended(await killedWhileItInstalls('again', true));
    expect(invocation).toMatchObject({ state: InvocationState.COMPLETED, attempt: 2, node: 'node-1' });
    expect(halves()).toEqual([]);
    expect(readdirSync(store()).filter((name) => name.startsWith('again@1.0.0'))).toHaveLength(3);
    await cluster.quiet();
  }, 180_000);

  it('ends what must not run twice with NODE_LOST; the next one installs the package and completes', async () => {
    const invocation = await cluster.ended(await killedWhileItInstalls('once', false));
    expect(invocation).toMatchObject({ state: InvocationState.FAILED, error: { code: 'NODE_LOST', message: expect.stringContaining('node-1') } });
    expect(valueOf(await cluster.call('once'))).toBe('word of once');
    expect(halves()).toEqual([]);
    await cluster.quiet();
  }, 180_000);
});
