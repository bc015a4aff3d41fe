/** Which recordings a daemon lets others read: those in its own folder, by name. */
import { mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { MetronomeError } from '../../src/core/errors.ts';
import { listRecordings, takeRecording } from '../../src/recording/recording-shelf.ts';

const FIRST = '20261124T080000000Z-1', SECOND = '20261125T190838123Z-47';
let root: string, dir: string;

beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'metronome-shelf-'));
  dir = join(root, 'recordings');
  for (const name of [FIRST, SECOND]) {
    await mkdir(join(dir, name), { recursive: true });
    await writeFile(join(dir, name, '000001.mrec'), 'x'.repeat(100));
  }
});
afterEach(() => rm(root, { recursive: true }));

const refusal = (name: string): Promise<MetronomeError> => takeRecording({ dir, running: '' }, name).then(() => Promise.reject(new Error(`${name} was taken`)), (error: MetronomeError) => error);

describe('the shelf of recordings', () => {
  it('lists them newest first, with size and start, and marks the one that is being written', async () => {
    await writeFile(join(dir, SECOND, '000002.mrec'), 'x'.repeat(50));
    expect(await listRecordings({ dir, running: SECOND })).toEqual({
      recordings: [{ name: SECOND, startedAtMs: Date.UTC(2026, 10, 25, 19, 8, 38, 123), bytes: 150, isRunning: true }, { name: FIRST, startedAtMs: Date.UTC(2026, 10, 24, 8), bytes: 100, isRunning: false }],
      leftOut: 0,
    });
    expect(await takeRecording({ dir, running: SECOND }, SECOND)).toMatchObject({ folder: join(dir, SECOND), bytes: 150, isRunning: true });
  });

  it('is empty without a folder, and where nothing was recorded yet', async () => {
    expect(await listRecordings({ dir: '', running: '' })).toEqual({ recordings: [], leftOut: 0 });
    expect(await listRecordings({ dir: join(root, 'nowhere'), running: '' })).toEqual({ recordings: [], leftOut: 0 });
    await expect(takeRecording({ dir: '', running: '' }, FIRST)).rejects.toThrow('recording.dir');
  });

  it('lists at most 200, the newest', async () => {
    for (let i = 0; i < 202; i++) {
      const name = `20250101T000000${String(i).padStart(3, '0')}Z-1`;
      await mkdir(join(dir, name));
      await writeFile(join(dir, name, '000001.mrec'), 'x');
    }
    const { recordings, leftOut } = await listRecordings({ dir, running: '' });
    expect([recordings.length, leftOut, recordings[0]?.name]).toEqual([200, 4, SECOND]);
  });

  it('knows names only: no path, no link out, nothing else that lies there', async () => {
    const outside = join(root, 'outside');
    await mkdir(outside);
    await writeFile(join(outside, '000001.mrec'), 'x');
    const linked = '20261126T000000000Z-1', holds = '20261127T000000000Z-1', empty = '20261128T000000000Z-1';
    await symlink(outside, join(dir, linked));
    await mkdir(join(dir, holds));
    await symlink(join(outside, '000001.mrec'), join(dir, holds, '000001.mrec'));
    await mkdir(join(dir, empty));
    await mkdir(join(dir, 'notes'));
    await writeFile(join(dir, '20261129T000000000Z-1'), 'a file');
    expect((await listRecordings({ dir, running: '' })).recordings.map(({ name }) => name)).toEqual([SECOND, FIRST]);
    for (const name of ['', '.', '..', `../recordings/${FIRST}`, `${FIRST}/`, `${FIRST}/../${SECOND}`, `${FIRST}\\..`, `${FIRST}\0`, outside, 'notes', linked, holds, empty, '20261129T000000000Z-1', '20261130T000000000Z-1', '20269999T000000000Z-1']) {
      const error = await refusal(name);
      expect(error, name).toBeInstanceOf(MetronomeError);
      expect([error.code, error.extras.violations?.[0]?.field], name).toEqual(['INVALID_REQUEST', 'recording']);
    }
  });
});
