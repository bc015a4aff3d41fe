/**
 * The recording of observations, for evaluation and for a first training: JSON Lines, gzipped as a file (`*.jsonl.gz`). The first line
 * says what it is; then one line per execution, with names instead of indexes, so that a recording means the same anywhere.
 *
 *     {"metronome":"observations","format":1,"source":"recorded","note":"four applications, 4 nodes"}
 *     {"f":"log-split","n":"node-1","s":{"startState":4,"inputBytes":52428800},"p":[12.1,0.4,310.2]}
 *
 * `s` holds the features of the situation by name (docs/reference/features.md) with what really happened in startState and missingBytes; what is
 * absent was not known. `p` holds fetch, initialise and run in ms, `q` what had been predicted at dispatch, with its P95 and P99, if anything was. `a`, the application, may be given on a function's first line. `x` in place of `p` says
 * why an execution is none to learn from: failed, cancelled, timedOut or invalid; `c` says how many there were when it was more than one. Schedulers write one such
 * line per function, reason and batch, with an empty `n` and `s`.
 */
import { MetronomeError } from '../core/errors.ts';
import { isSituationFeature, type SituationFeature } from './features.ts';
import { EXCLUSIONS, type Exclusion, type Phases, type Served } from './model/observation.ts';

/** First line of a recording. */
export interface ObservationLogHeader {
  /** Where the executions come from. */
  readonly source: 'recorded' | 'synthetic';
  /** For people. */
  readonly note: string;
}

/** One execution of a recording. */
export interface RecordedObservation {
  readonly function: string;
  readonly node: string;
  /** '' when it is not given. */
  readonly application: string;
  /** Without the two keys: they are the names above. */
  readonly situation: Partial<Readonly<Record<SituationFeature, number>>>;
  /** Exactly one of both. */
  readonly phases?: Phases;
  /** What had been predicted at dispatch; beside phases only. */
  readonly served?: Served;
  readonly excluded?: Exclusion;
  /** How many were excluded; absent: one. */
  readonly count?: number;
}

const FORMAT = 1;

/** The header as a line, with its end. */
export function formatLogHeader({ source, note }: ObservationLogHeader): string {
  return `${JSON.stringify({ metronome: 'observations', format: FORMAT, source, note })}\n`;
}

/** An execution as a line, with its end. */
export function formatObservation({ function: name, node, application, situation, phases, served, excluded, count }: RecordedObservation): string {
  return `${JSON.stringify({
    f: name,
    n: node,
    ...(application === '' ? {} : { a: application }),
    s: situation,
    ...(phases === undefined ? {} : { p: [phases.fetchedMs, phases.initialisedMs, phases.ranMs] }),
    ...(served === undefined ? {} : { q: [brief(served.meanMs), brief(served.p95Ms), brief(served.p99Ms)] }),
    ...(excluded === undefined ? {} : { x: excluded, ...(count === undefined ? {} : { c: count }) }),
  })}\n`;
}

/** Six digits are enough of a prediction. */
const brief = (ms: number): number => Number(ms.toPrecision(6));

function corrupt(place: string, what: string): MetronomeError {
  return new MetronomeError('STATE_CORRUPT', `${place} is not a recording of observations: ${what}.`);
}

function parseObject(line: string, place: string): Record<string, unknown> {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch {
    throw corrupt(place, 'the line is not JSON');
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw corrupt(place, 'the line is not an object');
  return value as Record<string, unknown>; // checked just now
}

/** Reads the first line. `place` goes into the message of an error. */
export function parseLogHeader(line: string, place: string): ObservationLogHeader {
  const { metronome, format, source, note } = parseObject(line, place);
  if (metronome !== 'observations') throw corrupt(place, 'the first line must say {"metronome":"observations",…}');
  if (format !== FORMAT) throw corrupt(place, `format ${String(format)}, this build reads ${FORMAT}`);
  if (source !== 'recorded' && source !== 'synthetic') throw corrupt(place, 'source must be "recorded" or "synthetic"');
  return { source, note: typeof note === 'string' ? note : '' };
}

/** Reads one further line. */
export function parseObservation(line: string, place: string): RecordedObservation {
  const { f, n, a = '', s, p, q, x, c } = parseObject(line, place);
  if (typeof f !== 'string' || f === '') throw corrupt(place, '"f" must be the name of a function');
  if (typeof n !== 'string') throw corrupt(place, '"n" must be the name of a node');
  if (typeof a !== 'string') throw corrupt(place, '"a" must be the name of an application');
  if (typeof s !== 'object' || s === null) throw corrupt(place, '"s" must hold the features');
  const situation: Partial<Record<SituationFeature, number>> = {};
  for (const [name, value] of Object.entries(s)) {
    if (!isSituationFeature(name) || name === 'functionIndex' || name === 'nodeIndex') throw corrupt(place, `"${name}" is no feature of a situation`);
    if (typeof value !== 'number' || !Number.isFinite(value)) throw corrupt(place, `feature "${name}" is no finite number`);
    situation[name] = value;
  }
  if ((p === undefined) === (x === undefined)) throw corrupt(place, 'exactly one of "p" and "x" must be given');
  if (x !== undefined) {
    const excluded = EXCLUSIONS.find((known) => known === x);
    if (excluded === undefined) throw corrupt(place, `"x" must be one of ${EXCLUSIONS.join(', ')}`);
    if (c === undefined) return { function: f, node: n, application: a, situation, excluded };
    if (typeof c !== 'number' || !Number.isSafeInteger(c) || c < 1) throw corrupt(place, '"c" must be a whole number, 1 or more');
    return { function: f, node: n, application: a, situation, excluded, count: c };
  }
  const [fetchedMs, initialisedMs, ranMs] = parseThree(p, '"p"', place);
  const phases = { fetchedMs, initialisedMs, ranMs };
  if (q === undefined) return { function: f, node: n, application: a, situation, phases };
  const [meanMs, p95Ms, p99Ms] = parseThree(q, '"q"', place);
  return { function: f, node: n, application: a, situation, phases, served: { meanMs, p95Ms, p99Ms } };
}

function parseThree(value: unknown, what: string, place: string): readonly [number, number, number] {
  const isTime = (ms: unknown): ms is number => typeof ms === 'number' && Number.isFinite(ms) && ms >= 0;
  if (Array.isArray(value) && value.length === 3) {
    const [first, second, third] = value as unknown[];
    if (isTime(first) && isTime(second) && isTime(third)) return [first, second, third];
  }
  throw corrupt(place, `${what} must hold three numbers, 0 or more`);
}
