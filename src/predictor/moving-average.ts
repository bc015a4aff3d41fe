/**
 * The honest stand-in until the forest: exponentially weighted moving averages per (function, start state) for
 * initialisation, per (function, class of input size) for the run, and per node for bandwidth. It stays afterwards as
 * the cold-start fallback and as a baseline.
 */
import { RecentAccuracy } from './model/recent-accuracy.ts';
import { BY_MOVING_AVERAGE, COLD, NO_SITUATION, PACKAGES, WARM, ZYGOTE, type FunctionAccuracy, type Observation, type Predictor } from './predictor.ts';

/** Priors and weights of the moving averages. */
export interface MovingAverageOptions {
  /** Weight of a new value once there are many. @default 0.2, 0 < … ≤ 1 */
  readonly weight?: number;
  /** Prior of a cold initialisation, ms. @default 300 */
  readonly coldMs?: number;
  /** Prior with packages present, ms. @default 120 */
  readonly packagesMs?: number;
  /** Prior of a hand-over from a zygote, ms. @default 15 */
  readonly zygoteMs?: number;
  /** Prior of a warm start, ms. @default 0.5 */
  readonly warmMs?: number;
  /** Prior of a run, ms. @default 50 */
  readonly runMs?: number;
  /** Prior of the bandwidth, bytes per ms. @default 125000 (1 Gbit/s) */
  readonly bytesPerMs?: number;
}

/** Classes of input size: one per factor of four from 1 KiB on. */
const SIZE_CLASSES = 16;
/** Beyond this distance a start from a zygote is mostly an ordinary one. */
const FAR_ZYGOTE = 0.5;
/** Upper quantiles of a normal distribution in mean absolute deviations: an assumption, where the forest measures. */
const P95_DEVIATIONS = 2.06, P99_DEVIATIONS = 2.92;

class Average {
  mean = 0;
  deviation = 0;
  count = 0;

  add(value: number, weight: number): void {
    this.count++;
    // The plain mean until it is as steady as the moving one.
    const w = Math.max(weight, 1 / this.count);
    const difference = value - this.mean;
    this.mean += w * difference;
    this.deviation += w * (Math.abs(value - this.mean) - this.deviation);
  }
}

class FunctionHistory {
  readonly initialise = [new Average(), new Average(), new Average(), new Average(), new Average()];
  readonly run = new Average();
  readonly runBySize: (Average | undefined)[] = new Array<Average | undefined>(SIZE_CLASSES).fill(undefined);
  observations = 0;
  readonly recent = new RecentAccuracy();
}

