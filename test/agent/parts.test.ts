/** The small parts: frames, captured output, bundles, silence. */
import { randomBytes } from 'node:crypto';
import { existsSync, readFileSync, readdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { mkdir, readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import fc from 'fast-check';
import { Packr } from 'msgpackr';
import { create } from 'tar';
import { describe, expect, it, vi } from 'vitest';
import { BundleCache, unpackBundle } from '../../src/agent/packages/bundle-cache.ts';
import { watchSilence } from '../../src/agent/packages/silence.ts';
import { OutputCapture } from '../../src/agent/sandbox/output-capture.ts';
import { FrameReader, decodeFrame } from '../../src/agent/sandbox/sandbox-frames.ts';
import { bundleOf, tempDir, type Bundle } from './harness.ts';

describe('captured output', () => {
  it('keeps head and tail of anything in any chunks and counts exactly what is missing', () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 40 }), fc.array(fc.string({ unit: fc.constantFrom(...'abcdefghij'), maxLength: 30 }), { maxLength: 20 }), (maxBytes, chunks) => {
        const capture = new OutputCapture(maxBytes);
        for (const chunk of chunks) capture.push(Buffer.from(chunk));
        const all = chunks.join('');
        const { text, truncatedBytes } = capture.take();
        expect(truncatedBytes).toBe(Math.max(0, all.length - maxBytes));
        if (all.length <= maxBytes) expect(text).toBe(all);
        else {
          const head = Math.ceil(maxBytes / 2);
          const tail = maxBytes - head;
          expect(text.startsWith(all.slice(0, head))).toBe(true);
          expect(text.endsWith(tail === 0 ? '' : all.slice(-tail))).toBe(true);
        }
        expect(capture.isEmpty).toBe(true);
        expect(capture.take()).toEqual({ text: '', truncatedBytes: 0 });
      }),
    );
  });
});

describe('frames', () => {
  const packr = new Packr({ useRecords: false });
  const framed = (value: unknown): Buffer => {
    const body = packr.pack(value);
    const head = Buffer.alloc(4);
    head.writeUInt32BE(body.length);
    return Buffer.concat([head, body]);
  };

  it('come out whole, however the bytes are cut', () => {
    fc.assert(
      fc.property(fc.array(fc.uint8Array({ maxLength: 200 }), { maxLength: 6 }), fc.array(fc.integer({ min: 1, max: 300 }), { minLength: 1, maxLength: 10 }), (payloads, cuts) => {
        const bytes = Buffer.concat(payloads.map((payload) => framed({ kind: 'done', seq: 1, ranMs: 0, contentType: '', payload: Buffer.from(payload), hasOutputs: false })));
        const reader = new FrameReader(10_000);
        const got: Buffer[] = [];
        for (let at = 0, i = 0; at < bytes.length; i++) {
          const length = cuts[i % cuts.length] ?? 1;
          expect(reader.feed(Buffer.from(bytes.subarray(at, at + length)), (body) => {
            const frame = decodeFrame(body);
            if (frame?.kind === 'done') got.push(frame.payload);
          })).toBe(true);
          at += length;
        }
        expect(got.map((payload) => [...payload])).toEqual(payloads.map((payload) => [...payload]));
      }),
    );
  });

  it('that announce more than allowed are refused before anything is collected', () => {
    expect(new FrameReader(10).feed(Buffer.from([0, 0, 0, 11]), () => {})).toBe(false);
  });

  it('that are garbage are no frames and harm nobody', () => {
    fc.assert(fc.property(fc.uint8Array({ maxLength: 100 }), (bytes) => {
      const frame = decodeFrame(Buffer.from(bytes));
      expect(frame === undefined || typeof frame.kind === 'string').toBe(true);
    }));
    for (const value of [null, 1, [], {}, { kind: 'done' }, { kind: 'done', seq: 1, ranMs: -1 }, { kind: 'done', seq: 1, ranMs: 1, payload: 'text', contentType: 'a', hasOutputs: false }, { kind: 'other', seq: 1, ranMs: 1 }]) {
      expect(decodeFrame(packr.pack(value))).toBeUndefined();
    }
  });
});

