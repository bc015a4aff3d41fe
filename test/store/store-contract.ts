/** What every store promises, as tests; each implementation runs them. */
import { createHash } from 'node:crypto';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { createVirtualClock, type VirtualClock } from '../../src/core/clock.ts';
import type { AcceptedInvocation, Store, StoredInvocation } from '../../src/store/store.ts';

/** What the contract varies. */
export interface ContractOptions {
  readonly clock: VirtualClock;
  readonly maxBytes: number;
}

/** A fresh, empty store and how to be rid of it. */
export interface ContractSubject {
  readonly store: Store;
  dispose(): Promise<void>;
}

export const bytesOf = (text: string): Uint8Array => new TextEncoder().encode(text);
export const digestOf = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');

/** An invocation like any other. */
export function invocation(id: string, changes: Partial<AcceptedInvocation> = {}): AcceptedInvocation {
  return {
    id, target: 'resize', kind: 'function', idempotent: true, request: bytesOf(`request of ${id}`), acceptedAtMs: 1_000.25, deadlineAtMs: 0, idempotencyKey: '', ...changes,
  };
}

/** All open invocations. */
export async function listOpen(store: Store): Promise<StoredInvocation[]> {
  const all: StoredInvocation[] = [];
  for await (const row of store.listOpenInvocations()) all.push(row);
  return all;
}

const code = (name: string): unknown => expect.objectContaining({ code: name });

