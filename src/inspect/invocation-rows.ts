/** Invocations as the page lists them. */
import { INVOCATION_STATES, isTerminal, type Invocation } from '../core/invocation.ts';
import { guardsOf } from './guards.ts';
import type { TransitionRow, InvocationRow } from './page-api.ts';
import type { TransitionRecord } from './transition-ring.ts';

/** One row; `nameOf` tells the name of a node, '' of none. */
export function toInvocationRow(invocation: Invocation, nameOf: (node: number) => string, nowMs: number): InvocationRow {
  return {
    id: invocation.id,
    seq: invocation.seq,
    function: invocation.functionName,
    policy: invocation.decidedBy,
    state: INVOCATION_STATES[invocation.state] ?? 'unspecified',
    delayingFor: invocation.delayingFor,
    node: nameOf(invocation.node >= 0 ? invocation.node : invocation.target),
    arrivedAtMs: invocation.arrivedAtMs,
    latencyMs: (isTerminal(invocation.state) ? invocation.endedAtMs : nowMs) - invocation.arrivedAtMs,
    slaMs: invocation.slaMs,
    reason: invocation.reason,
  };
}

/** One transition. */
export function toTransitionRow(record: TransitionRecord, nameOf: (node: number) => string): TransitionRow {
  const from = INVOCATION_STATES[record.from] ?? 'unspecified', to = INVOCATION_STATES[record.to] ?? 'unspecified';
  const guards = guardsOf(from, record.event, to);
  return {
    id: record.id,
    function: record.functionName,
    from,
    to,
    event: record.event,
    reason: record.reason,
    node: nameOf(record.node),
    delayingFor: record.delayingFor,
    atMs: record.atMs,
    ...(guards.length === 0 ? {} : { guards }),
  };
}
