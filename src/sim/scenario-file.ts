/**
 * Scenarios as people write them: YAML or JSON with units, checked, every complaint with file, line and column. `formatExample` is one that explains itself.
 */
import { resolve } from 'node:path';
import { z } from 'zod';
import { boolean, choice, duration, integer, number, rate, show, size, text } from '../config/fields.ts';
import { loadConfig } from '../config/load.ts';
import { schedulerParameters } from '../config/scheduler-parameters.ts';
import { at, pathText, parseYaml, type YamlDocument } from '../config/yaml-source.ts';
import { MetronomeError, suggest, type Violation } from '../core/errors.ts';
import { isPolicyName, POLICY_NAMES } from '../policy/registry.ts';
import { readTrace, TRACE_FORMATS } from '../workload/traces/read-trace.ts';
import { FAULT_KINDS, SHARD_FAULT_KINDS, type FaultRates } from './faults.ts';
import { profileSchema, readProfiles } from './profile-file.ts';
import { PLAIN_PROFILE, type FunctionProfile } from './profiles.ts';
import type { Scenario, ScenarioFunction } from './scenario.ts';

const MIB = 1024 ** 2;
const TIB = 1024 ** 4;
const DAY_MS = 86_400_000;
const MOST_FUNCTIONS = 1_000_000;
const MOST_NODES = 10_000;

const map = <Shape extends z.core.$ZodLooseShape>(shape: Shape, what: string) => z.strictObject(shape, { error: (issue) => `must be a map with ${what}, not ${show(issue.input)}` });

const nodeSchema = map({
  slots: integer({ doc: 'Invocations at once.', default: 8, min: 1, max: 4_096 }),
  cores: number({ doc: 'CPU cores.', default: 8, min: 0, max: 4_096, exclusive: 'min' }),
  memory: size({ doc: 'For sandboxes.', default: '8GiB', min: 16 * MIB, max: 64 * TIB }),
  keepAlive: duration({ doc: 'How long idle sandboxes are kept.', default: '60s', min: 0, max: DAY_MS }),
  zygoteMemory: size({ doc: 'For zygotes; 0: none.', default: '1GiB', min: 0, max: 64 * TIB }),
  objectQuota: size({ doc: 'For objects.', default: '10GiB', min: MIB, max: 1_024 * TIB }),
}, 'slots, cores, memory …');

const functionSchema = map({
  name: text({ doc: 'Name; copies get a number.', pattern: /^[a-z0-9]([a-z0-9-]*[a-z0-9])?$/, form: 'lower-case letters, digits and inner hyphens', maxLength: 63 }),
  copies: integer({ doc: 'Functions with these costs.', default: 1, min: 1, max: MOST_FUNCTIONS }),
  profile: text({ doc: 'Name in the file of profiles.', default: '' }),
  costs: profileSchema.partial().optional(),
  sla: duration({ doc: 'Latency target.', default: '10s', min: 1, max: DAY_MS }),
  memory: size({ doc: 'Of a sandbox.', default: '256MiB', min: MIB, max: TIB }),
  packages: text({ doc: 'Name of its packages; functions with the same share what is installed.', default: '' }),
  input: size({ doc: 'Median input; 0: none.', default: 0, min: 0, max: TIB }),
  inputSpread: number({ doc: 'Standard deviation of the logarithm of input sizes.', default: 0, min: 0, max: 5 }),
  critical: boolean({ doc: 'User-facing.', default: true }),
  idempotent: boolean({ doc: 'May run twice.', default: true }),
}, 'a name');

