/**
 * The configuration: the one truth about every key, its default, unit, bounds and meaning.
 * File, environment and flags are checked against it (load.ts); JSON Schema and the reference page come from it.
 * Durations, sizes and rates are written "150ms", "1GiB" and "250mbit"; in the resolved Config their names end in Ms, Bytes and BitsPerS.
 */
import { availableParallelism, hostname, totalmem } from 'node:os';
import { z } from 'zod';
import { LOOKAHEAD_RISKS, LOOKAHEAD_WAITS } from '../policy/policy.ts';
import { ON_FULL } from '../recording/segment-protocol.ts';
import { BLIND_TO, DECIDE_ON } from '../scheduler/experiments.ts';
import { boolean, choice, duration, integer, number, rate, size, text, type Field, type FieldInfo, type FieldKind } from './fields.ts';
import { NAME_FORM, NAME_PATTERN } from './bounds.ts';

const KIB = 1024;
const MIB = 1024 ** 2;
const GIB = 1024 ** 3;
const HOUR_MS = 3_600_000;
const DAY_MS = 86_400_000;

const LABELS_PATTERN = /^(?:[a-z][a-z0-9-]{0,31}=[^,=]{1,120}(?:,[a-z][a-z0-9-]{0,31}=[^,=]{1,120})*)?$/;
const SHADOW_PATTERN = /^(?:[a-z][a-z0-9-]*)?$/;
const NAMES_PATTERN = /^(?:[a-z0-9][a-z0-9-]*(?:,[a-z0-9][a-z0-9-]*)*)?$/;
const ORIGINS_PATTERN = /^(?:https?:\/\/[a-z0-9.[\]:-]+(?:,https?:\/\/[a-z0-9.[\]:-]+)*)?$/;
const HOSTS_PATTERN = /^(?:[A-Za-z0-9.-]+(?:,[A-Za-z0-9.-]+)*)?$/;
const host = { doc: 'Address to listen on.', default: '127.0.0.1', maxLength: 255, pattern: /^[A-Za-z0-9._:[\]%-]+$/, form: 'a host name or address' } as const;
const port = (doc: string, value: number) => integer({ doc: `${doc} 0 picks a free one.`, default: value, min: 0, max: 65_535 });

