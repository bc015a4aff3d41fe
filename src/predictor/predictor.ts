/**
 * What predicts execution times, as the scheduler sees it. A predictor may answer at once (moving average) or later (the
 * forest in the pool); until it answered, the invocation stands in `arriving`. Rows travel in typed arrays, never as objects.
 */

/** What a sandbox would start from; the numbers are those of the protobuf enum StartState. */
export const COLD = 1, PACKAGES = 2, ZYGOTE = 3, WARM = 4;
export const START_STATES = ['unspecified', 'cold', 'packages', 'zygote', 'warm'] as const;

/** A batch of rows: one function, several nodes. Arrays are at least `count` long; results are written in place. */
export interface PredictionRows {
  count: number;
  /** Node indexes. */
  readonly node: Int32Array;
  /** COLD … WARM. */
  readonly startState: Uint8Array;
  /** Input bytes that the node lacks. */
  readonly missingBytes: Float64Array;
  /** Result: expected execution time (fetch + initialise + run), ms. */
  readonly meanMs: Float64Array;
  /** Result: mean absolute deviation to be expected, ms. */
  readonly spreadMs: Float64Array;
}

/** One measured execution: the situation at dispatch, and what came of it. */
export interface Observation {
  readonly functionIndex: number;
  readonly node: number;
  readonly startState: number;
  readonly inputBytes: number;
  /** Bytes that were really moved. */
  readonly fetchedBytes: number;
  readonly fetchedMs: number;
  readonly initialisedMs: number;
  readonly ranMs: number;
  /** What had been predicted at dispatch, ms; 0: nothing. */
  readonly predictedMs: number;
}

/** How good a predictor was for one function lately. */
export interface FunctionAccuracy {
  readonly functionIndex: number;
  readonly observations: number;
  /** Median of |predicted − measured| / measured over the last 256. */
  readonly medianError: number;
  readonly p95Error: number;
}

/** The ticket of a question whose late answer nobody waits for. */
export const NO_TICKET = -1;

/** A prediction model for execution times. */
export interface Predictor {
  readonly name: string;
  /**
   * Fills meanMs and spreadMs. Returns true when they are there; false when they will come later, and then the listener
   * is called once with `ticket` (unless that is NO_TICKET) and the same question gets its answer at once.
   * Work: O(rows.count), no allocation when it answers at once.
   */
  predict(functionIndex: number, inputBytes: number, rows: PredictionRows, ticket: number): boolean;
  /** Who is told that a prediction came; called in the thread of predict. A predictor that always answers at once ignores it. */
  listen(ready: (ticket: number) => void): void;
  /** Expected initialisation from this state, ms: the measured history of the function, or a prior. */
  initialiseMs(functionIndex: number, startState: number): number;
  /** Expected bandwidth of a fetch by this node, bytes per ms, > 0. */
  bytesPerMs(node: number): number;
  /** Successful executions of this function seen so far. */
  observations(functionIndex: number): number;
  /** Learns from one successful execution. Failed, cancelled and timed-out ones must not come here. */
  observe(observation: Observation): void;
  accuracy(): FunctionAccuracy[];
}
