/**
 * Profiles from recordings of real runs: for each function what installing, starting and running cost on an idle node, how that grows with the input, how
 * much it varies, and what it makes. Costs are those of an idle machine: what co-running added is estimated and taken out, since the simulator adds its own.
 * Robust throughout (medians, Huber); with each fit comes how good it is and what could not be learned.
 */
import { WARM, ZYGOTE, PACKAGES } from '../predictor/predictor.ts';
import type { CalibrationSample } from './calibration-samples.ts';
import { hostRate } from './processor.ts';
import { slownessOf, type FunctionProfile, type OutputProfile } from './profiles.ts';
import { fitLine, medianOf, quantileOf, winsorised, type Line } from './robust-fit.ts';

/** How good the fit of a function is. */
export interface FunctionFit {
  readonly function: string;
  readonly application: string;
  readonly profile: FunctionProfile;
  /** Executions, and how many of them began cold, with packages, from a zygote, warm. */
  readonly samples: number;
  readonly byStartState: readonly [cold: number, packages: number, zygote: number, warm: number];
  /** Relative errors of the fitted run times, 0 to 1: median, and 90th percentile. */
  readonly medianError: number;
  readonly p90Error: number;
  /** Share of the variance of the logarithm of run times that the fit explains, below 1; 0 where sizes do not differ. */
  readonly explained: number;
  /** What could not be learned and was assumed. */
  readonly assumed: readonly string[];
  /** For simulations of the recorded inputs themselves; undefined: which they were was not recorded. */
  readonly byContent?: ContentFit;
}

/** A function's costs where the content of the inputs is known, and not only their size. */
export interface ContentFit {
  /** The profile with the noise that is left among runs on the same content. */
  readonly profile: FunctionProfile;
  /** By content: runs take so many times as long as the profile says of their size. */
  readonly factors: Readonly<Record<string, number>>;
}

/** What was learned. */
export interface Calibration {
  readonly functions: readonly FunctionFit[];
  /** How much longer runs took on a busy machine (CPU above 95 %) than on one with room; 1: nothing was seen. */
  readonly busySlowdown: number;
  /** Executions behind it. */
  readonly busySamples: number;
  /** With all cores busy everything takes so much longer, beyond the sharing (Host.contention in processor.ts). Only from recordings with times. */
  readonly contention: number;
  /** What transfers got, bytes per ms, and what they took beside that, ms; undefined: too few. */
  readonly link: { readonly bytesPerMs: number; readonly latencyMs: number; readonly transfers: number } | undefined;
}

/** How to fit. */
export interface CalibrateOptions {
  /** Cores of the machine that all recorded nodes shared, for recordings with times: what ran at once is then known. @default not known */
  readonly hostCores?: number;
  /** Cores of each node, where that is less. @default those of the machine */
  readonly nodeCores?: number;
  /** What the links carry, bytes per ms, where that is known: then only what transfers take beside it is fitted. @default fitted too */
  readonly linkBytesPerMs?: number;
}

/** Executions of a function below which nothing is said about it. */
export const LEAST_SAMPLES = 5;
/** Below this the CPU had room; above, it had none. */
const ROOM_BELOW = 0.75, BUSY_FROM = 0.95;
/** Quantiles 90 % ÷ 10 % of the sizes below which a slope means nothing. */
const LEAST_SPREAD = 3;
const MOST_NOISE = 1.2;
const MOST_FRESH = 8;
const LEAST_FRESH = 3;
const FRESH_ROUNDS = 4;
/** A content's factor begins at 1, as if so many runs on it had taken what its size says. */
const CONTENT_PRIOR = 1;
/** Calls of two stages belong to the same runs when their numbers of runs differ by less. */
const SAME_RUNS = 0.1;
const LEAST_TRANSFER_BYTES = 65_536;
const LEAST_TRANSFERS = 5;
const WINSOR = 0.02;
const PROCESS_MS = 40;
const MIB = 1024 ** 2;
const CONTENTIONS = Array.from({ length: 17 }, (_, i) => i * 0.05);

/** A sample with its times as an idle machine would have had them. */
interface Idle extends Aged {
  /** Observed ÷ idle. */
  readonly slowdown: number;
}

/** A sample of which is known how often its sandbox had run; Infinity: it is not, and counts as often. */
type Aged = CalibrationSample & { readonly earlierRuns: number };

