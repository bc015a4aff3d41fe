/**
 * An emulated cluster: what `metronome up --link … --cpus …` and benches put around their agents. The design is in
 * docs/decisions/010-emulated-cluster.md. Everything is gone after `close`, and after any death of this process.
 */
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import type { Socket } from 'node:net';
import { fileURLToPath } from 'node:url';
import { MetronomeError } from '../../../core/errors.ts';
import { IS_SOURCE } from '../../project.ts';
import { probeCapabilities } from './capabilities.ts';
import { allClaims, exclusively, self, take, type Claim } from './claims.ts';
import { MAX_NODES, allIds, bridgeAddress, groupName, nodeAddress } from './names.ts';
import { enter, isFree, makeNetwork, networksInUse } from './namespaces.ts';
import { groupPlan, makeGroup, makeNodeGroup, type GroupPlan } from './node-groups.ts';
import { openPackageDoor, type PackageDoor } from './package-door.ts';
import { planEmulation, type EmulationPlan, type EmulationRequest } from './plan.ts';
import { reap, reapAbandoned, type Reaped } from './reaper.ts';

/** An emulation that stands. */
export interface Emulation {
  readonly plan: EmulationPlan;
  /** Id of the cluster on this machine; undefined when nothing outside of the agents was made. */
  readonly id: string | undefined;
  /** Where the scheduler must listen so that nodes reach it; undefined: anywhere. */
  readonly schedulerHost: string | undefined;
  /** How a node is started, by its number from 0. */
  node(index: number): EmulatedNode;
  /** Takes everything away; the processes of the nodes should have ended. Says what could not be removed. */
  close(): readonly string[];
}

/** What is special about the process of one node. */
export interface EmulatedNode {
  /** Command that its own command follows. */
  readonly launcher: readonly string[];
  /** Further arguments of the agent. */
  readonly args: readonly string[];
  /** Further environment of the agent. */
  readonly env: Readonly<Record<string, string>>;
}

/** Weight of all nodes together, in ordinary groups: whoever works beside them shall not take what their quotas promise. */
const LEAST_WEIGHT = 20;
const REAP_FILE = fileURLToPath(new URL(`./reap-main${IS_SOURCE ? '.ts' : '.js'}`, import.meta.url));
/** Joins every group before the program begins: what it does is limited from its first instruction. */
const JOIN = 'while [ "$1" != -- ]; do echo $$ > "$1/cgroup.procs" || exit 97; shift; done; shift; exec "$@"';
/** Waits until the owner's end of the pipe closes, whatever closed it. */
const WATCH = 'while read -r _; do :; done; exec "$@"';

/** Options of {@link openEmulation}. */
export interface EmulationOptions extends EmulationRequest {
  readonly nodes: number;
  /** Data folder of the cluster. */
  readonly dataDir: string;
  /** Told what killed owners had left behind. */
  readonly onReaped?: (reaped: Reaped) => void;
}

