/**
 * One node among several on a machine: CPU, memory, disk traffic and pressure of its control group, measured against the
 * group's CPU quota, and the traffic of its network namespace. What a group does not count is derived, and said so below.
 */
import { availableParallelism } from 'node:os';
import { dirname, join } from 'node:path';
import { readFileSync } from 'node:fs';
import type { OwnCgroups } from '../own-cgroups.ts';
import { createDiskReader, createMemoryReader, createNetworkReader, createStallReader, type Reader } from './host-source.ts';
import type { MachineCounters, MachineSource } from './machine-counters.ts';
import { TextFile } from './text-file.ts';

/** The group of a node: the nearest one, from the own group upwards, that has a CPU quota. */
export interface NodeGroup {
  /** CPUs that the quota allows. */
  readonly cores: number;
  /** Folder for a v1 controller; undefined where the controller is not v1. */
  readonly v1: (controller: string) => string | undefined;
  readonly unified: string | undefined;
}

/** Finds it; undefined if there is no quota anywhere above. */
export function findNodeGroup(groups: OwnCgroups): NodeGroup | undefined {
  const cpu = groups.v1.get('cpu');
  const top = cpu === undefined ? groups.roots.unified : groups.roots.v1.get('cpu');
  const own = cpu ?? groups.unified;
  if (own === undefined || top === undefined) return undefined;
  let levels = 0;
  for (let folder = own; ; folder = dirname(folder), levels++) {
    const cores = cpu === undefined ? coresOfV2(folder) : coresOfV1(folder);
    if (cores !== undefined) {
      const up = levels;
      // As many levels up in every hierarchy: who makes a group for a node makes it in all of them.
      return { cores, v1: (controller) => climb(groups.v1.get(controller), up, groups.roots.v1.get(controller)), unified: climb(groups.unified, up, groups.roots.unified) };
    }
    if (folder === top || folder.length <= top.length) return undefined;
  }
}

/** Opens the files of a group. `root`: another place of /proc for tests. */
export function createCgroupSource(group: NodeGroup, root = '/proc'): MachineSource {
  const cpu = createCpuReader(group);
  const stall = (name: 'cpu' | 'memory' | 'io'): ReturnType<typeof createStallReader> => createStallReader(join(group.unified ?? '', `${name}.pressure`));
  const cpuPressure = stall('cpu');
  const memoryPressure = stall('memory');
  const ioPressure = stall('io');
  const throttled = cpuPressure.exists ? undefined : new TextFile(join(group.v1('cpu') ?? group.unified ?? '', 'cpu.stat'));
  const memory = createGroupMemoryReader(group, root);
  const traffic = createGroupDiskReader(group);
  const disks = createDiskReader(root);
  const network = createNetworkReader(root);
  return {
    kind: 'cgroup',
    read(): MachineCounters {
      return {
        cpuUsedUs: cpu.read(),
        cpuThereUs: undefined,
        cores: group.cores,
        // Groups have no run queue of their own to be read: node-metrics.ts derives both from use and pressure.
        load: undefined,
        runnable: undefined,
        cpuStallUs: throttled === undefined ? cpuPressure.read() : readThrottledUs(throttled),
        memoryStallUs: memoryPressure.read(),
        ioStallUs: ioPressure.read(),
        ...memory.read(),
        ...traffic.read(),
        // The disk is the machine's: how busy it is, it is for every node on it.
        diskBusyMs: disks.read().diskBusyMs,
        ...network.read(),
      };
    },
    close() {
      for (const part of [cpu, cpuPressure, memoryPressure, ioPressure, memory, traffic, disks, network]) part.close();
      throttled?.close();
    },
  };
}

const USAGE_US = Buffer.from('usage_usec ');
const THROTTLED_NS = Buffer.from('throttled_time ');
const THROTTLED_US = Buffer.from('throttled_usec ');

/** CPU time of the group and all below it, µs. */
function createCpuReader(group: NodeGroup): Reader<number> {
  const accounting = group.v1('cpuacct');
  const file = new TextFile(accounting === undefined ? join(group.unified ?? '', 'cpu.stat') : join(accounting, 'cpuacct.usage'));
  return {
    read() {
      file.read();
      return accounting === undefined ? file.numberAfter(USAGE_US) : file.numberAt(0) / 1_000;
    },
    close: () => file.close(),
  };
}