/** Fits all functions that have enough executions, in order of their names. */
export function calibrate(recorded: readonly CalibrationSample[], options: CalibrateOptions = {}): Calibration {
  const samples = withAges(recorded);
  const busy = busySlowdown(samples);
  const { hostCores } = options;
  const isTimed = hostCores !== undefined && samples.length > 0 && samples.every(({ beganAtMs }) => beganAtMs !== undefined);
  const { idle, contention } = isTimed ? fromOverlap(samples, hostCores, options.nodeCores ?? hostCores) : { idle: samples.map((sample): Idle => ({ ...sample, slowdown: slowdownAt(sample.cpuUtilisation, busy.slowdown) })), contention: 0 };
  const groups = groupBy(idle, ({ function: name }) => name);
  const known = [...groups].filter(([, all]) => all.length >= LEAST_SAMPLES).sort(([a], [b]) => (a < b ? -1 : 1)).map(([, all]) => all);
  // What young sandboxes take longer rests on what old ones take, and the other way round: a few rounds settle it.
  let fits = known.map((all) => ({ all, run: fitRuns(all, 1), freshFactor: 1, isOwn: false }));
  for (let round = 0; round < FRESH_ROUNDS; round++) {
    const own = fits.map(({ all, run }) => fitFresh(all, run));
    const others = orElse(medianOf(own.flatMap((factor) => factor ?? [])), 1);
    fits = fits.map(({ all }, i) => {
      const freshFactor = clamp(own[i] ?? others, 1, MOST_FRESH);
      return { all, run: fitRuns(all, freshFactor), freshFactor, isOwn: own[i] !== undefined };
    });
  }
  const outputs = outputsByStage(samples);
  const functions = fits.map(({ all, run, freshFactor, isOwn }): FunctionFit => {
    const first = all[0] as Idle; // a group is never empty
    const assumed = [...run.assumed];
    const start = fitStarts(all, assumed);
    const output = fitOutputs(all) ?? outputs.get(first.function);
    if (!isOwn) assumed.push('first runs in new sandboxes as those of the other functions');
    const profile: FunctionProfile = {
      ...start, runMs: rounded(run.level * run.line.base), runMsPerMib: rounded(run.level * run.line.slope), noise: rounded(run.noise), cores: 1,
      freshFactor: rounded(freshFactor),
      output: output ?? { count: 0, share: 0, bytes: 0 },
    };
    const byContent = fitContents(all, profile);
    return {
      function: first.function, application: first.application, samples: all.length,
      byStartState: [1, PACKAGES, ZYGOTE, WARM].map((state) => all.filter(({ startState }) => startState === state).length) as unknown as FunctionFit['byStartState'], // four states, four counts
      medianError: run.medianError, p90Error: run.p90Error, explained: run.explained, assumed, profile, ...(byContent === undefined ? {} : { byContent }),
    };
  });
  return { functions, busySlowdown: busy.slowdown, busySamples: busy.samples, contention, link: fitLink(samples, options.linkBytesPerMs) };
}

// ── contention ──────────────────────────────────────────────────────────────────────────────────────────────────────

/** Runs of the same function on the same input, warm: how much longer they took when the CPU had no room. */
function busySlowdown(samples: readonly CalibrationSample[]): { slowdown: number; samples: number } {
  const ratios: number[] = [];
  for (const same of groupBy(samples.filter(({ startState }) => startState === WARM), ({ function: name, inputBytes }) => `${name} ${inputBytes}`).values()) {
    const calm = medianOf(same.filter(({ cpuUtilisation }) => cpuUtilisation !== undefined && cpuUtilisation < ROOM_BELOW).map(({ ranMs }) => ranMs));
    if (calm > 0) for (const { cpuUtilisation = 0, ranMs } of same) if (cpuUtilisation >= BUSY_FROM) ratios.push(ranMs / calm);
  }
  return { slowdown: ratios.length < LEAST_SAMPLES ? 1 : Math.max(1, medianOf(ratios)), samples: ratios.length };
}

/** Between room and no room in a straight line. */
function slowdownAt(cpuUtilisation: number | undefined, busy: number): number {
  if (cpuUtilisation === undefined) return 1;
  return 1 + (busy - 1) * clamp((cpuUtilisation - ROOM_BELOW) / (BUSY_FROM - ROOM_BELOW), 0, 1);
}

