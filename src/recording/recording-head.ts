/** The head of a recording: what a replay must know beside the tapes. */
import { REASONS } from '../core/reasons.ts';
import { POLICY_NAMES } from '../policy/registry.ts';
import type { SchedulerOptions } from '../scheduler/scheduler.ts';
import type { RecordedModel, RecordingHead } from './format.ts';
import { INPUTS } from './inputs.ts';

/** Reasons by their numbers on the tape. */
export const REASON_NAMES: readonly string[] = Object.keys(REASONS);

/** The head for a scheduler with these options, written by this version. `model`: the knobs of its forest, if it has one. */
export function headOf(options: SchedulerOptions, version: string, startedAtMs: number, model?: RecordedModel): Omit<RecordingHead, 'segment'> {
  const { clock: _clock, nodeTable: _nodeTable, predictor, transport: _transport, observer: _observer, ...plain } = options;
  return { version, startedAtMs, predictor: predictor.name, ...(model === undefined ? {} : { model }), scheduler: plain, inputs: INPUTS, policies: POLICY_NAMES, reasons: REASON_NAMES };
}
