/** Independent replicas of a scenario, in parallel in a Piscina pool; results come in the order of policies and seeds, whatever ended first. */
import { availableParallelism } from 'node:os';
import { Piscina } from 'piscina';
import type { Scenario, ScenarioResult } from './scenario.ts';

/** What is to run. */
export interface ReplicaOptions {
  readonly scenario: Scenario;
  readonly policies: readonly string[];
  readonly seeds: readonly number[];
  /** @default the number of cores */
  readonly threads?: number;
  readonly signal?: AbortSignal;
  /** Told of each replica that ended. */
  readonly onResult?: (result: ScenarioResult, done: number, all: number) => void;
}

/** Runs all; rejects with the signal's reason, or with what a replica threw. The pool is gone afterwards. */
export async function runReplicas(options: ReplicaOptions): Promise<ScenarioResult[]> {
  const { scenario, policies, seeds, onResult } = options;
  const threads = options.threads ?? availableParallelism();
  const entry = new URL(`../../workers/simulate${import.meta.url.endsWith('.ts') ? '.ts' : '.js'}`, import.meta.url).href;
  const pool = new Piscina<{ scenario: Scenario; policy: string; seed: number }, ScenarioResult>({ filename: entry, minThreads: 1, maxThreads: threads, concurrentTasksPerWorker: 1, recordTiming: false });
  try {
    const tasks = policies.flatMap((policy) => seeds.map((seed) => ({ scenario, policy, seed })));
    let done = 0;
    return await Promise.all(tasks.map(async (task) => {
      const result = await pool.run(task, options.signal === undefined ? {} : { signal: options.signal });
      onResult?.(result, ++done, tasks.length);
      return result;
    }));
  } finally {
    await pool.destroy();
  }
}
