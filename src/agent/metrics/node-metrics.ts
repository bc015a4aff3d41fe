/**
 * What a node says about itself every 50 ms: counters of a source (the machine, or the node's control group) made into shares
 * and rates. It reports what it costs itself; `npm run -s bench -- agent-overhead` measures that from outside.
 */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { ownCgroups, type OwnCgroups } from '../own-cgroups.ts';
import { createCgroupSource, findNodeGroup } from './cgroup-source.ts';
import { createHostSource } from './host-source.ts';
import type { MachineCounters, MachineSource } from './machine-counters.ts';
import { MetronomeError } from '../../core/errors.ts';

/** Scalars of the machine, in the units of NodeMetrics. */
export interface MachineMetrics {
  cpuUtilisation: number;
  loadPerCore: number;
  cpuPressure: number;
  memoryUtilisation: number;
  memoryFreeMb: number;
  diskReadBytesPerS: number;
  diskWriteBytesPerS: number;
  networkRxBytesPerS: number;
  networkTxBytesPerS: number;
  ioPressure: number;
  memoryPressure: number;
  networkPacketsPerS: number;
  diskUtilisation: number;
  runnable: number;
  sampleUs: number;
  /** -1: the rate of the link is not known. */
  linkUtilisation: number;
}

/** Where the numbers come from: "auto" takes the control group if it has a CPU quota, otherwise the machine. */
export type MetricsSource = 'auto' | 'host' | 'cgroup';

/** Reads the node. */
export interface NodeMetricsReader {
  readonly source: 'host' | 'cgroup';
  /** The values since the last sample; rates are 0 in the first one. Within 5 ms the last sample is given again. */
  sample(): MachineMetrics;
  close(): void;
}

const LEAST_GAP_MS = 5;
const MIB = 1024 ** 2;
/** Weight of the newest sample in the cost per sample. */
const COST_WEIGHT = 1 / 16;
/** Time over which a group's load is averaged, like the kernel's first load average. */
const LOAD_WINDOW_MS = 60_000;

/** Opens the source. `linkBytesPerS`: rate of the node's link in each direction; 0: it is not known. CONFIG_INVALID when "cgroup" is wanted and no group with a CPU quota holds this process. */
export function openNodeMetrics(wanted: MetricsSource, linkBytesPerS = 0): NodeMetricsReader {
  const groups = ownCgroups();
  const group = wanted === 'host' ? undefined : findNodeGroup(groups);
  if (wanted === 'cgroup' && group === undefined) {
    throw new MetronomeError('CONFIG_INVALID', 'agent.metricsSource is "cgroup", but this process is in no control group with a CPU quota. Use "auto" or "host", or start the agent in such a group (metronome up --cpus does).');
  }
  return createNodeMetricsReader(group === undefined ? createHostSource('/proc', machineGroup(groups)) : createCgroupSource(group), undefined, linkBytesPerS);
}

/** The root of the unified hierarchy, if it is the machine's: that of a container has events, as all groups but the first. */
function machineGroup({ roots: { unified } }: OwnCgroups): string | undefined {
  return unified !== undefined && existsSync(join(unified, 'cpu.stat')) && !existsSync(join(unified, 'cgroup.events')) ? unified : undefined;
}

/** Makes rates of counters. Tests give another time. `linkBytesPerS` 0: the rate of the link is not known. */
export function createNodeMetricsReader(source: MachineSource, nowMs: () => number = () => performance.now(), linkBytesPerS = 0): NodeMetricsReader {
  let before: MachineCounters | undefined;
  let beforeMs = 0;
  let last: MachineMetrics | undefined;
  let costUs = 0;
  let load = 0;

  return {
    source: source.kind,
    sample() {
      const atMs = nowMs();
      if (last !== undefined && atMs - beforeMs < LEAST_GAP_MS) return last;
      const startMs = performance.now();
      const now = source.read();
      const then = before ?? now;
      const elapsedMs = before === undefined ? 0 : atMs - beforeMs;
      const rate = (newer: number, older: number): number => (elapsedMs > 0 ? (Math.max(0, newer - older) * 1_000) / elapsedMs : 0);
      const stall = (newer: number, older: number): number => Math.min(1, rate(newer, older) / 1e6);
      const cpuPressure = stall(now.cpuStallUs, then.cpuStallUs);
      const thereUs = now.cpuThereUs === undefined || then.cpuThereUs === undefined ? elapsedMs * 1_000 * now.cores : now.cpuThereUs - then.cpuThereUs;
      const cpuUtilisation = thereUs > 0 ? Math.min(1, Math.max(0, (now.cpuUsedUs - then.cpuUsedUs) / thereUs)) : (last?.cpuUtilisation ?? 0);
      // A group has no run queue to be read: so many ran on average, and one more waited for this share of the time, at least.
      const runnable = now.runnable ?? cpuUtilisation * now.cores + cpuPressure;
      const networkRxBytesPerS = rate(now.rxBytes, then.rxBytes), networkTxBytesPerS = rate(now.txBytes, then.txBytes);
      load = now.load ?? runnable + (load - runnable) * Math.exp(-elapsedMs / LOAD_WINDOW_MS);
      last = {
        cpuUtilisation,
        loadPerCore: load / now.cores,
        cpuPressure,
        memoryUtilisation: now.memoryTotalBytes > 0 ? 1 - now.memoryFreeBytes / now.memoryTotalBytes : 0,
        memoryFreeMb: now.memoryFreeBytes / MIB,
        diskReadBytesPerS: rate(now.diskReadBytes, then.diskReadBytes),
        diskWriteBytesPerS: rate(now.diskWriteBytes, then.diskWriteBytes),
        networkRxBytesPerS,
        networkTxBytesPerS,
        ioPressure: stall(now.ioStallUs, then.ioStallUs),
        memoryPressure: stall(now.memoryStallUs, then.memoryStallUs),
        networkPacketsPerS: rate(now.packets, then.packets),
        diskUtilisation: Math.min(1, rate(now.diskBusyMs, then.diskBusyMs) / 1_000),
        runnable,
        sampleUs: 0,
        linkUtilisation: linkBytesPerS > 0 ? Math.min(1, Math.max(networkRxBytesPerS, networkTxBytesPerS) / linkBytesPerS) : -1,
      };
      before = now;
      beforeMs = atMs;
      const tookUs = (performance.now() - startMs) * 1_000;
      costUs = costUs === 0 ? tookUs : costUs + (tookUs - costUs) * COST_WEIGHT;
      last.sampleUs = costUs;
      return last;
    },
    close: () => source.close(),
  };
}