/** Every key by section, as people write it. */
export const sections = {
  scheduler: {
    host: text(host),
    grpcPort: port('Port of the gRPC services.', 7070),
    httpPort: port('Port of the HTTP door, metrics and health.', 7071),
    dataDir: text({ doc: 'Folder of the registry and the accepted asynchronous invocations; made if it is not there.', default: '.metronome/scheduler', pattern: /\S/, form: 'a path' }),
    policy: text({ doc: 'Scheduling policy for functions that name none; can be switched at run time.', default: 'metronome', maxLength: 63, pattern: NAME_PATTERN, form: 'the name of a policy' }),
    shadowPolicy: text({ doc: 'A second policy that decides too and dispatches nothing, for comparison; empty: none. Can be switched at run time.', default: '', maxLength: 63, pattern: SHADOW_PATTERN, form: 'the name of a policy, or empty' }),
    engine: choice(['table', 'xstate'], { doc: 'How invocation machines run: "table" hosts the compiled machine, "xstate" interprets it (slower, for comparison).', default: 'table' }),
    predictor: choice(['forest', 'moving-average'], { doc: 'Where predictions come from: "forest" learns from every run (section model), "moving-average" knows function, start state and size only.', default: 'forest' }),
    candidates: choice(['auto', 'all', 'indexed'], { doc: 'Which nodes a decision looks at: all, those that indexes name, or all of small clusters (auto).', default: 'auto' }),
    candidateLimit: integer({ doc: 'Most nodes that the indexes name for one decision.', default: 64, min: 16, max: 1_024 }),
    gateway: choice(['thread', 'process'], { doc: 'Where the front doors live: in a thread of the scheduler or in a process of their own.', default: 'thread' }),
    logLevel: choice(['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'], { doc: 'Least level that is logged.', default: 'info' }),
    drainGrace: duration({ doc: 'How long a shutdown waits for what is in flight before it is cut off.', default: '30s', min: 0, max: HOUR_MS }),
    reflection: boolean({ doc: 'Whether gRPC reflection is offered.', default: true }),
    origins: text({ doc: 'Origins of web pages that may use the HTTP door from a browser; separated by commas. Programs need not be named.', default: '', maxLength: 4_096, pattern: ORIGINS_PATTERN, form: 'origins such as https://app.example, in small letters, separated by commas' }),
  },
  delay: {
    localityGain: number({ doc: 'Alpha: wait for a local node only if its prediction is below this share of the fallback\'s.', default: 0.85, min: 0, max: 1, exclusive: 'both' }),
    safetyMargin: number({ doc: 'Beta: share of the latency target that is kept in reserve.', default: 0.1, min: 0, max: 1, exclusive: 'max' }),
    monitorInterval: duration({ doc: 'I: how often a delaying invocation is predicted again.', default: '100ms', min: 1, max: 60_000 }),
    waitPerGain: number({ doc: 'How long a wait for a local node may be expected to take, times the execution time that it saves beyond what delay.localityGain asks for (at busy times more, since a slot is saved too). Great values: the slack alone bounds waits.', default: 0.75, min: 0, max: 1_000_000 }),
    strict: boolean({ doc: 'Follow the printed algorithm to the letter, without our repairs.', default: false }),
    localityThreshold: number({ doc: 'Locality degree from which a node counts as local.', default: 0.1, min: 0, max: 1, exclusive: 'min' }),
    decideOn: choice(DECIDE_ON, { doc: 'Experiment: "polls" decides again on what waits only every delay.monitorInterval, as the algorithm is printed; "events" as soon as something happens.', default: 'events' }),
    blindTo: choice(BLIND_TO, { doc: 'Experiment: a kind of locality that decisions and predictions do not see, "data" or "infrastructure".', default: 'nothing' }),
  },
  policies: {
    lookaheadHysteresis: number({ doc: 'Gamma of lookahead: a wait must end before this share of what can be had at once, a revision must win by as much, and nodes that differ by less are near-ties.', default: 0.8, min: 0, max: 1, exclusive: 'min' }),
    lookaheadPrice: number({ doc: 'Kappa of lookahead: what a millisecond beyond the least execution time of any node costs others, times waiters per slot plus load; 0: each invocation looks at itself alone.', default: 1, min: 0, max: 100 }),
    lookaheadRent: number({ doc: 'Rho of lookahead: share of what invocations of a function have waited since it last made a sandbox that is credited to making another one, where memory allows; 0: a start is worth what it is worth to itself.', default: 1, min: 0, max: 100 }),
    lookaheadWait: choice(LOOKAHEAD_WAITS, { doc: 'Experiment: the wait that lookahead counts with: "predicted", always "none", or one "constant" (the mean service time).', default: 'predicted' }),
    lookaheadRisk: choice(LOOKAHEAD_RISKS, { doc: 'Experiment: what lookahead bounds the risk of waiting by: the upper "quantile" of predictions, or their "mean" as if they were exact.', default: 'quantile' }),
    ruleDelayWait: duration({ doc: 'W of rule-delay: how long to wait for a node with the data; 0: computed from nodes, slots and the mean service time.', default: 0, min: 0, max: HOUR_MS }),
    ruleDelayLocality: number({ doc: 'Lambda of rule-delay: share of executions on a node with the data that the computed wait aims at.', default: 0.95, min: 0, max: 1, exclusive: 'both' }),
    xfaasPrefetch: boolean({ doc: 'Whether xfaas keeps a sandbox of every function ready on each worker of its group.', default: false }),
    poolWindow: duration({ doc: 'Length of the windows of aquatope and icebreaker: they forecast the sandboxes that the next one needs.', default: '60s', min: 1_000, max: HOUR_MS }),
    aquatopeMargin: number({ doc: 'z of aquatope: standard deviations kept beyond the forecast mean; 0 is what its published loop does.', default: 1, min: 0, max: 10 }),
  },
  model: {
    trainer: choice(['extra-trees', 'ml-random-forest'], { doc: 'Who grows the trees.', default: 'extra-trees' }),
    trees: integer({ doc: 'Trees of the forest.', default: 100, min: 1, max: 500 }),
    window: integer({ doc: 'Observations that the model keeps, shared out among the functions.', default: 4_000, min: 100, max: 20_000 }),
    bootstrapAfter: integer({ doc: 'Observations before the first forest is made; until then moving averages answer.', default: 200, min: 10, max: 20_000 }),
    updateEvery: integer({ doc: 'New observations after which the oldest trees are replaced.', default: 20, min: 1, max: 20_000 }),
    updatePause: duration({ doc: 'Least time between two updates; one for a sudden change does not wait.', default: '250ms', min: 0, max: 60_000 }),
    replace: integer({ doc: 'Trees that an update replaces.', default: 5, min: 1, max: 500 }),
    forgetting: number({ doc: 'Weight that an observation keeps per later one of its function.', default: 0.995, min: 0.9, max: 1 }),
    threads: integer({ doc: 'Inference threads.', default: 1, min: 1, max: 8 }),
    lateAfter: duration({ doc: 'How long an arrival waits for its prediction; then moving averages answer.', default: '2ms', min: 1, max: 1_000 }),
    snapshotEvery: duration({ doc: 'How often the model is written to scheduler.dataDir when it learned something; 0: only at the end.', default: '60s', min: 0, max: DAY_MS }),
    observationLog: text({ doc: 'Folder in which every observation is recorded, for `metronome model evaluate`; empty: none is.', default: '' }),
    observationLogFile: size({ doc: 'Size from which a new file of the recording is begun.', default: '64MiB', min: MIB, max: GIB }),
    observationLogFiles: integer({ doc: 'Files of the recording that are kept.', default: 8, min: 1, max: 1_000 }),
  },
  limits: {
    maxLive: integer({ doc: 'Invocations that may be alive at once; more are refused with QUEUE_FULL.', default: 20_000, min: 1, max: 1_000_000 }),
    maxPayloadBytes: size({ doc: 'Largest payload of a request.', default: '1MiB', min: KIB, max: 64 * MIB }),
    maxResultBytes: size({ doc: 'Largest result of a function.', default: '1MiB', min: KIB, max: 64 * MIB }),
    maxNodes: integer({ doc: 'Nodes that may register.', default: 1_024, min: 1, max: 100_000 }),
    maxFunctions: integer({ doc: 'Functions and workflows that may be deployed.', default: 10_000, min: 1, max: 1_000_000 }),
    maxInputs: integer({ doc: 'Input objects of one invocation.', default: 1_024, min: 1, max: 65_536 }),
    rememberInvocations: integer({ doc: 'Ended invocations that are remembered for get, list and explain.', default: 10_000, min: 0, max: 1_000_000 }),
    rememberDecisions: integer({ doc: 'Decision records that are remembered.', default: 16_384, min: 0, max: 1_048_576 }),
    maxInFlight: integer({ doc: 'Requests that one gateway may have in flight.', default: 20_000, min: 1, max: 1_000_000 }),
    maxWait: duration({ doc: 'Longest time an invocation waits for room; then it fails with QUEUE_FULL or NO_NODES.', default: '10m', min: 1_000, max: DAY_MS }),
    maxWorkflowRuns: integer({ doc: 'Workflow runs that may be alive at once.', default: 2_000, min: 1, max: 100_000 }),
  },
  inspect: {
    sampleEvery: integer({ doc: 'One in so many invocations is kept in full detail, beside those that somebody asked about while they lived; 0: none.', default: 100, min: 0, max: 1_000_000_000 }),
    functions: text({ doc: 'Functions of which every invocation is kept in full detail, separated by commas.', default: '', maxLength: 4_096, pattern: NAMES_PATTERN, form: 'names, separated by commas' }),
    keep: integer({ doc: 'Invocations of which full detail is kept; the oldest is forgotten.', default: 1_024, min: 0, max: 100_000 }),
    clients: integer({ doc: 'Readers of the live stream (pages, `metronome top`) at once; further ones get QUEUE_FULL.', default: 16, min: 1, max: 1_000 }),
    hosts: text({ doc: 'Host names under which the page, and a door on loopback, may be asked for, beside addresses, localhost and scheduler.host; separated by commas.', default: '', maxLength: 1_024, pattern: HOSTS_PATTERN, form: 'host names, separated by commas' }),
  },
  recording: {
    dir: text({ doc: 'Folder in which all that the scheduler saw and decided is recorded, for `metronome replay` and `metronome what-if`; empty: nothing is.', default: '' }),
    segment: size({ doc: 'Size from which a new segment of a recording is begun.', default: '16MiB', min: MIB, max: GIB }),
    maxBytes: size({ doc: 'Size that a recording may reach; what happens then, recording.onFull says.', default: '1GiB', min: MIB, max: 1024 * GIB }),
    onFull: choice(ON_FULL, { doc: 'At recording.maxBytes: "stop" ends the recording, the daemon goes on without, and `metronome replay` can make every decision again; "rotate" removes the oldest segments, so that the last hours are there for what-if, export and calibration, but nothing can be replayed once the first segment is gone.', default: 'stop' }),
    keep: integer({ doc: 'Recordings that are kept in the folder, the present one included; the oldest go when one begins.', default: 5, min: 1, max: 10_000 }),
  },
  nodes: {
    pushInterval: duration({ doc: 'How often agents push their state when nothing happens.', default: '50ms', min: 5, max: 10_000 }),
    staleAfter: duration({ doc: 'Silence after which a node gets no new work.', default: '150ms', min: 10, max: 60_000 }),
    lostAfter: duration({ doc: 'Silence after which a node is lost and its work is retried where that is allowed.', default: '3s', min: 50, max: 10 * 60_000 }),
  },
  agent: {
    name: text({ doc: 'Name of this node; unique in the cluster.', default: nodeName, defaultText: 'the host name', maxLength: 63, pattern: NAME_PATTERN, form: NAME_FORM }),
    host: text({ ...host, doc: 'Address to listen on and to be reached at.' }),
    grpcPort: port('Port of the agent\'s gRPC service.', 0),
    dataPort: port('Port from which other agents read objects.', 0),
    scheduler: text({ doc: 'Address of the scheduler\'s gRPC services.', default: '127.0.0.1:7070', maxLength: 300, pattern: /^\S+:\d{1,5}$/, form: 'host:port' }),
    slots: integer({ doc: 'Invocations that run at once on this node.', default: () => Math.max(1, availableParallelism()), defaultText: 'number of CPUs', min: 1, max: 4_096 }),
    memory: size({ doc: 'Memory that all sandboxes together may use.', default: () => machineShareBytes(), defaultText: 'three quarters of the machine\'s memory', min: 64 * MIB, max: 16 * 1024 * GIB }),
    dataDir: text({ doc: 'Folder of bundles, sandboxes and objects; made if it is not there.', default: '.metronome/agent', pattern: /\S/, form: 'a path' }),
    keepAlivePolicy: choice(['ttl', 'lru', 'greedy-dual'], { doc: 'How long idle sandboxes are kept: "ttl" for agent.keepAlive after their last use, "lru" and "greedy-dual" until memory is needed. Then the least recently used goes first; with "greedy-dual" the one with the least use and initialisation time saved for its memory.', default: 'ttl' }),
    keepAlive: duration({ doc: 'How long an idle sandbox is kept by the policy "ttl".', default: '60s', min: 0, max: DAY_MS }),
    zygotes: choice(['auto', 'off'], { doc: 'Whether the node keeps zygotes: processes that have imported the packages of functions and become, or fork, their sandboxes. "auto" keeps those that save the most initialisation for their memory.', default: 'auto' }),
    zygoteMemory: number({ doc: 'Share of agent.memory that zygotes may take.', default: 0.25, min: 0, max: 1 }),
    zygoteStock: integer({ doc: 'Zygotes of one package set that are kept ready where each serves once (Node).', default: 1, min: 1, max: 64 }),
    objectQuota: size({ doc: 'Disk space for objects; the least recently used are dropped first.', default: '10GiB', min: MIB, max: 1024 * 1024 * GIB }),
    objectTtl: duration({ doc: 'An object that was not used for so long is dropped; 0 keeps it until the quota needs its room.', default: '0ms', min: 0, max: 365 * DAY_MS }),
    linkBytesPerS: integer({ doc: 'The data plane imitates a link of so many bytes per second in each direction, for experiments; 0: it does not.', default: 0, min: 0, max: 125_000_000_000, unit: 'bytes/s' }),
    linkLatency: duration({ doc: 'The data plane adds so much to every exchange with another node, for experiments.', default: '0ms', min: 0, max: 60_000 }),
    linkRate: rate({ doc: 'Rate of the node\'s link, each direction, from which its utilisation is told; 0: what its network interfaces say.', default: 0, min: 100_000, max: 1e12 }),
    metricsSource: choice(['auto', 'host', 'cgroup'], { doc: 'What node metrics describe: the machine, the control group of the agent, or the group if it has a CPU quota and otherwise the machine (auto).', default: 'auto' }),
    packageQuota: size({ doc: 'Disk space for packages; the least recently used are dropped first.', default: '8GiB', min: MIB, max: 1024 * 1024 * GIB }),
    npmRegistry: text({ doc: 'Registry of npm packages; empty: the one that npm is configured for.', default: '', maxLength: 1_024, pattern: /^$|^https?:\/\/[^@\s]+$/, form: 'an http(s) address without user and password' }),
    labels: text({ doc: 'What people should know about this node, shown with it: name=value, separated by commas.', default: '', maxLength: 1_024, pattern: LABELS_PATTERN, form: 'name=value pairs, separated by commas' }),
    isolation: choice(['auto', 'process', 'bubblewrap'], { doc: 'Sandboxes of functions that ask for none: processes with the rights of the agent (process), or isolated ones where bubblewrap works (auto). Functions may ask for the other kind; with "bubblewrap" there is no other.', default: 'process' }),
    limits: choice(['isolated', 'all'], { doc: 'Which sandboxes the kernel holds to the memory and CPU of their functions, by control groups: isolated ones where the agent may make groups (isolated), or plain processes as well (all), which costs each of their starts some milliseconds. Where no groups can be made, an agent with "all" does not start.', default: 'isolated' }),
    logBytes: size({ doc: 'What is kept of stdout and of stderr of one run; the middle is cut out.', default: '64KiB', min: 0, max: 64 * KIB }),
  },
  up: {
    nodes: integer({ doc: 'Agents of the embedded cluster, each a process.', default: 3, min: 1, max: 64 }),
    slots: integer({ doc: 'Slots of each of them.', default: 2, min: 1, max: 256 }),
    memory: size({ doc: 'Memory for the sandboxes of each of them.', default: '1GiB', min: 64 * MIB, max: 1024 * GIB }),
    dataDir: text({ doc: 'Folder of the whole cluster; empty: a temporary one that is removed at the end.', default: '' }),
    namePrefix: text({ doc: 'Agents are called <prefix>-1, <prefix>-2, ….', default: 'node', maxLength: 56, pattern: NAME_PATTERN, form: NAME_FORM }),
    link: rate({ doc: 'Emulates a link of this rate between every node and the others, each direction, for honest experiments on one machine; 0: none.', default: 0, min: 100_000, max: 100e9 }),
    latency: duration({ doc: 'Emulates this delay on every link, one way.', default: 0, min: 0, max: 10_000 }),
    cpus: number({ doc: 'CPUs of each node, enforced by a quota (fractions allowed); 0: as many as there are.', default: 0, min: 0, max: 1_024 }),
    emulation: choice(['auto', 'namespaces', 'data-plane'], { doc: 'How links are emulated: by the kernel between network namespaces (needs root and iproute2), by the agents\' data plane, or by what works here (auto).', default: 'auto' }),
    demoRuns: integer({ doc: 'Workflow runs of `up --demo`.', default: 6, min: 0, max: 1_000 }),
    demoLogBytes: size({ doc: 'Size of each log file that `up --demo` analyses.', default: '20MiB', min: KIB, max: GIB }),
  },
} as const satisfies Record<string, Record<string, Field>>;

