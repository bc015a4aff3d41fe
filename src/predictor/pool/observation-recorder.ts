/**
 * Records observations in rotated files (config `model.observationLog`), for `metronome model evaluate` and the benches: the newest is
 * `observations.jsonl`, older ones are gzipped as `observations-<n>.jsonl.gz`, at most so many. Lives in the training thread, off the loop.
 */
import { appendFileSync, existsSync, mkdirSync, readFileSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { COLUMN, decodeSituation } from '../features.ts';
import { FETCHED_MS, INITIALISED_MS, OBSERVATION_WIDTH, RAN_MS, SERVED_MS, SERVED_P95_MS, SERVED_P99_MS } from '../model/observation.ts';
import { formatLogHeader, formatObservation } from '../observation-log.ts';
import type { ExcludedRuns, RecordingOptions } from './training-protocol.ts';

const CURRENT = 'observations.jsonl';
const OLDER = /^observations-(\d+)\.jsonl\.gz$/;

/** Names behind the indexes of an observation; undefined: not known, and then it is not recorded. */
export interface Names {
  functionName(index: number): { readonly name: string; readonly application: string } | undefined;
  nodeName(index: number): string | undefined;
}

export class ObservationRecorder {
  readonly #options: RecordingOptions;
  readonly #names: Names;
  readonly #path: string;
  #bytes = 0;
  #next = 1;

  /** Goes on where a former run ended. Makes the folder. */
  constructor(options: RecordingOptions, names: Names) {
    this.#options = options;
    this.#names = names;
    this.#path = join(options.folder, CURRENT);
    mkdirSync(options.folder, { recursive: true });
    for (const name of readdirSync(options.folder)) this.#next = Math.max(this.#next, Number(OLDER.exec(name)?.[1] ?? 0) + 1);
    this.#bytes = existsSync(this.#path) ? statSync(this.#path).size : 0;
    if (this.#bytes === 0) this.#begin();
  }

  /**
   * Appends `count` observations of OBSERVATION_WIDTH numbers, as the model has judged them: those with 0 in `taken` are counted as invalid, for a number that is
   * none cannot be written down.
   */
  record(batch: Float64Array, count: number, taken: Uint8Array): void {
    let lines = '';
    const invalid = new Map<number, number>();
    for (let i = 0, at = 0; i < count; i++, at += OBSERVATION_WIDTH) {
      const functionIndex = batch[at + COLUMN.functionIndex] as number;
      if (taken[i] !== 1) {
        invalid.set(functionIndex, (invalid.get(functionIndex) ?? 0) + 1);
        continue;
      }
      const known = this.#names.functionName(functionIndex);
      const node = this.#names.nodeName(batch[at + COLUMN.nodeIndex] as number);
      if (known === undefined || node === undefined) continue;
      const { functionIndex: _function, nodeIndex: _node, ...situation } = decodeSituation(batch, at);
      const meanMs = batch[at + SERVED_MS] as number, p95Ms = batch[at + SERVED_P95_MS] as number, p99Ms = batch[at + SERVED_P99_MS] as number;
      lines += formatObservation({
        function: known.name, node, application: known.application, situation,
        phases: { fetchedMs: batch[at + FETCHED_MS] as number, initialisedMs: batch[at + INITIALISED_MS] as number, ranMs: batch[at + RAN_MS] as number },
        ...(meanMs > 0 && isTime(meanMs) && isTime(p95Ms) && isTime(p99Ms) ? { served: { meanMs, p95Ms, p99Ms } } : {}),
      });
    }
    this.#append(lines + this.#excludedLines(Array.from(invalid, ([functionIndex, times]) => ({ functionIndex, why: 'invalid', count: times }))));
  }

  /** Appends what must not teach: a line per function and reason, however many there were. */
  recordExcluded(runs: readonly ExcludedRuns[]): void {
    this.#append(this.#excludedLines(runs));
  }

  #excludedLines(runs: readonly ExcludedRuns[]): string {
    let lines = '';
    for (const { functionIndex, why, count } of runs) {
      const known = this.#names.functionName(functionIndex);
      if (known !== undefined) lines += formatObservation({ function: known.name, node: '', application: known.application, situation: {}, excluded: why, ...(count === 1 ? {} : { count }) });
    }
    return lines;
  }

  #append(lines: string): void {
    if (lines === '') return;
    appendFileSync(this.#path, lines);
    this.#bytes += Buffer.byteLength(lines);
    if (this.#bytes > this.#options.maxBytes) this.#rotate();
  }

  #begin(): void {
    const header = formatLogHeader({ source: 'recorded', note: '' });
    writeFileSync(this.#path, header);
    this.#bytes = header.length;
  }

  #rotate(): void {
    writeFileSync(join(this.#options.folder, `observations-${this.#next++}.jsonl.gz`), gzipSync(readFileSync(this.#path)));
    this.#begin();
    const older = readdirSync(this.#options.folder).flatMap((name) => (OLDER.test(name) ? [Number(OLDER.exec(name)?.[1])] : [])).sort((a, b) => b - a);
    // The newest file counts too.
    for (const n of older.slice(Math.max(0, this.#options.files - 1))) rmSync(join(this.#options.folder, `observations-${n}.jsonl.gz`), { force: true });
  }
}

/** What a reader of the file takes as a time. */
const isTime = (ms: number): boolean => Number.isFinite(ms) && ms >= 0;
