/**
 * Applications in the simulator: whole executions of workflows on virtual nodes. Which calls are made with which inputs is said by the daemon's own
 * workflow run (src/workflow/run.ts), where they run by its scheduler; so an execution has the steps, the hand-over of objects and the localities of a
 * real one. Deterministic; an execution costs the same under every policy.
 */
import { COMPLETED, type InputObject, type Invocation } from '../core/invocation.ts';
import type { WorkflowSpec } from '../rpc/gen/metronome/v1/workflow.ts';
import { placesOf } from '../workflow/graph.ts';
import { createStepTargets, type StepTargets } from '../workflow/step-targets.ts';
import { createWorkflowRun, type StepCall, type WorkflowRun } from '../workflow/run.ts';
import { drawCosts, type FunctionProfile } from './profiles.ts';
import { Simulation, type SchedulerParameters, type SimulationOptions } from './simulation.ts';
import type { VirtualNodeOptions } from './virtual-node.ts';

/** A function of an application. */
export interface ApplicationFunction {
  readonly name: string;
  readonly memoryMb: number;
  readonly slaMs: number;
  readonly timeoutMs: number;
  /** User-facing. @default false */
  readonly critical?: boolean;
  /** Functions of a copy with the same packages share what is installed; copies belong to different owners, with packages of their own. */
  readonly packageSet: string;
  readonly profile: FunctionProfile;
}

/** An application as the simulator knows it. Plain data. */
export interface ApplicationModel {
  readonly name: string;
  readonly workflow: WorkflowSpec;
  readonly functions: readonly ApplicationFunction[];
}

/** The cluster on which they run. */
export interface SimulatedCluster {
  readonly nodes: number;
  readonly node: VirtualNodeOptions;
  /** Each link, either direction, bytes per ms. */
  readonly bytesPerMs: number;
  /** One machine under all nodes. @default each has its own */
  readonly host?: NonNullable<SimulationOptions['host']>;
  /** A message between scheduler and node, one way, ms. @default 0.5 */
  readonly messageMs?: number;
  /** Until the first byte of a transfer, ms. @default 0.5 */
  readonly latencyMs?: number;
  /** Whether all packages are on all nodes from the beginning. @default false */
  readonly installed?: boolean;
  /** What a request takes on its way to the scheduler and back, ms. @default 1 */
  readonly requestMs?: number;
}

/** An input that lies in the cluster from the beginning. */
export interface SimulatedInput {
  readonly bytes: number;
  /** Index of the node that has it at first. */
  readonly node: number;
  /** By function: calls of executions on it take so many times as long as their profiles say of its size. @default 1 */
  readonly factors?: Readonly<Record<string, number>>;
}

/** One execution: which owner's copy of which application, on which input. */
export interface SimulatedRequest {
  readonly application: string;
  readonly copy: number;
  /** Place in `inputs`. */
  readonly input: number;
  /** When it comes, ms since the start; only without clients in closed loops. */
  readonly atMs?: number;
}

/** What is simulated. */
export interface ApplicationsOptions {
  readonly seed: number;
  readonly policy: string;
  readonly scheduler?: SchedulerParameters;
  /** @default moving averages */
  readonly predictor?: SimulationOptions['predictor'] | undefined;
  readonly cluster: SimulatedCluster;
  readonly applications: readonly ApplicationModel[];
  /** Copies of each application under names of their own, from 0. */
  readonly copies: number;
  readonly inputs: readonly SimulatedInput[];
  /** In order. */
  readonly requests: readonly SimulatedRequest[];
  /** The first so many are not told. */
  readonly warmUp: number;
  /** Clients that each wait for the end of an execution before the next; 0: every request comes at its `atMs`. */
  readonly concurrency: number;
  /** Experiment: every step may use up all that is left of its run's target, instead of leaving time for the later ones. @default false */
  readonly greedySteps?: boolean;
}

/** One function call of an execution. All times ms. */
export interface SimulatedStep {
  /** As the application names it, without the number of the copy. */
  readonly function: string;
  readonly invocation: Invocation;
  readonly nodeName: string;
}

/** One execution that ended. */
export interface SimulatedExecution {
  /** Place in `requests`, warm-up counted. */
  readonly request: number;
  readonly application: string;
  readonly copy: number;
  readonly startedAtMs: number;
  readonly latencyMs: number;
  readonly slaMs: number;
  /** Undefined: it completed. */
  readonly problem: string | undefined;
  readonly steps: readonly SimulatedStep[];
}

