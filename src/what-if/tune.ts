/**
 * Searches α, β, γ and κ for a target on a recording: a coarse grid, then finer steps around the best. The search sees the first part of the requests only; what
 * the best is worth is told on the second part, with other seeds: the best of many looks better than it is on what it was chosen by.
 */
import { MetronomeError } from '../core/errors.ts';
import { figuresOfSide, type Figures } from './compare.ts';
import type { Replicas } from './replicas.ts';
import { CONTROL, answerOf, latenciesOf, slasOf, type WhatIfAnswer } from './what-if.ts';
import type { Alternative } from './simulate-work.ts';
import type { WhatIfWork } from './workload.ts';

/** What is searched, by the names of the paper. */
export const TUNABLE = ['alpha', 'beta', 'gamma', 'kappa'] as const;
export type Tunable = (typeof TUNABLE)[number];
export const TARGETS = ['mean', 'p99', 'sla-misses'] as const;
export type Target = (typeof TARGETS)[number];

/** A tunable: where it belongs, its grid, its bounds, and the policies that look at it. */
interface Dimension {
  readonly key: string;
  readonly field: 'localityGain' | 'safetyMargin' | 'hysteresis' | 'price';
  readonly grid: readonly number[];
  readonly least: number;
  readonly most: number;
  readonly step: number;
  readonly policies: readonly string[];
}

export const DIMENSIONS: Readonly<Record<Tunable, Dimension>> = {
  alpha: { key: 'delay.localityGain', field: 'localityGain', grid: [0.5, 0.7, 0.85, 0.95], least: 0.05, most: 0.99, step: 0.1, policies: ['metronome', 'rule-delay', 'lookahead'] },
  beta: { key: 'delay.safetyMargin', field: 'safetyMargin', grid: [0, 0.1, 0.3, 0.5], least: 0, most: 0.95, step: 0.1, policies: ['metronome'] },
  gamma: { key: 'policies.lookaheadHysteresis', field: 'hysteresis', grid: [0.7, 0.85, 0.95, 1], least: 0.1, most: 1, step: 0.1, policies: ['lookahead'] },
  kappa: { key: 'policies.lookaheadPrice', field: 'price', grid: [0, 0.5, 1, 2], least: 0, most: 8, step: 0.5, policies: ['lookahead'] },
};
/** Rounds of refinement; the step halves in each. */
const ROUNDS = 2;
/** Parameter sets that are tried at most. No policy looks at more than three parameters: 64 sets of a grid, and what the rounds add. */
const MOST_TRIES = 96;
/** Share of the requests that the search sees; and how many each part must have at least, or there are no parts. */
const SEARCHED = 0.5, LEAST_REQUESTS = 40;

/** One set of parameters that was tried. */
export interface Tried {
  readonly alternative: Alternative;
  readonly figures: Figures;
  /** Nothing that was tried is better in mean and in P99. */
  readonly isOnFrontier: boolean;
}

/** What the search found. */
export interface Tuned {
  readonly tried: readonly Tried[];
  readonly best: Alternative;
  /** When the part begins on which the answer was made, ms; 0: the recording is too short, and the answer is on what the search saw. */
  readonly splitAtMs: number;
  /** The best against the recorded parameters, on the second part and with seeds that the search did not use. */
  readonly answer: WhatIfAnswer;
}

