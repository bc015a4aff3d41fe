/** Resolution of packages when a function is applied: lockfiles as they stand, npm and pip where there is none, clear refusals. */
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { chmod, mkdir, mkdtemp, readFile, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pacote from 'pacote';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { countPackages, parseLockfile } from '../../src/config/lockfile.ts';
import { isForPlatform, sealLock, validatePackageLock } from '../../src/config/package-lock.ts';
import { resolvePackages, type ResolveOptions } from '../../src/config/packages.ts';
import { LockedPackage } from '../../src/rpc/gen/metronome/v1/function.ts';
import { makeWheel } from '../agent/wheels.ts';

// Its types know an older version.
const { RemoteFetcher } = pacote as unknown as { readonly RemoteFetcher: new (spec: string, options: object) => object };

let folder = '';
let code = '';
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'metronome-resolve-'));
  code = join(folder, 'code');
  await mkdir(code);
});
afterEach(() => rm(folder, { recursive: true, force: true }));

const sri = (text: string): string => `sha512-${createHash('sha512').update(text).digest('base64')}`;
const entry = (more: object = {}): object => ({ version: '1.0.0', integrity: sri('x'), ...more });
const lockfile = (packages: Readonly<Record<string, object>>): string => JSON.stringify({ name: 'x', lockfileVersion: 3, requires: true, packages });

describe('a package-lock.json', () => {
  const parse = (packages: Readonly<Record<string, object>>) => parseLockfile(lockfile(packages), 'code/package-lock.json');

  it('becomes a lock without development packages, with what the function names itself marked', () => {
    const lock = parse({
      '': { dependencies: { a: '^1.0.0' }, optionalDependencies: { o: '1' }, devDependencies: { d: '1' } },
      'node_modules/a': entry({ dependencies: { b: '1' }, peerDependencies: { p: '*' }, optionalDependencies: { o: '1' }, resolved: 'https://registry.example/a/-/a-1.0.0.tgz' }),
      'node_modules/a/node_modules/b': entry({ integrity: `sha1-${Buffer.alloc(20).toString('base64')} ${sri('b')}` }),
      'node_modules/d': entry({ dev: true }),
      'node_modules/o': entry({ optional: true, os: ['linux'], cpu: 'x64', libc: ['musl'] }),
      'node_modules/@s/alias': entry({ name: '@s/real', version: '2.0.0', resolved: 'https://npm.example/@s/real/-/real-2.0.0.tgz' }),
      'node_modules/bundled': { version: '1.0.0', inBundle: true },
      'node_modules/far': entry({ resolved: 'https://codeload.example/far.tgz' }),
      'node_modules/near': entry({ resolved: 'file:./lib/near.tgz' }),
    });
    expect(lock.packages.map(({ path, name, direct, resolved, dependencies }) => [path, name, direct, resolved, dependencies.join(' ')])).toEqual([
      ['node_modules/@s/alias', '@s/real', false, '', ''],
      ['node_modules/a', 'a', true, '', 'b o p'],
      ['node_modules/a/node_modules/b', 'b', false, '', ''],
      ['node_modules/far', 'far', false, 'https://codeload.example/far.tgz', ''],
      ['node_modules/near', 'near', false, 'file:lib/near.tgz', ''],
      ['node_modules/o', 'o', true, '', ''],
    ]);
    expect(lock.packages.find(({ name }) => name === 'b')?.integrity).toBe(sri('b'));
    expect(lock.packages.find(({ name }) => name === 'o')).toMatchObject({ optional: true, os: ['linux'], cpu: ['x64'], libc: ['musl'] });
    expect(countPackages(lock)).toBe(5);
    expect(validatePackageLock(lock, 'node')).toEqual([]);
  });

  it('gives the same digest whatever the order and the registry, and another one for any other content', () => {
    const a = entry({ resolved: 'https://registry.example/a/-/a-1.0.0.tgz' });
    const one = parse({ '': {}, 'node_modules/a': a, 'node_modules/b': entry() });
    expect(parse({ '': {}, 'node_modules/b': entry(), 'node_modules/a': entry() }).digest).toBe(one.digest);
    expect(parse({ '': {}, 'node_modules/b': entry(), 'node_modules/a': entry({ integrity: sri('other') }) }).digest).not.toBe(one.digest);
    expect(parse({ '': { dependencies: { a: '1' } }, 'node_modules/b': entry(), 'node_modules/a': entry() }).digest).not.toBe(one.digest);
  });

  it.each([
    ['a workspace', { 'packages/w': { version: '1.0.0' } }, /packages\/w is a folder of this project/],
    ['a link', { 'node_modules/w': { resolved: 'packages/w', link: true } }, /node_modules\/w is a link to a folder/],
    ['git', { 'node_modules/g': entry({ resolved: 'git+ssh://git@example.com/x/g.git#abc' }) }, /node_modules\/g comes from git, which is not supported/],
    ['no integrity', { 'node_modules/n': { version: '1.0.0' } }, /node_modules\/n has no integrity/],
    ['a password', { 'node_modules/p': entry({ resolved: 'https://me:secret@example.com/p.tgz' }) }, /node_modules\/p must not carry a user or a password/],
    ['a place outside', { 'node_modules/../../etc': entry() }, /node_modules\/\.\.\/\.\.\/etc must be/],
  ])('with %s is refused with the file and the package', (_what, packages, message) => {
    let error: unknown;
    try {
      parse({ '': {}, ...packages });
    } catch (thrown) {
      error = thrown;
    }
    expect(error).toMatchObject({ code: 'MANIFEST_INVALID', message: expect.stringMatching(message) });
    expect(String(error)).toContain('code/package-lock.json');
    expect(String(error)).not.toContain('secret');
  });
});

