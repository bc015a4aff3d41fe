import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { MetronomeError } from '../../src/core/errors.ts';
import { ApplyFunctionResponse, GetFunctionResponse, ListFunctionsResponse } from '../../src/rpc/gen/metronome/v1/function.ts';
import { ExplainResponse, GetStatusResponse, ListPoliciesResponse, PlanResponse } from '../../src/rpc/gen/metronome/v1/inspect.ts';
import { GetInvocationResponse, InvocationState, Transition } from '../../src/rpc/gen/metronome/v1/invoke.ts';
import { GetModelStatusResponse, PredictResponse, type ExportModelResponse } from '../../src/rpc/gen/metronome/v1/model.ts';
import { ListNodesResponse } from '../../src/rpc/gen/metronome/v1/node.ts';
import { ListWorkflowsResponse } from '../../src/rpc/gen/metronome/v1/workflow.ts';
import { failure, startTestGateway, type TestGateway } from './fake-loop.ts';

let door: TestGateway;
beforeAll(async () => {
  door = await startTestGateway({ maxCalls: 8 });
});
afterAll(() => door.close());

describe('control calls', () => {
  it('carry every method of every service to the loop and back', async () => {
    const { client, loop } = door;
    Object.assign(loop.handlers, {
      listInvocations: () => ({ invocations: [] }),
      cancelInvocation: () => ({ state: InvocationState.CANCELLED }),
      applyFunction: () => ApplyFunctionResponse.fromPartial({ changed: true }),
      getFunction: () => GetFunctionResponse.fromPartial({ function: { version: 'v1' } }),
      listFunctions: () => ListFunctionsResponse.fromPartial({ functions: [{ version: 'v1' }] }),
      deleteFunction: () => ({}),
      applyWorkflow: () => ({ workflow: undefined, changed: true }),
      getWorkflow: () => ({ workflow: undefined }),
      listWorkflows: () => ListWorkflowsResponse.fromPartial({ workflows: [{ version: 'w' }] }),
      deleteWorkflow: () => ({}),
      registerNode: () => ({ pushIntervalMs: 50 }),
      listNodes: () => ListNodesResponse.fromPartial({ nodes: [{ name: 'n1', slots: 4 }] }),
      drainNode: () => ({ node: undefined }),
      prewarmNode: () => ({ idle: 2 }),
      evictNode: () => ({ evicted: 3 }),
      explain: () => ExplainResponse.fromPartial({ decisions: [{ reason: 'noRoom' }] }),
      plan: () => PlanResponse.fromPartial({ decision: { node: 'n2' } }),
      listPolicies: () => ListPoliciesResponse.fromPartial({ active: 'metronome' }),
      setPolicy: () => ({ previous: 'a', active: 'b' }),
      getStatus: () => GetStatusResponse.fromPartial({ live: 3, counters: { decisions: 7 } }),
      predict: () => PredictResponse.fromPartial({ predictions: [{ meanMs: 5, p95Ms: 8, source: 'forest' }] }),
      observe: () => ({ accepted: 1 }),
      getModelStatus: () => GetModelStatusResponse.fromPartial({ predictor: 'moving-average' }),
      exportModel: () => ({ bytes: new Uint8Array(2_500_000).map((_, i) => i % 251), version: 9 }),
      importModel: ({ bytes }: { bytes: Uint8Array }) => ({ version: bytes[2_400_000] ?? 0, observations: bytes.length }),
    });
    expect((await client.listInvocations({ limit: 5 })).invocations).toEqual([]);
    expect((await client.cancelInvocation({ invocationId: 'i' })).state).toBe(InvocationState.CANCELLED);
    expect((await client.applyFunction({ bundle: Buffer.from('code') })).changed).toBe(true);
    expect((await client.getFunction({ name: 'f' })).function?.version).toBe('v1');
    expect((await client.listFunctions({})).functions).toHaveLength(1);
    expect(await client.deleteFunction({ name: 'f' })).toEqual({});
    expect((await client.applyWorkflow({})).changed).toBe(true);
    expect((await client.getWorkflow({ name: 'w' })).workflow).toBeUndefined();
    expect((await client.listWorkflows({})).workflows).toHaveLength(1);
    expect(await client.deleteWorkflow({ name: 'w' })).toEqual({});
    expect((await client.registerNode({ name: 'n1' })).pushIntervalMs).toBe(50);
    expect((await client.listNodes({})).nodes[0]?.slots).toBe(4);
    expect((await client.drainNode({ name: 'n1', drain: true })).node).toBeUndefined();
    expect((await client.prewarmNode({ name: 'n1', function: 'f', count: 2 })).idle).toBe(2);
    expect((await client.evictNode({ name: 'n1', function: 'f', count: 3, zygotes: true })).evicted).toBe(3);
    expect((await client.explain({ invocationId: 'i' })).decisions[0]?.reason).toBe('noRoom');
    expect((await client.plan({ request: { function: 'f' } })).decision?.node).toBe('n2');
    expect((await client.listPolicies({})).active).toBe('metronome');
    expect((await client.setPolicy({ policy: 'b' })).active).toBe('b');
    expect((await client.getStatus({})).counters).toEqual({ decisions: 7 });
    expect((await client.predict({ situations: [{ function: 'f' }] })).predictions[0]?.meanMs).toBe(5);
    expect((await client.observe({ observations: [{}] })).accepted).toBe(1);
    expect((await client.getModelStatus({})).predictor).toBe('moving-average');
    const parts: ExportModelResponse[] = [];
    for await (const part of client.exportModel({})) parts.push(part);
    expect(parts.map(({ chunk, version }) => [chunk.length, version])).toEqual([[1_048_576, 9], [1_048_576, 9], [402_848, 9]]);
    expect(await client.importModel(parts.map(({ chunk }) => ({ chunk })))).toEqual({ version: 2_400_000 % 251, observations: 2_500_000 });
    expect(loop.calls.find((call) => call.method === 'applyFunction')?.request).toMatchObject({ bundle: new Uint8Array(Buffer.from('code')) });
  });

  it('pass on what the loop fails with, violations included', async () => {
    door.loop.handlers.applyFunction = () => {
      throw new MetronomeError('MANIFEST_INVALID', 'bad manifest', { component: 'scheduler', violations: [{ field: 'spec.memory', description: 'too small' }] });
    };
    const error = await failure(door.client.applyFunction({}));
    expect(error.code).toBe('MANIFEST_INVALID');
    expect(error.extras.violations).toEqual([{ field: 'spec.memory', description: 'too small' }]);
  });

  it('cap the wait of GetInvocation at 60 s', async () => {
    door.loop.handlers.getInvocation = () => GetInvocationResponse.fromPartial({ invocation: { id: 'i', state: InvocationState.COMPLETED } });
    await door.client.getInvocation({ invocationId: 'i', waitMs: 1e9 });
    expect(door.loop.calls.at(-1)?.request).toEqual({ invocationId: 'i', waitMs: 60_000 });
    await door.client.getInvocation({ invocationId: 'i', waitMs: NaN });
    expect(door.loop.calls.at(-1)?.request).toEqual({ invocationId: 'i', waitMs: 0 });
  });

  it('tell the loop when the caller gives up waiting, and are bounded', async () => {
    const controller = new AbortController();
    door.loop.handlers.getInvocation = () => new Promise(() => {});
    const before = door.loop.calls.length;
    const waiting = Array.from({ length: 8 }, () => failure(door.client.getInvocation({ invocationId: 'i', waitMs: 60_000 }, { signal: controller.signal })));
    await vi.waitFor(() => expect(door.loop.calls).toHaveLength(before + 8));
    const calls = door.loop.calls.slice(before).map(({ call }) => call);
    expect((await failure(door.client.getStatus({}))).code).toBe('QUEUE_FULL');
    controller.abort();
    for (const error of await Promise.all(waiting)) expect(error.code).toBe('CANCELLED');
    await vi.waitFor(() => expect(door.loop.ended).toEqual(expect.arrayContaining(calls)));
    expect((await door.client.getStatus({})).live).toBe(3);
  });

  it('are cut off by the deadline of the call', async () => {
    door.loop.handlers.getInvocation = () => new Promise(() => {});
    expect((await failure(door.client.getInvocation({ invocationId: 'i' }, { timeoutMs: 100 }))).code).toBe('DEADLINE_EXCEEDED');
  });
});