const SECTION_DOCS = {
  scheduler: 'The scheduler daemon and its front doors.',
  delay: 'Delay scheduling: when waiting for a better node is worth it.',
  policies: 'Parameters of single policies other than metronome.',
  model: 'The prediction model (scheduler.predictor: forest).',
  limits: 'Bounds of queues, stores and messages.',
  inspect: 'What the inspector keeps, and who may look.',
  recording: 'Recording of the scheduler\'s inputs and decisions.',
  nodes: 'How the scheduler follows its nodes.',
  agent: 'One agent: a node that runs functions.',
  up: 'The embedded cluster of `metronome up`.',
} as const satisfies Record<SectionName, string>;

/** The configuration as people write it: a file of sections, every key optional. */
export const configSchema = z.strictObject({
  scheduler: section(sections.scheduler, SECTION_DOCS.scheduler),
  delay: section(sections.delay, SECTION_DOCS.delay),
  policies: section(sections.policies, SECTION_DOCS.policies),
  model: section(sections.model, SECTION_DOCS.model),
  limits: section(sections.limits, SECTION_DOCS.limits),
  inspect: section(sections.inspect, SECTION_DOCS.inspect),
  recording: section(sections.recording, SECTION_DOCS.recording),
  nodes: section(sections.nodes, SECTION_DOCS.nodes),
  agent: section(sections.agent, SECTION_DOCS.agent),
  up: section(sections.up, SECTION_DOCS.up),
});

