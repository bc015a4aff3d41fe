/** Random invocations and random events for them, from a seeded stream. */
import type { ErrorCode } from '../../src/core/errors.ts';
import { Invocation, type InvocationEvent, type InvocationHost, type RunResult } from '../../src/core/invocation.ts';
import type { Random } from '../../src/core/random.ts';

const CODES: readonly (ErrorCode | undefined)[] = [undefined, 'CANCELLED', 'DEADLINE_EXCEEDED', 'FUNCTION_TIMEOUT', 'FUNCTION_FAILED', 'NODE_LOST', 'SANDBOX_FAILED', 'NODE_FULL', 'INTERNAL'];

/** What one run said, with or without an error. */
export function runResult(code?: ErrorCode): RunResult {
  return {
    ...(code === undefined ? {} : { error: { code, message: `ended with ${code}` } }),
    payload: new Uint8Array(), contentType: '', outputs: [], fetchedMs: 1, initialisedMs: 2, installedMs: 0, ranMs: 3, startState: 4, fetchedBytes: 0, acceptedAtMs: 0, releasedAtMs: 0,
  };
}

/** A new invocation. */
export function newInvocation(host: InvocationHost, settings: { readonly idempotent?: boolean; readonly maxAttempts?: number } = {}): Invocation {
  return new Invocation(host, {
    seq: 0, id: 'i0', functionName: 'f', functionIndex: 0, arrivedAtMs: host.nowMs, slaMs: 1_000, expiresAtMs: Infinity, inputs: [], inputBytes: 0, localityKey: '', policyName: '',
    idempotent: settings.idempotent ?? false, maxAttempts: settings.maxAttempts ?? 1,
  });
}

/** Any event with any payload; those that lead on are more likely, so that sequences get far. */
export function randomEvent(random: Random): InvocationEvent {
  const node = random.below(4) - 1;
  const code = CODES[random.below(CODES.length)];
  const error = { code: code ?? 'INTERNAL', message: 'random' } as const;
  switch (random.below(17)) {
    case 0: case 1: return { type: 'PREDICTED', reason: 'predicted' };
    case 2: case 3: return { type: 'DISPATCH', reason: 'noLocalNode', node };
    case 4: case 5: return { type: 'DELAY', reason: 'waitForLocalNode', for: random.below(2) === 0 ? 'locality' : 'capacity', node };
    case 6: return { type: 'NODE_RELEASED', reason: 'localNodeReleased', node };
    case 7: return { type: 'SLACK_EXHAUSTED', reason: 'slackExhausted', node };
    case 8: return { type: 'TARGET_LOST', reason: 'targetLost' };
    case 9: return { type: 'CLASSIFY', reason: 'roomAppeared' };
    case 10: return { type: 'STARTED', reason: 'started', startState: 1 + random.below(4) };
    case 11: case 12: return { type: 'RESULT', reason: 'completed', result: runResult(code) };
    case 13: return { type: 'REJECTED', reason: 'rejectedByNode', error };
    case 14: return { type: 'NODE_LOST', reason: 'nodeLost', error };
    case 15: return random.below(2) === 0 ? { type: 'CANCEL', reason: 'callerCancelled', error } : { type: 'EXPIRE', reason: 'deadlineExceeded', error };
    default: return random.below(4) === 0 ? { type: 'FAIL', reason: 'functionDeleted', error } : { type: 'CLASSIFY', reason: 'roomAppeared' };
  }
}
