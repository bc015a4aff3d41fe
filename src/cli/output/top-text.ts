/** The screen of `metronome top`, and its lines where there is no screen: pure text from what was told in a while. */
import { formatBytes } from '../../core/units.ts';
import { quantileOf } from '../../inspect/latency-buckets.ts';
import { mergeEnded } from '../../inspect/traffic.ts';
import type { EndedGroup } from '../../inspect/page-api.ts';
import type { EndedTraffic, WatchTrafficResponse } from '../../rpc/gen/metronome/v1/inspect.ts';
import { renderTable } from './table.ts';
import { clockText, msCell, percent } from './words.ts';

/** What was told lately. */
export interface TopView {
  readonly latest: WatchTrafficResponse;
  /** Of what the groups and rates are, ms. */
  readonly windowMs: number;
  readonly groups: readonly EndedGroup[];
  /** Arrivals in the window. */
  readonly submitted: number;
  readonly shadow: { readonly decisions: number; readonly agreed: number; readonly activeMs: number; readonly shadowMs: number };
}

/** The last messages, for rates and percentiles over a window. */
export class TopWindow {
  readonly #windowMs: number;
  readonly #messages: WatchTrafficResponse[] = [];

  constructor(windowMs: number) {
    this.#windowMs = windowMs;
  }

