/**
 * The work in hand: takes submissions from the doors, gives them to the scheduler or to a workflow run, and brings back what
 * became of them: to a ticket of the gateway, to a workflow, to the store. Everything that lives ends here exactly once.
 */
import { MetronomeError, type ErrorRecord } from '../core/errors.ts';
import type { Invocation } from '../core/invocation.ts';
import type { GatewayMessage, LoopMessage, SettledItem, SubmitItem } from '../gateway/protocol.ts';
import type { LiveTrace, Tracing } from '../inspect/tracing.ts';
import type { MachineFlow } from '../../machines/flow.ts';
import { createMachineHost, type HostedMachine } from '../../machines/host.ts';
import { workflowMachine, type WorkflowEvent, type WorkflowLife, type WorkflowStateName } from '../../machines/workflow.ts';
import { InvocationState, InvokeRequest, Invocation as InvocationMessage, type InvokeResponse } from '../rpc/gen/metronome/v1/invoke.ts';
import type { WorkflowSpec } from '../rpc/gen/metronome/v1/workflow.ts';
import { toErrorDetail } from '../rpc/status.ts';
import type { Scheduler, Submission } from '../scheduler/scheduler.ts';
import type { Store, StoredInvocation } from '../store/store.ts';
import { placesOf } from '../workflow/graph.ts';
import { createStepTargets, type StepTargets } from '../workflow/step-targets.ts';
import { createWorkflowRun, type StepCall, type WorkflowOutcome, type WorkflowRun } from '../workflow/run.ts';
import { toInvocation, toResponse } from './messages.ts';
import type { Registry } from './registry.ts';
import type { Retention } from './retention.ts';

/** What the daemon carries along with an invocation. */
export interface Cargo {
  /** Ticket of the gateway; −1: none. */
  readonly ticket: number;
  payload: Uint8Array;
  readonly contentType: string;
  /** For the function: the caller's, or one below it when spans are made. */
  readonly traceparent: string;
  trace: LiveTrace | undefined;
  /** Step of this run, as this call. */
  run: Run | undefined;
  /** Id of that run, which stays when the run is forgotten; '': none. */
  readonly runId: string;
  readonly call: number;
  readonly step: string;
  /** Accepted asynchronously: its end is stored before it is acknowledged. */
  readonly durable: boolean;
  /** Key of the idempotency table; '': none. */
  readonly key: string;
}

/** A workflow run in hand. */
export interface Run {
  readonly id: string;
  readonly name: string;
  readonly ticket: number;
  readonly durable: boolean;
  readonly key: string;
  readonly arrivedAtMs: number;
  readonly slaMs: number;
  readonly trace: LiveTrace | undefined;
  readonly workflow: WorkflowRun;
  /** Stage and predecessors of each step. */
  readonly places: ReturnType<typeof placesOf>;
  readonly machine: HostedMachine<WorkflowEvent>;
  /** Invocation ids of the calls under way, by call. */
  readonly calls: Map<number, string>;
  readonly ended: InvocationMessage[];
  expiry: NodeJS.Timeout | undefined;
  cancelError: ErrorRecord | undefined;
  state: InvocationState;
}

/** A sync request under an idempotency key. */
interface Keyed {
  readonly atMs: number;
  readonly tickets: number[];
  id: string;
  settled: SettledItem | undefined;
}

export interface WorkOptions {
  readonly scheduler: Scheduler;
  readonly registry: Registry;
  readonly store: Store;
  readonly post: (message: LoopMessage) => void;
  readonly acknowledge: (node: number, id: string) => void;
  readonly retention: Retention;
  /** Undefined: nobody wants spans. */
  readonly tracing: Tracing | undefined;
  readonly nowMs: () => number;
  readonly idPrefix: string;
  readonly engine: 'table' | 'xstate';
  readonly rememberInvocations: number;
  readonly maxWorkflowRuns: number;
  readonly maxLive: number;
  readonly maxPayloadBytes: number;
  readonly log: { warn(fields: object, event: string): void; error(fields: object, event: string): void };
}

