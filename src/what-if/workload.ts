/**
 * What is replayed in a what-if: the arrivals of a recording with what each cost, on nodes like the recorded ones. Plain values, so that it travels to
 * threads. A step of a workflow run arrives when the steps that it waits for have ended, not when it did.
 */
import { ALONE, type StepPlace } from '../core/invocation.ts';
import { MetronomeError } from '../core/errors.ts';
import { COLD, PACKAGES, WARM, ZYGOTE } from '../predictor/predictor.ts';
import { MODEL_DEFAULTS } from '../predictor/model/online-model.ts';
import type { RecordedModel, RecordingHead } from '../recording/format.ts';
import type { History, RecordedInvocation, RecordedOutcome } from '../recording/history.ts';
import type { NodeInfo } from '../scheduler/cluster-view.ts';
import type { FunctionSettings } from '../scheduler/function-table.ts';
import { calibrate, LEAST_SAMPLES, type Calibration } from '../sim/calibrate.ts';
import type { CalibrationSample } from '../sim/calibration-samples.ts';
import { PLAIN_PROFILE, slownessOf, type FunctionProfile } from '../sim/profiles.ts';
import { medianOf, winsorised } from '../sim/robust-fit.ts';
import type { SchedulerParameters } from '../sim/simulation.ts';
import { followingsOf, type Following } from './callers.ts';
import { recordedPhases, type PhasesOfOne } from './phases.ts';

/** An object that an arrival reads or makes. */
export interface WorkObject {
  readonly id: string;
  readonly sizeBytes: number;
  /** Places of the nodes that had it at first; objects that an arrival makes lie where it ran. */
  readonly nodes: readonly number[];
}

/** One invocation to be made. */
export interface WorkArrival {
  /** Since the beginning, ms; of a step: of its run's first one. */
  readonly atMs: number;
  /** Place of its function. */
  readonly function: number;
  readonly slaMs: number;
  readonly inputs: readonly WorkObject[];
  readonly outputs: readonly WorkObject[];
  readonly payloadBytes: number;
  readonly localityKey: string;
  readonly policyName: string;
  readonly expiresAfterMs: number;
  /** What it costs wherever it runs, as in a warm sandbox; NaN: not known. */
  readonly runMs: number;
  readonly place: StepPlace;
  /** Places of the arrivals that must have ended, and how long after the last of them it came. */
  readonly after: readonly number[];
  readonly lagMs: number;
  /** Place of what the caller waits for: of its own, or of its workflow run. */
  readonly request: number;
  /** Where its time went in reality. @default it did not complete */
  readonly recorded?: PhasesOfOne;
}

/** A node like a recorded one, with what it had before the first invocation. */
export interface WorkNode {
  readonly name: string;
  readonly slots: number;
  readonly memoryMb: number;
  readonly keepAliveMs: number;
  readonly zygoteMb: number;
  /** Idle sandboxes by place of their function. */
  readonly warm: readonly { readonly function: number; readonly count: number }[];
  readonly packageSets: readonly string[];
  readonly zygotes: readonly string[];
}

/** What a caller waits for: one invocation, or all of a workflow run. */
export interface WorkRequest {
  /** Function or workflow. */
  readonly name: string;
  readonly isWorkflow: boolean;
  readonly atMs: number;
  readonly slaMs: number;
  /** What it took in reality, ms; NaN: it failed, or had not ended. */
  readonly recordedMs: number;
}

/** Everything that a replica needs beside policy and seed. */
export interface WhatIfWork {
  readonly nodes: readonly WorkNode[];
  /** `isInstalled`: no node had to install its packages. */
  readonly functions: readonly { readonly settings: FunctionSettings; readonly profile: FunctionProfile; readonly isInstalled: boolean }[];
  readonly arrivals: readonly WorkArrival[];
  readonly requests: readonly WorkRequest[];
  /** By request, which one its caller had waited for. @default they came by themselves */
  readonly followings?: readonly (Following | undefined)[];
  readonly scheduler: SchedulerParameters;
  /** When nodes counted as stale: the machine was too busy, whatever policy there was. */
  readonly silences: History['silences'];
  /** When another policy was put in force. */
  readonly policyChanges: readonly { readonly atMs: number; readonly policy: string }[];
  readonly bytesPerMs: number;
  readonly latencyMs: number;
  /** One message between scheduler and node, ms. */
  readonly messageMs: number;
  /** The forest that predicted. @default moving averages did */
  readonly forest?: RecordedModel & { readonly beganTrained: boolean };
}

/** What was learned and what was assumed, for people. */
export interface WorkNotes {
  readonly calibrated: readonly string[];
  readonly assumed: readonly string[];
}