describe('a lock from a stranger', () => {
  const good = LockedPackage.fromPartial({ name: 'a', version: '1.0.0', integrity: sri('a'), path: 'node_modules/a' });
  const problems = (more: Partial<LockedPackage>, runtime = 'node'): string[] => validatePackageLock({ digest: '', runtime, packages: [{ ...good, ...more }] }, runtime).map(({ field, description }) => `${field} ${description}`);

  it.each<[Partial<LockedPackage>, string]>([
    [{ name: '../a' }, 'lock.packages[0].name "../a" is not the name of a package'],
    [{ version: '^1.0.0' }, 'lock.packages[0].version must be an exact version, not "^1.0.0"'],
    [{ version: '../../x' }, 'lock.packages[0].version must be'],
    [{ integrity: 'sha512-short' }, 'lock.packages[0].integrity must be an algorithm and a digest'],
    [{ integrity: 'md5-AAAAAAAAAAAAAAAAAAAAAA==' }, 'lock.packages[0].integrity must be'],
    [{ path: 'a' }, 'lock.packages[0].path must be a place such as'],
    [{ path: 'node_modules/a/../../b' }, 'lock.packages[0].path must be'],
    [{ path: '/node_modules/a' }, 'lock.packages[0].path must be'],
    [{ path: 'node_modules/..' }, 'lock.packages[0].path must be'],
    [{ resolved: 'file:../../etc/passwd' }, 'lock.packages[0].resolved must be a file of the bundle'],
    [{ resolved: 'file:/etc/passwd' }, 'lock.packages[0].resolved must be a file of the bundle'],
    [{ resolved: 'ftp://x/y' }, 'lock.packages[0].resolved must be'],
    [{ resolved: 'file:lib/folder' }, 'lock.packages[0].resolved must be an archive (.tgz); a folder would have to be built'],
    [{ resolved: 'https:github.com/x/y' }, 'lock.packages[0].resolved must be'],
    [{ resolved: 'https://example.com/a\n.tgz' }, 'lock.packages[0].resolved must be an address without blanks'],
    [{ resolved: 'https://example.com/${TOKEN}.tgz' }, 'lock.packages[0].resolved must be an address without blanks'],
    [{ resolved: 'https://github.com/x/y.git' }, 'lock.packages[0].resolved must be an archive; "https://github.com/x/y.git" is a repository for npm'],
    [{ dependencies: ['..'] }, 'lock.packages[0].dependencies has a name'],
    [{ os: ['li nux'] }, 'lock.packages[0] has platforms'],
  ])('is refused for %j', (more, message) => {
    expect(problems(more)).toEqual([expect.stringContaining(message)]);
  });

  it('may have no address that is a repository for npm, and any archive beside repositories', () => {
    const isRefused = (resolved: string): boolean => problems({ resolved }).length > 0;
    const isArchive = (resolved: string): boolean => {
      try {
        return Object.hasOwn(new RemoteFetcher(resolved, {}), 'spec');
      } catch {
        return false; // it is for git
      }
    };
    const repositories = ['github.com/x/y', 'github.com/x/y.git', 'github.com/x/y.tgz', 'www.github.com/x/y', 'GitHub.com/%78/y', 'github.com:443/x/y#v1', 'github.com/x/y/tree/main', 'gitlab.com/a/b', 'gitlab.com/a/b/c.tgz', 'gitlab.com/a/b/raw/c.tgz', 'bitbucket.org/a/b', 'bitbucket.org/a/b/downloads/c.tgz', 'gist.github.com/a/b', 'git.sr.ht/~a/b'];
    const archives = ['github.com/x/y/releases/download/v1/z.tgz', 'github.com/x/y/archive/v1.tar.gz', 'codeload.github.com/x/y/tar.gz/abc', 'gitlab.com/a/b/-/archive/v1/b.tar.gz', 'bitbucket.org/a/b/get/v1.tar.gz', 'gist.github.com/a/b/raw/c.tgz', 'git.sr.ht/~a/b/archive/v1.tar.gz', 'example.com/x/y'];
    for (const [addresses, expected] of [[repositories, [true, false]], [archives, [false, true]]] as const) {
      for (const address of addresses) expect([address, isRefused(`https://${address}`), isArchive(`https://${address}`)]).toEqual([address, ...expected]);
    }
  });

  it('has wheels only when it is for Python', () => {
    const python = (resolved: string): string[] => problems({ resolved, path: 'a', integrity: `sha256-${Buffer.alloc(32).toString('base64')}` }, 'python3');
    for (const good of ['', 'file:wheels/a-1.whl', 'https://example.com/a-1-py3-none-any.whl']) expect(python(good)).toEqual([]);
    for (const bad of ['file:a-1.tar.gz', 'http://h/evil-1.0.tar.gz', 'http://h/evil-1.0.tar.gz#a.whl', 'http://h/evil-1.0.tar.gz?a.whl', 'http://h/a.whl/../b.tar.gz']) expect(python(bad)).toEqual([expect.stringContaining('lock.packages[0].resolved must be a wheel (.whl)')]);
    for (const bad of ['http://h/a.whl\n-e ./evil\n#.whl', 'http://h/a.whl --config-settings=x.whl', 'http://h/${SECRET}.whl']) expect(python(bad)).toEqual([expect.stringContaining('lock.packages[0].resolved must be an address without blanks')]);
  });

  it('is refused for a place that is taken, another runtime, and too many packages', () => {
    expect(problems({})).toEqual([]);
    expect(validatePackageLock({ digest: '', runtime: 'node', packages: [good, good] }, 'node')).toMatchObject([{ field: 'lock.packages[1].path' }]);
    expect(validatePackageLock({ digest: '', runtime: 'node', packages: [] }, 'python3')).toMatchObject([{ field: 'lock.runtime' }]);
    expect(validatePackageLock({ digest: '', runtime: 'node', packages: Array.from({ length: 4_097 }, () => good) }, 'node')).toEqual([{ field: 'lock.packages', description: 'must be at most 4096 packages, not 4097' }]);
    expect(problems({ path: 'a', integrity: sri('a') }, 'python3')).toEqual([expect.stringContaining('must be "sha256-"')]);
  });

  it('has the digest that it should have, not the one that it says', () => {
    expect(sealLock({ digest: 'f'.repeat(64), runtime: 'node', packages: [good] }).digest).toBe(sealLock({ digest: '', runtime: 'node', packages: [{ ...good, unpackedBytes: 5 }] }).digest);
  });
});

