/** From the loop's records to the messages of the API. The only place that knows both. */
import { INVOCATION_STATES, isTerminal, type Invocation } from '../core/invocation.ts';
import type { Candidates, Decision } from '../policy/policy.ts';
import { LocalityClass, type Locality, type ObjectRef, type Phases, type StartState } from '../rpc/gen/metronome/v1/common.ts';
import { DecisionAction, type Candidate, type Decision as DecisionMessage } from '../rpc/gen/metronome/v1/inspect.ts';
import type { Invocation as InvocationMessage, InvocationState, InvokeResponse, Transition } from '../rpc/gen/metronome/v1/invoke.ts';
import { NodeMetrics } from '../rpc/gen/metronome/v1/agent.ts';
import type { Node, NodeStatus } from '../rpc/gen/metronome/v1/node.ts';
import { toErrorDetail } from '../rpc/status.ts';
import { SOURCES } from '../predictor/predictor.ts';
import { TOLD_METRICS, type ClusterView } from '../scheduler/cluster-view.ts';
import type { CandidateRecord, DecisionRecord } from '../scheduler/decision-ring.ts';
import type { FunctionTable } from '../scheduler/function-table.ts';
import type { TransitionRecord } from '../inspect/transition-ring.ts';

const EMPTY = Buffer.alloc(0);

/** A deadline of the loop as the API writes it: 0 for none. */
const finiteOr0 = (value: number): number => (Number.isFinite(value) ? value : 0);

function toLocality(invocation: Invocation): Locality {
  return {
    class: invocation.localClass === 1 ? LocalityClass.LOCAL : invocation.localClass === 2 ? LocalityClass.FALLBACK : LocalityClass.UNSPECIFIED,
    degree: invocation.degree,
    data: invocation.degreeData,
    infrastructure: invocation.degreeInfrastructure,
  };
}

/** Where the time went. `dispatched`: what the streams, the network and the agent took, both ways. */
export function toPhases(invocation: Invocation, nowMs: number): Phases {
  const { result } = invocation;
  const ended = isTerminal(invocation.state) ? invocation.endedAtMs : nowMs;
  const worked = result === undefined ? 0 : result.fetchedMs + result.initialisedMs + result.ranMs;
  // Time spent in the present state is not booked yet.
  const waiting = invocation.state === 3 ? nowMs - invocation.enteredAtMs : 0;
  return {
    predictedMs: invocation.predictedMs,
    queuedMs: invocation.queuedMs + (invocation.delayingFor === 'capacity' ? waiting : 0),
    delayedMs: invocation.delayedMs + (invocation.delayingFor === 'locality' ? waiting : 0),
    dispatchedMs: result === undefined || invocation.dispatchedAtMs === 0 ? 0 : Math.max(0, ended - invocation.dispatchedAtMs - worked),
    fetchedMs: result?.fetchedMs ?? 0,
    initialisedMs: result?.initialisedMs ?? 0,
    installedMs: result?.installedMs ?? 0,
    startedMs: result?.startedMs ?? 0,
    loadedMs: result?.loadedMs ?? 0,
    ranMs: result?.ranMs ?? 0,
    totalMs: ended - invocation.arrivedAtMs,
    startState: invocation.startState as StartState, // same numbers
    fetchedBytes: result?.fetchedBytes ?? 0,
  };
}

/** The reply to a completed invocation. */
export function toResponse(invocation: Invocation, cluster: ClusterView): InvokeResponse {
  const result = invocation.result;
  return {
    invocationId: invocation.id,
    payload: (result?.payload ?? EMPTY) as Buffer, // bytes are bytes on the other side of the line
    contentType: result?.contentType ?? '',
    outputs: (result?.outputs ?? []) as ObjectRef[], // never changed after this
    node: cluster.name(invocation.node),
    locality: toLocality(invocation),
    phases: toPhases(invocation, invocation.endedAtMs),
    attempt: invocation.attempt,
    logs: result?.logs,
    reason: invocation.placedBecause,
    steps: [],
  };
}

/** What the daemon knows of an invocation beside the scheduler's record. */
export interface InvocationFacts {
  readonly runId: string;
  readonly step: string;
}

/** One invocation for get, list and workflow results. */
export function toInvocation(invocation: Invocation, cluster: ClusterView, nowMs: number, facts: InvocationFacts, withResult: boolean): InvocationMessage {
  return {
    id: invocation.id,
    function: invocation.functionName,
    state: invocation.state as InvocationState, // same numbers
    delayingFor: invocation.delayingFor,
    reason: invocation.reason,
    node: cluster.name(invocation.node >= 0 ? invocation.node : invocation.target),
    locality: toLocality(invocation),
    phases: toPhases(invocation, nowMs),
    attempt: invocation.attempt,
    arrivedAtUnixMs: invocation.arrivedAtMs,
    endedAtUnixMs: invocation.endedAtMs,
    slaMs: invocation.slaMs,
    predictedMs: invocation.predictedRunMs,
    response: withResult && invocation.state === INVOCATION_STATES.indexOf('completed') ? toResponse(invocation, cluster) : undefined,
    error: invocation.error === undefined ? undefined : toErrorDetail(invocation.error),
    workflowRunId: facts.runId,
    step: facts.step,
    isWorkflow: false,
    policy: invocation.decidedBy,
  };
}