const arrivalsSchema = map({
  most: number({ doc: 'Calls per second of the most popular function.', default: 10, min: 0, max: 1e6, exclusive: 'min' }),
  least: number({ doc: 'Of the least popular one.', default: 0.1, min: 0, max: 1e6, exclusive: 'min' }),
  trace: text({ doc: 'File of a public trace whose calls come instead, relative to the scenario; .gz is unpacked.', default: '' }),
  format: choice(TRACE_FORMATS, { doc: 'Of that file.', default: 'azure-2019' }),
  from: duration({ doc: 'Where in the trace it begins.', default: 0, min: 0, max: 400 * DAY_MS }),
  share: number({ doc: 'Share of its calls that is taken.', default: 1, min: 0, max: 1, exclusive: 'min' }),
}, 'most and least, or a trace');

const scenarioSchema = map({
  nodes: integer({ doc: 'Nodes.', min: 1, max: MOST_NODES }),
  node: nodeSchema.optional(),
  link: rate({ doc: 'Link of each node, either direction.', default: '1gbit', min: 1_000, max: 1e12 }),
  duration: duration({ doc: 'Arrivals end then.', default: '60s', min: 100, max: 30 * DAY_MS }),
  warmUp: duration({ doc: 'Arrivals before are not counted.', default: '10s', min: 0, max: 30 * DAY_MS }),
  arrivals: arrivalsSchema.optional(),
  profiles: text({ doc: 'File of fitted profiles, relative to the scenario.', default: '' }),
  functions: z.array(functionSchema, { error: (issue) => (issue.input === undefined ? 'is missing; it must be a list of functions' : `must be a list of functions, not ${show(issue.input)}`) }).min(1, { error: 'must have at least one function' }).max(10_000, { error: 'must have at most 10000 entries; use copies' }),
  predictor: choice(['moving-average', 'forest', 'oracle'], { doc: 'Where predictions come from.', default: 'moving-average' }),
  shards: integer({ doc: 'Schedulers that share the functions and lease the slots of all nodes.', default: 1, min: 1, max: 64 }),
  faults: z.record(z.string(), z.unknown()).prefault({}),
  scheduler: z.record(z.string(), z.unknown()).prefault({}),
  policies: z.array(z.string()).prefault(['metronome']),
  seeds: integer({ doc: 'Replicas with other randomness.', default: 3, min: 1, max: 1_000 }),
}, 'nodes and functions');

/** A scenario with what is to be done with it. */
export interface ScenarioFile {
  readonly scenario: Scenario;
  readonly policies: readonly string[];
  readonly seeds: number;
}