/** What came of it. */
export interface ApplicationsResult {
  /** In order of their ends, without warm-up. */
  readonly executions: readonly SimulatedExecution[];
  /** From the first measured request to the last end, ms. */
  readonly measuredMs: number;
  /** Share of the slots' time that was taken in it. */
  readonly slotUtilisation: number;
  readonly movedBytes: number;
  /** Of the trace: equal for equal runs. */
  readonly digest: string;
}

/** The longest that may pass until all have ended, ms. */
const MOST_MS = 30 * 86_400_000;
const PAYLOAD = new TextEncoder().encode('{}');
const JSON_TYPE = 'application/json';
/** Numbers of calls that one execution may have for its key. */
const CALLS_PER_STEP = 1_024;

/** Name of a function of a copy. */
const copyName = (name: string, copy: number): string => `${name}-${copy}`;

/** A number of the call that is the same under every policy. */
const keyOf = (request: number, step: number, index: number): number => Math.imul(request + 1, 0x9e3779b1) ^ (step * CALLS_PER_STEP + index);

/** Runs all requests to their ends. */
export function runApplications(options: ApplicationsOptions): ApplicationsResult {
  const { cluster, requests, concurrency, warmUp } = options;
  const requestMs = cluster.requestMs ?? 1;
  const sim = new Simulation({
    ...options.scheduler, seed: options.seed, policy: options.policy, bytesPerMs: cluster.bytesPerMs, nodes: Array.from({ length: cluster.nodes }, () => cluster.node),
    ...(cluster.host === undefined ? {} : { host: cluster.host }), ...(cluster.messageMs === undefined ? {} : { messageMs: cluster.messageMs }), ...(cluster.latencyMs === undefined ? {} : { latencyMs: cluster.latencyMs }),
    ...(options.predictor === undefined ? {} : { predictor: options.predictor }),
  });
  const models = new Map(options.applications.map((model) => [model.name, { model, places: placesOf(model.workflow.steps) }]));
  for (const { functions } of options.applications) {
    for (let copy = 0; copy < options.copies; copy++) {
      for (const { name, memoryMb, slaMs, timeoutMs, critical = false, packageSet, profile } of functions) sim.deploy({ name: copyName(name, copy), memoryMb, slaMs, timeoutMs, critical, packageSet: copyName(packageSet, copy) }, profile);
    }
  }
  if (cluster.installed === true) {
    const sets = options.applications.flatMap(({ functions }) => functions.flatMap(({ packageSet }) => Array.from({ length: options.copies }, (_, copy) => copyName(packageSet, copy))));
    for (const node of sim.nodes) for (const set of sets) node.install(set);
  }
  const objects = options.inputs.map(({ bytes, node }, i) => sim.upload(node, `input-${i}`, Math.max(1, Math.round(bytes))));
  const ended: SimulatedExecution[] = [];
  const targets = new Map<string, StepTargets>();
  let next = 0, living = 0, measuredFromMs = 0, measuredToMs = 0, busyMs = 0;

  /** What a call takes when more is known of its execution's input than the size. */
  const runOf = ({ copy, input }: SimulatedRequest, { function: name, inputs }: StepCall, key: number): { readonly runMs?: number } => {
    const factor = options.inputs[input]?.factors?.[name];
    const profile = factor === undefined ? undefined : sim.profileOf(copyName(name, copy));
    return factor === undefined || profile === undefined ? {} : { runMs: factor * drawCosts(profile, options.seed, key, 1, inputs.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0), true).runMs };
  };

  /** Every owner's copy is a workflow of its own. */
  const targetsOf = ({ workflow: { name, steps } }: ApplicationModel, copy: number): StepTargets => {
    const key = copyName(name, copy);
    let found = targets.get(key);
    if (found === undefined) targets.set(key, (found = createStepTargets(steps)));
    return found;
  };

  const start = (at: number): void => {
    const request = requests[at];
    if (request === undefined) return;
    const known = models.get(request.application);
    const object = objects[request.input];
    if (known === undefined || object === undefined) throw new RangeError(`Request ${at} is about application "${request.application}" and input ${request.input}; there is no such ${known === undefined ? 'application' : 'input'}.`);
    if (at === warmUp) measuredFromMs = sim.elapsedMs;
    living++;
    const startedAtMs = sim.elapsedMs;
    // On its way to the scheduler.
    sim.at(startedAtMs + requestMs / 2, () => execute({ ...known, at, request, object, startedAtMs }));
  };

  const execute = ({ model, places, at, request, object, startedAtMs }: { readonly model: ApplicationModel; readonly places: ReturnType<typeof placesOf>; readonly at: number; readonly request: SimulatedRequest; readonly object: InputObject; readonly startedAtMs: number }): void => {
    const { workflow } = model;
    const steps: SimulatedStep[] = [];
    const calls = new Map<number, string>();
    const arrivedAtMs = sim.clock.nowMs();
    const stepIndex = (name: string): number => workflow.steps.findIndex((step) => step.name === name);
    const submit = (call: StepCall): void => {
      const key = keyOf(at, stepIndex(call.step), call.index);
      const { id } = sim.submit(copyName(call.function, request.copy), {
        ...runOf(request, call, key),
        slaMs: call.slaMs, expiresAtMs: call.deadlineAtMs, inputs: call.inputs, payloadBytes: call.payload.length, place: { stage: 0, predecessors: 0, ...places.get(call.step), fanOut: call.count }, patient: true,
        key,
        onSettled(invocation) {
          calls.delete(call.call);
          steps.push({ function: call.function, invocation, nodeName: invocation.node < 0 ? '' : sim.scheduler.cluster.name(invocation.node) });
          if (at >= warmUp && invocation.result !== undefined) busyMs += invocation.result.releasedAtMs - invocation.result.acceptedAtMs;
          // Not now: the scheduler is in the middle of an event, and the run submits its next calls.
          sim.clock.setTimer(sim.clock.nowMs(), () => settled(run, call.call, invocation));
        },
      });
      if (sim.scheduler.live.has(id)) calls.set(call.call, id);
    };
    const run: WorkflowRun = createWorkflowRun({
      id: `run-${at}`, spec: workflow, payload: PAYLOAD, contentType: JSON_TYPE, inputs: [{ ...object, holders: [...object.holders] }], slaMs: 0, ...(options.greedySteps === true ? {} : { targets: targetsOf(model, request.copy) }), arrivedAtMs, deadlineAtMs: arrivedAtMs + workflow.timeoutMs, nowMs: () => sim.clock.nowMs(),
      submit,
      cancelCall(call) {
        const id = calls.get(call);
        if (id !== undefined) sim.scheduler.cancel(id, { code: 'CANCELLED', message: 'The run ended before this step did.' });
      },
      onEnd(outcome) {
        const now = sim.elapsedMs + requestMs / 2;
        if (at >= warmUp) {
          measuredToMs = Math.max(measuredToMs, now);
          ended.push({
            request: at, application: request.application, copy: request.copy, startedAtMs, latencyMs: now - startedAtMs, slaMs: workflow.slaMs, steps,
            problem: outcome.kind === 'completed' ? undefined : outcome.kind === 'failed' ? `${outcome.error.code}: ${outcome.error.message}` : 'cancelled',
          });
        }
        living--;
        if (concurrency > 0) sim.at(now, () => start(next++));
      },
    });
    run.start();
  };

  if (concurrency > 0) for (let client = 0; client < concurrency; client++) start(next++);
  else {
    requests.forEach(({ atMs }, at) => {
      if (atMs === undefined) throw new RangeError(`Request ${at} says not when it comes, and there are no clients.`);
      sim.at(atMs, () => start(at));
    });
    next = requests.length;
  }
  const lastAtMs = concurrency > 0 ? 0 : Math.max(0, ...requests.map(({ atMs = 0 }) => atMs));
  while ((living > 0 || sim.elapsedMs <= lastAtMs || next < requests.length) && sim.elapsedMs < MOST_MS) {
    const due = sim.clock.nextTimerMs();
    if (due === undefined) break;
    sim.clock.advanceTo(due);
  }
  sim.stop();
  const measuredMs = Math.max(0, measuredToMs - measuredFromMs);
  return { executions: ended, measuredMs, slotUtilisation: measuredMs === 0 ? 0 : busyMs / (measuredMs * cluster.nodes * cluster.node.slots), movedBytes: sim.network.movedBytes, digest: String(sim.digest) };
}

function settled(run: WorkflowRun, call: number, { state, result, error, delayedMs }: Invocation): void {
  if (state === COMPLETED && result !== undefined) run.stepCompleted(call, { payload: Buffer.from(result.payload), contentType: result.contentType, outputs: result.outputs.map((each) => ({ ...each, holders: [...each.holders] })) }, delayedMs);
  else run.stepFailed(call, error ?? { code: 'INTERNAL', message: 'It ended without a result.' });
}
