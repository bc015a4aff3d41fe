/**
 * Policy `aquatope` (ASPLOS 2023), its pool scheduler: for each function the number of sandboxes that the next window needs is
 * forecast from the numbers of past windows with its uncertainty, ⌈μ + z·σ⌉ are kept, missing ones are prewarmed and surplus ones expire at once.
 * Placement is OpenWhisk's (warm-first.ts): Aquatope has none of its own.
 *
 * Simplified: the forecaster is a small recurrent net with fixed recurrent weights and a Bayesian output (forecast/echo-state.ts) in place
 * of an LSTM with variational dropout that trains for hours; z = 0 is what the published live loop does. Its resource manager (memory and CPU of
 * each stage by constrained Bayesian optimisation) is a training before the run and stands apart from the scheduler (resource-manager/).
 */
import { createRandom } from '../core/random.ts';
import { EchoState } from './forecast/echo-state.ts';
import type { Policy, PolicyOptions } from './policy.ts';
import { bringPoolTo, createWarmFirstPlacement } from './warm-first.ts';

const DAY_MS = 86_400_000;
/** A twentieth of a sandbox is none: a forecast of 3.02 is 3. */
const ROUNDING = 0.05;

export function createAquatopePolicy(options: PolicyOptions): Policy {
  const windowMs = options.pools?.windowMs ?? 60_000;
  const z = options.pools?.margin ?? 1;
  const series: (EchoState | undefined)[] = [];
  const targets: number[] = [];
  return {
    name: 'aquatope',
    description: 'Keeps as many sandboxes of each function as a recurrent net forecasts with its uncertainty, and sends work to warm ones (Aquatope\'s pool scheduler).',
    needsAllNodes: true,
    tickMs: windowMs,
    decide: createWarmFirstPlacement(),
    tick(control) {
      for (let index = 0; index < control.functions; index++) {
        if (control.functionOf(index) === undefined) {
          series[index] = undefined;
          continue;
        }
        // The seed is the function's place, so that all runs forecast alike.
        const forecaster = (series[index] ??= new EchoState(createRandom(index + 1, 17)));
        forecaster.add(control.takePeak(index), (control.nowMs % DAY_MS) / DAY_MS);
        const { mean, deviation } = forecaster.predict();
        const target = Math.max(0, Math.ceil(mean + z * deviation - ROUNDING));
        targets[index] = target;
        bringPoolTo(control, index, target);
      }
    },
    parameters: () => ({ windowMs: String(windowMs), margin: String(z), targets: targets.map((target, index) => `${index}:${target}`).join(' ') }),
  };
}
