/** Replicas of a what-if in a Piscina pool. Results come in the order of alternatives and seeds, whatever ended first. */
import { availableParallelism } from 'node:os';
import { Piscina } from 'piscina';
import type { Alternative, ReplicaResult } from './simulate-work.ts';
import type { WhatIfWork } from './workload.ts';

/** A pool that knows the workload. */
export interface Replicas {
  /** All seeds of all alternatives, of requests that came before `untilMs`. Rejects with the signal's reason, or with what a replica threw. */
  run(alternatives: readonly Alternative[], seeds: readonly number[], untilMs?: number): Promise<ReplicaResult[][]>;
  close(): Promise<void>;
}

/** Starts it. */
export function startReplicas(work: WhatIfWork, options: { readonly threads?: number | undefined; readonly signal?: AbortSignal; readonly onReplica?: () => void } = {}): Replicas {
  const threads = options.threads ?? availableParallelism();
  const filename = new URL(`../../workers/what-if${import.meta.url.endsWith('.ts') ? '.ts' : '.js'}`, import.meta.url).href;
  const pool = new Piscina<{ alternative: Alternative; seed: number; untilMs: number }, ReplicaResult>({ filename, minThreads: 1, maxThreads: threads, concurrentTasksPerWorker: 1, recordTiming: false, workerData: work });
  const one = async (alternative: Alternative, seed: number, untilMs: number): Promise<ReplicaResult> => {
    const result = await pool.run({ alternative, seed, untilMs }, options.signal === undefined ? {} : { signal: options.signal });
    options.onReplica?.();
    return result;
  };
  return {
    run: (alternatives, seeds, untilMs = Infinity) => Promise.all(alternatives.map((alternative) => Promise.all(seeds.map((seed) => one(alternative, seed, untilMs))))),
    close: () => pool.destroy(),
  };
}