/** Recordings with times say what ran at once: the contention with which the same work costs the same again and again is the one that was there. */
function fromOverlap(samples: readonly Aged[], hostCores: number, nodeCores: number): { idle: readonly Idle[]; contention: number } {
  const spans = samples.map(({ node = '', beganAtMs = 0, fetchedMs, initialisedMs, ranMs }) => ({ node, from: beganAtMs + fetchedMs, to: beganAtMs + fetchedMs + initialisedMs + ranMs }));
  const points = spans.flatMap(({ node, from, to }) => [{ node, atMs: from, step: 1 }, { node, atMs: to, step: -1 }]).sort((a, b) => a.atMs - b.atMs);
  const nodes = [...new Set(spans.map(({ node }) => node))];
  const times = points.map(({ atMs }) => atMs);
  const slowdowns = (contention: number): number[] => {
    const running = new Map(nodes.map((node) => [node, 0]));
    // For each node: what a job that was always there would have been given until each point.
    const given = new Map(nodes.map((node) => [node, [0]]));
    points.forEach(({ node, step }, i) => {
      if (i > 0) {
        const passedMs = (times[i] as number) - (times[i - 1] as number);
        let busy = 0;
        for (const count of running.values()) busy += Math.min(count, nodeCores);
        const host = hostRate(busy, hostCores, contention);
        for (const [name, upTo] of given) upTo.push((upTo[i - 1] as number) + passedMs * host * Math.min(1, nodeCores / Math.max(1, running.get(name) ?? 0)));
      }
      running.set(node, (running.get(node) ?? 0) + step);
    });
    const workAt = (node: string, atMs: number): number => given.get(node)?.[lowerBound(times, atMs)] ?? 0;
    return spans.map(({ node, from, to }) => (to > from ? (to - from) / Math.max(1e-9, workAt(node, to) - workAt(node, from)) : 1));
  };
  let best = { contention: 0, spread: Infinity, slowdowns: slowdowns(0) };
  for (const contention of CONTENTIONS) {
    const found = slowdowns(contention);
    const spread = spreadOf(samples.map((sample, i) => ({ ...sample, idleMs: sample.ranMs / (found[i] as number) })));
    if (spread < best.spread - 1e-9) best = { contention, spread, slowdowns: found };
  }
  return { contention: best.contention, idle: samples.map((sample, i): Idle => ({ ...sample, slowdown: best.slowdowns[i] as number })) };
}

/** Mean distance of the logarithm of warm runs from the middle of those on the same input. */
function spreadOf(samples: readonly (CalibrationSample & { readonly idleMs: number })[]): number {
  const distances: number[] = [];
  for (const same of groupBy(samples.filter(({ startState }) => startState === WARM), ({ function: name, inputBytes }) => `${name} ${inputBytes}`).values()) {
    if (same.length < LEAST_SAMPLES) continue;
    const middle = medianOf(same.map(({ idleMs }) => idleMs));
    if (middle > 0) for (const { idleMs } of same) distances.push(Math.abs(Math.log(Math.max(1e-3, idleMs) / middle)));
  }
  return distances.length === 0 ? Infinity : meanOf(distances);
}

function lowerBound(sorted: readonly number[], value: number): number {
  let low = 0, high = sorted.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((sorted[middle] as number) < value) low = middle + 1;
    else high = middle;
  }
  return low;
}

// ── one function ────────────────────────────────────────────────────────────────────────────────────────────────────

interface RunFit {
  readonly line: Line;
  /** What the line is multiplied with, so that means come out right and not only medians. */
  readonly level: number;
  readonly noise: number;
  readonly medianError: number;
  readonly p90Error: number;
  readonly explained: number;
  readonly assumed: readonly string[];
}

