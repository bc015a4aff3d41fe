/**
 * What predicts execution times, as the scheduler sees it. A predictor may answer at once (moving average) or later (the
 * forest in the pool); until it answered, the invocation stands in `arriving`. Rows travel in typed arrays, never as objects.
 */

/** What a sandbox would start from; the numbers are those of the protobuf enum StartState. */
export const COLD = 1, PACKAGES = 2, ZYGOTE = 3, WARM = 4;
export const START_STATES = ['unspecified', 'cold', 'packages', 'zygote', 'warm'] as const;

/** What is to run, as far as predictions depend on it; an Invocation is one. */
export interface Subject {
  readonly functionIndex: number;
  readonly inputBytes: number;
  readonly inputs: { readonly length: number };
  readonly payloadBytes: number;
  /** Steps before this one in its workflow; 0: the first, or alone. */
  readonly stage: number;
  /** Steps whose outputs it reads. */
  readonly predecessors: number;
  /** Parallel calls of its step; 1: alone. */
  readonly fanOut: number;
}

/** What a predictor may look at beside subject and rows: the scheduler's own view, alive. */
export interface SituationSource {
  /** Time of the event being handled, ms. */
  readonly host: { readonly nowMs: number };
  readonly nodes: {
    /** Scalars of node n from n × rowLength on, named by `metrics`; shared with the thread that writes them. */
    readonly table: Float64Array;
    readonly used: Int32Array;
    readonly slots: Int32Array;
  };
  readonly metrics: readonly string[];
  readonly rowLength: number;
  /** Column of the time at which the state of the node came in, ms. */
  readonly receivedAt: number;
  readonly functions: readonly SituationFunction[];
}

/** A function as a predictor sees it. */
export interface SituationFunction {
  readonly settings: { readonly name: string; readonly profile?: FunctionProfile };
  readonly running: number;
  /** On a node: idle and busy sandboxes, packages that it lacks, and their bytes. */
  idle(node: number): number;
  busy(node: number): number;
  missingPackages(node: number): number;
  missingPackageBytes(node: number): number;
  /** Bytes of all its packages, as far as they were measured. */
  readonly packageBytes: number;
}

/** What is known of a function before it ever ran. */
export interface FunctionProfile {
  /** The application it belongs to; '': none. */
  readonly application: string;
  readonly memoryMb: number;
  /** "node" or "python3". */
  readonly runtime: string;
  /** Packages with all that they depend on, and their bytes. */
  readonly dependencies: number;
  readonly packageBytes: number;
}

/** The profile of a function of which nothing is known. */
export const UNKNOWN_PROFILE: FunctionProfile = { application: '', memoryMb: 0, runtime: '', dependencies: 0, packageBytes: 0 };

/** A batch of rows: one function, several nodes. Arrays are at least `count` long; results are written in place. */
export interface PredictionRows {
  count: number;
  /** Node indexes. */
  readonly node: Int32Array;
  /** COLD … WARM. */
  readonly startState: Uint8Array;
  /** Share of the imports that the start has still to do, 0 to 1: for ZYGOTE the distance of the nearest one, 0 for WARM, else 1. */
  readonly zygoteDistance: Float64Array;
  /** Input bytes that the node lacks. */
  readonly missingBytes: Float64Array;
  /** Result: expected execution time (fetch + initialise + run), ms. */
  readonly meanMs: Float64Array;
  /** Result: mean absolute deviation to be expected, ms. */
  readonly spreadMs: Float64Array;
  /** Result: what 95 of 100 such executions stay below, ms; never below meanMs. */
  readonly p95Ms: Float64Array;
  /** Result: what 99 of 100 stay below, ms; never below p95Ms. */
  readonly p99Ms: Float64Array;
  /** Result: who said it, an index into SOURCES. */
  readonly source: Uint8Array;
}

/** Who makes a prediction; the numbers stand in PredictionRows.source. */
export const SOURCES = ['moving-average', 'forest'] as const;
export type Source = (typeof SOURCES)[number];
export const BY_MOVING_AVERAGE = 0, BY_FOREST = 1;

