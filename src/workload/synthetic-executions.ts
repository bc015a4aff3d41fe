/**
 * Synthetic executions in the spirit of the paper's set-up: its ten functions of four applications (Table 1) on ten unlike nodes, with
 * loads that come and go, warm sandboxes, zygotes and package stores. What an execution takes follows from the situation by rules that the model does
 * not know (contention that grows faster than linearly, memory that runs out, links that are shared), times a run-to-run noise of
 * known size. So the best possible error is known, and what comes out of it is labelled synthetic everywhere.
 */
import { createRandom, type Random } from '../core/random.ts';
import { COLD, PACKAGES, WARM, ZYGOTE } from '../predictor/predictor.ts';
import type { Situation } from '../predictor/features.ts';
import type { Phases } from '../predictor/model/observation.ts';
import type { FunctionProfile } from '../predictor/model/online-model.ts';

const MB = 1e6;

/** The truth about one function. */
interface FunctionTruth extends FunctionProfile {
  /** Share of the executions. */
  readonly weight: number;
  readonly stage: number;
  readonly predecessors: number;
  readonly fanOut: number;
  /** Input size: median and deviation of the logarithm. */
  readonly inputBytes: number;
  readonly inputSpread: number;
  /** Run: fixed part, ms; per MB^exponent, ms. */
  readonly fixedMs: number;
  readonly perMb: number;
  readonly exponent: number;
  /** Loading its packages, ms. */
  readonly importMs: number;
  /** How much it suffers from a busy CPU, a busy disk, little memory; 0 to 1. */
  readonly cpu: number;
  readonly disk: number;
  readonly memory: number;
}

const PYTHON = 'python3', NODE = 'node';

/** The ten functions of Table 1; dependency counts are the paper's, sizes and times our choice. */
const FUNCTIONS: readonly Omit<FunctionTruth, 'index'>[] = [
  { name: 'video-split', application: 'video', runtime: NODE, dependencies: 5, packageBytes: 12.7 * MB, memoryMb: 512, weight: 2, stage: 0, predecessors: 0, fanOut: 1, inputBytes: 100 * MB, inputSpread: 1, fixedMs: 40, perMb: 2.2, exponent: 1, importMs: 45, cpu: 0.35, disk: 0.8, memory: 0.3 },
  { name: 'video-transcode', application: 'video', runtime: NODE, dependencies: 4, packageBytes: 12.6 * MB, memoryMb: 1024, weight: 5, stage: 1, predecessors: 1, fanOut: 5, inputBytes: 20 * MB, inputSpread: 1, fixedMs: 90, perMb: 85, exponent: 1.03, importMs: 42, cpu: 1, disk: 0.1, memory: 0.7 },
  { name: 'video-merge', application: 'video', runtime: NODE, dependencies: 4, packageBytes: 12.6 * MB, memoryMb: 512, weight: 2, stage: 2, predecessors: 1, fanOut: 1, inputBytes: 30 * MB, inputSpread: 1, fixedMs: 55, perMb: 3.1, exponent: 1, importMs: 42, cpu: 0.3, disk: 0.9, memory: 0.3 },
  { name: 'log-split', application: 'log', runtime: NODE, dependencies: 0, packageBytes: 0, memoryMb: 256, weight: 2, stage: 0, predecessors: 0, fanOut: 1, inputBytes: 200 * MB, inputSpread: 1.2, fixedMs: 12, perMb: 1.4, exponent: 1, importMs: 2, cpu: 0.3, disk: 1, memory: 0.2 },
  { name: 'log-analyze', application: 'log', runtime: NODE, dependencies: 3, packageBytes: 0.27 * MB, memoryMb: 512, weight: 5, stage: 1, predecessors: 1, fanOut: 5, inputBytes: 40 * MB, inputSpread: 1.2, fixedMs: 18, perMb: 9.5, exponent: 0.97, importMs: 14, cpu: 0.9, disk: 0.3, memory: 0.6 },
  { name: 'log-merge', application: 'log', runtime: NODE, dependencies: 2, packageBytes: 0.18 * MB, memoryMb: 512, weight: 2, stage: 2, predecessors: 1, fanOut: 1, inputBytes: 4 * MB, inputSpread: 0.9, fixedMs: 10, perMb: 11, exponent: 1.05, importMs: 12, cpu: 0.8, disk: 0.1, memory: 0.4 },
  { name: 'any2md-validate', application: 'document', runtime: NODE, dependencies: 2, packageBytes: 0.29 * MB, memoryMb: 256, weight: 3, stage: 0, predecessors: 0, fanOut: 1, inputBytes: 2 * MB, inputSpread: 0.8, fixedMs: 9, perMb: 3, exponent: 1, importMs: 12, cpu: 0.6, disk: 0.3, memory: 0.1 },
  { name: 'any2md-process', application: 'document', runtime: NODE, dependencies: 34, packageBytes: 22 * MB, memoryMb: 512, weight: 3, stage: 1, predecessors: 1, fanOut: 1, inputBytes: 2 * MB, inputSpread: 0.8, fixedMs: 60, perMb: 140, exponent: 1.1, importMs: 380, cpu: 0.95, disk: 0.05, memory: 0.5 },
  { name: 'ml-normalize', application: 'ml', runtime: PYTHON, dependencies: 4, packageBytes: 0.21 * MB, memoryMb: 256, weight: 3, stage: 0, predecessors: 0, fanOut: 1, inputBytes: 3 * MB, inputSpread: 0.7, fixedMs: 15, perMb: 22, exponent: 1, importMs: 30, cpu: 0.8, disk: 0.2, memory: 0.3 },
  { name: 'ml-process', application: 'ml', runtime: PYTHON, dependencies: 17, packageBytes: 85 * MB, memoryMb: 1024, weight: 3, stage: 1, predecessors: 1, fanOut: 1, inputBytes: 3 * MB, inputSpread: 0.7, fixedMs: 120, perMb: 35, exponent: 0.9, importMs: 1_900, cpu: 0.9, disk: 0.1, memory: 0.8 },
];

