/**
 * The form of recordings on disk: a folder per recording, in it segments `000001.mrec`, …; a segment is a head and blocks, appended and never
 * changed. All numbers are little-endian.
 *
 *     segment: "METROREC" · u32 format · u32 bytes of head · u32 CRC-32 of head · head (msgpack)
 *     block:   "BLOK" · u32 stored bytes · u32 CRC-32 of what follows · u32 numbers · u32 bytes of values · u32 entries · f64 first entry · zstd(numbers · values)
 *
 * A process that dies leaves at most one block in pieces, at the end of the last segment. What is wrong elsewhere is damage, and is told
 * with file and place.
 */
import { constants, crc32, zstdCompressSync, zstdDecompressSync } from 'node:zlib';
import { Packr } from 'msgpackr';
import { MetronomeError } from '../core/errors.ts';
import type { OnlineModelOptions } from '../predictor/model/online-model.ts';
import type { SchedulerOptions } from '../scheduler/scheduler.ts';
import type { Block } from './recorder.ts';
import type { SegmentContext } from './segment-context.ts';

/** Raised whenever older builds could not read what is written. */
export const FORMAT = 1;
export const SEGMENT_NAME = /^(\d{6})\.mrec$/;

const MAGIC = Buffer.from('METROREC', 'latin1');
const BLOCK_MAGIC = 0x4b4f4c42; // "BLOK"
const HEAD_BYTES = 20;
const BLOCK_HEAD_BYTES = 32;
/** A block cannot be larger; a greater number is damage. */
const MOST_BYTES = 64 * 1024 ** 2;
export const MOST_HEAD_BYTES = 16 * 1024 ** 2;

/** The options of the scheduler that are plain values: what a replay needs beside the tapes. */
export type PlainSchedulerOptions = Omit<SchedulerOptions, 'clock' | 'nodeTable' | 'predictor' | 'transport' | 'observer'>;

/** The knobs of the forest that predicted: what a simulation needs to let the same one learn. */
export interface RecordedModel extends OnlineModelOptions {
  /** Least time between two updates, ms. */
  readonly updatePauseMs: number;
}

/** What each segment says of its recording. */
export interface RecordingHead {
  /** Number of the segment, from 1. */
  readonly segment: number;
  /** Of the build that wrote it. */
  readonly version: string;
  readonly startedAtMs: number;
  readonly predictor: string;
  /** Undefined: no forest predicted, or an older build wrote the recording. */
  readonly model?: RecordedModel;
  readonly scheduler: PlainSchedulerOptions;
  /** What was known when the segment began, where earlier ones may be gone (recording.onFull: rotate). */
  readonly context?: SegmentContext;
  /** What the numbers on the tape mean. */
  readonly inputs: readonly string[];
  readonly policies: readonly string[];
  readonly reasons: readonly string[];
}

/** A block as it was read. */
export interface StoredBlock {
  readonly firstEntry: number;
  readonly entries: number;
  readonly numbers: Float64Array;
  readonly values: readonly unknown[];
}

const packr = new Packr();

export function encodeHead(head: RecordingHead): Buffer {
  const body = packr.pack(head);
  const bytes = Buffer.alloc(HEAD_BYTES + body.length);
  MAGIC.copy(bytes);
  bytes.writeUInt32LE(FORMAT, 8);
  bytes.writeUInt32LE(body.length, 12);
  bytes.writeUInt32LE(crc32(body), 16);
  body.copy(bytes, HEAD_BYTES);
  return bytes;
}

export function encodeBlock({ firstEntry, entries, numbers, values }: Block): Buffer {
  const numberBytes = Buffer.from(numbers.buffer, numbers.byteOffset, numbers.byteLength);
  const stored = zstdCompressSync(Buffer.concat([numberBytes, values]), { params: { [constants.ZSTD_c_compressionLevel]: 1 } });
  const bytes = Buffer.alloc(BLOCK_HEAD_BYTES + stored.length);
  bytes.writeUInt32LE(BLOCK_MAGIC, 0);
  bytes.writeUInt32LE(stored.length, 4);
  bytes.writeUInt32LE(numbers.length, 12);
  bytes.writeUInt32LE(values.length, 16);
  bytes.writeUInt32LE(entries, 20);
  bytes.writeDoubleLE(firstEntry, 24);
  stored.copy(bytes, BLOCK_HEAD_BYTES);
  bytes.writeUInt32LE(crc32(bytes.subarray(12)), 8);
  return bytes;
}

