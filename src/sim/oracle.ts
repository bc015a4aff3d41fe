/**
 * A predictor that knows: what each invocation really costs, where everything really is, and when what runs will really end, as far as the present contention
 * lasts. It exists in simulation only and shows what a policy would do with perfect predictions; how far the real ones are from that is what the ablations measure.
 * It is no lower bound of what any schedule could reach: it does not know what will arrive.
 *
 * The oracle of means knows the cluster as well and the functions' true costs on the mean, but not what a single execution draws: as much as a model could know that has
 * learned for ever. What lies between the two is knowledge that no scheduler can have.
 */
import type { Invocation } from '../core/invocation.ts';
import { COLD, NO_SITUATION, PACKAGES, WARM, ZYGOTE, type Exclusion, type FunctionAccuracy, type Predictor, type PredictionRows, type Subject } from '../predictor/predictor.ts';
import type { Simulation } from './simulation.ts';

/** What an oracle knows of costs. */
export type OracleKnowledge = 'everything' | 'means';

/** Standard normal quantiles. */
const Z95 = 1.645, Z99 = 2.326;

/** The predictor; `simulation` is asked for when the first prediction is. */
export function createOraclePredictor(simulation: () => Simulation, knows: OracleKnowledge = 'everything'): Predictor {
  const onTheMean = knows === 'means';
  const observed: number[] = [];
  const names: string[] = [];
  const excluded: Record<Exclusion, number> = { failed: 0, cancelled: 0, timedOut: 0, memoryExceeded: 0, lost: 0, refused: 0, deleted: 0 };
  let functions: readonly { readonly settings: { readonly name: string } }[] = [];
  return {
    name: onTheMean ? 'oracle of means' : 'oracle',
    predict(subject: Subject, rows: PredictionRows) {
      const sim = simulation();
      const invocation = subject as Invocation; // the scheduler asks with invocations; what is only planned has no costs of its own and is drawn as the first
      // Around the mean everything scatters as runs do.
      const noise = onTheMean ? (sim.profileOf(invocation.functionName)?.noise ?? 0) : 0;
      for (let row = 0; row < rows.count; row++) {
        const ms = sim.trueExecutionMs(invocation, rows.node[row] as number, rows.startState[row] as number, onTheMean);
        rows.meanMs[row] = ms;
        rows.p95Ms[row] = ms * Math.exp(Z95 * noise - noise ** 2 / 2);
        rows.p99Ms[row] = ms * Math.exp(Z99 * noise - noise ** 2 / 2);
        rows.spreadMs[row] = ms * Math.sqrt(Math.expm1(noise ** 2));
        rows.source[row] = 0;
      }
      return true;
    },
    ...(onTheMean ? {} : { remainingMs: (dispatched: Invocation) => simulation().trueRemainingMs(dispatched) }),
    listen: () => {}, // it always answers at once
    initialiseMs(functionIndex, startState) {
      const profile = simulation().profileOf(names[functionIndex] ?? functions[functionIndex]?.settings.name ?? '');
      if (profile === undefined || startState === WARM) return profile?.warmMs ?? 0;
      if (startState === ZYGOTE) return profile.zygoteMs;
      const startMs = profile.processMs + profile.importMs;
      return startState === PACKAGES ? startMs : startState === COLD ? profile.installMs + startMs : 0;
    },
    bytesPerMs: () => simulation().network.bytesPerMs,
    // It knows every function from the beginning.
    observations: (functionIndex) => 1 + (observed[functionIndex] ?? 0),
    attach(source) {
      functions = source.functions;
    },
    functionPut(functionIndex) {
      names[functionIndex] = functions[functionIndex]?.settings.name ?? '';
    },
    functionDeleted: (functionIndex) => void (observed[functionIndex] = 0),
    dispatched: () => NO_SITUATION,
    observe: ({ functionIndex }) => void (observed[functionIndex] = (observed[functionIndex] ?? 0) + 1),
    exclude: (_situation, why) => void excluded[why]++,
    excluded,
    accuracy: (): FunctionAccuracy[] => [],
  };
}