function fitRuns(all: readonly Idle[], freshFactor: number): RunFit {
  const warm = all.filter(({ startState }) => startState === WARM);
  const assumed: string[] = [];
  const used = warm.length >= LEAST_SAMPLES ? warm : all;
  if (used !== warm) assumed.push('warm runs as all runs');
  const mib = used.map(({ inputBytes }) => inputBytes / MIB), ran = used.map(({ ranMs, slowdown, earlierRuns }) => Math.max(1e-3, ranMs / slowdown / slownessOf({ freshFactor }, earlierRuns)));
  // Each input counts once, however often it was used: recordings repeat some of them.
  const points = [...groupBy(mib.map((x, i) => ({ x, y: ran[i] as number })), ({ x }) => String(x)).values()].map((same) => ({ x: (same[0] as { x: number }).x, y: medianOf(same.map(({ y }) => y)) }));
  const xs = points.map(({ x }) => x), ys = points.map(({ y }) => y);
  const low = quantileOf(xs, 0.1), high = quantileOf(xs, 0.9);
  let line = fitLine(xs, ys);
  if (low > 0 && high / low < LEAST_SPREAD) {
    line = { base: 0, slope: medianOf(points.map(({ x, y }) => y / x)) };
    assumed.push('cost in proportion to the input: its sizes hardly differ');
  }
  const logs = ran.map((ms, i) => Math.log(ms / Math.max(1e-3, line.base + line.slope * (mib[i] as number))));
  const noise = Math.min(MOST_NOISE, winsorised(logs, WINSOR).deviation);
  const level = levelOf(all, line, freshFactor) / Math.exp(noise ** 2 / 2);
  const errors = logs.map((log) => Math.abs(Math.expm1(log - Math.log(level))));
  const total = winsorised(ran.map(Math.log), WINSOR).deviation ** 2;
  return { line, level, noise, medianError: medianOf(errors), p90Error: quantileOf(errors, 0.9), explained: total === 0 ? 0 : Math.max(0, 1 - noise ** 2 / total), assumed };
}

/** What the line with the slowness of young sandboxes is multiplied with, so that all runs together come out as long as they were, a few that were far too long cut off. */
function levelOf(all: readonly Idle[], { base, slope }: Line, freshFactor: number): number {
  const runs = all.map(({ ranMs, slowdown, inputBytes, earlierRuns }) => {
    const fittedMs = slownessOf({ freshFactor }, earlierRuns) * Math.max(1e-3, base + (slope * inputBytes) / MIB);
    return { fittedMs, ratio: ranMs / slowdown / fittedMs };
  });
  const ratios = runs.map(({ ratio }) => ratio);
  const low = quantileOf(ratios, WINSOR), high = quantileOf(ratios, 1 - WINSOR);
  const sum = (value: (run: (typeof runs)[number]) => number): number => runs.reduce((total, run) => total + value(run), 0);
  return sum(({ fittedMs, ratio }) => fittedMs * clamp(ratio, low, high)) / sum(({ fittedMs }) => fittedMs);
}

/** How much longer first runs took than those in old sandboxes: the line over 1 ÷ (1 + runs), as slownessOf has it. Undefined: too few first runs were seen. */
function fitFresh(all: readonly Idle[], { line, level }: RunFit): number | undefined {
  if (all.filter(({ earlierRuns }) => earlierRuns === 0).length < LEAST_FRESH) return undefined;
  const { base, slope } = fitLine(all.map(({ earlierRuns }) => 1 / (1 + earlierRuns)), all.map(({ ranMs, slowdown, inputBytes }) => ranMs / slowdown / Math.max(1e-3, level * (line.base + (line.slope * inputBytes) / MIB))));
  return base > 0 ? 1 + slope / base : MOST_FRESH;
}

/** What is in inputs beside their size: the mean of the runs on each one against what the profile says, a few that were far off cut off; rarely used inputs count as ordinary ones. */
function fitContents(all: readonly Idle[], profile: FunctionProfile): ContentFit | undefined {
  const runs = all.flatMap((sample) => {
    const { content, ranMs, slowdown, inputBytes, earlierRuns } = sample;
    if (content === undefined) return [];
    const expectedMs = Math.max(1e-3, (profile.runMs + (profile.runMsPerMib * inputBytes) / MIB) * Math.exp(profile.noise ** 2 / 2) * slownessOf(profile, earlierRuns));
    return [{ content, expectedMs, ratio: Math.max(1e-3, ranMs / slowdown / expectedMs) }];
  });
  if (runs.length < LEAST_SAMPLES) return undefined;
  const ratios = runs.map(({ ratio }) => ratio);
  const low = quantileOf(ratios, WINSOR), high = quantileOf(ratios, 1 - WINSOR);
  const factors: Record<string, number> = {};
  for (const [content, same] of groupBy(runs, (run) => run.content)) {
    const expectedMs = same.reduce((sum, run) => sum + run.expectedMs, 0), ranMs = same.reduce((sum, run) => sum + run.expectedMs * clamp(run.ratio, low, high), 0);
    const priorMs = (CONTENT_PRIOR * expectedMs) / same.length;
    factors[content] = rounded((ranMs + priorMs) / (expectedMs + priorMs));
  }
  const noise = Math.min(profile.noise, winsorised(runs.map(({ content, ratio }) => Math.log(ratio / (factors[content] ?? 1))), WINSOR).deviation);
  // Less noise makes means less greater than medians; the mean stays.
  const level = Math.exp((profile.noise ** 2 - noise ** 2) / 2);
  return { profile: { ...profile, runMs: rounded(profile.runMs * level), runMsPerMib: rounded(profile.runMsPerMib * level), noise: rounded(noise) }, factors };
}

