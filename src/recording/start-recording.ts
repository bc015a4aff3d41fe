/** Begins a recording: the recorder on the loop's side, the folder, and the thread that writes. */
import { Worker } from 'node:worker_threads';
import type { RecordedModel } from './format.ts';
import { Recorder, type Block, type BlockSink, type RecorderCounters, type RecorderOptions } from './recorder.ts';
import type { SchedulerOptions } from '../scheduler/scheduler.ts';
import { headOf } from './recording-head.ts';
import { openRecordingFolder } from './recording-folder.ts';
import { SHARED, type OnFull, type SegmentReport, type SegmentRequest, type SegmentThreadData } from './segment-protocol.ts';

/** Blocks that may wait for the thread, MiB together. */
const WAITING_MIB = 32;
/** After a gap it goes on when so much is left to write. */
const RESUME_MIB = 8;

// tsc rewrites imports, not URLs: the entry has the extension that this file has.
const ENTRY = new URL(`./segment-thread${import.meta.url.endsWith('.ts') ? '.ts' : '.js'}`, import.meta.url);

/** What a recording needs. */
export interface RecordingOptions extends Pick<RecorderOptions, 'context' | 'purposeOf'> {
  /** Of the scheduler that is recorded. */
  readonly scheduler: SchedulerOptions;
  /** Under it the recording gets a folder of its own. */
  readonly dir: string;
  readonly segmentBytes: number;
  readonly maxBytes: number;
  /** At maxBytes: it ends, or its oldest segments go. @default stop */
  readonly onFull?: OnFull;
  /** Recordings that are kept under `dir`, this one included. */
  readonly keep: number;
  /** The knobs of the forest that predicts. @default none does */
  readonly model?: RecordedModel | undefined;
  /** Of this build. */
  readonly version: string;
  readonly log: { info(fields: object, event: string): void; warn(fields: object, event: string): void };
}

/** A recording under way. */
export interface Recording {
  readonly folder: string;
  readonly recorder: Recorder;
  readonly counters: Readonly<RecorderCounters>;
  readonly writtenBytes: number;
  /** Writes what is left. */
  stop(): Promise<void>;
}

/** Begins it. Throws INVALID_REQUEST when the folder cannot be made. */
export function startRecording(options: RecordingOptions): Recording {
  const { dir, log, scheduler } = options;
  const { clock } = scheduler;
  const startedAtMs = clock.nowMs();
  const folder = openRecordingFolder(dir, startedAtMs, options.keep);
  const head = headOf(scheduler, options.version, startedAtMs, options.model);
  const shared = new SharedArrayBuffer(16);
  const counters = new Int32Array(shared);
  const data: SegmentThreadData = { folder, segmentBytes: options.segmentBytes, maxBytes: options.maxBytes, onFull: options.onFull ?? 'stop', head, shared };
  const worker = new Worker(ENTRY, { name: 'recording', workerData: data });
  const over = (fields: object, event: string): void => {
    Atomics.store(counters, SHARED.isOver, 1);
    log.warn({ folder, ...fields }, event);
  };
  worker.on('message', (report: SegmentReport) => {
    if (report.kind === 'full') over({ bytes: report.bytes }, 'recorder.full');
    else over({ error: report.message }, 'recorder.failed');
  });
  worker.on('error', (error) => over({ error: error.message }, 'recorder.failed'));
  const exited = new Promise<void>((resolve) => worker.once('exit', () => {
    Atomics.store(counters, SHARED.isOver, 1);
    resolve();
  }));
  const post = (request: SegmentRequest, transfer: ArrayBuffer[] = []): void => worker.postMessage(request, transfer);
  const sink: BlockSink = {
    write({ firstEntry, entries, numbers, values }: Block) {
      const kib = Math.ceil((numbers.byteLength + values.length) / 1024);
      if (sink.isOver || Atomics.load(counters, SHARED.waitingKib) + kib > WAITING_MIB * 1024) return false;
      Atomics.add(counters, SHARED.waitingKib, kib);
      post({ kind: 'block', firstEntry, entries, numbers, values, kib }, [numbers.buffer, values.buffer]);
      return true;
    },
    get hasRoom() {
      return Atomics.load(counters, SHARED.waitingKib) <= RESUME_MIB * 1024;
    },
    get isOver() {
      return Atomics.load(counters, SHARED.isOver) === 1;
    },
  };
  const recorder = new Recorder({
    clock, sink, context: options.context, ...(options.purposeOf === undefined ? {} : { purposeOf: options.purposeOf }),
    onGap: (entries) => log.warn({ folder, entries }, entries === 0 ? 'recorder.gap.began' : 'recorder.gap.ended'),
  });
  log.info({ folder }, 'recorder.began');
  return {
    folder, recorder, counters: recorder.counters,
    get writtenBytes() {
      return Atomics.load(counters, SHARED.writtenKib) * 1024;
    },
    async stop() {
      recorder.close();
      post({ kind: 'end' });
      await exited;
    },
  };
}
