/** The thread that packs, checks and writes the blocks of a recording. One write per block, so that a process that dies tears at most one. */
import { closeSync, fdatasyncSync, openSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { parentPort, workerData } from 'node:worker_threads';
import { encodeBlock, encodeHead, type RecordingHead } from './format.ts';
import { SHARED, type SegmentReport, type SegmentRequest, type SegmentThreadData } from './segment-protocol.ts';

const { folder, segmentBytes, maxBytes, head, shared } = workerData as SegmentThreadData; // made by the sink
const counters = new Int32Array(shared);
let file = -1;
let segment = 0;
let bytes = 0;
let total = 0;

const tell = (report: SegmentReport): void => parentPort?.postMessage(report);

function write(chunk: Buffer): void {
  for (let at = 0; at < chunk.length; ) at += writeSync(file, chunk, at);
  bytes += chunk.length;
  total += chunk.length;
  Atomics.store(counters, SHARED.writtenKib, Math.ceil(total / 1024));
}

function close(): void {
  if (file < 0) return;
  fdatasyncSync(file);
  closeSync(file);
  file = -1;
}

function begin(): void {
  close();
  file = openSync(join(folder, `${String(++segment).padStart(6, '0')}.mrec`), 'wx', 0o600);
  bytes = 0;
  Atomics.store(counters, SHARED.segments, segment);
  write(encodeHead({ ...(head as Omit<RecordingHead, 'segment'>), segment }));
}

function take(request: SegmentRequest & { kind: 'block' }): void {
  if (Atomics.load(counters, SHARED.isOver) === 1) return;
  try {
    const block = encodeBlock(request);
    if (file < 0 || bytes + block.length > segmentBytes) begin();
    if (total + block.length > maxBytes) {
      Atomics.store(counters, SHARED.isOver, 1);
      close();
      return tell({ kind: 'full', bytes: total });
    }
    write(block);
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
