/** Zygotes of a real agent, over its real gRPC. */
import { describe, expect, it } from 'vitest';
import type { WatchStateResponse, ZygoteState } from '../../src/rpc/gen/metronome/v1/agent.ts';
import { StartState } from '../../src/rpc/gen/metronome/v1/common.ts';
import { bubblewrapMissing } from './drivers.ts';
import { defineFunction, json, testAgent, type TestClient } from './harness.ts';

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
