/**
 * Azure Functions trace 2019 (Shahrad et al., ATC 2020), files invocations_per_function_md.anon.dNN.csv:
 * HashOwner,HashApp,HashFunction,Trigger,1,…,1440 with calls per minute of one day. Within a minute they are spread at random.
 */
import { createRandom } from '../../core/random.ts';
import { columnsOf, invalidTrace, linesOf, numberOf, type TracedCall, type TraceText } from './trace.ts';

const MINUTES = 1_440;
const NEEDED = ['HashOwner', 'HashApp', 'HashFunction', 'Trigger', '1', String(MINUTES)];

/** How much to take. */
export interface Azure2019Options {
  readonly seed: number;
  /** First minute, 1 to 1440, and how many. @default 1, 1440 */
  readonly fromMinute?: number;
  readonly minutes?: number;
  /** Share of the calls that is taken, 0 to 1. @default 1 */
  readonly share?: number;
  /** Functions that are read; more are an error. @default 100000 */
  readonly maxFunctions?: number;
}

/** The calls of a day in order of time. Reads the whole file first (two bytes per function and minute); TRACE_INVALID names line and column. */
export async function* readAzure2019(text: TraceText, file: string, options: Azure2019Options): AsyncGenerator<TracedCall> {
  const { seed, fromMinute = 1, minutes = MINUTES, share = 1, maxFunctions = 100_000 } = options;
  const lines = linesOf(text, file);
  const first = await lines.next();
  const header = first.done === true ? undefined : first.value;
  const columns = columnsOf(header, NEEDED, file, 'Azure 2019');
  const functions: { readonly application: string; readonly name: string; readonly counts: Uint32Array }[] = [];
  const last = Math.min(MINUTES, fromMinute + minutes - 1);
  const firstColumn = columns.get('1') as number;
  for await (const line of lines) {
    if (line.text === '') continue;
    const cells = line.text.split(',');
    if (cells.length !== columns.size) throw invalidTrace(file, line.number, `has ${cells.length} columns, the header has ${columns.size}.`);
    if (functions.length >= maxFunctions) throw invalidTrace(file, line.number, `is the function number ${maxFunctions + 1}; at most ${maxFunctions} are read.`);
    const counts = new Uint32Array(Math.max(0, last - fromMinute + 1));
    for (let minute = fromMinute; minute <= last; minute++) counts[minute - fromMinute] = numberOf(cells[firstColumn + minute - 1], String(minute), line, file);
    functions.push({ application: cells[columns.get('HashApp') as number] ?? '', name: cells[columns.get('HashFunction') as number] ?? '', counts });
  }
  const random = createRandom(seed, 41);
  for (let minute = 0; minute <= last - fromMinute; minute++) {
    const calls: TracedCall[] = [];
    for (const { application, name, counts } of functions) {
      for (let i = 0; i < (counts[minute] as number); i++) {
        if (share >= 1 || random.uniform() < share) calls.push({ atMs: 60_000 * (minute + random.uniform()), function: name, application, durationMs: 0 });
      }
    }
    calls.sort((a, b) => a.atMs - b.atMs);
    yield* calls;
  }
}
