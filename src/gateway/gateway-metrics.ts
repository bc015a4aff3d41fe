/** GET /metrics: the gateway's own counts, and, asked for at every scrape, the scheduler's. */
import { Counter, Gauge, Registry, collectDefaultMetrics, type Metric } from 'prom-client';
import { NodeStatus, nodeStatusToJSON } from '../rpc/gen/metronome/v1/node.ts';
import { createInvocationMetrics, MAX_LABELS, type ExposedMetric, type InvocationMetrics } from './invocation-metrics.ts';
import type { LoopClient } from './loop-client.ts';

/** How long a scrape waits for the scheduler; without an answer the gateway's own metrics still come. */
const SCRAPE_TIMEOUT_MS = 2_000;

const GRPC_CODES = [
  'OK', 'CANCELLED', 'UNKNOWN', 'INVALID_ARGUMENT', 'DEADLINE_EXCEEDED', 'NOT_FOUND', 'ALREADY_EXISTS', 'PERMISSION_DENIED', 'RESOURCE_EXHAUSTED',
  'FAILED_PRECONDITION', 'ABORTED', 'OUT_OF_RANGE', 'UNIMPLEMENTED', 'INTERNAL', 'UNAVAILABLE', 'DATA_LOSS', 'UNAUTHENTICATED',
] as const;

/** Counters of the scheduler that are a metric of their own, with their outcome. */
const DELAY_OUTCOMES: ReadonlyMap<string, string> = new Map([['delayWaitedMs', 'waited'], ['delaySavedMs', 'saved'], ['delayLostMs', 'lost']]);

/** The gateway's metrics. */
export interface GatewayMetrics {
  readonly invocations: InvocationMetrics;
  /** One gRPC call ended. Streams count once. */
  grpcHandled(path: string, code: number): void;
  /** One HTTP request ended. `route` is the pattern, never the path. */
  httpHandled(route: string, method: string, status: number): void;
  /** The text for Prometheus. */
  render(loop: Pick<LoopClient, 'call' | 'inFlight' | 'waitingCalls'>): Promise<{ readonly contentType: string; readonly text: string }>;
  /** Stops the sampling of the process. */
  stop(): void;
}

