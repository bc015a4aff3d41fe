/** Recordings as files: segments, bounds, what a crash leaves, and what damage is told with. */
import { appendFileSync, mkdirSync, readFileSync, readdirSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { crc32 } from 'node:zlib';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { createSystemClock } from '../../src/core/clock.ts';
import { MetronomeError } from '../../src/core/errors.ts';
import { decodeBlock, encodeBlock } from '../../src/recording/format.ts';
import { openRecording, type RecordingReader } from '../../src/recording/read-recording.ts';
import { openRecordingFolder, recordingsIn, segmentsOf } from '../../src/recording/recording-folder.ts';
import { replayRecording } from '../../src/recording/replay.ts';
import { startRecording } from '../../src/recording/start-recording.ts';
import type { Block } from '../../src/recording/recorder.ts';
import { OP } from '../../src/recording/facts.ts';
import { keptArguments } from '../../src/recording/inputs.ts';
import { run } from '../cli/run.ts';
import { MemorySink, recordSimulation, writeRecording } from './recorded-simulation.ts';

const MIB = 1024 ** 2;
let dir: string;
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'metronome-rec-'));
});
afterEach(() => rm(dir, { recursive: true }));

function recorded(segments = 1) {
  const recording = recordSimulation({ durationMs: 8_000 });
  const written = writeRecording(dir, recording.head, recording.sink.blocks, segments);
  return { ...recording, ...written, files: segmentsOf(written.folder) };
}

function failureOf(what: () => unknown): MetronomeError {
  try {
    what();
  } catch (error) {
    if (error instanceof MetronomeError) return error;
    throw error;
  }
  throw new Error('it did not fail');
}

const readAll = (reader: RecordingReader): number => [...reader.blocks()].length;

describe('a recording on disk', () => {
  it('reads back what was written, over several segments', () => {
    const { folder, sink } = recorded(3);
    const reader = openRecording(folder);
    expect(readAll(reader)).toBe(sink.blocks.length);
    expect(reader).toMatchObject({ segments: 3, torn: undefined });
    expect(replayRecording(openRecording(dir))).toMatchObject({ difference: undefined, end: 'inOrder' });
  });

  it.each([['within the head of the last block', (size: number, last: number) => last + 10], ['within its content', (size: number) => size - 7]])('is read up to a last block that is torn %s, and tells of it', (_name, cut) => {
    const { folder, files, offsets, sink } = recorded(2);
    const file = files.at(-1) as string;
    const last = offsets.at(-1)?.at(-1) as number;
    truncateSync(file, cut(readFileSync(file).length, last));
    const reader = openRecording(folder);
    expect(readAll(reader)).toBe(sink.blocks.length - 1);
    expect(reader.torn).toMatchObject({ file, offset: last });
    expect(replayRecording(openRecording(folder))).toMatchObject({ difference: undefined, end: 'cutOff', torn: { file, offset: last } });
  });

  it('is read up to zeros that a power cut left at its end', () => {
    const { folder, files, sink } = recorded();
    const size = readFileSync(files[0] as string).length;
    appendFileSync(files[0] as string, Buffer.alloc(4_096));
    const reader = openRecording(folder);
    expect(readAll(reader)).toBe(sink.blocks.length);
    expect(reader.torn).toMatchObject({ offset: size, bytes: 4_096 });
  });

  it('is damaged when it ends early before the last segment, with file and place', () => {
    const { folder, files, offsets } = recorded(2);
    truncateSync(files[0] as string, readFileSync(files[0] as string).length - 3);
    const error = failureOf(() => readAll(openRecording(folder)));
    expect(error.code).toBe('STATE_CORRUPT');
    expect(error.message).toContain(`${files[0]}, byte ${offsets[0]?.at(-1)}: the block should be`);
  });

  it('is damaged when a bit flipped, with file and place', () => {
    const { folder, files, offsets } = recorded();
    const [file] = files as [string];
    const at = offsets[0]?.[1] as number;
    const bytes = readFileSync(file);
    bytes[at + 60] = (bytes[at + 60] as number) ^ 4;
    writeFileSync(file, bytes);
    const error = failureOf(() => readAll(openRecording(folder)));
    expect(error).toMatchObject({ code: 'STATE_CORRUPT', message: `${file}, byte ${at}: the checksum of the block is wrong.` });
  });

  it.each([
    ['another magic', (bytes: Buffer) => bytes.write('NOTAFILE'), 'byte 0: this is no segment of a recording (it should begin with "METROREC")'],
    ['a later format', (bytes: Buffer) => bytes.writeUInt32LE(9, 8), 'byte 8: the recording has format 9, this build reads format 1; read it with the version that wrote it'],
    ['a broken head', (bytes: Buffer) => bytes.writeUInt8(0xff, 24), 'byte 20: the checksum of the head is wrong'],
    ['a head that is too long', (bytes: Buffer) => bytes.writeUInt32LE(1e9, 12), 'byte 12: the head should be 1000000000 bytes long'],
  ])('is refused with %s', async (_name, spoil, message) => {
    const { folder, files } = recorded();
    const bytes = readFileSync(files[0] as string);
    spoil(bytes);
    writeFileSync(files[0] as string, bytes);
    expect(failureOf(() => openRecording(folder)).message).toContain(`${files[0]}, ${message}`);
    // People see the same, and an exit code of its own.
    const ran = await run(['replay', dir]);
    expect(ran.code).toBe(1);
    expect(ran.err).toContain(message);
  });

  it('says which segment is missing, and what is no recording at all', () => {
    const { folder, files } = recorded(3);
    rmSync(files[1] as string);
    expect(failureOf(() => readAll(openRecording(folder))).message).toContain('segment 2 of the recording is missing');
    expect(failureOf(() => openRecording(join(dir, 'nowhere'))).code).toBe('INVALID_REQUEST');
    mkdirSync(join(dir, 'empty'));
    expect(failureOf(() => openRecording(join(dir, 'empty'))).message).toContain('holds no recording');
  });

  it('does not believe sizes that a block claims', () => {
    const block = encodeBlock({ firstEntry: 0, entries: 1, numbers: new Float64Array([1, 2]), values: Uint8Array.of(0x90) });
    expect(decodeBlock(block, 0, 'f', false)).toMatchObject({ kind: 'block' });
    block.writeUInt32LE(2 ** 28, 12);
    block.writeUInt32LE(crc32(block.subarray(12)), 8);
    expect(failureOf(() => decodeBlock(block, 0, 'f', false)).message).toMatch(/^f, byte 12: the block claims \d+ bytes, at most/);
  });
});

