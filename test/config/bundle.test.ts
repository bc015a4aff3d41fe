/** Bundles: deterministic, bounded, without surprises. */
import { chmod, link, mkdir, mkdtemp, readFile, rm, symlink, utimes, writeFile } from 'node:fs/promises';
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
    await writeFile(join(code, '.npmrc'), '//registry.example/:_authToken=secret\n');
    expect(await namesIn(await packFunction(code))).toEqual(['handler.mjs', 'lib/a.mjs', 'lib/data/x']);
  });

  it('takes in files that are named, and nothing else of their folder', async () => {
    await mkdir(join(code, 'wheels'));
    for (const name of ['a.whl', 'b.whl']) await writeFile(join(code, 'wheels', name), name);
    expect(await namesIn(await packFunction(code))).toContain('wheels/b.whl');
    expect(await namesIn(await packFunction(code, { files: [{ name: 'wheels/a.whl', path: join(code, 'wheels', 'a.whl') }] }))).toEqual(['handler.mjs', 'lib/a.mjs', 'wheels/a.whl']);
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