/** One transition. */
export function toTransition(record: TransitionRecord, cluster: ClusterView): Transition {
  return {
    invocationId: record.id,
    function: record.functionName,
    from: record.from as InvocationState, // same numbers
    to: record.to as InvocationState,
    event: record.event,
    reason: record.reason,
    node: cluster.name(record.node),
    atUnixMs: record.atMs,
    delayingFor: record.delayingFor,
  };
}

function toCandidate(record: CandidateRecord, cluster: ClusterView): Candidate {
  return {
    node: cluster.name(record.node),
    locality: { class: record.local ? LocalityClass.LOCAL : LocalityClass.FALLBACK, degree: record.degree, data: record.degreeData, infrastructure: record.degreeInfrastructure },
    predictedMs: record.predictedMs,
    spreadMs: record.spreadMs,
    expectedWaitMs: finiteOr0(record.waitMs),
    room: record.room,
    load: record.load,
    startState: record.startState as StartState, // same numbers
    missingBytes: Math.max(0, record.missingBytes),
    p95Ms: record.p95Ms,
    p99Ms: record.p99Ms,
    source: SOURCES[record.source] ?? '',
    zygoteDistance: record.zygoteDistance,
  };
}

/** One decision, with its outcome if it was the one that counted. */
export function toDecision(record: DecisionRecord, cluster: ClusterView, localityThreshold: number): DecisionMessage {
  const { invocation } = record;
  const { result } = invocation;
  const counted = record.action === 'dispatch' && record.node === invocation.node && result !== undefined && result.error === undefined;
  return {
    atUnixMs: record.atMs,
    policy: record.policy,
    action: record.action === 'dispatch' ? DecisionAction.DISPATCH : DecisionAction.DELAY,
    node: cluster.name(record.node),
    reason: record.reason,
    slackMs: finiteOr0(record.slackMs),
    deadlineUnixMs: finiteOr0(record.deadlineMs),
    waitedMs: record.atMs - invocation.arrivedAtMs,
    candidates: record.candidates.map((candidate) => toCandidate(candidate, cluster)),
    candidatesInAll: record.candidatesInAll,
    localityThreshold,
    predictedMs: record.predictedMs,
    measuredMs: counted ? result.fetchedMs + result.initialisedMs + result.ranMs : 0,
  };
}

/** A decision that was only planned: the table is read at once. */
export function toPlan(policy: string, decision: Decision, candidates: Candidates, cluster: ClusterView, nowMs: number, localityThreshold: number): DecisionMessage {
  const records: CandidateRecord[] = [];
  for (let row = 0; row < candidates.count; row++) {
    const node = candidates.node[row] as number;
    const n = (column: { readonly [at: number]: number | undefined }): number => column[row] ?? 0;
    records.push({
      node, local: n(candidates.local) === 1, degree: n(candidates.degree), degreeData: n(candidates.degreeData), degreeInfrastructure: n(candidates.degreeInfrastructure),
      predictedMs: n(candidates.meanMs), spreadMs: n(candidates.spreadMs), p95Ms: n(candidates.p95Ms), p99Ms: n(candidates.p99Ms), source: n(candidates.source), waitMs: cluster.expectedWaitMs(node, nowMs), room: n(candidates.room), load: n(candidates.load),
      startState: n(candidates.startState), zygoteDistance: n(candidates.zygoteDistance), missingBytes: n(candidates.missingBytes),
    });
  }
  const chosen = decision.row < 0 ? undefined : records[decision.row];
  return {
    atUnixMs: nowMs,
    policy,
    action: decision.action === 'dispatch' ? DecisionAction.DISPATCH : DecisionAction.DELAY,
    node: chosen === undefined ? '' : cluster.name(chosen.node),
    reason: decision.reason,
    slackMs: finiteOr0(decision.slackMs),
    deadlineUnixMs: finiteOr0(decision.deadlineMs),
    waitedMs: 0,
    candidates: records.sort((a, b) => a.predictedMs - b.predictedMs).slice(0, 16).map((record) => toCandidate(record, cluster)),
    candidatesInAll: candidates.count,
    localityThreshold,
    predictedMs: chosen?.predictedMs ?? 0,
    measuredMs: 0,
  };
}

/** One node. */
export function toNode(node: number, cluster: ClusterView, functions: FunctionTable, waiting: number, nowMs: number): Node {
  const info = cluster.info[node];
  const sentAtMs = cluster.sentAtMs(node);
  const metrics = NodeMetrics.fromPartial({});
  for (const name of TOLD_METRICS) metrics[name] = cluster.metric(node, name);
  return {
    name: info?.name ?? '',
    status: cluster.status[node] as NodeStatus, // same numbers
    address: info?.address ?? '',
    dataUrl: info?.dataUrl ?? '',
    slots: cluster.slots[node] ?? 0,
    slotsUsed: cluster.used[node] ?? 0,
    waiting,
    stateAgeMs: sentAtMs === 0 ? 0 : Math.max(0, nowMs - sentAtMs),
    metrics,
    warm: [...functions.onNode(node)]
      .filter((entry) => !entry.deleted && entry.idle(node) + entry.busy(node) > 0)
      .map((entry) => ({ function: entry.settings.name, version: entry.settings.version, idle: entry.idle(node), busy: entry.busy(node) })),
    objects: cluster.objectCount[node] ?? 0,
    objectBytes: metrics.objectBytes,
    repairs: cluster.repairs[node] ?? 0,
    epoch: info?.epoch ?? 0,
    labels: { ...info?.labels },
    isolation: [...(info?.isolation ?? [])],
    roundTripMs: cluster.metric(node, 'roundTripMs'),
  };
}
