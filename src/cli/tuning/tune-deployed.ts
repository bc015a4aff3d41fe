/**
 * Aquatope's resource manager on a running cluster: deploys sizes, measures executions, and leaves the functions as it found them unless it is told to keep what it found.
 * The best is measured once more before it is recommended: of many noisy measurements the best looks better than it is.
 */
import { MetronomeError } from '../../core/errors.ts';
import type { Random } from '../../core/random.ts';
import { costOf, tuneResources, type Evaluation, type Measurement, type SizeBounds, type StageSize, type Tuning } from '../../policy/resource-manager/resource-manager.ts';
import type { DeployedSizes } from './deployed-sizes.ts';
import type { FailedTrial } from './execution-trial.ts';

/** One set of sizes and what an execution with them was like. */
export interface SizedExecution {
  readonly sizes: readonly StageSize[];
  readonly latencyMs: number;
  readonly cost: number;
}

/** An evaluation as it is told and kept. */
export interface ToldEvaluation extends Evaluation {
  /** From 1. */
  readonly number: number;
  /** Code of the error when it did not end. */
  readonly failure: string | undefined;
}

/** What to tune and how. */
export interface TuneDeployedOptions {
  readonly deployed: DeployedSizes;
  /** Measures what is deployed. */
  readonly measure: () => Promise<Measurement | FailedTrial>;
  readonly slaMs: number;
  readonly bounds: SizeBounds;
  readonly random: Random;
  readonly maxEvaluations: number;
  /** Leaves the best sizes deployed, if they are cheaper than those at the beginning. */
  readonly keep: boolean;
  readonly signal: AbortSignal;
  readonly onBefore: (before: SizedExecution) => void;
  readonly onEvaluated: (evaluation: ToldEvaluation) => void;
  /** The functions have the sizes again that they had before, except those that somebody else deployed meanwhile. */
  readonly onRestored: (leftAlone: readonly string[]) => void;
}

/** What came of it. */
export interface TunedDeployed {
  readonly before: SizedExecution;
  /** The cheapest that kept the target when it was measured again; undefined: none did, or none is cheaper than what there was. */
  readonly best: SizedExecution | undefined;
  readonly evaluations: readonly ToldEvaluation[];
  readonly endedBecause: Tuning['endedBecause'];
  /** Whether the best is what is deployed now. */
  readonly isKept: boolean;
}

/** How many of the best are measured again at most. */
const MOST_CONFIRMED = 3;

/** Tunes. FUNCTION_… errors when it does not run with the sizes that it has; whatever happens, the functions get these back first. */
export async function tuneDeployed(options: TuneDeployedOptions): Promise<TunedDeployed> {
  const { deployed, slaMs, signal } = options;
  const evaluations: ToldEvaluation[] = [];
  let isKept = false;
  const outcome = await (async () => {
    const first = await options.measure();
    if ('failure' in first) throw first.failure;
    const before: SizedExecution = { sizes: deployed.before, latencyMs: first.latencyMs, cost: costOf(deployed.before, first.stageMs) };
    options.onBefore(before);
    const trial = async (sizes: readonly StageSize[]): Promise<Measurement & { readonly failure: string | undefined }> => {
      await deployed.apply(sizes);
      signal.throwIfAborted();
      const measured = await options.measure();
      // What the failed one took is not known; it is infeasible, whatever it cost.
      return 'failure' in measured ? { latencyMs: Infinity, stageMs: first.stageMs, failure: measured.failure.code } : { ...measured, failure: undefined };
    };
    let failure: string | undefined;
    const tuning = await tuneResources({
      stages: deployed.functions.length, slaMs, bounds: options.bounds,
      async measure(sizes) {
        const measured = await trial(sizes);
        failure = measured.failure;
        return measured;
      },
      onEvaluated(evaluation, number) {
        const told = { ...evaluation, number, failure };
        evaluations.push(told);
        options.onEvaluated(told);
      },
    }, { random: options.random, maxEvaluations: options.maxEvaluations, signal });
    signal.throwIfAborted();
    // Without a target kept before, anything that keeps it is better.
    const promising = evaluations.filter((each) => each.isFeasible && (before.latencyMs > slaMs || each.cost < before.cost)).sort((a, b) => a.cost - b.cost).slice(0, MOST_CONFIRMED);
    let best: SizedExecution | undefined;
    for (const { sizes } of promising) {
      const { latencyMs, stageMs } = await trial(sizes);
      const again: SizedExecution = { sizes, latencyMs, cost: costOf(sizes, stageMs) };
      if (latencyMs > slaMs || (before.latencyMs <= slaMs && again.cost >= before.cost)) continue;
      best = again;
      isKept = options.keep;
      break;
    }
    return { before, best, endedBecause: tuning.endedBecause };
  })().catch((error: unknown) => ({ error }));
  if (!isKept) await putBack(options);
  if ('error' in outcome) throw signal.aborted ? new MetronomeError('CANCELLED', 'The tuning was stopped.', { cause: outcome.error }) : outcome.error;
  return { ...outcome, evaluations, isKept };
}

async function putBack({ deployed, onRestored }: TuneDeployedOptions): Promise<void> {
  try {
    onRestored(await deployed.restore());
  } catch (cause) {
    const sizes = deployed.functions.map(({ spec }) => `${spec.name} cpu ${spec.cpu}, memory ${spec.memoryMb}MiB`).join('; ');
    throw new MetronomeError('UNAVAILABLE', `The functions could not be given back the sizes that they had before (${MetronomeError.from(cause).message}). Deploy them again; they had: ${sizes}.`, { cause });
  }
}
