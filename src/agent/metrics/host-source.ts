/** The machine as a whole, from /proc. Two agents on one machine report the same numbers. */
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import type { MachineCounters, MachineSource } from './machine-counters.ts';
import { TextFile } from './text-file.ts';

const SECTOR_BYTES = 512;
/** /proc/stat counts in ticks of 10 ms on every Linux that Node runs on. */
const TICK_US = 10_000;
/** Whole disks only: partitions and device-mapper volumes would be counted twice. */
const WHOLE_DISK = /^(?:[svh]d[a-z]+|xvd[a-z]+|nvme\d+n\d+|mmcblk\d+)$/;
/** Interfaces that carry no traffic of the node to other nodes. */
const NOT_THE_NETWORK = /^(?:lo|ifb\d+|docker\d+|br-.*|veth.*|mt[abc]\d+(?:br|v\d+))$/;
/** True for an interface whose traffic is that of the node to other nodes. */
export const isNetworkInterface = (name: string): boolean => !NOT_THE_NETWORK.test(name);
/** Interfaces come and go, with containers for example; names that are remembered at once. */
const MAX_NAMES = 1_000;

/** Opens the files. Tests give another `root`; `rootGroup`: folder of the machine's own control group, where there is one. */
export function createHostSource(root = '/proc', rootGroup?: string): MachineSource {
  const cpu = rootGroup === undefined ? createTickReader(root) : createUsageReader(rootGroup);
  const load = new TextFile(join(root, 'loadavg'));
  const memory = createMemoryReader(root);
  const cpuPressure = createStallReader(join(root, 'pressure/cpu'));
  const memoryPressure = createStallReader(join(root, 'pressure/memory'));
  const ioPressure = createStallReader(join(root, 'pressure/io'));
  const disks = createDiskReader(root);
  const network = createNetworkReader(root);
  const cores = availableParallelism();
  return {
    kind: 'host',
    read(): MachineCounters {
      const { average, runnable } = readLoad(load);
      return {
        ...cpu.read(), cores, load: average, runnable,
        cpuStallUs: cpuPressure.read(), memoryStallUs: memoryPressure.read(), ioStallUs: ioPressure.read(),
        ...memory.read(), ...disks.read(), ...network.read(),
      };
    },
    close() {
      for (const part of [cpu, load, memory, cpuPressure, memoryPressure, ioPressure, disks, network]) part.close();
    },
  };
}

/** A file, or several, that give a value. */
export interface Reader<T> {
  read(): T;
  close(): void;
}

const SOME_TOTAL = Buffer.from('total=');

/** The time in which some task waited, µs, from a pressure file. */
export function createStallReader(path: string): Reader<number> & { readonly exists: boolean } {
  const file = new TextFile(path);
  return {
    exists: file.exists,
    read() {
      file.read();
      return file.numberAfter(SOME_TOTAL); // the line "some" comes first
    },
    close: () => file.close(),
  };
}

const MEMORY_TOTAL = Buffer.from('MemTotal:');
const MEMORY_AVAILABLE = Buffer.from('MemAvailable:');

/** Memory of the machine. */
export function createMemoryReader(root: string): Reader<Pick<MachineCounters, 'memoryTotalBytes' | 'memoryFreeBytes'>> {
  const file = new TextFile(join(root, 'meminfo'));
  return {
    read() {
      file.read();
      return { memoryTotalBytes: file.numberAfter(MEMORY_TOTAL) * 1024, memoryFreeBytes: file.numberAfter(MEMORY_AVAILABLE) * 1024 };
    },
    close: () => file.close(),
  };
}