/** Counts the runs of each sandbox where that was not recorded: with one sandbox of a function on a node, those since the last start. */
function withAges(samples: readonly CalibrationSample[]): Aged[] {
  const runs = new Map<string, number>();
  return samples.map((sample) => {
    const { function: name, node, startState, earlierRuns } = sample;
    if (startState !== WARM) {
      if (node !== undefined) runs.set(`${name} ${node}`, 1);
      return { ...sample, earlierRuns: 0 };
    }
    if (earlierRuns !== undefined) return { ...sample, earlierRuns };
    const before = node === undefined ? undefined : runs.get(`${name} ${node}`);
    if (before !== undefined) runs.set(`${name} ${node}`, before + 1);
    return { ...sample, earlierRuns: before ?? Infinity };
  });
}

function fitStarts(all: readonly Idle[], assumed: string[]): Pick<FunctionProfile, 'installMs' | 'processMs' | 'importMs' | 'zygoteMs' | 'warmMs' | 'startNoise'> {
  const of = (state: number): readonly Idle[] => all.filter(({ startState }) => startState === state);
  const median = (samples: readonly Idle[], value: (sample: Idle) => number | undefined): number => medianOf(samples.map((sample) => (value(sample) ?? Number.NaN) / sample.slowdown).filter((ms) => !Number.isNaN(ms)));
  const cold = median(of(1), ({ initialisedMs }) => initialisedMs), packages = median(of(PACKAGES), ({ initialisedMs }) => initialisedMs), zygote = median(of(ZYGOTE), ({ initialisedMs }) => initialisedMs);
  // A start with packages is at least what the quickest cold one took without its installation; a cold one is never quicker.
  const quickest = quantileOf(of(1).map(({ initialisedMs, slowdown }) => initialisedMs / slowdown), 0);
  const startMs = orElse(packages, orElse(Math.min(quickest, 2 * PROCESS_MS), 2 * PROCESS_MS));
  if (Number.isNaN(packages)) assumed.push('start with packages');
  if (Number.isNaN(cold)) assumed.push('installation: none was seen');
  if (Number.isNaN(zygote)) assumed.push('start from a zygote');
  const processMs = Math.min(startMs, orElse(median([...of(1), ...of(PACKAGES)], ({ startedMs }) => startedMs), PROCESS_MS));
  const starts = [1, PACKAGES, ZYGOTE].flatMap((state) => {
    const middle = median(of(state), ({ initialisedMs }) => initialisedMs);
    return of(state).map(({ initialisedMs, slowdown }) => Math.log(Math.max(1e-3, initialisedMs / slowdown) / Math.max(1e-3, middle)));
  });
  // What a warm start takes: the hand-over, and the inputs that are there already.
  const here = of(WARM).filter(({ movedBytes }) => movedBytes === 0);
  return {
    installMs: rounded(Math.max(0, orElse(cold, startMs) - startMs)), processMs: rounded(processMs), importMs: rounded(startMs - processMs), zygoteMs: rounded(Math.min(orElse(zygote, processMs / 4), startMs)),
    warmMs: rounded(orElse(median(here, ({ fetchedMs, initialisedMs }) => fetchedMs + initialisedMs), 0.5)),
    startNoise: rounded(starts.length < LEAST_SAMPLES ? 0.2 : Math.min(MOST_NOISE, winsorised(starts, WINSOR).deviation)),
  };
}

// ── outputs ─────────────────────────────────────────────────────────────────────────────────────────────────────────

/** From what it was seen to make. */
function fitOutputs(all: readonly CalibrationSample[]): OutputProfile | undefined {
  const seen = all.flatMap(({ outputBytes, inputBytes }) => (outputBytes === undefined ? [] : [{ count: outputBytes.length, bytes: outputBytes.reduce((sum, bytes) => sum + bytes, 0), inputBytes }]));
  if (seen.length < LEAST_SAMPLES) return undefined;
  const count = Math.round(medianOf(seen.map((each) => each.count)));
  if (count === 0) return { count: 0, share: 0, bytes: 0 };
  const line = fitLine(seen.map(({ inputBytes }) => inputBytes), seen.map(({ bytes }) => Math.max(1, bytes)));
  return { count, share: rounded(line.slope), bytes: Math.round(line.base) };
}

