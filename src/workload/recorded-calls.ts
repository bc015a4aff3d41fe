/**
 * The arrivals of a recording as a workload: the same functions, sizes and times, for load generators and benches. Steps of workflows are left out
 * (whoever runs the workflow makes them), the runs themselves are told by name.
 */
import { readHistory } from '../recording/history.ts';
import { openRecording } from '../recording/read-recording.ts';
import type { TracedCall } from './traces/trace.ts';

/** One call of a recording. */
export interface RecordedCall extends TracedCall {
  readonly isWorkflow: boolean;
  /** Bytes of its inputs, one each. */
  readonly inputBytes: readonly number[];
  readonly payloadBytes: number;
  readonly localityKey: string;
  /** θ, ms. */
  readonly slaMs: number;
}

/** Which calls. */
export interface RecordedCallsOptions {
  /** From and until when, ms since the recording began. @default all */
  readonly fromMs?: number;
  readonly untilMs?: number;
  /** Time is divided by it: 2 is twice the rate. @default 1 */
  readonly speed?: number;
}

/** The calls in order of time, `atMs` from 0. Throws INVALID_REQUEST or STATE_CORRUPT as openRecording does. */
export function recordedCalls(path: string, options: RecordedCallsOptions = {}): RecordedCall[] {
  const { fromMs = 0, untilMs = Infinity, speed = 1 } = options;
  const { invocations, functions } = readHistory(openRecording(path));
  const runs = new Set<string>();
  const calls: RecordedCall[] = [];
  for (const { atMs, functionName, inputs, payloadBytes, localityKey, slaMs, purpose, outcome } of invocations) {
    if (atMs < fromMs || atMs >= untilMs) continue;
    if (purpose !== undefined) {
      if (runs.has(purpose.run)) continue;
      runs.add(purpose.run);
    }
    calls.push({
      atMs: (atMs - fromMs) / speed, function: purpose?.workflow ?? functionName, isWorkflow: purpose !== undefined, application: functions.get(functionName)?.profile?.application ?? '', durationMs: purpose === undefined ? (outcome?.ranMs ?? 0) : 0,
      inputBytes: inputs.map(({ sizeBytes }) => sizeBytes), payloadBytes, localityKey, slaMs: purpose?.runSlaMs ?? slaMs,
    });
  }
  return calls;
}