/** A section of the configuration. */
export type SectionName = keyof typeof sections;

type ResolvedName<Key extends string, F> = F extends Field<number, 'duration'> ? `${Key}Ms` : F extends Field<number, 'size'> ? (Key extends `${string}Bytes` ? Key : `${Key}Bytes`) : F extends Field<number, 'rate'> ? `${Key}BitsPerS` : Key;
type ResolvedSection<S> = { readonly [Key in keyof S & string as ResolvedName<Key, S[Key]>]: S[Key] extends z.ZodType ? z.output<S[Key]> : never };

/** The resolved configuration: every key present, durations in ms (names end in Ms), sizes in bytes (Bytes), rates in bits per second (BitsPerS). */
export type Config = { readonly [S in SectionName]: ResolvedSection<(typeof sections)[S]> };

/** One key of the configuration with all that is known about it. */
export interface ConfigField {
  readonly section: SectionName;
  readonly name: string;
  /** `section.name`. */
  readonly key: string;
  /** Name in the resolved section, for example staleAfterMs. */
  readonly resolvedName: string;
  /** Environment variable. */
  readonly env: string;
  readonly field: Field;
  readonly info: FieldInfo;
}

/** Every key, in the order of the schema. */
export const configFields: readonly ConfigField[] = (Object.keys(sections) as SectionName[]).flatMap((section) => // keys of a const object
  Object.entries<Field>(sections[section]).map(([name, field]) => ({
    section,
    name,
    key: `${section}.${name}`,
    resolvedName: resolvedName(name, field.info.kind),
    env: `METRONOME_${upperSnake(section)}__${upperSnake(name)}`,
    field,
    info: field.info,
  })),
);