/** Defaults of agent.keepAlive and agent.zygoteMemory, for recordings of older builds, whose agents did not tell. */
const KEEP_ALIVE_MS = 60_000, ZYGOTE_SHARE = 0.25;
/** Starts of one kind from which their mean is taken. */
const LEAST_STARTS = 3;
/** Values beyond these quantiles, from either end, count as them. */
const WINSOR = 0.02;
/** Kept until memory is needed: longer than any recording. */
const NO_END_MS = 1e12;
/** The forest of a recording whose head does not describe it: defaults of the configuration. */
const DEFAULT_MODEL: RecordedModel = { ...MODEL_DEFAULTS, seed: 1, updatePauseMs: 250 };
/** Bytes per ms when no transfer was seen: 1 Gbit/s. */
const LINK_BYTES_PER_MS = 125_000;

/** Executions of a recording as calibration learns from them. */
export function samplesOf({ invocations, functions }: History): CalibrationSample[] {
  const samples: CalibrationSample[] = [];
  for (const { functionName, outcome, inputBytes, place, atMs } of invocations) {
    if (outcome?.state !== 'completed' || outcome.startState === 0) continue;
    const { startState, node, fetchedMs, initialisedMs, ranMs, fetchedBytes, outputs, untilDispatchMs } = outcome;
    samples.push({
      function: functionName, application: functions.get(functionName)?.profile?.application ?? '', startState, inputBytes, movedBytes: fetchedBytes, node, fetchedMs, initialisedMs, ranMs, beganAtMs: atMs + Math.max(0, untilDispatchMs),
      ...(outputs.length === 0 ? {} : { outputBytes: outputs.map(({ sizeBytes }) => sizeBytes) }), ...(place === undefined ? {} : { stage: place.stage, fanOut: place.fanOut }),
    });
  }
  return samples;
}

/** Makes the workload. Throws INVALID_REQUEST when the recording has no nodes or no completed invocation. */
export function workloadOf(history: History, head: RecordingHead, folder: string): { work: WhatIfWork; notes: WorkNotes } {
  const samples = samplesOf(history);
  if (history.nodes.length === 0 || samples.length === 0) throw new MetronomeError('INVALID_REQUEST', `The recording in ${folder} has ${history.nodes.length} nodes and ${samples.length} completed invocations; a what-if needs at least one of each.`);
  const fitted = calibrate(samples);
  const profiles = new Map(fitted.functions.map(({ function: name, profile }) => [name, profile]));
  const assumed: string[] = [];
  const names = [...new Set(history.invocations.map(({ functionName }) => functionName))].sort();
  const places = new Map(names.map((name, index) => [name, index]));
  const functions = names.map((name) => {
    const own = samples.filter((sample) => sample.function === name);
    const profile = profiles.get(name) ?? { ...PLAIN_PROFILE, ...(own.length === 0 ? {} : { runMs: medianOf(own.map(({ ranMs }) => ranMs)), runMsPerMib: 0 }) };
    if (!profiles.has(name)) assumed.push(`${name}: costs of a start (${own.length} completed, ${LEAST_SAMPLES} are needed)`);
    const settings = history.functions.get(name);
    if (settings === undefined) throw new MetronomeError('STATE_CORRUPT', `The recording in ${folder} has invocations of "${name}", but not the function.`);
    // Objects come from the recording, not from the profile; what co-running added stands in the recorded times.
    return { settings, profile: { ...withMeanStarts(profile, own), cores: 1, output: { count: 0, share: 0, bytes: 0 } }, isInstalled: own.length > 0 && own.every(({ startState }) => startState !== COLD) };
  });
  if (fitted.link === undefined) assumed.push('links of 1 Gbit/s (too few transfers)');
  const hasZygotes = samples.some(({ startState }) => startState === ZYGOTE);
  const nodes = history.nodes.map((info, index) => nodeOf(info, index, history, places, hasZygotes));
  if (history.nodes.some(({ keeping }) => keeping === undefined)) assumed.push(`idle sandboxes are kept for ${KEEP_ALIVE_MS / 1_000} s (the recorded agents did not say how long)`);
  if (history.nodes.some(({ keeping }) => keeping?.policy === 'greedy-dual')) assumed.push('sandboxes are kept by "lru" instead of "greedy-dual"');
  const isForest = head.predictor === 'forest';
  if (isForest && head.model === undefined) assumed.push('a forest with the defaults of the configuration (the recording does not describe its own)');
  if (isForest && history.beganTrained) assumed.push('what the forest knew before: what it learns from this traffic');
  const { arrivals, requests } = arrivalsOf(history, places, functions.map(({ profile }) => profile.freshFactor ?? 1));
  const followings = followingsOf(requests);
  if (followings !== undefined) assumed.push(`${followings.filter((one) => one !== undefined).length} of ${requests.length} requests came when their caller had the answer to another one, and do so here`);
  const { engine, localityGain, safetyMargin, strict, lookahead, ruleDelay, xfaas, pools, localityThreshold, decideOn, blindTo, candidates, candidateLimit, monitorIntervalMs, staleAfterMs, lostAfterMs, maxLive, maxWaitMs, maxObjects } = head.scheduler;
  return {
    work: {
      nodes, functions, arrivals, requests, policyChanges: history.policyChanges, silences: history.silences.filter(({ fromMs, untilMs }) => untilMs - fromMs < head.scheduler.lostAfterMs), ...(followings === undefined ? {} : { followings }),
      scheduler: {
        engine, policy: history.policy, localityGain, safetyMargin, strict, localityThreshold, monitorIntervalMs, staleAfterMs, lostAfterMs, maxLive, maxWaitMs, maxObjects,
        ...(lookahead === undefined ? {} : { lookahead }), ...(ruleDelay === undefined ? {} : { ruleDelay }), ...(xfaas === undefined ? {} : { xfaas }), ...(pools === undefined ? {} : { pools }),
        ...(decideOn === undefined ? {} : { decideOn }), ...(blindTo === undefined ? {} : { blindTo }), ...(candidates === undefined ? {} : { candidates }), ...(candidateLimit === undefined ? {} : { candidateLimit }),
      },
      ...linkOf(samples, fitted.link), messageMs: messageMsOf(history),
      ...(isForest ? { forest: { ...(head.model ?? DEFAULT_MODEL), beganTrained: history.beganTrained } } : {}),
    },
    notes: { calibrated: fitted.functions.map(({ function: name, samples: count }) => `${name} (${count})`), assumed },
  };
}

