/** Zygotes of a real agent, over its real gRPC. */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { packFunction } from '../../src/config/bundle.ts';
import type { WatchStateResponse, ZygoteState } from '../../src/rpc/gen/metronome/v1/agent.ts';
import { StartState } from '../../src/rpc/gen/metronome/v1/common.ts';
import type { PackageLock } from '../../src/rpc/gen/metronome/v1/function.ts';
import { bubblewrapMissing } from './drivers.ts';
import { fakeRegistry, locked, lockOf } from './fake-registry.ts';
import { bundleOf, defineFunction, json, tempDir, testAgent, type Bundle, type TestClient } from './harness.ts';

/** A bundle with this handler.mjs. */
async function codeOf(source: string): Promise<Bundle> {
  await using dir = await tempDir();
  await writeFile(join(dir.path, 'handler.mjs'), source);
  return bundleOf(await packFunction(dir.path));
}

/** The kind as it was told last; resolves when `ready` says so. */
function zygotes(client: TestClient, runtime: string, ready: (state: ZygoteState | undefined) => boolean): Promise<ZygoteState | undefined> {
  return client.until(() => {
    const last = client.states.flatMap((state: WatchStateResponse) => state.zygotes).findLast((state) => state.runtime === runtime);
    return ready(last) && { last };
  }, `zygotes of ${runtime}`).then(({ last }) => last);
}

describe.each([['node', 'hello.mjs#noop', 'hello.mjs'], ['python3', 'hello.py#nothing', 'hello.py']])('zygotes of %s', (runtime, first, second) => {
  it('are kept after the first start, told of, and serve the next start of another function', async () => {
    await using node = await testAgent();
    node.client.watch();
    const one = await node.client.run(await defineFunction(first));
    expect(one.result).toMatchObject({ startState: StartState.COLD, zygoteDistance: 0 });
    const kept = await zygotes(node.client, runtime, (state) => state?.idle === 1);
    expect(kept).toMatchObject({ packageSet: '', packages: [], isolation: 'process', defaultIsolation: true });
    expect(kept!.residentBytes).toBeGreaterThan(1e6);
    const two = await node.client.run(await defineFunction(second), { name: 'Ada' });
    expect(two.result).toMatchObject({ startState: StartState.ZYGOTE, zygoteDistance: 0 });
    expect(two.events.some(({ started }) => started?.startState === StartState.ZYGOTE)).toBe(true);
    json(two.result);
    const metrics = await node.client.until(() => node.client.states.findLast((state) => (state.metrics?.zygotes ?? 0) > 0)?.metrics);
    expect(metrics.zygoteMemoryMb).toBeGreaterThan(1);
  });

  it('are made and ended by request', async () => {
    await using node = await testAgent();
    node.client.watch();
    const definition = await defineFunction(first);
    const { idle } = await new Promise<{ idle: number }>((resolve, reject) => node.client.stub.prewarm({ function: definition, count: 1, zygotes: true }, (error, response) => (error ? reject(error) : resolve(response))));
    expect(idle).toBe(1);
    expect((await zygotes(node.client, runtime, (state) => state?.idle === 1))?.idle).toBe(1);
    const { evicted } = await new Promise<{ evicted: number }>((resolve, reject) => node.client.stub.evict({ function: definition.spec!.name, count: 0, zygotes: true }, (error, response) => (error ? reject(error) : resolve(response))));
    expect(evicted).toBe(1);
    expect((await zygotes(node.client, runtime, (state) => state?.idle === 0))?.idle).toBe(0);
    expect((await node.client.run(definition)).result.startState).not.toBe(StartState.ZYGOTE);
  });
});

describe('a zygote with packages', () => {
  it('serves its own set wholly, and a larger one by the share of imports that it covers', async () => {
    await using registry = await fakeRegistry();
    // Two packages that take a while to be imported, the same while.
    const source = "const until = performance.now() + 60; while (performance.now() < until); module.exports = 'imported';";
    const [slow, other] = [await registry.publish('slow', '1.0.0', { 'index.js': source }), await registry.publish('other', '1.0.0', { 'index.js': source })];
    const small = lockOf([locked(slow)]), large = lockOf([locked(slow), locked(other)]);
    const bundles = [await codeOf("import value from 'slow'; export const handler = () => value;"), await codeOf("import one from 'slow'; import two from 'other'; export const handler = () => `${one} ${two}`;")];
    await using node = await testAgent({ npmRegistry: registry.url, fetchBundle: async (digest) => bundles.find((bundle) => bundle.digest === digest)!.bytes });
    node.client.watch();
    const define = async (name: string, at: number, lock: PackageLock) => ({ ...(await defineFunction('handler.mjs', { name, reuse: false }, { bundleDigest: bundles[at]!.digest })), lock });
    const one = await define('one', 0, small), two = await define('two', 1, large);
    expect((await node.client.run(one)).result).toMatchObject({ startState: StartState.COLD, zygoteDistance: 0 });
    const ofSmall = (state: ZygoteState): boolean => state.packageSet === small.digest && state.idle > 0;
    const kept = await node.client.until(() => node.client.states.flatMap((state) => state.zygotes).findLast(ofSmall));
    expect(kept.packages).toEqual(['slow@1.0.0']);
    expect(kept.importMs[0]).toBeGreaterThan(59);
    const large1 = (await node.client.run(two)).result;
    expect(json(large1)).toBe('imported imported');
    // Its packages had to be brought, so that it was cold; and half of its imports were done.
    expect(large1.startState).toBe(StartState.COLD);
    expect(large1.zygoteDistance).toBeCloseTo(0.475, 1);
    await node.client.until(() => node.client.states.flatMap((state) => state.zygotes).findLast((state) => state.packageSet === large.digest && state.idle > 0));
    const large2 = (await node.client.run(two)).result;
    expect(json(large2)).toBe('imported imported');
    expect(large2).toMatchObject({ startState: StartState.ZYGOTE, zygoteDistance: 0 });
    expect(large2.loadedMs).toBeLessThan(large1.loadedMs);
  });
});

describe.skipIf(bubblewrapMissing !== undefined).each([['node', 'hello.mjs#noop'], ['python3', 'hello.py#nothing']])('isolated zygotes of %s', (runtime, handler) => {
  it('serve functions of their isolation and network', async () => {
    await using node = await testAgent({ isolation: 'bubblewrap' });
    node.client.watch();
    const definition = await defineFunction(handler, { reuse: false, network: true });
    await node.client.run(definition);
    const kept = await zygotes(node.client, runtime, (state) => state?.idle === 1);
    expect(kept).toMatchObject({ isolation: 'bubblewrap', defaultIsolation: true, network: true });
    expect((await node.client.run(definition)).result).toMatchObject({ startState: StartState.ZYGOTE, zygoteDistance: 0 });
    expect((await node.client.run(await defineFunction(handler, { name: 'offline', reuse: false, network: false }))).result.startState).toBe(StartState.PACKAGES);
  });
});

it('an agent without zygotes keeps none and says so when asked for one', async () => {
  await using node = await testAgent({ zygotes: false });
  const definition = await defineFunction('hello.mjs#noop');
  await node.client.run(definition);
  const refused = await new Promise<Error | null>((resolve) => node.client.stub.prewarm({ function: definition, count: 1, zygotes: true }, (error) => resolve(error)));
  expect(refused?.message).toContain('agent.zygotes is off');
});
