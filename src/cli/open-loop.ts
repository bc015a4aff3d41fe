/**
 * Sends requests at given times, whatever becomes of those before: an open loop. Times count from when a request should have left, so that a client that is late
 * does not hide what others would have waited.
 */
import { setTimeout as delay } from 'node:timers/promises';
import type { MetronomeError } from '../core/errors.ts';
import type { SchedulerClient } from '../rpc/client.ts';
import type { PartialMessage } from '../rpc/partial.ts';
import type { InvokeRequest } from '../rpc/gen/metronome/v1/invoke.ts';
import { createInvocationTally, type InvocationSummary } from './invocation-tally.ts';
import { summarise, type Summary } from './percentiles.ts';

/** What to send. */
export interface OpenLoopOptions {
  readonly client: SchedulerClient;
  /** When each leaves, ms since the begin, ascending. */
  readonly dueMs: readonly number[];
  /** The request number `i`, from 0. */
  readonly request: (i: number) => PartialMessage<InvokeRequest>;
  /** At most so many without an answer; what would be more is not sent, and counted. */
  readonly maxInFlight: number;
  /** No new ones once it aborts, and those on their way are cancelled. */
  readonly signal: AbortSignal;
  /** Told at every arrival and every end. */
  readonly onChange?: (state: OpenLoopState) => void;
}

/** How far it is. */
export interface OpenLoopState {
  readonly sent: number;
  readonly notSent: number;
  readonly inFlight: number;
  readonly failed: number;
}

/** What came of it. */
export interface OpenLoopResult {
  readonly summary: InvocationSummary;
  /** Were due while too many were in flight. */
  readonly notSent: number;
  /** How much later than they should requests left, ms. */
  readonly lateMs: Summary;
  readonly firstError: MetronomeError | undefined;
}

/** Sends all and waits for all answers. */
export async function runOpenLoop({ client, dueMs, request, maxInFlight, signal, onChange }: OpenLoopOptions): Promise<OpenLoopResult> {
  const tally = createInvocationTally();
  const late: number[] = [];
  const running = new Set<Promise<void>>();
  let notSent = 0;
  const changed = (): void => onChange?.({ sent: late.length, notSent, inFlight: running.size, failed: tally.failed });
  const beginMs = performance.now();
  for (let i = 0; i < dueMs.length && !signal.aborted; i++) {
    const atMs = beginMs + (dueMs[i] as number); // within bounds
    const restMs = atMs - performance.now();
    if (restMs > 0) await delay(restMs, undefined, { signal }).catch(() => {}); // the loop looks at the signal
    if (signal.aborted) break;
    if (running.size >= maxInFlight) notSent++;
    else {
      late.push(Math.max(0, performance.now() - atMs));
      const one = client.invoke(request(i), { signal }).then(
        (response) => tally.succeeded(response, performance.now() - atMs),
        (thrown: unknown) => void tally.threw(thrown),
      ).then(() => {
        running.delete(one);
        changed();
      });
      running.add(one);
    }
    changed();
  }
  await Promise.all(running);
  return { summary: tally.summary((performance.now() - beginMs) / 1_000), notSent, lateMs: summarise(late), firstError: tally.firstError };
}
