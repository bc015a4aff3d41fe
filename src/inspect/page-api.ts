/**
 * What the page asks the daemon for, and what it gets: types only, shared by the gateway's routes and the page, so that neither can drift from
 * the other. JSON over HTTP below /inspect/api, and server-sent events. All times are ms since 1970 UTC unless a name ends otherwise.
 * Every list has a bound, and what was left out is counted.
 */

/** GET /inspect/api/machines: the charts, laid out by the daemon. */
export interface MachineChart {
  /** invocation, node, sandbox, workflow or model. */
  readonly name: string;
  readonly summary: string;
  /** In the order of the indexes that Tick.counts uses. */
  readonly states: readonly ChartState[];
  /** In the order of the indexes that Tick.flow uses. */
  readonly edges: readonly ChartEdge[];
  readonly width: number;
  readonly height: number;
}

/** A state with its box: centre and size, in the units of the chart. */
export interface ChartState {
  readonly name: string;
  readonly isInitial: boolean;
  readonly isFinal: boolean;
  readonly description: string;
  readonly x: number;
  readonly y: number;
  readonly width: number;
  readonly height: number;
}

/** An edge with the points of its line, and where its label stands. */
export interface ChartEdge {
  readonly from: string;
  readonly to: string;
  readonly event: string;
  readonly guard: string;
  readonly points: readonly (readonly [number, number])[];
  readonly label: readonly [number, number];
}

/**
 * GET /inspect/api/stream: server-sent events `hello`, `tick` and `transitions`. The id of each event is the number of the next transition,
 * so that `Last-Event-ID` goes on where it stopped.
 */
export interface Hello {
  readonly version: string;
  /** Changes with every start of the daemon: another one means that all numbers begin anew. */
  readonly startedAtMs: number;
  readonly policy: string;
  readonly shadowPolicy: string;
  /** True: what is shown is a simulation. */
  readonly simulated: boolean;
}

/** Event `tick`, four times a second: aggregates of everything, sampled or not. */
export interface Tick {
  readonly atMs: number;
  /** By machine name: how many are in each state now, and how often each edge was taken since the start. */
  readonly machines: Readonly<Record<string, { readonly counts: readonly number[]; readonly flow: readonly number[] }>>;
  readonly live: number;
  readonly delayingForLocality: number;
  readonly delayingForCapacity: number;
  /** Counters since the start, by name, as in GetStatus. */
  readonly counters: Readonly<Record<string, number>>;
  /** Latencies of what ended since the last tick, by function and policy. At most 64; the rest is summed under the function name "". */
  readonly ended: readonly EndedGroup[];
  readonly nodes: readonly NodeCell[];
  /** What the shadow policy would have done; absent without one. */
  readonly shadow?: ShadowTick;
}

/** What ended since the last tick, of one function under one policy. */
export interface EndedGroup {
  readonly function: string;
  readonly policy: string;
  readonly count: number;
  readonly failed: number;
  readonly slaMissed: number;
  /** Sums, ms. */
  readonly latencyMs: number;
  readonly delayedMs: number;
  /** Predicted time of the best node with room at the first decision, less what it took where it ran after waiting: what waiting saved. */
  readonly savedMs: number;
  readonly warm: number;
  readonly local: number;
  /** Sum of |predicted − measured| ÷ measured. */
  readonly error: number;
  /** Smallest slack left at the end: SLA − latency, ms. */
  readonly leastSlackMs: number;
  /** Latencies in buckets of factor 2^¼: bucket i holds [2^(i/4), 2^((i+1)/4)) ms; trailing zeros are left out. At most 96. */
  readonly histogram: readonly number[];
}

/** One node in the heat map. At most 256 per tick, the busiest; all of them by GET /inspect/api/nodes. */
export interface NodeCell {
  readonly name: string;
  readonly state: string;
  readonly slots: number;
  readonly used: number;
  readonly waiting: number;
  readonly warm: number;
  readonly zygotes: number;
  /** Shares, 0 to 1. */
  readonly cpu: number;
  readonly memoryUsed: number;
  readonly objectBytes: number;
  readonly fetchBytesPerS: number;
}

/** Shadow mode since the last tick: the second policy decided too, and nothing was dispatched for it. */
export interface ShadowTick {
  readonly policy: string;
  readonly decisions: number;
  /** Same action and same node. */
  readonly agreed: number;
  /** Sums over the decisions: predicted completion (expected wait + predicted time) of the choice of either, ms. */
  readonly activeMs: number;
  readonly shadowMs: number;
}

/** Event `transitions`: the sampled ones, at most 500 per tick. */
export interface TransitionsEvent {
  readonly next: number;
  /** Not shown: overwritten before they were read, or beyond the bound. */
  readonly missed: number;
  readonly records: readonly TransitionRow[];
}