/** Room for a batch of up to `size` rows. */
export function createPredictionRows(size: number): PredictionRows {
  return {
    count: 0,
    node: new Int32Array(size),
    startState: new Uint8Array(size),
    zygoteDistance: new Float64Array(size),
    missingBytes: new Float64Array(size),
    meanMs: new Float64Array(size),
    spreadMs: new Float64Array(size),
    p95Ms: new Float64Array(size),
    p99Ms: new Float64Array(size),
    source: new Uint8Array(size),
  };
}

/** One measured execution: the situation at dispatch, and what came of it. */
export interface Observation {
  readonly functionIndex: number;
  readonly node: number;
  readonly startState: number;
  /** Of the zygote that was used. @default 0 */
  readonly zygoteDistance?: number;
  readonly inputBytes: number;
  /** Bytes that were really moved. */
  readonly fetchedBytes: number;
  readonly fetchedMs: number;
  readonly initialisedMs: number;
  readonly ranMs: number;
  /** What had been predicted at dispatch, ms; 0: nothing. */
  readonly predictedMs: number;
  /** Its upper quantiles, ms. @default 0 */
  readonly predictedP95Ms?: number;
  readonly predictedP99Ms?: number;
  /** What `dispatched` returned for it; NO_SITUATION when nothing was kept. */
  readonly situation: number;
}

/** Kept for no dispatch: its features are not known any more. */
export const NO_SITUATION = -1;

/** Why a run teaches nothing. */
export const EXCLUSIONS = ['failed', 'cancelled', 'timedOut', 'memoryExceeded', 'lost', 'refused', 'deleted'] as const;
export type Exclusion = (typeof EXCLUSIONS)[number];

/** How good a predictor was for one function lately. */
export interface FunctionAccuracy {
  readonly functionIndex: number;
  readonly observations: number;
  /** Median of |predicted − measured| / measured over the last 256. */
  readonly medianError: number;
  readonly p95Error: number;
  /** Over the same: share that did not take longer than the P95 and the P99 that had been predicted at dispatch. */
  readonly coverageP95: number;
  readonly coverageP99: number;
}

/** The ticket of a question whose late answer nobody waits for. */
export const NO_TICKET = -1;

/** A prediction model for execution times. */
export interface Predictor {
  readonly name: string;
  /**
   * Fills the results of the rows. Returns true when they are there; false when they will come later: then the listener is called
   * once with `ticket`, and the same question, asked again with NO_TICKET, gets the best answer there is. With NO_TICKET it
   * always answers at once. Work: O(rows.count), no allocation.
   */
  predict(subject: Subject, rows: PredictionRows, ticket: number): boolean;
  /** Who is told that a prediction came; called in the thread of predict. A predictor that always answers at once ignores it. */
  listen(ready: (ticket: number) => void): void;
  /** Until something that was dispatched ends, ms; undefined, or absent: not known better than from its own prediction and the time it ran. */
  remainingMs?(dispatched: { readonly id: string; readonly node: number }): number | undefined;
  /** Expected initialisation from this state, ms: the measured history of the function, or a prior. ZYGOTE: from one at distance 0. */
  initialiseMs(functionIndex: number, startState: number): number;
  /** Expected bandwidth of a fetch by this node, bytes per ms, > 0. */
  bytesPerMs(node: number): number;
  /** Successful executions of this function seen so far. */
  observations(functionIndex: number): number;
  /**
   * The node of `row` was chosen: keeps its situation until the end of the run. Returns its handle for observe or exclude, or
   * NO_SITUATION.
   */
  dispatched(subject: Subject, rows: PredictionRows, row: number): number;
  /** Gives the predictor the view of the scheduler that it works for; once, before all else. */
  attach(source: SituationSource): void;
  /** A function was deployed or changed, under this index of the source. */
  functionPut(functionIndex: number): void;
  /** A function was deleted; its index does not come again. */
  functionDeleted(functionIndex: number): void;
  /** Learns from one successful execution. Failed, cancelled and timed-out ones must not come here. */
  observe(observation: Observation): void;
  /** A run ended without teaching anything: it is counted, and its situation forgotten. */
  exclude(situation: number, why: Exclusion): void;
  /** Runs that taught nothing, by reason. */
  readonly excluded: Readonly<Record<Exclusion, number>>;
  accuracy(): FunctionAccuracy[];
}
