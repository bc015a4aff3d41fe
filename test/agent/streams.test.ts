/** The two streams of an agent: state as snapshot and deltas, results until they are acknowledged. */
import { performance } from 'node:perf_hooks';
import { describe, expect, it } from 'vitest';
import { StartState } from '../../src/rpc/gen/metronome/v1/common.ts';
import { DispatchHub } from '../../src/agent/dispatch-hub.ts';
import { TestClient, defineFunction, json, putObject, silent, testAgent } from './harness.ts';

describe('WatchState', () => {
  it('begins with a snapshot of everything and goes on with numbered deltas and metrics', async () => {
    await using node = await testAgent({ slots: 3 });
    const object = await putObject(node.agent.dataUrl, 'a.txt', 'hello');
    await node.client.run(await defineFunction('hello.mjs'));
    const busy = node.client.send({ definition: await defineFunction('hello.mjs#hangs') });
    await node.client.startOf(busy);
    node.client.watch(20);
    const snapshot = await node.client.until(() => node.client.states[0]);
    expect(snapshot).toMatchObject({ snapshot: true, sequence: 1, epoch: node.agent.epoch, slots: 3, running: [busy] });
    expect(snapshot.warm).toContainEqual({ function: 'hello-mjs', version: '1', idle: 1, busy: 0 });
    expect(snapshot.warm).toContainEqual({ function: 'hello-mjs-hangs', version: '1', idle: 0, busy: 1 });
    expect(snapshot.objectsAdded).toEqual([{ ...object, holders: ['node-1'] }]);
    expect(snapshot.packageSetsAdded).toHaveLength(1);
    expect(snapshot.metrics?.fetchBytesPerS).toBe(125e6);
    expect(snapshot.metrics).toMatchObject({ running: 1, idleSandboxes: 1, objectBytes: 5 });
    expect(snapshot.metrics?.memoryFreeMb).toBeGreaterThan(0);
    await node.client.until(() => node.client.states[4]);
    expect(node.client.states.slice(0, 5).map(({ sequence, snapshot: isSnapshot }) => [sequence, isSnapshot])).toEqual([[1, true], [2, false], [3, false], [4, false], [5, false]]);
  });

  it('tells of releases, warmth, code and data at once, long before the interval', async () => {
    await using node = await testAgent();
    node.client.watch(10_000);
    await node.client.until(() => node.client.states[0]);
    const definition = await defineFunction('hello.mjs');
    await node.client.run(definition);
    await node.client.until(() => node.client.states.find(({ packageSetsAdded, snapshot }) => !snapshot && packageSetsAdded.includes(definition.bundleDigest)), 'the package set', 2_000);
    await node.client.until(() => node.client.states.find(({ warm }) => warm.some(({ idle, busy }) => idle === 1 && busy === 0)), 'the idle sandbox', 2_000);
    const object = await putObject(node.agent.dataUrl, 'a.txt', 'hello');
    await node.client.until(() => node.client.states.find(({ objectsAdded }) => objectsAdded.some(({ id }) => id === object.id)), 'the object', 2_000);
    await fetch(`${node.agent.dataUrl}/objects/${object.id}`, { method: 'DELETE' });
    await node.client.until(() => node.client.states.find(({ objectsRemoved }) => objectsRemoved.includes(object.id)), 'the removal', 2_000);
    await new Promise((resolve, reject) => node.client.stub.evict({ function: '', count: 0, zygotes: false }, (error, response) => (error ? reject(error) : resolve(response))));
    await node.client.until(() => node.client.states.find(({ warm, sequence }) => sequence > 2 && warm.some(({ idle, busy }) => idle + busy === 0)), 'the eviction', 2_000);
  });

  it('shows results that were not acknowledged as running in the next snapshot', async () => {
    await using node = await testAgent();
    const id = node.client.send({ definition: await defineFunction('hello.mjs') });
    await node.client.resultOf(id);
    node.client.watch();
    expect((await node.client.until(() => node.client.states[0])).running).toEqual([id]);
  });
});

