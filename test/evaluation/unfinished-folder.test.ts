import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { compareRecords } from '../../bench/validity-records.ts';
import { EMULATED_CLUSTER } from '../../src/evaluation/cluster-preset.ts';

let dir: string;
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'metronome-unfinished-'));
});
afterEach(() => rm(dir, { recursive: true, force: true }));

const compare = (folder: string): Promise<unknown> => compareRecords(folder, true, undefined, () => {});
const write = (name: string, value: unknown): Promise<void> => writeFile(join(dir, name), typeof value === 'string' ? value : JSON.stringify(value));

it('says of a folder without an evaluation, or with one that has not begun, what is missing', async () => {
  await expect(compare(join(dir, 'nowhere'))).rejects.toMatchObject({ code: 'INVALID_REQUEST', message: expect.stringContaining('run.json is missing, which says what was asked for') });
  await write('run.json', { where: 'emulated', preset: EMULATED_CLUSTER, firstSeed: 1, warmUp: 1, inputs: 2 });
  await expect(compare(dir)).rejects.toMatchObject({ code: 'INVALID_REQUEST', message: expect.stringMatching(/place\.json is missing.*--resume/) });
  await write('place.json', { description: 'nodes', parameters: { inputBytes: { log: [1_000, 2_000] } } });
  await expect(compare(dir)).rejects.toMatchObject({ code: 'INVALID_REQUEST', message: expect.stringContaining('records.jsonl is missing') });
  await write('records.jsonl', '');
  await write('cells.jsonl', '');
  await expect(compare(dir)).rejects.toMatchObject({ code: 'INVALID_REQUEST', message: expect.stringMatching(/has no cell that ended yet.*--resume/) });
  await write('cells.jsonl', '{"id":"sla/log/data-locality/c1/s1","fromByte":0,"toByte":0}\n');
  await expect(compare(dir)).rejects.toThrow('no cell beyond those that costs are fitted to');
});

it('says what is wrong with a file that an evaluation on real nodes does not write', async () => {
  await write('run.json', { where: 'simulation', preset: EMULATED_CLUSTER, firstSeed: 1, warmUp: 1, inputs: 2 });
  await expect(compare(dir)).rejects.toThrow(/run\.json is not what an evaluation on real nodes writes: where: must be "emulated"/);
  await write('run.json', 'no');
  await expect(compare(dir)).rejects.toMatchObject({ code: 'INVALID_REQUEST' });
  await rm(join(dir, 'run.json'));
  await mkdir(join(dir, 'run.json'));
  await expect(compare(dir)).rejects.toThrow('run.json cannot be read');
});
