/** One cell of the evaluation in simulation: an application under a variant on a preset cluster, as records of the same kind as those of real nodes. */
import { loadConfig } from '../config/load.ts';
import { schedulerParameters } from '../config/scheduler-parameters.ts';
import { exponential } from '../core/distributions.ts';
import { createRandom } from '../core/random.ts';
import type { OnlineModel } from '../predictor/model/online-model.ts';
import { createInlineForestPredictor } from '../predictor/inline-forest-predictor.ts';
import { runApplications, type ApplicationModel, type ApplicationsResult, type SimulatedCluster, type SimulatedExecution, type SimulatedInput } from '../sim/applications.ts';
import { createOraclePredictor } from '../sim/oracle.ts';
import type { SimulationOptions } from '../sim/simulation.ts';
import type { ApplicationName } from '../workload/applications.ts';
import { createInputSizes } from '../workload/input-sizes.ts';
import type { ClusterPreset } from './cluster-preset.ts';
import { START_STATE_NAMES, type ExecutionRecord } from './execution-record.ts';
import { planExecutions, type PlannedExecution } from './plan.ts';
import type { Variant } from './variant.ts';

/** One execution: which owner's functions are called, on which input. */
export interface SimulatedCall extends PlannedExecution {
  /** When it comes, ms since the begin; only without clients. @default independent of the others, at `ratePerS` */
  readonly atMs?: number;
}

/** What is simulated. Plain data, for threads. */
export interface SimulatedCell {
  readonly preset: ClusterPreset;
  readonly application: ApplicationModel;
  readonly variant: Pick<Variant, 'name' | 'policy' | 'overrides'>;
  readonly seed: number;
  /** Clients in closed loops; 0: arrivals at `ratePerS`. */
  readonly concurrency: number;
  /** Executions per second, independent of each other. Only without clients. */
  readonly ratePerS?: number;
  /** Executions that count, and those before them that do not. */
  readonly executions: number;
  readonly warmUp: number;
  /** Latency target of an execution, ms. @default the workflow's */
  readonly slaMs?: number;
  /** Sizes and first places of the inputs. @default 24 of the preset's sizes, on the nodes in turn */
  readonly inputs?: readonly SimulatedInput[];
  /** Warm-up first. @default owners by a power law with the exponent 1, inputs at random */
  readonly calls?: readonly SimulatedCall[];
  /** All applications on the cluster in the order of their deployment, this one among them: a model that goes on from one cell to the next knows functions by their places. @default this one alone */
  readonly deployed?: readonly ApplicationModel[];
  /** `oracle` knows what really comes, `oracle-of-means` what comes on the mean (src/sim/oracle.ts). @default forest, as in the daemon */
  readonly predictor?: 'forest' | 'moving-average' | 'oracle' | 'oracle-of-means';
  /** Experiment: steps leave no time for the later ones (src/sim/applications.ts). @default false */
  readonly greedySteps?: boolean;
  /** What was measured on the cluster that is to be simulated. */
  readonly cluster?: Partial<Pick<SimulatedCluster, 'messageMs' | 'latencyMs' | 'requestMs' | 'bytesPerMs' | 'installed'>> & { readonly contention?: number; readonly zygotes?: boolean };
}

/** What came of a cell. */
export interface SimulatedCellResult extends Omit<ApplicationsResult, 'executions'> {
  readonly records: readonly ExecutionRecord[];
}

const DEFAULT_INPUTS = 24;
const MIB = 1024 ** 2;
const OBJECT_QUOTA_BYTES = 10 * 1024 ** 3;
/** Share of a node's memory that zygotes may take, as agent.zygoteMemory. */
const ZYGOTE_SHARE = 0.25;

