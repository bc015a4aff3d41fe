/**
 * What the model is shown of an execution: one list of features with units, in the paper's four groups (section 3.3: system,
 * container, network, function) and the derived ones. A feature is a column of a row of numbers; a row is a situation, that is
 * one function on one node at one moment. docs/reference/features.md is made from this list.
 */

/** Who fills a column: the scheduler from what it knows anyway, or the model from its own memory. */
export type FeatureSource = 'scheduler' | 'model';

/** Groups: the two keys (which the trees never split on), the paper's s, c, n, d, and what the model derives. */
export type FeatureGroup = 'key' | 'system' | 'container' | 'network' | 'function' | 'derived';

/** One column. */
export interface Feature {
  readonly name: string;
  readonly group: FeatureGroup;
  readonly unit: string;
  readonly source: FeatureSource;
  /** What stands there when the value is not known. */
  readonly missing: number;
  /** Bounds of what the model takes in: it cuts off what lies beyond. Those of the model's own columns are open. */
  readonly least: number;
  readonly most: number;
  readonly meaning: string;
}

/** Most that a feature may be, by what it is counted in. So far from what is real that only mistakes lie beyond, and near enough that nothing computed from it overflows. */
const MOST: Readonly<Record<string, number>> = { '0 to 1': 1, 'tasks per core': 1e6, 'bytes': 1e15, 'bytes/s': 1e15, '1 cold, 2 packages, 3 zygote, 4 warm': 4, '0 node, 1 python3': 1 };
const MOST_COUNTED = 1e9;

const scheduler = <Name extends string>(name: Name, group: FeatureGroup, unit: string, missing: number, meaning: string) => ({ name, group, unit, source: 'scheduler' as const, missing, least: name === 'startState' ? 1 : Math.min(0, missing), most: MOST[unit] ?? MOST_COUNTED, meaning });
const model = <Name extends string>(name: Name, group: FeatureGroup, unit: string, missing: number, meaning: string) => ({ name, group, unit, source: 'model' as const, missing, least: -Infinity, most: Infinity, meaning });

