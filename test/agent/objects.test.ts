/** Objects in and out: files for functions, HTTP for others, fetched from holders, verified, bounded. */
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { readdirSync } from 'node:fs';
import { chmod, readFile, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { createServer, type RequestListener, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { startDataThread } from '../../src/agent/objects/data-thread.ts';
import { Leases } from '../../src/agent/objects/leases.ts';
import { ObjectFetcher } from '../../src/agent/objects/object-fetch.ts';
import { ObjectStore } from '../../src/agent/objects/object-store.ts';
import type { StoreListing } from '../../src/agent/objects/data-protocol.ts';
import type { StoredObject } from '../../src/agent/objects/stored-object.ts';
import type { ObjectRef } from '../../src/rpc/gen/metronome/v1/common.ts';
import { defineFunction, json, putObject, silent, tempDir, testAgent } from './harness.ts';

const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');
const reference = (id: string, content: Uint8Array, holders: string[]): ObjectRef => ({ id, name: `${id}.bin`, sizeBytes: content.length, digest: sha256(content), holders });

/** A holder that behaves as told. */
async function fakeHolder(listener: RequestListener): Promise<{ readonly url: string; readonly requests: string[] } & AsyncDisposable> {
  const requests: string[] = [];
  const server: Server = createServer((request, response) => {
    requests.push(`${request.url} ${request.headers.range ?? ''}`.trim());
    listener(request, response);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    requests,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

interface OpenStore extends AsyncDisposable {
  readonly store: ObjectStore;
  readonly dir: string;
  readonly added: string[];
  readonly removed: string[];
}

/** For stores without an agent. */
const thread = startDataThread({ link: { bytesPerS: 0, latencyMs: 0 }, log: silent, timeouts: { bodyMs: 300, headersMs: 1_000, connectMs: 500 } });
afterAll(() => thread.stop());

async function openStore(quotaBytes = 1024 ** 2, ttlMs = 0): Promise<OpenStore> {
  const dir = await tempDir();
  const added: string[] = [];
  const removed: string[] = [];
  const store = await ObjectStore.open({ dir: dir.path, node: 'here', quotaBytes, ttlMs, digestOf: thread.digestOf, onAdded: ({ id }) => void added.push(id), onRemoved: (id) => void removed.push(id) });
  return {
    store, dir: dir.path, added, removed,
    async [Symbol.asyncDispose]() {
      await store.close();
      await dir[Symbol.asyncDispose]();
    },
  };
}

/** Puts content in as an upload does. */
async function put(store: ObjectStore, content: Uint8Array | string, name = 'x'): Promise<StoredObject> {
  const incoming = store.begin(content.length);
  await writeFile(incoming.path, content);
  return incoming.commit({ id: store.newId(), name, sizeBytes: content.length, digest: sha256(Buffer.from(content)) });
}
const temporaries = (dir: string): string[] => readdirSync(join(dir, 'tmp'));

describe('a function', () => {
  it('reads an object of its node as a file and leaves files as objects', async () => {
    await using node = await testAgent();
    const input = await putObject(node.agent.dataUrl, 'words.txt', 'three small words');
    node.client.watch(1_000);
    await node.client.until(() => node.client.states[0]);
    const { result } = await node.client.run(await defineFunction('hello.mjs#upper'), {}, { inputs: [input] });
    expect(json(result)).toEqual({ names: ['words.txt'] });
    expect(result).toMatchObject({ fetchedBytes: 0, outputs: [{ name: 'length.txt', sizeBytes: 2, holders: ['node-1'] }, { name: 'upper.txt', sizeBytes: 17, digest: sha256(Buffer.from('THREE SMALL WORDS')) }] });
    const [, upper] = result.outputs;
    expect(await (await fetch(`${node.agent.dataUrl}/objects/${upper?.id}`)).text()).toBe('THREE SMALL WORDS');
    await node.client.until(() => node.client.states.some(({ objectsAdded }) => objectsAdded.some(({ id }) => id === upper?.id)));
    // Nothing of the run is left beside the store.
    const sandboxes = join(node.dir, 'sandboxes');
    await expect.poll(() => readdirSync(join(sandboxes, readdirSync(sandboxes)[0] ?? ''), { recursive: true }).sort()).toEqual(['in', 'out', 'process.json', 'work']);
  });

  it('in Python does so too', async () => {
    await using node = await testAgent();
    const input = await putObject(node.agent.dataUrl, 'lines.txt', 'a\nb\nc\n');
    const { result } = await node.client.run(await defineFunction('hello.py#count'), {}, { inputs: [input] });
    expect(json(result)).toEqual({ lines: 3, name: 'lines.txt', size: true });
    expect(result.outputs).toMatchObject([{ name: 'count.txt', sizeBytes: 1 }]);
  });

  it('reads an object of another node, which makes its node a holder that is told at once', async () => {
    await using there = await testAgent({ name: 'node-2' });
    await using node = await testAgent();
    const input = await putObject(there.agent.dataUrl, 'far.txt', 'from afar');
    node.client.watch(10_000);
    await node.client.until(() => node.client.states[0]);
    const request = { inputs: [input], holderUrls: { 'node-2': there.agent.dataUrl } };
    const first = await node.client.run(await defineFunction('hello.mjs#upper'), {}, request);
    expect(first.result).toMatchObject({ error: undefined, fetchedBytes: 9 });
    expect(first.result.fetchedMs).toBeGreaterThan(0);
    await node.client.until(() => node.client.states.some(({ objectsAdded }) => objectsAdded.some(({ id }) => id === input.id)));
    const second = await node.client.run(await defineFunction('hello.mjs#upper'), {}, request);
    expect(second.result.fetchedBytes).toBe(0);
  });

  it('that is a step leaves its inputs and outputs leased to its workflow run', async () => {
    await using node = await testAgent({ objectQuotaBytes: 1024 ** 2 });
    const listing = async (): Promise<StoreListing> => (await (await fetch(`${node.agent.dataUrl}/objects`)).json()) as StoreListing;
    const input = await putObject(node.agent.dataUrl, 'words.txt', 'words');
    const { result } = await node.client.run(await defineFunction('hello.mjs#upper'), {}, { inputs: [input], owner: 'run-1', ownerTtlMs: 60_000 });
    const kept = [input, ...result.outputs].map(({ id }) => id);
    await putObject(node.agent.dataUrl, 'filler', Buffer.alloc(1024 ** 2 - 1_000));
    expect((await listing()).objects.filter(({ owners }) => owners.includes('run-1')).map(({ id }) => id).sort()).toEqual(kept.toSorted());
    expect((await fetch(`${node.agent.dataUrl}/objects/${input.id}`, { method: 'DELETE' })).status).toBe(409);
    node.client.command({ release: { owner: 'run-1', objectIds: [input.id] } });
    node.client.command({ retain: { owner: 'run-2', objectIds: [result.outputs[0]?.id ?? ''], ttlMs: 60_000 } });
    node.client.command({ release: { owner: 'run-1', objectIds: [] } });
    await expect.poll(async () => (await listing()).heldBytes).toBe(1);
  });

  it('whose input is lost is told so by the name of the maker', async () => {
    await using node = await testAgent();
    const input = reference('obj-gone', Buffer.from('x'), ['node-7']);
    const { result } = await node.client.run(await defineFunction('hello.mjs#upper'), {}, { inputs: [input], holderUrls: { 'node-7': 'http://127.0.0.1:9' } });
    expect(result.error).toMatchObject({ code: 'OBJECT_LOST', message: expect.stringMatching(/obj-gone[\s\S]*"node-7"/) });
  });

  it('is cancelled while an input is on its way, and the transfer ends', async () => {
    await using holder = await fakeHolder((_request, response) => response.writeHead(200, { 'content-length': 100 }).write('slow'));
    await using node = await testAgent();
    const id = node.client.send({ definition: await defineFunction('hello.mjs#upper'), inputs: [reference('obj-slow', Buffer.alloc(100), ['slow'])], holderUrls: { slow: holder.url } });
    await expect.poll(() => holder.requests.length).toBe(1);
    node.client.cancel(id);
    expect((await node.client.resultOf(id)).error?.code).toBe('CANCELLED');
    await expect.poll(() => temporaries(join(node.dir, 'objects'))).toEqual([]);
  });

  it('cannot smuggle files in or out by links and names', async () => {
    await using node = await testAgent();
    expect((await node.client.run(await defineFunction('hello.mjs#linksOut'))).result.error).toMatchObject({ code: 'FUNCTION_FAILED', message: expect.stringContaining('no regular file') });
    expect((await node.client.run(await defineFunction('hello.mjs#badOutput'))).result.error).toMatchObject({ code: 'FUNCTION_FAILED', functionError: { type: 'TypeError' } });
    const { result } = await node.client.run(await defineFunction('hello.mjs#upper'), {}, { inputs: [{ ...reference('obj-x', Buffer.from('x'), ['a']), name: '../../evil' }], holderUrls: { a: 'http://127.0.0.1:9' } });
    expect(result.error?.code).toBe('INVALID_REQUEST');
  });

  it('whose outputs do not fit fails with STORE_FULL and leaves none', async () => {
    await using node = await testAgent({ objectQuotaBytes: 1024 ** 2 });
    const { result } = await node.client.run(await defineFunction('hello.mjs#manyBytes'), { size: 2 * 1024 ** 2 });
    expect(result.error?.code).toBe('STORE_FULL');
    expect(result.outputs).toEqual([]);
  });

  it('that does not succeed leaves no output in its sandbox, which lives on', async () => {
    await using node = await testAgent({ objectQuotaBytes: 1024 ** 2, zygotes: false });
    const definition = await defineFunction('hello.mjs#writesAndFails');
    const codes: (string | undefined)[] = [];
    for (const event of [{ size: 1_000, way: 'throws' }, { size: 2 * 1024 ** 2 }, { size: 1_000, result: 2 * 1024 ** 2 }, { size: 1_000, way: 'links' }]) {
      codes.push((await node.client.run(definition, event)).result.error?.code);
    }
    expect(codes).toEqual(['FUNCTION_FAILED', 'STORE_FULL', 'RESULT_TOO_LARGE', 'FUNCTION_FAILED']);
    const sandboxes = join(node.dir, 'sandboxes');
    const [sandbox = '', ...more] = readdirSync(sandboxes);
    expect([more, readdirSync(join(sandboxes, sandbox), { recursive: true }).sort()]).toEqual([[], ['out', 'process.json', 'work']]);
  });
});

describe('a run that is cancelled while its outputs are taken in', () => {
  it('leaves none, neither in the store nor in its sandbox', async () => {
    await using node = await testAgent({ zygotes: false });
    const data = join(node.dir, 'objects', 'data');
    const id = node.client.send({ definition: await defineFunction('hello.mjs#manyFiles'), payload: Buffer.from('{"count":1024}') });
    await expect.poll(() => readdirSync(data).length, { interval: 2, timeout: 20_000 }).toBeGreaterThan(0);
    node.client.cancel(id);
    expect((await node.client.resultOf(id)).error?.code).toBe('CANCELLED');
    await expect.poll(() => readdirSync(data), { timeout: 20_000 }).toEqual([]);
    const [sandbox = ''] = readdirSync(join(node.dir, 'sandboxes'));
    expect(readdirSync(join(node.dir, 'sandboxes', sandbox), { recursive: true }).sort()).toEqual(['out', 'process.json', 'work']);
  });
});

describe('the data server', () => {
  it('gives whole objects, ranges and heads, with the digest as ETag', async () => {
    await using node = await testAgent();
    const { id, digest } = await putObject(node.agent.dataUrl, 'ten.txt', '0123456789');
    const url = `${node.agent.dataUrl}/objects/${id}`;
    const whole = await fetch(url);
    expect([whole.status, whole.headers.get('etag'), await whole.text()]).toEqual([200, `"${digest}"`, '0123456789']);
    for (const [range, status, text, contentRange] of [
      ['bytes=2-4', 206, '234', 'bytes 2-4/10'], ['bytes=7-', 206, '789', 'bytes 7-9/10'], ['bytes=-3', 206, '789', 'bytes 7-9/10'],
      ['bytes=8-99', 206, '89', 'bytes 8-9/10'], ['bytes=0-1,3-4', 200, '0123456789', null], ['lines=1-2', 200, '0123456789', null],
    ] as const) {
      const part = await fetch(url, { headers: { range } });
      expect([range, part.status, await part.text(), part.headers.get('content-range')]).toEqual([range, status, text, contentRange]);
    }
    const beyond = await fetch(url, { headers: { range: 'bytes=10-' } });
    expect([beyond.status, beyond.headers.get('content-range'), (await beyond.json() as { error: { code: string } }).error.code]).toEqual([416, 'bytes */10', 'INVALID_REQUEST']);
    const head = await fetch(url, { method: 'HEAD' });
    expect([head.status, head.headers.get('content-length'), await head.text()]).toEqual([200, '10', '']);
  });

  it('takes empty objects, checks announced digests, and refuses what it cannot do', async () => {
    await using node = await testAgent({ objectQuotaBytes: 1024 ** 2 });
    const objects = `${node.agent.dataUrl}/objects`;
    const empty = await putObject(node.agent.dataUrl, 'empty', '');
    expect(await (await fetch(`${objects}/${empty.id}`)).text()).toBe('');
    const posted = await fetch(`${objects}?name=n%C3%A4me`, { method: 'POST', body: 'x' });
    expect(await posted.json()).toMatchObject({ name: 'näme', sizeBytes: 1, holders: ['node-1'] });
    const failure = async (response: Response): Promise<unknown> => [response.status, ((await response.json()) as { error: { code: string } }).error.code];
    expect(await failure(await fetch(objects, { method: 'PUT', body: 'x', headers: { 'x-object-digest': sha256(Buffer.from('y')) } }))).toEqual([500, 'OBJECT_CORRUPT']);
    expect(await failure(await fetch(objects, { method: 'PUT', body: Buffer.alloc(2 * 1024 ** 2) }))).toEqual([507, 'STORE_FULL']);
    // Of unknown length: it is found out on the way, when it may have driven out what takes room.
    const endless = new ReadableStream({ pull: (controller) => controller.enqueue(new Uint8Array(256 * 1024)) });
    expect(await failure(await fetch(objects, { method: 'PUT', body: endless, duplex: 'half' } as RequestInit))).toEqual([507, 'STORE_FULL']);
    expect((await fetch(`${objects}/${empty.id}`)).status).toBe(200);
    expect(await failure(await fetch(`${objects}/nothing`))).toEqual([404, 'OBJECT_NOT_FOUND']);
    expect(await failure(await fetch(`${objects}/..%2f..%2fepoch`))).toEqual([404, 'OBJECT_NOT_FOUND']);
    expect(await failure(await fetch(`${objects}?name=a%2Fb`, { method: 'PUT', body: 'x' }))).toEqual([400, 'INVALID_REQUEST']);
    expect(await failure(await fetch(objects, { method: 'DELETE' }))).toEqual([405, 'INVALID_REQUEST']);
    expect((await fetch(`${objects}/${empty.id}`, { method: 'DELETE' })).status).toBe(204);
    expect((await fetch(`${objects}/${empty.id}`, { method: 'DELETE' })).status).toBe(404);
    expect(temporaries(join(node.dir, 'objects'))).toEqual([]);
  });
});

describe('the store', () => {
  it('drops the least recently used object first and never a pinned one', async () => {
    await using box = await openStore(30);
    const [a, b, c] = [await put(box.store, '0123456789'), await put(box.store, '0123456789'), await put(box.store, '0123456789')];
    box.store.get(a.id);
    box.store.pin(b.id);
    const d = await put(box.store, '01234');
    expect(box.removed).toEqual([c.id]);
    expect(box.store.list().map(({ id }) => id)).toEqual([b.id, a.id, d.id]);
    box.store.pin(a.id);
    box.store.pin(d.id);
    await expect(put(box.store, '0123456789')).rejects.toMatchObject({ code: 'STORE_FULL' });
    expect(box.store.usedBytes).toBe(25);
    expect(() => box.store.delete(a.id)).toThrow(expect.objectContaining({ code: 'IN_USE' }));
    box.store.unpin(a.id);
    await put(box.store, '0123456789');
    expect(box.store.has(a.id)).toBe(false);
  });

  it('does not drop empty objects, which make no room', async () => {
    await using box = await openStore(10);
    const [empty, full] = [await put(box.store, ''), await put(box.store, 'x')];
    await box.store.begin(10).abort();
    box.store.relieve(10);
    expect([box.removed, box.store.has(empty.id)]).toEqual([[full.id], true]);
  });

  it('keeps what a workflow run leases, here or still to come, until it is released or not renewed in time', async () => {
    await using box = await openStore(30);
    const a = await put(box.store, '0123456789');
    box.store.retain('run-1', [a.id, 'obj-coming'], 60_000);
    box.store.retain('run-2', [a.id], 60_000);
    const incoming = box.store.begin(10);
    await writeFile(incoming.path, '0123456789');
    await incoming.commit({ id: 'obj-coming', name: 'c', sizeBytes: 10, digest: sha256(Buffer.from('0123456789')) });
    await put(box.store, '0123456789');
    const last = await put(box.store, '0123456789');
    expect(box.store.list().map(({ id }) => id)).toEqual([a.id, 'obj-coming', last.id]);
    await expect(put(box.store, '01234567890123456789')).rejects.toMatchObject({ code: 'STORE_FULL', message: expect.stringContaining('20 B held by running work') });
    expect(() => box.store.delete(a.id)).toThrow(expect.objectContaining({ code: 'IN_USE' }));
    box.store.release('run-1');
    expect(box.store.heldBytes).toBe(10);
    await put(box.store, '01234567890123456789');
    expect(box.store.list().map(({ id }) => id)[0]).toBe(a.id);
    box.store.release('run-2', [a.id]);
    box.store.retain('run-3', [a.id], 100);
    expect(box.store.listing()).toMatchObject({ heldBytes: 10, count: 2, objects: [{ owners: [] }, { id: a.id, owners: ['run-3'], pins: 0 }] });
    await expect.poll(() => box.store.heldBytes, { timeout: 10_000 }).toBe(0);
  });

  it('refuses leases beyond its bound instead of growing without end', () => {
    const leases = new Leases(() => {}, () => {});
    const ids = Array.from({ length: 500_001 }, (_, i) => `obj-${i}`);
    expect(leases.retain('run-1', ids, 1)).toBe(false);
    expect(leases.size).toBe(500_000);
    leases.expire(2);
    expect(leases.size).toBe(0);
  });

  it('drops what was not used for its time to live, but nothing that is held', async () => {
    await using box = await openStore(1_000, 500);
    const [idle, held] = [await put(box.store, 'idle'), await put(box.store, 'held')];
    box.store.pin(held.id);
    await expect.poll(() => box.removed, { timeout: 10_000 }).toEqual([idle.id]);
    box.store.unpin(held.id);
    await expect.poll(() => box.removed, { timeout: 10_000 }).toEqual([idle.id, held.id]);
  });

  it('drops copies of other nodes before what was made here, among those that were used least recently', async () => {
    await using box = await openStore(30);
    const made = await put(box.store, '0123456789');
    const incoming = box.store.begin(10);
    await writeFile(incoming.path, '0123456789');
    const copy = await incoming.commit({ id: 'obj-copy', name: 'c', sizeBytes: 10, digest: sha256(Buffer.from('0123456789')), isCopy: true });
    await put(box.store, '0123456789');
    await put(box.store, '0123456789');
    expect(box.removed).toEqual([copy.id]);
    await put(box.store, '0123456789');
    expect(box.removed).toEqual([copy.id, made.id]);
  });

  it('notices a file that was touched, keeps it if its bytes are the same and drops it if they are not', async () => {
    await using box = await openStore();
    const [same, other] = [await put(box.store, 'same'), await put(box.store, 'other')];
    for (const { path } of [same, other]) await chmod(path, 0o644);
    await writeFile(same.path, 'same');
    await writeFile(other.path, 'ither');
    expect([box.store.looksSound(same.id), box.store.looksSound(other.id)]).toEqual([false, false]);
    expect([(await box.store.use(same.id))?.id, await box.store.use(other.id)]).toEqual([same.id, undefined]);
    expect([box.store.looksSound(same.id), box.removed]).toEqual([true, [other.id]]);
  });

  it('takes in no file that is replaced or written to meanwhile', async () => {
    await using box = await openStore();
    const path = join(box.dir, 'output');
    await symlink('/etc/hostname', path);
    await expect(box.store.adopt(path, 'x')).rejects.toMatchObject({ code: 'OBJECT_CORRUPT' });
    await rm(path);
    await writeFile(path, 'x'.repeat(300_000));
    const store = await ObjectStore.open({
      dir: join(box.dir, 'second'), node: 'here', quotaBytes: 1024 ** 2, ttlMs: 0, onAdded: () => {}, onRemoved: () => {},
      // The function writes while the file is hashed.
      digestOf: async (file) => {
        const found = await thread.digestOf(file);
        await writeFile(file, 'y'.repeat(300_000));
        return found;
      },
    });
    await expect(store.adopt(path, 'x')).rejects.toMatchObject({ code: 'OBJECT_CORRUPT' });
    expect([store.count, store.usedBytes]).toEqual([0, 0]);
    await store.close();
  });

  it('has its objects again after a restart, without halves, and obeys a smaller quota', async () => {
    await using box = await openStore();
    const kept = await put(box.store, 'kept', 'kept.txt');
    const half = await put(box.store, 'half');
    await writeFile(join(box.dir, 'tmp', 'left-over'), 'x');
    await writeFile(join(box.dir, 'data', 'orphan'), 'x');
    await writeFile(join(box.dir, 'meta', `${half.id}.json`), '{"broken":');
    const reopen = (quotaBytes: number) => ObjectStore.open({ dir: box.dir, node: 'here', quotaBytes, ttlMs: 0, digestOf: thread.digestOf, onAdded: () => {}, onRemoved: () => {} });
    const again = await reopen(1024);
    expect(again.list()).toEqual([{ id: kept.id, name: 'kept.txt', sizeBytes: 4, digest: sha256(Buffer.from('kept')), holders: ['here'] }]);
    expect([temporaries(box.dir), readdirSync(join(box.dir, 'data')), readdirSync(join(box.dir, 'meta'))]).toEqual([[], [kept.id], [`${kept.id}.json`]]);
    const small = await reopen(3);
    expect(small.count).toBe(0);
    await small.close();
  });
});

describe('after another boot of the machine', () => {
  it('an object is hashed before its first use and not again, and one that lost its bytes is gone', async () => {
    await using box = await openStore();
    const [sound, broken] = [await put(box.store, 'sound'), await put(box.store, 'whole')];
    // A power cut leaves size and time, and pages of nothing.
    await chmod(broken.path, 0o644);
    await writeFile(broken.path, Buffer.alloc(5));
    const hashed: string[] = [];
    const reopen = async (): Promise<ObjectStore> => {
      const store = await ObjectStore.open({
        dir: box.dir, node: 'here', quotaBytes: 1024, ttlMs: 0, onAdded: () => {}, onRemoved: (id) => void box.removed.push(id),
        digestOf: (path) => {
          hashed.push(path);
          return thread.digestOf(path);
        },
      });
      await store.close();
      return store;
    };
    const sameBoot = await reopen();
    expect([(await sameBoot.use(sound.id))?.id, hashed]).toEqual([sound.id, []]);
    for (const { id, path } of [sound, broken]) {
      const sidecar = join(box.dir, 'meta', `${id}.json`);
      await writeFile(sidecar, JSON.stringify({ ...JSON.parse(await readFile(sidecar, 'utf8')), mtimeMs: (await stat(path)).mtimeMs, boot: 'another one' }));
    }
    const otherBoot = await reopen();
    expect([otherBoot.count, hashed]).toEqual([2, []]);
    // For a function of this node, and for another node.
    const fetcher = new ObjectFetcher({ store: otherBoot, node: 'here', thread });
    expect(await fetcher.ensure(otherBoot.reference(sound), {}, new AbortController().signal)).toBe(0);
    expect([await otherBoot.use(broken.id), box.removed]).toEqual([undefined, [broken.id]]);
    expect(hashed).toEqual([sound.path, broken.path]);
    const again = await reopen();
    expect([(await again.use(sound.id))?.id, hashed.length, temporaries(box.dir)]).toEqual([sound.id, 2, []]);
  });
});

describe('a fetch', () => {
  const content = Buffer.from(Array.from({ length: 200_000 }, (_, i) => i % 251));
  const whole: RequestListener = (_request, response) => void response.end(content);

  async function fetching(box: OpenStore, object: ObjectRef, urls: Record<string, string>, signal = new AbortController().signal): Promise<number> {
    const fetcher = new ObjectFetcher({ store: box.store, node: 'here', thread });
    try {
      return await fetcher.ensure(object, urls, signal);
    } finally {
      await fetcher.close();
    }
  }

  it('goes on where a transfer broke', async () => {
    await using holder = await fakeHolder((request, response) => {
      const from = Number(/bytes=(\d+)-/.exec(request.headers.range ?? '')?.[1] ?? 0);
      response.writeHead(from === 0 ? 200 : 206, { 'content-length': content.length - from, ...(from === 0 ? {} : { 'content-range': `bytes ${from}-${content.length - 1}/${content.length}` }) });
      if (from > 0) response.end(content.subarray(from));
      else response.write(content.subarray(0, 70_000), () => setTimeout(() => response.destroy(), 20));
    });
    await using box = await openStore();
    expect(await fetching(box, reference('obj-a', content, ['h']), { h: holder.url })).toBe(content.length);
    expect(holder.requests).toHaveLength(2);
    expect(holder.requests[1]).toMatch(/bytes=\d{4,5}-$/);
    expect(box.added).toEqual(['obj-a']);
  });

  /** Gives so many bytes at a time, then breaks off; `most` times. */
  const breaking = (bytes: number, most: number): RequestListener => {
    let answers = 0;
    return (request, response) => {
      if (answers++ === most) return response.writeHead(503).end();
      const from = Number(/bytes=(\d+)-/.exec(request.headers.range ?? '')?.[1] ?? 0);
      response.writeHead(from === 0 ? 200 : 206, { 'content-length': content.length - from, ...(from === 0 ? {} : { 'content-range': `bytes ${from}-${content.length - 1}/${content.length}` }) });
      const end = Math.min(from + bytes, content.length);
      return response.write(content.subarray(from, end), () => setTimeout(() => response.destroy(), 20));
    };
  };

  it('goes on however often a transfer breaks, as long as each one brings something', async () => {
    await using holder = await fakeHolder(breaking(20_000, Infinity));
    await using box = await openStore();
    expect(await fetching(box, reference('obj-h', content, ['h']), { h: holder.url })).toBe(content.length);
    expect(holder.requests.length).toBeGreaterThan(8);
  });

  it('tells of transfers that broke when the object could not be had', async () => {
    await using holder = await fakeHolder(breaking(20_000, 3));
    await using box = await openStore();
    const lost = fetching(box, reference('obj-i', content, ['h']), { h: holder.url });
    await expect(lost).rejects.toMatchObject({ code: 'OBJECT_LOST', message: expect.stringMatching(/h: answered with status 503; 3 transfers broke on the way, the last one from h: /) });
  });

  it('with another digest than that of the object here, or on its way, is refused by both digests', async () => {
    await using holder = await fakeHolder((_request, response) => void setTimeout(() => response.end(content), 50));
    await using box = await openStore();
    const fetcher = new ObjectFetcher({ store: box.store, node: 'here', thread });
    const object = reference('obj-j', content, ['h']);
    const other = { ...object, digest: sha256(Buffer.from('other')) };
    const ask = (of: ObjectRef): Promise<number> => fetcher.ensure(of, { h: holder.url }, new AbortController().signal);
    const coming = ask(object);
    const refusal = { code: 'OBJECT_CORRUPT', message: expect.stringMatching(new RegExp(`${other.digest}.*${object.digest}`)) };
    await expect(ask(other)).rejects.toMatchObject(refusal);
    expect(await coming).toBe(content.length);
    await expect(ask(other)).rejects.toMatchObject(refusal);
    expect(await ask({ ...object, digest: '' })).toBe(0);
    box.store.unpin('obj-j');
    box.store.unpin('obj-j');
    expect([box.store.heldBytes, holder.requests.length]).toEqual([0, 1]);
    await fetcher.close();
  });

  it('asks the next holder when one is dead, frozen, has it not, or sends something else', async () => {
    await using frozen = await fakeHolder(() => {});
    await using without = await fakeHolder((_request, response) => response.writeHead(404).end('{}'));
    await using wrong = await fakeHolder((_request, response) => response.end(Buffer.alloc(content.length)));
    await using longer = await fakeHolder((_request, response) => response.end(Buffer.concat([content, content])));
    await using good = await fakeHolder(whole);
    await using box = await openStore();
    const urls = { dead: 'http://127.0.0.1:9', frozen: frozen.url, without: without.url, wrong: wrong.url, longer: longer.url, good: good.url };
    await fetching(box, reference('obj-b', content, Object.keys(urls)), urls);
    expect(good.requests).toEqual(['/objects/obj-b']);
    expect(box.store.list()[0]?.digest).toBe(sha256(content));
    expect(temporaries(box.dir)).toEqual([]);
  });

  it('fails with OBJECT_CORRUPT when nobody has the right bytes, and keeps nothing', async () => {
    await using wrong = await fakeHolder((_request, response) => response.end(Buffer.alloc(content.length)));
    await using box = await openStore();
    await expect(fetching(box, reference('obj-c', content, ['w']), { w: wrong.url })).rejects.toMatchObject({ code: 'OBJECT_CORRUPT', message: expect.stringContaining('"w"') });
    expect([box.store.count, temporaries(box.dir)]).toEqual([0, []]);
  });

  it('happens once for all who ask at the same time', async () => {
    await using holder = await fakeHolder((_request, response) => void setTimeout(() => response.end(content), 50));
    await using box = await openStore();
    const fetcher = new ObjectFetcher({ store: box.store, node: 'here', thread });
    const leaver = new AbortController();
    const object = reference('obj-d', content, ['h']);
    const urls = { h: holder.url };
    const left = fetcher.ensure(object, urls, leaver.signal);
    const stayed = fetcher.ensure(object, urls, new AbortController().signal);
    leaver.abort(new Error('left'));
    await expect(left).rejects.toThrow('left');
    expect(await stayed).toBe(0);
    expect(holder.requests).toHaveLength(1);
    await fetcher.close();
  });

  it('is one of many at once when many objects are wanted from one node, with a bounded number of connections', async () => {
    await using there = await testAgent({ name: 'node-2' });
    await using box = await openStore(64 * 1024 ** 2);
    const objects = await Promise.all(Array.from({ length: 100 }, (_, i) => putObject(there.agent.dataUrl, `o${i}`, Buffer.alloc(100_000, `content ${i}`))));
    // With the patience of an agent: this machine may have other work.
    const patient = startDataThread({ link: { bytesPerS: 0, latencyMs: 0 }, log: silent });
    const fetcher = new ObjectFetcher({ store: box.store, node: 'here', thread: patient });
    const moved = await Promise.all(objects.map((object) => fetcher.ensure(object, { 'node-2': there.agent.dataUrl }, new AbortController().signal)));
    expect(moved).toEqual(objects.map(() => 100_000));
    expect(box.store.list().map(({ digest }) => digest).sort()).toEqual(objects.map(({ digest }) => digest).sort());
    await fetcher.close();
    await patient.stop();
  });

  it('begins anew for who comes after all others have left', async () => {
    let answers = 0;
    await using holder = await fakeHolder((_request, response) => {
      if (answers++ > 0) return response.end(content);
      return response.writeHead(200, { 'content-length': content.length }).write('slow');
    });
    await using box = await openStore();
    const fetcher = new ObjectFetcher({ store: box.store, node: 'here', thread });
    const leaver = new AbortController();
    const object = reference('obj-f', content, ['h']);
    const left = fetcher.ensure(object, { h: holder.url }, leaver.signal);
    left.catch(() => {});
    await expect.poll(() => holder.requests.length).toBe(1);
    leaver.abort(new Error('left'));
    await expect(left).rejects.toThrow('left');
    expect(await fetcher.ensure(object, { h: holder.url }, new AbortController().signal)).toBe(content.length);
    await fetcher.close();
    expect([temporaries(box.dir), box.store.list()[0]?.digest]).toEqual([[], sha256(content)]);
  });

  it('that several holders put together wrongly is heard from the last one alone, and the others are told to look at their copies', async () => {
    const wrong = Buffer.concat([Buffer.alloc(1_000), content.subarray(1_000)]);
    let requests = 0;
    await using first = await fakeHolder((request, response) => {
      if (request.method === 'POST') return response.end('{}');
      if (requests++ > 0) return response.writeHead(404).end();
      return response.writeHead(200, { 'content-length': wrong.length }).write(wrong.subarray(0, 70_000), () => setTimeout(() => response.destroy(), 20));
    });
    await using second = await fakeHolder((request, response) => {
      const from = Number(/bytes=(\d+)-/.exec(request.headers.range ?? '')?.[1] ?? 0);
      if (from > 0) response.writeHead(206, { 'content-length': content.length - from, 'content-range': `bytes ${from}-${content.length - 1}/${content.length}` });
      response.end(content.subarray(from));
    });
    await using box = await openStore();
    const moved = await fetching(box, reference('obj-g', content, ['first', 'second']), { first: first.url, second: second.url });
    expect(moved).toBeGreaterThan(content.length);
    expect(second.requests.map((line) => line.replace(/\d+-$/, 'n-'))).toEqual(['/objects/obj-g bytes=n-', '/objects/obj-g']);
    await expect.poll(() => first.requests).toContain('/objects/obj-g/verify');
    expect(box.store.list()[0]?.digest).toBe(sha256(content));
  });

  it('is refused when the store cannot take it, without asking anybody or dropping anything', async () => {
    await using holder = await fakeHolder(whole);
    await using box = await openStore(1_000);
    await put(box.store, 'stays');
    await expect(fetching(box, reference('obj-e', content, ['h', 'i']), { h: holder.url, i: holder.url })).rejects.toMatchObject({ code: 'STORE_FULL' });
    expect(holder.requests).toHaveLength(0);
    expect(box.removed).toEqual([]);
    expect(temporaries(box.dir)).toEqual([]);
  });
});
