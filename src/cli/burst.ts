/** Invokes the same thing many times over one stream, some at a time, and sums up what came back. */
import { MetronomeError, type ErrorCode } from '../core/errors.ts';
import type { SchedulerClient } from '../rpc/client.ts';
import type { PartialMessage } from '../rpc/partial.ts';
import type { InvokeRequest, InvokeResponse } from '../rpc/gen/metronome/v1/invoke.ts';
import { isLocal } from './output/invocation-text.ts';
import { summarise, type Summary } from './percentiles.ts';

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

/** The figures of a burst. Times in ms, of those that succeeded. */
export interface BurstSummary {
  readonly invocations: number;
  readonly succeeded: number;
  readonly failed: number;
  readonly errors: Partial<Record<ErrorCode, number>>;
  readonly seconds: number;
  readonly perSecond: number;
  /** Share of the successful ones that ran on a local node, 0 to 1. */
  readonly localShare: number;
  readonly nodes: Record<string, number>;
  readonly phasesMs: Record<(typeof MEASURES)[number], Summary>;
}

/** What is summed up; `client` is the whole round trip as the caller sees it. */
const MEASURES = ['client', 'total', 'predicted', 'queued', 'delayed', 'dispatched', 'fetched', 'initialised', 'ran'] as const;

/** Runs the burst to its end; a broken connection ends it with that error. The first error of an invocation is in `firstError`. */
export async function runBurst(options: BurstOptions): Promise<{ readonly summary: BurstSummary; readonly firstError: MetronomeError | undefined }> {
  const { count, concurrency, signal } = options;
  const values: Record<(typeof MEASURES)[number], number[]> = { client: [], total: [], predicted: [], queued: [], delayed: [], dispatched: [], fetched: [], initialised: [], ran: [] };
  const errors: Partial<Record<ErrorCode, number>> = {};
  const nodes: Record<string, number> = {};
  let failed = 0;
  let local = 0;
  let firstError: MetronomeError | undefined;
  let next = 0;

  const stream = options.client.openInvokeStream({ maxInFlight: concurrency });
  const one = async (i: number): Promise<void> => {
    const startedAt = performance.now();
    try {
      const response = await stream.invoke(options.request(i), { signal });
      values.client.push(performance.now() - startedAt);
      const { phases } = response;
      if (phases !== undefined) {
        values.total.push(phases.totalMs);
        values.predicted.push(phases.predictedMs);
        values.queued.push(phases.queuedMs);
        values.delayed.push(phases.delayedMs);
        values.dispatched.push(phases.dispatchedMs);
        values.fetched.push(phases.fetchedMs);
        values.initialised.push(phases.initialisedMs);
        values.ran.push(phases.ranMs);
      }
      if (isLocal(response.locality)) local++;
      if (response.node !== '') nodes[response.node] = (nodes[response.node] ?? 0) + 1;
      options.onSettled?.(i, response);
    } catch (thrown) {
      const error = MetronomeError.from(thrown);
      failed++;
      errors[error.code] = (errors[error.code] ?? 0) + 1;
      firstError ??= error;
      options.onSettled?.(i, error);
    }
  };
  const startedAt = performance.now();
  await Promise.all(Array.from({ length: Math.min(concurrency, count) }, async () => {
    while (next < count && !signal.aborted) await one(next++);
  }));
  const seconds = (performance.now() - startedAt) / 1_000;
  // Broken already, or idle now: closing waits for nothing.
  await Promise.race([stream.close(), stream.ended]);
  const succeeded = values.client.length;
  return {
    firstError,
    summary: {
      invocations: succeeded + failed, succeeded, failed, errors, seconds,
      perSecond: seconds === 0 ? 0 : succeeded / seconds,
      localShare: succeeded === 0 ? 0 : local / succeeded,
      nodes,
      phasesMs: Object.fromEntries(MEASURES.map((name) => [name, summarise(values[name])])) as BurstSummary['phasesMs'], // the keys are MEASURES
    },
  };
}