/** Sets it up. CONFIG_INVALID when it is wanted in a way that is impossible here; nothing is left then. */
export async function openEmulation(options: EmulationOptions): Promise<Emulation> {
  const { nodes } = options;
  const plan = planEmulation(options, probeCapabilities(), nodes, availableParallelism());
  const described = (launcher: readonly string[], args: readonly string[], env: Readonly<Record<string, string>>): EmulatedNode => ({
    launcher, env,
    args: [...args, ...plan.agentArgs, '--labels', [...Object.entries(plan.labels)].map(([name, value]) => `${name}=${value}`).join(',')],
  });
  if (plan.network !== 'namespaces' && !plan.quota) return { plan, id: undefined, schedulerHost: undefined, node: () => described([], [], {}), close: () => [] };
  if (nodes > MAX_NODES) throw new MetronomeError('CONFIG_INVALID', `An emulated cluster has at most ${MAX_NODES} nodes, not ${nodes}.`);

  for (const reaped of reapAbandoned()) options.onReaped?.(reaped);
  const groups = plan.quota ? groupPlan() : undefined;
  // Before there is anything to be watched.
  const watcher = startWatcher();
  let claim: Claim;
  try {
    claim = claimId(plan, groups, options);
  } catch (error) {
    watcher.kill();
    throw error;
  }
  const { id } = claim;
  let door: PackageDoor | undefined;
  let left: readonly string[] | undefined;
  const close = (): readonly string[] => {
    // Once: afterwards the id may be another cluster's.
    if (left !== undefined) return left;
    door?.close();
    left = reap(claim, 0).left;
    // Last: should we be killed meanwhile, it goes on; and what is left it tries again when we have ended.
    if (left.length === 0) watcher.kill();
    return left;
  };
  try {
    const joins: string[][] = [];
    if (groups !== undefined) {
      makeGroup(groups, groupName(id), Math.max(LEAST_WEIGHT, 2 * nodes));
      for (let n = 1; n <= nodes; n++) joins.push(makeNodeGroup(groups, groupName(id), `node-${n}`, options.cpus));
    }
    const hasNetwork = plan.network === 'namespaces';
    if (hasNetwork) {
      await makeNetwork(id, nodes, { bitsPerS: options.linkBitsPerS, netemMs: plan.netemMs });
      door = await openPackageDoor(bridgeAddress(id));
    }
    return {
      plan, id, close,
      schedulerHost: hasNetwork ? bridgeAddress(id) : undefined,
      node(index) {
        const folders = joins[index] ?? [];
        return described(
          [...(folders.length === 0 ? [] : ['/bin/sh', '-c', JOIN, 'sh', ...folders, '--']), ...(hasNetwork ? enter(id, index + 1) : [])],
          hasNetwork ? ['--host', nodeAddress(id, index + 1)] : [],
          door?.env ?? {},
        );
      },
    };
  } catch (error) {
    close();
    throw error;
  }
}

/** Finds an id whose names and addresses are free, and claims it. */
function claimId(plan: EmulationPlan, groups: GroupPlan | undefined, options: EmulationOptions): Claim {
  return exclusively(() => {
    const taken = new Set(allClaims().map(({ id }) => id));
    const hasNetwork = plan.network === 'namespaces';
    const { routes, links } = hasNetwork ? networksInUse() : { routes: [], links: [] };
    for (const id of allIds()) {
      const folders = groups?.bases.map((base) => join(base, groupName(id))) ?? [];
      // What is there without a claim is not ours, and is not to become ours.
      if (taken.has(id) || folders.some((folder) => existsSync(folder)) || (hasNetwork && !isFree(id, routes, links))) continue;
      const claim: Claim = { id, owner: self(), nodes: options.nodes, hasNetwork, groups: folders, dataDir: options.dataDir };
      if (take(claim)) return claim;
    }
    throw new MetronomeError('UNAVAILABLE', 'There is no free private network for an emulated cluster: every one of them overlaps with a route of this machine or belongs to another cluster. Use --emulation data-plane, or remove what was left behind: metronome up --clean');
  });
}

/** A shell that outlives this process by as long as the clean-up takes: small, in a session of its own, and harmless while we live. */
function startWatcher(): { kill(): void } {
  const child = spawn('/bin/sh', ['-c', WATCH, 'sh', process.execPath, '--disable-warning=ExperimentalWarning', REAP_FILE, String(process.pid)], { cwd: '/', env: { PATH: process.env['PATH'] ?? '/usr/sbin:/usr/bin:/sbin:/bin' }, detached: true, stdio: ['pipe', 'ignore', 'ignore'] });
  child.on('error', () => {}); // without a shell there is no watcher; the next cluster cleans up
  child.unref();
  // A pipe to a child process is a socket.
  (child.stdin as Socket | null)?.unref();
  child.stdin?.on('error', () => {}); // it was killed; the next cluster cleans up
  return { kill: () => void child.kill('SIGKILL') };
}
