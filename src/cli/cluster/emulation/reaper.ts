/**
 * Takes an emulated cluster away, whoever made it: processes, cables, namespaces, bridge and control groups, then the claim. Used at
 * the orderly end, by the watcher when the owner was killed, and by the next one who comes.
 */
import { readdirSync, readlinkSync } from 'node:fs';
import { killNow, processesWithEnvironment } from '../../../agent/sandbox/proc.ts';
import { allClaims, exclusively, giveBack, isAlive, type Claim } from './claims.ts';
import { namespaceKey, removeNetwork } from './namespaces.ts';
import { membersOf, removeGroup } from './node-groups.ts';
import { HELPER_MARKER } from './programs.ts';

/** Agents whose parent is gone end by themselves within so long, with their sandboxes. */
const GRACE_MS = 4_000;
/** How long killed processes may take to be gone, and groups to be empty. */
const KILL_MS = 10_000;
const LOOK_EVERY_MS = 50;

/** What was removed, or could not be. */
export interface Reaped {
  readonly id: string;
  /** Process that had made it. */
  readonly pid: number;
  /** What is still there; empty: nothing. */
  readonly left: readonly string[];
}

/** Clusters whose owner is gone. */
export function abandoned(): Claim[] {
  return allClaims().filter(({ owner }) => !isAlive(owner));
}

/** Removes what killed owners left behind. Blocking, some seconds if processes still run. */
export function reapAbandoned(): Reaped[] {
  if (abandoned().length === 0) return [];
  return exclusively(() => abandoned().map((claim) => reap(claim)));
}

/** Removes a cluster whose processes should have ended: what still runs gets `graceMs`, then it is killed. Blocking. */
export function reap(claim: Claim, graceMs = GRACE_MS): Reaped {
  const { id, nodes, groups } = claim;
  until(() => membersOfCluster(claim).length === 0, graceMs);
  const isEmpty = until(() => {
    const members = membersOfCluster(claim);
    for (const pid of members) killNow(pid);
    return members.length === 0;
  }, KILL_MS);
  const left = claim.hasNetwork ? removeNetwork(id, nodes) : [];
  if (!isEmpty) left.push(`processes ${membersOfCluster(claim).join(', ')}`);
  for (const folder of groups) if (!until(() => removeGroup(folder), KILL_MS)) left.push(folder);
  // What is left is kept in mind for the next one.
  if (left.length === 0) giveBack(id);
  return { id, pid: claim.owner.pid, left };
}

/** Processes in its groups or namespaces, and sandboxes and helpers wherever they are. */
function membersOfCluster({ id, nodes, hasNetwork, groups, dataDir }: Claim): number[] {
  const found = new Set(groups.flatMap(membersOf));
  for (const marker of [`METRONOME_SANDBOX=${dataDir}/`, `${HELPER_MARKER}=${id}.`]) for (const pid of processesWithEnvironment(marker)) found.add(pid);
  if (hasNetwork) {
    const keys = new Set(Array.from({ length: nodes }, (_, i) => namespaceKey(id, i + 1)));
    keys.delete(undefined);
    if (keys.size > 0) for (const pid of processesIn(keys)) found.add(pid);
  }
  found.delete(process.pid);
  return [...found];
}

function processesIn(namespaces: ReadonlySet<string | undefined>): number[] {
  return readdirSync('/proc').filter((entry) => /^\d+$/.test(entry)).flatMap((entry) => {
    try {
      return namespaces.has(readlinkSync(`/proc/${entry}/ns/net`)) ? [Number(entry)] : [];
    } catch {
      return []; // gone, or a zombie
    }
  });
}

/** Looks again and again, blocking, until it is so; false when time is up. */
function until(isSo: () => boolean, ms: number): boolean {
  const endMs = performance.now() + ms;
  for (;;) {
    if (isSo()) return true;
    if (performance.now() >= endMs) return false;
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, LOOK_EVERY_MS);
  }
}