/** The moving-average predictor. Always answers at once. */
export function createMovingAveragePredictor(options: MovingAverageOptions = {}): Predictor {
  const weight = options.weight ?? 0.2;
  const priors = [0, options.coldMs ?? 300, options.packagesMs ?? 120, options.zygoteMs ?? 15, options.warmMs ?? 0.5];
  const runPrior = options.runMs ?? 50;
  const bandwidthPrior = options.bytesPerMs ?? 125_000;
  const histories: (FunctionHistory | undefined)[] = [];
  const bandwidths: (Average | undefined)[] = [];
  const excluded = { failed: 0, cancelled: 0, timedOut: 0, memoryExceeded: 0, lost: 0, refused: 0, deleted: 0 };

  const sizeClass = (bytes: number): number => (bytes < 1024 ? 0 : Math.min(SIZE_CLASSES - 1, 1 + ((31 - Math.clz32(Math.min(bytes / 1024, 2 ** 31))) >> 1)));
  const initialise = (history: FunctionHistory | undefined, state: number): number => {
    const average = history?.initialise[state];
    if (average !== undefined && average.count > 0) return average.mean;
    // A better start is never dearer than the nearest worse one that was measured.
    let bound = priors[state] as number;
    if (history !== undefined) {
      for (let worse = state - 1; worse >= COLD; worse--) {
        const other = history.initialise[worse] as Average;
        if (other.count > 0) {
          bound = Math.min(bound, other.mean);
          break;
        }
      }
      for (let better = state + 1; better <= WARM; better++) {
        const other = history.initialise[better] as Average;
        if (other.count > 0) {
          bound = Math.max(bound, other.mean);
          break;
        }
      }
    }
    return bound;
  };
  /** What a zygote with all imports would have taken, ms; undefined when the one that was used says too little about that. */
  const atDistance0 = (history: FunctionHistory, { initialisedMs, zygoteDistance = 0 }: Observation): number | undefined => {
    if (zygoteDistance > FAR_ZYGOTE) return undefined;
    return Math.max(0, (initialisedMs - zygoteDistance * initialise(history, PACKAGES)) / (1 - zygoteDistance));
  };
  const bytesPerMs = (node: number): number => {
    const average = bandwidths[node];
    return average === undefined || average.count === 0 ? bandwidthPrior : Math.max(1, average.mean);
  };

  return {
    name: 'moving-average',
    predict({ functionIndex, inputBytes }, rows) {
      const history = histories[functionIndex];
      let run = runPrior;
      let deviation = runPrior / 2;
      if (history !== undefined && history.run.count > 0) {
        const average = history.runBySize[sizeClass(inputBytes)] ?? history.run;
        run = average.mean;
        deviation = average.count > 1 ? average.deviation : run / 2;
      }
      const cold = initialise(history, COLD), packages = initialise(history, PACKAGES), zygote = initialise(history, ZYGOTE), warm = initialise(history, WARM);
      const { node, startState, zygoteDistance, missingBytes, meanMs, spreadMs, p95Ms, p99Ms, source, count } = rows;
      for (let i = 0; i < count; i++) {
        const state = startState[i] as number;
        const missing = missingBytes[i] as number;
        const start = state === WARM ? warm : state === ZYGOTE ? zygote + (zygoteDistance[i] as number) * (packages - zygote) : state === PACKAGES ? packages : cold;
        const mean = run + start + (missing > 0 ? missing / bytesPerMs(node[i] as number) : 0);
        const spread = deviation + start * 0.2;
        meanMs[i] = mean;
        spreadMs[i] = spread;
        p95Ms[i] = mean + P95_DEVIATIONS * spread;
        p99Ms[i] = mean + P99_DEVIATIONS * spread;
        source[i] = BY_MOVING_AVERAGE;
      }
      return true;
    },
    listen: () => {},
    initialiseMs: (functionIndex, startState) => initialise(histories[functionIndex], startState),
    bytesPerMs,
    observations: (functionIndex) => histories[functionIndex]?.observations ?? 0,
    attach: () => {},
    functionPut: () => {},
    functionDeleted: (functionIndex) => void (histories[functionIndex] = undefined),
    dispatched: () => NO_SITUATION,
    exclude: (_situation, why) => void excluded[why]++,
    excluded,
    observe(seen: Observation) {
      const history = (histories[seen.functionIndex] ??= new FunctionHistory());
      history.observations++;
      history.run.add(seen.ranMs, weight);
      (history.runBySize[sizeClass(seen.inputBytes)] ??= new Average()).add(seen.ranMs, weight);
      const initialisedMs = seen.startState === ZYGOTE ? atDistance0(history, seen) : seen.initialisedMs;
      if (initialisedMs !== undefined) history.initialise[seen.startState]?.add(initialisedMs, weight);
      // Small transfers say more about latency than about bandwidth.
      if (seen.fetchedBytes >= 65_536 && seen.fetchedMs > 0) (bandwidths[seen.node] ??= new Average()).add(seen.fetchedBytes / seen.fetchedMs, weight);
      const measured = seen.fetchedMs + seen.initialisedMs + seen.ranMs;
      if (seen.predictedMs > 0 && measured > 0) history.recent.add(Math.abs(seen.predictedMs - measured) / measured, measured <= (seen.predictedP95Ms ?? 0), measured <= (seen.predictedP99Ms ?? 0));
    },
    accuracy() {
      const result: FunctionAccuracy[] = [];
      histories.forEach((history, functionIndex) => {
        if (history === undefined) return;
        result.push({ functionIndex, observations: history.observations, ...history.recent.summary() });
      });
      return result;
    },
  };
}