const STORE_RETRY_MS = 1_000;
const MAX_KEYS = 10_000;
const KEY_WINDOW_MS = 3_600_000;
/** Results up to this size are remembered with their invocation, bytes. */
const REMEMBERED_RESULT_BYTES = 16_384;
const NOTHING = new Uint8Array();
/** A run shows itself in the states of an invocation: whatever runs is dispatched. */
const RUN_STATES: Readonly<Record<WorkflowStateName, InvocationState>> = {
  running: InvocationState.DISPATCHED, cancelling: InvocationState.DISPATCHED, completed: InvocationState.COMPLETED, failed: InvocationState.FAILED, cancelled: InvocationState.CANCELLED, timedOut: InvocationState.TIMED_OUT,
};

export class Work {
  /** Ended invocations and runs, oldest first: what get, list and explain still know. */
  readonly remembered = new Map<string, Invocation | InvocationMessage>();
  readonly runs = new Map<string, Run>();
  /** How many workflow runs are in which state. */
  readonly flow: MachineFlow;
  readonly #o: WorkOptions;
  readonly #tickets = new Map<number, string>();
  readonly #keys = new Map<string, Keyed>();
  /** Asynchronous invocations of a former life on which recovery has not decided yet. */
  readonly recovering = new Set<string>();
  /** Asynchronous invocations that ended and whose end is on its way to the store: their agents must keep the results until then. */
  readonly storing = new Set<string>();
  readonly #waiting = new Map<string, Set<() => void>>();
  readonly #workflowMachines;
  readonly #targets = new WeakMap<WorkflowSpec, StepTargets>();
  #settled: SettledItem[] = [];
  #flushing = false;
  #asyncCount = 0;
  #runCount = 0;
  /** Asynchronous submissions on their way to the store. */
  #accepting = 0;

  constructor(options: WorkOptions) {
    this.#o = options;
    this.#workflowMachines = createMachineHost<WorkflowLife, WorkflowEvent>(workflowMachine, options.engine);
    this.flow = this.#workflowMachines.flow;
  }

  // ── in ────────────────────────────────────────────────────────────────────────────────────────────────────────

  /** A batch of submissions from the doors. */
  submit(items: Extract<GatewayMessage, { kind: 'submit' }>['items']): void {
    for (const item of items) {
      try {
        if (item.mode === 'async') this.#accept(item);
        else this.#start(item);
      } catch (error) {
        this.#settle({ ticket: item.ticket, error: MetronomeError.from(error).toRecord() });
      }
    }
  }

  #start(item: SubmitItem): void {
    let key = '';
    if (item.idempotencyKey !== '') {
      key = `${item.target}\n${item.idempotencyKey}`;
      const known = this.#keys.get(key);
      if (known !== undefined && (known.settled === undefined || this.#o.nowMs() - known.atMs < KEY_WINDOW_MS)) {
        if (known.settled !== undefined) this.#settle({ ...known.settled, ticket: item.ticket });
        else known.tickets.push(item.ticket);
        return;
      }
      this.#keys.delete(key);
      this.#keys.set(key, { atMs: this.#o.nowMs(), tickets: [], id: '', settled: undefined });
      // Only settled ones go: others wait for those in flight, and these are bounded by what may live.
      if (this.#keys.size > MAX_KEYS) for (const [oldest, { settled }] of this.#keys) {
        if (settled === undefined) continue;
        this.#keys.delete(oldest);
        break;
      }
    }
    try {
      const id = this.#begin(item, { ticket: item.ticket, durable: false, key }, undefined);
      if (this.#isAlive(id)) this.#tickets.set(item.ticket, id);
      const keyed = key === '' ? undefined : this.#keys.get(key);
      if (keyed !== undefined) keyed.id = id;
    } catch (error) {
      if (key !== '') this.#keys.delete(key);
      throw error;
    }
  }

  #isAlive(id: string): boolean {
    return this.#o.scheduler.live.has(id) || this.runs.has(id);
  }