/**
 * Costs of starts so that their means come out as they were: fitted are medians with a log-normal noise, and starts on a busy machine have longer tails than
 * that. Each rung of the ladder by itself, where it was seen often enough.
 */
function withMeanStarts(profile: FunctionProfile, own: readonly CalibrationSample[]): FunctionProfile {
  const spread = Math.exp((profile.startNoise ?? profile.noise) ** 2 / 2);
  const meanOf = (states: readonly number[], otherwise: number): number => {
    const seen = own.filter(({ startState }) => states.includes(startState)).map(({ initialisedMs }) => initialisedMs);
    return seen.length < LEAST_STARTS ? otherwise : winsorised(seen, WINSOR).mean / spread;
  };
  const startMs = profile.processMs + profile.importMs;
  // A virtual node has a zygote or none; a real one has often only a bare runtime, or one too few. So a start from a zygote costs what starts with installed packages cost on average, zygotes or not.
  const packages = meanOf([PACKAGES], startMs), zygote = meanOf([PACKAGES, ZYGOTE], profile.zygoteMs), cold = meanOf([COLD], profile.installMs + packages);
  const share = startMs === 0 ? 1 : packages / startMs;
  return { ...profile, processMs: profile.processMs * share, importMs: packages - profile.processMs * share, zygoteMs: Math.min(zygote, packages), installMs: Math.max(0, cold - packages) };
}

/** The link, with its latency so that the mean of all transfers comes out. */
function linkOf(samples: readonly CalibrationSample[], fitted: Calibration['link']): { readonly bytesPerMs: number; readonly latencyMs: number } {
  if (fitted === undefined) return { bytesPerMs: LINK_BYTES_PER_MS, latencyMs: 0.5 };
  const beside = samples.filter(({ movedBytes, fetchedMs }) => movedBytes > 0 && fetchedMs > 0).map(({ movedBytes, fetchedMs }) => fetchedMs - movedBytes / fitted.bytesPerMs);
  return { bytesPerMs: fitted.bytesPerMs, latencyMs: Math.max(0, winsorised(beside, WINSOR).mean) };
}

/** A recorded node. `hasZygotes`: something was started from one. */
function nodeOf({ name, slots, memoryMb, keeping }: NodeInfo, index: number, { atFirst }: History, places: ReadonlyMap<string, number>, hasZygotes: boolean): WorkNode {
  return {
    name, slots, memoryMb,
    keepAliveMs: keeping === undefined ? KEEP_ALIVE_MS : keeping.policy === 'ttl' ? keeping.keepAliveMs : NO_END_MS,
    zygoteMb: hasZygotes ? (keeping?.zygoteMemoryMb ?? memoryMb * ZYGOTE_SHARE) : 0,
    warm: atFirst.warm.flatMap(({ functionName, node, count }) => {
      const place = places.get(functionName);
      return node !== index || place === undefined ? [] : [{ function: place, count }];
    }),
    packageSets: atFirst.packageSets.filter(({ node }) => node === index).map(({ packageSet }) => packageSet),
    zygotes: atFirst.zygotes.filter(({ node }) => node === index).map(({ packageSet }) => packageSet),
  };
}

