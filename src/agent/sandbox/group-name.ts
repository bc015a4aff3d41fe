/**
 * Names of agents' control groups: metronome-<digest of the folder>-<process>-<its start>. By the folder the next agent in it finds what is left, by the
 * process everybody sees what belongs to nobody any more.
 */
import { createHash } from 'node:crypto';
import { startTimeOf } from './proc.ts';

/** Whose group it is. */
export interface GroupOwner {
  /** Digest of the agent's folder. */
  readonly folder: string;
  readonly pid: number;
  /** Start of the process, in ticks since boot. */
  readonly startTime: string;
}

/** The name for this process. `dataDir`: the real path of the agent's folder. */
export function groupName(dataDir: string): string {
  return `metronome-${createHash('sha256').update(dataDir).digest('hex').slice(0, 16)}-${process.pid}-${startTimeOf(process.pid) ?? 0}`;
}

/** Who made a group of this name; undefined for other names. */
export function ownerOfGroup(name: string): GroupOwner | undefined {
  const [, folder, pid, startTime] = /^metronome-([0-9a-f]{16})-(\d+)-(\d+)$/.exec(name) ?? [];
  return folder === undefined || startTime === undefined ? undefined : { folder, pid: Number(pid), startTime };
}

/** True when its process has ended; another one may have its number since. */
export function isDead({ pid, startTime }: GroupOwner): boolean {
  return startTimeOf(pid) !== startTime;
}
