/** Enums, timings and times of the contract as words and numbers for tables. */
import { LocalityClass, StartState, type Locality } from '../../rpc/gen/metronome/v1/common.ts';
import { DecisionAction } from '../../rpc/gen/metronome/v1/inspect.ts';
import { InvocationState } from '../../rpc/gen/metronome/v1/invoke.ts';
import { NodeStatus } from '../../rpc/gen/metronome/v1/node.ts';
import { REASONS } from '../../core/reasons.ts';

/** The key of an enum's value in lower case with hyphens: TIMED_OUT → "timed-out"; '' for unspecified. */
function wordOf(values: Readonly<Record<string, number>>, value: number): string {
  for (const [name, number] of Object.entries(values)) if (number === value) return name === 'UNSPECIFIED' ? '' : name.toLowerCase().replaceAll('_', '-');
  return `unknown (${value})`;
}

export const stateWord = (state: InvocationState): string => wordOf(InvocationState, state);
export const startWord = (state: StartState): string => wordOf(StartState, state);
export const statusWord = (status: NodeStatus): string => wordOf(NodeStatus, status);
export const actionWord = (action: DecisionAction): string => wordOf(DecisionAction, action);
export const classWord = (locality: LocalityClass): string => wordOf(LocalityClass, locality);

/** Names of the states as people write them. */
export const STATE_WORDS: readonly string[] = Object.values(InvocationState).filter((state) => state !== InvocationState.UNSPECIFIED).map(stateWord);

/** "delaying" → its number; undefined for what is none. Also takes timedOut and TIMED_OUT. */
export function parseState(word: string): InvocationState | undefined {
  const wanted = word.toLowerCase().replaceAll(/[-_]/g, '');
  return Object.values(InvocationState).find((state) => state !== InvocationState.UNSPECIFIED && stateWord(state).replaceAll('-', '') === wanted);
}

/** True once nothing more can happen to it. */
export function isOver(state: InvocationState): boolean {
  return state >= InvocationState.COMPLETED;
}

/** "local 92%", "fallback 3%", or '' when nothing was decided. */
export function localityText(locality: Locality | undefined): string {
  if (locality === undefined || locality.class === LocalityClass.UNSPECIFIED) return '';
  return `${classWord(locality.class)} ${percent(locality.degree)}`;
}

/** 0.924 → "92%". */
export function percent(share: number): string {
  return `${Math.round(share * 100)}%`;
}

/** Milliseconds for a column of numbers: two significant places below 10, one below 100, none above. 0 is "0". */
export function msCell(ms: number): string {
  if (ms === 0) return '0';
  if (ms < 10) return ms.toFixed(2);
  return ms < 100 ? ms.toFixed(1) : String(Math.round(ms));
}

/** ms since 1970 as ISO time; '' for 0. */
export function timeText(unixMs: number): string {
  return unixMs === 0 ? '' : new Date(unixMs).toISOString();
}

/** ms since 1970 as "14:03:07.123" of this machine's zone. */
export function clockText(unixMs: number): string {
  const date = new Date(unixMs);
  const two = (value: number): string => String(value).padStart(2, '0');
  return `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}.${String(date.getMilliseconds()).padStart(3, '0')}`;
}

/** How long ago: "12s", "3m", "5h", "2d". */
export function ageText(unixMs: number, nowMs: number): string {
  if (unixMs === 0) return '';
  const seconds = Math.max(0, Math.round((nowMs - unixMs) / 1_000));
  if (seconds < 120) return `${seconds}s`;
  if (seconds < 7_200) return `${Math.round(seconds / 60)}m`;
  return seconds < 172_800 ? `${Math.round(seconds / 3_600)}h` : `${Math.round(seconds / 86_400)}d`;
}

/** The sentence of a reason, without its full stop; an unknown reason (of a newer scheduler) as it is. */
export function reasonText(reason: string): string {
  return Object.hasOwn(REASONS, reason) ? (REASONS as Readonly<Record<string, string>>)[reason]?.replace(/\.$/, '') ?? reason : reason;
}