/** All features, in the order of the columns. Those of the scheduler come first, then those of the model. Columns are only ever added. */
export const FEATURES = [
  scheduler('functionIndex', 'key', 'index', 0, 'Which function: a key for its history, never a number to compare.'),
  scheduler('nodeIndex', 'key', 'index', 0, 'Which node: a key for its speed, never a number to compare.'),

  scheduler('cpuUtilisation', 'system', '0 to 1', 0, 'Share of the node\'s CPU in use.'),
  scheduler('loadPerCore', 'system', 'tasks per core', 0, 'Load average of one minute, divided by cores.'),
  scheduler('runnable', 'system', 'tasks per core', 0, 'Tasks that run or could run at this moment, divided by cores.'),
  scheduler('cpuPressure', 'system', '0 to 1', 0, 'Share of time in which some task waited for CPU (the scheduling latency of the paper).'),
  scheduler('ioPressure', 'system', '0 to 1', 0, 'Share of time in which some task waited for I/O.'),
  scheduler('memoryPressure', 'system', '0 to 1', 0, 'Share of time in which some task waited for memory.'),
  scheduler('memoryUtilisation', 'system', '0 to 1', 0, 'Share of memory in use.'),
  scheduler('memoryFreeMb', 'system', 'MiB', -1, 'Free memory.'),
  scheduler('diskUtilisation', 'system', '0 to 1', 0, 'Share of time in which the disk was busy.'),
  scheduler('diskReadBytesPerS', 'system', 'bytes/s', 0, 'Disk reads.'),
  scheduler('diskWriteBytesPerS', 'system', 'bytes/s', 0, 'Disk writes.'),
  scheduler('usedSlots', 'system', 'slots', 0, 'Invocations in flight on the node by the scheduler\'s own account, without this one.'),
  scheduler('usedShare', 'system', '0 to 1', 0, 'The same divided by the node\'s slots.'),

  scheduler('startState', 'container', '1 cold, 2 packages, 3 zygote, 4 warm', 1, 'What the sandbox starts from; the order is that of the cost.'),
  scheduler('idleOfFunction', 'container', 'sandboxes', 0, 'Idle warm sandboxes of the function on the node.'),
  scheduler('busyOfFunction', 'container', 'sandboxes', 0, 'Busy sandboxes of the function on the node.'),
  scheduler('idleSandboxes', 'container', 'sandboxes', 0, 'Idle sandboxes of all functions on the node.'),
  scheduler('sandboxMemoryMb', 'container', 'MiB', 0, 'Resident memory of all sandboxes of the node.'),
  scheduler('zygotes', 'container', 'processes', 0, 'Idle zygotes on the node.'),
  scheduler('zygoteDistance', 'container', 'packages', -1, 'Packages that the nearest zygote still has to load for the function; -1: no zygote.'),
  scheduler('zygoteMemoryMb', 'container', 'MiB', 0, 'Resident memory of the node\'s zygotes.'),
  scheduler('cachedPackages', 'container', 'packages', 0, 'Packages in the node\'s own store.'),
  scheduler('cachedPackageBytes', 'container', 'bytes', 0, 'Bytes of the node\'s own store of packages.'),
  scheduler('missingPackages', 'container', 'packages', 0, 'Packages of the function that the node lacks.'),
  scheduler('missingPackageBytes', 'container', 'bytes', 0, 'Their bytes.'),

  scheduler('networkRxBytesPerS', 'network', 'bytes/s', 0, 'Network in.'),
  scheduler('networkTxBytesPerS', 'network', 'bytes/s', 0, 'Network out.'),
  scheduler('networkPacketsPerS', 'network', 'packets/s', 0, 'Packets in and out.'),
  scheduler('linkUtilisation', 'network', '0 to 1', -1, 'Share of the node\'s link in use, of the busier direction; -1: its rate is not known.'),
  scheduler('roundTripMs', 'network', 'ms', 0, 'A message from the scheduler to the node\'s agent and back, smoothed; 0: not measured yet.'),
  scheduler('transfers', 'network', 'transfers', 0, 'Fetches that the node runs now.'),
  scheduler('fetchBytesPerS', 'network', 'bytes/s', 0, 'What a fetch by this node got lately; 0: nothing was measured.'),
  scheduler('missingBytes', 'network', 'bytes', 0, 'Input bytes that the node lacks and would have to move.'),

  scheduler('inputBytes', 'function', 'bytes', 0, 'All input bytes.'),
  scheduler('inputs', 'function', 'objects', 0, 'Input objects.'),
  scheduler('payloadBytes', 'function', 'bytes', 0, 'Bytes of the request itself.'),
  scheduler('dependencies', 'function', 'packages', 0, 'Packages of the function with all that they depend on.'),
  scheduler('packageBytes', 'function', 'bytes', 0, 'Their bytes.'),
  scheduler('memoryMb', 'function', 'MiB', 0, 'Memory limit of a sandbox.'),
  scheduler('runtime', 'function', '0 node, 1 python3', 0, 'What it runs on.'),
  scheduler('stage', 'function', 'steps', 0, 'Steps before this one in its workflow; 0: the first, or alone.'),
  scheduler('predecessors', 'function', 'steps', 0, 'Steps whose outputs it reads.'),
  scheduler('fanOut', 'function', 'calls', 1, 'Parallel calls of its step.'),
  scheduler('runningOfFunction', 'function', 'invocations', 0, 'Invocations of the function in flight in the whole cluster.'),

  model('historyCount', 'function', 'log2(1 + n)', 0, 'Successful executions of the function that the model has seen.'),
  model('recentFetchMs', 'function', 'ms', 0, 'Moving average of its transfers.'),
  model('recentInitialiseMs', 'function', 'ms', 0, 'Moving average of its initialisations from this start state.'),
  model('recentRunMs', 'function', 'ms', 0, 'Moving average of its runs.'),
  model('recentTotalMs', 'function', 'ms', 0, 'Moving average of its whole execution times.'),

  model('inputBytesLog', 'derived', 'log2(1 + bytes)', 0, 'Input bytes on a logarithmic scale.'),
  model('inputRatioLog', 'derived', 'log2', 0, 'Input bytes relative to what is usual for the function.'),
  model('missingBytesLog', 'derived', 'log2(1 + bytes)', 0, 'Bytes to move on a logarithmic scale.'),
  model('missingPackageBytesLog', 'derived', 'log2(1 + bytes)', 0, 'Bytes of missing packages on a logarithmic scale.'),
  model('fetchEstimateLog', 'derived', 'log2(ms)', 0, 'The baseline\'s estimate of the transfer.'),
  model('initialiseEstimateLog', 'derived', 'log2(ms)', 0, 'The baseline\'s estimate of the initialisation.'),
  model('runEstimateLog', 'derived', 'log2(ms)', 0, 'The baseline\'s estimate of the run.'),
  model('totalEstimateLog', 'derived', 'log2(ms)', 0, 'The baseline\'s estimate of the whole.'),
  model('fetchShare', 'derived', '0 to 1', 0, 'Share of the transfer in the baseline\'s estimate.'),
  model('initialiseShare', 'derived', '0 to 1', 0, 'Share of the initialisation in the baseline\'s estimate.'),
  model('nodeFactorLog', 'derived', 'log', 0, 'How much slower (above 0) or faster this node runs things than the others.'),
] as const satisfies readonly Feature[];