/** Traffic and busy time of the disks. */
export function createDiskReader(root: string): Reader<Pick<MachineCounters, 'diskReadBytes' | 'diskWriteBytes' | 'diskBusyMs'>> {
  const file = new TextFile(join(root, 'diskstats'));
  const isDisk = remembered((name) => WHOLE_DISK.test(name));
  return {
    read() {
      let readSectors = 0;
      let writtenSectors = 0;
      let diskBusyMs = 0;
      file.read();
      file.eachLine((line) => {
        const nameAt = file.field(line, 2);
        if (nameAt < 0 || !isDisk(file.wordAt(nameAt))) return;
        // After the name: reads, merged, sectors, ms, writes, merged, sectors, ms, in flight, ms busy.
        readSectors += file.numberAt(file.field(nameAt, 3));
        writtenSectors += file.numberAt(file.field(nameAt, 7));
        diskBusyMs = Math.max(diskBusyMs, file.numberAt(file.field(nameAt, 10)));
      });
      return { diskReadBytes: readSectors * SECTOR_BYTES, diskWriteBytes: writtenSectors * SECTOR_BYTES, diskBusyMs };
    },
    close: () => file.close(),
  };
}

/** Traffic to other nodes, in the network namespace that this process was in when the file was opened. */
export function createNetworkReader(root: string): Reader<Pick<MachineCounters, 'rxBytes' | 'txBytes' | 'packets'>> {
  const file = new TextFile(join(root, 'net/dev'));
  const isNetwork = remembered(isNetworkInterface);
  return {
    read() {
      let rxBytes = 0;
      let txBytes = 0;
      let packets = 0;
      file.read();
      file.eachLine((line) => {
        const nameAt = file.field(line, 0);
        const name = nameAt < 0 ? '' : file.wordAt(nameAt);
        // The two lines of the heading have no colon behind the first word.
        if (name === '' || !file.isColon(nameAt + name.length) || !isNetwork(name)) return;
        const numbers = nameAt + name.length + 1;
        rxBytes += file.numberAt(file.field(numbers, 0));
        txBytes += file.numberAt(file.field(numbers, 8));
        packets += file.numberAt(file.field(numbers, 1)) + file.numberAt(file.field(numbers, 9));
      });
      return { rxBytes, txBytes, packets };
    },
    close: () => file.close(),
  };
}

type CpuTimes = Pick<MachineCounters, 'cpuUsedUs' | 'cpuThereUs'>;

/** CPU time by /proc/stat: ticks of 10 ms, a tenth of what two cores have between samples. */
function createTickReader(root: string): Reader<CpuTimes> {
  const stat = new TextFile(join(root, 'stat'));
  return {
    read() {
      stat.read();
      let total = 0;
      let idle = 0;
      // user nice system idle iowait irq softirq steal; guest time is in user already.
      for (let n = 1; n <= 8; n++) {
        const at = stat.field(0, n);
        if (at < 0) break;
        const ticks = stat.numberAt(at);
        total += ticks;
        if (n === 4 || n === 5) idle += ticks;
      }
      return { cpuUsedUs: (total - idle) * TICK_US, cpuThereUs: total * TICK_US };
    },
    close: () => stat.close(),
  };
}

const USAGE_US = Buffer.from('usage_usec ');

/** CPU time by the root of the unified hierarchy: finer, and read in a third of the time, for it says nothing about interrupts. */
function createUsageReader(rootGroup: string): Reader<CpuTimes> {
  const file = new TextFile(join(rootGroup, 'cpu.stat'));
  return {
    read() {
      file.read();
      return { cpuUsedUs: file.numberAfter(USAGE_US), cpuThereUs: undefined };
    },
    close: () => file.close(),
  };
}

/** "1.15 1.19 0.67 2/107 28480": the last but one is tasks that run or wait for a CPU, this one among them. */
function readLoad(file: TextFile): { average: number; runnable: number } {
  file.read();
  const tasks = file.field(0, 3);
  return { average: file.numberAt(0), runnable: tasks < 0 ? 0 : Math.max(0, file.numberAt(tasks) - 1) };
}

/** Asks once for each name. */
function remembered(test: (name: string) => boolean): (name: string) => boolean {
  const known = new Map<string, boolean>();
  return (name) => {
    let answer = known.get(name);
    if (answer === undefined) {
      if (known.size >= MAX_NAMES) known.clear();
      known.set(name, (answer = test(name)));
    }
    return answer;
  };
}