  /** Gives a request to the scheduler or starts its run. Returns the id. */
  #begin(item: Omit<SubmitItem, 'mode' | 'ticket'>, owner: { ticket: number; durable: boolean; key: string }, id: string | undefined, attempt = 0): string {
    const { registry } = this.#o;
    const expiresAtMs = item.deadlineAtMs === 0 ? Infinity : item.deadlineAtMs;
    if (registry.workflows.has(item.target)) return this.#beginRun(item, owner, id).id;
    if (!registry.functions.has(item.target)) throw registry.unknown(item.target);
    const trace = this.#o.tracing?.begin({ name: item.target, kind: 'invocation', traceparent: item.traceparent, atMs: this.#o.nowMs(), trigger: owner.durable ? 'other' : 'http' });
    const cargo: Cargo = { ticket: owner.ticket, payload: item.payload, contentType: item.contentType, traceparent: trace?.traceparent ?? item.traceparent, trace, run: undefined, runId: '', call: 0, step: '', durable: owner.durable, key: owner.key };
    return this.#submit({
      functionName: item.target, slaMs: item.slaMs, expiresAtMs, inputs: item.inputs, localityKey: item.localityKey, policyName: item.policy, payloadBytes: item.payload.length, cargo,
      ...(id === undefined ? {} : { id, attempt }), ...(owner.durable ? { patient: true } : {}),
    }, trace).id;
  }

  /** Submits; what the scheduler refuses has a span that ends here. */
  #submit(submission: Submission, trace: LiveTrace | undefined): Invocation {
    try {
      return this.#o.scheduler.submit(submission);
    } catch (error) {
      if (trace !== undefined) this.#o.tracing?.end(trace, '', MetronomeError.from(error).toRecord(), this.#o.nowMs());
      throw error;
    }
  }

  // ── workflows ─────────────────────────────────────────────────────────────────────────────────────────────────

  #beginRun(item: Omit<SubmitItem, 'mode' | 'ticket'>, owner: { ticket: number; durable: boolean; key: string }, givenId: string | undefined): Run {
    const { scheduler, registry, nowMs, maxWorkflowRuns } = this.#o;
    const spec = registry.workflows.get(item.target)?.spec;
    if (spec === undefined) throw registry.unknown(item.target);
    if (scheduler.isDraining && !owner.durable) throw new MetronomeError('DRAINING', 'The scheduler is shutting down and takes no new work.', { component: 'scheduler' });
    if (!owner.durable && this.runs.size >= maxWorkflowRuns) throw new MetronomeError('QUEUE_FULL', `${this.runs.size} workflow runs live already (limits.maxWorkflowRuns).`, { component: 'scheduler', retryAfterMs: 1_000 });
    if (!owner.durable && !scheduler.cluster.hasHope()) throw new MetronomeError('NO_NODES', 'No node is ready. `metronome node list` shows what the scheduler knows.', { component: 'scheduler', retryAfterMs: 1_000 });
    const arrivedAtMs = nowMs();
    const id = givenId ?? `${this.#o.idPrefix}w${(this.#runCount++).toString(36).padStart(5, '0')}`;
    const limitAtMs = arrivedAtMs + spec.timeoutMs;
    const deadlineAtMs = item.deadlineAtMs === 0 ? limitAtMs : Math.min(limitAtMs, item.deadlineAtMs);
    const slaMs = item.slaMs > 0 ? item.slaMs : spec.slaMs;
    const run: Run = {
      id, name: spec.name, ticket: owner.ticket, durable: owner.durable, key: owner.key, arrivedAtMs, slaMs,
      trace: this.#o.tracing?.begin({ name: spec.name, kind: 'run', traceparent: item.traceparent, atMs: arrivedAtMs, trigger: owner.durable ? 'other' : 'http' }), calls: new Map(), ended: [], expiry: undefined, cancelError: undefined, state: InvocationState.DISPATCHED,
      machine: this.#workflowMachines.start({ cause: '', entered: (state) => void (run.state = RUN_STATES[state]) }),
      places: placesOf(spec.steps),
      workflow: createWorkflowRun({
        id, spec, payload: item.payload, contentType: item.contentType, inputs: item.inputs.slice(), slaMs, targets: this.#targetsOf(spec), arrivedAtMs, deadlineAtMs, nowMs, maxPayloadBytes: this.#o.maxPayloadBytes,
        submit: (call) => this.#callStep(run, call, item),
        cancelCall: (call) => {
          const called = run.calls.get(call);
          if (called !== undefined) scheduler.cancel(called, run.cancelError ?? { code: 'CANCELLED', message: `The workflow run ${id} ended before this step did.`, component: 'scheduler', invocationId: called });
        },
        onUnneeded: (objects) => this.#o.retention.unneeded(id, objects),
        onEnd: (outcome) => this.#endRun(run, outcome),
      }),
    };
    this.runs.set(id, run);
    this.#o.retention.begin(id, item.inputs);
    run.expiry = setTimeout(() => this.#cancelRun(run, { code: 'DEADLINE_EXCEEDED', message: `The workflow "${spec.name}" did not end in time.`, component: 'scheduler', invocationId: id }), Math.max(0, deadlineAtMs - arrivedAtMs));
    if (!owner.durable) run.workflow.start();
    else {
      // Noted before anything runs: after a crash a run that may have begun is not simply begun again.
      this.#o.store.markDispatched(id, 'steps', 0, 1).then(
        (noted) => noted && run.workflow.start(),
        (error: unknown) => {
          this.#o.log.error({ err: error, id }, 'store.markDispatched.failed');
          this.#cancelRun(run, MetronomeError.from(error).toRecord());
        },
      );
    }
    return run;
  }

  /** What a workflow's steps leave each other. A workflow that is applied anew learns anew. */
  #targetsOf(spec: WorkflowSpec): StepTargets {
    let targets = this.#targets.get(spec);
    if (targets === undefined) this.#targets.set(spec, (targets = createStepTargets(spec.steps)));
    return targets;
  }

  #callStep(run: Run, call: StepCall, item: Pick<SubmitItem, 'localityKey' | 'policy' | 'traceparent'>): void {
    const trace = this.#o.tracing?.begin({ name: call.function, kind: 'step', traceparent: item.traceparent, parent: run.trace, atMs: this.#o.nowMs(), trigger: 'other' });
    const cargo: Cargo = { ticket: -1, payload: call.payload, contentType: call.contentType, traceparent: trace?.traceparent ?? item.traceparent, trace, run, runId: run.id, call: call.call, step: call.label, durable: false, key: '' };
    try {
      const { id } = this.#submit({
        functionName: call.function, slaMs: call.slaMs, expiresAtMs: call.deadlineAtMs === 0 ? Infinity : call.deadlineAtMs, inputs: call.inputs,
        localityKey: item.localityKey, policyName: item.policy, payloadBytes: call.payload.length, place: { stage: 0, predecessors: 0, ...run.places.get(call.step), fanOut: call.count }, patient: true, cargo,
      }, trace);
      if (this.#o.scheduler.live.has(id)) run.calls.set(call.call, id);
    } catch (error) {
      // Not within the run's own start: it is still collecting calls.
      queueMicrotask(() => run.workflow.stepFailed(call.call, MetronomeError.from(error).toRecord()));
    }
  }

  #cancelRun(run: Run, error: ErrorRecord): void {
    run.cancelError ??= error;
    run.machine.send({ type: error.code === 'CANCELLED' ? 'CANCEL' : 'EXPIRE' });
    run.workflow.cancel();
  }

  #endRun(run: Run, outcome: WorkflowOutcome): void {
    clearTimeout(run.expiry);
    this.runs.delete(run.id);
    this.#o.retention.end(run.id);
    const now = this.#o.nowMs();
    const error: ErrorRecord | undefined = outcome.kind === 'completed' ? undefined : outcome.kind === 'failed' ? (run.cancelError ?? outcome.error) : (run.cancelError ?? { code: 'CANCELLED', message: 'The workflow run was cancelled.', component: 'scheduler', invocationId: run.id });
    if (outcome.kind === 'completed') run.machine.send({ type: 'STEPS_COMPLETED' });
    else {
      if (outcome.kind === 'failed') run.machine.send({ type: 'STEP_FAILED', error: outcome.error });
      run.machine.send({ type: 'CALLS_ENDED' });
    }
    const message = this.runMessage(run, now);
    message.endedAtUnixMs = now;
    if (outcome.kind === 'completed') {
      message.response = {
        invocationId: run.id, payload: outcome.payload as Buffer, contentType: outcome.contentType, outputs: outcome.outputs.slice(), node: '', locality: undefined, phases: message.phases, attempt: 1, logs: undefined, reason: 'completed',
        steps: run.ended,
      };
    } else if (error !== undefined) message.error = toErrorDetail({ ...error, invocationId: run.id });
    if (run.trace !== undefined) this.#o.tracing?.end(run.trace, run.id, error, now, { 'metronome.sla_ms': run.slaMs, 'metronome.steps': run.ended.length });
    this.#deliver(run.ticket, run.key, message.response, error === undefined ? undefined : { ...error, invocationId: run.id });
    if (run.durable) this.#storeEnd(run.id, message, () => {});
    if (message.response !== undefined) message.response = { ...message.response, steps: [], ...(message.response.payload.length > REMEMBERED_RESULT_BYTES ? { payload: Buffer.alloc(0) } : {}) };
    this.#remember(run.id, message);
  }

  /** A run as the API shows it. */
  runMessage(run: Run, nowMs: number): InvocationMessage {
    const message = InvocationMessage.fromPartial({ id: run.id, function: run.name, state: run.state, reason: run.workflow.hasEnded ? 'completed' : 'started', attempt: 1, arrivedAtUnixMs: run.arrivedAtMs, slaMs: run.slaMs, isWorkflow: true });
    let fetchedMs = 0, initialisedMs = 0, installedMs = 0, startedMs = 0, loadedMs = 0, ranMs = 0, queuedMs = 0, delayedMs = 0, fetchedBytes = 0;
    for (const { phases } of run.ended) {
      if (phases === undefined) continue;
      fetchedMs += phases.fetchedMs;
      initialisedMs += phases.initialisedMs;
      installedMs += phases.installedMs;
      startedMs += phases.startedMs;
      loadedMs += phases.loadedMs;
      ranMs += phases.ranMs;
      queuedMs += phases.queuedMs;
      delayedMs += phases.delayedMs;
      fetchedBytes += phases.fetchedBytes;
    }
    // Sums over the steps; only the total is the run's own.
    message.phases = { predictedMs: 0, queuedMs, delayedMs, dispatchedMs: 0, fetchedMs, initialisedMs, installedMs, startedMs, loadedMs, ranMs, totalMs: nowMs - run.arrivedAtMs, startState: 0, fetchedBytes };
    return message;
  }

  // ── asynchronous ──────────────────────────────────────────────────────────────────────────────────────────────

  #accept(item: SubmitItem): void {
    const { scheduler, registry, store, nowMs } = this.#o;
    const kind = registry.kindOf(item.target);
    if (scheduler.isDraining) throw new MetronomeError('DRAINING', 'The scheduler is shutting down and takes no new work.', { component: 'scheduler' });
    if (scheduler.live.size + this.#accepting >= this.#o.maxLive) throw new MetronomeError('QUEUE_FULL', `${scheduler.live.size} invocations live already (limits.maxLive); try again later.`, { component: 'scheduler', retryAfterMs: 1_000 });
    if (kind === 'workflow' && this.runs.size + this.#accepting >= this.#o.maxWorkflowRuns) throw new MetronomeError('QUEUE_FULL', `${this.runs.size} workflow runs live already (limits.maxWorkflowRuns).`, { component: 'scheduler', retryAfterMs: 1_000 });
    const id = `${this.#o.idPrefix}a${(this.#asyncCount++).toString(36).padStart(5, '0')}`;
    const idempotent = kind === 'function' ? registry.functions.get(item.target)?.spec?.idempotent === true : (registry.workflows.get(item.target)?.spec?.steps.every((step) => registry.functions.get(step.function)?.spec?.idempotent === true) ?? false);
    const request = InvokeRequest.encode(InvokeRequest.fromPartial({
      function: item.target, payload: Buffer.from(item.payload), contentType: item.contentType, inputs: item.inputs.slice(), slaMs: item.slaMs, localityKey: item.localityKey, policy: item.policy, traceparent: item.traceparent,
    })).finish();
    this.#accepting++;
    store
      .acceptInvocation({ id, target: item.target, kind, idempotent, request: Uint8Array.from(request), acceptedAtMs: nowMs(), deadlineAtMs: item.deadlineAtMs, idempotencyKey: item.idempotencyKey })
      .then(
        ({ duplicateOf }) => {
          this.#accepting--;
          this.#o.post({ kind: 'accepted', items: [{ ticket: item.ticket, invocationId: duplicateOf ?? id }] });
          if (duplicateOf === undefined) this.#beginDurable(id, item);
        },
        (error: unknown) => {
          this.#accepting--;
          this.#settle({ ticket: item.ticket, error: MetronomeError.from(error).toRecord() });
        },
      );
  }

  #beginDurable(id: string, item: Omit<SubmitItem, 'mode' | 'ticket'>, attempt = 0): void {
    try {
      this.#begin(item, { ticket: -1, durable: true, key: '' }, id, attempt);
    } catch (error) {
      this.#endDurable(id, item.target, MetronomeError.from(error).toRecord());
    }
  }

  #endDurable(id: string, target: string, error: ErrorRecord): void {
    const now = this.#o.nowMs();
    const message = InvocationMessage.fromPartial({ id, function: target, state: InvocationState.FAILED, reason: 'platformFailed', endedAtUnixMs: now, arrivedAtUnixMs: now, error: toErrorDetail({ ...error, invocationId: id }) });
    this.#storeEnd(id, message, () => {});
    this.#remember(id, message);
  }

  #storeEnd(id: string, message: InvocationMessage, then: () => void): void {
    this.storing.add(id);
    const bytes = Uint8Array.from(InvocationMessage.encode(message).finish());
    const endedAtMs = this.#o.nowMs();
    const attempt = (): void => {
      this.#o.store.endInvocation(id, bytes, endedAtMs).then(
        () => {
          this.storing.delete(id);
          then();
        },
        (error: unknown) => {
          this.#o.log.error({ err: error, id }, 'store.endInvocation.failed');
          // A disk that is full may have room again; until then the agent keeps the result.
          if (MetronomeError.from(error).code !== 'DRAINING') setTimeout(attempt, STORE_RETRY_MS).unref();
        },
      );
    };
    attempt();
  }

  /** Takes up again what was accepted before a restart; its next attempt is the one after `row.attempt`. */
  resume(row: StoredInvocation): void {
    this.#beginDurable(row.id, requestOf(row), row.attempt);
  }

  /** Takes back what an agent still runs, or has ended and tells again after its snapshot. False: the agent does not have it. */
  adopt(row: StoredInvocation, node: number): boolean {
    const item = requestOf(row);
    const cargo: Cargo = { ticket: -1, payload: NOTHING, contentType: '', traceparent: '', trace: undefined, run: undefined, runId: '', call: 0, step: '', durable: true, key: '' };
    return this.#o.scheduler.adopt({ functionName: row.target, slaMs: item.slaMs, expiresAtMs: row.deadlineAtMs === 0 ? Infinity : row.deadlineAtMs, inputs: item.inputs, localityKey: '', policyName: '', id: row.id, cargo }, node, row.attempt) !== undefined;
  }

  /** It may have run and must not run twice. */
  interrupt(row: StoredInvocation): void {
    this.#endDurable(row.id, row.target, { code: 'INTERRUPTED', message: `"${row.target}" was sent to "${row.node}" before a restart and may have run there; it is not idempotent, so it was not run again.`, component: 'scheduler', invocationId: row.id });
  }

  // ── out ───────────────────────────────────────────────────────────────────────────────────────────────────────

  /** An invocation of the scheduler ended. */
  settled(invocation: Invocation): void {
    const { scheduler } = this.#o;
    const cargo = invocation.cargo as Cargo; // all invocations here carry it
    const node = invocation.node;
    cargo.payload = NOTHING;
    cargo.trace = undefined;
    const response = invocation.error === undefined ? toResponse(invocation, scheduler.cluster) : undefined;
    const { run } = cargo;
    if (run !== undefined) {
      run.calls.delete(cargo.call);
      if (response !== undefined) this.#o.retention.produced(run.id, response.outputs);
      // Remembered steps must not keep the whole run with all its payloads.
      cargo.run = undefined;
      run.ended.push(toInvocation(invocation, scheduler.cluster, invocation.endedAtMs, { runId: run.id, step: cargo.step }, false));
      // Not now: the scheduler is in the middle of an event, and the run submits its next calls.
      queueMicrotask(() => {
        if (response !== undefined) run.workflow.stepCompleted(cargo.call, response, invocation.delayedMs);
        else if (invocation.error !== undefined) run.workflow.stepFailed(cargo.call, invocation.error);
      });
    } else this.#deliver(cargo.ticket, cargo.key, response, invocation.error === undefined ? undefined : withFacts(invocation));
    if (cargo.durable) this.#storeEnd(invocation.id, toInvocation(invocation, scheduler.cluster, invocation.endedAtMs, { runId: '', step: '' }, true), () => node >= 0 && this.#o.acknowledge(node, invocation.id));
    else if (node >= 0) this.#o.acknowledge(node, invocation.id);
    if (invocation.result !== undefined && invocation.result.payload.length > REMEMBERED_RESULT_BYTES) invocation.result = { ...invocation.result, payload: NOTHING };
    this.#remember(invocation.id, invocation);
  }

  #deliver(ticket: number, key: string, response: InvokeResponse | undefined, error: ErrorRecord | undefined): void {
    if (ticket >= 0) {
      this.#tickets.delete(ticket);
      this.#settle(response !== undefined ? { ticket, response } : { ticket, error: error as ErrorRecord });
    }
    const keyed = key === '' ? undefined : this.#keys.get(key);
    if (keyed === undefined) return;
    const settled: SettledItem = response !== undefined ? { ticket: -1, response } : { ticket: -1, error: error as ErrorRecord };
    for (const other of keyed.tickets) this.#settle({ ...settled, ticket: other });
    keyed.tickets.length = 0;
    // A failure that a retry may mend is not remembered: the next request with this key tries again.
    if (response === undefined) this.#keys.delete(key);
    else keyed.settled = settled;
  }

  #settle(item: SettledItem): void {
    this.#settled.push(item);
    if (this.#flushing) return;
    this.#flushing = true;
    // Once per turn of the loop: waking the gateway costs more than a decision.
    setImmediate(() => {
      this.#flushing = false;
      const items = this.#settled;
      this.#settled = [];
      this.#o.post({ kind: 'settled', items });
    });
  }

  #remember(id: string, ended: Invocation | InvocationMessage): void {
    this.remembered.set(id, ended);
    if (this.remembered.size > this.#o.rememberInvocations) for (const oldest of this.remembered.keys()) {
      this.remembered.delete(oldest);
      break;
    }
    const waiting = this.#waiting.get(id);
    if (waiting === undefined) return;
    this.#waiting.delete(id);
    for (const wake of waiting) wake();
  }

  // ── looking and cancelling ────────────────────────────────────────────────────────────────────────────────────

  /** One invocation or run with its result, or undefined. */
  find(id: string, withResult: boolean): InvocationMessage | undefined {
    const { scheduler, nowMs } = this.#o;
    const run = this.runs.get(id);
    if (run !== undefined) return this.runMessage(run, nowMs());
    const found = scheduler.live.get(id) ?? this.remembered.get(id);
    if (found === undefined) return undefined;
    return this.#message(found, withResult);
  }

  /** The workflow run that an invocation is a step of; '' if it is none. */
  runOf(id: string): string {
    const found = this.#o.scheduler.live.get(id) ?? this.remembered.get(id);
    return found !== undefined && 'host' in found ? (found.cargo as Cargo).runId : '';
  }

  #message(found: Invocation | InvocationMessage, withResult: boolean): InvocationMessage {
    if (!('host' in found)) return withResult ? found : { ...found, response: undefined };
    const cargo = found.cargo as Cargo; // all invocations here carry it
    return toInvocation(found, this.#o.scheduler.cluster, this.#o.nowMs(), { runId: cargo.runId, step: cargo.step }, withResult);
  }

  /** Newest first. */
  list(functionName: string, state: number, limit: number): InvocationMessage[] {
    const found: InvocationMessage[] = [];
    const take = (items: readonly (Invocation | InvocationMessage)[]): void => {
      for (let i = items.length - 1; i >= 0 && found.length < limit; i--) {
        const item = items[i]!;
        const name = 'host' in item ? item.functionName : item.function;
        if ((functionName === '' || name === functionName) && (state === 0 || item.state === state)) found.push(this.#message(item, false));
      }
    };
    take([...this.runs.values()].map((run) => this.runMessage(run, this.#o.nowMs())));
    take([...this.#o.scheduler.live.values()]);
    take([...this.remembered.values()]);
    return found.sort((a, b) => b.arrivedAtUnixMs - a.arrivedAtUnixMs);
  }

  /** Resolves when it ended, or after `waitMs`. */
  async waitForEnd(id: string, waitMs: number): Promise<void> {
    if (waitMs <= 0 || (!this.#isAlive(id) && !this.recovering.has(id))) return;
    const { promise, resolve } = Promise.withResolvers<void>();
    const waiting = this.#waiting.get(id) ?? new Set();
    this.#waiting.set(id, waiting);
    waiting.add(resolve);
    const timer = setTimeout(resolve, waitMs);
    await promise;
    clearTimeout(timer);
    waiting.delete(resolve);
    if (waiting.size === 0) this.#waiting.delete(id);
  }

  /** Cancels an invocation or a run. False if there is no such living one. */
  cancel(id: string, why: string): boolean {
    const run = this.runs.get(id);
    if (run === undefined) return this.#o.scheduler.cancel(id, { code: 'CANCELLED', message: why, component: 'scheduler', invocationId: id });
    this.#cancelRun(run, { code: 'CANCELLED', message: why, component: 'scheduler', invocationId: id });
    return true;
  }

  /** The callers of these tickets went away. Requests that share a key with others go on. */
  cancelTickets(tickets: readonly number[]): void {
    for (const ticket of tickets) {
      const id = this.#tickets.get(ticket);
      if (id === undefined) continue;
      const live = this.#o.scheduler.live.get(id);
      const key = live !== undefined ? (live.cargo as Cargo).key : (this.runs.get(id)?.key ?? '');
      if (key !== '' && (this.#keys.get(key)?.tickets.length ?? 0) > 0) continue;
      this.cancel(id, 'The caller cancelled it or went away.');
    }
  }

  /** Invocations and runs that have not ended. */
  get inHand(): number {
    return this.#o.scheduler.live.size + this.runs.size + this.#accepting;
  }
}

function requestOf(row: StoredInvocation): Omit<SubmitItem, 'mode' | 'ticket'> {
  const request = InvokeRequest.decode(row.request);
  return {
    target: row.target, payload: Uint8Array.from(request.payload), contentType: request.contentType, inputs: request.inputs, idempotencyKey: row.idempotencyKey, slaMs: request.slaMs,
    deadlineAtMs: row.deadlineAtMs, localityKey: request.localityKey, policy: request.policy, traceparent: request.traceparent,
  };
}

/** The error with its invocation and what the function wrote. */
function withFacts(invocation: Invocation): ErrorRecord {
  const error = invocation.error as ErrorRecord;
  const logs = error.logs ?? invocation.result?.logs;
  return { ...error, invocationId: invocation.id, ...(logs === undefined ? {} : { logs }) };
}