/** Name of a feature. */
export type FeatureName = (typeof FEATURES)[number]['name'];
/** Name of a feature that the scheduler fills. */
export type SituationFeature = Extract<(typeof FEATURES)[number], { readonly source: 'scheduler' }>['name'];

/** Columns of a whole row: `ROW_WIDTH` numbers of 64 bits. */
export const ROW_WIDTH: number = FEATURES.length;
/** Columns that the scheduler fills, at the beginning of a row: what travels to the model. */
export const SITUATION_WIDTH: number = FEATURES.filter(({ source }) => source === 'scheduler').length;
/** Columns before this one are keys. */
export const FIRST_FEATURE = 2;

/** Column of each feature. */
// The list names each feature once, so the object has all the keys; Object.fromEntries cannot know.
export const COLUMN = Object.freeze(Object.fromEntries(FEATURES.map(({ name }, column) => [name, column]))) as Readonly<Record<FeatureName, number>>;

/** A situation as a plain object: what is absent counts as not known. */
export type Situation = { readonly functionIndex: number; readonly nodeIndex: number } & Partial<Readonly<Record<SituationFeature, number>>>;

const MISSING = Float64Array.from(FEATURES, ({ missing }) => missing);
const SITUATION_NAMES = FEATURES.slice(0, SITUATION_WIDTH).map(({ name }) => name as SituationFeature); // by SITUATION_WIDTH these are the scheduler's

/** Fills a situation's columns at `offset` with what stands for "not known". The hot path begins with this and sets what it knows. */
export function clearSituation(out: Float64Array, offset: number): void {
  for (let column = 0; column < SITUATION_WIDTH; column++) out[offset + column] = MISSING[column] as number;
}

/** Writes a situation into `out[offset … offset + SITUATION_WIDTH)`. For tests, services and readers; the hot path writes columns itself. */
export function encodeSituation(situation: Situation, out: Float64Array, offset = 0): void {
  for (let column = 0; column < SITUATION_WIDTH; column++) out[offset + column] = situation[SITUATION_NAMES[column] as SituationFeature] ?? (MISSING[column] as number);
}

/** The situation in `row[offset …)` as an object, without what is not known. */
export function decodeSituation(row: Float64Array, offset = 0): Situation {
  const situation: Partial<Record<SituationFeature, number>> = {};
  for (let column = 0; column < SITUATION_WIDTH; column++) {
    const value = row[offset + column] as number;
    if (column < FIRST_FEATURE || value !== MISSING[column]) situation[SITUATION_NAMES[column] as SituationFeature] = value;
  }
  return situation as Situation; // the keys are always written
}

/** True for a name that a situation may have. */
export function isSituationFeature(name: string): name is SituationFeature {
  return (SITUATION_NAMES as readonly string[]).includes(name);
}

/** What is wrong with the value of a feature that a client gives, as the end of a sentence about it; undefined: nothing. */
export function situationProblem(name: SituationFeature, value: number): string | undefined {
  const { least, most, unit } = FEATURES[COLUMN[name]] as Feature; // every name has its column
  return value >= least && value <= most ? undefined : `must be from ${least} to ${most} for ${name} (${unit}), not ${value}`;
}
