/** What the importers of public traces share: a stream of calls in order of time, lines with their numbers, and errors that name the place. */
import { MetronomeError } from '../../core/errors.ts';

/** One call of a trace. */
export interface TracedCall {
  /** ms since the start of the trace. */
  readonly atMs: number;
  /** Function as the trace names it. */
  readonly function: string;
  /** Application, where the trace has one; '' otherwise. */
  readonly application: string;
  /** How long it ran, ms; 0: the trace does not say. */
  readonly durationMs: number;
}

/** Text of a trace file, in lines or in chunks of any length. */
export type TraceText = Iterable<string> | AsyncIterable<string>;

/** Longest line that is read, characters: 1 440 minutes with ten digits each are a tenth of it. */
const MAX_LINE = 256 * 1024;

/** A line of a file. */
export interface Line {
  readonly text: string;
  /** From 1. */
  readonly number: number;
}

/** Cuts text into lines. TRACE_INVALID for a line that is too long to be one. */
export async function* linesOf(text: TraceText, file: string): AsyncGenerator<Line> {
  let rest = '';
  let number = 0;
  for await (const chunk of text) {
    const parts = (rest + chunk).split('\n');
    rest = parts.pop() ?? '';
    for (const part of parts) yield { text: part.replace(/\r$/, ''), number: ++number };
    if (rest.length > MAX_LINE) throw invalidTrace(file, number + 1, `has more than ${MAX_LINE} characters; is this a text file?`);
  }
  if (rest !== '') yield { text: rest.replace(/\r$/, ''), number: ++number };
}

/** The error for a line of a trace. */
export function invalidTrace(file: string, line: number, problem: string): MetronomeError {
  return new MetronomeError('TRACE_INVALID', `${file}:${line} ${problem}`);
}

/** The columns of a header line, by name. TRACE_INVALID if one that is needed is missing. */
export function columnsOf(header: Line | undefined, needed: readonly string[], file: string, format: string): ReadonlyMap<string, number> {
  if (header === undefined) throw invalidTrace(file, 1, `is empty; a trace in the format ${format} begins with a line of column names.`);
  const names = header.text.replace(/^\uFEFF/, '').split(',').map((name) => name.trim());
  const missing = needed.filter((name) => !names.includes(name));
  if (missing.length > 0) throw invalidTrace(file, header.number, `has no column ${missing.map((name) => `"${name}"`).join(', ')}; the format ${format} has ${needed.join(', ')}. Found: ${names.slice(0, 8).join(', ')}${names.length > 8 ? ', …' : ''}.`);
  return new Map(names.map((name, i) => [name, i]));
}

/** A number of a cell. TRACE_INVALID unless it is one and not below `min`. */
export function numberOf(cell: string | undefined, column: string, line: Line, file: string, min = 0): number {
  const value = cell === undefined || cell.trim() === '' ? Number.NaN : Number(cell);
  if (!Number.isFinite(value) || value < min) throw invalidTrace(file, line.number, `column ${column} must be a number of at least ${min}, not ${JSON.stringify((cell ?? '').slice(0, 40))}.`);
  return value;
}
