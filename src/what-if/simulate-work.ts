/** One replica of a what-if: the recorded arrivals in the simulator, under a policy with its parameters. */
import type { InputObject, Invocation } from '../core/invocation.ts';
import type { SimulationWatcher } from '../sim/scenario.ts';
import { Simulation, type SchedulerParameters } from '../sim/simulation.ts';
import type { WhatIfWork, WorkArrival, WorkObject } from './workload.ts';

/** What is different from the recording. */
export interface Alternative {
  /** '': the recorded one, with what functions and requests asked for; otherwise all run under this one. */
  readonly policy: string;
  /** α, β, γ. */
  readonly localityGain?: number;
  readonly safetyMargin?: number;
  readonly hysteresis?: number;
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
  readonly digest: string;
}

/** Runs it. The same work, alternative and seed give the same result, whether somebody looks on or not. */
export function simulateWork(work: WhatIfWork, alternative: Alternative, seed: number, watcher?: SimulationWatcher): ReplicaResult {
  const { arrivals, requests, functions } = work;
  const isForced = alternative.policy !== '';
  const nodeCount = alternative.nodes ?? work.nodes.length;
  const scheduler: SchedulerParameters = {
    ...work.scheduler,
    ...(isForced ? { policy: alternative.policy } : {}), ...(alternative.localityGain === undefined ? {} : { localityGain: alternative.localityGain }), ...(alternative.safetyMargin === undefined ? {} : { safetyMargin: alternative.safetyMargin }),
    ...(alternative.hysteresis === undefined ? {} : { lookahead: { hysteresis: alternative.hysteresis } }),
  };
  const sim = new Simulation({
    ...scheduler, seed, bytesPerMs: work.bytesPerMs, latencyMs: work.latencyMs, messageMs: work.messageMs,
    ...(watcher === undefined ? {} : { onTransition: watcher.transitioned }),
    nodes: Array.from({ length: nodeCount }, (_, i) => {
      const { slots, memoryMb } = work.nodes[i % work.nodes.length] as WhatIfWork['nodes'][number];
      // As many cores as can be busy: what co-running cost stands in the recorded times.
      return { slots, cores: slots + 2, memoryMb, keepAliveMs: work.keepAliveMs, zygoteMb: memoryMb * work.zygoteShare, objectQuotaBytes: 1e15 };
    }),
  });
  for (const { settings, profile, isInstalled } of functions) {
    sim.deploy(isForced ? { ...settings, policy: '' } : settings, profile);
    if (isInstalled) for (const node of sim.nodes) node.install(settings.packageSet);
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
  const lost = (index: number): void => {
    failed++;
    latencies[(arrivals[index] as WorkArrival).request] = Number.NaN;
  };
  const settled = (index: number, invocation: Invocation): void => {
    const arrival = arrivals[index] as WorkArrival;
    open--;
    if (invocation.error !== undefined) return lost(index);
    invocationMs[index] = invocation.endedAtMs - invocation.arrivedAtMs;
    for (const { id, sizeBytes } of arrival.outputs) made.set(id, sim.upload(invocation.node, id, sizeBytes));
    const request = requests[arrival.request] as WhatIfWork['requests'][number];
    // Math.max keeps NaN.
    latencies[arrival.request] = Math.max(latencies[arrival.request] as number, sim.elapsedMs - request.atMs);
    for (const next of successors[index] ?? []) {
      awaited[next] = (awaited[next] as number) - 1;
      if (awaited[next] === 0) submit(next, sim.elapsedMs + (arrivals[next] as WorkArrival).lagMs);
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
  arrivals.forEach(({ after, atMs }, index) => {
    if (after.length === 0) submit(index, atMs);
  });
  // Whoever arrives last may wait as long as anybody may.
  const lastMs = arrivals.reduce((latest, { atMs }) => Math.max(latest, atMs), 0);
  sim.advance(lastMs);
  const until = sim.elapsedMs + (work.scheduler.maxWaitMs ?? 600_000) + 3_600_000;
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
  return { latencies, invocationMs, refused, failed, digest: String(sim.digest) };
}

function hashOf(text: string): number {
  let hash = 0;
  for (let i = 0; i < text.length; i++) hash = (Math.imul(hash, 31) + text.charCodeAt(i)) | 0;
  return hash >>> 0;
}