describe('a recording under way', () => {
  const silent = { info: () => {}, warn: () => {} };
  const begin = (more: Partial<Parameters<typeof startRecording>[0]> = {}) => {
    const { scheduler } = recordSimulation({ durationMs: 10 });
    return startRecording({ scheduler: { ...scheduler, clock: createSystemClock() }, log: silent, dir, segmentBytes: MIB, maxBytes: 64 * MIB, keep: 2, version: 'test', context: () => ({ functions: [], nodes: [] }), ...more });
  };
  /** Entries that do not get smaller by packing. */
  const feed = ({ recorder }: ReturnType<typeof begin>, entries: number): void => {
    let state = 1;
    for (let i = 0; i < entries; i++) recorder.input(OP.timer, i, () => {
      for (let k = 0; k < 500; k++) recorder.tape.put2(OP.clock, (state = (state * 16_807) % 2_147_483_647) / 7);
    });
  };

  it('goes on in a new segment when one is full', async () => {
    const recording = begin();
    feed(recording, 1_000);
    await recording.stop();
    const reader = openRecording(dir);
    expect(reader.segments).toBeGreaterThan(2);
    expect([...reader.blocks()].reduce((sum, { entries }) => sum + entries, 0)).toBe(1_001);
  });

  it('ends at its bound and says so, and the scheduler goes on', async () => {
    const warn = vi.fn<(fields: object, event: string) => void>();
    const recording = begin({ maxBytes: 2 * MIB, log: { info: () => {}, warn } });
    feed(recording, 1_000);
    await vi.waitFor(() => expect(warn).toHaveBeenCalledWith(expect.objectContaining({ folder: recording.folder }), 'recorder.full'), { timeout: 10_000 });
    feed(recording, 100);
    await recording.stop();
    const reader = openRecording(dir);
    expect(readAll(reader)).toBeGreaterThan(1);
    expect(reader.bytes).toBeLessThanOrEqual(2 * MIB);
  });

  it('leaves out and counts what the disk cannot take, and marks the gap', () => {
    const sink = new MemorySink();
    const { recorder } = recordSimulation({ sink, onArrival: (index) => void (sink.hasRoom = index < 50 || index > 120) });
    const gaps = recorder.counters;
    expect(gaps.gaps).toBe(1);
    const total = sink.blocks.reduce((sum, { entries }) => sum + entries, 0);
    expect(total).toBe(gaps.entries);
    const last = sink.blocks.at(-1) as Block;
    expect(last.firstEntry + last.entries).toBe(gaps.entries + gaps.dropped);
  });

  it('keeps so many recordings and removes the oldest', () => {
    for (let i = 0; i < 4; i++) openRecordingFolder(dir, 1_800_000_000_000 + i * 1_000, 2);
    mkdirSync(join(dir, 'not-ours'));
    expect(recordingsIn(dir)).toEqual([`20270115T080002000Z-${process.pid}`, `20270115T080003000Z-${process.pid}`]);
    expect(readdirSync(dir)).toContain('not-ours');
    writeFileSync(join(dir, 'file'), '');
    expect(failureOf(() => openRecordingFolder(join(dir, 'file'), 1_800_000_000_000, 2)).message).toMatch(/No recording can be made in .*file \(recording\.dir\)/);
  });

  it('keeps no payload, no log, no message of an error and nothing of the caller', () => {
    const result = { payload: Buffer.from('secret'), logs: { stdout: 'secret', stderr: '', truncatedBytes: 0 }, error: { code: 'FUNCTION_FAILED', message: 'secret' }, ranMs: 5 };
    const kept = keptArguments('result', ['i-1', 0, result], () => undefined);
    expect(kept).toEqual(['i-1', 0, { code: 'FUNCTION_FAILED', payloadBytes: 6, ranMs: 5 }]);
    expect(keptArguments('submit', [{ functionName: 'f', payloadBytes: 6, cargo: { payload: 'secret' } }], () => undefined)).toEqual([{ functionName: 'f', payloadBytes: 6 }]);
    expect(keptArguments('cancel', ['i-1', { code: 'CANCELLED', message: 'secret' }], () => undefined)).toEqual(['i-1', 'CANCELLED']);
  });
});