/** Metrics in a registry of their own, so that several gateways fit into one process. */
export function createGatewayMetrics(): GatewayMetrics {
  const registry = new Registry();
  const registers = [registry];
  collectDefaultMetrics({ register: registry, eventLoopMonitoringPrecision: 20 });
  const invocations = createInvocationMetrics();
  for (const metric of invocations.metrics) registry.registerMetric(asMetric(metric));
  const grpcTotal = new Counter({ name: 'grpc_server_handled_total', help: 'gRPC calls that ended, whatever the outcome.', labelNames: ['grpc_service', 'grpc_method', 'grpc_code'], registers });
  const httpTotal = new Counter({ name: 'metronome_http_requests_total', help: 'HTTP requests that ended.', labelNames: ['route', 'method', 'status'], registers });
  const inFlight = new Gauge({ name: 'metronome_gateway_in_flight', help: 'Requests admitted and not ended.', registers });
  const waitingCalls = new Gauge({ name: 'metronome_gateway_waiting_calls', help: 'Control calls and watches that wait.', registers });

  const up = new Gauge({ name: 'metronome_scheduler_up', help: '1 when the scheduler answered this scrape.', registers });
  const events = new Counter({ name: 'metronome_scheduler_events_total', help: 'Counters of the scheduler since its start, by name.', labelNames: ['event'], registers });
  const live = new Gauge({ name: 'metronome_scheduler_live', help: 'Invocations that live in the scheduler.', registers });
  const delaying = new Gauge({ name: 'metronome_scheduler_delaying', help: 'Invocations that delay, by what for.', labelNames: ['for'], registers });
  const delay = new Counter({ name: 'metronome_delay_seconds_total', help: 'Time that invocations waited for better nodes, and what that saved or lost against the best node with room that they passed over, as predicted for it.', labelNames: ['outcome'], registers });
  const states = new Gauge({ name: 'metronome_scheduler_invocations', help: 'Invocations by present state.', labelNames: ['state'], registers });
  const info = new Gauge({ name: 'metronome_scheduler_info', help: 'Always 1; what the scheduler is.', labelNames: ['version', 'policy', 'predictor', 'engine'], registers });
  const nodeStatus = new Gauge({ name: 'metronome_nodes', help: 'Nodes by status.', labelNames: ['status'], registers });
  const slots = new Gauge({ name: 'metronome_node_slots', help: 'Slots of a node.', labelNames: ['node'], registers });
  const slotsUsed = new Gauge({ name: 'metronome_node_slots_used', help: 'Slots of a node that are given away.', labelNames: ['node'], registers });
  const stateAge = new Gauge({ name: 'metronome_node_state_age_seconds', help: 'Age of the last state of a node.', labelNames: ['node'], registers });
  const modelState = new Gauge({ name: 'metronome_model_state', help: '1 for the state of the prediction model.', labelNames: ['state'], registers });
  const modelVersion = new Gauge({ name: 'metronome_model_version', help: 'Version of the forest in force; 0: none.', registers });
  const modelAge = new Gauge({ name: 'metronome_model_age_seconds', help: 'Time since that version was published.', registers });
  const modelEvents = new Counter({ name: 'metronome_model_events_total', help: 'What became of questions and observations since the start, by name.', labelNames: ['event'], registers });
  const modelDrift = new Counter({ name: 'metronome_model_drift_total', help: 'Changes that were noticed, of functions and of nodes.', labelNames: ['of'], registers });
  const modelExcluded = new Counter({ name: 'metronome_model_excluded_total', help: 'Runs that taught nothing, by reason.', labelNames: ['reason'], registers });
  const modelAnswer = new Gauge({ name: 'metronome_model_answer_seconds', help: 'Time from question to answer over the last 1024 questions.', labelNames: ['quantile'], registers });
  const modelError = new Gauge({ name: 'metronome_model_error_ratio', help: 'Relative error of the predictions that decisions rested on, over the last 256 of a function.', labelNames: ['function', 'quantile'], registers });
  const modelCoverage = new Gauge({ name: 'metronome_model_coverage_ratio', help: 'Share of executions below the upper quantile that the forest would have predicted with all that it had learned before, over the last 256 of a function.', labelNames: ['function', 'quantile'], registers });
  const modelServedCoverage = new Gauge({ name: 'metronome_model_served_coverage_ratio', help: 'Share of executions below the upper quantile that was predicted at dispatch, over the last 256 of a function.', labelNames: ['function', 'quantile'], registers });
  const modelSeen = new Gauge({ name: 'metronome_model_observations', help: 'Executions of a function that predictions rest on.', labelNames: ['function'], registers });
  const perScrape = [events, live, delaying, delay, states, info, nodeStatus, slots, slotsUsed, stateAge, modelState, modelVersion, modelAge, modelEvents, modelDrift, modelExcluded, modelAnswer, modelError, modelCoverage, modelServedCoverage, modelSeen];

  const readScheduler = async (loop: Pick<LoopClient, 'call'>): Promise<void> => {
    const signal = AbortSignal.timeout(SCRAPE_TIMEOUT_MS);
    const [status, { nodes }, model] = await Promise.all([loop.call('getStatus', {}, signal), loop.call('listNodes', {}, signal), loop.call('getModelStatus', {}, signal).catch(() => undefined)]); // a model that cannot be asked is no reason to know nothing
    for (const [event, value] of Object.entries(status.counters).slice(0, MAX_LABELS)) {
      const outcome = DELAY_OUTCOMES.get(event);
      if (outcome === undefined) events.inc({ event }, Math.max(0, value));
      else delay.inc({ outcome }, Math.max(0, value) / 1_000);
    }
    live.set(status.live);
    delaying.set({ for: 'locality' }, status.delayingForLocality);
    delaying.set({ for: 'capacity' }, status.delayingForCapacity);
    for (const [state, value] of Object.entries(status.states)) states.set({ state }, value);
    info.set({ version: status.version, policy: status.policy, predictor: status.predictor, engine: status.engine }, 1);
    for (const value of Object.values(NodeStatus)) if (value !== NodeStatus.UNSPECIFIED) nodeStatus.set({ status: statusLabel(value) }, 0);
    for (const node of nodes) nodeStatus.inc({ status: statusLabel(node.status) });
    for (const node of nodes.slice(0, MAX_LABELS)) {
      slots.set({ node: node.name }, node.slots);
      slotsUsed.set({ node: node.name }, node.slotsUsed);
      stateAge.set({ node: node.name }, node.stateAgeMs / 1_000);
    }
    if (model === undefined) return;
    modelState.set({ state: model.state }, 1);
    modelVersion.set(model.version);
    modelAge.set(model.publishedAtUnixMs === 0 ? 0 : Math.max(0, Date.now() - model.publishedAtUnixMs) / 1_000);
    for (const [event, value] of Object.entries(model.counters).slice(0, MAX_LABELS)) modelEvents.inc({ event }, Math.max(0, value));
    modelDrift.inc({ of: 'functions' }, model.driftEvents);
    modelDrift.inc({ of: 'nodes' }, model.nodeDriftEvents);
    for (const [reason, value] of Object.entries(model.excluded)) modelExcluded.inc({ reason }, value);
    modelAnswer.set({ quantile: '0.5' }, model.answerP50Ms / 1_000);
    modelAnswer.set({ quantile: '0.99' }, model.answerP99Ms / 1_000);
    for (const row of model.functions.slice(0, MAX_LABELS)) {
      modelSeen.set({ function: row.function }, row.observations);
      modelError.set({ function: row.function, quantile: '0.5' }, row.medianError);
      modelError.set({ function: row.function, quantile: '0.95' }, row.p95Error);
      modelServedCoverage.set({ function: row.function, quantile: '0.95' }, row.servedCoverageP95);
      modelServedCoverage.set({ function: row.function, quantile: '0.99' }, row.servedCoverageP99);
      if (row.forestObservations === 0) continue;
      modelCoverage.set({ function: row.function, quantile: '0.95' }, row.coverageP95);
      modelCoverage.set({ function: row.function, quantile: '0.99' }, row.coverageP99);
    }
  };

  return {
    invocations,
    grpcHandled(path, code) {
      const slash = path.lastIndexOf('/');
      grpcTotal.inc({ grpc_service: path.slice(1, slash), grpc_method: path.slice(slash + 1), grpc_code: GRPC_CODES[code] ?? 'UNKNOWN' });
    },
    httpHandled: (route, method, status) => httpTotal.inc({ route, method, status }),
    async render(loop) {
      // Set anew at every scrape: a node or a counter that went must not linger.
      for (const metric of perScrape) metric.reset();
      try {
        await readScheduler(loop);
        up.set(1);
      } catch {
        // A scheduler that does not answer is what this scrape has to report.
        for (const metric of perScrape) metric.reset();
        up.set(0);
      }
      inFlight.set(loop.inFlight);
      waitingCalls.set(loop.waitingCalls);
      return { contentType: registry.contentType, text: await registry.metrics() };
    },
    stop: () => registry.clear(),
  };
}

function statusLabel(status: NodeStatus): string {
  return nodeStatusToJSON(status).replace('NODE_STATUS_', '').toLowerCase();
}

function asMetric(metric: ExposedMetric): Metric {
  // The registry only uses name and get(), which is its documented way to collect from elsewhere.
  return metric as unknown as Metric;
}
