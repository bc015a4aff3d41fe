/** The thread that packs, checks and writes the blocks of a recording. One write per block, so that a process that dies tears at most one. */
import { closeSync, fdatasyncSync, openSync, rmSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { parentPort, workerData } from 'node:worker_threads';
import { Packr } from 'msgpackr';
import { MetronomeError } from '../core/errors.ts';
import { encodeBlock, encodeHead, MOST_HEAD_BYTES, type RecordingHead } from './format.ts';
import { ContextFollower } from './segment-context.ts';
import { SHARED, type SegmentReport, type SegmentRequest, type SegmentThreadData } from './segment-protocol.ts';

/** Segments that a recording which rotates is made of at least, so that little goes at once. */
const LEAST_SEGMENTS = 4;

const { folder, maxBytes, onFull, head: given, shared, ...data } = workerData as SegmentThreadData; // made by the sink
const head = given as Omit<RecordingHead, 'segment'>; // plain data of its kind
const segmentBytes = onFull === 'rotate' ? Math.min(data.segmentBytes, Math.floor(maxBytes / LEAST_SEGMENTS)) : data.segmentBytes;
const counters = new Int32Array(shared);
/** As the recorder packs, maps included. */
const packr = new Packr();
/** Segments on disk, the oldest first; the last one is being written. */
const segments: { readonly number: number; bytes: number }[] = [];
const follower = onFull === 'rotate' ? new ContextFollower({ ...head, segment: 1 }) : undefined;
let file = -1;
let total = 0;

const tell = (report: SegmentReport): void => parentPort?.postMessage(report);
const pathOf = (segment: number): string => join(folder, `${String(segment).padStart(6, '0')}.mrec`);

function write(chunk: Buffer): void {
  for (let at = 0; at < chunk.length; ) at += writeSync(file, chunk, at);
  (segments.at(-1) as (typeof segments)[number]).bytes += chunk.length; // begin() put it there
  total += chunk.length;
  Atomics.store(counters, SHARED.writtenKib, Math.ceil(total / 1024));
}

function close(): void {
  if (file < 0) return;
  fdatasyncSync(file);
  closeSync(file);
  file = -1;
}

/** Begins the next segment with room for a block; false: there is none within maxBytes. */
function begin(blockBytes: number): boolean {
  const segment = (segments.at(-1)?.number ?? 0) + 1;
  // The first one begins with nothing known, as every recording.
  const bytes = encodeHead({ ...head, segment, ...(follower === undefined || segment === 1 ? {} : { context: follower.now }) });
  if (bytes.length > MOST_HEAD_BYTES) throw new MetronomeError('STORE_FULL', `The head of a segment would have ${bytes.length} bytes, with all functions and nodes in it; at most ${MOST_HEAD_BYTES} can be read. Set recording.onFull to stop.`);
  close();
  if (!makeRoom(bytes.length + blockBytes, 0)) return false;
  file = openSync(pathOf(segment), 'wx', 0o600);
  segments.push({ number: segment, bytes: 0 });
  Atomics.store(counters, SHARED.segments, segments.length);
  write(bytes);
  return true;
}

/** Removes the oldest segments until so many bytes fit; the newest `keep` stay. False: they do not. */
function makeRoom(bytes: number, keep: number): boolean {
  while (total + bytes > maxBytes && follower !== undefined && segments.length > keep) {
    const oldest = segments.shift() as (typeof segments)[number]; // there is one
    rmSync(pathOf(oldest.number), { force: true });
    total -= oldest.bytes;
  }
  return total + bytes <= maxBytes;
}

function take(request: SegmentRequest & { kind: 'block' }): void {
  if (Atomics.load(counters, SHARED.isOver) === 1) return;
  try {
    const block = encodeBlock(request);
    const isNew = file < 0 || (segments.at(-1)?.bytes ?? 0) + block.length > segmentBytes;
    if (!(isNew ? begin(block.length) : makeRoom(block.length, 1))) {
      Atomics.store(counters, SHARED.isOver, 1);
      close();
      return tell({ kind: 'full', bytes: total });
    }
    write(block);
    follower?.follow({ firstEntry: request.firstEntry, entries: request.entries, numbers: request.numbers, values: packr.unpack(request.values) as unknown[] }); // packed by the recorder
  } catch (error) {
    Atomics.store(counters, SHARED.isOver, 1);
    tell({ kind: 'failed', message: error instanceof Error ? error.message : String(error) });
  }
}

parentPort?.on('message', (request: SegmentRequest) => {
  if (request.kind === 'block') {
    take(request);
    Atomics.sub(counters, SHARED.waitingKib, request.kib);
    return;
  }
  try {
    close();
  } catch (error) {
    tell({ kind: 'failed', message: error instanceof Error ? error.message : String(error) });
  }
  parentPort?.close();
});