/** Half of what a run took beside its phases: there and back. The mean, since a loop that is held up now and then counts too. */
function messageMsOf({ invocations }: History): number {
  const overheads: number[] = [];
  for (const { outcome } of invocations) if (outcome?.state === 'completed' && outcome.untilDispatchMs >= 0) overheads.push(outcome.totalMs - outcome.untilDispatchMs - outcome.fetchedMs - outcome.initialisedMs - outcome.ranMs);
  return Math.min(1_000, Math.max(0.01, (overheads.length === 0 ? 0 : winsorised(overheads, WINSOR).mean) / 2));
}

function arrivalsOf({ invocations, nodes }: History, functionPlaces: ReadonlyMap<string, number>, freshFactors: readonly number[]): { arrivals: WorkArrival[]; requests: WorkRequest[] } {
  const nodePlaces = new Map(nodes.map(({ name }, index) => [name, index]));
  const makers = new Map<string, number>();
  invocations.forEach(({ outcome }, index) => {
    for (const { id } of outcome?.outputs ?? []) makers.set(id, index);
  });
  /** Of each run: its request, and the arrivals of each step. */
  const runs = new Map<string, { readonly request: number; readonly steps: Map<string, number[]> }>();
  const requests: { -readonly [K in keyof WorkRequest]: WorkRequest[K] }[] = [];
  /** Runs of each function on each node since its last start there. */
  const runsThere = new Map<string, number>();
  const earlierRuns = (place: number, { node, startState }: RecordedOutcome): number => {
    const before = startState === WARM ? (runsThere.get(`${place} ${node}`) ?? Infinity) : 0;
    runsThere.set(`${place} ${node}`, before + 1);
    return before;
  };
  const arrivals = invocations.map((invocation, index): WorkArrival => {
    const { purpose, outcome, atMs, functionName } = invocation;
    const place = functionPlaces.get(functionName) as number; // all names have one
    let request: number, after: readonly number[] = [];
    if (purpose === undefined) {
      request = requests.length;
      requests.push({ name: functionName, isWorkflow: false, atMs, slaMs: invocation.slaMs, recordedMs: outcome?.state === 'completed' ? outcome.totalMs : Number.NaN });
    } else {
      let run = runs.get(purpose.run);
      if (run === undefined) {
        run = { request: requests.length, steps: new Map() };
        runs.set(purpose.run, run);
        requests.push({ name: purpose.workflow, isWorkflow: true, atMs, slaMs: purpose.runSlaMs, recordedMs: 0 });
      }
      ({ request } = run);
      after = purpose.after.flatMap((step) => run.steps.get(step) ?? []);
      const own = run.steps.get(purpose.step) ?? [];
      own.push(index);
      run.steps.set(purpose.step, own);
      const whole = requests[request] as (typeof requests)[number];
      whole.recordedMs = outcome?.state === 'completed' ? Math.max(whole.recordedMs, atMs + outcome.totalMs - whole.atMs) : Number.NaN;
    }
    // Math.max keeps NaN: a run with a failed step failed.
    const phases = recordedPhases(outcome);
    const endedAtMs = Math.max(...after.map((before) => endOf(invocations[before] as RecordedInvocation)));
    return {
      atMs: purpose === undefined ? atMs : (requests[request] as WorkRequest).atMs, function: place, slaMs: invocation.slaMs, payloadBytes: invocation.payloadBytes, localityKey: invocation.localityKey, policyName: invocation.policyName, expiresAfterMs: invocation.expiresAfterMs,
      inputs: invocation.inputs.map(({ id, sizeBytes, holders }) => ({ id, sizeBytes, nodes: makers.has(id) ? [] : holders.flatMap((name) => nodePlaces.get(name) ?? []) })),
      outputs: (outcome?.outputs ?? []).map(({ id, sizeBytes }) => ({ id, sizeBytes, nodes: [] })),
      runMs: outcome?.state !== 'completed' || outcome.startState === 0 ? Number.NaN : runMsOf(outcome, slownessOf({ freshFactor: freshFactors[place] ?? 1 }, earlierRuns(place, outcome))),
      place: invocation.place ?? ALONE, after, lagMs: after.length === 0 || !Number.isFinite(endedAtMs) ? 0 : Math.max(0, atMs - endedAtMs), request,
      ...(phases === undefined ? {} : { recorded: phases }),
    };
  });
  return { arrivals, requests };
}

/** What it costs wherever it runs: its run as in an old sandbox, and what handing over inputs took that were there already. */
function runMsOf({ ranMs, fetchedMs, fetchedBytes }: RecordedOutcome, slowness: number): number {
  return ranMs / slowness + (fetchedBytes === 0 ? fetchedMs : 0);
}

function endOf({ atMs, outcome }: RecordedInvocation): number {
  return outcome === undefined ? Number.NaN : atMs + outcome.totalMs;
}