/** Runs a cell, with a model that has seen other cells or with a new one. CONFIG_INVALID for overrides that are none of the configuration. */
export function simulateApplications(cell: SimulatedCell, model?: OnlineModel): SimulatedCellResult {
  const { preset, application, variant, seed, concurrency, executions, warmUp } = cell;
  const { policy: _policy, ...scheduler } = schedulerParameters(loadConfig({ flags: variant.overrides, env: {}, cwd: '/' }).config);
  const inputs = cell.inputs ?? defaultInputs(preset, application.name as ApplicationName, seed);
  const calls: readonly SimulatedCall[] = cell.calls ?? planExecutions({ seed, application: application.name as ApplicationName, concurrency, warmUp, executions }, preset.copies, inputs.length);
  const memoryMb = Math.floor(preset.memoryBytes / MIB);
  const { contention, zygotes = true, ...measured } = cell.cluster ?? {};
  const gap = createRandom(seed, 8_100);
  let atMs = 0;
  const { executions: ended, ...rest } = runApplications({
    seed, policy: variant.policy, scheduler, concurrency, warmUp, copies: preset.copies, inputs, greedySteps: cell.greedySteps ?? false,
    predictor: predictorOf(cell, model),
    cluster: {
      nodes: preset.nodes, bytesPerMs: preset.linkBitsPerS / 8_000, ...measured,
      node: { slots: preset.slots, cores: preset.cpus, memoryMb, keepAliveMs: preset.keepAliveMs, zygoteMb: zygotes ? memoryMb * ZYGOTE_SHARE : 0, objectQuotaBytes: OBJECT_QUOTA_BYTES },
      ...(preset.hostCpus === undefined ? {} : { host: { cores: preset.hostCpus, ...(contention === undefined ? {} : { contention }) } }),
    },
    applications: (cell.deployed ?? [application]).map((each) => (each.name !== application.name || cell.slaMs === undefined ? each : { ...each, workflow: { ...each.workflow, slaMs: cell.slaMs } })),
    requests: calls.slice(0, warmUp + executions).map(({ copy, input, atMs: plannedAtMs }) => ({ application: application.name, copy, input, ...(concurrency > 0 ? {} : { atMs: plannedAtMs ?? (atMs += exponential(gap, 1_000 / (cell.ratePerS ?? 1))) }) })),
  });
  const firstAtMs = Math.min(...ended.map(({ startedAtMs }) => startedAtMs));
  return { ...rest, records: ended.map((execution) => toRecord(execution, cell, firstAtMs)) };
}

function predictorOf({ predictor, seed }: SimulatedCell, model: OnlineModel | undefined): SimulationOptions['predictor'] {
  if (predictor === 'moving-average') return undefined;
  if (predictor === 'oracle' || predictor === 'oracle-of-means') return ({ simulation }) => createOraclePredictor(simulation, predictor === 'oracle' ? 'everything' : 'means');
  return () => createInlineForestPredictor({ seed }, model);
}

/** Inputs of an application in the sizes of a preset, on the nodes in turn. */
export function defaultInputs(preset: ClusterPreset, application: ApplicationName, seed: number, count = DEFAULT_INPUTS): SimulatedInput[] {
  const sizes = createInputSizes({ application, seed, scale: preset.inputScale, factor: preset.inputFactor[application] });
  return Array.from({ length: count }, (_, i) => ({ bytes: sizes.next(i), node: i % preset.nodes }));
}

function toRecord({ application, request, startedAtMs, latencyMs, slaMs, problem, steps }: SimulatedExecution, { variant, concurrency, seed, warmUp }: SimulatedCell, firstAtMs: number): ExecutionRecord {
  return {
    application, variant: variant.name, concurrency, seed, index: request - warmUp, simulated: true, startedAtMs: startedAtMs - firstAtMs, latencyMs, slaMs, ok: problem === undefined, ...(problem === undefined ? {} : { problem }),
    steps: steps.map(({ function: name, nodeName, invocation }) => ({
      function: name, node: nodeName, startState: START_STATE_NAMES[invocation.startState - 1] ?? 'cold', queuedMs: invocation.queuedMs, delayedMs: invocation.delayedMs, fetchMs: invocation.result?.fetchedMs ?? 0, initMs: invocation.result?.initialisedMs ?? 0,
      runMs: invocation.result?.ranMs ?? 0, predictedMs: invocation.predictedRunMs, local: invocation.localClass === 1,
    })),
  };
}
