/**
 * What would my traffic have seen? The recorded arrivals under the recorded policy in simulation, as control, and under another: simulation is compared
 * with simulation. How far the control is from what was recorded is told beside it.
 */
import { compare, figuresOfSide, type Comparison, type Figures } from './compare.ts';
import type { Replicas } from './replicas.ts';
import type { Alternative, ReplicaResult } from './simulate-work.ts';
import type { WhatIfWork } from './workload.ts';

/** The recorded parameters. */
export const CONTROL: Alternative = { policy: '' };

/** One line of the answer. */
export interface WhatIfRow {
  /** "(all)", or a function or workflow. */
  readonly name: string;
  readonly isWorkflow: boolean;
  readonly comparison: Comparison;
}

/** The answer. */
export interface WhatIfAnswer {
  readonly rows: readonly WhatIfRow[];
  /** Requests that completed in the recording: what was measured, and what the control says of the same ones. */
  readonly reality: { readonly requests: number; readonly recorded: Figures; readonly control: Figures };
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

/** The answer from finished replicas. */
export function answerOf(work: WhatIfWork, control: readonly ReplicaResult[], alternative: readonly ReplicaResult[], seeds: number): WhatIfAnswer {
  const { requests } = work;
  const slaMs = slasOf(work);
  const sides = { control: latenciesOf(control), alternative: latenciesOf(alternative), slaMs };
  const byName = new Map<string, { isWorkflow: boolean; places: number[] }>();
  requests.forEach(({ name, isWorkflow }, place) => {
    const key = `${isWorkflow ? 'w' : 'f'} ${name}`;
    const group = byName.get(key) ?? { isWorkflow, places: [] };
    byName.set(key, group);
    group.places.push(place);
  });
  const rows: WhatIfRow[] = [{ name: '(all)', isWorkflow: false, comparison: compare(sides, 1) }];
  for (const [key, { isWorkflow, places }] of [...byName].sort(([a], [b]) => (a < b ? -1 : 1))) rows.push({ name: key.slice(2), isWorkflow, comparison: compare({ ...sides, places }, 1) });
  const completed = requests.flatMap(({ recordedMs }, place) => (Number.isNaN(recordedMs) ? [] : [place]));
  const recorded = Float64Array.from(requests, ({ recordedMs }) => recordedMs);
  return { rows, reality: { requests: completed.length, recorded: figuresOfSide([recorded], slaMs, completed), control: figuresOfSide(sides.control, slaMs, completed) }, seeds };
}