/** One transition. */
export interface TransitionRow {
  readonly id: string;
  readonly function: string;
  readonly from: string;
  readonly to: string;
  readonly event: string;
  readonly reason: string;
  readonly node: string;
  readonly delayingFor: string;
  readonly atMs: number;
  /** Guards that were tested, in their order, "!" before those that said no; absent: none was. */
  readonly guards?: readonly string[];
}

/** GET /inspect/api/invocations: `invocations`, and whether there are more. */
export interface InvocationList {
  readonly invocations: readonly InvocationRow[];
  /** True: there are more; the next page is before the arrivedAtMs and seq of the last one. */
  readonly more: boolean;
}

/** GET /inspect/api/invocations?state=&function=&node=&limit=&before=&beforeSeq= : newest first, at most 500. */
export interface InvocationRow {
  readonly id: string;
  /** Its number since the start of the scheduler: tells those apart that arrived at the same time. */
  readonly seq: number;
  readonly function: string;
  readonly policy: string;
  readonly state: string;
  readonly delayingFor: string;
  readonly node: string;
  readonly arrivedAtMs: number;
  readonly latencyMs: number;
  readonly slaMs: number;
  readonly reason: string;
}

/** GET /inspect/api/nodes?limit= : all nodes, at most 10 000. */
export interface NodeList {
  readonly nodes: readonly NodeCell[];
  /** Nodes beyond the bound. */
  readonly leftOut: number;
}

/** GET /inspect/api/nodes/:name: everything of one node; lists of at most 200. */
export interface NodeDetail extends NodeCell {
  readonly running: readonly InvocationRow[];
  readonly line: readonly InvocationRow[];
  readonly warmByFunction: Readonly<Record<string, { readonly idle: number; readonly busy: number }>>;
  readonly zygoteSets: readonly string[];
  readonly packageSets: number;
  readonly objects: number;
  readonly metrics: Readonly<Record<string, number>>;
}
// GET /inspect/api/invocations/:id is the JSON of ExplainResponse (proto inspect.proto); POST /inspect/api/nodes/:name/drain drains, POST …/undrain takes it back.
// GET /inspect/api/model is the JSON of GetModelStatusResponse. GET /inspect/api/policies is ListPoliciesResponse; PUT /inspect/api/policy and /inspect/api/shadow {"policy": "name"} change them.

/** GET /inspect/api/scenarios: those that a simulation may be asked for by name. */
export interface ScenarioInfo {
  readonly name: string;
  readonly description: string;
  readonly nodes: number;
  readonly slots: number;
  readonly durationMs: number;
  readonly functions: readonly string[];
}

/** GET /inspect/api/recordings: those in the daemon's own folder (recording.dir), newest first, at most 200. */
export interface RecordingList {
  readonly recordings: readonly RecordingInfo[];
  readonly leftOut: number;
}

/** A recording that can be played. */
export interface RecordingInfo {
  /** What a simulation names it by. */
  readonly name: string;
  readonly startedAtMs: number;
  readonly bytes: number;
  /** True: it is being written, and ends where it is read. */
  readonly isRunning: boolean;
}

/** Body of POST /inspect/api/simulations; the answer is a list of SimulationRun, one per policy, and before them one of what was recorded if a recording is named. */
export interface SimulationRequest {
  /** Name of a scenario, or a scenario (src/sim/scenario.ts). */
  readonly scenario?: string | object;
  /** Instead of it: the text of a scenario file as `metronome sim run` takes it. It may name no other file. At most 200 000 characters. */
  readonly file?: string;
  /** Instead of it: the name of a recording. Its traffic is simulated under the policies, on nodes like the recorded ones; `nodes`, `slots`, `durationMs` and `rate` do not go with it. */
  readonly recording?: string;
  /** 1 to 4; with a recording 0 to 4. */
  readonly policies: readonly string[];
  /** 0 to 2^31 − 1. */
  readonly seed: number;
  /** Other than the scenario says. */
  readonly nodes?: number;
  readonly slots?: number;
  readonly durationMs?: number;
  /** Factor on all arrival rates. */
  readonly rate?: number;
}

/** POST /inspect/api/simulations {scenario, policies, seed}: frames of a simulated run for the page's Simulation view, in the same shapes as the stream. At most 20 000 frames. */
export interface SimulationRun {
  /** Of a recording: what was, under its own policy; or its traffic in simulation under another. Absent: a scenario. */
  readonly kind?: 'recorded' | 'whatIf';
  readonly policy: string;
  /** What to know before believing it, in sentences. */
  readonly notes?: readonly string[];
  readonly frames: readonly SimulationFrame[];
  readonly summary: Readonly<Record<string, number>>;
}

/** What happened in one step of simulated time. */
export interface SimulationFrame {
  readonly simulatedMs: number;
  readonly counts: readonly number[];
  readonly nodes: readonly NodeCell[];
  readonly transitions: readonly TransitionRow[];
}
