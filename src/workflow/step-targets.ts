/**
 * The latency targets of a workflow's steps (docs/decisions/023-step-targets.md). A step that may use up all that is left of the run's target waits for a better node as if no step
 * came after it, and the run misses its target by that. So a step's target leaves time for what follows: learned from the runs that ended, as the longest way from the
 * end of the step to the end of the run, without the time that steps on it waited for better nodes, for that is what targets are to bound.
 */
import type { StepEdges } from './graph.ts';

/** Runs that are remembered. */
const RUNS = 64;
/** Of the runs remembered, so many take no longer than what is reckoned with. */
const QUANTILE = 0.9;

/** The targets of one workflow's steps. One for all of its runs: it learns from them. */
export interface StepTargets {
  /**
   * Target of a step that begins when `leftMs` are left of the run's, ms, at least 1: what the later steps leave. If that does not suffice for the step itself it is its share of what is left, and
   * before a run has ended every step on the longest way has an equal share. O(1).
   */
  targetMs(step: string, leftMs: number): number;
  /** A run completed: how long each of its steps took, from its first call to its last result, ms, without waits for better nodes. O(steps + edges). */
  runEnded(tookMs: ReadonlyMap<string, number>): void;
}

interface Step {
  readonly name: string;
  readonly successors: Step[];
  /** Steps on the longest way from here to the end, this one included. */
  height: number;
  /** Lately, upper quantiles, ms. */
  ownMs: number;
  restMs: number;
  readonly own: Float64Array;
  readonly rest: Float64Array;
}

/** Of a workflow without cycles; nothing is known yet. */
export function createStepTargets(steps: readonly StepEdges[]): StepTargets {
  const byName = new Map(steps.map(({ name }): [string, Step] => [name, { name, successors: [], height: 0, ownMs: 0, restMs: 0, own: new Float64Array(RUNS), rest: new Float64Array(RUNS) }]));
  for (const { name, after } of steps) for (const before of after) byName.get(before)?.successors.push(byName.get(name) as Step); // every step is in it
  const backwards = lastFirst(steps).map((name) => byName.get(name) as Step); // as above
  for (const step of backwards) step.height = 1 + Math.max(0, ...step.successors.map(({ height }) => height));
  let runs = 0;
  return {
    targetMs(name, leftMs) {
      const step = byName.get(name);
      if (step === undefined) return Math.max(1, leftMs);
      const { ownMs, restMs, height } = step;
      if (runs === 0) return Math.max(1, leftMs / height);
      const shareMs = ownMs + restMs > 0 ? (leftMs * ownMs) / (ownMs + restMs) : leftMs;
      // What the rest leaves is less than the share exactly when the two do not fit.
      return Math.max(1, leftMs - restMs, shareMs);
    },
    runEnded(tookMs) {
      const place = runs % RUNS;
      for (const step of backwards) {
        step.own[place] = tookMs.get(step.name) ?? 0;
        let restMs = 0;
        for (const { own, rest } of step.successors) restMs = Math.max(restMs, (own[place] as number) + (rest[place] as number));
        step.rest[place] = restMs;
      }
      runs++;
      for (const step of backwards) {
        step.ownMs = upperOf(step.own, Math.min(runs, RUNS));
        step.restMs = upperOf(step.rest, Math.min(runs, RUNS));
      }
    },
  };
}

/** The names so that every step comes before those that it waits for. */
function lastFirst(steps: readonly StepEdges[]): string[] {
  const byName = new Map(steps.map((step) => [step.name, step]));
  const readers = new Map(steps.map(({ name }) => [name, 0]));
  for (const { after } of steps) for (const name of after) readers.set(name, (readers.get(name) ?? 0) + 1);
  const order = steps.filter(({ name }) => readers.get(name) === 0).map(({ name }) => name);
  // Grows while it is walked, to all steps at most.
  for (const name of order) {
    for (const before of byName.get(name)?.after ?? []) {
      const left = (readers.get(before) ?? 0) - 1;
      readers.set(before, left);
      if (left === 0) order.push(before);
    }
  }
  return order;
}

/** The upper quantile of the first `count` values. */
function upperOf(values: Float64Array, count: number): number {
  return values.slice(0, count).sort()[Math.ceil(QUANTILE * count) - 1] ?? 0;
}
