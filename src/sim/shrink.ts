/**
 * Shrinking a scenario that breaks an invariant: fewer nodes, functions, faults and less time, as long as it still breaks. What is left can be written as
 * one word for the command line ("nodes=2,functions=1,duration=1250,faults=kill+drain"), so that one command shows the smallest case again.
 */
import { MetronomeError } from '../core/errors.ts';
import { FAULT_KINDS, type FaultKind } from './faults.ts';
import { runScenario, type Scenario } from './scenario.ts';

/** What is left of a scenario. */
export interface Reduction {
  readonly nodes: number;
  /** The first so many. */
  readonly functions: number;
  readonly durationMs: number;
  /** Kinds of faults that still happen, as often as before. */
  readonly faults: readonly FaultKind[];
}

const LEAST_DURATION_MS = 100;

/** All of a scenario. */
export function wholeOf({ nodes, functions, durationMs, faults }: Scenario): Reduction {
  return { nodes, functions: functions.length, durationMs, faults: FAULT_KINDS.filter((kind) => (faults[kind] ?? 0) > 0) };
}

/** What is left of a scenario as one; at most half of its time is warm-up. */
export function reduce(scenario: Scenario, { nodes, functions, durationMs, faults }: Reduction): Scenario {
  return { ...scenario, nodes, functions: scenario.functions.slice(0, functions), durationMs, warmUpMs: Math.min(scenario.warmUpMs, durationMs / 2), faults: Object.fromEntries(faults.map((kind) => [kind, scenario.faults[kind] ?? 0])) };
}

/** The smallest part found in `tries` runs that still has a breach. `isBad`: whether a scenario has one. @default it is run here */
export async function shrink(
  scenario: Scenario, policy: string, seed: number, tries = 40,
  isBad: (candidate: Scenario) => boolean | Promise<boolean> = (candidate) => runScenario(candidate, policy, seed).breaches.length > 0,
): Promise<Reduction> {
  let best = wholeOf(scenario);
  let left = tries;
  for (let improved = true; improved && left > 0; ) {
    improved = false;
    const candidates: readonly Reduction[] = [
      { ...best, durationMs: Math.round(best.durationMs / 2) },
      { ...best, functions: Math.ceil(best.functions / 2) },
      { ...best, nodes: Math.ceil(best.nodes / 2) },
      { ...best, nodes: Math.max(1, best.nodes - 1) },
      ...best.faults.map((without) => ({ ...best, faults: best.faults.filter((kind) => kind !== without) })),
    ];
    for (const candidate of candidates) {
      if (candidate.durationMs < LEAST_DURATION_MS || formatReduction(candidate) === formatReduction(best) || left-- <= 0) continue;
      if (!(await isBad(reduce(scenario, candidate)))) continue;
      best = candidate;
      improved = true;
      break;
    }
  }
  return best;
}

/** As one word. */
export function formatReduction({ nodes, functions, durationMs, faults }: Reduction): string {
  return `nodes=${nodes},functions=${functions},duration=${durationMs},faults=${faults.length === 0 ? 'none' : faults.join('+')}`;
}

/** What `formatReduction` wrote, if it is a part of the scenario; what is not named stays whole. CONFIG_INVALID with what is wrong. */
export function parseReduction(text: string, scenario: Scenario): Reduction {
  const whole = wholeOf(scenario);
  const wrong = (what: string): MetronomeError => new MetronomeError('CONFIG_INVALID', `"${text}" is no part of the scenario: ${what}. It reads like ${formatReduction(whole)}.`);
  const parts = new Map(text.split(',').map((part) => {
    const [name = '', value = ''] = part.split('=');
    return [name, value];
  }));
  for (const name of parts.keys()) if (!['nodes', 'functions', 'duration', 'faults'].includes(name)) throw wrong(`there is no "${name}"`);
  const number = (name: string, least: number, most: number): number => {
    const value = parts.get(name);
    if (value === undefined) return most;
    if (!/^\d+(?:\.\d+)?$/.test(value) || Number(value) < least || Number(value) > most) throw wrong(`${name} must be from ${least} to ${most}, not ${JSON.stringify(value)}`);
    return name === 'duration' ? Number(value) : Math.floor(Number(value));
  };
  const faults = parts.get('faults');
  const kinds = faults === undefined ? whole.faults : faults === 'none' ? [] : faults.split('+').map((name) => {
    const kind = whole.faults.find((each) => each === name);
    if (kind === undefined) throw wrong(`it has no faults "${name}"`);
    return kind;
  });
  return { nodes: number('nodes', 1, whole.nodes), functions: number('functions', 1, whole.functions), durationMs: number('duration', LEAST_DURATION_MS, whole.durationMs), faults: kinds };
}