/** From what the next stage of the same application read: number and share of what the stage before made. The last stage makes nothing that is read. */
function outputsByStage(samples: readonly CalibrationSample[]): Map<string, OutputProfile> {
  const found = new Map<string, OutputProfile>();
  for (const all of groupBy(samples.filter(({ application }) => application !== ''), ({ application }) => application).values()) {
    const stages = new Map<number, { readonly functions: Set<string>; readonly calls: CalibrationSample[] }>();
    const stageOf = new Map<string, number>();
    for (const { function: name, stage } of all) if (stage !== undefined) stageOf.set(name, stage);
    for (const sample of all) {
      const known = stageOf.get(sample.function) ?? 0;
      // Calls of later stages count only as part of a workflow; those alone repeat what a workflow did.
      if (known > 0 && sample.stage === undefined) continue;
      const stage = stages.get(known) ?? { functions: new Set(), calls: [] };
      stages.set(known, stage);
      stage.functions.add(sample.function);
      stage.calls.push(sample);
    }
    for (const [place, { functions, calls }] of stages) {
      const next = stages.get(place + 1);
      if (next === undefined || functions.size > 1) continue;
      const [name = ''] = functions;
      // First stages were perhaps called alone too, some inputs more often than others: then each input counts once, as in a workflow that was run once with each.
      const isSameRuns = Math.abs(runsOf(calls) / runsOf(next.calls) - 1) < SAME_RUNS;
      const made = bytesPerRun(next.calls), read = place > 0 || isSameRuns ? bytesPerRun(calls) : meanOf([...new Set(calls.map(({ inputBytes }) => inputBytes))]);
      if (!(read > 0) || !(made > 0)) continue;
      found.set(name, { count: Math.max(1, Math.round(medianOf(next.calls.map(({ fanOut = 1 }) => fanOut)))), share: rounded(made / read), bytes: 0 });
    }
  }
  return found;
}

/** Input bytes of all calls of a stage in one run. */
function bytesPerRun(calls: readonly CalibrationSample[]): number {
  const runs = runsOf(calls);
  return runs === 0 ? 0 : calls.reduce((sum, { inputBytes }) => sum + inputBytes, 0) / runs;
}

/** Runs that the calls of a stage belong to. */
function runsOf(calls: readonly CalibrationSample[]): number {
  return calls.reduce((sum, { fanOut = 1 }) => sum + 1 / fanOut, 0);
}

function fitLink(samples: readonly CalibrationSample[], known: number | undefined): Calibration['link'] {
  const transfers = samples.filter(({ movedBytes, fetchedMs }) => movedBytes >= LEAST_TRANSFER_BYTES && fetchedMs > 0);
  if (transfers.length < LEAST_TRANSFERS) return undefined;
  if (known !== undefined) return { bytesPerMs: known, latencyMs: rounded(Math.max(0, medianOf(transfers.map(({ movedBytes, fetchedMs }) => fetchedMs - movedBytes / known)))), transfers: transfers.length };
  const { base, slope } = fitLine(transfers.map(({ movedBytes }) => movedBytes), transfers.map(({ fetchedMs }) => fetchedMs));
  const bytesPerMs = slope > 0 ? 1 / slope : medianOf(transfers.map(({ movedBytes, fetchedMs }) => movedBytes / fetchedMs));
  return { bytesPerMs: Math.round(bytesPerMs), latencyMs: rounded(slope > 0 ? base : 0), transfers: transfers.length };
}

// ── small things ────────────────────────────────────────────────────────────────────────────────────────────────────

function groupBy<T>(items: readonly T[], keyOf: (item: T) => string): Map<string, T[]> {
  const groups = new Map<string, T[]>();
  for (const item of items) {
    const key = keyOf(item);
    const group = groups.get(key);
    if (group === undefined) groups.set(key, [item]);
    else group.push(item);
  }
  return groups;
}

const clamp = (value: number, least: number, most: number): number => Math.min(most, Math.max(least, value));
const orElse = (value: number, other: number): number => (Number.isFinite(value) ? value : other);
const meanOf = (values: readonly number[]): number => (values.length === 0 ? 0 : values.reduce((sum, value) => sum + value, 0) / values.length);
const rounded = (value: number): number => Number(value.toPrecision(4));