/** Parses a scenario; `file` names it in messages, `folder` is where its profiles are looked for; undefined: it may not name a file. CONFIG_INVALID with all that is wrong. */
export async function parseScenario(content: string, file: string, folder: string | undefined): Promise<ScenarioFile> {
  const source = parseYaml(content, file);
  const violations: Violation[] = [...source.violations];
  const [document, ...more] = source.documents.filter(({ hasContent }) => hasContent);
  if (document === undefined || !document.isWhole) {
    if (violations.length === 0) violations.push({ field: file, description: 'has no scenario' });
    throw invalid(file, violations);
  }
  if (more[0] !== undefined) violations.push({ field: at(more[0].place, ''), description: 'is a second document; a file holds one scenario' });
  const parsed = scenarioSchema.safeParse(document.value);
  if (!parsed.success) {
    for (const issue of parsed.error.issues) violations.push(...violationsOf(issue, document));
    throw invalid(file, violations);
  }
  const report = (path: readonly PropertyKey[], description: string): void => void violations.push({ field: at(document.placeOf(path), pathText(path)), description });
  const given = parsed.data;
  const { node = nodeSchema.parse({}), arrivals = arrivalsSchema.parse({}) } = given;
  const faults: Partial<Record<(typeof FAULT_KINDS)[number], number>> = {};
  for (const [name, perMinute] of Object.entries(given.faults)) {
    const kind = FAULT_KINDS.find((each) => each === name);
    if (kind === undefined) report(['faults', name], `is no kind of fault${hint(name, FAULT_KINDS)}`);
    else if (typeof perMinute !== 'number' || !(perMinute >= 0 && perMinute <= 1e5)) report(['faults', name], `must be a number per minute from 0 to 100000, not ${show(perMinute)}`);
    else if (perMinute > 0 && given.shards === 1 && SHARD_FAULT_KINDS.includes(kind)) report(['faults', name], 'happens to shards; set shards to 2 or more');
    else faults[kind] = perMinute;
  }
  given.policies.forEach((name, i) => {
    if (!isPolicyName(name)) report(['policies', i], `"${name}" is no policy${hint(name, POLICY_NAMES)}`);
  });
  if (given.warmUp >= given.duration) report(['warmUp'], `must be shorter than the duration, or nothing is counted`);
  if (arrivals.least > arrivals.most) report(['arrivals', 'least'], `must not be above most (${arrivals.most})`);
  if (given.profiles !== '' && folder === undefined) report(['profiles'], 'names a file, and no files are read here; write the costs into the functions');
  const profiles = given.profiles === '' || folder === undefined ? undefined : await readProfiles(resolve(folder, given.profiles)).catch((error: unknown) => report(['profiles'], MetronomeError.from(error).message));
  const functions = given.functions.flatMap((each, i): ScenarioFunction[] => {
    let base: FunctionProfile = PLAIN_PROFILE;
    if (each.profile !== '') {
      const found = profiles?.functions[each.profile];
      if (found === undefined) report(['functions', i, 'profile'], profiles === undefined ? 'needs a file of profiles (profiles: …)' : `"${each.profile}" is not in ${given.profiles}${hint(each.profile, Object.keys(profiles.functions))}`);
      else base = found;
    }
    // Optional costs that are absent are absent, not undefined.
    const profile = { ...base, ...each.costs } as FunctionProfile;
    return Array.from({ length: each.copies }, (_, copy) => ({
      name: each.copies === 1 ? each.name : `${each.name}-${copy}`, slaMs: each.sla, memoryMb: Math.ceil(each.memory / MIB), critical: each.critical, idempotent: each.idempotent, packageSet: each.packages === '' ? `packages of ${each.name}` : each.packages, profile,
      inputBytes: each.input, inputSigma: each.inputSpread,
    }));
  });
  const names = new Set<string>();
  for (const { name } of functions) {
    if (names.has(name)) report(['functions'], `"${name}" is there twice`);
    names.add(name);
  }
  if (functions.length > MOST_FUNCTIONS) report(['functions'], `are ${functions.length} with all copies; at most ${MOST_FUNCTIONS} are simulated`);
  let scheduler: Scenario['scheduler'] = {};
  try {
    if (Object.keys(given.scheduler).length > 0) {
      // The policy is that of the run.
      const { policy: _policy, ...parameters } = schedulerParameters(loadConfig({ flags: given.scheduler, flagNames: Object.fromEntries(Object.keys(given.scheduler).map((key) => [key, key])), env: {}, cwd: '/' }).config);
      scheduler = parameters;
    }
  } catch (error) {
    const known = MetronomeError.from(error);
    for (const { field, description } of known.extras.violations ?? [{ field: '', description: known.message }]) report(['scheduler', field], description);
  }
  let calls: Scenario['calls'];
  if (arrivals.trace !== '' && folder === undefined) report(['arrivals', 'trace'], 'names a file, and no files are read here');
  else if (arrivals.trace !== '' && violations.length === 0) {
    const { trace, format, from: fromMs, share } = arrivals;
    calls = await readTrace({ path: resolve(folder ?? '', trace), file: trace, format, fromMs, durationMs: given.duration, share, seed: 1 }).catch((error: unknown) => {
      report(['arrivals', 'trace'], MetronomeError.from(error).message);
      return undefined;
    });
  }
  if (violations.length > 0) throw invalid(file, violations);
  return {
    policies: given.policies, seeds: given.seeds,
    scenario: {
      nodes: given.nodes, bytesPerMs: given.link / 8_000, functions, mostPerS: arrivals.most, leastPerS: arrivals.least, ...(calls === undefined ? {} : { calls }), durationMs: given.duration, warmUpMs: given.warmUp, predictor: given.predictor, faults: faults satisfies FaultRates, scheduler, ...(given.shards === 1 ? {} : { shards: given.shards }),
      node: { slots: node.slots, cores: node.cores, memoryMb: Math.floor(node.memory / MIB), keepAliveMs: node.keepAlive, zygoteMb: Math.floor(node.zygoteMemory / MIB), objectQuotaBytes: node.objectQuota },
    },
  };
}

