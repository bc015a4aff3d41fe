/**
 * An excerpt in the Trace Event Format that chrome://tracing and Perfetto open: a process for the scheduler with what waits, one per node with
 * what is there. Stays that overlap stand in lanes; a lane is a thread of the format.
 */
import { invocationsOf, type Excerpt } from './excerpt.ts';

interface TraceEvent {
  readonly name: string;
  readonly ph: 'X' | 'M' | 'i';
  readonly pid: number;
  readonly tid: number;
  /** µs since the beginning of the excerpt. */
  readonly ts?: number;
  readonly dur?: number;
  readonly cat?: string;
  readonly s?: 't';
  readonly args?: Readonly<Record<string, unknown>>;
}

const SCHEDULER = 1;
const ON_NODE = 'dispatched';

/** The trace as JSON text. */
export function toChromeTrace(excerpt: Excerpt): string {
  const { transitions } = excerpt;
  const firstMs = transitions.reduce((least, { atMs }) => Math.min(least, atMs), Infinity);
  const lastMs = transitions.reduce((most, { atMs }) => Math.max(most, atMs), -Infinity);
  const events: TraceEvent[] = [];
  const pids = new Map<string, number>();
  /** By process: when each lane is free again, ms. */
  const lanes = new Map<number, number[]>();
  const pidOf = (node: string): number => {
    const known = pids.get(node);
    if (known !== undefined) return known;
    const pid = SCHEDULER + 1 + pids.size;
    pids.set(node, pid);
    return pid;
  };
  const stays = invocationsOf(excerpt).flatMap((invocation) => invocation.stays.map((stay) => ({ ...stay, id: invocation.id, function: invocation.function }))).sort((a, b) => a.fromMs - b.fromMs);
  for (const { id, function: name, state, node, delayingFor, reason, fromMs, toMs } of stays) {
    const untilMs = toMs ?? lastMs;
    const pid = state === ON_NODE && node !== '' ? pidOf(node) : SCHEDULER;
    const free = lanes.get(pid) ?? [];
    lanes.set(pid, free);
    const found = free.findIndex((freeMs) => freeMs <= fromMs);
    const lane = found < 0 ? free.length : found;
    free[lane] = untilMs;
    const common = { name: `${name} ${state}${delayingFor === '' ? '' : ` for ${delayingFor}`}`, cat: state, pid, tid: lane + 1, ts: Math.round((fromMs - firstMs) * 1_000), args: { id, node, reason, ...(toMs === undefined ? { goesOn: true } : {}) } };
    if (untilMs === fromMs) events.push({ ...common, ph: 'i', s: 't' });
    else events.push({ ...common, ph: 'X', dur: Math.round((untilMs - fromMs) * 1_000) });
  }
  const named = (pid: number, text: string): TraceEvent => ({ name: 'process_name', ph: 'M', pid, tid: 0, args: { name: text } });
  return `${JSON.stringify({
    displayTimeUnit: 'ms',
    otherData: { title: excerpt.title, missed: excerpt.missed, beginsAtUnixMs: Number.isFinite(firstMs) ? firstMs : 0 },
    traceEvents: [named(SCHEDULER, 'scheduler'), ...[...pids].map(([node, pid]) => named(pid, `node ${node}`)), ...events],
  })}\n`;
}