/** Without pressure files: the time in which the quota held the group back. */
function readThrottledUs(file: TextFile): number {
  file.read();
  return file.numberAfter(THROTTLED_US) || file.numberAfter(THROTTLED_NS) / 1_000;
}

const INACTIVE_FILE_V1 = Buffer.from('total_inactive_file ');
const INACTIVE_FILE = Buffer.from('inactive_file ');

/** Memory of the group; page cache that nobody uses is free. Without a limit the machine's memory is the limit. */
function createGroupMemoryReader(group: NodeGroup, root: string): Reader<Pick<MachineCounters, 'memoryTotalBytes' | 'memoryFreeBytes'>> {
  const v1 = group.v1('memory');
  const folder = v1 ?? group.unified ?? '';
  const usage = new TextFile(join(folder, v1 === undefined ? 'memory.current' : 'memory.usage_in_bytes'));
  const details = new TextFile(join(folder, 'memory.stat'));
  const limitBytes = numberIn(join(folder, v1 === undefined ? 'memory.max' : 'memory.limit_in_bytes')) ?? Infinity;
  const machine = createMemoryReader(root);
  return {
    read() {
      const { memoryTotalBytes: machineBytes, memoryFreeBytes: machineFree } = machine.read();
      if (!usage.exists) return { memoryTotalBytes: machineBytes, memoryFreeBytes: machineFree };
      const memoryTotalBytes = Math.min(limitBytes, machineBytes);
      usage.read();
      const used = usage.numberAt(0);
      details.read();
      const unused = details.numberAfter(v1 === undefined ? INACTIVE_FILE : INACTIVE_FILE_V1);
      return { memoryTotalBytes, memoryFreeBytes: Math.max(0, Math.min(machineFree, memoryTotalBytes - Math.max(0, used - unused))) };
    },
    close() {
      for (const part of [usage, details, machine]) part.close();
    },
  };
}

const READ_BYTES = Buffer.from('rbytes=');

/** Disk traffic of the group, all devices. */
function createGroupDiskReader(group: NodeGroup): Reader<Pick<MachineCounters, 'diskReadBytes' | 'diskWriteBytes'>> {
  const v1 = group.v1('blkio');
  const file = new TextFile(v1 === undefined ? join(group.unified ?? '', 'io.stat') : join(v1, 'blkio.throttle.io_service_bytes_recursive'));
  return {
    read() {
      let diskReadBytes = 0;
      let diskWriteBytes = 0;
      file.read();
      file.eachLine((line) => {
        if (v1 === undefined) {
          // "8:0 rbytes=180224 wbytes=0 rios=3 …"
          const at = file.field(line, 1);
          if (at < 0 || !file.startsWith(at, READ_BYTES)) return;
          diskReadBytes += file.numberAt(at);
          diskWriteBytes += file.numberAt(file.field(line, 2));
        } else {
          // "8:0 Read 180224"
          const wordAt = file.field(line, 1);
          const word = wordAt < 0 ? '' : file.wordAt(wordAt);
          if (word === 'Read') diskReadBytes += file.numberAt(wordAt);
          else if (word === 'Write') diskWriteBytes += file.numberAt(wordAt);
        }
      });
      return { diskReadBytes, diskWriteBytes };
    },
    close: () => file.close(),
  };
}

function coresOfV1(folder: string): number | undefined {
  const quota = numberIn(join(folder, 'cpu.cfs_quota_us'));
  const period = numberIn(join(folder, 'cpu.cfs_period_us'));
  return quota === undefined || period === undefined || quota <= 0 || period <= 0 ? undefined : atMostTheMachine(quota / period);
}

function coresOfV2(folder: string): number | undefined {
  // "50000 100000" or "max 100000".
  const [quota, period] = readText(join(folder, 'cpu.max')).split(' ').map(Number);
  return quota === undefined || period === undefined || !(quota > 0) || !(period > 0) ? undefined : atMostTheMachine(quota / period);
}

const atMostTheMachine = (cores: number): number => Math.min(cores, availableParallelism());

/** Some levels up, but not above the root of the hierarchy. */
function climb(path: string | undefined, levels: number, root = '/'): string | undefined {
  let folder = path;
  for (let i = 0; i < levels && folder !== undefined && folder !== root; i++) folder = dirname(folder);
  return folder;
}

function numberIn(path: string): number | undefined {
  const text = readText(path).trim();
  return /^-?\d+$/.test(text) ? Number(text) : undefined;
}

function readText(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return ''; // the controller is not here
  }
}
