/** Packages on a node: installed once, verified, shared, bounded, and whole after every accident. Real archives from a registry on loopback. */
import { createHash } from 'node:crypto';
import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readdirSync, statSync } from 'node:fs';
import { chmod, mkdir, readFile, stat, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { describe, expect, it, vi } from 'vitest';
import { create } from 'tar';
import { ProgramCache, type ProgramCacheOptions } from '../../src/agent/packages/program-cache.ts';
import type { PackageLock } from '../../src/rpc/gen/metronome/v1/function.ts';
import { StartState } from '../../src/rpc/gen/metronome/v1/common.ts';
import { fakeRegistry, locked, lockOf, type FakeRegistry } from './fake-registry.ts';
import { bundleOf, defineFunction, json, silent, tempDir, testAgent, type Bundle } from './harness.ts';

const run = promisify(execFile);
const MIB = 1024 ** 2;

/** A bundle of files. */
async function bundle(files: Readonly<Record<string, string | Buffer>>): Promise<Bundle> {
  await using dir = await tempDir();
  for (const [name, content] of Object.entries(files)) {
    await mkdir(join(dir.path, name, '..'), { recursive: true });
    await writeFile(join(dir.path, name), content);
  }
  const chunks: Buffer[] = [];
  for await (const chunk of create({ gzip: true, portable: true, cwd: dir.path }, ['.'])) chunks.push(chunk as Buffer);
  return bundleOf(Buffer.concat(chunks));
}

interface Opened extends AsyncDisposable {
  readonly programs: ProgramCache;
  readonly dataDir: string;
  /** "+id", "-id" for packages; "+set", "-set" for layers and bundles, by their first eight digits. */
  readonly events: string[];
  readonly warnings: object[];
}

/** A cache over a folder; many may be opened one after the other. */
async function open(dataDir: string, registry: FakeRegistry | undefined, bundles: readonly Bundle[], more: Partial<ProgramCacheOptions> = {}): Promise<Opened> {
  const events: string[] = [];
  const warnings: object[] = [];
  const programs = await ProgramCache.open({
    dataDir, packageQuotaBytes: 64 * MIB, npmRegistry: registry?.url ?? '', python: async () => 'python3',
    fetchBundle: async (digest) => bundles.find((one) => one.digest === digest)?.bytes ?? Promise.reject(new Error(`no bundle ${digest}`)),
    onSetAdded: (digest) => events.push(`+${digest.slice(0, 8)}`), onSetRemoved: (digest) => events.push(`-${digest.slice(0, 8)}`),
    onPackageAdded: (id) => events.push(`+${id}`), onPackageRemoved: (id) => events.push(`-${id}`),
    log: { ...silent, warn: (fields) => void warnings.push(fields) },
    ...more,
  });
  return { programs, dataDir, events, warnings, [Symbol.asyncDispose]: () => programs.close() };
}

/** What a module prints that is run in the folder of a program. */
async function evaluate(dir: string, code: string): Promise<string> {
  await writeFile(join(dir, 'try.mjs'), code);
  const { stdout } = await run(process.execPath, [join(dir, 'try.mjs')], { cwd: '/', env: { PATH: '/usr/bin:/bin' } });
  return stdout.trim();
}

const leftovers = (dataDir: string): string[] => ['packages', 'layers', 'bundles'].flatMap((folder) => readdirSync(join(dataDir, folder)).filter((name) => name.startsWith('tmp-') || name.includes('.new') || name.includes('.link-')));
const filesIn = (dataDir: string): string[] => readdirSync(join(dataDir, 'packages'));

/** a needs b@1, the function b@2, so that one lies below the other; a tree as npm makes it. */
async function publishTree(registry: FakeRegistry): Promise<PackageLock> {
  const a = await registry.publish('a', '1.0.0', { 'index.js': "module.exports = 'a with ' + require('b');" });
  const b1 = await registry.publish('b', '1.0.0', { 'index.js': "module.exports = 'b 1';" });
  const b2 = await registry.publish('b', '2.0.0', { 'index.js': "module.exports = 'b 2';" });
  const scoped = await registry.publish('@s/c', '0.1.0', { 'lib/index.js': '', 'index.js': "module.exports = 'c';" });
  return lockOf([locked(a, { dependencies: ['b'] }), locked(b1, { path: 'node_modules/a/node_modules/b', direct: false }), locked(b2), locked(scoped)]);
}

const CODE = "import a from 'a'; import b from 'b'; import c from '@s/c'; export const handler = () => [a, b, c].join(', ');";
const EXPECTED = 'a with b 1, b 2, c';

describe('the packages of a function', () => {
  it('are installed as the lock says, linked to its code, and there at once the next time', async () => {
    await using registry = await fakeRegistry();
    await using dir = await tempDir();
    const lock = await publishTree(registry);
    const code = await bundle({ 'handler.mjs': CODE });
    const source = { bundleDigest: code.digest, lock };
    await using opened = await open(dir.path, registry, [code]);
    const { programs, events } = opened;
    expect(programs.tryAcquire(source)).toBeUndefined();
    const lease = await programs.acquire(source);
    expect(lease.wasHere).toBe(false);
    expect(await evaluate(lease.dir, "import { handler } from './handler.mjs'; console.log(handler());")).toBe(EXPECTED);
    expect(lease.layer).toMatchObject({ digest: lock.digest, runtime: 'node', importPaths: [] });
    expect(lease.layer?.packages.map(({ id, isDirect }) => `${id}${isDirect ? '' : ' below'}`)).toEqual(['@s/c@0.1.0', 'a@1.0.0', 'b@1.0.0 below', 'b@2.0.0']);
    for (const one of lease.layer?.packages ?? []) expect(existsSync(join(one.dir, 'package.json'))).toBe(true);
    expect(programs.tryAcquire(source)?.wasHere).toBe(true);
    expect(events.sort()).toEqual(['+@s/c@0.1.0', '+a@1.0.0', '+b@1.0.0', '+b@2.0.0', `+${lock.digest.slice(0, 8)}`].sort());
    expect(programs.sets()).toEqual([lock.digest]);
    expect(programs.packages().map(({ id }) => id).sort()).toEqual(['@s/c@0.1.0', 'a@1.0.0', 'b@1.0.0', 'b@2.0.0']);
    expect(programs.packageBytes).toBeGreaterThan(programs.packages().reduce((sum, { unpackedBytes }) => sum + unpackedBytes, 0) - 1);
    expect(leftovers(dir.path)).toEqual([]);
  });

  it('share one copy of each file among all layers, which nobody may write to', async () => {
    await using registry = await fakeRegistry();
    await using dir = await tempDir();
    const tree = await publishTree(registry);
    const other = lockOf(tree.packages.filter(({ name }) => name !== '@s/c'));
    const code = await bundle({ 'handler.mjs': CODE });
    await using opened = await open(dir.path, registry, [code]);
    const first = await opened.programs.acquire({ bundleDigest: code.digest, lock: tree });
    const second = await opened.programs.acquire({ bundleDigest: code.digest, lock: other });
    const [one, two] = [first, second].map(({ layer }) => statSync(join(layer?.dir ?? '', 'node_modules/b/index.js')));
    expect(one?.ino).toBe(two?.ino);
    expect((one?.mode ?? 0) & 0o222).toBe(0);
    expect(registry.requests.filter((path) => path.endsWith('.tgz'))).toHaveLength(4);
    // Each has its own node_modules, though the code is the same.
    expect(await evaluate(first.dir, "console.log((await import('@s/c')).default);")).toBe('c');
    await expect(evaluate(second.dir, "console.log((await import('@s/c')).default);")).rejects.toThrow('ERR_MODULE_NOT_FOUND');
  });

  it('are fetched once, however many want them at the same time', async () => {
    await using registry = await fakeRegistry();
    await using dir = await tempDir();
    const tree = await publishTree(registry);
    const other = lockOf(tree.packages.filter(({ name }) => name !== '@s/c'));
    const code = await bundle({ 'handler.mjs': CODE });
    await using opened = await open(dir.path, registry, [code]);
    const leases = await Promise.all(Array.from({ length: 20 }, (_, i) => opened.programs.acquire({ bundleDigest: code.digest, lock: i % 2 === 0 ? tree : other })));
    expect(leases.every(({ wasHere }) => !wasHere)).toBe(true);
    expect(registry.requests.sort()).toEqual(['/@s/c/-/c-0.1.0.tgz', '/a/-/a-1.0.0.tgz', '/b/-/b-1.0.0.tgz', '/b/-/b-2.0.0.tgz']);
    expect(readdirSync(join(dir.path, 'layers')).filter((name) => !name.endsWith('.json'))).toHaveLength(2);
  });

  it('are still there after a restart, and looked through before they are used', async () => {
    await using registry = await fakeRegistry();
    await using dir = await tempDir();
    const lock = await publishTree(registry);
    const code = await bundle({ 'handler.mjs': CODE });
    const source = { bundleDigest: code.digest, lock };
    {
      await using opened = await open(dir.path, registry, [code]);
      await opened.programs.acquire(source);
    }
    registry.requests.length = 0;
    await using opened = await open(dir.path, registry, []);
    expect(opened.programs.sets()).toContain(lock.digest);
    const lease = await opened.programs.acquire(source);
    expect(lease.wasHere).toBe(true);
    expect(await evaluate(lease.dir, "import { handler } from './handler.mjs'; console.log(handler());")).toBe(EXPECTED);
    expect(registry.requests).toEqual([]);
  });

  it('may come with the bundle, or from an address of their own', async () => {
    await using registry = await fakeRegistry();
    await using dir = await tempDir();
    const own = await registry.publish('own', '1.0.0', { 'index.js': "module.exports = 'own';" });
    const far = await registry.publish('far', '1.0.0', { 'index.js': "module.exports = 'far';" });
    const code = await bundle({ 'handler.mjs': '', 'lib/own.tgz': own.tarball });
    const lock = lockOf([locked(own, { resolved: 'file:lib/own.tgz' }), locked(far, { resolved: `${registry.url}/far/-/far-1.0.0.tgz` })]);
    // The registry of the node is another one.
    await using opened = await open(dir.path, undefined, [code], { npmRegistry: 'http://127.0.0.1:9' });
    const { dir: home } = await opened.programs.acquire({ bundleDigest: code.digest, lock });
    expect(await evaluate(home, "import own from 'own'; import far from 'far'; console.log(own, far);")).toBe('own far');
  });

  it('that are for other machines are left out, unless the function needs them', async () => {
    await using registry = await fakeRegistry();
    await using dir = await tempDir();
    const here = await registry.publish('here', '1.0.0', { 'index.js': "module.exports = 'here';" });
    const elsewhere = await registry.publish('elsewhere', '1.0.0', { 'index.js': '' });
    const code = await bundle({ 'handler.mjs': '' });
    await using opened = await open(dir.path, registry, [code]);
    const lock = lockOf([locked(here, { os: ['!win32'], cpu: [process.arch] }), locked(elsewhere, { optional: true, os: ['aix'] })]);
    const lease = await opened.programs.acquire({ bundleDigest: code.digest, lock });
    expect(lease.layer?.packages.map(({ id }) => id)).toEqual(['here@1.0.0']);
    const needed = lockOf([locked(elsewhere, { os: ['aix'] })]);
    await expect(opened.programs.acquire({ bundleDigest: code.digest, lock: needed })).rejects.toMatchObject({ code: 'PACKAGES_FAILED', message: expect.stringMatching(/^The package elsewhere@1\.0\.0 is made for aix, not for this node \(linux/) });
  });

  it('cannot be mixed with a node_modules in the bundle, which is enough without them', async () => {
    await using registry = await fakeRegistry();
    await using dir = await tempDir();
    const lock = await publishTree(registry);
    const code = await bundle({ 'handler.mjs': '', 'node_modules/v/index.js': "module.exports = 'vendored';", 'node_modules/v/package.json': '{"name":"v"}' });
    await using opened = await open(dir.path, registry, [code]);
    const lease = await opened.programs.acquire({ bundleDigest: code.digest, lock: undefined });
    expect(await evaluate(lease.dir, "import v from 'v'; console.log(v);")).toBe('vendored');
    await expect(opened.programs.acquire({ bundleDigest: code.digest, lock })).rejects.toMatchObject({ code: 'FUNCTION_LOAD_FAILED', message: expect.stringContaining('node_modules of its own') });
  });

  it('that try to write outside of their folder do not', async () => {
    await using registry = await fakeRegistry();
    await using dir = await tempDir();
    await writeFile(join(dir.path, 'evil'), 'evil');
    const chunks: Buffer[] = [];
    for await (const chunk of create({ gzip: true, cwd: dir.path, preservePaths: true, prefix: 'package/../../../..' }, ['evil'])) chunks.push(chunk as Buffer);
    const tarball = Buffer.concat(chunks);
    const code = await bundle({ 'handler.mjs': '', 'evil.tgz': tarball });
    const lock = lockOf([locked({ name: 'evil', version: '1.0.0', integrity: `sha512-${createHash('sha512').update(tarball).digest('base64')}` }, { resolved: 'file:evil.tgz' })]);
    const dataDir = join(dir.path, 'deep', 'data');
    await mkdir(dataDir, { recursive: true });
    await using opened = await open(dataDir, registry, [code]);
    await opened.programs.acquire({ bundleDigest: code.digest, lock }).then((lease) => lease.release(), () => {});
    for (const folder of [join(dir.path, 'deep'), dataDir]) expect(readdirSync(folder)).not.toContain('evil');
    expect(readdirSync(dir.path).sort()).toEqual(['deep', 'evil']);
  });
});

describe('the room for packages', () => {
  const big = (registry: FakeRegistry, name: string) => registry.publish(name, '1.0.0', { 'index.js': `module.exports = '${name}';`, data: Buffer.alloc(2 * MIB, name) });

  it('is kept by evicting what was used least recently, layers before their packages', async () => {
    await using registry = await fakeRegistry();
    await using dir = await tempDir();
    const code = await bundle({ 'handler.mjs': '' });
    const [a, b, c] = await Promise.all(['a', 'b', 'c'].map((name) => big(registry, name)));
    await using opened = await open(dir.path, registry, [code], { packageQuotaBytes: 5 * MIB });
    const { programs, events } = opened;
    const [la, lb, lc] = [a, b, c].map((one) => lockOf([locked(one!)]));
    for (const lock of [la, lb]) (await programs.acquire({ bundleDigest: code.digest, lock })).release();
    // a is used again, so b is the older one.
    programs.tryAcquire({ bundleDigest: code.digest, lock: la })?.release();
    events.length = 0;
    (await programs.acquire({ bundleDigest: code.digest, lock: lc })).release();
    expect(events).toEqual(['+c@1.0.0', `-${lb?.digest.slice(0, 8)}`, '-b@1.0.0', `+${lc?.digest.slice(0, 8)}`]);
    expect(programs.packageBytes).toBeLessThan(5 * MIB);
    await vi.waitFor(() => expect(filesIn(dir.path).filter((name) => name.startsWith('b@'))).toEqual([]));
  });

  it('is never taken from what a sandbox uses; what does not fit then is refused, and fits later', async () => {
    await using registry = await fakeRegistry();
    await using dir = await tempDir();
    const code = await bundle({ 'handler.mjs': '' });
    const [a, b, c] = await Promise.all(['a', 'b', 'c'].map((name) => big(registry, name)));
    await using opened = await open(dir.path, registry, [code], { packageQuotaBytes: 5 * MIB });
    const { programs } = opened;
    const used = await programs.acquire({ bundleDigest: code.digest, lock: lockOf([locked(a!), locked(b!)]) });
    const third = { bundleDigest: code.digest, lock: lockOf([locked(c!)]) };
    await expect(programs.acquire(third)).rejects.toMatchObject({ code: 'STORE_FULL', message: expect.stringContaining('agent.packageQuota') });
    expect(programs.packageBytes).toBeLessThan(5 * MIB);
    expect(await evaluate(used.dir, "import a from 'a'; import b from 'b'; console.log(a, b);")).toBe('a b');
    used.release();
    expect((await programs.acquire(third)).wasHere).toBe(false);
  });

  it('is not exceeded by one package that is larger than all of it', async () => {
    await using registry = await fakeRegistry();
    await using dir = await tempDir();
    const code = await bundle({ 'handler.mjs': '' });
    const a = await big(registry, 'a');
    await using opened = await open(dir.path, registry, [code], { packageQuotaBytes: MIB });
    await expect(opened.programs.acquire({ bundleDigest: code.digest, lock: lockOf([locked(a)]) })).rejects.toMatchObject({ code: 'STORE_FULL', message: expect.stringMatching(/a@1\.0\.0 .*more than 1\.0 MiB unpacked.*packageQuota/) });
    expect(filesIn(dir.path)).toEqual([]);
  });

  it('ends when the disk is full: an error that says so, nothing half, and unused packages make room', async (context) => {
    await using registry = await fakeRegistry();
    await using dir = await tempDir();
    const disk = join(dir.path, 'disk');
    await mkdir(disk);
    const mounted = await run('mount', ['-t', 'tmpfs', '-o', 'size=6m', 'tmpfs', disk]).then(() => true, () => false);
    if (!mounted) return context.skip('a small tmpfs cannot be mounted: run as root');
    try {
      const code = await bundle({ 'handler.mjs': '' });
      const [a, b, c] = await Promise.all(['a', 'b', 'c'].map((name) => big(registry, name)));
      await using opened = await open(disk, registry, [code]);
      const { programs, warnings } = opened;
      const held = await programs.acquire({ bundleDigest: code.digest, lock: lockOf([locked(a!), locked(b!)]) });
      const third = { bundleDigest: code.digest, lock: lockOf([locked(c!)]) };
      await expect(programs.acquire(third)).rejects.toMatchObject({ code: 'STORE_FULL', message: expect.stringMatching(/c@1\.0\.0 finds no space on the disk.*agent\.packageQuota/) });
      expect(filesIn(disk).filter((name) => name.startsWith('c@') || name.startsWith('tmp-'))).toEqual([]);
      expect(await evaluate(held.dir, "import a from 'a'; console.log(a);")).toBe('a');
      held.release();
      expect((await programs.acquire(third)).wasHere).toBe(false);
      expect(warnings).toMatchObject([{ package: 'c@1.0.0' }]);
      expect(leftovers(disk)).toEqual([]);
    } finally {
      await run('umount', [disk]);
    }
  });
});

describe('a layer or the code', () => {
  it('that finds no space on the disk says so and leaves nothing', async (context) => {
    await using registry = await fakeRegistry();
    await using dir = await tempDir();
    const disk = join(dir.path, 'disk');
    await mkdir(disk);
    // Room for the folders of one copy of the tree, not of two; links need no further files.
    const mounted = await run('mount', ['-t', 'tmpfs', '-o', 'size=6m,nr_inodes=115', 'tmpfs', disk]).then(() => true, () => false);
    if (!mounted) return context.skip('a small tmpfs cannot be mounted: run as root');
    try {
      const code = await bundle({ 'handler.mjs': '' });
      const large = await bundle(Object.fromEntries(Array.from({ length: 60 }, (_, i) => [`d${i}/f`, 'x'])));
      const deep = await registry.publish('deep', '1.0.0', Object.fromEntries(Array.from({ length: 40 }, (_, i) => [`d${i}/index.js`, ''])));
      await using opened = await open(disk, registry, [code, large]);
      await expect(opened.programs.acquire({ bundleDigest: large.digest, lock: undefined })).rejects.toMatchObject({ code: 'STORE_FULL', message: expect.stringContaining('The code of the function finds no space') });
      await expect(opened.programs.acquire({ bundleDigest: code.digest, lock: lockOf([locked(deep)]) })).rejects.toMatchObject({ code: 'STORE_FULL', message: expect.stringContaining('The layer with the packages of the function finds no space') });
      expect(readdirSync(join(disk, 'layers'))).toEqual([]);
      expect(leftovers(disk)).toEqual([]);
      expect((await opened.programs.acquire({ bundleDigest: code.digest, lock: undefined })).wasHere).toBe(false);
    } finally {
      await run('umount', [disk]);
    }
  });
});

describe('a registry', () => {
  const one = async (registry: FakeRegistry) => {
    const code = await bundle({ 'handler.mjs': '' });
    const made = await registry.publish('a', '1.0.0', { 'index.js': "module.exports = 'a';", data: Buffer.alloc(300_000, 'x') });
    return { code, made, source: { bundleDigest: code.digest, lock: lockOf([locked(made)]) } };
  };

  it('that breaks off, answers with errors or sends other bytes is asked again', async () => {
    await using registry = await fakeRegistry();
    await using dir = await tempDir();
    const { code, made, source } = await one(registry);
    const faults = [
      (_request: unknown, response: import('node:http').ServerResponse) => void response.writeHead(503).end(),
      (_request: unknown, response: import('node:http').ServerResponse) => {
        response.writeHead(200, { 'content-length': made.tarball.length });
        response.write(made.tarball.subarray(0, 100));
        setTimeout(() => response.destroy(), 20);
      },
      (_request: unknown, response: import('node:http').ServerResponse) => void response.writeHead(200).end(Buffer.from(made.tarball).fill(7, 50, 60)),
    ];
    registry.fault = (request, response) => {
      const fault = faults.shift();
      fault?.(request, response);
      return fault !== undefined;
    };
    await using opened = await open(dir.path, registry, [code]);
    const lease = await opened.programs.acquire(source);
    expect(await evaluate(lease.dir, "import a from 'a'; console.log(a);")).toBe('a');
    expect(faults).toEqual([]);
    expect(leftovers(dir.path)).toEqual([]);
  });

  it('that always sends other bytes than were locked is not believed', async () => {
    await using registry = await fakeRegistry();
    await using dir = await tempDir();
    const { code, source } = await one(registry);
    const other = await registry.publish('a', '1.0.0', { 'index.js': "module.exports = 'evil';" });
    expect(other.integrity).not.toBe(source.lock.packages[0]?.integrity);
    await using opened = await open(dir.path, registry, [code]);
    await expect(opened.programs.acquire(source)).rejects.toMatchObject({ code: 'OBJECT_CORRUPT', message: expect.stringMatching(/^The package a@1\.0\.0 from 127\.0\.0\.1:\d+ came with other bytes than were locked/) });
    expect(filesIn(dir.path)).toEqual([]);
  });

  it('that cannot be reached is named, and asked again by the next cold start', async () => {
    await using registry = await fakeRegistry();
    await using dir = await tempDir();
    const { code, source } = await one(registry);
    await using opened = await open(dir.path, registry, [code]);
    registry.fault = (request) => {
      request.socket.destroy();
      return true;
    };
    await expect(opened.programs.acquire(source)).rejects.toMatchObject({ code: 'UNAVAILABLE', message: expect.stringMatching(/^The package a@1\.0\.0 from 127\.0\.0\.1:\d+ cannot be fetched: .*tried 4 times/) });
    registry.fault = undefined;
    expect((await opened.programs.acquire(source)).wasHere).toBe(false);
  });

  it('that does not know the version says so', async () => {
    await using registry = await fakeRegistry();
    await using dir = await tempDir();
    const { code, made } = await one(registry);
    await using opened = await open(dir.path, registry, [code]);
    await expect(opened.programs.acquire({ bundleDigest: code.digest, lock: lockOf([locked({ ...made, version: '9.9.9' })]) })).rejects.toMatchObject({ code: 'PACKAGES_FAILED', message: expect.stringMatching(/^The package a@9\.9\.9 from 127\.0\.0\.1:\d+ does not exist there/) });
  });

  it('whose archives lie at other addresses is asked for them', async () => {
    await using registry = await fakeRegistry();
    await using dir = await tempDir();
    const { code, made, source } = await one(registry);
    registry.fault = (request, response) => {
      if (request.url === '/a/-/a-1.0.0.tgz') response.writeHead(404).end();
      else if (request.url === '/a') response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify({ name: 'a', 'dist-tags': { latest: '1.0.0' }, versions: { '1.0.0': { name: 'a', version: '1.0.0', dist: { tarball: `${registry.url}/elsewhere.tgz`, integrity: made.integrity } } } }));
      else if (request.url === '/elsewhere.tgz') response.writeHead(200).end(made.tarball);
      else return false;
      return true;
    };
    await using opened = await open(dir.path, registry, [code]);
    const lease = await opened.programs.acquire(source);
    expect(await evaluate(lease.dir, "import a from 'a'; console.log(a);")).toBe('a');
  });

  it('is not followed to a repository, which would be built', async () => {
    await using registry = await fakeRegistry();
    await using dir = await tempDir();
    const one = await registry.publish('one', '1.0.0', { 'index.js': '' });
    const code = await bundle({ 'handler.mjs': '' });
    await using opened = await open(dir.path, registry, [code]);
    const given = opened.programs.acquire({ bundleDigest: code.digest, lock: lockOf([locked(one, { resolved: 'https://github.com/x/y.git' })]) });
    await expect(given).rejects.toMatchObject({ code: 'PACKAGES_FAILED', message: expect.stringContaining('its address must be an archive; "https://github.com/x/y.git" is a repository for npm') });
    registry.fault = (request, response) => {
      if (request.url?.endsWith('.tgz') === true) response.writeHead(404).end();
      else response.end(JSON.stringify({ name: 'one', 'dist-tags': {}, versions: { '1.0.0': { name: 'one', version: '1.0.0', dist: { tarball: 'https://github.com/x/y.git', integrity: one.integrity } } } }));
      return true;
    };
    await expect(opened.programs.acquire({ bundleDigest: code.digest, lock: lockOf([locked(one)]) })).rejects.toMatchObject({ code: 'PACKAGES_FAILED', message: expect.stringContaining('Wrong spec type (git)') });
    expect(filesIn(dir.path)).toEqual([]);
  });

  it('gets the token of the user\'s npmrc, which shows nowhere', async () => {
    await using registry = await fakeRegistry();
    await using dir = await tempDir();
    const { code, source } = await one(registry);
    const host = new URL(registry.url).host;
    await writeFile(join(dir.path, 'npmrc'), `registry=${registry.url}/\n//${host}/:_authToken=\${THE_TOKEN}\n`);
    vi.stubEnv('NPM_CONFIG_USERCONFIG', join(dir.path, 'npmrc'));
    vi.stubEnv('npm_config_userconfig', join(dir.path, 'npmrc'));
    vi.stubEnv('npm_config_registry', undefined);
    vi.stubEnv('NPM_CONFIG_REGISTRY', undefined);
    vi.stubEnv('THE_TOKEN', 'very-secret');
    try {
      const seen: (string | undefined)[] = [];
      let allowed = false;
      registry.fault = (request, response) => {
        seen.push(request.headers.authorization);
        if (!allowed) response.writeHead(401).end();
        return !allowed;
      };
      await using opened = await open(dir.path, undefined, [code], { npmRegistry: '' });
      const failure = await opened.programs.acquire(source).then(() => undefined, (error: unknown) => error);
      expect(failure).toMatchObject({ code: 'PACKAGES_FAILED', message: expect.stringContaining('needs a token') });
      expect(JSON.stringify([failure, String(failure), opened.warnings])).not.toContain('very-secret');
      allowed = true;
      await opened.programs.acquire(source);
      expect(new Set(seen)).toEqual(new Set(['Bearer very-secret']));
    } finally {
      vi.unstubAllEnvs();
    }
  });
});

describe('damage', () => {
  const setUp = async (registry: FakeRegistry, dataDir: string) => {
    const code = await bundle({ 'handler.mjs': CODE });
    const lock = await publishTree(registry);
    const source = { bundleDigest: code.digest, lock };
    {
      await using opened = await open(dataDir, registry, [code]);
      await opened.programs.acquire(source);
    }
    const key = filesIn(dataDir).find((name) => name.startsWith('b@2') && !/\.(json|files)$/.test(name)) ?? '';
    return { code, source, file: join(dataDir, 'packages', key, 'index.js'), record: join(dataDir, 'packages', `${key}.json`) };
  };

  it('that changed sizes or times is found at the first use after a restart and repaired', async () => {
    await using registry = await fakeRegistry();
    await using dir = await tempDir();
    const { code, source, file } = await setUp(registry, dir.path);
    await chmod(file, 0o644);
    await writeFile(file, 'module.exports = 1;');
    await using opened = await open(dir.path, registry, [code]);
    const lease = await opened.programs.acquire(source);
    expect(lease.wasHere).toBe(false);
    expect(await evaluate(lease.dir, "import { handler } from './handler.mjs'; console.log(handler());")).toBe(EXPECTED);
    expect(opened.warnings).toMatchObject([{ package: 'b@2.0.0', problem: expect.stringContaining('"index.js" has 19 bytes instead of') }]);
    // Whole packages were kept.
    expect(registry.requests.filter((path) => path.includes('/a/'))).toHaveLength(1);
  });

  it('in the store is found when a layer is made from it', async () => {
    await using registry = await fakeRegistry();
    await using dir = await tempDir();
    const { code, source, file } = await setUp(registry, dir.path);
    await using opened = await open(dir.path, registry, [code]);
    await chmod(file, 0o644);
    await writeFile(file, 'module.exports = 1;');
    const other = lockOf(source.lock.packages.filter(({ name }) => name !== '@s/c'));
    const lease = await opened.programs.acquire({ ...source, lock: other });
    expect(await evaluate(lease.dir, "import b from 'b'; console.log(b);")).toBe('b 2');
    expect(opened.warnings).toHaveLength(1);
  });

  it('that a power cut may have done is looked for by reading everything once after the machine was started', async () => {
    await using registry = await fakeRegistry();
    await using dir = await tempDir();
    const { code, source, file, record } = await setUp(registry, dir.path);
    const { atime, mtime, size } = await stat(file);
    await chmod(file, 0o644);
    await writeFile(file, Buffer.alloc(size));
    await utimes(file, atime, mtime);
    await writeFile(record, JSON.stringify({ ...(JSON.parse(await readFile(record, 'utf8')) as object), boot: 'another' }));
    await using opened = await open(dir.path, registry, [code]);
    const lease = await opened.programs.acquire(source);
    expect(await evaluate(lease.dir, "import { handler } from './handler.mjs'; console.log(handler());")).toBe(EXPECTED);
    expect(opened.warnings).toMatchObject([{ package: 'b@2.0.0', problem: '"index.js" has another content than was installed' }]);
  });

  it('of records, lists and half packages is swept away at the start', async () => {
    await using registry = await fakeRegistry();
    await using dir = await tempDir();
    const { code, source, record } = await setUp(registry, dir.path);
    await writeFile(record, '{"id":');
    await mkdir(join(dir.path, 'packages', 'tmp-123456', 'files'), { recursive: true });
    await mkdir(join(dir.path, 'packages', 'half@1.0.0-0123'));
    await mkdir(join(dir.path, 'layers', `tmp-${source.lock.digest}-00000000`));
    await using opened = await open(dir.path, registry, [code]);
    expect(opened.programs.packages().map(({ id }) => id).sort()).toEqual(['@s/c@0.1.0', 'a@1.0.0', 'b@1.0.0']);
    // Its layer had lost a package.
    expect(opened.programs.sets()).not.toContain(source.lock.digest);
    expect([...leftovers(dir.path), ...filesIn(dir.path).filter((name) => name.startsWith('half') || name.startsWith('b@2'))]).toEqual([]);
    expect(await evaluate((await opened.programs.acquire(source)).dir, "import { handler } from './handler.mjs'; console.log(handler());")).toBe(EXPECTED);
  });

  it('is never left by a kill -9 in the middle of an installation', async () => {
    await using registry = await fakeRegistry();
    await using dir = await tempDir();
    const code = await bundle({ 'handler.mjs': '' });
    const small = await registry.publish('small', '1.0.0', { 'index.js': "module.exports = 'small';" });
    const large = await registry.publish('large', '1.0.0', { 'index.js': "module.exports = 'large';", ...Object.fromEntries(Array.from({ length: 200 }, (_, i) => [`f${i}`, Buffer.from(createHash('sha512').update(String(i)).digest('hex').repeat(20))])) });
    const source = { bundleDigest: code.digest, lock: lockOf([locked(small), locked(large)]) };
    registry.fault = (request, response) => {
      if (!(request.url ?? '').includes('large')) return false;
      // Most of it comes, the end never does.
      response.writeHead(200, { 'content-length': large.tarball.length });
      response.write(large.tarball.subarray(0, Math.floor(large.tarball.length * 0.9)));
      return true;
    };
    const input = { dataDir: dir.path, registry: registry.url, bundle: Buffer.from(code.bytes).toString('base64'), source };
    const child = spawn(process.execPath, [fileURLToPath(new URL('./fixtures/installing.ts', import.meta.url))], { stdio: ['pipe', 'inherit', 'inherit'] });
    child.stdin.end(JSON.stringify(input));
    const half = (): string[] => filesIn(dir.path).filter((name) => name.startsWith('tmp-') && readdirSync(join(dir.path, 'packages', name), { recursive: true }).length > 20);
    await vi.waitFor(() => {
      expect(half()).toHaveLength(1);
      expect(filesIn(dir.path).filter((name) => name.startsWith('small@'))).toHaveLength(3);
    }, { timeout: 20_000, interval: 20 });
    child.kill('SIGKILL');
    await once(child, 'exit');
    registry.fault = undefined;
    await using opened = await open(dir.path, registry, [code]);
    expect(opened.programs.packages().map(({ id }) => id)).toEqual(['small@1.0.0']);
    expect(leftovers(dir.path)).toEqual([]);
    const lease = await opened.programs.acquire(source);
    expect(await evaluate(lease.dir, "import small from 'small'; import large from 'large'; console.log(small, large);")).toBe('small large');
    expect(readdirSync(join(lease.layer?.dir ?? '', 'node_modules', 'large'))).toHaveLength(202);
  });
});

describe('an agent', () => {
  it('starts cold with what it must install, then from packages, and tells the scheduler of both', async () => {
    await using registry = await fakeRegistry();
    const lock = await publishTree(registry);
    const code = await bundle({ 'handler.mjs': CODE });
    await using test = await testAgent({ npmRegistry: registry.url, fetchBundle: async () => code.bytes });
    test.client.watch();
    const definition = { ...(await defineFunction('handler.mjs', { reuse: false }, { bundleDigest: code.digest })), lock };
    const first = await test.client.run(definition);
    expect(json(first.result)).toBe(EXPECTED);
    expect(first.result).toMatchObject({ startState: StartState.COLD });
    expect(first.result.installedMs).toBeGreaterThan(0);
    expect(first.result.initialisedMs).toBeGreaterThan(first.result.installedMs);
    const second = await test.client.run(definition);
    expect(second.result.startState).toBeGreaterThanOrEqual(StartState.PACKAGES);
    expect(second.result.installedMs).toBe(0);
    await test.client.until(() => test.client.states.some((state) => state.packageSetsAdded.includes(lock.digest)), 'the package set');
    const told = await test.client.until(() => {
      const added = test.client.states.flatMap((state) => state.packagesAdded);
      return added.length === 4 && added;
    }, 'the packages');
    expect(told.map(({ id }) => id).sort()).toEqual(['@s/c@0.1.0', 'a@1.0.0', 'b@1.0.0', 'b@2.0.0']);
    expect(told.every(({ unpackedBytes }) => unpackedBytes > 0)).toBe(true);
    await test.client.until(() => test.client.states.some(({ metrics }) => metrics?.cachedPackages === 4 && metrics.packageBytes > 0), 'the counts');
  });

  it('finds damage when a function cannot be loaded, and installs anew at the next start', async () => {
    await using registry = await fakeRegistry();
    const lock = await publishTree(registry);
    const code = await bundle({ 'handler.mjs': CODE });
    await using test = await testAgent({ npmRegistry: registry.url, fetchBundle: async () => code.bytes });
    const definition = { ...(await defineFunction('handler.mjs', { reuse: false }, { bundleDigest: code.digest })), lock };
    await test.client.run(definition);
    const key = filesIn(test.dir).find((name) => name.startsWith('a@1') && !/\.(json|files)$/.test(name)) ?? '';
    const file = join(test.dir, 'packages', key, 'index.js');
    await chmod(file, 0o644);
    await writeFile(file, 'throw new Error("damaged");');
    const { result } = await test.client.run(definition);
    // A process that was made before the damage may have the package in it; then there is nothing to find yet.
    if (result.error !== undefined) expect(result.error).toMatchObject({ code: 'OBJECT_CORRUPT', retryable: true, message: expect.stringContaining('a@1.0.0: "index.js"') });
    expect(json((await test.client.run(definition)).result)).toBe(EXPECTED);
  });

  it('tells which package cannot be had', async () => {
    await using registry = await fakeRegistry();
    const made = await registry.publish('a', '1.0.0', { 'index.js': '' });
    const code = await bundle({ 'handler.mjs': '' });
    await using test = await testAgent({ npmRegistry: registry.url, fetchBundle: async () => code.bytes });
    const definition = { ...(await defineFunction('handler.mjs', {}, { bundleDigest: code.digest })), lock: lockOf([locked({ ...made, version: '2.0.0' })]) };
    expect((await test.client.run(definition)).result.error).toMatchObject({ code: 'PACKAGES_FAILED', message: expect.stringContaining('a@2.0.0') });
  });
});