describe('GetBundle', () => {
  it('cuts the bundle into chunks of at most 1 MiB', async () => {
    const bundle = Buffer.alloc(2_500_000, 7);
    bundle[2_499_999] = 9;
    door.loop.handlers.getBundle = () => ({ bundle });
    const chunks: Buffer[] = [];
    for await (const { chunk } of door.client.getBundle({ digest: 'd' })) chunks.push(chunk);
    expect(chunks.map((chunk) => chunk.length)).toEqual([1_048_576, 1_048_576, 402_848]);
    expect(Buffer.concat(chunks).equals(bundle)).toBe(true);
  });

  it('fails with BUNDLE_NOT_FOUND when the loop says so', async () => {
    door.loop.handlers.getBundle = () => {
      throw new MetronomeError('BUNDLE_NOT_FOUND', 'no such bundle');
    };
    const read = async (): Promise<void> => {
      for await (const _ of door.client.getBundle({ digest: 'd' })) expect.unreachable();
    };
    expect((await failure(read())).code).toBe('BUNDLE_NOT_FOUND');
  });
});

describe('WatchInvocations', () => {
  const transition = (n: number): Transition => Transition.fromPartial({ invocationId: `i${n}`, event: 'DISPATCH' });

  it('streams transitions until the watcher leaves, and tells the loop that it left', async () => {
    const seen: string[] = [];
    const watch = (async () => {
      for await (const message of door.client.watchInvocations({ function: 'f' })) {
        seen.push(...message.transitions.map(({ invocationId }) => invocationId));
        if (seen.length >= 3) return message.missed;
      }
      return -1;
    })();
    const { call, request } = await vi.waitFor(() => {
      const last = door.loop.watches.at(-1);
      if (last === undefined) throw new Error('no watch yet');
      return last;
    });
    expect(request.function).toBe('f');
    door.loop.post({ kind: 'transitions', call, transitions: [transition(1)], missed: 0 });
    door.loop.post({ kind: 'transitions', call, transitions: [transition(2), transition(3)], missed: 4 });
    expect(await watch).toBe(4);
    expect(seen).toEqual(['i1', 'i2', 'i3']);
    await vi.waitFor(() => expect(door.loop.ended).toContain(call));
  });

  it('counts what a slow watcher loses, and keeps the newest', async () => {
    const watches = door.loop.watches.length;
    const iterator = door.client.watchInvocations({})[Symbol.asyncIterator]();
    const first = iterator.next();
    await vi.waitFor(() => expect(door.loop.watches).toHaveLength(watches + 1));
    const call = door.loop.watches.at(-1)?.call ?? 0;
    door.loop.post({ kind: 'transitions', call, transitions: Array.from({ length: 25_000 }, (_, i) => transition(i)), missed: 5 });
    const message = (await first).value;
    expect(message?.missed).toBe(15_005);
    expect(message?.transitions[0]?.invocationId).toBe('i15000');
    await iterator.return?.();
  });
});
