/** Bundles: deterministic, bounded, without surprises, and with the packages of the lockfile. */
import { chmod, link, mkdir, mkdtemp, readFile, readdir, rm, symlink, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { extract, list } from 'tar';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { packFunction } from '../../src/config/bundle.ts';

let folder = '';
let code = '';
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'metronome-bundle-'));
  code = join(folder, 'code');
  await mkdir(join(code, 'lib'), { recursive: true });
  await writeFile(join(code, 'handler.mjs'), 'export const handler = () => 1;\n');
  await writeFile(join(code, 'lib', 'a.mjs'), 'a');
});
afterEach(() => rm(folder, { recursive: true, force: true }));

async function namesIn(bundle: Uint8Array): Promise<string[]> {
  const file = join(folder, 'listed.tgz');
  await writeFile(file, bundle);
  const names: string[] = [];
  await list({ file, onReadEntry: (entry) => void names.push(entry.path) });
  return names;
}

describe('packFunction', () => {
  it('packs the files, sorted, and leaves out what is not code', async () => {
    for (const name of ['node_modules', '.git', 'data', '.metronome', 'lib/node_modules', 'lib/data']) {
      await mkdir(join(code, name));
      await writeFile(join(code, name, 'x'), 'x');
    }
    expect(await namesIn(await packFunction(code))).toEqual(['handler.mjs', 'lib/a.mjs', 'lib/data/x']);
  });

  it('gives the same bytes for the same files, whatever their times, owners and order', async () => {
    const first = await packFunction(code);
    const other = join(folder, 'other');
    await mkdir(join(other, 'lib'), { recursive: true });
    await writeFile(join(other, 'lib', 'a.mjs'), 'a');
    await writeFile(join(other, 'handler.mjs'), 'export const handler = () => 1;\n');
    await utimes(join(other, 'handler.mjs'), 1, 1);
    await chmod(join(other, 'handler.mjs'), 0o600);
    expect(Buffer.from(await packFunction(other)).equals(first)).toBe(true);
    await writeFile(join(other, 'handler.mjs'), 'export const handler = () => 2;\n');
    expect(Buffer.from(await packFunction(other)).equals(first)).toBe(false);
  });

  it('can be unpacked again, with long names, empty files, hard links and odd sizes', async () => {
    const long = `${'d'.repeat(90)}/${'e'.repeat(90)}/${'f'.repeat(120)}.txt`;
    await mkdir(join(code, long, '..'), { recursive: true });
    const contents: Record<string, string> = { [long]: 'long', empty: '', block: 'x'.repeat(512), odd: 'y'.repeat(300_001), '@at': 'at', 'ümlaut': 'ü' };
    for (const [name, content] of Object.entries(contents)) await writeFile(join(code, name), content);
    await link(join(code, 'odd'), join(code, 'same'));
    const target = join(folder, 'out');
    await mkdir(target);
    await writeFile(join(folder, 'b.tgz'), await packFunction(code));
    await extract({ file: join(folder, 'b.tgz'), cwd: target, strict: true });
    for (const [name, content] of Object.entries({ ...contents, same: contents['odd'] ?? '' })) expect(await readFile(join(target, name), 'utf8')).toBe(content);
  });

  it('keeps the right to execute and nothing else of the mode', async () => {
    await writeFile(join(code, 'run'), '#!/bin/sh\n');
    await chmod(join(code, 'run'), 0o4755);
    const modes: Record<string, number | undefined> = {};
    await writeFile(join(folder, 'b.tgz'), await packFunction(code));
    await list({ file: join(folder, 'b.tgz'), onReadEntry: (entry) => void (modes[entry.path] = entry.mode) });
    expect(modes).toMatchObject({ run: 0o755, 'handler.mjs': 0o644 });
  });

  it('follows links inside the folder and packs what they point to', async () => {
    await symlink('lib/a.mjs', join(code, 'b.mjs'));
    await symlink('lib', join(code, 'lib2'));
    expect(await namesIn(await packFunction(code))).toEqual(['b.mjs', 'handler.mjs', 'lib/a.mjs', 'lib2/a.mjs']);
  });

  it.each([
    ['outside', '../secret', /a link that leads outside the code folder: out/],
    ['to an absolute place outside', tmpdir(), /a link that leads outside the code folder: out/],
    ['nowhere', 'nothing', /a link that leads nowhere: out/],
    ['to a folder above it', '.', /a link to a folder above it: out/],
  ])('refuses a link that leads %s', async (_name, target, message) => {
    await writeFile(join(folder, 'secret'), 's');
    await symlink(target, join(code, 'out'));
    await expect(packFunction(code)).rejects.toMatchObject({ code: 'MANIFEST_INVALID', message: expect.stringMatching(message) });
  });

  it('names the largest files when the bundle is too large', async () => {
    await writeFile(join(code, 'big.bin'), Buffer.from(Array.from({ length: 60_000 }, (_, i) => (i * 7_919 + (i >> 3) * 104_729) & 255)));
    await expect(packFunction(code, { maxBytes: 1_000 })).rejects.toMatchObject({ code: 'MANIFEST_INVALID', message: expect.stringMatching(/at most 1000 B\. Largest files: big\.bin \(58\.6 KiB\), handler\.mjs/) });
  });

  it('says when there is no such folder', async () => {
    await expect(packFunction(join(folder, 'none'))).rejects.toMatchObject({ code: 'MANIFEST_INVALID' });
    await expect(packFunction(join(code, 'handler.mjs'))).rejects.toMatchObject({ code: 'MANIFEST_INVALID' });
  });

  it('has no times, owners or operating system inside', async () => {
    const bundle = await packFunction(code);
    expect(bundle[9]).toBe(255);
    expect([...bundle.subarray(4, 8)]).toEqual([0, 0, 0, 0]);
    const header = gunzipSync(bundle).subarray(0, 512);
    // uid and gid (108–124), mtime (136–148), user and group names (265–329).
    for (const [from, to] of [[108, 124], [136, 148], [265, 329]] as const) expect(header.subarray(from, to).every((byte) => byte === 0 || byte === 0x20 || byte === 0x30)).toBe(true);
  });
});

