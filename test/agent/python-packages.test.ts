/** Python packages on a node: wheels from the bundle or from an index, unpacked by the agent itself. Real pip, real Python, wheels that the test makes. */
import { execFile, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { createServer } from 'node:http';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { existsSync, readdirSync, statSync } from 'node:fs';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { describe, expect, it, vi } from 'vitest';
import { installPackage } from '../../src/agent/packages/install-package.ts';
import { ProgramCache } from '../../src/agent/packages/program-cache.ts';
import { unpackWheel } from '../../src/agent/packages/wheel.ts';
import { packFunction } from '../../src/config/bundle.ts';
import { resolvePackages } from '../../src/config/packages.ts';
import { LockedPackage } from '../../src/rpc/gen/metronome/v1/function.ts';
import { StartState } from '../../src/rpc/gen/metronome/v1/common.ts';
import { lockOf } from './fake-registry.ts';
import { bundleOf, defineFunction, json, silent, tempDir, testAgent, type Bundle } from './harness.ts';
import { makeWheel, zip, type TestWheel } from './wheels.ts';

const run = promisify(execFile);
const hasPip = spawnSync('python3', ['-m', 'pip', '--version']).status === 0;
const NEEDS_PIP = 'needs pip (apt-get install -y python3-pip)';

const lockedWheel = ({ name, version, integrity }: Pick<TestWheel, 'name' | 'version' | 'integrity'>, more: Partial<LockedPackage> = {}): LockedPackage => LockedPackage.fromPartial({ name, version, integrity, path: name, direct: true, ...more });

async function open(dataDir: string, bundles: readonly Bundle[]): Promise<{ readonly programs: ProgramCache } & AsyncDisposable> {
  const ignore = (): void => {};
  const programs = await ProgramCache.open({
    dataDir, packageQuotaBytes: 64 * 1024 ** 2, npmRegistry: '', python: async () => (await run('python3', ['-c', 'import sys; print(sys.executable)'])).stdout.trim(),
    fetchBundle: async (digest) => bundles.find((one) => one.digest === digest)?.bytes ?? Promise.reject(new Error(`no bundle ${digest}`)),
    onSetAdded: ignore, onSetRemoved: ignore, onPackageAdded: ignore, onPackageRemoved: ignore, log: silent,
  });
  return { programs, [Symbol.asyncDispose]: () => programs.close() };
}

/** A function's folder with wheels, resolved and packed as `function apply` does it. */
async function deployable(folder: string, files: Readonly<Record<string, string>>): Promise<{ readonly code: Bundle; readonly lock: NonNullable<Awaited<ReturnType<typeof resolvePackages>>['lock']> }> {
  for (const [name, content] of Object.entries(files)) await writeFile(join(folder, name), content);
  const { lock, files: wheels } = await resolvePackages({ codeDir: folder, runtime: 'python3', packages: {} });
  if (lock === undefined) throw new Error('it has no packages');
  return { code: bundleOf(await packFunction(folder, { files: wheels })), lock };
}

describe.skipIf(!hasPip)(`wheels of the bundle: ${NEEDS_PIP}`, () => {
  it('are importable by the function, and only those of its lock', async () => {
    await using dir = await tempDir();
    const folder = join(dir.path, 'code');
    await mkdir(join(folder, 'wheels'), { recursive: true });
    const wheels = join(folder, 'wheels');
    await makeWheel(wheels, 'Main-Thing', '1.0', { 'main_thing/__init__.py': "from helper import VALUE\nNAME = 'main with ' + VALUE", 'space/one.py': 'ONE = 1' }, { requires: ['helper'] });
    await makeWheel(wheels, 'helper', '2.0', { 'helper.py': "VALUE = 'helper'", 'space/two.py': 'TWO = 2', 'helper-2.0.data/purelib/extra.py': 'EXTRA = True', 'helper-2.0.data/scripts/tool': 'no' });
    await makeWheel(wheels, 'other', '1.0', { 'other.py': '' });
    const { code, lock } = await deployable(folder, {
      'requirements.txt': 'main-thing\n',
      'handler.py': "import main_thing, extra, space.one, space.two, importlib.metadata\ndef handler(event, context):\n    return [main_thing.NAME, extra.EXTRA, space.one.ONE + space.two.TWO, importlib.metadata.version('helper')]\n",
    });
    await using test = await testAgent({ fetchBundle: async () => code.bytes });
    const definition = { ...(await defineFunction('handler.py', { reuse: false }, { bundleDigest: code.digest })), lock };
    const { result } = await test.client.run(definition);
    expect(json(result)).toEqual(['main with helper', true, 3, '2.0']);
    expect(result.startState).toBe(StartState.COLD);
    expect(result.installedMs).toBeGreaterThan(0);
    const again = await test.client.run(definition);
    expect(json(again.result)).toEqual(['main with helper', true, 3, '2.0']);
    expect(again.result.startState).toBeGreaterThanOrEqual(StartState.PACKAGES);
    const [layer = ''] = readdirSync(join(test.dir, 'layers')).filter((name) => !name.endsWith('.json'));
    const site = join(test.dir, 'layers', layer, 'site-packages');
    expect(readdirSync(site).filter((name) => name !== '__pycache__').sort()).toEqual(['Main_Thing-1.0.dist-info', 'extra.py', 'helper-2.0.dist-info', 'helper.py', 'main_thing', 'space']);
    // Compiled once, for every layer and every start.
    expect(readdirSync(join(site, '__pycache__')).filter((name) => name.startsWith('helper.'))).toHaveLength(1);
    expect(statSync(join(site, 'helper.py')).nlink).toBe(2);
    expect(existsSync(join(site, 'tool'))).toBe(false);
  }, 60_000);
});

describe.skipIf(!hasPip)(`wheels of an index: ${NEEDS_PIP}`, () => {
  /** The simple repository API (PEP 503) over some wheels. */
  async function index(wheels: readonly TestWheel[]): Promise<{ readonly url: string; readonly requests: string[] } & AsyncDisposable> {
    const requests: string[] = [];
    const server = createServer((request, response) => {
      const path = request.url ?? '';
      requests.push(path);
      const wheel = wheels.find(({ file }) => path === `/files/${file}`);
      const project = /^\/simple\/([^/]+)\/$/.exec(path)?.[1];
      if (wheel !== undefined) response.end(wheel.bytes);
      else if (project !== undefined && wheels.some(({ name }) => name === project)) {
        response.setHeader('content-type', 'text/html');
        response.end(wheels.filter(({ name }) => name === project).map(({ file, integrity }) => `<a href="/files/${file}#sha256=${Buffer.from(integrity.slice(7), 'base64').toString('hex')}">${file}</a>`).join('\n'));
      } else response.writeHead(404).end();
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    return {
      url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
      requests,
      [Symbol.asyncDispose]: () => new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
    };
  }

  it('are locked without addresses and fetched by pip, once, with the locked digest', async () => {
    await using dir = await tempDir();
    const made = join(dir.path, 'made');
    const folder = join(dir.path, 'code');
    for (const path of [made, folder]) await mkdir(path);
    const main = await makeWheel(made, 'main', '1.0', { 'main.py': "import helper\nNAME = 'main with ' + helper.VALUE" }, { requires: ['helper>=2'] });
    const helper = await makeWheel(made, 'helper', '2.0', { 'helper.py': "VALUE = 'helper'" });
    await using served = await index([main, helper]);
    vi.stubEnv('PIP_INDEX_URL', `${served.url}/simple/`);
    vi.stubEnv('PIP_CONFIG_FILE', '/dev/null');
    vi.stubEnv('PIP_RETRIES', '0');
    try {
      const { code, lock } = await deployable(folder, { 'requirements.txt': 'main\n', 'handler.py': '' });
      expect(lock.packages.map(({ name, resolved, integrity }) => [name, resolved, integrity])).toEqual([['helper', '', helper.integrity], ['main', '', main.integrity]]);
      await using opened = await open(dir.path, [code]);
      served.requests.length = 0;
      const [lease] = await Promise.all([1, 2, 3].map(() => opened.programs.acquire({ bundleDigest: code.digest, lock })));
      const { stdout } = await run('python3', ['-S', '-c', 'import sys; sys.path[:0] = sys.argv[1:]; import main; print(main.NAME)', ...(lease?.layer?.importPaths ?? [])]);
      expect(stdout.trim()).toBe('main with helper');
      expect(served.requests.filter((path) => path.startsWith('/files/')).sort()).toEqual([`/files/${helper.file}`, `/files/${main.file}`]);
      expect(lease?.layer?.packages.map(({ id, isDirect }) => [id, isDirect])).toEqual([['helper@2.0', false], ['main@1.0', true]]);
      for (const one of lease?.layer?.packages ?? []) expect(existsSync(join(one.dir, `${one.name}.py`))).toBe(true);

      const forged = lockOf([lockedWheel({ ...main, integrity: helper.integrity })], 'python3');
      await expect(opened.programs.acquire({ bundleDigest: code.digest, lock: forged })).rejects.toMatchObject({ code: 'OBJECT_CORRUPT', message: expect.stringContaining("The package main@1.0 from pip's index came with other bytes") });
      const unknown = lockOf([lockedWheel({ ...main, version: '9.0' })], 'python3');
      await expect(opened.programs.acquire({ bundleDigest: code.digest, lock: unknown })).rejects.toMatchObject({ code: 'PACKAGES_FAILED', message: expect.stringContaining('main@9.0') });
    } finally {
      vi.unstubAllEnvs();
    }
  }, 120_000);

  it('that cannot be reached are told apart from those that do not exist', async () => {
    await using dir = await tempDir();
    const folder = join(dir.path, 'code');
    await mkdir(folder);
    await writeFile(join(folder, 'handler.py'), '');
    const code = bundleOf(await packFunction(folder));
    vi.stubEnv('PIP_INDEX_URL', 'http://127.0.0.1:9/simple/');
    vi.stubEnv('PIP_CONFIG_FILE', '/dev/null');
    try {
      await using opened = await open(dir.path, [code]);
      const lock = lockOf([lockedWheel({ name: 'main', version: '1.0', integrity: `sha256-${Buffer.alloc(32).toString('base64')}` })], 'python3');
      await expect(opened.programs.acquire({ bundleDigest: code.digest, lock })).rejects.toMatchObject({ code: 'UNAVAILABLE', message: expect.stringContaining('main@1.0') });
    } finally {
      vi.unstubAllEnvs();
    }
  }, 120_000);
});

describe.skipIf(!hasPip)(`an address that is no wheel: ${NEEDS_PIP}`, () => {
  it('is refused by the agent, and pip builds nothing when it is asked to fetch it', async () => {
    await using dir = await tempDir();
    const evil = join(dir.path, 'evil-1.0');
    const ran = join(dir.path, 'ran');
    await mkdir(evil);
    await writeFile(join(evil, 'setup.py'), `open(${JSON.stringify(ran)}, 'w')\n`);
    await run('tar', ['-czf', join(dir.path, 'evil-1.0.tar.gz'), '-C', dir.path, 'evil-1.0']);
    const bytes = await readFile(join(dir.path, 'evil-1.0.tar.gz'));
    const integrity = `sha256-${createHash('sha256').update(bytes).digest('base64')}`;
    const server = createServer((_request, response) => void response.end(bytes));
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    try {
      const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/evil-1.0.tar.gz`;
      const store = join(dir.path, 'store');
      await mkdir(store);
      await expect(installPackage({ store, key: 'k', work: join(store, 'w'), runtime: 'python3', id: 'evil@1.0', name: 'evil', version: '1.0', integrity, url, python: 'python3', maxBytes: 1024 ** 2 })).rejects.toMatchObject({ code: 'PACKAGES_FAILED', message: expect.stringContaining('would have to be built') });
      expect(readdirSync(store)).toEqual([]);
      const code = bundleOf(await packFunction(evil));
      await using opened = await open(dir.path, [code]);
      await expect(opened.programs.acquire({ bundleDigest: code.digest, lock: lockOf([lockedWheel({ name: 'evil', version: '1.0', integrity }, { resolved: url })], 'python3') })).rejects.toMatchObject({ code: 'PACKAGES_FAILED', message: expect.stringContaining('its address must be a wheel (.whl)') });
      expect(existsSync(ran)).toBe(false);
    } finally {
      server.close();
      server.closeAllConnections();
    }
  }, 120_000);
});

describe('a wheel', () => {
  const unpack = async (bytes: Buffer, maxBytes = 1024 ** 2): Promise<string[]> => {
    await using dir = await tempDir();
    const file = join(dir.path, 'x.whl');
    await writeFile(file, bytes);
    const target = join(dir.path, 'in', 'side');
    await mkdir(target, { recursive: true });
    try {
      unpackWheel(file, target, maxBytes);
    } finally {
      expect(readdirSync(dir.path).sort()).toEqual(['in', 'x.whl']);
      expect(readdirSync(join(dir.path, 'in'))).toEqual(['side']);
    }
    return readdirSync(target, { recursive: true }).map(String).sort();
  };

  it('is unpacked with the bytes that were packed', async () => {
    await using dir = await tempDir();
    const large = Buffer.from(Array.from({ length: 200_000 }, (_, i) => i % 251));
    const { path } = await makeWheel(dir.path, 'a', '1', { 'a/__init__.py': '', 'a/data.bin': large, empty: '' });
    const target = join(dir.path, 'target');
    await mkdir(target);
    unpackWheel(path, target, 1024 ** 2);
    expect((await readFile(join(target, 'a/data.bin'))).equals(large)).toBe(true);
    expect(statSync(join(target, 'a/data.bin')).mode & 0o777).toBe(0o444);
  });

  it.each([
    ['a path above it', { '../evil.py': '' }, /"\.\.\/evil\.py" would lie outside/],
    ['an absolute path', { '/evil.py': '' }, /would lie outside/],
    ['a hidden way up', { 'a/../../evil.py': '' }, /would lie outside/],
    ['no files', {}, /it has no files/],
  ])('with %s is refused', async (_what, files, message) => {
    await expect(unpack(zip(files))).rejects.toThrow(message);
  });

  it('that is cut off, changed, or larger than allowed is refused', async () => {
    const good = zip({ 'a.py': 'x = 1', 'b.py': 'y'.repeat(1_000) });
    expect(await unpack(good)).toEqual(['a.py', 'b.py']);
    await expect(unpack(good.subarray(0, good.length - 30))).rejects.toThrow('it is no zip archive');
    await expect(unpack(good.subarray(10))).rejects.toThrow();
    const changed = Buffer.from(good);
    changed[changed.indexOf('yyyy') + 5] = 0x7a;
    await expect(unpack(changed)).rejects.toThrow('"b.py" does not match its checksum');
    await expect(unpack(good, 500)).rejects.toThrow('more than 500 B unpacked');
    await expect(unpack(Buffer.from('no zip'))).rejects.toThrow('it is no zip archive');
  });
});
