/** A part of a trace file of any known format as calls by rank: the most called function of that part is 0. */
import { createReadStream } from 'node:fs';
import { createGunzip } from 'node:zlib';
import { MetronomeError } from '../../core/errors.ts';
import { createRandom } from '../../core/random.ts';
import { readAzure2019 } from './azure-2019.ts';
import { readAzure2021 } from './azure-2021.ts';
import { readHuawei2023 } from './huawei-2023.ts';
import type { TracedCall, TraceText } from './trace.ts';

/** Formats that can be read. */
export const TRACE_FORMATS = ['azure-2019', 'azure-2021', 'huawei-2023'] as const;
export type TraceFormat = (typeof TRACE_FORMATS)[number];

/** Which part of which file. */
export interface TracePart {
  readonly path: string;
  /** How messages name the file. */
  readonly file: string;
  readonly format: TraceFormat;
  /** From here on, ms since the start of the trace, and for so long. */
  readonly fromMs: number;
  readonly durationMs: number;
  /** Share of the calls that is taken, 0 to 1. */
  readonly share: number;
  readonly seed: number;
  /** More are an error. @default MOST_CALLS */
  readonly maxCalls?: number;
}

/** Calls in order of time, as parallel lists. */
export interface RankedCalls {
  /** ms since the start of the part. */
  readonly atMs: readonly number[];
  readonly rank: readonly number[];
  /** How long each ran, ms; 0: the trace does not say. */
  readonly durationMs: readonly number[];
  /** Functions that are called. */
  readonly functions: number;
}

/** Calls of one part. */
export const MOST_CALLS = 1_000_000;
const MINUTE_MS = 60_000;

/** Reads it. TRACE_INVALID with file and line, also for a part without calls or with too many. Files that end with .gz are unpacked on the way. */
export async function readTrace(part: TracePart): Promise<RankedCalls> {
  const { file, fromMs, durationMs, maxCalls = MOST_CALLS } = part;
  const atMs: number[] = [], names: string[] = [], durations: number[] = [];
  const counts = new Map<string, number>();
  for await (const call of callsOf(part, textOf(part.path, file))) {
    if (call.atMs < fromMs) continue;
    if (call.atMs >= fromMs + durationMs) break;
    if (atMs.length >= maxCalls) throw new MetronomeError('TRACE_INVALID', `${file} has more than ${maxCalls} calls in this time. Take a share of them, or less time.`);
    const name = `${call.application}/${call.function}`;
    atMs.push(call.atMs - fromMs);
    names.push(name);
    durations.push(call.durationMs);
    counts.set(name, (counts.get(name) ?? 0) + 1);
  }
  if (atMs.length === 0) throw new MetronomeError('TRACE_INVALID', `${file} has no call in this time.`);
  // Equal counts: by name, so that the order of the file does not matter.
  const ranks = new Map([...counts].sort(([a, n], [b, m]) => m - n || (a < b ? -1 : 1)).map(([name], rank) => [name, rank]));
  return { atMs, rank: names.map((name) => ranks.get(name) as number), durationMs: durations, functions: ranks.size };
}

async function* callsOf({ file, format, fromMs, durationMs, share, seed }: TracePart, text: TraceText): AsyncGenerator<TracedCall> {
  switch (format) {
    case 'azure-2019': {
      // Whole minutes around the part; what is outside falls away later.
      const first = Math.floor(fromMs / MINUTE_MS);
      const minutes = Math.ceil((fromMs + durationMs) / MINUTE_MS) - first;
      for await (const call of readAzure2019(text, file, { seed, share, fromMinute: first + 1, minutes })) yield { ...call, atMs: call.atMs + first * MINUTE_MS };
      return;
    }
    case 'azure-2021': {
      const random = createRandom(seed, 47);
      for await (const call of readAzure2021(text, file)) if (share >= 1 || random.uniform() < share) yield call;
      return;
    }
    case 'huawei-2023':
      yield* readHuawei2023(text, file, { seed, share });
  }
}

async function* textOf(path: string, file: string): AsyncGenerator<string> {
  const source = createReadStream(path);
  const stream = path.endsWith('.gz') ? createGunzip() : source;
  if (stream !== source) source.on('error', (error) => stream.destroy(error)).pipe(stream as ReturnType<typeof createGunzip>); // it is one, or it would be the source
  try {
    const decoder = new TextDecoder();
    for await (const chunk of stream) yield decoder.decode(chunk as Uint8Array, { stream: true }); // without an encoding streams of bytes give bytes
    yield decoder.decode();
  } catch (cause) {
    throw new MetronomeError('TRACE_INVALID', `${file} cannot be read: ${cause instanceof Error ? cause.message : String(cause)}.`, { cause });
  } finally {
    source.destroy();
  }
}