/** Runs the contract test against one implementation. */
export function testStoreContract(name: string, create: (options: ContractOptions) => Promise<ContractSubject>): void {
  describe(`${name}: contract of a store`, () => {
    let clock: VirtualClock;
    let subject: ContractSubject;
    let store: Store;
    beforeEach(async () => {
      clock = createVirtualClock(10_000_000);
      subject = await create({ clock, maxBytes: 1024 ** 3 });
      store = subject.store;
    });
    afterEach(() => subject.dispose());

    it('lists functions by name and gives back their bytes', async () => {
      await store.putFunction('b', bytesOf('1'), '');
      await store.putFunction('a', bytesOf('2'), '');
      await store.putFunction('b', bytesOf('3'), '');
      expect(await store.listFunctions()).toEqual([{ name: 'a', bytes: bytesOf('2') }, { name: 'b', bytes: bytesOf('3') }]);
    });

    it('lists more functions than fit on a page', async () => {
      const names = Array.from({ length: 700 }, (_, i) => `f${String(i).padStart(4, '0')}`);
      await Promise.all(names.map((each) => store.putFunction(each, bytesOf(each), '')));
      expect((await store.listFunctions()).map((entry) => entry.name)).toEqual(names);
    });

    it('says whether there was a function or workflow to delete', async () => {
      await store.putFunction('f', bytesOf('1'), '');
      await store.putWorkflow('w', bytesOf('1'));
      expect([await store.deleteFunction('f'), await store.deleteFunction('f')]).toEqual([true, false]);
      expect([await store.deleteWorkflow('w'), await store.deleteWorkflow('w')]).toEqual([true, false]);
      expect(await store.listFunctions()).toEqual([]);
      expect(await store.listWorkflows()).toEqual([]);
    });

    it('keeps workflows apart from functions', async () => {
      await store.putWorkflow('same', bytesOf('workflow'));
      await store.putFunction('same', bytesOf('function'), '');
      expect(await store.listWorkflows()).toEqual([{ name: 'same', bytes: bytesOf('workflow') }]);
    });

    it('gives back a bundle and undefined for an unknown digest', async () => {
      const bundle = new Uint8Array(3_000_000).map((_, i) => i * 7);
      await store.putBundle(digestOf(bundle), bundle);
      await store.putBundle(digestOf(bundle), bundle);
      const got = await store.getBundle(digestOf(bundle));
      expect(got && Buffer.compare(got, bundle)).toBe(0);
      expect(await store.getBundle(digestOf(bytesOf('other')))).toBeUndefined();
      expect(await store.stats()).toMatchObject({ bundles: 1, bundleBytes: 3_000_000 });
    });

    it('refuses a bundle whose bytes do not have the announced digest', async () => {
      await expect(store.putBundle(digestOf(bytesOf('a')), bytesOf('b'))).rejects.toEqual(code('OBJECT_CORRUPT'));
      expect((await store.stats()).bundles).toBe(0);
    });

    it('refuses a bundle beyond the bound', async () => {
      await expect(store.putBundle('0'.repeat(64), new Uint8Array(32 * 1024 ** 2 + 1))).rejects.toEqual(code('PAYLOAD_TOO_LARGE'));
    });

    it('refuses a function whose bundle is not stored', async () => {
      await expect(store.putFunction('f', bytesOf('1'), digestOf(bytesOf('code')))).rejects.toEqual(code('BUNDLE_NOT_FOUND'));
      expect(await store.listFunctions()).toEqual([]);
    });

    it('removes a bundle only after its grace and only when no function refers to it', async () => {
      const [needed, replaced] = [bytesOf('needed'), bytesOf('replaced')];
      await store.putBundle(digestOf(needed), needed);
      await store.putBundle(digestOf(replaced), replaced);
      await store.putFunction('f', bytesOf('1'), digestOf(replaced));
      clock.advance(60_000);
      await store.putFunction('f', bytesOf('2'), digestOf(needed));
      clock.advance(500);
      expect(await store.pruneBundles(1_000)).toBe(0);
      clock.advance(1_000);
      expect(await store.pruneBundles(1_000)).toBe(1);
      expect(await store.getBundle(digestOf(replaced))).toBeUndefined();
      expect(await store.getBundle(digestOf(needed))).toEqual(needed);
      await store.deleteFunction('f');
      expect(await store.pruneBundles(1_000)).toBe(0);
      clock.advance(1_001);
      expect(await store.pruneBundles(1_000)).toBe(1);
    });

    it('removes any number of unused bundles', async () => {
      for (let i = 0; i < 20; i++) await store.putBundle(digestOf(bytesOf(`${i}`)), bytesOf(`${i}`));
      clock.advance(10);
      expect(await store.pruneBundles(1)).toBe(20);
      expect(await store.stats()).toMatchObject({ bundles: 0, bundleBytes: 0 });
    });

    it('follows an invocation from acceptance over dispatch to its end', async () => {
      const row = invocation('i1', { kind: 'workflow', idempotent: false, deadlineAtMs: 5_000.5, idempotencyKey: 'k', request: new Uint8Array() });
      const blank = { node: '', nodeEpoch: 0, attempt: 0, endedAtMs: 0, outcome: new Uint8Array() };
      expect(await store.acceptInvocation(row)).toEqual({ duplicateOf: undefined });
      expect(await store.getInvocation('i1')).toEqual({ ...row, ...blank, status: 'accepted' });
      expect(await store.markDispatched('i1', 'node-1', 2 ** 45 + 1, 1)).toBe(true);
      const sent = { ...row, ...blank, status: 'dispatched', node: 'node-1', nodeEpoch: 2 ** 45 + 1, attempt: 1 };
      expect(await store.getInvocation('i1')).toEqual(sent);
      expect(await store.endInvocation('i1', bytesOf('outcome'), 2_000.75)).toBe(true);
      expect(await store.getInvocation('i1')).toEqual({ ...sent, status: 'ended', endedAtMs: 2_000.75, outcome: bytesOf('outcome') });
      expect(await store.getInvocation('i2')).toBeUndefined();
    });

    it('keeps what it was given when the caller changes the bytes afterwards', async () => {
      const whole = bytesOf('xxrequestxx');
      await store.acceptInvocation(invocation('i1', { request: whole.subarray(2, 9) }));
      whole.fill(0);
      expect((await store.getInvocation('i1'))?.request).toEqual(bytesOf('request'));
      (await store.getInvocation('i1'))?.request.fill(0);
      expect((await store.getInvocation('i1'))?.request).toEqual(bytesOf('request'));
    });

    it('lets the first end stand', async () => {
      await store.acceptInvocation(invocation('i1'));
      await store.endInvocation('i1', bytesOf('first'), 1);
      expect(await store.endInvocation('i1', bytesOf('second'), 2)).toBe(false);
      expect(await store.markDispatched('i1', 'n', 1, 1)).toBe(false);
      expect(await store.getInvocation('i1')).toMatchObject({ status: 'ended', outcome: bytesOf('first'), attempt: 0 });
    });

    it('does not let an older attempt replace a newer one', async () => {
      await store.acceptInvocation(invocation('i1'));
      expect(await store.markDispatched('i1', 'new', 1, 2)).toBe(true);
      expect(await store.markDispatched('i1', 'old', 1, 1)).toBe(false);
      expect((await store.getInvocation('i1'))?.node).toBe('new');
    });

    it('refuses to advance an unknown invocation', async () => {
      await expect(store.markDispatched('nobody', 'n', 1, 1)).rejects.toEqual(code('INVOCATION_NOT_FOUND'));
      await expect(store.endInvocation('nobody', bytesOf(''), 1)).rejects.toEqual(code('INVOCATION_NOT_FOUND'));
    });

    it('refuses an id that is known, and only that request', async () => {
      const results = await Promise.allSettled([
        store.acceptInvocation(invocation('i1')), store.acceptInvocation(invocation('i1')), store.acceptInvocation(invocation('i2')),
      ]);
      expect(results.map((each) => each.status)).toEqual(['fulfilled', 'rejected', 'fulfilled']);
      expect(results[1]).toMatchObject({ reason: { code: 'INTERNAL' } });
    });

    it('answers a repeated idempotency key with the first id, also within one batch', async () => {
      const first = store.acceptInvocation(invocation('i1', { idempotencyKey: 'k' }));
      const second = store.acceptInvocation(invocation('i2', { idempotencyKey: 'k' }));
      expect([await first, await second]).toEqual([{ duplicateOf: undefined }, { duplicateOf: 'i1' }]);
      await store.endInvocation('i1', bytesOf('done'), 2_000);
      expect(await store.acceptInvocation(invocation('i3', { idempotencyKey: 'k' }))).toEqual({ duplicateOf: 'i1' });
      expect(await store.getInvocation('i2')).toBeUndefined();
    });

    it('keeps idempotency keys of different targets apart and treats no key as no key', async () => {
      await store.acceptInvocation(invocation('i1', { idempotencyKey: 'k', target: 'a' }));
      expect(await store.acceptInvocation(invocation('i2', { idempotencyKey: 'k', target: 'b' }))).toEqual({ duplicateOf: undefined });
      await store.acceptInvocation(invocation('i3'));
      expect(await store.acceptInvocation(invocation('i4'))).toEqual({ duplicateOf: undefined });
    });

    it('lets an idempotency key name a new invocation after its window', async () => {
      const at = (id: string, acceptedAtMs: number): AcceptedInvocation => invocation(id, { idempotencyKey: 'k', acceptedAtMs });
      await store.acceptInvocation(at('i1', 1_000));
      expect(await store.acceptInvocation(at('i2', 3_600_999))).toEqual({ duplicateOf: 'i1' });
      expect(await store.acceptInvocation(at('i3', 3_601_000))).toEqual({ duplicateOf: undefined });
      expect(await store.acceptInvocation(at('i4', 3_601_001))).toEqual({ duplicateOf: 'i3' });
    });

    it('lists open invocations in the order of acceptance over several pages', async () => {
      const ids = Array.from({ length: 600 }, (_, i) => `i${i}`);
      await Promise.all(ids.map((id) => store.acceptInvocation(invocation(id))));
      await store.markDispatched('i5', 'n', 1, 1);
      await store.endInvocation('i6', bytesOf(''), 1);
      const open = await listOpen(store);
      expect(open.map((row) => row.id)).toEqual(ids.filter((id) => id !== 'i6'));
      expect(open[5]).toMatchObject({ status: 'dispatched', node: 'n' });
    });

    it('lists large open invocations in pages of bounded bytes', async () => {
      const request = new Uint8Array(1024 ** 2);
      await Promise.all(Array.from({ length: 10 }, (_, i) => store.acceptInvocation(invocation(`i${i}`, { request }))));
      expect((await listOpen(store)).map((row) => row.id)).toEqual(Array.from({ length: 10 }, (_, i) => `i${i}`));
    });

    it('misses and repeats nothing when invocations end while the open ones are listed', async () => {
      const ids = Array.from({ length: 600 }, (_, i) => `i${i}`);
      await Promise.all(ids.map((id) => store.acceptInvocation(invocation(id))));
      const seen: string[] = [];
      for await (const row of store.listOpenInvocations()) {
        seen.push(row.id);
        await store.endInvocation(row.id, bytesOf(''), 1);
      }
      expect(seen).toEqual(ids);
      expect(await listOpen(store)).toEqual([]);
    });

    it('prunes by age and never what is open', async () => {
      await store.acceptInvocation(invocation('open', { acceptedAtMs: 1 }));
      for (const [id, endedAtMs] of [['old', 9_000_000], ['young', 9_999_500]] as const) {
        await store.acceptInvocation(invocation(id));
        await store.endInvocation(id, bytesOf('o'), endedAtMs);
      }
      expect(await store.pruneEnded(1_000, 100)).toBe(1);
      expect(await store.getInvocation('old')).toBeUndefined();
      expect(await store.getInvocation('young')).toBeDefined();
      expect(await store.getInvocation('open')).toBeDefined();
    });

    it('prunes the oldest beyond the number to keep, in any amount', async () => {
      const ids = Array.from({ length: 2_500 }, (_, i) => `i${i}`);
      await Promise.all(ids.map((id) => store.acceptInvocation(invocation(id))));
      await Promise.all(ids.map((id, i) => store.endInvocation(id, bytesOf('o'), 9_000_000 + i)));
      expect(await store.pruneEnded(10_000_000, 10)).toBe(2_490);
      expect(await store.stats()).toMatchObject({ endedInvocations: 10, openInvocations: 0 });
      expect(await store.getInvocation('i2489')).toBeUndefined();
      expect(await store.getInvocation('i2490')).toBeDefined();
    });

    it('frees the idempotency key of a pruned invocation', async () => {
      await store.acceptInvocation(invocation('i1', { idempotencyKey: 'k' }));
      await store.endInvocation('i1', bytesOf('o'), 1);
      await store.pruneEnded(0, 100);
      expect(await store.acceptInvocation(invocation('i2', { idempotencyKey: 'k' }))).toEqual({ duplicateOf: undefined });
    });

    it('counts what it holds', async () => {
      await store.putFunction('f', bytesOf('1'), '');
      await store.putWorkflow('w', bytesOf('1'));
      await store.acceptInvocation(invocation('i1'));
      await store.acceptInvocation(invocation('i2'));
      await store.endInvocation('i2', bytesOf('o'), 1);
      const stats = await store.stats();
      expect(stats).toMatchObject({ functions: 1, workflows: 1, bundles: 0, openInvocations: 1, endedInvocations: 1, writes: 5, waiting: 0, waitingBytes: 0 });
      expect(stats.usedBytes).toBeGreaterThan(0);
      expect(stats.usedBytes).toBeLessThan(stats.maxBytes);
    });

    it('refuses an invocation that breaks a bound', async () => {
      const broken = [
        invocation(''),
        invocation('x'.repeat(129)),
        invocation('i', { target: '' }),
        invocation('i', { idempotencyKey: 'k'.repeat(256) }),
        invocation('i', { acceptedAtMs: Number.NaN }),
        invocation('i', { deadlineAtMs: -1 }),
      ];
      for (const row of broken) await expect(store.acceptInvocation(row)).rejects.toEqual(code('INVALID_REQUEST'));
      expect((await store.stats()).writes).toBe(0);
    });

    it('refuses malformed digests and fractional epochs', async () => {
      await expect(store.putBundle('ABC', bytesOf('a'))).rejects.toEqual(code('INVALID_REQUEST'));
      await store.acceptInvocation(invocation('i1'));
      await expect(store.markDispatched('i1', 'n', 0.5, 1)).rejects.toEqual(code('INVALID_REQUEST'));
    });

    it('finishes what waits when it is closed, refuses the rest, and may be closed again', async () => {
      const accepted = store.acceptInvocation(invocation('i1'));
      const closed = store.close();
      await expect(accepted).resolves.toEqual({ duplicateOf: undefined });
      await expect(store.getInvocation('i1')).rejects.toEqual(code('DRAINING'));
      await closed;
      await store.close();
      await expect(store.stats()).rejects.toEqual(code('DRAINING'));
    });
  });

  describe(`${name}: a full store`, () => {
    it('refuses what does not fit, keeps what fits, and goes on after pruning', async () => {
      const subject = await create({ clock: createVirtualClock(10_000_000), maxBytes: 4 * 1024 ** 2 });
      try {
        const { store } = subject;
        const request = new Uint8Array(200_000);
        const results = await Promise.allSettled(
          Array.from({ length: 40 }, (_, i) => store.acceptInvocation(invocation(`i${i}`, { request: i % 4 === 3 ? bytesOf('small') : request }))),
        );
        const refused = results.filter((each) => each.status === 'rejected');
        expect(refused.length).toBeGreaterThan(5);
        for (const each of refused) expect(each.reason).toMatchObject({ code: 'STORE_FULL' });
        const kept = results.flatMap((each, i) => (each.status === 'fulfilled' ? [`i${i}`] : []));
        expect(kept.length).toBeGreaterThan(10);
        expect((await listOpen(store)).map((row) => row.id)).toEqual(kept);
        // Nothing half-done: a refused id is free.
        expect(await store.getInvocation('i38')).toBeUndefined();

        for (const id of kept) await store.endInvocation(id, new Uint8Array(), 1);
        expect(await store.pruneEnded(0, 0)).toBe(kept.length);
        expect(await store.acceptInvocation(invocation('i38', { request }))).toEqual({ duplicateOf: undefined });
      } finally {
        await subject.dispose();
      }
    });
  });
}