describe('Dispatch', () => {
  it('tells results again on a new stream until they are acknowledged', async () => {
    await using node = await testAgent();
    const definition = await defineFunction('hello.mjs');
    const id = node.client.send({ definition, payload: Buffer.from('{"name":"once"}') });
    const first = await node.client.resultOf(id);
    const second = new TestClient(node.agent.grpcAddress);
    expect(await second.resultOf(id)).toEqual(first);
    second.acknowledge(id);
    // A run on the same stream after it: the acknowledgement has been read then.
    await second.run(definition);
    const third = new TestClient(node.agent.grpcAddress);
    await third.run(definition);
    expect(third.eventsOf(id)).toEqual([]);
    second.close();
    third.close();
  });

  it('ends the former stream when a new one comes', async () => {
    await using node = await testAgent();
    const former = node.client.open();
    const ended = new Promise((resolve) => former.on('end', resolve));
    former.on('data', () => {});
    await node.client.run(await defineFunction('hello.mjs'));
    const next = new TestClient(node.agent.grpcAddress);
    await ended;
    next.close();
  });

  it('delivers a result that came while no stream was open', async () => {
    await using node = await testAgent();
    const definition = await defineFunction('hello.mjs#hangs', { timeoutMs: 300 });
    const id = node.client.send({ definition });
    await node.client.startOf(id);
    node.client.breakStream();
    await new Promise((resolve) => setTimeout(resolve, 400)); // the run ends in the meantime; nobody can tell us so
    node.client.open();
    expect((await node.client.resultOf(id)).error?.code).toBe('FUNCTION_TIMEOUT');
  });

  it('runs an invocation once when it is delivered twice, and tells its result again', async () => {
    await using node = await testAgent();
    const definition = await defineFunction('hello.mjs');
    const id = node.client.send({ definition });
    node.client.send({ definition, invocationId: id });
    const result = await node.client.resultOf(id);
    expect(json(result)).toMatchObject({ runs: 1 });
    node.client.send({ definition, invocationId: id });
    await node.client.until(() => node.client.eventsOf(id).filter((event) => event.result !== undefined).length === 2);
    // The next attempt is another run.
    node.client.send({ definition, invocationId: id, attempt: 2 });
    const again = await node.client.until(() => node.client.eventsOf(id).filter((event) => event.result !== undefined)[2]);
    expect(json(again.result ?? result)).toMatchObject({ runs: 2, attempt: 2 });
  });

  it('answers a ping with the same number, on the stream that it came on', async () => {
    await using node = await testAgent();
    node.client.command({ ping: 12.5 });
    expect(await node.client.until(() => node.client.events.find(({ pong }) => pong !== undefined))).toMatchObject({ invocationId: '', pong: 12.5 });
    expect(node.client.events).toHaveLength(1);
  });

  it('needs the definition only once', async () => {
    await using node = await testAgent();
    const definition = await defineFunction('hello.mjs');
    await node.client.run(definition);
    const id = node.client.send({ function: 'hello-mjs', version: '1' });
    expect(json(await node.client.resultOf(id))).toMatchObject({ runs: 2 });
  });

  it('keeps results within its bounds, the oldest going first, with a warning', () => {
    const warnings: object[] = [];
    const hub = new DispatchHub({ onCommand: () => {}, onStream: () => {}, log: { ...silent, warn: (fields) => void warnings.push(fields) }, maxResults: 3, maxResultBytes: 5_000 });
    const result = (id: string, bytes: number) => hub.result({ invocationId: id, result: { payload: Buffer.alloc(bytes), contentType: '', outputs: [], fetchedMs: 0, initialisedMs: 0, installedMs: 0, startedMs: 0, loadedMs: 0, ranMs: 0, startState: StartState.WARM, zygoteDistance: 0, fetchedBytes: 0, acceptedAtUnixMs: 0, releasedAtUnixMs: 0 } }, 1);
    for (const id of ['a', 'b', 'c', 'd']) result(id, 10);
    expect([...hub.unacknowledgedIds()]).toEqual(['b', 'c', 'd']);
    result('e', 4_400);
    expect([...hub.unacknowledgedIds()]).toEqual(['d', 'e']);
    expect(warnings).toMatchObject([{ invocationId: 'a' }, { invocationId: 'b' }, { invocationId: 'c' }]);
    expect(hub.resend('a', 1)).toBe(false);
  });

  it('answers a thousand warm runs sent at once, none twice and none lost', async () => {
    await using node = await testAgent({ slots: 1024, memoryMb: 2048 });
    const definition = await defineFunction('hello.mjs#echo');
    await node.client.run(definition, 0);
    const startedAt = performance.now();
    const ids: string[] = [];
    const wanted = 1_000;
    let next = 0;
    // Ten at a time in flight: as many as there can be sandboxes within the memory.
    await Promise.all(Array.from({ length: 4 }, async () => {
      while (next < wanted) {
        const value = next++;
        const id = node.client.send({ definition, payload: Buffer.from(String(value)) });
        ids.push(id);
        expect(json(await node.client.resultOf(id))).toBe(value);
        node.client.acknowledge(id);
      }
    }));
    expect(new Set(ids).size).toBe(wanted);
    expect(node.client.events.filter(({ result }) => result !== undefined)).toHaveLength(wanted + 1);
    expect(performance.now() - startedAt).toBeLessThan(30_000);
  });
});