function violationsOf(issue: z.core.$ZodIssue, document: YamlDocument): Violation[] {
  if (issue.code !== 'unrecognized_keys') return [{ field: at(document.placeOf(issue.path), pathText(issue.path)), description: issue.message }];
  const shape: object = issue.path[0] === 'node' ? nodeSchema.shape : issue.path[0] === 'arrivals' ? arrivalsSchema.shape : issue.path[0] === 'functions' ? (issue.path.includes('costs') ? profileSchema.shape : functionSchema.shape) : issue.path.length === 0 ? scenarioSchema.shape : {};
  return issue.keys.map((key) => ({ field: at(document.placeOf([...issue.path, key], 'key'), pathText([...issue.path, key])), description: `is no key here${hint(key, Object.keys(shape))}` }));
}

function hint(given: string, known: readonly string[]): string {
  const near = suggest(given, known);
  return near !== undefined ? `; did you mean "${near}"?` : known.length === 0 ? '' : `; known: ${known.join(', ')}`;
}

function invalid(file: string, violations: readonly Violation[]): MetronomeError {
  return new MetronomeError('CONFIG_INVALID', `The scenario ${file} is not valid: ${violations.map(({ field, description }) => `${field} ${description}`).join('; ')}.`, { violations: [...violations] });
}

/** A scenario that says what may stand in one. */
export const EXAMPLE_SCENARIO = `# A scenario for \`metronome sim run\`. Everything but nodes and functions has a default.
nodes: 10
node: { slots: 8, cores: 8, memory: 8GiB, keepAlive: 60s, zygoteMemory: 1GiB, objectQuota: 10GiB }
link: 1gbit # of each node, either direction
duration: 60s
warmUp: 10s # arrivals before are not counted
arrivals: { most: 20, least: 0.5 } # calls per second of the most and the least popular function; a power law between
# profiles: profiles.json # written by: metronome sim calibrate <recording> --profiles profiles.json
functions:
  - name: thumbnail # small inputs, quick, many owners
    copies: 12
    sla: 2s
    packages: images
    input: 2MiB
    inputSpread: 0.8 # of the logarithm of sizes
    costs: { installMs: 1200, importMs: 250, runMs: 20, runMsPerMib: 30, noise: 0.2 }
  - name: report # moves data
    copies: 4
    sla: 10s
    memory: 512MiB
    input: 40MiB
    inputSpread: 1
    costs: { installMs: 600, importMs: 120, runMs: 50, runMsPerMib: 8, noise: 0.2, output: { count: 1, share: 0.1, bytes: 0 } }
  - name: predict # heavy to start, light to run
    copies: 4
    sla: 1s
    memory: 1GiB
    costs: { installMs: 4000, importMs: 900, runMs: 15, noise: 0.1, freshFactor: 3 }
faults: { kill: 0, slow: 0 } # per minute in the whole cluster; also:
# ${FAULT_KINDS.filter((kind) => kind !== 'kill' && kind !== 'slow').join(', ')}
# shards: 4 # schedulers that share the functions and lease the slots of all nodes; ${SHARD_FAULT_KINDS.join(', ')} happen only to them
predictor: moving-average # or forest (as in the daemon), or oracle (knows what everything costs)
scheduler: { delay.localityGain: 0.85 } # keys of the configuration
policies: [round-robin, metronome, lookahead]
seeds: 5
`;