it('platforms are allowed and forbidden as npm does it', () => {
  const here = { os: 'linux', cpu: 'x64', libc: 'glibc' };
  const of = (os: string[], cpu: string[] = [], libc: string[] = []): boolean => isForPlatform({ os, cpu, libc }, here);
  expect([of([]), of(['linux']), of(['!win32']), of(['darwin', 'linux'], ['x64', 'arm64'], ['glibc']), of(['any'])]).toEqual([true, true, true, true, true]);
  expect([of(['darwin']), of(['!linux']), of([], ['arm64']), of(['linux'], [], ['musl'])]).toEqual([false, false, false, false]);
  expect(isForPlatform({ os: [], cpu: [], libc: ['glibc'] }, { os: 'darwin', cpu: 'x64', libc: '' })).toBe(false);
});

describe('the packages of a Node function', () => {
  /** A stand-in for npm that writes a lockfile, counts its runs and can fail. */
  async function fakeNpm(script: string): Promise<string> {
    const path = join(folder, 'npm.mjs');
    await writeFile(path, `#!${process.execPath}\nimport { appendFileSync, readFileSync, writeFileSync } from 'node:fs';\nappendFileSync(${JSON.stringify(join(folder, 'runs'))}, process.argv.slice(2).join(' ') + '\\n');\n${script}`);
    await chmod(path, 0o755);
    return path;
  }
  const LOCKS = `const { dependencies } = JSON.parse(readFileSync('package.json', 'utf8')); writeFileSync('package-lock.json', JSON.stringify({ lockfileVersion: 3, packages: { '': { dependencies }, ...Object.fromEntries(Object.keys(dependencies).map((name) => ['node_modules/' + name, { version: '1.2.3', integrity: ${JSON.stringify(sri('p'))} }])) } }));`;
  const runs = async (): Promise<string[]> => (await readFile(join(folder, 'runs'), 'utf8')).trim().split('\n');
  const resolve = (packages: Readonly<Record<string, string>>, options: ResolveOptions = {}) => resolvePackages({ codeDir: code, runtime: 'node', packages }, { cacheDir: join(folder, 'cache'), ...options });

  it('are none without lockfile and names', async () => {
    expect(await resolve({}, { npm: await fakeNpm('process.exit(1)') })).toEqual({ lock: undefined, files: [] });
  });

  it('come from the lockfile, untouched by npm, and must be in it when the manifest names them', async () => {
    await writeFile(join(code, 'package-lock.json'), lockfile({ '': { dependencies: { a: '1' } }, 'node_modules/a': entry() }));
    const options = { npm: await fakeNpm('process.exit(1)') };
    expect((await resolve({ a: '^1.0.0' }, options)).lock?.packages).toMatchObject([{ name: 'a', version: '1.0.0', direct: true }]);
    await expect(resolve({ z: '1' }, options)).rejects.toMatchObject({ code: 'PACKAGES_FAILED', message: expect.stringContaining('the manifest names "z", but package-lock.json does not have it') });
  });

  it('that are files must lie in the code folder', async () => {
    await writeFile(join(code, 'package-lock.json'), lockfile({ '': {}, 'node_modules/a': entry({ resolved: 'file:a.tgz' }) }));
    await expect(resolve({})).rejects.toMatchObject({ code: 'PACKAGES_FAILED', message: expect.stringContaining('"node_modules/a" from the file "a.tgz", which is not in the code folder') });
    await writeFile(join(code, 'a.tgz'), '');
    expect((await resolve({})).lock?.packages[0]?.resolved).toBe('file:a.tgz');
  });

  it('are resolved by npm once for each set of ranges, without running scripts', async () => {
    const told: string[] = [];
    const options: ResolveOptions = { npm: await fakeNpm(LOCKS), onRun: (program) => told.push(program) };
    const first = await resolve({ b: '*', a: '^1.0.0' }, options);
    expect(first.lock?.packages.map(({ name, version }) => `${name}@${version}`)).toEqual(['a@1.2.3', 'b@1.2.3']);
    expect((await resolve({ a: '^1.0.0', b: '*' }, options)).lock?.digest).toBe(first.lock?.digest);
    expect(await runs()).toEqual([expect.stringMatching(/^install --package-lock-only --ignore-scripts --omit=dev/)]);
    expect(told).toEqual(['npm']);
    await resolve({ a: '^2.0.0' }, options);
    expect(await runs()).toHaveLength(2);
    await resolve({ a: '^2.0.0' }, { ...options, nowMs: Date.now() + 25 * 3_600_000 });
    expect(await runs()).toHaveLength(3);
    expect((await readdir(join(folder, 'cache'))).filter((name) => name.startsWith('.work'))).toEqual([]);
    expect(await readdir(code)).toEqual([]);
  });

  it('may be resolved by several at once', async () => {
    const options = { npm: await fakeNpm(LOCKS) };
    const all = await Promise.all([1, 2, 3].map(() => resolve({ a: '1' }, options)));
    expect(new Set(all.map(({ lock }) => lock?.digest)).size).toBe(1);
  });

  it('fail with what npm said, in short and without passwords', async () => {
    const npm = await fakeNpm(`console.error('npm error code E404\\nnpm error 404 Not Found - GET https://me:secret@registry.example/p\\nnpm error A complete log of this run can be found in: /x'); process.exit(1);`);
    await expect(resolve({ p: '1' }, { npm })).rejects.toMatchObject({ code: 'PACKAGES_FAILED', message: expect.stringMatching(/cannot be resolved: 404 Not Found - GET https:\/\/registry\.example\/p\.$/) });
    expect(await readdir(join(folder, 'cache'))).toEqual([]);
  });

  it('fail when npm is not there or takes too long', async () => {
    await expect(resolve({ p: '1' }, { npm: join(folder, 'none') })).rejects.toMatchObject({ code: 'PACKAGES_FAILED', message: expect.stringContaining('none was not found') });
    await expect(resolve({ p: '1' }, { npm: await fakeNpm('setInterval(() => {}, 1000)'), timeoutMs: 300 })).rejects.toMatchObject({ code: 'PACKAGES_FAILED', message: expect.stringContaining('longer than 300 ms') });
  });
});