/** A row of the reference page. */
export interface ReferenceRow {
  readonly key: string;
  readonly env: string;
  readonly type: FieldKind;
  readonly default: string;
  readonly unit: string;
  readonly bounds: string;
  readonly description: string;
}

/** Every key for docs/reference/config.md, in the order of the schema. */
export function referenceRows(): readonly ReferenceRow[] {
  return configFields.map(({ key, env, info }) => ({
    key,
    env,
    type: info.kind,
    default: info.secret ? '' : (info.defaultText ?? ''),
    unit: info.unit,
    bounds: info.bounds,
    description: info.description,
  }));
}

/** The JSON Schema of metronome.config.yaml, the same on every machine. */
export function configJsonSchema(): Record<string, unknown> {
  return jsonSchemaOf(configSchema, 'Metronome configuration');
}

/** JSON Schema of what people write; defaults that depend on the machine appear as words only. */
export function jsonSchemaOf(schema: z.ZodType, title: string): Record<string, unknown> {
  const json = z.toJSONSchema(schema, {
    io: 'input',
    unrepresentable: 'any',
    override: ({ jsonSchema }) => {
      if ('defaultText' in jsonSchema) delete jsonSchema.default;
    },
  });
  return { title, ...json };
}

function section<S extends Record<string, Field>>(shape: S, description: string) {
  // Every field has a default, which the type of Field does not tell.
  return z.strictObject(shape).prefault({} as never).meta({ description });
}

function resolvedName(name: string, kind: FieldKind): string {
  if (kind === 'duration') return `${name}Ms`;
  if (kind === 'rate') return `${name}BitsPerS`;
  return kind === 'size' && !name.endsWith('Bytes') ? `${name}Bytes` : name;
}

/** grpcPort → GRPC_PORT. */
export function upperSnake(name: string): string {
  return name.replaceAll(/([a-z0-9])([A-Z])/g, '$1_$2').toUpperCase();
}

function nodeName(): string {
  const name = hostname().toLowerCase().replaceAll(/[^a-z0-9-]+/g, '-').replaceAll(/^-+|-+$/g, '').slice(0, 63).replace(/-+$/, '');
  return name === '' ? 'node' : name;
}

function machineShareBytes(): number {
  // 0 or a huge number when nothing constrains the process.
  const constrained = process.constrainedMemory();
  const total = constrained > 0 ? Math.min(totalmem(), constrained) : totalmem();
  return Math.max(64 * MIB, Math.floor((total * 0.75) / MIB) * MIB);
}