const NODES = 10;
const SLOTS = 8;
const CORES = 8;
const MEMORY_MB = 32_768;

/** What a run may be told to change, for the bench model-recovery. All in force from then on. */
export interface SyntheticChanges {
  /** Functions by name that are called now; absent: all. */
  readonly only?: readonly string[];
  /** Factor on the run of functions, by name. */
  readonly runFactor?: Readonly<Record<string, number>>;
  /** Factor on the median input size of functions, by name. */
  readonly sizeFactor?: Readonly<Record<string, number>>;
  /** Factor on everything that a node does, by index. */
  readonly nodeFactor?: Readonly<Record<number, number>>;
}

/** One synthetic execution. */
export interface SyntheticExecution {
  readonly situation: Situation;
  readonly phases: Phases;
  /** What it would have taken without noise, ms: the best possible prediction. */
  readonly truthMs: number;
}

interface Node {
  /** Above 1: slower. */
  readonly cpuFactor: number;
  readonly diskBytesPerMs: number;
  readonly linkBytesPerMs: number;
  readonly usualLoad: number;
  cpu: number;
  disk: number;
  memory: number;
  rx: number;
  tx: number;
  transfers: number;
  used: number;
  measuredBytesPerMs: number;
  loadPerCore: number;
  readonly idle: Float64Array;
  readonly busy: Float64Array;
  readonly hasPackages: Uint8Array;
  readonly zygoteDistance: Float64Array;
  cachedPackages: number;
  cachedBytes: number;
  zygotes: number;
}

/** A source of synthetic executions; the same seed gives the same executions. */
export interface SyntheticExecutions {
  readonly functions: readonly FunctionProfile[];
  readonly nodes: number;
  /** Deviation of the logarithm of the run-to-run noise. */
  readonly noise: number;
  /** The next execution. */
  next(): SyntheticExecution;
  /** Changes the world. */
  change(changes: SyntheticChanges): void;
}

const clamp = (value: number, low: number, high: number): number => Math.min(high, Math.max(low, value));

/** Normally distributed, from two uniform numbers. */
function normal(random: Random): number {
  return Math.sqrt(-2 * Math.log(1 - random.uniform())) * Math.cos(2 * Math.PI * random.uniform());
}

