/** Outputs on another file system than the store, while their maker plays with them. */
import { existsSync, readFileSync, renameSync, rmSync, statSync, symlinkSync, utimesSync, writeFileSync } from 'node:fs';
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { startDataThread } from '../../src/agent/objects/data-thread.ts';
import { ObjectStore } from '../../src/agent/objects/object-store.ts';
import { silent, tempDir } from './harness.ts';

/** What happens right after the agent looked at a path. */
const afterLook = vi.hoisted(() => ({ act: (_path: unknown): void => {} }));
vi.mock('node:fs/promises', async (original) => {
  const real = await original<typeof import('node:fs/promises')>();
  return {
    ...real,
    async lstat(path: string) {
      const found = await real.lstat(path);
      afterLook.act(path);
      return found;
    },
  };
});

const SHM = '/dev/shm';
const hasOther = existsSync(SHM) && statSync(SHM).dev !== statSync(tmpdir()).dev;

describe.skipIf(!hasOther)('an output on another file system', () => {
  const thread = startDataThread({ link: { bytesPerS: 0, latencyMs: 0 }, log: silent });
  let far = '';
  beforeAll(async () => {
    far = await mkdtemp(join(SHM, 'metronome-foreign-'));
  });
  afterAll(async () => {
    await thread.stop();
    await rm(far, { recursive: true, force: true });
  });

  async function adopt(path: string): Promise<{ readonly outcome: string; readonly copied: number; readonly left: readonly string[] }> {
    await using dir = await tempDir();
    const store = await ObjectStore.open({ dir: dir.path, node: 'here', quotaBytes: 1024 ** 3, ttlMs: 0, digestOf: thread.digestOf, onAdded: () => {}, onRemoved: () => {} });
    const outcome = await store.adopt(path, 'out').then((object) => readFileSync(object.path, 'latin1').slice(0, 6), (error: { code: string }) => error.code);
    const left = await readdir(join(dir.path, 'tmp'));
    await store.close();
    return { outcome, copied: store.handOvers.copied, left };
  }

  it('is copied in, verified, and gone from its place', async () => {
    const path = join(far, 'plain');
    writeFileSync(path, 'harmless'.repeat(400_000));
    expect(await adopt(path)).toEqual({ outcome: 'harmle', copied: 1, left: [] });
    expect(existsSync(path)).toBe(false);
  });

  it.each([1, 2])('that becomes a link, or another file of its size and time, after look %i never brings in what it leads to', async (look) => {
    const secret = join(far, 'secret');
    for (const way of ['link', 'file']) {
      const path = join(far, `out-${look}-${way}`);
      for (const [file, text] of [[path, 'mine! '], [secret, 'secret']] as const) {
        writeFileSync(file, text.repeat(100));
        utimesSync(file, 1_000, 1_000);
      }
      let looks = 0;
      afterLook.act = (seen) => {
        if (seen !== path || ++looks !== look) return;
        if (way === 'link') {
          rmSync(path);
          symlinkSync(secret, path);
        } else renameSync(secret, path);
      };
      const { outcome, left } = await adopt(path);
      expect([way, outcome === 'secret', left]).toEqual([way, false, []]);
      // There was no second look where the first was enough.
      expect(outcome).toBe(looks < look ? 'mine! ' : 'OBJECT_CORRUPT');
    }
  });
});