describe('packages of the lockfile', () => {
  /** A stand-in for npm that makes a package, counts its runs and can fail. */
  async function fakeNpm(script: string): Promise<string> {
    const path = join(folder, 'npm.mjs');
    await writeFile(path, `#!${process.execPath}\nimport { appendFileSync, mkdirSync, writeFileSync } from 'node:fs';\nappendFileSync(${JSON.stringify(join(folder, 'runs'))}, process.argv.slice(2).join(' ') + '\\n');\n${script}`);
    await chmod(path, 0o755);
    return path;
  }
  const PACKAGE = `mkdirSync('node_modules/p/node_modules/q', { recursive: true }); mkdirSync('node_modules/.bin'); for (const f of ['p/index.js', 'p/node_modules/q/index.js', '.bin/p', '.package-lock.json']) writeFileSync('node_modules/' + f, f);`;
  const runs = async (): Promise<string[]> => (await readFile(join(folder, 'runs'), 'utf8')).trim().split('\n');

  beforeEach(async () => {
    await writeFile(join(code, 'package.json'), '{"name":"x"}');
    await writeFile(join(code, 'package-lock.json'), '{"lockfileVersion":3,"packages":{"":{}}}');
  });

  it('are installed once for each lockfile and packed with the code', async () => {
    const options = { install: true, cacheDir: join(folder, 'cache'), npm: await fakeNpm(PACKAGE) };
    const bundle = await packFunction(code, options);
    expect(await namesIn(bundle)).toEqual(['handler.mjs', 'lib/a.mjs', 'node_modules/p/index.js', 'node_modules/p/node_modules/q/index.js', 'package-lock.json', 'package.json']);
    expect(Buffer.from(await packFunction(code, options)).equals(bundle)).toBe(true);
    expect(await runs()).toEqual([expect.stringMatching(/^ci --omit=dev --ignore-scripts/)]);
    await writeFile(join(code, 'package-lock.json'), '{"lockfileVersion":3,"packages":{"":{},"node_modules/p":{}}}');
    await packFunction(code, options);
    expect(await runs()).toHaveLength(2);
    expect((await readdir(join(folder, 'cache'))).filter((name) => name.startsWith('.work'))).toEqual([]);
  });

  it('may be installed by several at once', async () => {
    const options = { install: true, cacheDir: join(folder, 'cache'), npm: await fakeNpm(PACKAGE) };
    const [a, b, c] = await Promise.all([packFunction(code, options), packFunction(code, options), packFunction(code, options)]);
    expect(Buffer.from(a).equals(b) && Buffer.from(b).equals(c)).toBe(true);
  });

  it('are left alone without a lockfile or without install', async () => {
    const npm = await fakeNpm('process.exit(1)');
    expect(await namesIn(await packFunction(code, { npm }))).not.toContain('node_modules/p/index.js');
    await rm(join(code, 'package-lock.json'));
    await packFunction(code, { install: true, cacheDir: join(folder, 'cache'), npm });
  });

  it('fail with what npm said, in short', async () => {
    const npm = await fakeNpm(`console.error('npm error code E404\\nnpm error 404 Not Found - p@1\\nnpm error A complete log of this run can be found in: /x'); process.exit(1);`);
    await expect(packFunction(code, { install: true, cacheDir: join(folder, 'cache'), npm })).rejects.toMatchObject({ code: 'PACKAGES_FAILED', message: expect.stringMatching(/npm ci failed: 404 Not Found - p@1\.$/) });
    expect(await readdir(join(folder, 'cache'))).toEqual([]);
  });

  it('fail when npm is not there or takes too long', async () => {
    const cacheDir = join(folder, 'cache');
    await expect(packFunction(code, { install: true, cacheDir, npm: join(folder, 'none') })).rejects.toMatchObject({ code: 'PACKAGES_FAILED', message: expect.stringContaining('npm was not found') });
    await expect(packFunction(code, { install: true, cacheDir, npm: await fakeNpm('setInterval(() => {}, 1000)'), installTimeoutMs: 300 })).rejects.toMatchObject({ code: 'PACKAGES_FAILED', message: expect.stringContaining('longer than 300 ms') });
  });
});
