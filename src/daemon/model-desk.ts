/**
 * The model service: predictions and observations by name, for any client, with or without agents. Names that the scheduler does not
 * know get histories of their own. Nothing is filled in from what the scheduler sees: what is absent counts as not known.
 */
import { MetronomeError, suggest, type Violation } from '../core/errors.ts';
import { ALONE } from '../core/invocation.ts';
import { FEATURES, SITUATION_WIDTH, encodeSituation, isSituationFeature, situationProblem, type Situation as FeatureRow } from '../predictor/features.ts';
import { FETCHED_MS, INITIALISED_MS, MOST_PHASE_MS, OBSERVATION_WIDTH, RAN_MS } from '../predictor/model/observation.ts';
import { COLD, NO_SITUATION, NO_TICKET, SOURCES, WARM, createPredictionRows } from '../predictor/predictor.ts';
import { MOST_NAME, NO_KEY } from '../predictor/model-keys.ts';
import type { Forest } from '../predictor/pool/forest.ts';
import type { GetModelStatusResponse, ImportModelResponse, ObserveRequest, ObserveResponse, PredictRequest, PredictResponse, Prediction, Situation } from '../rpc/gen/metronome/v1/model.ts';
import type { Scheduler } from '../scheduler/scheduler.ts';

export interface ModelDeskOptions {
  readonly scheduler: Scheduler;
  /** Undefined: moving averages are all there is. */
  readonly forest: Forest | undefined;
  /** Names of functions that are kept beside those that are deployed. */
  readonly maxNames: number;
}

/** The service, in the loop. */
export interface ModelDesk {
  predict(request: PredictRequest): Promise<PredictResponse>;
  observe(request: ObserveRequest): Promise<ObserveResponse>;
  status(): Promise<GetModelStatusResponse>;
  exportSnapshot(): Promise<{ bytes: Uint8Array; version: number }>;
  importSnapshot(bytes: Uint8Array): Promise<ImportModelResponse>;
}

/** A situation that is right, before its names have places. */
interface ReadSituation {
  readonly function: string;
  readonly node: string;
  readonly features: Omit<FeatureRow, 'functionIndex' | 'nodeIndex'>;
}

/** A situation with the places that its names have; -1: none. */
interface NamedRow {
  /** In the scheduler's table of functions, and of nodes or behind it. */
  readonly index: number;
  readonly node: number;
  /** Function and node by their keys. */
  readonly features: FeatureRow;
}

/** Situations and observations in one request (proto). */
const MAX_ITEMS = 10_000;
/** Names of nodes that are kept beside those of the cluster; '' is one of them. */
const MAX_STRANGERS = 4_096;
/** Name, among the keys, of the node of observations that name none. */
const NOWHERE = '(no node)';
/** Rows given to the pool at once. */
const CHUNK = 512;
/** Features that have fields of their own. */
const FIELDS: Readonly<Record<string, string>> = { functionIndex: 'function', nodeIndex: 'node', startState: 'start_state', inputBytes: 'input_bytes', missingBytes: 'missing_bytes', fetchBytesPerS: 'fetch_bytes_per_s' };

