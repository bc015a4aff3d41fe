/** Simulations that the page asks for: checked and bounded, one at a time, in a thread of their own that is gone a while after the last one. */
import { Piscina } from 'piscina';
import { z } from 'zod';
import { MetronomeError, suggest, type Violation } from '../core/errors.ts';
import type { RecordingList, ScenarioInfo, SimulationRun } from '../inspect/page-api.ts';
import { POLICY_NAMES } from '../policy/registry.ts';
import { listRecordings, takeRecording, type ShelfOptions } from '../recording/recording-shelf.ts';
import { FAULT_KINDS } from '../sim/faults.ts';
import type { FilmBounds } from '../sim/film.ts';
import { PRESETS } from '../sim/presets.ts';
import type { Scenario } from '../sim/scenario.ts';
import { parseScenario } from '../sim/scenario-file.ts';
import type { FilmsAnswer, FilmsTask } from './films-protocol.ts';

export interface SimulationDesk {
  scenarios(): ScenarioInfo[];
  recordings(): Promise<RecordingList>;
  /** One run per policy, and first the recorded one of a recording. Throws INVALID_REQUEST, POLICY_UNKNOWN, STATE_CORRUPT, QUEUE_FULL, CANCELLED or DEADLINE_EXCEEDED. */
  run(request: unknown, signal: AbortSignal): Promise<readonly SimulationRun[]>;
  /** Ends what runs. */
  stop(): Promise<void>;
}

const FRAMES: FilmBounds = { frames: 400, nodesEach: 64, transitionsEach: 40 };
/** Simulations that run or wait, all pages together. */
const MAX_WAITING = 4;
const MAX_MS = 120_000;
/** Of a scenario file; a request has at most 256 KiB. */
const MAX_FILE_CHARACTERS = 200_000;
/** Expected invocations of one run, or those of a recording. */
const MAX_INVOCATIONS = 200_000;
/** Of a recording on disk. */
const MAX_RECORDING_MIB = 256;

const MAX_NODES = 256;
const MAX_FUNCTIONS = 500;
const MAX_DURATION_MS = 600_000;

const positive = (most: number) => z.number().positive().max(most);
const share = (most: number) => z.number().min(0).max(most);
const profile = z.strictObject({
  installMs: share(600_000), processMs: share(600_000), importMs: share(600_000), zygoteMs: share(600_000), warmMs: share(600_000), runMs: share(600_000), runMsPerMib: share(100_000), noise: share(3), cores: positive(256),
  output: z.strictObject({ count: z.number().int().min(0).max(64), share: share(100), bytes: share(1e12) }),
});
const scenario = z.strictObject({
  nodes: z.number().int().min(1).max(MAX_NODES),
  node: z.strictObject({ slots: z.number().int().min(1).max(256), cores: positive(256), memoryMb: positive(1e6), keepAliveMs: share(86_400_000), zygoteMb: share(1e6), objectQuotaBytes: positive(1e15) }),
  bytesPerMs: positive(1e9),
  functions: z.array(z.strictObject({
    name: z.string().min(1).max(63), slaMs: positive(3_600_000), memoryMb: positive(1e6), critical: z.boolean(), idempotent: z.boolean(), packageSet: z.string().max(200), profile, inputBytes: share(1e12), inputSigma: share(5),
  })).min(1).max(MAX_FUNCTIONS),
  mostPerS: positive(10_000), leastPerS: positive(10_000), durationMs: z.number().min(100).max(MAX_DURATION_MS), warmUpMs: share(600_000),
  faults: z.partialRecord(z.enum(FAULT_KINDS), share(1_000)),
  scheduler: z.strictObject({ localityGain: positive(1).optional(), safetyMargin: share(0.99).optional(), strict: z.boolean().optional(), localityThreshold: positive(1).optional(), monitorIntervalMs: z.number().min(1).max(60_000).optional() }).default({}),
});
const request = z.strictObject({
  scenario: z.union([z.string().max(63), scenario]).optional(), file: z.string().max(MAX_FILE_CHARACTERS).optional(), recording: z.string().max(63).optional(), policies: z.array(z.string().max(63)).max(4), seed: z.number().int().min(0).max(2 ** 31 - 1),
  nodes: z.number().int().min(1).max(MAX_NODES).optional(), slots: z.number().int().min(1).max(256).optional(), durationMs: z.number().min(100).max(MAX_DURATION_MS).optional(), rate: z.number().min(0.01).max(100).optional(),
});

