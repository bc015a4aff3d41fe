/**
 * A simulation as data: nodes, functions, arrivals, faults. Plain values only, so that scenarios travel to threads and into files;
 * the same scenario, policy and seed give the same result on every machine and in every thread.
 */
import { lognormal } from '../core/distributions.ts';
import { MetronomeError } from '../core/errors.ts';
import { createRandom } from '../core/random.ts';
import { DISPATCHED, type InputObject, type Invocation, type InvocationEvent } from '../core/invocation.ts';
import { arrivals } from '../workload/arrivals.ts';
import { FAULT_KINDS, FaultInjector, SHARD_FAULT_KINDS, type FaultKind, type FaultRates } from './faults.ts';
import { breachesOf, leftoversOf } from './invariants.ts';
import type { FunctionProfile } from './profiles.ts';
import { createInlineForestPredictor } from '../predictor/inline-forest-predictor.ts';
import { createMovingAveragePredictor } from '../predictor/moving-average.ts';
import { createOraclePredictor } from './oracle.ts';
import { Simulation, type SchedulerParameters, type SimulatedWork } from './simulation.ts';
import { createUnreliablePredictor, type PredictionFaults } from './unreliable-predictor.ts';
import type { VirtualNodeOptions } from './virtual-node.ts';

/** One function of a scenario. */
export interface ScenarioFunction {
  readonly name: string;
  readonly slaMs: number;
  readonly memoryMb: number;
  readonly critical: boolean;
  readonly idempotent: boolean;
  /** Functions with the same packages share what is installed. */
  readonly packageSet: string;
  readonly profile: FunctionProfile;
  /** Input bytes of a call: median and standard deviation of the logarithm; 0: no input. The object lies on a node chosen at random. */
  readonly inputBytes: number;
  readonly inputSigma: number;
}

/** What is simulated. */
export interface Scenario {
  readonly nodes: number;
  readonly node: VirtualNodeOptions;
  readonly bytesPerMs: number;
  readonly functions: readonly ScenarioFunction[];
  /** Rates of the functions, most and least popular, calls per second. */
  readonly mostPerS: number;
  readonly leastPerS: number;
  /** Calls that come instead of those, in order of time, by rank; ranks beyond the last function begin again with the first. `durationMs`: what each runs, 0: as its function. */
  readonly calls?: { readonly atMs: readonly number[]; readonly rank: readonly number[]; readonly durationMs: readonly number[] };
  readonly durationMs: number;
  /** Arrivals before this are not measured. */
  readonly warmUpMs: number;
  readonly faults: FaultRates;
  readonly scheduler: SchedulerParameters;
  /** Schedulers that share the functions. @default 1 */
  readonly shards?: number;
  /** Who predicts; `oracle` knows what really comes, `oracle-of-means` what comes on the mean (oracle.ts). @default 'moving-average' */
  readonly predictor?: 'moving-average' | 'forest' | 'oracle' | 'oracle-of-means';
}

/** What came of a run. Latencies in ms. */
export interface ScenarioResult {
  readonly policy: string;
  readonly seed: number;
  readonly submitted: number;
  readonly refused: number;
  readonly completed: number;
  readonly failed: number;
  /** Lived in a shard that died; callers asked again for what may run twice, and the rest counts as failed. */
  readonly lost: number;
  readonly slaMissed: number;
  readonly meanMs: number;
  readonly p50Ms: number;
  readonly p90Ms: number;
  readonly p95Ms: number;
  readonly p99Ms: number;
  readonly movedBytes: number;
  readonly faults: number;
  readonly decisions: number;
  /** Between schedulers and nodes, the regular states of nodes left out. */
  readonly messages: number;
  /** Those of them that move leases of slots between shards. */
  readonly leaseMessages: number;
  /** Of the trace: equal for equal runs. */
  readonly digest: string;
  readonly transitions: number;
  readonly simulatedMs: number;
  /** Invariants that did not hold; empty in a good run. */
  readonly breaches: readonly string[];
}

/** How often invariants are looked at while faults are injected, ms. */
const CHECK_EVERY_MS = 97;
const MAX_BREACHES = 20;
/** Callers whose shard is dead ask again after this, ms. */
const ASK_AGAIN_MS = 200;
/** After the last arrival and the last fault, everything must end within this. */
const SETTLE_MS = 900_000;

/** Who looks on while a simulation runs. */
export interface SimulationWatcher {
  /** Everything is set up, nothing has arrived yet. */
  begin(sim: Simulation): void;
  transitioned(invocation: Invocation, from: number, to: number, event: InvocationEvent): void;
  /** Nothing is left to be done; time stands still from now on. */
  end?(sim: Simulation): void;
}

/** Numbers of a run, up to some ten millions of them: a day of calls. */
class Latencies {
  #values = new Float64Array(4_096);
  #count = 0;

