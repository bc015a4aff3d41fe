/** One replica of a what-if: the recorded arrivals in the simulator, under a policy with its parameters. */
import type { InputObject, Invocation } from '../core/invocation.ts';
import { createInlineForestPredictor, type InlineForestPredictor } from '../predictor/inline-forest-predictor.ts';
import { restoreOnlineModel, type ModelSnapshot, type OnlineModel } from '../predictor/model/online-model.ts';
import type { RecordedModel } from '../recording/format.ts';
import type { SimulationWatcher } from '../sim/scenario.ts';
import { Simulation, type SchedulerParameters, type SimulationOptions } from '../sim/simulation.ts';
import { phasesOf, PhaseSum, type PhaseSums } from './phases.ts';
import type { WhatIfWork, WorkArrival, WorkNode, WorkObject, WorkRequest } from './workload.ts';

/** What is different from the recording. */
export interface Alternative {
  /** '': the recorded one, with what functions and requests asked for; otherwise all run under this one. */
  readonly policy: string;
  /** α, β, γ, κ. */
  readonly localityGain?: number;
  readonly safetyMargin?: number;
  readonly hysteresis?: number;
  readonly price?: number;
  /** Nodes like the recorded ones, in turns. */
  readonly nodes?: number;
}

/** What came of it. Times ms; NaN: it did not complete. */
export interface ReplicaResult {
  /** From its first arrival to its last end, by request. */
  readonly latencies: Float64Array<ArrayBuffer>;
  /** From its arrival to its end, by arrival. */
  readonly invocationMs: Float64Array<ArrayBuffer>;
  readonly refused: number;
  readonly failed: number;
  /** Where the time went, by place of the function: of arrivals that completed in the recording. */
  readonly phases: readonly PhaseSums[];
  readonly digest: string;
}

/** Updates of a forest in one replica at most, those for sudden changes left aside: what bounds the cost of long recordings. */
const MOST_UPDATES = 400;
/** Seed of the run in which a forest learns that had learned before the recording began. */
const LEARNING_SEED = 0;
/** What such a forest knows, by workload: each thread learns once. */
const learned = new WeakMap<WhatIfWork, ModelSnapshot>();

/** How it runs. */
export interface ReplicaOptions {
  /** Looks on. */
  readonly watcher?: SimulationWatcher;
  /** Requests that came then or later are left out; they count as not completed. @default none are */
  readonly untilMs?: number;
}

/** Runs it. The same work, alternative and seed give the same result, whether somebody looks on or not. */
export function simulateWork(work: WhatIfWork, alternative: Alternative, seed: number, options: ReplicaOptions = {}): ReplicaResult {
  return simulate(work, alternative, seed, work.forest?.beganTrained === true ? snapshotFor(work) : undefined, options).result;
}

/** What the forest knew when the recording began was not recorded: what comes nearest is what it learns from the same traffic. */
function snapshotFor(work: WhatIfWork): ModelSnapshot {
  let snapshot = learned.get(work);
  if (snapshot === undefined) {
    snapshot = (simulate(work, { policy: '' }, LEARNING_SEED, undefined, {}).forest as InlineForestPredictor).model.toSnapshot(); // the work has a forest
    learned.set(work, snapshot);
  }
  return snapshot;
}

