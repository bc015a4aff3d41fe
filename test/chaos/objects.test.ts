/** What happens to objects when processes die, disks fill up and bits flip: whole objects or clear errors, never a half or a wrong one. */
import { spawnSync } from 'node:child_process';
import { chmodSync, mkdirSync, readFileSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { request } from 'undici';
import { afterAll, beforeAll, describe, expect, it, onTestFinished, vi } from 'vitest';
import type { StoreListing } from '../../src/agent/objects/data-protocol.ts';
import { ObjectRef } from '../../src/rpc/gen/metronome/v1/common.ts';
import { NodeStatus } from '../../src/rpc/gen/metronome/v1/node.ts';
import { PATIENCE, failure, openCluster, type TestCluster } from '../integration/harness.ts';

const MIB = 1024 ** 2;
/** Slow enough to be caught in the middle, also on a loaded machine: an object of 8 MiB takes two seconds. */
const LINK_BYTES_PER_S = 4_000_000;
const READER = `
import { createHash } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
export async function handler(event, context) {
  if (event?.make !== undefined) writeFileSync(context.output('made.bin'), Buffer.alloc(event.make, 'm'));
  return context.inputs.map(({ path }) => createHash('sha256').update(readFileSync(path)).digest('hex'));
}`;

let cluster: TestCluster;
beforeAll(async () => {
  cluster = await openCluster({ nodes: 3, slots: 1, processes: true, agentArgs: ['--link-bytes-per-s', String(LINK_BYTES_PER_S)] });
  await cluster.deploy('reads', READER);
  await cluster.deploy('reads-again', READER, { idempotent: true, retries: 2 });
}, 60_000);
afterAll(() => cluster.close(), 60_000);

const urlOf = async (node: string): Promise<string> => (await cluster.nodes())[node]?.dataUrl ?? '';
const filesOf = (node: string, folder: 'data' | 'meta' | 'tmp'): string[] => readdirSync(join(cluster.dir, node, 'objects', folder));

let made = 0;
async function put(node: string, sizeBytes = 8 * MIB): Promise<ObjectRef> {
  const { statusCode, body } = await request(`${await urlOf(node)}/objects?name=o${++made}.bin`, { method: 'PUT', body: Buffer.alloc(sizeBytes, `content ${made}`) });
  const answer: unknown = await body.json();
  expect([statusCode, answer]).toMatchObject([201, {}]);
  return ObjectRef.fromJSON(answer);
}

/** Lets work go to these nodes only. */
async function only(...names: readonly string[]): Promise<void> {
  for (const name of ['node-1', 'node-2', 'node-3']) await cluster.client.drainNode({ name, drain: !names.includes(name) });
}

/** Waits until a node is in the middle of fetching an object. */
async function fetching(node: string, object: ObjectRef): Promise<void> {
  await vi.waitFor(
    () => {
      const sizes = filesOf(node, 'tmp').map((file) => statSync(join(cluster.dir, node, 'objects', 'tmp', file), { throwIfNoEntry: false })?.size ?? 0);
      expect(sizes.some((size) => size > 0 && size < object.sizeBytes)).toBe(true);
    },
    { timeout: 15_000, interval: 5 },
  );
}

async function revive(name: string): Promise<void> {
  await cluster.untilStatus(name, NodeStatus.LOST);
  cluster.spawnAgent(name);
  // A node that was draining still is.
  await vi.waitFor(async () => expect([NodeStatus.READY, NodeStatus.DRAINING]).toContain((await cluster.nodes())[name]?.status), PATIENCE);
  await cluster.client.drainNode({ name, drain: false });
  await cluster.untilStatus(name, NodeStatus.READY);
}

/** Flips a bit as a bad disk does: the file looks untouched. */
function corrupt(node: string, object: ObjectRef): void {
  const path = join(cluster.dir, node, 'objects', 'data', object.id);
  const before = cluster.scratch();
  spawnSync('cp', ['-p', path, before]);
  const content = readFileSync(path);
  content.writeUInt8(content.readUInt8(content.length >> 1) ^ 1, content.length >> 1);
  chmodSync(path, 0o644);
  writeFileSync(path, content);
  spawnSync('touch', ['-r', before, path]);
}

const digests = (response: { readonly payload: Uint8Array }): unknown => JSON.parse(Buffer.from(response.payload).toString());

describe('an agent that is killed while it fetches', () => {
  it('leaves no half object, the invocation completes elsewhere, and the fetch works after the restart', async () => {
    const object = await put('node-1');
    await only('node-2');
    const call = cluster.call('reads-again', {}, { inputs: [object] });
    await fetching('node-2', object);
    // Killed at once; where it may go on is arranged until the scheduler has noticed.
    await Promise.all([cluster.killAgent('node-2'), only('node-1')]);
    const response = await call;
    expect([response.node, response.attempt, digests(response)]).toEqual(['node-1', 2, [object.digest]]);
    await revive('node-2');
    expect([filesOf('node-2', 'tmp'), filesOf('node-2', 'data'), filesOf('node-2', 'meta')]).toEqual([[], [], []]);
    await only('node-2');
    const again = await cluster.call('reads', {}, { inputs: [object] });
    expect([again.node, again.phases?.fetchedBytes, digests(again)]).toEqual(['node-2', object.sizeBytes, [object.digest]]);
    await cluster.quiet();
  }, 60_000);
});

describe('a holder that dies in the middle of a transfer', () => {
  it('is replaced by another holder, which goes on where it stopped', async () => {
    const object = await put('node-1');
    await only('node-2');
    await cluster.call('reads', {}, { inputs: [object] });
    await only('node-3');
    const call = cluster.call('reads', {}, { inputs: [object] });
    await fetching('node-3', object);
    await cluster.killAgent('node-1');
    const response = await call;
    expect([response.node, response.attempt, response.phases?.fetchedBytes, digests(response)]).toEqual(['node-3', 1, object.sizeBytes, [object.digest]]);
    await revive('node-1');
    await cluster.quiet();
  }, 60_000);

  it('and was the only one leaves OBJECT_LOST with its name, and nothing half', async () => {
    const object = await put('node-1');
    await only('node-3');
    const call = cluster.call('reads', {}, { inputs: [object] });
    call.catch(() => {});
    await fetching('node-3', object);
    await cluster.killAgent('node-1');
    const error = await failure(call, 'OBJECT_LOST');
    expect(error.message).toContain('"node-1"');
    expect([filesOf('node-3', 'tmp'), filesOf('node-3', 'data').includes(object.id)]).toEqual([[], false]);
    // It was only away: after its restart the object can be had again.
    await revive('node-1');
    expect(digests(await cluster.call('reads', {}, { inputs: [object] }))).toEqual([object.digest]);
    await cluster.quiet();
  }, 60_000);
});

describe('a copy in which a bit flipped', () => {
  it('is noticed by the reader, who goes to the next holder, and dropped by its holder', async () => {
    const object = await put('node-1', MIB);
    await only('node-2');
    await cluster.call('reads', {}, { inputs: [object] });
    corrupt('node-1', object);
    await only('node-3');
    const response = await cluster.call('reads', {}, { inputs: [object] });
    expect([response.node, digests(response)]).toEqual(['node-3', [object.digest]]);
    await vi.waitFor(async () => expect((await request(`${await urlOf('node-1')}/objects/${object.id}`, { method: 'HEAD' })).statusCode).toBe(404), PATIENCE);
    expect((await request(`${await urlOf('node-2')}/objects/${object.id}`, { method: 'HEAD' })).statusCode).toBe(200);
    await cluster.quiet();
  }, 60_000);

  it('and is the only one gives OBJECT_CORRUPT, and is lost from then on', async () => {
    const object = await put('node-1', MIB);
    corrupt('node-1', object);
    await only('node-3');
    const error = await failure(cluster.call('reads', {}, { inputs: [object] }), 'OBJECT_CORRUPT');
    expect(error.message).toContain('node-1: sent bytes with the digest');
    await vi.waitFor(() => expect(filesOf('node-1', 'data').includes(object.id)).toBe(false), PATIENCE);
    await failure(cluster.call('reads', {}, { inputs: [object] }), 'OBJECT_LOST');
    await cluster.quiet();
  }, 60_000);

  it('on the node itself, by somebody who wrote to the file, is replaced from another holder before it is used', async () => {
    const object = await put('node-1', MIB);
    await only('node-2');
    await cluster.call('reads', {}, { inputs: [object] });
    const path = join(cluster.dir, 'node-2', 'objects', 'data', object.id);
    chmodSync(path, 0o644);
    writeFileSync(path, Buffer.alloc(MIB, 'other'));
    const response = await cluster.call('reads', {}, { inputs: [object] });
    expect([response.node, response.phases?.fetchedBytes, digests(response)]).toEqual(['node-2', MIB, [object.digest]]);
    await cluster.quiet();
  }, 60_000);
});

/** A small file system of its own at a path; undefined where this process may not mount one. */
function mountSmall(path: string, sizeBytes: number): (() => void) | undefined {
  mkdirSync(path, { recursive: true });
  if (spawnSync('mount', ['-t', 'tmpfs', '-o', `size=${sizeBytes}`, 'tmpfs', path]).status !== 0) return undefined;
  return () => void spawnSync('umount', ['-l', path]);
}

describe('a full disk (needs root to mount a small file system; skipped without)', () => {
  it('gives STORE_FULL for uploads, fetches and outputs, leaves nothing half, and works again when there is room', async ({ skip }) => {
    const objects = join(cluster.dir, 'node-4', 'objects');
    const unmount = mountSmall(objects, 6 * MIB);
    if (unmount === undefined) return skip('this process may not mount a tmpfs: run the tests as root');
    onTestFinished(unmount);
    cluster.spawnAgent('node-4');
    await cluster.untilStatus('node-4', NodeStatus.READY);
    await only();
    const url = await urlOf('node-4');
    const filler = join(objects, 'filler');
    const upload = async (): Promise<unknown> => (await (await request(`${url}/objects?name=b`, { method: 'PUT', body: Buffer.alloc(4 * MIB, 'b') })).body.json());
    const remote = await put('node-1', 3 * MIB);
    writeFileSync(filler, Buffer.alloc(5 * MIB));

    expect(await upload()).toMatchObject({ error: { code: 'STORE_FULL', message: expect.stringMatching(/disk under the object store is full/) } });
    await failure(cluster.call('reads', {}, { inputs: [remote] }), 'STORE_FULL');
    await failure(cluster.call('reads', { make: 3 * MIB }), 'STORE_FULL');
    expect([filesOf('node-4', 'tmp'), filesOf('node-4', 'data')]).toEqual([[], []]);

    rmSync(filler);
    // Another file system than the sandboxes': copies instead of links, both ways.
    const response = await cluster.call('reads', { make: MIB }, { inputs: [remote] });
    expect([response.node, response.outputs.map(({ sizeBytes }) => sizeBytes), digests(response)]).toEqual(['node-4', [MIB], [remote.digest]]);
    const listing = async (): Promise<StoreListing> => (await (await request(`${url}/objects`)).body.json()) as StoreListing;
    expect((await listing()).handOvers).toEqual({ linked: 0, copied: 2 });
    // The quota allows it, the disk does not: what nobody holds goes, and the next attempt finds the room.
    expect(await upload()).toMatchObject({ error: { code: 'STORE_FULL' } });
    await vi.waitFor(async () => expect(await upload()).toMatchObject({ sizeBytes: 4 * MIB }), PATIENCE);
    expect((await listing()).objects.map(({ name }) => name)).toContain('b');
    await cluster.quiet();
    const agent = cluster.agentProcesses.get('node-4');
    cluster.agentProcesses.delete('node-4');
    agent?.child.kill('SIGTERM');
    await agent?.ended;
  }, 60_000);
});