  add(message: WatchTrafficResponse): void {
    const last = this.#messages.at(-1);
    // Counters that went back: another scheduler.
    if (last !== undefined && (message.counters['submitted'] ?? 0) < (last.counters['submitted'] ?? 0)) this.#messages.length = 0;
    this.#messages.push(message);
    while (this.#messages.length > 2 && message.atUnixMs - (this.#messages[1]?.atUnixMs ?? 0) >= this.#windowMs) this.#messages.shift();
  }

  /** Undefined before the first message. */
  view(): TopView | undefined {
    const [oldest] = this.#messages;
    const latest = this.#messages.at(-1);
    if (oldest === undefined || latest === undefined) return undefined;
    // The oldest one only says where counters stood; what ended before it is not of the window.
    const since = this.#messages.length > 1 ? this.#messages.slice(1) : this.#messages;
    const shadow = { decisions: 0, agreed: 0, activeMs: 0, shadowMs: 0 };
    for (const { shadow: each } of since) {
      if (each === undefined) continue;
      shadow.decisions += each.decisions;
      shadow.agreed += each.agreed;
      shadow.activeMs += each.activeMs;
      shadow.shadowMs += each.shadowMs;
    }
    return {
      latest, windowMs: latest.atUnixMs - oldest.atUnixMs, submitted: (latest.counters['submitted'] ?? 0) - (oldest.counters['submitted'] ?? 0), shadow,
      groups: since.reduce<readonly EndedGroup[]>((sum, { ended }) => mergeEnded(sum, ended.map(toGroup)), []),
    };
  }
}

function toGroup(ended: EndedTraffic): EndedGroup {
  return { ...ended, error: 0, leastSlackMs: 0 };
}

/** Everything of all groups together. */
function total(groups: readonly EndedGroup[]): EndedGroup {
  const histogram: number[] = [];
  const sum = { function: '', policy: '', count: 0, failed: 0, slaMissed: 0, latencyMs: 0, delayedMs: 0, savedMs: 0, warm: 0, local: 0, error: 0, leastSlackMs: 0, histogram };
  for (const group of groups) {
    for (const field of ['count', 'failed', 'slaMissed', 'latencyMs', 'delayedMs', 'savedMs', 'warm', 'local'] as const) sum[field] += group[field];
    group.histogram.forEach((count, bucket) => (histogram[bucket] = (histogram[bucket] ?? 0) + count));
  }
  return { ...sum, histogram: Array.from(histogram, (count) => count ?? 0) };
}

const shareOf = (part: number, whole: number): string => (whole === 0 ? '' : percent(part / whole));

/** One line for logs and pipes. */
export function topLine({ latest, windowMs, groups, submitted }: TopView): string {
  const all = total(groups);
  const perS = (count: number): string => (windowMs === 0 ? '0' : ((count * 1_000) / windowMs).toFixed(1));
  const slots = latest.nodes.reduce((sum, node) => sum + node.slots, 0), used = latest.nodes.reduce((sum, node) => sum + node.used, 0);
  return [
    clockText(latest.atUnixMs), `live ${latest.live}`, `delaying ${latest.delayingForLocality}+${latest.delayingForCapacity}`, `in ${perS(submitted)}/s`, `out ${perS(all.count)}/s`, `failed ${all.failed}`,
    `p50 ${msCell(quantileOf(all.histogram, 0.5))} ms`, `p99 ${msCell(quantileOf(all.histogram, 0.99))} ms`, `local ${shareOf(all.local, all.count) || '-'}`, `warm ${shareOf(all.warm, all.count) || '-'}`, `slots ${used}/${slots}`,
  ].join('  ');
}

/** The whole screen, at most `rows` lines of at most `columns` characters. */
export function topScreen(view: TopView, { columns, rows, address }: { readonly columns: number | undefined; readonly rows: number | undefined; readonly address: string }): string {
  const { latest, windowMs, groups, submitted, shadow } = view;
  const perS = (count: number): string => (windowMs === 0 ? '0' : ((count * 1_000) / windowMs).toFixed(1));
  const all = total(groups);
  const lines: string[] = [
    `metronome ${address}  policy ${latest.policy}${latest.shadowPolicy === '' ? '' : `, shadow ${latest.shadowPolicy}`}  ${clockText(latest.atUnixMs).slice(0, 8)}`,
    `live ${latest.live}, waiting for a better node ${latest.delayingForLocality}, for room ${latest.delayingForCapacity}; in ${perS(submitted)}/s, out ${perS(all.count)}/s, failed ${perS(all.failed)}/s (last ${Math.round(windowMs / 1_000)} s)`,
    `states  ${Object.entries(latest.states).map(([state, count]) => `${state} ${count}`).join('  ')}`,
    `waiting for better nodes took ${msCell(all.delayedMs)} ms and saved ${msCell(all.savedMs)} ms, as predicted`,
  ];
  if (latest.shadowPolicy !== '') {
    lines.push(shadow.decisions === 0 ? `shadow  no decision to compare` : `shadow  agrees on ${shareOf(shadow.agreed, shadow.decisions)} of ${shadow.decisions} decisions; predicted completion ${msCell(shadow.shadowMs / shadow.decisions)} ms against ${msCell(shadow.activeMs / shadow.decisions)} ms`);
  }
  lines.push('');
  const width = { width: columns };
  const functions = [...groups].sort((a, b) => b.count - a.count);
  const nodes = [...latest.nodes].sort((a, b) => b.used / Math.max(1, b.slots) - a.used / Math.max(1, a.slots));
  // Half of what is left for either, as far as they need it.
  const room = rows === undefined ? Infinity : Math.max(2, rows - lines.length - 4);
  const forNodes = Math.min(nodes.length, Math.max(Math.ceil(room / 2), room - functions.length));
  const forFunctions = Math.max(0, Math.min(functions.length, room - forNodes));
  lines.push(...renderTable(functions.slice(0, forFunctions), [
    { header: 'FUNCTION', cell: ({ function: name }) => (name === '' ? '(others)' : name) },
    { header: 'POLICY', cell: ({ policy }) => policy, optional: true },
    { header: 'PER s', align: 'right', cell: ({ count }) => perS(count) },
    { header: 'P50 ms', align: 'right', cell: ({ histogram }) => msCell(quantileOf(histogram, 0.5)) },
    { header: 'P95 ms', align: 'right', cell: ({ histogram }) => msCell(quantileOf(histogram, 0.95)) },
    { header: 'P99 ms', align: 'right', cell: ({ histogram }) => msCell(quantileOf(histogram, 0.99)) },
    { header: 'LOCAL', align: 'right', cell: ({ local, count }) => shareOf(local, count) },
    { header: 'WARM', align: 'right', cell: ({ warm, count }) => shareOf(warm, count) },
    { header: 'LATE', align: 'right', cell: ({ slaMissed }) => String(slaMissed) },
    { header: 'FAILED', align: 'right', cell: ({ failed }) => String(failed) },
    { header: 'WAITED ms', align: 'right', cell: ({ delayedMs }) => msCell(delayedMs), optional: true },
    { header: 'SAVED ms', align: 'right', cell: ({ savedMs }) => msCell(savedMs), optional: true },
  ], width).trimEnd().split('\n'), '');
  lines.push(...renderTable(nodes.slice(0, forNodes), [
    { header: 'NODE', cell: ({ name }) => name },
    { header: 'STATE', cell: ({ state }) => state },
    { header: 'SLOTS', cell: ({ used, slots }) => `${gauge(used, slots)} ${used}/${slots}` },
    { header: 'WAITING', align: 'right', cell: ({ waiting }) => String(waiting) },
    { header: 'WARM', align: 'right', cell: ({ warm }) => String(warm) },
    { header: 'ZYGOTES', align: 'right', cell: ({ zygotes }) => String(zygotes), optional: true },
    { header: 'CPU', align: 'right', cell: ({ cpu }) => percent(cpu) },
    { header: 'MEMORY', align: 'right', cell: ({ memoryUsed }) => percent(memoryUsed) },
    { header: 'OBJECTS', align: 'right', cell: ({ objectBytes }) => formatBytes(objectBytes), optional: true },
  ], width).trimEnd().split('\n'));
  return lines.slice(0, rows).map((line) => (columns === undefined ? line : [...line].slice(0, columns).join(''))).join('\n');
}

const GAUGE = 8;

/** Eight characters: how much of it is in use. */
function gauge(used: number, of: number): string {
  const full = of === 0 ? 0 : Math.min(GAUGE, Math.ceil((GAUGE * used) / of));
  return '█'.repeat(full) + '░'.repeat(GAUGE - full);
}
