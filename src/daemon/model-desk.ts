/**
 * The model service: predictions and observations by name, for any client, with or without agents. Names that the scheduler does not
 * know get histories of their own. Nothing is filled in from what the scheduler sees: what is absent counts as not known.
 */
import { MetronomeError, suggest, type Violation } from '../core/errors.ts';
import { ALONE } from '../core/invocation.ts';
import { FEATURES, SITUATION_WIDTH, encodeSituation, isSituationFeature, type Situation as FeatureRow } from '../predictor/features.ts';
import { FETCHED_MS, INITIALISED_MS, OBSERVATION_WIDTH, RAN_MS } from '../predictor/model/observation.ts';
import { COLD, NO_SITUATION, NO_TICKET, SOURCES, WARM, createPredictionRows } from '../predictor/predictor.ts';
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

/** A situation with the places that its names have. */
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
/** Rows given to the pool at once. */
const CHUNK = 512;
/** Features that have fields of their own. */
const FIELDS: Readonly<Record<string, string>> = { functionIndex: 'function', nodeIndex: 'node', startState: 'start_state', inputBytes: 'input_bytes', missingBytes: 'missing_bytes', fetchBytesPerS: 'fetch_bytes_per_s' };

export function createModelDesk({ scheduler, forest, maxNames }: ModelDeskOptions): ModelDesk {
  const { predictor, functions, cluster } = scheduler;
  /** Nodes that are only known here; their indexes follow those of the cluster. */
  const strangers = new Map<string, number>();

  const functionIndex = (name: string): number => {
    if (functions.get(name) === undefined && functions.reserved >= maxNames) throw new MetronomeError('QUEUE_FULL', `${maxNames} functions that are not deployed have histories already (limits.maxFunctions); "${name}" finds no room.`, { component: 'scheduler' });
    const before = functions.entries.length;
    const index = functions.indexFor(name);
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

  /** The situation as features; what is wrong goes into `violations` with its place. */
  const read = (situation: Situation | undefined, place: string, violations: Violation[]): NamedRow => {
    if (situation === undefined || situation.function === '') {
      violations.push({ field: `${place}.function`, description: 'is required' });
      return { index: 0, node: 0, features: { functionIndex: 0, nodeIndex: 0 } };
    }
    const features: { [name: string]: number } = {};
    for (const [name, value] of Object.entries(situation.features)) {
      const field = `${place}.features.${name}`;
      if (FIELDS[name] !== undefined) violations.push({ field, description: `is given by the field ${FIELDS[name]}` });
      else if (!isSituationFeature(name)) {
        const near = suggest(name, FEATURES.slice(0, SITUATION_WIDTH).map((feature) => feature.name));
        violations.push({ field, description: `is no feature (docs/reference/features.md)${near === undefined ? '' : `; did you mean "${near}"?`}` });
      } else if (!Number.isFinite(value)) violations.push({ field, description: 'must be a finite number' });
      else features[name] = value;
    }
    const { startState, inputBytes, missingBytes, fetchBytesPerS } = situation;
    if (!Number.isFinite(fetchBytesPerS) || fetchBytesPerS < 0) violations.push({ field: `${place}.fetch_bytes_per_s`, description: 'must be 0 or more' });
    if (startState > WARM) violations.push({ field: `${place}.start_state`, description: `${startState} is no start state` });
    if (violations.length > 0) return { index: 0, node: 0, features: { functionIndex: 0, nodeIndex: 0 } }; // nobody gets a place for a mistake
    const keys = { functionIndex: forest?.keys.functionKeyOf(situation.function) ?? 0, nodeIndex: forest?.keys.nodeKeyOf(situation.node) ?? 0 };
    const row: FeatureRow = { ...features, ...keys, startState: startState === 0 ? COLD : startState, inputBytes, missingBytes, ...(fetchBytesPerS > 0 ? { fetchBytesPerS } : {}) };
    return { index: functionIndex(situation.function), node: nodeIndex(situation.node), features: row };
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
      const rows = situations.map((situation, i) => read(situation, `situations[${i}]`, violations));
      refuse(violations);
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
          if (!Number.isFinite(value) || value < 0) violations.push({ field: `observations[${i}].${field}`, description: 'must be 0 or more' });
        }
        return { row: read(situation, `observations[${i}].situation`, violations), fetchedMs, initialisedMs, ranMs };
      });
      refuse(violations);
      const encoded = new Float64Array(OBSERVATION_WIDTH);
      for (const { row: { index, node, features: row }, fetchedMs, initialisedMs, ranMs } of taken) {
        predictor.observe({
          functionIndex: index, node, startState: row.startState ?? COLD, inputBytes: row.inputBytes ?? 0, fetchedBytes: row.missingBytes ?? 0, fetchedMs, initialisedMs, ranMs, predictedMs: 0, situation: NO_SITUATION,
        });
        if (forest === undefined) continue;
        encodeSituation(row, encoded);
        encoded[FETCHED_MS] = fetchedMs;
        encoded[INITIALISED_MS] = initialisedMs;
        encoded[RAN_MS] = ranMs;
        forest.training.observe(encoded, 0);
      }
      return { accepted: taken.length };
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
            function: name, observations: used?.observations ?? 0, medianError: used?.medianError ?? 0, p95Error: used?.p95Error ?? 0,
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
