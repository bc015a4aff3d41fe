/**
 * What would my traffic have seen? The recorded arrivals under the recorded policy in simulation, as control, and under another: simulation is compared
 * with simulation. How far the control is from what was recorded is told beside it.
 */
import { compare, figuresOfSide, type Comparison, type Figures } from './compare.ts';
import { meansOf, PhaseSum, type PhaseMeans, type PhaseSums } from './phases.ts';
import type { Replicas } from './replicas.ts';
import type { Alternative, ReplicaResult } from './simulate-work.ts';
import type { WhatIfWork, WorkRequest } from './workload.ts';

/** The recorded parameters. */
export const CONTROL: Alternative = { policy: '' };

/** One line of the answer. */
export interface WhatIfRow {
  /** "(all)", or a function or workflow. */
  readonly name: string;
  readonly isWorkflow: boolean;
  readonly comparison: Comparison;
}

/** How far the control is from what was recorded: what an answer is worth. */
export interface Reality {
  /** Requests that completed in the recording: what was measured, and what the control says of the same ones. */
  readonly requests: number;
  readonly recorded: Figures;
  readonly control: Figures;
  /** Control ÷ recorded − 1; NaN: nothing completed. */
  readonly error: { readonly meanMs: number; readonly p95Ms: number };
  /** Means per invocation, where the time went. */
  readonly phases: { readonly recorded: PhaseMeans; readonly control: PhaseMeans };
  /** The same by function, those with the greatest difference first. */
  readonly functions: readonly { readonly name: string; readonly invocations: number; readonly recorded: PhaseMeans; readonly control: PhaseMeans }[];
}

/** The answer. */
export interface WhatIfAnswer {
  readonly rows: readonly WhatIfRow[];
  readonly reality: Reality;
  readonly seeds: number;
}

/** Latencies of requests, seed by seed. */
export function latenciesOf(results: readonly ReplicaResult[]): Float64Array[] {
  return results.map(({ latencies }) => latencies);
}

/** θ by request. */
export function slasOf({ requests }: WhatIfWork): Float64Array {
  return Float64Array.from(requests, ({ slaMs }) => slaMs);
}

/** Compares an alternative with the control. */
export async function whatIf(work: WhatIfWork, replicas: Replicas, alternative: Alternative, seeds: readonly number[]): Promise<WhatIfAnswer> {
  const [control, other] = await replicas.run([CONTROL, alternative], seeds);
  return answerOf(work, control ?? [], other ?? [], seeds.length);
}

/** The answer from finished replicas. `fromMs`: of requests that came then or later. */
export function answerOf(work: WhatIfWork, control: readonly ReplicaResult[], alternative: readonly ReplicaResult[], seeds: number, fromMs = 0): WhatIfAnswer {
  const { requests } = work;
  const slaMs = slasOf(work);
  const sides = { control: latenciesOf(control), alternative: latenciesOf(alternative), slaMs };
  const byName = new Map<string, { isWorkflow: boolean; places: number[] }>();
  const counted = requests.flatMap(({ atMs }, place) => (atMs >= fromMs ? [place] : []));
  for (const place of counted) {
    const { name, isWorkflow } = requests[place] as WorkRequest;
    const key = `${isWorkflow ? 'w' : 'f'} ${name}`;
    const group = byName.get(key) ?? { isWorkflow, places: [] };
    byName.set(key, group);
    group.places.push(place);
  }
  const rows: WhatIfRow[] = [{ name: '(all)', isWorkflow: false, comparison: compare({ ...sides, places: counted }, 1) }];
  for (const [key, { isWorkflow, places }] of [...byName].sort(([a], [b]) => (a < b ? -1 : 1))) rows.push({ name: key.slice(2), isWorkflow, comparison: compare({ ...sides, places }, 1) });
  return { rows, reality: realityOf(work, control), seeds };
}

/** What the control says of what was recorded, over all of it. */
export function realityOf(work: WhatIfWork, control: readonly ReplicaResult[]): Reality {
  const { requests, arrivals, functions } = work;
  const slaMs = slasOf(work);
  const completed = requests.flatMap(({ recordedMs }, place) => (Number.isNaN(recordedMs) ? [] : [place]));
  const recorded = figuresOfSide([Float64Array.from(requests, ({ recordedMs }) => recordedMs)], slaMs, completed), simulated = figuresOfSide(latenciesOf(control), slaMs, completed);
  const was = functions.map(() => new PhaseSum()), is = functions.map(() => new PhaseSum());
  for (const { function: place, recorded: phases } of arrivals) if (phases !== undefined) was[place]?.add(phases);
  for (const { phases } of control) phases.forEach((sums, place) => is[place]?.merge(sums));
  const distance = (a: PhaseSums, b: PhaseSums): number => Math.abs(totalOf(meansOf(a)) - totalOf(meansOf(b))) * a.invocations;
  return {
    requests: completed.length, recorded, control: simulated, error: { meanMs: simulated.meanMs / recorded.meanMs - 1, p95Ms: simulated.p95Ms / recorded.p95Ms - 1 },
    phases: { recorded: meansOf(together(was)), control: meansOf(together(is)) },
    functions: functions.map(({ settings }, place) => ({ name: settings.name, was: was[place] as PhaseSum, is: is[place] as PhaseSum })).filter(({ was: sums }) => sums.invocations > 0).sort((a, b) => distance(b.was, b.is) - distance(a.was, a.is))
      .map(({ name, was: a, is: b }) => ({ name, invocations: a.invocations, recorded: meansOf(a), control: meansOf(b) })),
  };
}

function together(sums: readonly PhaseSums[]): PhaseSum {
  const all = new PhaseSum();
  for (const each of sums) all.merge(each);
  return all;
}

function totalOf({ waitedMs, fetchedMs, initialisedMs, ranMs, otherMs }: PhaseMeans): number {
  return waitedMs + fetchedMs + initialisedMs + ranMs + otherMs;
}
