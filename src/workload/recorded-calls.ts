/**
 * The arrivals of a recording as a workload: the same functions, inputs, sizes and times, for load generators and benches. Steps of workflows are left out
 * (whoever runs the workflow makes them), the runs themselves are told by name.
 */
import type { InputObject } from '../core/invocation.ts';
import { readHistory } from '../recording/history.ts';
import { openRecording } from '../recording/read-recording.ts';
import type { TracedCall } from './traces/trace.ts';

/** One call of a recording. */
export interface RecordedCall extends TracedCall {
  readonly isWorkflow: boolean;
  /** Its inputs; of a run, those that its first steps read. Equal ids are the same object. */
  readonly inputs: readonly InputObject[];
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
  /** Inputs of the runs that were seen; a step that waits for others reads what those made. */
  const runs = new Map<string, InputObject[]>();
  const calls: RecordedCall[] = [];
  for (const { atMs, functionName, inputs, payloadBytes, localityKey, slaMs, purpose, outcome } of invocations) {
    if (atMs < fromMs) continue;
    if (purpose !== undefined) {
      const known = runs.get(purpose.run);
      if (known !== undefined) {
        if (purpose.after.length === 0) known.push(...inputs.filter(({ id }) => !known.some((each) => each.id === id)));
        continue;
      }
    }
    if (atMs >= untilMs) continue;
    const own = [...inputs];
    if (purpose !== undefined) {
      // Its begin lies before `fromMs`: a part of a run is none.
      if (purpose.after.length > 0) continue;
      runs.set(purpose.run, own);
    }
    calls.push({
      atMs: (atMs - fromMs) / speed, function: purpose?.workflow ?? functionName, isWorkflow: purpose !== undefined, application: functions.get(functionName)?.profile?.application ?? '', durationMs: purpose === undefined ? (outcome?.ranMs ?? 0) : 0,
      inputs: own, payloadBytes, localityKey, slaMs: purpose?.runSlaMs ?? slaMs,
    });
  }
  return calls;
}
