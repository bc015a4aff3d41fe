/**
 * Huawei Cloud traces 2023 (Joosen et al., SoCC 2023), requests_minute/day_NNN.csv or requests_second/day_NNN.csv: day,time,<function>,… with
 * time in seconds of the day and calls per interval. An empty cell is 0. Within an interval calls are spread at random.
 */
import { createRandom } from '../../core/random.ts';
import { columnsOf, invalidTrace, linesOf, numberOf, type Line, type TracedCall, type TraceText } from './trace.ts';

const NEEDED = ['day', 'time'];

/** The calls in order of time, interval by interval: memory is that of one line. TRACE_INVALID names line and column. */
export async function* readHuawei2023(text: TraceText, file: string, options: { readonly seed: number; readonly share?: number }): AsyncGenerator<TracedCall> {
  const { seed, share = 1 } = options;
  const random = createRandom(seed, 43);
  const lines = linesOf(text, file);
  const first = await lines.next();
  const columns = columnsOf(first.done === true ? undefined : first.value, NEEDED, file, 'Huawei 2023');
  const functions = [...columns].filter(([name]) => !NEEDED.includes(name));
  if (functions.length === 0) throw invalidTrace(file, 1, 'names no function beside day and time.');
  const timeColumn = columns.get('time') as number;
  const read = (line: Line): { readonly timeS: number; readonly counts: number[] } => {
    const cells = line.text.split(',');
    if (cells.length !== columns.size) throw invalidTrace(file, line.number, `has ${cells.length} columns, the header has ${columns.size}.`);
    return { timeS: numberOf(cells[timeColumn], 'time', line, file), counts: functions.map(([name, at]) => (cells[at]?.trim() === '' ? 0 : numberOf(cells[at], name, line, file))) };
  };
  let before: { readonly timeS: number; readonly counts: number[] } | undefined;
  let startS = 0;
  let intervalS = 60;
  const calls = (of: { readonly timeS: number; readonly counts: number[] }): TracedCall[] => {
    const all: TracedCall[] = [];
    functions.forEach(([name], i) => {
      for (let k = 0; k < Math.round(of.counts[i] as number); k++) if (share >= 1 || random.uniform() < share) all.push({ atMs: 1_000 * (of.timeS - startS + intervalS * random.uniform()), function: name, application: '', durationMs: 0 });
    });
    return all.sort((a, b) => a.atMs - b.atMs);
  };
  for await (const line of lines) {
    if (line.text === '') continue;
    const now = read(line);
    if (before === undefined) startS = now.timeS;
    else {
      if (now.timeS <= before.timeS) throw invalidTrace(file, line.number, `column time must grow from line to line; ${now.timeS} follows ${before.timeS}.`);
      intervalS = now.timeS - before.timeS;
      yield* calls(before);
    }
    before = now;
  }
  if (before !== undefined) yield* calls(before);
}
