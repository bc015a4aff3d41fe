/** Invokes the same thing many times over one stream, some at a time, and sums up what came back. */
import type { MetronomeError } from '../core/errors.ts';
import type { SchedulerClient } from '../rpc/client.ts';
import type { PartialMessage } from '../rpc/partial.ts';
import type { InvokeRequest, InvokeResponse } from '../rpc/gen/metronome/v1/invoke.ts';
import { createInvocationTally, type InvocationSummary } from './invocation-tally.ts';

/** What to invoke, how often. */
export interface BurstOptions {
  readonly client: SchedulerClient;
  /** The request number `i`, from 0. */
  readonly request: (i: number) => PartialMessage<InvokeRequest>;
  readonly count: number;
  /** In flight at the same time. */
  readonly concurrency: number;
  readonly signal: AbortSignal;
  /** Told of every end. */
  readonly onSettled?: (i: number, outcome: InvokeResponse | MetronomeError) => void;
}

/** Runs the burst to its end; a broken connection ends it with that error. The first error of an invocation is in `firstError`. */
export async function runBurst(options: BurstOptions): Promise<{ readonly summary: InvocationSummary; readonly firstError: MetronomeError | undefined }> {
  const { count, concurrency, signal } = options;
  const tally = createInvocationTally();
  let next = 0;

  const stream = options.client.openInvokeStream({ maxInFlight: concurrency });
  const one = async (i: number): Promise<void> => {
    const startedAt = performance.now();
    try {
      const response = await stream.invoke(options.request(i), { signal });
      tally.succeeded(response, performance.now() - startedAt);
      options.onSettled?.(i, response);
    } catch (thrown) {
      options.onSettled?.(i, tally.threw(thrown));
    }
  };
  const startedAt = performance.now();
  await Promise.all(Array.from({ length: Math.min(concurrency, count) }, async () => {
    while (next < count && !signal.aborted) await one(next++);
  }));
  const seconds = (performance.now() - startedAt) / 1_000;
  // Broken already, or idle now: closing waits for nothing.
  await Promise.race([stream.close(), stream.ended]);
  return { firstError: tally.firstError, summary: tally.summary(seconds) };
}
