/** Piscina entry of what-if: one replica of a recorded workload per task. The workload comes once, with the thread. */
import { workerData } from 'node:worker_threads';
import { simulateWork, type Alternative, type ReplicaResult } from '../src/what-if/simulate-work.ts';
import type { WhatIfWork } from '../src/what-if/workload.ts';

/** What a task is given; plain data. */
export interface WhatIfTask {
  readonly alternative: Alternative;
  readonly seed: number;
  /** Later requests are left out. */
  readonly untilMs: number;
}

/** Runs it to its end. */
export default function simulate({ alternative, seed, untilMs }: WhatIfTask): ReplicaResult {
  return simulateWork(workerData as WhatIfWork, alternative, seed, { untilMs }); // given to the pool
}
