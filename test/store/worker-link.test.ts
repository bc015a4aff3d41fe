import { Worker } from 'node:worker_threads';
import { describe, expect, it } from 'vitest';
import { createVirtualClock } from '../../src/core/clock.ts';
import { createEngineStore } from '../../src/store/engine-store.ts';
import type { Store } from '../../src/store/store.ts';
import { connectWorker, type WorkerLinkLimits } from '../../src/store/worker-link.ts';
import { bytesOf, invocation } from './store-contract.ts';

const ROOMY: WorkerLinkLimits = { maxWaiting: 1_000, maxWaitingBytes: 1_000_000 };

async function storeOver(fixture: string, workerData: string, limits: WorkerLinkLimits): Promise<Store> {
  const worker = new Worker(new URL(`./fixtures/${fixture}.ts`, import.meta.url), { workerData, execArgv: [] });
  return createEngineStore(await connectWorker(worker, limits), createVirtualClock(), 1_000);
}

/** Codes that the promises reject with; undefined for one that resolves. */
async function codesOf(promises: readonly Promise<unknown>[]): Promise<unknown[]> {
  const results = await Promise.allSettled(promises);
  return results.map((each) => (each.status === 'rejected' ? (each.reason as { code?: unknown }).code : undefined));
}

describe('the line to the store thread', () => {
  it.each([
    ['exits', 'exit', 'INTERNAL', 'code 3'],
    ['throws', 'throw', 'INTERNAL', 'thrown on purpose'],
    ['reports a failure', 'report', 'STATE_CORRUPT', 'reported on purpose'],
  ])('rejects everything that waits and everything that follows when the thread %s', async (_, how, code, text) => {
    const store = await storeOver('dying-worker', how, ROOMY);
    const waiting = [store.acceptInvocation(invocation('i1')), store.stats(), store.listFunctions()];
    expect(await codesOf(waiting)).toEqual([code, code, code]);
    const failure = await store.failed;
    expect(failure.code).toBe(code);
    expect(failure.message).toContain(text);
    expect(await codesOf([store.stats()])).toEqual([code]);
    await store.close();
  });

  it('refuses with QUEUE_FULL and a hint beyond the number of waiting requests', async () => {
    const store = await storeOver('silent-worker', '', { maxWaiting: 3, maxWaitingBytes: 1_000_000 });
    const codes = codesOf([1, 2, 3].map((i) => store.acceptInvocation(invocation(`i${i}`))));
    await expect(store.acceptInvocation(invocation('i4'))).rejects.toMatchObject({ code: 'QUEUE_FULL', extras: { retryAfterMs: 100 } });
    await expect(store.close()).rejects.toMatchObject({ code: 'INTERNAL' });
    expect(await codes).toEqual(['INTERNAL', 'INTERNAL', 'INTERNAL']);
  });

  it('refuses with QUEUE_FULL beyond the bytes of waiting requests', async () => {
    const store = await storeOver('silent-worker', '', { maxWaiting: 100, maxWaitingBytes: 10_000 });
    const codes = codesOf([store.acceptInvocation(invocation('i1', { request: new Uint8Array(9_000) }))]);
    await expect(store.acceptInvocation(invocation('i2', { request: new Uint8Array(9_000) }))).rejects.toMatchObject({ code: 'QUEUE_FULL' });
    await expect(store.close()).rejects.toMatchObject({ code: 'INTERNAL' });
    expect(await codes).toEqual(['INTERNAL']);
  });

  it('keeps room for ends when acceptances fill the queue', async () => {
    const store = await storeOver('silent-worker', '', { maxWaiting: 2, maxWaitingBytes: 1_000_000 });
    const waiting: Promise<unknown>[] = [store.acceptInvocation(invocation('i1')), store.acceptInvocation(invocation('i2'))];
    waiting.push(store.endInvocation('i0', bytesOf('o'), 1), store.markDispatched('i1', 'n', 1, 1));
    const codes = codesOf(waiting);
    await expect(store.endInvocation('i9', bytesOf('o'), 1)).rejects.toMatchObject({ code: 'QUEUE_FULL' });
    await expect(store.close()).rejects.toMatchObject({ code: 'INTERNAL' });
    expect(await codes).toEqual(['INTERNAL', 'INTERNAL', 'INTERNAL', 'INTERNAL']);
  });
});