/** @param noise deviation of the logarithm of the noise; the paper's errors ask for 0.005. */
export function createSyntheticExecutions(seed: number, noise = 0.005): SyntheticExecutions {
  const functions: readonly FunctionTruth[] = FUNCTIONS.map((truth, index) => ({ ...truth, index }));
  const world = createRandom(seed, 1), noiseSource = createRandom(seed, 2), setUp = createRandom(seed, 3);
  let changes: SyntheticChanges = {};

  const nodes: Node[] = Array.from({ length: NODES }, () => ({
    cpuFactor: Math.exp(0.12 * normal(setUp)),
    diskBytesPerMs: 250_000 * Math.exp(0.3 * normal(setUp)),
    linkBytesPerMs: 110_000 * Math.exp(0.35 * normal(setUp)),
    usualLoad: 0.15 + 0.6 * setUp.uniform(),
    cpu: 0.3, disk: 0.2, memory: 0.5, rx: 0.1, tx: 0.1, transfers: 0, used: 0, measuredBytesPerMs: 0, loadPerCore: 0.5,
    idle: new Float64Array(functions.length), busy: new Float64Array(functions.length), hasPackages: new Uint8Array(functions.length), zygoteDistance: new Float64Array(functions.length).fill(-1),
    cachedPackages: 0, cachedBytes: 0, zygotes: 0,
  }));

  /** Some time passes on a node: its load moves around what is usual there, sandboxes come and go. */
  const age = (node: Node): void => {
    const drift = (value: number, usual: number, step: number): number => value + 0.25 * (usual - value) + step * normal(world);
    node.cpu = clamp(drift(node.cpu, node.usualLoad, 0.12), 0.02, 0.98);
    node.disk = clamp(drift(node.disk, 0.1 + 0.4 * node.usualLoad, 0.1), 0, 0.95);
    node.memory = clamp(drift(node.memory, 0.35 + 0.5 * node.usualLoad, 0.06), 0.1, 0.97);
    node.rx = clamp(drift(node.rx, 0.25, 0.12), 0, 0.9);
    node.tx = clamp(drift(node.tx, 0.2, 0.12), 0, 0.9);
    node.transfers = world.uniform() < 0.55 ? 0 : world.below(4);
    node.used = Math.min(SLOTS - 1, Math.round(node.cpu * SLOTS * (0.7 + 0.5 * world.uniform())));
    node.loadPerCore = 0.8 * node.loadPerCore + 0.2 * node.cpu * 1.4;
    for (const { index, dependencies, packageBytes } of functions) {
      const chance = world.uniform();
      if (chance < 0.25) node.idle[index] = world.below(4);
      else if (chance < 0.3) node.idle[index] = 0;
      node.busy[index] = world.uniform() < 0.3 ? 1 + world.below(2) : 0;
      if (world.uniform() < 0.04) node.hasPackages[index] = 1 - (node.hasPackages[index] as number);
      if (world.uniform() < 0.08) node.zygoteDistance[index] = world.uniform() < 0.5 || dependencies === 0 ? -1 : world.below(dependencies + 1);
      if (packageBytes === 0) node.hasPackages[index] = 1;
    }
    node.cachedPackages = functions.reduce((sum, { index, dependencies }) => sum + (node.hasPackages[index] as number) * dependencies, 0);
    node.cachedBytes = functions.reduce((sum, { index, packageBytes }) => sum + (node.hasPackages[index] as number) * packageBytes, 0);
    node.zygotes = functions.reduce((sum, { index }) => sum + ((node.zygoteDistance[index] as number) >= 0 ? 1 : 0), 0);
    const shared = node.linkBytesPerMs * (1 - 0.6 * node.rx) / (1 + 0.35 * node.transfers);
    const seen = shared * Math.exp(0.1 * normal(world));
    node.measuredBytesPerMs = node.measuredBytesPerMs === 0 ? seen : 0.6 * node.measuredBytesPerMs + 0.4 * seen;
  };
  for (let round = 0; round < 30; round++) for (const node of nodes) age(node);

  const pick = (): FunctionTruth => {
    const among = changes.only === undefined ? functions : functions.filter(({ name }) => changes.only?.includes(name));
    let left = world.uniform() * among.reduce((sum, { weight }) => sum + weight, 0);
    for (const candidate of among) {
      left -= candidate.weight;
      if (left < 0) return candidate;
    }
    return among.at(-1) ?? (functions[0] as FunctionTruth);
  };

  return {
    functions, nodes: NODES, noise,
    change: (next) => void (changes = { ...changes, ...next }),
    next() {
      const truth = pick();
      const nodeIndex = world.below(NODES);
      const node = nodes[nodeIndex] as Node;
      age(node);
      const { index, dependencies, packageBytes } = truth;
      const sizeFactor = changes.sizeFactor?.[truth.name] ?? 1;
      const inputBytes = Math.round(clamp(truth.inputBytes * sizeFactor * Math.exp(truth.inputSpread * normal(world)), truth.inputBytes * sizeFactor / 12, truth.inputBytes * sizeFactor * 12));
      const inputs = truth.predecessors === 0 ? 1 : truth.stage === 2 ? 5 : 1;
      const isLocal = world.uniform() < 0.45;
      const missingBytes = isLocal ? 0 : Math.round(inputBytes * (inputs === 1 ? 1 : (1 + world.below(inputs)) / inputs));
      const hasPackages = node.hasPackages[index] === 1;
      const distance = node.zygoteDistance[index] as number;
      const startState = (node.idle[index] as number) > 0 ? WARM : distance >= 0 && hasPackages ? ZYGOTE : hasPackages ? PACKAGES : COLD;
      const missingPackages = startState === COLD ? dependencies : 0;
      const missingPackageBytes = startState === COLD ? packageBytes : 0;

      // The rules.
      const slow = node.cpuFactor * (changes.nodeFactor?.[nodeIndex] ?? 1);
      const contention = 1 + truth.cpu * 0.5 * (node.cpu ** 2 / (1.25 - node.cpu));
      const starved = 1 + truth.memory * 1.2 * Math.max(0, node.memory - 0.82);
      const diskWait = 1 + truth.disk * 0.45 * node.disk ** 1.5;
      const bandwidth = node.linkBytesPerMs * (1 - 0.6 * node.rx) / (1 + 0.35 * node.transfers) / (changes.nodeFactor?.[nodeIndex] ?? 1);
      const fetch = missingBytes > 0 ? 1.2 * inputs + missingBytes / bandwidth : 0.15 * inputs;
      const boot = truth.runtime === PYTHON ? 160 : 65;
      const bootSlow = slow * (1 + 0.4 * node.cpu ** 2 / (1.25 - node.cpu));
      const importing = truth.importMs * (1 + 0.3 * node.disk);
      const initialise =
        startState === WARM ? 0.4 * slow
        : startState === ZYGOTE ? (7 + importing * (dependencies === 0 ? 0 : distance / dependencies)) * bootSlow
        : (boot + importing) * bootSlow + (startState === COLD ? 6 * dependencies * slow + packageBytes / (node.diskBytesPerMs * 0.2 * (1 - 0.6 * node.disk)) : 0);
      const run = (truth.fixedMs + truth.perMb * (inputBytes / MB) ** truth.exponent) * contention * starved * diskWait * slow * (changes.runFactor?.[truth.name] ?? 1);

      const jitter = Math.exp(noise * normal(noiseSource));
      const situation: Situation = {
        functionIndex: index, nodeIndex,
        cpuUtilisation: node.cpu, loadPerCore: node.loadPerCore, runnable: node.cpu * 1.2 + 0.02 * node.used, cpuPressure: clamp(node.cpu ** 3 * 0.6 + 0.01 * normal(world), 0, 1),
        ioPressure: clamp(node.disk ** 2 * 0.5 + 0.01 * normal(world), 0, 1), memoryPressure: clamp(Math.max(0, node.memory - 0.8) + 0.004 * normal(world), 0, 1),
        memoryUtilisation: node.memory, memoryFreeMb: (1 - node.memory) * MEMORY_MB, diskUtilisation: node.disk,
        diskReadBytesPerS: node.disk * node.diskBytesPerMs * 600, diskWriteBytesPerS: node.disk * node.diskBytesPerMs * 250,
        usedSlots: node.used, usedShare: node.used / SLOTS,
        startState, idleOfFunction: node.idle[index] as number, busyOfFunction: node.busy[index] as number, idleSandboxes: node.idle.reduce((a, b) => a + b, 0), sandboxMemoryMb: node.memory * MEMORY_MB * 0.7,
        zygotes: node.zygotes, zygoteDistance: distance, zygoteMemoryMb: 45 * node.zygotes, cachedPackages: node.cachedPackages, cachedPackageBytes: node.cachedBytes, missingPackages, missingPackageBytes,
        networkRxBytesPerS: node.rx * node.linkBytesPerMs * 1_000, networkTxBytesPerS: node.tx * node.linkBytesPerMs * 1_000, networkPacketsPerS: (node.rx + node.tx) * node.linkBytesPerMs / 1.2,
        linkUtilisation: Math.max(node.rx, node.tx), roundTripMs: 0.3 * (1 + node.cpu ** 3) / (1 - 0.8 * Math.max(node.rx, node.tx)),
        transfers: node.transfers, fetchBytesPerS: node.measuredBytesPerMs * 1_000, missingBytes,
        inputBytes, inputs, payloadBytes: 200, dependencies, packageBytes, memoryMb: truth.memoryMb, runtime: truth.runtime === PYTHON ? 1 : 0,
        stage: truth.stage, predecessors: truth.predecessors, fanOut: truth.fanOut, runningOfFunction: Math.round(node.cpu * CORES),
      };
      return { situation, phases: { fetchedMs: fetch * jitter, initialisedMs: initialise * jitter, ranMs: run * jitter }, truthMs: fetch + initialise + run };
    },
  };
}
