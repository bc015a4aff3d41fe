/** Sums up many invocations as they end: times by phase, nodes, errors. */
import { MetronomeError, type ErrorCode } from '../core/errors.ts';
import type { InvokeResponse } from '../rpc/gen/metronome/v1/invoke.ts';
import { isLocal } from './output/invocation-text.ts';
import { summarise, type Summary } from './percentiles.ts';

/** What is summed up; `client` is the whole round trip as the caller sees it. */
const MEASURES = ['client', 'total', 'predicted', 'queued', 'delayed', 'dispatched', 'fetched', 'initialised', 'ran'] as const;

/** The figures of many invocations. Times in ms, of those that succeeded. */
export interface InvocationSummary {
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

/** A sum that grows. */
export interface InvocationTally {
  readonly settled: number;
  readonly failed: number;
  readonly firstError: MetronomeError | undefined;
  /** `clientMs`: the round trip. */
  succeeded(response: InvokeResponse, clientMs: number): void;
  /** Returns what it was. */
  threw(thrown: unknown): MetronomeError;
  summary(seconds: number): InvocationSummary;
}

/** Starts at nothing. Keeps nine numbers for each success. */
export function createInvocationTally(): InvocationTally {
  const values: Record<(typeof MEASURES)[number], number[]> = { client: [], total: [], predicted: [], queued: [], delayed: [], dispatched: [], fetched: [], initialised: [], ran: [] };
  const errors: Partial<Record<ErrorCode, number>> = {};
  const nodes: Record<string, number> = {};
  let failed = 0, local = 0;
  let firstError: MetronomeError | undefined;
  return {
    get settled() {
      return values.client.length + failed;
    },
    get failed() {
      return failed;
    },
    get firstError() {
      return firstError;
    },
    succeeded({ phases, locality, node }, clientMs) {
      values.client.push(clientMs);
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
      if (isLocal(locality)) local++;
      if (node !== '') nodes[node] = (nodes[node] ?? 0) + 1;
    },
    threw(thrown) {
      const error = MetronomeError.from(thrown);
      failed++;
      errors[error.code] = (errors[error.code] ?? 0) + 1;
      firstError ??= error;
      return error;
    },
    summary(seconds) {
      const succeeded = values.client.length;
      return {
        invocations: succeeded + failed, succeeded, failed, errors, seconds,
        perSecond: seconds === 0 ? 0 : succeeded / seconds,
        localShare: succeeded === 0 ? 0 : local / succeeded,
        nodes,
        phasesMs: Object.fromEntries(MEASURES.map((name) => [name, summarise(values[name])])) as InvocationSummary['phasesMs'], // the keys are MEASURES
      };
    },
  };
}
