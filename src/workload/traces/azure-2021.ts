/**
 * Azure Functions invocation trace 2021 (Zhang et al., SOSP 2021): app,func,end_timestamp,duration, both in seconds; one line per call. Calls
 * are told at their end: the importer sorts them by their beginning.
 */
import { columnsOf, invalidTrace, linesOf, numberOf, type TracedCall, type TraceText } from './trace.ts';

const NEEDED = ['app', 'func', 'end_timestamp', 'duration'];

/** The calls in order of their beginning; the first one begins at 0. Reads the whole file first. TRACE_INVALID names line and column. */
export async function* readAzure2021(text: TraceText, file: string, options: { readonly maxCalls?: number } = {}): AsyncGenerator<TracedCall> {
  const maxCalls = options.maxCalls ?? 5_000_000;
  const lines = linesOf(text, file);
  const first = await lines.next();
  const columns = columnsOf(first.done === true ? undefined : first.value, NEEDED, file, 'Azure 2021');
  const calls: TracedCall[] = [];
  for await (const line of lines) {
    if (line.text === '') continue;
    const cells = line.text.split(',');
    if (cells.length !== columns.size) throw invalidTrace(file, line.number, `has ${cells.length} columns, the header has ${columns.size}.`);
    if (calls.length >= maxCalls) throw invalidTrace(file, line.number, `is the call number ${maxCalls + 1}; at most ${maxCalls} are read.`);
    const cell = (name: string): string | undefined => cells[columns.get(name) as number];
    const durationMs = 1_000 * numberOf(cell('duration'), 'duration', line, file);
    calls.push({ atMs: 1_000 * numberOf(cell('end_timestamp'), 'end_timestamp', line, file) - durationMs, function: cell('func') ?? '', application: cell('app') ?? '', durationMs });
  }
  calls.sort((a, b) => a.atMs - b.atMs);
  const startMs = calls[0]?.atMs ?? 0;
  for (const call of calls) yield { ...call, atMs: call.atMs - startMs };
}