  add(value: number): void {
    if (this.#count === this.#values.length) {
      const larger = new Float64Array(2 * this.#count);
      larger.set(this.#values);
      this.#values = larger;
    }
    this.#values[this.#count++] = value;
  }

  sorted(): Float64Array {
    return this.#values.slice(0, this.#count).sort();
  }
}

/** Runs a scenario. `check`: invariants are asserted all along, not only at the end. */
export function runScenario(scenario: Scenario, policy: string, seed: number, check = true, watcher?: SimulationWatcher): ScenarioResult {
  const { shards = 1 } = scenario;
  const needsShards = SHARD_FAULT_KINDS.filter((kind) => (scenario.faults[kind] ?? 0) > 0);
  if (shards === 1 && needsShards.length > 0) throw new MetronomeError('CONFIG_INVALID', `The fault ${needsShards[0]} happens to shards, and the scenario has one scheduler; set \`shards\` to 2 or more, or take the fault out.`);
  const latencies = new Latencies();
  const breaches: string[] = [];
  const ends = new Map<string, number>();
  const has = (...kinds: readonly FaultKind[]): boolean => kinds.some((kind) => (scenario.faults[kind] ?? 0) > 0);
  const checksAllAlong = check && (shards > 1 || has(...FAULT_KINDS));
  let predictions: PredictionFaults | undefined;
  /** Invocations of functions that must run once: how often their handler was called. */
  const calls = new Map<string, number>();
  let submitted = 0, refused = 0, accepted = 0, lost = 0, completed = 0, failed = 0, slaMissed = 0;
  /** When callers asked first whose shard died meanwhile, ms, by key. */
  const askedFirst = new Map<number, number>();
  const sim: Simulation = new Simulation({
    ...scenario.scheduler, policy, seed, clockJumps: has('clockJump'), bytesPerMs: scenario.bytesPerMs, shards, nodes: Array.from({ length: scenario.nodes }, () => scenario.node),
    predictor(world) {
      const predictor = predictorOf(scenario, seed)(world);
      if (!has('wrongPredictions', 'latePredictions', 'missingPredictions')) return predictor;
      const unreliable = createUnreliablePredictor(predictor, world.clock, predictions);
      predictions = unreliable.faults; // the same for all shards
      return unreliable;
    },
    ...(watcher === undefined && !checksAllAlong ? {} : {
      onTransition(invocation: Invocation, from: number, to: number, event: InvocationEvent) {
        // Its slot is booked after this.
        if (checksAllAlong && to === DISPATCHED && from !== DISPATCHED) noteOversold(invocation.node, invocation.id);
        watcher?.transitioned(invocation, from, to, event);
      },
    }),
    ...(checksAllAlong ? { onHandlerCalled: (id: string) => countCall(id) } : {}),
    onSettled(invocation: Invocation) {
      if (check) {
        ends.set(invocation.id, (ends.get(invocation.id) ?? 0) + 1);
        if ((ends.get(invocation.id) ?? 0) > 1) note(`${invocation.id} ended twice`);
      }
      if (invocation.error !== undefined) failed++;
      else completed++;
      const latencyMs = invocation.endedAtMs - (askedFirst.get((invocation.cargo as SimulatedWork).key) ?? invocation.arrivedAtMs); // every submission carries it
      if (invocation.error !== undefined || sim.elapsedMs - latencyMs < scenario.warmUpMs) return;
      latencies.add(latencyMs);
      if (latencyMs > invocation.slaMs) slaMissed++;
    },
    onShardLost(invocations) {
      for (const { functionName, inputs, cargo, arrivedAtMs, idempotent } of invocations) {
        lost++;
        const { key, runMs } = cargo as SimulatedWork; // as above
        // Callers get an error. Of what may run twice they ask again; the rest has failed.
        if (idempotent) askAgain({ name: functionName, key, inputs, runMs, idempotent }, arrivedAtMs);
        else failed++;
      }
    },
  });
  const ask = (call: Call): void => {
    const { name, key, inputs, runMs, idempotent } = call;
    try {
      const { id } = sim.submit(name, { key, inputs, ...(runMs === undefined ? {} : { runMs }) });
      accepted++;
      if (checksAllAlong && !idempotent) calls.set(id, 0);
    } catch (error) {
      if (shards > 1 && MetronomeError.from(error).code === 'UNAVAILABLE') askAgain(call, sim.schedulerClock.nowMs());
      else refused++; // no node, or the queue is full: that is an answer
    }
  };
  const askAgain = (call: Call, sinceMs: number): void => {
    if (!askedFirst.has(call.key)) askedFirst.set(call.key, sinceMs);
    sim.at(sim.elapsedMs + ASK_AGAIN_MS, () => ask(call));
  };
  const note = (breach: string): void => {
    if (breaches.length < MAX_BREACHES) breaches.push(`at ${sim.elapsedMs.toFixed(1)} ms: ${breach}`);
  };
  const noteOversold = (node: number, id: string): void => {
    const { used, slots } = sim.schedulerOf(id).cluster;
    if ((used[node] ?? 0) >= (slots[node] ?? 0)) note(`${id} is sent to n${node}, which has ${used[node]} of ${slots[node]} slots used`);
  };
  const countCall = (id: string): void => {
    const before = calls.get(id);
    if (before === undefined) return;
    calls.set(id, before + 1);
    if (before > 0) note(`${id}, which must run once, ran again`);
  };
  for (const { name, slaMs, memoryMb, critical, idempotent, packageSet, profile } of scenario.functions) sim.deploy({ name, slaMs, memoryMb, critical, idempotent, packageSet, retries: idempotent ? 5 : 0 }, profile);
  watcher?.begin(sim);
  const random = createRandom(seed, 77);
  const stream: Generator<TimedCall> = scenario.calls === undefined ? arrivals({ seed, functions: scenario.functions.length, mostPerS: scenario.mostPerS, leastPerS: scenario.leastPerS }, scenario.durationMs) : givenCalls(scenario.calls, scenario);
  const next = (): void => {
    const arrival = stream.next();
    if (arrival.done === true) return;
    sim.at(arrival.value.atMs, () => {
      const of = scenario.functions[arrival.value.rank] as ScenarioFunction;
      const key = submitted++;
      const inputs = of.inputBytes > 0 ? [sim.upload(random.below(scenario.nodes), `in-${key}`, Math.max(1, Math.round(lognormal(random, of.inputBytes, of.inputSigma))))] : [];
      ask({ name: of.name, key, inputs, runMs: arrival.value.runMs, idempotent: of.idempotent });
      next();
    });
  };
  next();
  const faults = new FaultInjector(sim, scenario.faults, seed, predictions);
  if (checksAllAlong) {
    const look = (): void => {
      for (const scheduler of sim.living()) for (const breach of breachesOf(scheduler, sim.schedulerClock.nowMs(), sim.options.monitorIntervalMs ?? 100, (node) => sim.hasLied(node), scenario.scheduler.decideOn === 'polls')) note(breach);
      for (const breach of sim.leases?.breaches() ?? []) note(breach);
      for (const node of sim.nodes) if (node.runs.size > node.options.slots) note(`${node.name} runs ${node.runs.size} on ${node.options.slots} slots`);
      if (sim.elapsedMs < scenario.durationMs) sim.at(sim.elapsedMs + CHECK_EVERY_MS, look);
    };
    sim.at(CHECK_EVERY_MS, look);
  }
  sim.advance(scenario.durationMs);
  faults.stop();
  // Who was to ask again does so now.
  if (askedFirst.size > 0) sim.advance(ASK_AGAIN_MS);
  sim.settle(SETTLE_MS);
  watcher?.end?.(sim);
  for (const scheduler of sim.schedulers) for (const left of leftoversOf(scheduler)) note(left);
  if (check && ends.size !== accepted - lost) note(`${accepted} were accepted, ${lost} lost with their shards, ${ends.size} ended`);
  if (completed + failed + refused !== submitted) note(`${submitted} were submitted, ${completed} completed, ${failed} failed, ${refused} were refused`);
  sim.stop();
  const sorted = latencies.sorted();
  const at = (share: number): number => sorted[Math.min(sorted.length - 1, Math.max(0, Math.ceil(share * sorted.length) - 1))] ?? 0;
  return {
    policy, seed, submitted, refused, completed, failed, lost, slaMissed, meanMs: sorted.length === 0 ? 0 : sorted.reduce((a, b) => a + b, 0) / sorted.length, p50Ms: at(0.5), p90Ms: at(0.9), p95Ms: at(0.95), p99Ms: at(0.99),
    movedBytes: sim.network.movedBytes, faults: faults.count, decisions: sim.schedulers.reduce((sum, { counters }) => sum + counters.decisions, 0), messages: sim.messages, leaseMessages: sim.leaseMessages, digest: String(sim.digest), transitions: sim.digest.count, simulatedMs: sim.elapsedMs, breaches,
  };
}

/** What a caller asks for. */
interface Call {
  readonly name: string;
  readonly key: number;
  readonly inputs: readonly InputObject[];
  readonly runMs: number | undefined;
  readonly idempotent: boolean;
}

interface TimedCall {
  readonly atMs: number;
  readonly rank: number;
  readonly runMs?: number;
}

function* givenCalls({ atMs, rank, durationMs: runMs }: NonNullable<Scenario['calls']>, { functions, durationMs }: Scenario): Generator<TimedCall> {
  for (let i = 0; i < atMs.length && (atMs[i] as number) < durationMs; i++) {
    const ran = runMs[i] as number;
    yield { atMs: atMs[i] as number, rank: (rank[i] as number) % functions.length, ...(ran > 0 ? { runMs: ran } : {}) };
  }
}

/** The daemon's own model with fewer trees and a smaller window: some thousand executions are all that a scenario has. */
const FOREST = { trees: 20, window: 1_000, updateEvery: 100, replace: 2 } as const;

function predictorOf({ predictor = 'moving-average' }: Scenario, seed: number): NonNullable<ConstructorParameters<typeof Simulation>[0]['predictor']> {
  if (predictor === 'oracle' || predictor === 'oracle-of-means') return ({ simulation }) => createOraclePredictor(simulation, predictor === 'oracle' ? 'everything' : 'means');
  return () => (predictor === 'forest' ? createInlineForestPredictor({ ...FOREST, seed }) : createMovingAveragePredictor());
}
