/**
 * The two clusters that the evaluation knows. `paper` is the paper's: ten nodes with 16 cores, 8 GB and 1 Gbit/s, full inputs; it exists in simulation only.
 * `emulated` is what one machine with two cores can be without being the bottleneck itself: nodes as processes with shaped links, inputs scaled down, so
 * that time goes where it goes in the large cluster (moving data, starting sandboxes, running) and not into waiting for the two cores.
 */
import type { ApplicationName } from '../workload/applications.ts';
import type { SizeScale } from '../workload/input-sizes.ts';

/** A cluster and how the applications are put on it. */
export interface ClusterPreset {
  readonly name: 'emulated' | 'paper';
  readonly nodes: number;
  /** Invocations at once, per node. */
  readonly slots: number;
  /** CPUs of a node. */
  readonly cpus: number;
  /** CPUs that all nodes share; undefined: every node has its own. */
  readonly hostCpus?: number;
  /** For the sandboxes of a node. */
  readonly memoryBytes: number;
  /** Rate of a node's link, each direction, bits per second. */
  readonly linkBitsPerS: number;
  /** How long idle sandboxes are kept, ms. */
  readonly keepAliveMs: number;
  /** Whether all packages are on all nodes from the beginning; else a node installs what it needs first. */
  readonly installed: boolean;
  /** Whether nodes keep zygotes (agent.zygotes). */
  readonly zygotes: 'auto' | 'off';
  /** Windows of the policies that forecast pools (policies.poolWindow), ms: their minute, for executions that follow each other so much faster. */
  readonly poolWindowMs: number;
  /** Input sizes (src/workload/input-sizes.ts): scale, and factor by application. */
  readonly inputScale: SizeScale;
  readonly inputFactor: Readonly<Record<ApplicationName, number>>;
  /** Further options of the makers of inputs (apps/<name>/make-input.mjs); real nodes only. */
  readonly inputMaker: Readonly<Partial<Record<ApplicationName, Readonly<Record<string, number | string>>>>>;
  /** Functions of different owners: each application is deployed so many times under names of its own, called by a power law of popularity. */
  readonly copies: number;
  /** Clients in closed loops that keep 60–80 % of the slots busy. */
  readonly concurrency: Readonly<Record<ApplicationName, number>>;
}

const MIB = 1024 ** 2;

/** One machine with two cores. */
export const EMULATED_CLUSTER: ClusterPreset = {
  name: 'emulated', nodes: 5, slots: 1, cpus: 0.32, hostCpus: 2, memoryBytes: 2_048 * MIB, linkBitsPerS: 30e6, keepAliveMs: 60_000, installed: true, zygotes: 'off', poolWindowMs: 5_000,
  inputScale: 'small', inputFactor: { video: 0.2, log: 0.1, document: 0.25, inference: 0.1 }, inputMaker: { video: { bitsPerPoint: 2 } }, copies: 6,
  // In RQ1 as it is kept (bench/results/paper-emulated) 60 to 82 % of the slots are busy so under policies that do not wait, and 55 to 78 % of the CPU time goes; a third client of video would make the machine the bottleneck.
  concurrency: { video: 2, log: 3, document: 4, inference: 4 },
};

/** The paper's cluster. It does not say how many slots a node has; 8 GB are 16 sandboxes of 512 MB, and four that run leave room for twelve that are kept warm. */
export const PAPER_CLUSTER: ClusterPreset = {
  name: 'paper', nodes: 10, slots: 4, cpus: 16, memoryBytes: 8_192 * MIB, linkBitsPerS: 1e9, keepAliveMs: 60_000, installed: false, zygotes: 'auto', poolWindowMs: 5_000,
  inputScale: 'paper', inputFactor: { video: 1, log: 1, document: 1, inference: 1 }, inputMaker: {}, copies: 20,
  concurrency: { video: 9, log: 9, document: 28, inference: 28 },
};

/** By name. */
export const CLUSTER_PRESETS: Readonly<Record<ClusterPreset['name'], ClusterPreset>> = { emulated: EMULATED_CLUSTER, paper: PAPER_CLUSTER };