function simulate(work: WhatIfWork, alternative: Alternative, seed: number, snapshot: ModelSnapshot | undefined, { watcher, untilMs = Infinity }: ReplicaOptions): { readonly result: ReplicaResult; readonly forest: InlineForestPredictor | undefined } {
  const { arrivals, requests, functions } = work;
  const isForced = alternative.policy !== '';
  const nodeCount = alternative.nodes ?? work.nodes.length;
  const scheduler: SchedulerParameters = {
    ...work.scheduler,
    ...(isForced ? { policy: alternative.policy } : {}), ...(alternative.localityGain === undefined ? {} : { localityGain: alternative.localityGain }), ...(alternative.safetyMargin === undefined ? {} : { safetyMargin: alternative.safetyMargin }),
    ...(alternative.hysteresis === undefined && alternative.price === undefined ? {} : { lookahead: { ...work.scheduler.lookahead, ...(alternative.hysteresis === undefined ? {} : { hysteresis: alternative.hysteresis }), ...(alternative.price === undefined ? {} : { price: alternative.price }) } }),
  };
  const spanMs = arrivals.reduce((latest, { request, atMs }) => ((requests[request] as WorkRequest).atMs < untilMs ? Math.max(latest, atMs) : latest), 0);
  let forest: InlineForestPredictor | undefined;
  const predictor: NonNullable<SimulationOptions['predictor']> | undefined = work.forest === undefined ? undefined : ({ clock }) => (forest = forestOf(work.forest as RecordedModel, () => clock.nowMs(), spanMs, snapshot)); // it is there
  const sim = new Simulation({
    ...scheduler, seed, bytesPerMs: work.bytesPerMs, latencyMs: work.latencyMs, messageMs: work.messageMs,
    ...(watcher === undefined ? {} : { onTransition: watcher.transitioned }), ...(predictor === undefined ? {} : { predictor }),
    nodes: Array.from({ length: nodeCount }, (_, i) => {
      const { slots, memoryMb, keepAliveMs, zygoteMb } = work.nodes[i % work.nodes.length] as WorkNode;
      // As many cores as can be busy: what co-running cost stands in the recorded times.
      return { slots, cores: slots + 2, memoryMb, keepAliveMs, zygoteMb, zygotesShareMemory: true, objectQuotaBytes: 1e15 };
    }),
  });
  for (const { settings, profile, isInstalled } of functions) {
    sim.deploy(isForced ? { ...settings, policy: '' } : settings, profile);
    if (isInstalled) for (const node of sim.nodes) node.install(settings.packageSet);
  }
  sim.nodes.forEach((node, index) => {
    const { warm, packageSets, zygotes } = work.nodes[index % work.nodes.length] as WorkNode;
    for (const set of packageSets) node.install(set);
    for (const set of zygotes) node.keepZygote(set);
    for (const { function: place, count } of warm) sim.warm(index, functions[place]?.settings.name ?? '', count);
  });
  if (!isForced) for (const { atMs, policy } of work.policyChanges) sim.at(atMs, () => void sim.scheduler.setPolicy(policy));
  for (const { node: place, fromMs, untilMs: endMs } of work.silences) {
    for (let node = place; node < nodeCount; node += work.nodes.length) {
      sim.at(Math.max(0, fromMs), () => sim.silence(node, true));
      sim.at(endMs, () => sim.silence(node, false));
    }
  }
  watcher?.begin(sim);

  const latencies = new Float64Array(requests.length), invocationMs = new Float64Array(arrivals.length).fill(Number.NaN);
  const present = new Set<string>();
  /** Objects that were made, by id, with where they lie. */
  const made = new Map<string, InputObject>();
  const successors: (number[] | undefined)[] = [];
  const awaited = new Int32Array(arrivals.length);
  arrivals.forEach(({ after }, index) => {
    awaited[index] = after.length;
    for (const before of after) (successors[before] ??= []).push(index);
  });
  const phases = functions.map(() => new PhaseSum());
  let refused = 0, failed = 0, open = 0;

  const inputOf = ({ id, sizeBytes, nodes }: WorkObject): InputObject => {
    const known = made.get(id);
    if (known !== undefined) return known;
    if (!present.has(id)) {
      present.add(id);
      // Whoever had it has it; on a smaller cluster nodes take each other's place.
      const holders = [...new Set(nodes.length === 0 ? [hashOf(id) % nodeCount] : nodes.map((node) => node % nodeCount))];
      const [first = 0, ...rest] = holders;
      const object = sim.upload(first, id, sizeBytes);
      for (const node of rest) sim.upload(node, id, sizeBytes);
      made.set(id, { ...object, holders: holders.map((node) => sim.nodes[node]?.name ?? '') });
    }
    return made.get(id) as InputObject; // put there above
  };
  /** When each request comes; of those that follow another one, that is known when that one has ended. */
  const comesAtMs = Float64Array.from(requests, ({ atMs }) => atMs);
  const roots = requests.map((): number[] => []), followers = requests.map((): number[] => []);
  const left = new Int32Array(requests.length);
  arrivals.forEach(({ request, after }, index) => {
    left[request] = (left[request] as number) + 1;
    if (after.length === 0) roots[request]?.push(index);
  });
  work.followings?.forEach((following, request) => {
    if (following !== undefined) followers[following.request]?.push(request);
  });
  /** All of a request has ended, or so much of it that the rest never comes: its caller goes on. */
  const answered = (request: number): void => {
    if (left[request] === -1) return;
    left[request] = -1;
    for (const follower of followers[request] as number[]) come(follower, sim.elapsedMs + (work.followings?.[follower]?.lagMs ?? 0));
  };
  const come = (request: number, atMs: number): void => {
    if ((requests[request] as WorkRequest).atMs >= untilMs) return;
    comesAtMs[request] = atMs;
    for (const index of roots[request] as number[]) submit(index, atMs);
  };
  const lost = (index: number): void => {
    failed++;
    const { request } = arrivals[index] as WorkArrival;
    latencies[request] = Number.NaN;
    answered(request);
  };
  const settled = (index: number, invocation: Invocation): void => {
    const arrival = arrivals[index] as WorkArrival;
    open--;
    if (invocation.error !== undefined) return lost(index);
    const totalMs = (invocationMs[index] = invocation.endedAtMs - invocation.arrivedAtMs);
    if (arrival.recorded !== undefined && invocation.result !== undefined) phases[arrival.function]?.add(phasesOf(invocation.result, invocation.dispatchedAtMs - invocation.arrivedAtMs, totalMs));
    for (const { id, sizeBytes } of arrival.outputs) made.set(id, sim.upload(invocation.node, id, sizeBytes));
    const { request } = arrival;
    // Math.max keeps NaN.
    latencies[request] = Math.max(latencies[request] as number, sim.elapsedMs - (comesAtMs[request] as number));
    for (const later of successors[index] ?? []) {
      awaited[later] = (awaited[later] as number) - 1;
      if (awaited[later] === 0) submit(later, sim.elapsedMs + (arrivals[later] as WorkArrival).lagMs);
    }
    if ((left[request] as number) > 0) {
      left[request] = (left[request] as number) - 1;
      if (left[request] === 0) answered(request);
    }
  };
  const submit = (index: number, atMs: number): void => {
    open++;
    sim.at(atMs, () => {
      const { function: place, inputs, slaMs, payloadBytes, localityKey, policyName, expiresAfterMs, runMs, place: stepPlace } = arrivals[index] as WorkArrival;
      try {
        sim.submit(functions[place]?.settings.name ?? '', {
          key: index, ...(Number.isNaN(runMs) ? {} : { runMs }), inputs: inputs.map(inputOf), slaMs, payloadBytes, localityKey, policyName: isForced ? '' : policyName, expiresAtMs: sim.clock.nowMs() + expiresAfterMs, place: stepPlace, patient: stepPlace.predecessors > 0,
          onSettled: (invocation) => settled(index, invocation),
        });
      } catch {
        open--;
        refused++; // no room: an answer, as in reality
        lost(index);
      }
    });
  };
  requests.forEach(({ atMs }, request) => {
    if (work.followings?.[request] === undefined) come(request, atMs);
  });
  // Whoever arrives last may wait as long as anybody may.
  sim.advance(spanMs);
  // Callers who wait may make a slower world last longer.
  const until = 4 * sim.elapsedMs + (work.scheduler.maxWaitMs ?? 600_000) + 3_600_000;
  while (open > 0 && sim.elapsedMs < until) {
    const next = sim.clock.nextTimerMs();
    if (next === undefined) break;
    sim.clock.advanceTo(next);
  }
  watcher?.end?.(sim);
  sim.stop();
  arrivals.forEach(({ request }, index) => {
    if (Number.isNaN(invocationMs[index])) latencies[request] = Number.NaN;
  });
  return { result: { latencies, invocationMs, refused, failed, phases: phases.map((sum) => ({ ...sum })), digest: String(sim.digest) }, forest };
}

/** The recorded forest, paced as the daemon paces it, and slower where that would be too many updates. */
function forestOf(recorded: RecordedModel, nowMs: () => number, spanMs: number, snapshot: ModelSnapshot | undefined): InlineForestPredictor {
  const { updatePauseMs, ...options } = recorded;
  const pauseMs = Math.max(updatePauseMs, spanMs / MOST_UPDATES);
  const model: OnlineModel | undefined = snapshot === undefined ? undefined : restoreOnlineModel(snapshot);
  let updatedAtMs = -Infinity;
  return createInlineForestPredictor(options, model, (reason) => {
    // A sudden change does not wait.
    if (reason === 'observations' && nowMs() - updatedAtMs < pauseMs) return false;
    updatedAtMs = nowMs();
    return true;
  });
}

function hashOf(text: string): number {
  let hash = 0;
  for (let i = 0; i < text.length; i++) hash = (Math.imul(hash, 31) + text.charCodeAt(i)) | 0;
  return hash >>> 0;
}
