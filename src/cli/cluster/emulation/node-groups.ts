/**
 * A control group per node with a CPU quota, under one parent for the cluster. Two traps (measured in the design): the nodes together
 * weigh as one task beside everything else unless the parent's weight is raised, and long periods make nodes stand still for long.
 */
import { mkdirSync, readFileSync, readdirSync, rmdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { ownCgroups } from '../../../agent/own-cgroups.ts';

/** Where groups are made. */
export interface GroupPlan {
  readonly version: 1 | 2;
  /** Folders under which the cluster's group is made: one per hierarchy. */
  readonly bases: readonly string[];
  /** That one of them which has the CPU controller. */
  readonly cpuBase: string;
}

const PERIOD_US = 20_000;
/** For quotas that would be too small for a short period. */
const LONG_PERIOD_US = 100_000;
const LEAST_QUOTA_US = 1_000;
/** Weight of a group that nobody changed. */
const SHARES_V1 = 1_024, MOST_SHARES_V1 = 262_144;
const WEIGHT_V2 = 100, MOST_WEIGHT_V2 = 10_000;
/** Controllers that a node is measured by, or under which its agent makes groups for sandboxes: those are then inside the node's. */
const WANTED_V1 = ['cpu', 'cpuacct', 'memory', 'blkio', 'pids'];
const WANTED_V2 = ['cpu', 'memory', 'io', 'pids'];

/** How groups can be made here; undefined when no hierarchy has a CPU controller. */
export function groupPlan(): GroupPlan | undefined {
  const { v1, unified, roots } = ownCgroups();
  const cpu = v1.get('cpu');
  // Inside the own groups: limits and accounting of whoever started us go on.
  if (cpu !== undefined) return { version: 1, cpuBase: cpu, bases: [...new Set([...WANTED_V1.flatMap((name) => v1.get(name) ?? []), ...(unified === undefined ? [] : [unified])])] };
  // v2 allows no groups below one that has processes, except the root.
  return roots.unified === undefined || !readText(join(roots.unified, 'cgroup.controllers')).split(/\s+/).includes('cpu') ? undefined : { version: 2, cpuBase: roots.unified, bases: [roots.unified] };
}

/**
 * Makes one group in every hierarchy and gives it the weight of `weight` ordinary ones. Returns its folders. Throws when the CPU
 * controller cannot be used; nothing is left then.
 */
export function makeGroup(plan: GroupPlan, name: string, weight: number): string[] {
  const made: string[] = [];
  try {
    if (plan.version === 2) enableControllers(plan.cpuBase);
    for (const base of plan.bases) {
      const folder = join(base, name);
      mkdirSync(folder);
      made.push(folder);
    }
    const folder = join(plan.cpuBase, name);
    if (plan.version === 1) writeFileSync(join(folder, 'cpu.shares'), String(Math.min(MOST_SHARES_V1, SHARES_V1 * weight)));
    else writeFileSync(join(folder, 'cpu.weight'), String(Math.min(MOST_WEIGHT_V2, WEIGHT_V2 * weight)));
    return made;
  } catch (error) {
    for (const folder of made) removeGroup(folder);
    throw error;
  }
}

/** Makes a node's group below the cluster's in every hierarchy, with a quota. Returns its folders. */
export function makeNodeGroup(plan: GroupPlan, cluster: string, node: string, cpus: number): string[] {
  if (plan.version === 2) enableControllers(join(plan.cpuBase, cluster));
  const folders = plan.bases.map((base) => join(base, cluster, node));
  for (const folder of folders) mkdirSync(folder);
  const period = cpus * PERIOD_US >= LEAST_QUOTA_US ? PERIOD_US : LONG_PERIOD_US;
  const quota = Math.max(LEAST_QUOTA_US, Math.round(cpus * period));
  const folder = join(plan.cpuBase, cluster, node);
  if (plan.version === 1) {
    writeFileSync(join(folder, 'cpu.cfs_period_us'), String(period));
    writeFileSync(join(folder, 'cpu.cfs_quota_us'), String(quota));
  } else writeFileSync(join(folder, 'cpu.max'), `${quota} ${period}`);
  return folders;
}

/** All processes in a group and below it. */
export function membersOf(folder: string): number[] {
  const found = readText(join(folder, 'cgroup.procs')).split('\n').filter((line) => line !== '').map(Number);
  for (const child of childrenOf(folder)) found.push(...membersOf(child));
  return found;
}

/** Removes an empty group and all below it. False if something is still in it. */
export function removeGroup(folder: string): boolean {
  for (const child of childrenOf(folder)) removeGroup(child);
  try {
    rmdirSync(folder);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'ENOENT'; // somebody else was faster
  }
}

function enableControllers(folder: string): void {
  for (const name of WANTED_V2) {
    try {
      writeFileSync(join(folder, 'cgroup.subtree_control'), `+${name}`);
    } catch (error) {
      // The others are of use, but no node needs them.
      if (name === 'cpu') throw error;
    }
  }
}

function childrenOf(folder: string): string[] {
  try {
    return readdirSync(folder, { withFileTypes: true }).filter((entry) => entry.isDirectory()).map((entry) => join(folder, entry.name));
  } catch {
    return []; // it is gone
  }
}

function readText(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return ''; // gone, or not there on this kernel
  }
}
