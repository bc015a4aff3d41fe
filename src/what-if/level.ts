/**
 * Costs that make the control right on average. What runs, starts and transfers cost is fitted to each by itself; in the simulation they meet other ages of
 * sandboxes, other kinds of starts and transfers at the same time, and their means come out a little different. A run of the control tells how far, by function, and
 * the costs are levelled by it. Waiting is left alone: it follows from the rest, and is what policies differ in.
 */
import { PhaseSum, type PhaseSums } from './phases.ts';
import { simulateWork } from './simulate-work.ts';
import type { WhatIfWork } from './workload.ts';

/** How often, and by how much at most each time. */
const ROUNDS = 2, MOST_FACTOR = 2;
/** Not one of those that are compared. */
const SEED = 1_000_003;
/** Invocations of a function from which its means say something. */
const LEAST_INVOCATIONS = 5;

/** The same work with costs levelled. Deterministic; costs two replicas of the control. */
export function levelWork(work: WhatIfWork): WhatIfWork {
  const recorded = work.functions.map(() => new PhaseSum());
  for (const { function: place, recorded: phases } of work.arrivals) if (phases !== undefined) recorded[place]?.add(phases);
  let levelled = work;
  for (let round = 0; round < ROUNDS; round++) {
    const { phases: simulated } = simulateWork(levelled, { policy: '' }, SEED);
    const runs = recorded.map((was, place) => factorOf(was.ranMs / was.invocations, meanOf(simulated[place], 'ranMs'), was.invocations));
    const starts = recorded.map((was, place) => factorOf(was.initialisedMs / startsOf(was), perStart(simulated[place]), startsOf(was)));
    const link = factorOf(sumOf(recorded, 'fetchedMs'), sumOf(simulated, 'fetchedMs'), recorded.reduce((sum, { invocations }) => sum + invocations, 0));
    levelled = {
      ...levelled, latencyMs: levelled.latencyMs * link, bytesPerMs: levelled.bytesPerMs / link,
      arrivals: levelled.arrivals.map((arrival) => ({ ...arrival, runMs: arrival.runMs * (runs[arrival.function] ?? 1) })), // NaN stays
      functions: levelled.functions.map((one, place) => {
        const { installMs, processMs, importMs, zygoteMs } = one.profile, factor = starts[place] ?? 1;
        return { ...one, profile: { ...one.profile, installMs: installMs * factor, processMs: processMs * factor, importMs: importMs * factor, zygoteMs: zygoteMs * factor } };
      }),
    };
  }
  return levelled;
}

/** What a cost is multiplied with; 1 where too little was seen. */
function factorOf(recorded: number, simulated: number, seen: number): number {
  const factor = recorded / simulated;
  return seen < LEAST_INVOCATIONS || !(factor > 0) || !Number.isFinite(factor) ? 1 : Math.min(MOST_FACTOR, Math.max(1 / MOST_FACTOR, factor));
}

function meanOf(sums: PhaseSums | undefined, phase: 'ranMs'): number {
  return sums === undefined ? Number.NaN : sums[phase] / sums.invocations;
}

/** Starts that were not warm: what is spent on making sandboxes ready is spent by them. */
function startsOf({ starts: [cold, packages, zygote] }: PhaseSums): number {
  return cold + packages + zygote;
}

function perStart(sums: PhaseSums | undefined): number {
  return sums === undefined ? Number.NaN : sums.initialisedMs / startsOf(sums);
}

function sumOf(all: readonly PhaseSums[], phase: 'fetchedMs'): number {
  return all.reduce((sum, sums) => sum + sums[phase], 0);
}
