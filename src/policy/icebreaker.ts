/**
 * Policy `icebreaker` (ASPLOS 2022): the concurrency of the next window is forecast by a Fourier transform of the last sixty, and a utility
 * score decides whether warming a function up is worth it. Placement as for Aquatope (warm-first.ts).
 *
 * The score is the mean of four terms over the last ten windows: cold starts that the forecast caused, the waste that it did not cause, what
 * a better kind of node would save, and the function's share of memory; scaled over all functions, below a third nothing is warmed up.
 * Simplified: all nodes are of one kind, so the third term is 0 and the two classes of warm nodes are one.
 */
import { forecastFourier, WINDOW } from './forecast/fourier.ts';
import type { Policy, PolicyOptions } from './policy.ts';
import { bringPoolTo, createWarmFirstPlacement } from './warm-first.ts';

/** Windows over which a function is scored. */
const SCORED = 10;
const THRESHOLD = 0.33;
/** A class must be wanted in so many windows in a row before it changes. */
const STEADY = 2;

interface Series {
  readonly values: number[];
  readonly forecasts: number[];
  isWarmed: boolean;
  otherwise: number;
  target: number;
}

/** The utility of warming up, 0 to 1: forecasts against what came, oldest first, and the share of memory. */
export function utility(forecasts: readonly number[], came: readonly number[], memoryShare: number): number {
  let missed = 0, wasted = 0, all = 0;
  forecasts.forEach((forecast, i) => {
    const real = came[i] ?? 0;
    missed += Math.max(0, real - forecast);
    wasted += Math.max(0, forecast - real);
    all += real;
  });
  const clip = (term: number): number => Math.min(1, Math.max(0, term));
  const isKnown = forecasts.length >= SCORED;
  const coldTerm = isKnown ? clip(all > 0 ? missed / all : 0) : 1;
  const wasteTerm = isKnown ? clip(1 - (all > 0 ? wasted / all : wasted > 0 ? 1 : 0)) : 1;
  return (coldTerm + wasteTerm + 0 + clip(memoryShare)) / 4;
}

export function createIcebreakerPolicy(options: PolicyOptions): Policy {
  const windowMs = options.pools?.windowMs ?? 60_000;
  const all: (Series | undefined)[] = [];
  return {
    name: 'icebreaker',
    description: 'Keeps as many sandboxes as a Fourier forecast says, of functions for which a utility score finds it worth while, and sends work to warm ones (IceBreaker).',
    needsAllNodes: true,
    tickMs: windowMs,
    decide: createWarmFirstPlacement(),
    tick(control) {
      let mostMb = 1;
      for (let index = 0; index < control.functions; index++) mostMb = Math.max(mostMb, control.functionOf(index)?.memoryMb ?? 0);
      const scores: number[] = [];
      for (let index = 0; index < control.functions; index++) {
        const facts = control.functionOf(index);
        if (facts === undefined) {
          all[index] = undefined;
          continue;
        }
        const series = (all[index] ??= { values: [], forecasts: [], isWarmed: true, otherwise: 0, target: 0 });
        series.values.push(control.takePeak(index));
        if (series.values.length > WINDOW) series.values.shift();
        scores[index] = utility(series.forecasts, series.values.slice(-series.forecasts.length || series.values.length), facts.memoryMb / mostMb);
        series.target = Math.round(forecastFourier(series.values));
        series.forecasts.push(series.target);
        if (series.forecasts.length > SCORED) series.forecasts.shift();
      }
      const known = scores.filter((score) => score !== undefined);
      const least = Math.min(...known), most = Math.max(...known);
      all.forEach((series, index) => {
        if (series === undefined) return;
        // All alike: all are worth it.
        const scaled = most > least ? ((scores[index] as number) - least) / (most - least) : 1;
        const isWanted = scaled >= THRESHOLD;
        series.otherwise = isWanted === series.isWarmed ? 0 : series.otherwise + 1;
        if (series.otherwise >= STEADY) {
          series.isWarmed = isWanted;
          series.otherwise = 0;
        }
        if (series.isWarmed) bringPoolTo(control, index, series.target);
      });
    },
    parameters: () => ({ windowMs: String(windowMs), targets: all.map((series, index) => (series === undefined ? '' : `${index}:${series.isWarmed ? series.target : '-'}`)).filter((text) => text !== '').join(' ') }),
  };
}
