/**
 * The inputs of the scheduler: every method that can change a decision, and what is kept of its arguments. Payloads, logs and the caller's
 * own data are not: sizes and references are. A test holds this list against the class.
 */
import type { ErrorRecord, ErrorCode } from '../core/errors.ts';
import type { RunResult } from '../core/invocation.ts';
import type { Scheduler, Submission } from '../scheduler/scheduler.ts';
import type { Purpose } from './facts.ts';

/** Names of the methods, in the order of their numbers on the tape; new ones go to the end. */
export const INPUTS = [
  'setPolicy', 'putFunction', 'deleteFunction', 'placeFor', 'submit', 'cancel', 'plan', 'started', 'result', 'rejected', 'adopt', 'nodeRegistered', 'nodeSnapshot', 'nodeHeard', 'nodeDisconnected', 'nodeGone',
  'drainNode', 'setWarm', 'setPackages', 'packageAdded', 'packageRemoved', 'setZygote', 'forgetLocality', 'objectAdded', 'objectRemoved', 'drain', 'stop', 'setShadow',
  'nodeSlots',
] as const satisfies readonly (keyof Scheduler)[];
export type InputName = (typeof INPUTS)[number];

/** Members of the scheduler that change nothing. */
export const QUESTIONS = ['policyName', 'engine', 'isDraining', 'listPolicies', 'shadow', 'flows'] as const satisfies readonly (keyof Scheduler)[];

/** A submission as it is recorded. */
export interface RecordedSubmission extends Omit<Submission, 'cargo'> {
  readonly purpose?: Purpose;
}

/** A result as it is recorded: no payload, no logs, of an error only its code. */
export interface RecordedResult extends Omit<RunResult, 'payload' | 'logs' | 'error'> {
  readonly payloadBytes: number;
  readonly code?: ErrorCode;
}

const NOTHING = new Uint8Array();

/** What is kept of the arguments. `purposeOf`: what the caller's own data say of it. */
export function keptArguments(name: InputName, args: readonly unknown[], purposeOf: (cargo: unknown) => Purpose | undefined): readonly unknown[] {
  switch (name) {
    case 'submit':
    case 'adopt':
    case 'plan': {
      const { cargo, ...kept } = args[0] as Submission; // the first argument of all three
      const purpose = name === 'submit' ? purposeOf(cargo) : undefined;
      const submission: RecordedSubmission = purpose === undefined ? kept : { ...kept, purpose };
      return name === 'plan' ? [submission] : [submission, ...args.slice(1)];
    }
    case 'result': {
      const { payload, logs: _logs, error, ...kept } = args[2] as RunResult;
      const result: RecordedResult = { ...kept, payloadBytes: payload.length, ...(error === undefined ? {} : { code: error.code }) };
      return [args[0], args[1], result];
    }
    case 'rejected':
      return [args[0], args[1], (args[2] as ErrorRecord).code];
    case 'cancel':
      return args[1] === undefined ? [args[0]] : [args[0], (args[1] as ErrorRecord).code];
    default:
      return args;
  }
}

/** Arguments for the same call again. `onPlan` gets the answer of a plan. */
export function callArguments(name: InputName, kept: readonly unknown[]): unknown[] {
  switch (name) {
    case 'submit':
    case 'adopt': {
      const { purpose: _purpose, ...request } = kept[0] as RecordedSubmission; // written by keptArguments
      return [{ ...request, cargo: undefined }, ...kept.slice(1)];
    }
    case 'plan':
      return [{ ...(kept[0] as RecordedSubmission), cargo: undefined }, () => {}];
    case 'result': {
      const { payloadBytes: _bytes, code, ...result } = kept[2] as RecordedResult;
      return [kept[0], kept[1], { ...result, payload: NOTHING, ...(code === undefined ? {} : { error: errorOf(code) }) }];
    }
    case 'rejected':
      return [kept[0], kept[1], errorOf(kept[2] as ErrorCode)];
    case 'cancel':
      return kept.length < 2 ? [kept[0]] : [kept[0], errorOf(kept[1] as ErrorCode)];
    default:
      return [...kept];
  }
}

function errorOf(code: ErrorCode): ErrorRecord {
  return { code, message: 'The message was not recorded.' };
}