/** Searches. `seeds`: for the search; as many further ones for the comparison. Throws INVALID_REQUEST when the policy looks at none of `what`. */
export async function tune(work: WhatIfWork, replicas: Replicas, options: { readonly what: readonly Tunable[]; readonly target: Target; readonly policy: string; readonly nodes?: number; readonly seeds: number; readonly onRound?: (text: string) => void }): Promise<Tuned> {
  const policy = options.policy === '' ? (work.scheduler.policy ?? 'metronome') : options.policy;
  const idle = options.what.filter((name) => !DIMENSIONS[name].policies.includes(policy));
  if (idle.length > 0) throw new MetronomeError('INVALID_REQUEST', `Policy "${policy}" does not look at ${idle.join(' and ')}: ${idle.map((name) => `${name} is for ${DIMENSIONS[name].policies.join(', ')}`).join('; ')}.`);
  const searchSeeds = Array.from({ length: options.seeds }, (_, i) => i + 1), otherSeeds = searchSeeds.map((seed) => seed + options.seeds);
  const slaMs = slasOf(work);
  const order = work.requests.map(({ atMs }) => atMs).sort((a, b) => a - b);
  const splitAtMs = order.length < 2 * LEAST_REQUESTS ? 0 : (order[Math.floor(order.length * SEARCHED)] as number);
  const searched = work.requests.flatMap(({ atMs }, place) => (splitAtMs === 0 || atMs < splitAtMs ? [place] : []));
  const base: Alternative = { policy: options.policy, ...(options.nodes === undefined ? {} : { nodes: options.nodes }) };
  const seen = new Map<string, { alternative: Alternative; figures: Figures }>();
  const valueOf = ({ figures }: { figures: Figures }): readonly number[] => (options.target === 'mean' ? [figures.meanMs, figures.p99Ms] : options.target === 'p99' ? [figures.p99Ms, figures.meanMs] : [figures.slaMisses, figures.p99Ms]);
  const isBetter = (a: { figures: Figures }, b: { figures: Figures }): boolean => {
    const [x = Infinity, x2 = Infinity] = valueOf(a), [y = Infinity, y2 = Infinity] = valueOf(b);
    return x < y || (x === y && x2 < y2);
  };
  const tryAll = async (candidates: readonly Alternative[]): Promise<void> => {
    const fresh = new Map(candidates.map((candidate) => [JSON.stringify(candidate), candidate] as const).filter(([key]) => !seen.has(key)));
    const some = [...fresh].slice(0, Math.max(0, MOST_TRIES - seen.size));
    const results = await replicas.run(some.map(([, candidate]) => candidate), searchSeeds, splitAtMs === 0 ? Infinity : splitAtMs);
    some.forEach(([key, alternative], i) => seen.set(key, { alternative, figures: figuresOfSide(latenciesOf(results[i] ?? []), slaMs, searched) }));
  };
  const best = (): { alternative: Alternative; figures: Figures } => [...seen.values()].reduce((a, b) => (isBetter(b, a) ? b : a));

  let grid: Alternative[] = [base];
  for (const name of options.what) grid = grid.flatMap((partial) => DIMENSIONS[name].grid.map((value) => ({ ...partial, [DIMENSIONS[name].field]: value })));
  options.onRound?.(`${grid.length} sets of parameters, ${searchSeeds.length} seeds each`);
  // The parameters as they are compete too.
  await tryAll([base, ...grid]);
  for (let round = 1; round <= ROUNDS; round++) {
    const { alternative } = best();
    const around = options.what.flatMap((name) => {
      const { field, least, most, step } = DIMENSIONS[name];
      const here = alternative[field] ?? recordedValue(work, field);
      return [-1, 1].map((direction) => ({ ...alternative, [field]: rounded(Math.min(most, Math.max(least, here + (direction * step) / 2 ** round))) }));
    });
    options.onRound?.(`round ${round} around ${JSON.stringify(alternative)}`);
    await tryAll(around);
  }
  const chosen = best().alternative;
  const [control, other] = await replicas.run([CONTROL, chosen], otherSeeds);
  const all = [...seen.values()];
  const tried = all.map((one): Tried => ({ ...one, isOnFrontier: !all.some(({ figures }) => figures.meanMs <= one.figures.meanMs && figures.p99Ms <= one.figures.p99Ms && (figures.meanMs < one.figures.meanMs || figures.p99Ms < one.figures.p99Ms)) }));
  return { tried, best: chosen, splitAtMs, answer: answerOf(work, control ?? [], other ?? [], otherSeeds.length, splitAtMs) };
}

/** What the recorded scheduler had. */
function recordedValue({ scheduler }: WhatIfWork, field: Dimension['field']): number {
  switch (field) {
    case 'hysteresis': return scheduler.lookahead?.hysteresis ?? 0.95;
    case 'price': return scheduler.lookahead?.price ?? 1;
    case 'localityGain':
    case 'safetyMargin': return scheduler[field] ?? 0;
  }
}

function rounded(value: number): number {
  return Number(value.toFixed(4));
}