/** An error that names file and place. */
export function damaged(file: string, offset: number, what: string): MetronomeError {
  return new MetronomeError('STATE_CORRUPT', `${file}, byte ${offset}: ${what}.`);
}

/** Reads the head. Returns it with the place of the first block. */
export function decodeHead(bytes: Buffer, file: string): { head: RecordingHead; offset: number } {
  if (bytes.length < HEAD_BYTES || !bytes.subarray(0, 8).equals(MAGIC)) throw damaged(file, 0, bytes.length === 0 ? 'the file is empty' : 'this is no segment of a recording (it should begin with "METROREC")');
  const format = bytes.readUInt32LE(8);
  if (format !== FORMAT) throw damaged(file, 8, `the recording has format ${format}, this build reads format ${FORMAT}; read it with the version that wrote it`);
  const length = bytes.readUInt32LE(12);
  if (length > MOST_HEAD_BYTES || HEAD_BYTES + length > bytes.length) throw damaged(file, 12, `the head should be ${length} bytes long, the file ends after ${bytes.length - HEAD_BYTES}`);
  const body = bytes.subarray(HEAD_BYTES, HEAD_BYTES + length);
  if (crc32(body) !== bytes.readUInt32LE(16)) throw damaged(file, HEAD_BYTES, 'the checksum of the head is wrong');
  return { head: packr.unpack(body) as RecordingHead, offset: HEAD_BYTES + length }; // written by encodeHead, as its checksum says
}

/** The place at which reading ended: in order, or at a block that was not written to its end. */
export type BlockAt =
  | { readonly kind: 'block'; readonly block: StoredBlock; readonly next: number }
  | { readonly kind: 'end' }
  | { readonly kind: 'torn'; readonly offset: number; readonly bytes: number };

/** Reads the block at `offset`. `isLast`: of the last segment, whose end may be torn. Throws STATE_CORRUPT for damage. */
export function decodeBlock(bytes: Buffer, offset: number, file: string, isLast: boolean): BlockAt {
  const left = bytes.length - offset;
  if (left === 0) return { kind: 'end' };
  const torn = { kind: 'torn', offset, bytes: left } as const;
  // A power cut may leave a file its length without its bytes.
  if (isLast && (left < BLOCK_HEAD_BYTES || bytes.subarray(offset).every((byte) => byte === 0))) return torn;
  if (left < BLOCK_HEAD_BYTES) throw damaged(file, offset, `the file ends within the head of a block (${left} of ${BLOCK_HEAD_BYTES} bytes); only the last segment of a recording may`);
  if (bytes.readUInt32LE(offset) !== BLOCK_MAGIC) throw damaged(file, offset, 'a block should begin here (with "BLOK")');
  const length = bytes.readUInt32LE(offset + 4);
  const next = offset + BLOCK_HEAD_BYTES + length;
  if (next > bytes.length) {
    if (isLast) return torn;
    throw damaged(file, offset, `the block should be ${length} bytes long, the file ends after ${left - BLOCK_HEAD_BYTES}`);
  }
  if (crc32(bytes.subarray(offset + 12, next)) !== bytes.readUInt32LE(offset + 8)) throw damaged(file, offset, 'the checksum of the block is wrong');
  const count = bytes.readUInt32LE(offset + 12), valueBytes = bytes.readUInt32LE(offset + 16);
  const size = count * 8 + valueBytes;
  if (size > MOST_BYTES) throw damaged(file, offset + 12, `the block claims ${size} bytes, at most ${MOST_BYTES} are possible`);
  let whole: Buffer;
  try {
    whole = zstdDecompressSync(bytes.subarray(offset + BLOCK_HEAD_BYTES, next), { maxOutputLength: size });
  } catch (error) {
    throw damaged(file, offset + BLOCK_HEAD_BYTES, `the block cannot be unpacked: ${error instanceof Error ? error.message : String(error)}`);
  }
  if (whole.length !== size) throw damaged(file, offset + BLOCK_HEAD_BYTES, `the block holds ${whole.length} bytes and not ${size}`);
  // Typed arrays want their numbers aligned.
  const numbers = new Float64Array(count);
  whole.copy(Buffer.from(numbers.buffer), 0, 0, count * 8);
  return { kind: 'block', next, block: { firstEntry: bytes.readDoubleLE(offset + 24), entries: bytes.readUInt32LE(offset + 20), numbers, values: packr.unpack(whole.subarray(count * 8)) as unknown[] } };
}