export function createModelDesk({ scheduler, forest, maxNames }: ModelDeskOptions): ModelDesk {
  const { predictor, functions, cluster } = scheduler;
  /** Nodes that are only known here; their indexes follow those of the cluster. */
  const strangers = new Map<string, number>();

  const functionIndex = (name: string): number => {
    if (functions.findIndex(name) < 0 && functions.reserved >= maxNames) throw new MetronomeError('QUEUE_FULL', `${maxNames} functions that are not deployed have histories already (limits.maxFunctions); "${name}" finds no room.`, { component: 'scheduler' });
    const before = functions.entries.length;
    const index = scheduler.placeFor(name);
    if (index === before) predictor.functionPut(index);
    return index;
  };
  const nodeIndex = (name: string): number => {
    const known = name === '' ? -1 : cluster.indexOf(name);
    if (known >= 0) return known;
    const stranger = strangers.get(name) ?? cluster.maxNodes + strangers.size;
    if (!strangers.has(name)) {
      if (strangers.size >= MAX_STRANGERS) throw new MetronomeError('QUEUE_FULL', `${MAX_STRANGERS} nodes that have not registered have histories already; "${name}" finds no room.`, { component: 'scheduler' });
      strangers.set(name, stranger);
    }
    return stranger;
  };

  /** The situation as features; what is wrong goes into `violations` with its place. Nobody gets a place by it. */
  const read = (situation: Situation | undefined, place: string, violations: Violation[]): ReadSituation => {
    if (situation === undefined || situation.function === '') {
      violations.push({ field: `${place}.function`, description: 'is required' });
      return { function: '', node: '', features: {} };
    }
    for (const field of ['function', 'node'] as const) {
      const { length } = situation[field];
      if (length > MOST_NAME) violations.push({ field: `${place}.${field}`, description: `has ${length} characters; ${MOST_NAME} are the most` });
    }
    const features: { [name: string]: number } = {};
    for (const [name, value] of Object.entries(situation.features)) {
      const field = `${place}.features.${name}`;
      if (Object.hasOwn(FIELDS, name)) violations.push({ field, description: `is given by the field ${FIELDS[name]}` });
      else if (!isSituationFeature(name)) {
        const near = suggest(name, FEATURES.slice(0, SITUATION_WIDTH).map((feature) => feature.name));
        violations.push({ field, description: `is no feature (docs/reference/features.md)${near === undefined ? '' : `; did you mean "${near}"?`}` });
      } else if (!Number.isFinite(value)) violations.push({ field, description: 'must be a finite number' });
      else {
        const problem = situationProblem(name, value);
        if (problem === undefined) features[name] = value;
        else violations.push({ field, description: problem });
      }
    }
    const { startState, inputBytes, missingBytes, fetchBytesPerS } = situation;
    for (const [field, name, value] of [['input_bytes', 'inputBytes', inputBytes], ['missing_bytes', 'missingBytes', missingBytes], ['fetch_bytes_per_s', 'fetchBytesPerS', fetchBytesPerS]] as const) {
      const problem = situationProblem(name, value);
      if (problem !== undefined) violations.push({ field: `${place}.${field}`, description: problem });
    }
    if (startState > WARM) violations.push({ field: `${place}.start_state`, description: `${startState} is no start state` });
    const row = { ...features, startState: startState === 0 ? COLD : startState, inputBytes, missingBytes, ...(fetchBytesPerS > 0 ? { fetchBytesPerS } : {}) };
    return { function: situation.function, node: situation.node, features: row };
  };
  /** With the places that the names have already: who only asks must not take room from those who teach. */
  const find = ({ function: name, node, features: row }: ReadSituation): NamedRow => {
    const keys = { functionIndex: forest?.keys.findFunction(name) ?? NO_KEY, nodeIndex: forest?.keys.findNode(node === '' ? NOWHERE : node) ?? NO_KEY };
    const known = node === '' ? -1 : cluster.indexOf(node);
    return { index: functions.findIndex(name), node: known >= 0 ? known : (strangers.get(node) ?? -1), features: { ...row, ...keys } };
  };
  /** With places and keys, which new names get here. The bounds of names come first. */
  const admit = ({ function: name, node, features: row }: ReadSituation): NamedRow => {
    const index = functionIndex(name), place = nodeIndex(node);
    const keys = { functionIndex: forest?.keys.functionKeyOf(name) ?? NO_KEY, nodeIndex: forest?.keys.nodeKeyOf(node === '' ? NOWHERE : node) ?? NO_KEY };
    return { index, node: place, features: { ...row, ...keys } };
  };
  const bounded = (items: readonly unknown[], field: string): void => {
    if (items.length < 1 || items.length > MAX_ITEMS) throw new MetronomeError('INVALID_REQUEST', `${field} has ${items.length} entries; 1 to ${MAX_ITEMS} are possible.`, { component: 'scheduler', violations: [{ field, description: `must have 1 to ${MAX_ITEMS} entries` }] });
  };
  const refuse = (violations: readonly Violation[]): void => {
    if (violations.length === 0) return;
    const shown = violations.slice(0, 20);
    throw new MetronomeError('INVALID_REQUEST', `${shown.map(({ field, description }) => `${field} ${description}`).join('; ')}${violations.length > shown.length ? `; and ${violations.length - shown.length} more` : ''}.`, { component: 'scheduler', violations: shown });
  };

  /** By moving averages, or whatever answers at once. */
  const one = createPredictionRows(1);
  one.count = 1;
  const byAverage = ({ index, node, features: row }: NamedRow): Prediction => {
    one.node[0] = node;
    one.startState[0] = row.startState ?? COLD;
    one.missingBytes[0] = row.missingBytes ?? 0;
    predictor.predict({ functionIndex: index, inputBytes: row.inputBytes ?? 0, inputs: [], payloadBytes: row.payloadBytes ?? 0, ...ALONE }, one, NO_TICKET);
    const source = one.source[0] ?? 0;
    return { meanMs: one.meanMs[0] ?? 0, spreadMs: one.spreadMs[0] ?? 0, p95Ms: one.p95Ms[0] ?? 0, p99Ms: one.p99Ms[0] ?? 0, observations: predictor.observations(index), modelVersion: source === 0 ? 0 : (forest?.predictor.version ?? 0), source: SOURCES[source] ?? '' };
  };
  const byForest = (rows: readonly NamedRow[]): Promise<Prediction[] | undefined> => {
    if (forest === undefined) return Promise.resolve(undefined);
    const encoded = new Float64Array(rows.length * SITUATION_WIDTH);
    rows.forEach(({ features }, i) => encodeSituation(features, encoded, i * SITUATION_WIDTH));
    const { promise, resolve } = Promise.withResolvers<Prediction[] | undefined>();
    const asked = forest.predictor.predictRows(encoded, rows.length, (results, first, version) => {
      if (results === undefined || version === 0) return resolve(undefined);
      resolve(rows.map(({ index }, i) => ({
        meanMs: results.meanMs[first + i] ?? 0, spreadMs: results.spreadMs[first + i] ?? 0, p95Ms: results.p95Ms[first + i] ?? 0, p99Ms: results.p99Ms[first + i] ?? 0,
        observations: predictor.observations(index), modelVersion: version, source: 'forest',
      })));
    });
    if (!asked) resolve(undefined);
    return promise;
  };

  const withForest = (): Forest => {
    if (forest === undefined) throw new MetronomeError('MODEL_UNAVAILABLE', 'There is no forest: scheduler.predictor is moving-average.', { component: 'scheduler' });
    return forest;
  };

  return {
    async predict({ situations }) {
      await forest?.opened;
      bounded(situations, 'situations');
      const violations: Violation[] = [];
      const asked = situations.map((situation, i) => read(situation, `situations[${i}]`, violations));
      refuse(violations);
      const rows = asked.map(find);
      const predictions: Prediction[] = [];
      for (let at = 0; at < rows.length; at += CHUNK) {
        const chunk = rows.slice(at, at + CHUNK);
        predictions.push(...((await byForest(chunk)) ?? chunk.map(byAverage)));
      }
      return { predictions };
    },
    async observe({ observations }) {
      await forest?.opened; // before, nobody knows its keys
      bounded(observations, 'observations');
      const violations: Violation[] = [];
      const taken = observations.map(({ situation, fetchedMs, initialisedMs, ranMs }, i) => {
        for (const [field, value] of [['fetched_ms', fetchedMs], ['initialised_ms', initialisedMs], ['ran_ms', ranMs]] as const) {
          if (!(value >= 0 && value <= MOST_PHASE_MS)) violations.push({ field: `observations[${i}].${field}`, description: `must be 0 to ${MOST_PHASE_MS}` });
        }
        return { situation: read(situation, `observations[${i}].situation`, violations), fetchedMs, initialisedMs, ranMs };
      });
      refuse(violations);
      const encoded = new Float64Array(OBSERVATION_WIDTH);
      let accepted = 0;
      for (const { situation, fetchedMs, initialisedMs, ranMs } of taken) {
        const { index, node, features: row } = admit(situation);
        if (forest !== undefined) {
          encodeSituation(row, encoded);
          encoded[FETCHED_MS] = fetchedMs;
          encoded[INITIALISED_MS] = initialisedMs;
          encoded[RAN_MS] = ranMs;
          if (!forest.training.observe(encoded, 0)) continue; // whoever sends it again teaches both, or neither
        }
        accepted++;
        predictor.observe({
          functionIndex: index, node, startState: row.startState ?? COLD, inputBytes: row.inputBytes ?? 0, fetchedBytes: row.missingBytes ?? 0, fetchedMs, initialisedMs, ranMs, predictedMs: 0, situation: NO_SITUATION,
        });
      }
      return { accepted };
    },
    async status() {
      const accuracy = predictor.accuracy();
      const known = await forest?.status();
      const model = known?.model;
      const own = new Map(model?.functions.map((row) => [row.name, row]));
      const served = new Map(accuracy.map((row) => [functions.entries[row.functionIndex]?.settings.name ?? '', row]));
      const names = [...new Set([...served.keys(), ...own.keys()])].sort();
      return {
        predictor: predictor.name,
        state: known?.state ?? 'cold',
        observations: accuracy.reduce((sum, row) => sum + row.observations, 0),
        functions: names.map((name) => {
          const used = served.get(name), learned = own.get(name);
          return {
            function: name, observations: used?.observations ?? 0, medianError: used?.medianError ?? 0, p95Error: used?.p95Error ?? 0, servedCoverageP95: used?.coverageP95 ?? 0, servedCoverageP99: used?.coverageP99 ?? 0,
            forestMedianError: learned?.medianError ?? 0, forestP95Error: learned?.p95Error ?? 0, coverageP95: learned?.coverageP95 ?? 0, coverageP99: learned?.coverageP99 ?? 0, driftEvents: learned?.driftEvents ?? 0,
            forestObservations: learned?.observations ?? 0,
          };
        }),
        version: known?.version ?? 0, publishedAtUnixMs: known?.publishedAtMs ?? 0, snapshotAtUnixMs: known?.snapshotAtMs ?? 0, trainer: model?.trainer ?? '', trees: model?.trees ?? 0, treeNodes: model?.treeNodes ?? 0,
        windowSize: model?.windowSize ?? 0, windowRoom: model?.windowRoom ?? 0, bytes: model?.bytes ?? 0, updates: model?.updates ?? 0, driftEvents: model?.driftEvents ?? 0, nodeDriftEvents: model?.nodeDriftEvents ?? 0,
        counters: { ...known?.counters }, excluded: { ...predictor.excluded }, answerP50Ms: known?.answerP50Ms ?? 0, answerP99Ms: known?.answerP99Ms ?? 0,
      };
    },
    async exportSnapshot() {
      const { bytes, version } = await withForest().exportSnapshot();
      if (version === 0) throw new MetronomeError('MODEL_UNAVAILABLE', 'The model has no forest yet; there is nothing to export.', { component: 'scheduler' });
      return { bytes, version };
    },
    importSnapshot: (bytes) => withForest().importSnapshot(bytes),
  };
}