/** `recordings`: where they lie; nothing outside is read. */
export function createSimulationDesk(recordings: ShelfOptions): SimulationDesk {
  let waiting = 0;
  let pool: Piscina<FilmsTask, FilmsAnswer> | undefined;
  return {
    scenarios: () => Object.entries(PRESETS).map(([name, { description, scenario: { nodes, node, durationMs, functions } }]) => ({ name, description, nodes, slots: node.slots, durationMs, functions: functions.map((each) => each.name) })),
    recordings: () => listRecordings(recordings),
    async run(given, signal) {
      const task = await readRequest(given, recordings);
      if (waiting >= MAX_WAITING) throw new MetronomeError('QUEUE_FULL', `${waiting} simulations run or wait already; try again later.`, { component: 'gateway', retryAfterMs: 5_000 });
      waiting++;
      try {
        pool ??= new Piscina({ filename: new URL(`../../workers/films${import.meta.url.endsWith('.ts') ? '.ts' : '.js'}`, import.meta.url).href, minThreads: 0, maxThreads: 1, idleTimeout: 5_000, concurrentTasksPerWorker: 1, recordTiming: false });
        const either = AbortSignal.any([signal, AbortSignal.timeout(MAX_MS)]);
        const answer = await pool.run(task, { signal: either });
        if ('error' in answer) throw MetronomeError.fromRecord({ ...answer.error, component: 'gateway' });
        return answer.runs;
      } catch (error) {
        if (signal.aborted) throw new MetronomeError('CANCELLED', 'The caller went away.', { component: 'gateway' });
        if (error instanceof Error && error.name === 'AbortError') throw new MetronomeError('DEADLINE_EXCEEDED', `The simulation took longer than ${MAX_MS / 1_000} s. ${task.kind === 'recording' ? 'Take fewer policies, or `metronome what-if`, which has no such bound.' : 'Simulate less time, fewer nodes, fewer policies or a lower rate.'}`, { component: 'gateway' });
        throw error;
      } finally {
        waiting--;
      }
    },
    stop: async () => void (await pool?.destroy()),
  };
}

/** The request with its scenario or recording made out, or the error that names every place. */
async function readRequest(given: unknown, recordings: ShelfOptions): Promise<FilmsTask> {
  const parsed = request.safeParse(given);
  if (!parsed.success) throw refused(parsed.error.issues.slice(0, 10).map(({ path, message }) => ({ field: path.join('.') || 'request', description: message })));
  const { policies, seed, nodes, slots, durationMs, rate = 1 } = parsed.data;
  for (const policy of policies) if (!POLICY_NAMES.includes(policy)) throw new MetronomeError('POLICY_UNKNOWN', `Unknown policy ${JSON.stringify(policy)}. Known policies: ${POLICY_NAMES.join(', ')}.`, { component: 'gateway' });
  const { scenario: named, file, recording } = parsed.data;
  if ([named, file, recording].filter((each) => each !== undefined).length !== 1) throw refused([{ field: 'scenario', description: 'must be given, or a file or a recording instead of it' }]);
  if (recording !== undefined) {
    const senseless = Object.entries({ nodes, slots, durationMs, rate: parsed.data.rate }).filter(([, value]) => value !== undefined);
    if (senseless.length > 0) throw refused(senseless.map(([field]) => ({ field, description: 'does not go with a recording' })));
    const { folder, bytes } = await takeRecording(recordings, recording);
    if (bytes > MAX_RECORDING_MIB * 1024 ** 2) throw refused([{ field: 'recording', description: `${recording} has ${Math.round(bytes / 1024 ** 2)} MiB; the page plays at most ${MAX_RECORDING_MIB}. \`metronome what-if\` and \`metronome replay\` take any` }]);
    return { kind: 'recording', folder, policies, seed, mostInvocations: MAX_INVOCATIONS, ...FRAMES };
  }
  if (policies.length === 0) throw refused([{ field: 'policies', description: 'must name at least one' }]);
  const base = file !== undefined ? await readFile(file) : typeof named === 'string' ? preset(named) : (named as Scenario); // its optional parameters are absent or set, never undefined: it came as JSON
  const made: Scenario = {
    ...base, nodes: nodes ?? base.nodes, node: { ...base.node, slots: slots ?? base.node.slots }, durationMs: durationMs ?? base.durationMs, warmUpMs: Math.min(base.warmUpMs, (durationMs ?? base.durationMs) / 2), mostPerS: base.mostPerS * rate, leastPerS: base.leastPerS * rate,
  };
  if (made.leastPerS > made.mostPerS) throw refused([{ field: 'scenario.leastPerS', description: `${made.leastPerS} is more than mostPerS, ${made.mostPerS}` }]);
  const expected = (made.functions.length * made.mostPerS * made.durationMs) / 1_000;
  if (expected > MAX_INVOCATIONS) throw refused([{ field: 'scenario', description: `up to ${Math.round(expected)} invocations, more than ${MAX_INVOCATIONS}: simulate less time or a lower rate` }]);
  return { kind: 'scenario', scenario: made, policies, seed, ...FRAMES };
}

/** A scenario as `metronome sim run` takes it, within the bounds of the page. */
async function readFile(content: string): Promise<Scenario> {
  const { scenario: read } = await parseScenario(content, 'file', undefined);
  const over: Violation[] = [];
  const most = (field: string, value: number, bound: number): void => {
    if (value > bound) over.push({ field, description: `is ${value}; the page simulates at most ${bound}` });
  };
  most('nodes', read.nodes, MAX_NODES);
  most('functions', read.functions.length, MAX_FUNCTIONS);
  most('duration in ms', read.durationMs, MAX_DURATION_MS);
  if (over.length > 0) throw refused(over);
  return read;
}

function preset(name: string): Scenario {
  const found = Object.hasOwn(PRESETS, name) ? PRESETS[name] : undefined;
  if (found !== undefined) return found.scenario;
  const near = suggest(name, Object.keys(PRESETS));
  throw refused([{ field: 'scenario', description: `there is no scenario ${JSON.stringify(name)}${near === undefined ? '' : `; did you mean "${near}"?`} Known: ${Object.keys(PRESETS).join(', ')}` }]);
}

function refused(violations: readonly Violation[]): MetronomeError {
  return new MetronomeError('INVALID_REQUEST', `The simulation cannot run. ${violations.map(({ field, description }) => `${field}: ${description}`).join('; ')}`, { component: 'gateway', violations });
}
