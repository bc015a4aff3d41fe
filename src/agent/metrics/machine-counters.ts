/** What a source of node metrics counts, before it becomes shares and rates (node-metrics.ts). */

/** Counters since boot and values of now. */
export interface MachineCounters {
  /** CPU time used, µs. */
  cpuUsedUs: number;
  /** CPU time that there was, µs; undefined: `cores` for as long as time passed. */
  cpuThereUs: number | undefined;
  /** CPUs of the node; a quota makes fractions. */
  cores: number;
  /** Time in which some task waited, µs. */
  cpuStallUs: number;
  memoryStallUs: number;
  ioStallUs: number;
  /** Load average of one minute; undefined: the source has none. */
  load: number | undefined;
  /** Tasks that run or wait for a CPU; undefined: the source does not count them. */
  runnable: number | undefined;
  memoryTotalBytes: number;
  memoryFreeBytes: number;
  diskReadBytes: number;
  diskWriteBytes: number;
  /** Time in which the busiest disk had something to do, ms. */
  diskBusyMs: number;
  rxBytes: number;
  txBytes: number;
  packets: number;
}

/** Where the counters come from. */
export interface MachineSource {
  /** "host": the whole machine; "cgroup": this node's control group and network namespace. */
  readonly kind: 'host' | 'cgroup';
  read(): MachineCounters;
  close(): void;
}