const pip = spawnSync('python3', ['-m', 'pip', '--version']);
describe.skipIf(pip.status !== 0)('the packages of a Python function (pip: apt-get install -y python3-pip)', () => {
  const resolve = (packages: Readonly<Record<string, string>> = {}, options: ResolveOptions = {}) => resolvePackages({ codeDir: code, runtime: 'python3', packages }, options);

  it('are none without requirements', async () => {
    expect(await resolve({}, { python: join(folder, 'none') })).toEqual({ lock: undefined, files: [] });
  });

  it('come from the folder of wheels, with all that they need, and go into the bundle', async () => {
    await mkdir(join(code, 'wheels'));
    const main = await makeWheel(join(code, 'wheels'), 'Main.Thing', '1.0', { 'main_thing.py': '' }, { requires: ['helper>=1', 'absent; python_version < "3"'] });
    const helper = await makeWheel(join(code, 'wheels'), 'helper', '1.5', { 'helper.py': '' });
    await makeWheel(join(code, 'wheels'), 'helper', '0.5', { 'helper.py': '' });
    await writeFile(join(code, 'requirements.txt'), '# what it needs\nMain.Thing==1.0\n');
    const { lock, files } = await resolve();
    expect(lock?.packages).toMatchObject([
      { name: 'helper', version: '1.5', path: 'helper', direct: false, resolved: `file:wheels/${helper.file}`, integrity: helper.integrity },
      { name: 'main-thing', version: '1.0', path: 'main-thing', direct: true, resolved: `file:wheels/${main.file}`, integrity: main.integrity, dependencies: ['helper'] },
    ]);
    expect(files.map(({ name }) => name).sort()).toEqual([`wheels/${main.file}`, `wheels/${helper.file}`].sort());
    expect((await resolve({ helper: '1.5' })).lock?.packages.map(({ direct }) => direct)).toEqual([true, true]);
    // The same wheels, named by the manifest.
    await rm(join(code, 'requirements.txt'));
    expect((await resolve({ 'Main.Thing': '*' })).lock?.digest).toBe(lock?.digest);
  }, 60_000);

  it('that would have to be built are refused, and nothing of them has run', async () => {
    const evil = join(code, 'evil');
    const ran = join(folder, 'ran');
    await mkdir(evil);
    await writeFile(join(evil, 'pyproject.toml'), '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n[project]\nname = "evil"\nversion = "1.0"\n');
    await writeFile(join(evil, 'backend.py'), `open(${JSON.stringify(ran)}, 'w')\n`);
    await writeFile(join(evil, 'PKG-INFO'), 'Metadata-Version: 2.1\nName: evil\nVersion: 1.0\n');
    spawnSync('tar', ['-czf', join(code, 'evil-1.0.tar.gz'), '-C', code, 'evil']);
    spawnSync('git', ['init', '-q', evil]);
    // A name in the folder of the code is no module of pip.
    await writeFile(join(code, 'logging.py'), `open(${JSON.stringify(ran)}, 'w')\n`);
    await mkdir(join(code, 'wheels'));
    await makeWheel(join(code, 'wheels'), 'innocent', '1.0', { 'innocent.py': '' }, { requires: [`evil @ file://${evil}`] });
    for (const line of ['./evil', '-e ./evil', './evil-1.0.tar.gz', `evil @ file://${evil}`, `git+file://${evil}`, 'innocent']) {
      await writeFile(join(code, 'requirements.txt'), `# what it needs\n${line}\n`);
      await expect(resolve(), line).rejects.toMatchObject({ code: 'PACKAGES_FAILED', message: expect.stringContaining(`${line === 'innocent' ? 'something that its requirements need' : `"${line}"`} is no wheel but`) });
      expect([line, existsSync(ran)]).toEqual([line, false]);
    }
  }, 120_000);

  it('fail with what pip said', async () => {
    await mkdir(join(code, 'wheels'));
    await writeFile(join(code, 'requirements.txt'), 'nowhere==3.0\n');
    await expect(resolve()).rejects.toMatchObject({ code: 'PACKAGES_FAILED', message: expect.stringMatching(/cannot be resolved: .*nowhere==3\.0/) });
    await expect(resolve({}, { python: join(folder, 'none') })).rejects.toMatchObject({ code: 'PACKAGES_FAILED', message: expect.stringContaining('none was not found') });
  }, 60_000);
});