describe('a bundle', () => {
  async function packed(dir: string, entries: string[], options: object = {}): Promise<Buffer> {
    const chunks: Buffer[] = [];
    for await (const chunk of create({ gzip: true, cwd: dir, preservePaths: true, ...options }, entries)) chunks.push(chunk as Buffer);
    return Buffer.concat(chunks);
  }

  it('is unpacked with folders and inner links', async () => {
    await using from = await tempDir();
    await using to = await tempDir();
    await mkdir(join(from.path, 'lib'));
    await writeFile(join(from.path, 'lib/a.mjs'), 'export {}');
    symlinkSync('lib/a.mjs', join(from.path, 'link.mjs'));
    expect(await unpackBundle(await packed(from.path, ['lib', 'link.mjs']), to.path)).toBe(9);
    expect(readFileSync(join(to.path, 'link.mjs'), 'utf8')).toBe('export {}');
  });

  it('with paths or links that lead outside, or that is none at all, is refused before anything is written', async () => {
    await using from = await tempDir();
    await using to = await tempDir();
    await mkdir(join(from.path, 'sub'));
    await writeFile(join(from.path, 'outside'), 'x');
    symlinkSync('/etc/hostname', join(from.path, 'absolute'));
    symlinkSync('../../outside', join(from.path, 'sub', 'up'));
    const bad = [
      await packed(join(from.path, 'sub'), ['../outside']), await packed(from.path, [join(from.path, 'outside')]), await packed(from.path, ['absolute']), await packed(from.path, ['sub']),
      Buffer.from('this is no archive'), Buffer.alloc(0),
    ];
    for (const [i, bytes] of bad.entries()) {
      await expect(unpackBundle(bytes, to.path), `case ${i}`).rejects.toMatchObject({ code: 'FUNCTION_LOAD_FAILED' });
      expect(await readdir(to.path)).toEqual([]);
    }
  });

  it('that comes again while it waits to be removed stays', async () => {
    await using from = await tempDir();
    await using dir = await tempDir();
    const made = async (name: string, files: number): Promise<Bundle> => {
      const folder = join(from.path, name);
      await mkdir(folder);
      for (let i = 0; i < files; i++) writeFileSync(join(folder, String(i)), name);
      await writeFile(join(folder, 'a'), Buffer.alloc(600, name));
      return bundleOf(await packed(folder, ['.']));
    };
    // So many files that the removal of the first takes longer than the second needs to come again.
    const [large, small, other] = [await made('large', 10_000), await made('small', 0), await made('other', 0)];
    const cache = await BundleCache.open({
      dir: dir.path, maxBytes: 1_000,
      fetch: async (digest) => [large, small, other].find((one) => one.digest === digest)?.bytes ?? Buffer.alloc(0),
      onAdded: () => {}, onRemoved: () => {},
    });
    for (const { digest } of [large, small, other]) (await cache.acquire(digest)).release();
    expect(cache.list()).toEqual([other.digest]);
    const lease = await cache.acquire(small.digest);
    await cache.close();
    expect(existsSync(join(lease.dir, 'a'))).toBe(true);
    expect(readdirSync(dir.path).sort()).toEqual([small.digest, `${small.digest}.json`]);
  }, 60_000);

  it('with a large file is taken in no faster than it can be written', async () => {
    await using from = await tempDir();
    await using to = await tempDir();
    await writeFile(join(from.path, 'a'), randomBytes(8 * 1024 ** 2));
    const warnings: Error[] = [];
    const warn = (warning: Error): void => void warnings.push(warning);
    process.on('warning', warn);
    try {
      expect(await unpackBundle(await packed(from.path, ['a']), to.path)).toBe(8 * 1024 ** 2);
      await new Promise(setImmediate);
    } finally {
      process.off('warning', warn);
    }
    expect(warnings).toEqual([]);
  });

  it('is fetched once for all who need it, verified, and dropped only when nobody uses it', async () => {
    await using from = await tempDir();
    await using dir = await tempDir();
    await writeFile(join(from.path, 'a'), Buffer.alloc(600));
    const one = bundleOf(await packed(from.path, ['a']));
    await writeFile(join(from.path, 'a'), Buffer.alloc(600, 1));
    const two = bundleOf(await packed(from.path, ['a']));
    const fetched: string[] = [];
    const events: string[] = [];
    const cache = await BundleCache.open({
      dir: dir.path, maxBytes: 1_000,
      fetch: async (digest) => {
        fetched.push(digest);
        return digest === one.digest ? one.bytes : two.bytes;
      },
      onAdded: (digest) => void events.push(`+${digest.slice(0, 4)}`), onRemoved: (digest) => void events.push(`-${digest.slice(0, 4)}`),
    });
    const [first, second] = await Promise.all([cache.acquire(one.digest), cache.acquire(one.digest)]);
    expect(fetched).toEqual([one.digest]);
    const other = await cache.acquire(two.digest);
    expect(cache.list().sort()).toEqual([one.digest, two.digest].sort());
    first.release();
    first.release();
    second.release();
    other.release();
    await expect(cache.acquire('0'.repeat(64))).rejects.toMatchObject({ code: 'OBJECT_CORRUPT' });
    expect(events).toEqual([`+${one.digest.slice(0, 4)}`, `+${two.digest.slice(0, 4)}`]);
    await cache.close();
    expect(readdirSync(dir.path).filter((name) => name.startsWith('tmp-'))).toEqual([]);
  });
});

describe('silence', () => {
  it('is not what a thread misses that was busy, and is noticed once', async () => {
    let silent = 0;
    const watch = watchSilence(60, () => silent++);
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 300);
    // All timers that are due run now, then what came meanwhile is read.
    await new Promise((resolve) => setTimeout(resolve, 0));
    await new Promise(setImmediate);
    expect(silent).toBe(0);
    watch.heard();
    await vi.waitUntil(() => silent > 0, { interval: 1, timeout: 10_000 });
    expect(silent).toBe(1);
    watch.stop();
  });
});
