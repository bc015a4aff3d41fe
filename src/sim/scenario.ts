/**
 * A simulation as data: nodes, functions, arrivals, faults. Plain values only, so that scenarios travel to threads and into files;
 * the same scenario, policy and seed give the same result on every machine and in every thread.
 */
import { lognormal } from '../core/distributions.ts';
import { MetronomeError } from '../core/errors.ts';
import { createRandom } from '../core/random.ts';
import type { Invocation, InvocationEvent } from '../core/invocation.ts';
import { arrivals } from '../workload/arrivals.ts';
import { FAULT_KINDS, FaultInjector, type FaultRates } from './faults.ts';
import { breachesOf, leftoversOf } from './invariants.ts';
import type { FunctionProfile } from './profiles.ts';
import { createInlineForestPredictor } from '../predictor/inline-forest-predictor.ts';
import { createMovingAveragePredictor } from '../predictor/moving-average.ts';
import { createOraclePredictor } from './oracle.ts';
import { Simulation, type SchedulerParameters } from './simulation.ts';
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
  readonly durationMs: number;
  /** Arrivals before this are not measured. */
  readonly warmUpMs: number;
  readonly faults: FaultRates;
  readonly scheduler: SchedulerParameters;
  /** Schedulers that share the functions; without faults only. @default 1 */
  readonly shards?: number;
  /** Who predicts; `oracle` knows what really comes (oracle.ts). @default 'moving-average' */
  readonly predictor?: 'moving-average' | 'forest' | 'oracle';
}

/** What came of a run. Latencies in ms. */
export interface ScenarioResult {
  readonly policy: string;
  readonly seed: number;
  readonly submitted: number;
  readonly refused: number;
  readonly completed: number;
  readonly failed: number;
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
  if ((scenario.shards ?? 1) > 1 && FAULT_KINDS.some((kind) => (scenario.faults[kind] ?? 0) > 0)) throw new MetronomeError('CONFIG_INVALID', `${scenario.shards} shards are simulated without faults only; take the faults or the shards out of the scenario.`);
  const latencies = new Latencies();
  const breaches: string[] = [];
  const ends = new Map<string, number>();
  let submitted = 0, refused = 0, completed = 0, failed = 0, slaMissed = 0;
  const sim: Simulation = new Simulation({
    ...scenario.scheduler, policy, seed, predictor: predictorOf(scenario, seed), bytesPerMs: scenario.bytesPerMs, shards: scenario.shards ?? 1, nodes: Array.from({ length: scenario.nodes }, () => scenario.node),
    ...(watcher === undefined ? {} : { onTransition: watcher.transitioned }),
    onSettled(invocation: Invocation) {
      if (check) {
        ends.set(invocation.id, (ends.get(invocation.id) ?? 0) + 1);
        if ((ends.get(invocation.id) ?? 0) > 1) note(`${invocation.id} ended twice`);
      }
      if (invocation.error !== undefined) failed++;
      else completed++;
      if (invocation.error !== undefined || sim.elapsedMs - (invocation.endedAtMs - invocation.arrivedAtMs) < scenario.warmUpMs) return;
      const latencyMs = invocation.endedAtMs - invocation.arrivedAtMs;
      latencies.add(latencyMs);
      if (latencyMs > invocation.slaMs) slaMissed++;
    },
  });
  const note = (breach: string): void => {
    if (breaches.length < MAX_BREACHES) breaches.push(`at ${sim.elapsedMs.toFixed(1)} ms: ${breach}`);
  };
  for (const { name, slaMs, memoryMb, critical, idempotent, packageSet, profile } of scenario.functions) sim.deploy({ name, slaMs, memoryMb, critical, idempotent, packageSet, retries: idempotent ? 5 : 0 }, profile);
  watcher?.begin(sim);
  const random = createRandom(seed, 77);
  const stream = arrivals({ seed, functions: scenario.functions.length, mostPerS: scenario.mostPerS, leastPerS: scenario.leastPerS }, scenario.durationMs);
  const next = (): void => {
    const arrival = stream.next();
    if (arrival.done === true) return;
    sim.at(arrival.value.atMs, () => {
      const of = scenario.functions[arrival.value.rank] as ScenarioFunction;
      const key = submitted++;
      const inputs = of.inputBytes > 0 ? [sim.upload(random.below(scenario.nodes), `in-${key}`, Math.max(1, Math.round(lognormal(random, of.inputBytes, of.inputSigma))))] : [];
      try {
        sim.submit(of.name, { key, inputs });
      } catch {
        refused++; // no node, or the queue is full: that is an answer
      }
      next();
    });
  };
  next();
  const faults = new FaultInjector(sim, scenario.faults, seed);
  if (check && FAULT_KINDS.some((kind) => (scenario.faults[kind] ?? 0) > 0)) {
    const look = (): void => {
      for (const breach of breachesOf(sim.scheduler, sim.clock.nowMs(), sim.options.monitorIntervalMs ?? 100)) note(breach);
      for (const node of sim.nodes) if (node.runs.size > node.options.slots) note(`${node.name} runs ${node.runs.size} on ${node.options.slots} slots`);
      if (sim.elapsedMs < scenario.durationMs) sim.at(sim.elapsedMs + CHECK_EVERY_MS, look);
    };
    sim.at(CHECK_EVERY_MS, look);
  }
  sim.advance(scenario.durationMs);
  faults.stop();
  sim.settle(SETTLE_MS);
  watcher?.end?.(sim);
  for (const scheduler of sim.schedulers) for (const left of leftoversOf(scheduler)) note(left);
  if (check && ends.size !== submitted - refused) note(`${submitted - refused} were accepted, ${ends.size} ended`);
  sim.stop();
  const sorted = latencies.sorted();
  const at = (share: number): number => sorted[Math.min(sorted.length - 1, Math.max(0, Math.ceil(share * sorted.length) - 1))] ?? 0;
  return {
    policy, seed, submitted, refused, completed, failed, slaMissed, meanMs: sorted.length === 0 ? 0 : sorted.reduce((a, b) => a + b, 0) / sorted.length, p50Ms: at(0.5), p90Ms: at(0.9), p95Ms: at(0.95), p99Ms: at(0.99),
    movedBytes: sim.network.movedBytes, faults: faults.count, decisions: sim.schedulers.reduce((sum, { counters }) => sum + counters.decisions, 0), messages: sim.messages, leaseMessages: sim.leaseMessages, digest: String(sim.digest), transitions: sim.digest.count, simulatedMs: sim.elapsedMs, breaches,
  };
}

