/**
 * When node metrics have changed enough to be sent: a scalar must have moved, against what the reader was told last, by more
 * than its step and by more than its share of the greater value. So what a reader knows is never wrong by more than that, and an
 * idle node sends only signs of life.
 */
import type { NodeMetrics } from '../../rpc/gen/metronome/v1/agent.ts';

/** How far a scalar may move unnoticed. */
interface Tolerance {
  /** In the unit of the scalar. */
  readonly step: number;
  /** Share of the greater of both values. */
  readonly share: number;
}

const KIB = 1024;
const MIB = 1024 ** 2;
/** Counts that are decided on, or that a person compares: every change is told. */
const EVERY: Tolerance = { step: 0, share: 0 };
/** A share of time or capacity. */
const SHARE: Tolerance = { step: 0.05, share: 0 };
/** Bytes per second: less than 64 KiB/s changes no decision about a transfer. */
const RATE: Tolerance = { step: 64 * KIB, share: 0.1 };

/** By scalar. A scalar that is new in the contract must be given one here, or it does not compile. */
export const TOLERANCES: Readonly<Record<keyof NodeMetrics, Tolerance>> = {
  cpuUtilisation: SHARE,
  loadPerCore: SHARE,
  cpuPressure: SHARE,
  memoryUtilisation: { step: 0.01, share: 0 },
  memoryFreeMb: { step: 16, share: 0.01 },
  diskReadBytesPerS: RATE,
  diskWriteBytesPerS: RATE,
  networkRxBytesPerS: RATE,
  networkTxBytesPerS: RATE,
  fetchBytesPerS: { step: 0, share: 0.05 },
  running: EVERY,
  idleSandboxes: EVERY,
  zygotes: EVERY,
  sandboxMemoryMb: { step: 4, share: 0.05 },
  objectBytes: { step: 0, share: 0.01 },
  ioPressure: SHARE,
  memoryPressure: SHARE,
  networkPacketsPerS: { step: 100, share: 0.1 },
  cachedPackages: EVERY,
  packageBytes: { step: MIB, share: 0 },
  zygoteMemoryMb: { step: 4, share: 0.05 },
  diskUtilisation: SHARE,
  transfers: EVERY,
  runnable: { step: 1, share: 0 },
  sampleUs: { step: 100, share: 0.5 },
  linkUtilisation: SHARE,
};

const NAMES = Object.keys(TOLERANCES) as (keyof NodeMetrics)[]; // keys of a const object

/** True when `now` should be sent to one who was told `told` last. */
export function isWorthTelling(told: NodeMetrics, now: NodeMetrics): boolean {
  for (let i = 0; i < NAMES.length; i++) {
    const name = NAMES[i] as keyof NodeMetrics;
    const { step, share } = TOLERANCES[name];
    const moved = Math.abs(now[name] - told[name]);
    if (moved > step && moved > share * Math.max(Math.abs(now[name]), Math.abs(told[name]))) return true;
  }
  return false;
}