/** The daemon's own model with fewer trees and a smaller window: some thousand executions are all that a scenario has. */
const FOREST = { trees: 20, window: 1_000, updateEvery: 100, replace: 2 } as const;

function predictorOf({ predictor = 'moving-average' }: Scenario, seed: number): NonNullable<ConstructorParameters<typeof Simulation>[0]['predictor']> {
  if (predictor === 'oracle') return ({ simulation }) => createOraclePredictor(simulation);
  return () => (predictor === 'forest' ? createInlineForestPredictor({ ...FOREST, seed }) : createMovingAveragePredictor());
}

/** Fewer nodes, functions, faults and less time with the same breach: the smallest scenario found in `tries` runs. */
export function shrink(scenario: Scenario, policy: string, seed: number, tries = 40): Scenario {
  let best = scenario;
  let left = tries;
  const isBad = (candidate: Scenario): boolean => left-- > 0 && runScenario(candidate, policy, seed).breaches.length > 0;
  for (let improved = true; improved && left > 0; ) {
    improved = false;
    const candidates: Scenario[] = [
      { ...best, durationMs: Math.round(best.durationMs / 2), warmUpMs: 0 },
      { ...best, functions: best.functions.slice(0, Math.ceil(best.functions.length / 2)) },
      { ...best, nodes: Math.max(1, best.nodes - 1) },
      ...FAULT_KINDS.filter((kind) => (best.faults[kind] ?? 0) > 0).map((kind) => ({ ...best, faults: { ...best.faults, [kind]: 0 } })),
    ];
    for (const candidate of candidates) {
      if (candidate.durationMs < 100 || JSON.stringify(candidate) === JSON.stringify(best) || !isBad(candidate)) continue;
      best = candidate;
      improved = true;
      break;
    }
  }
  return best;
}
